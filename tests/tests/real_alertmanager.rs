//! From metrics as Vector writes them to a real Alertmanager, with kills around every change.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use weir_tests::alertmanager::OwnAlertmanager;
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{PATIENCE, moment, until};

fn home(address: SocketAddr, alertmanager: &OwnAlertmanager) -> Home {
    Home::new(&format!(
        r#"name: real-alerts
checkpoint_every: 20ms
sources:
  in: {{type: http, listen: "{address}", path: /events, decoding: vector_text}}
transforms:
  firing: {{type: alert_firing, inputs: [in], emit: changes}}
sinks:
  alertmanager:
    type: alertmanager
    inputs: [firing]
    endpoints: ["{}"]
    resend_delay: 1s
    resolve_timeout: 1m
    annotations: {{summary: '{{{{ .labels.why }}}}'}}
"#,
        alertmanager.url()
    ))
}

/// A line as Vector writes it, of now.
fn line(name: &str, state: &str, value: &str) -> String {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(
        "{now} ALERTS{{alertname=\"{name}\",alertstate=\"{state}\",cluster=\"a\",why=\"disk almost full\"}} = {value}\n"
    )
}

fn labels(name: &str) -> String {
    json!({"alertname": name, "cluster": "a", "why": "disk almost full"}).to_string()
}

/// Sends until it is taken: a sender keeps what was not answered for.
fn send(address: SocketAddr, weir: &mut Weir, lines: &str) {
    until("the lines to be taken", PATIENCE, || {
        weir.assert_running();
        let answer = Sender::connect(address).and_then(|mut sender| sender.post(&[], lines.as_bytes()));
        answer.is_ok_and(|answer| answer.status == 200)
    });
}

fn until_active(alertmanager: &OwnAlertmanager, names: &BTreeSet<String>) -> BTreeMap<String, Value> {
    let expected: BTreeSet<String> = names.iter().map(|name| labels(name)).collect();
    let mut active = BTreeMap::new();
    until(&format!("Alertmanager to have {names:?}"), PATIENCE, || {
        active = alertmanager.active();
        active.keys().eq(&expected)
    });
    active
}

#[test]
fn alertmanager_has_what_fires_and_hears_when_it_is_over() {
    let alertmanager = OwnAlertmanager::reserve();
    let address = free_address();
    let home = home(address, &alertmanager);
    // Weir is there first, and waits.
    let mut weir = home.start("weir", &[]);
    send(address, &mut weir, &(line("DiskFull", "firing", "1") + &line("Slow", "pending", "1")));
    until("weir to say that it waits", PATIENCE, || weir.get("/ready").1.contains(&alertmanager.url()));
    alertmanager.start();
    let names = BTreeSet::from(["DiskFull".to_owned()]);
    let active = until_active(&alertmanager, &names);
    let alert = &active[&labels("DiskFull")];
    assert_eq!(
        (&alert["annotations"]["summary"], &alert["status"]["state"]),
        (&json!("disk almost full"), &json!("active"))
    );
    let begin = alert["startsAt"].clone();

    // One that forgets everything is told again.
    alertmanager.kill();
    alertmanager.start();
    let active = until_active(&alertmanager, &names);
    assert_eq!(active[&labels("DiskFull")]["startsAt"], begin, "it is the same alert");

    send(address, &mut weir, &line("DiskFull", "firing", "NaN"));
    until_active(&alertmanager, &BTreeSet::new());
    weir.until_ready(PATIENCE);
    weir.stop(PATIENCE);
}

#[test]
fn kills_around_every_change_leave_alertmanager_in_the_right_state() {
    let campaign = Campaign::of("kills_around_every_change_leave_alertmanager_in_the_right_state");
    let kills = campaign.count(30).max(6);
    let alertmanager = OwnAlertmanager::reserve();
    alertmanager.start();
    let address = free_address();
    let home = home(address, &alertmanager);
    let mut weir = home.start("weir", &[]);
    let mut firing = BTreeSet::new();
    for kill in 0..kills {
        let name = format!("A{}", kill % 4);
        let lines = match firing.contains(&name) {
            false => [line(&name, "pending", "1"), line(&name, "firing", "1")],
            true => [line(&name, "firing", "1"), line(&name, "firing", "NaN")],
        };
        // Just taken, on its way, or told already.
        send(address, &mut weir, &lines.concat());
        for _ in 0..rand::rng().random_range(0..12) {
            moment();
        }
        weir.kill();
        weir = home.start("weir", &[]);
        if !firing.remove(&name) {
            firing.insert(name);
        }
        if kill % 3 == 2 {
            until_active(&alertmanager, &firing);
        }
    }
    until_active(&alertmanager, &firing);
    // It stays so: nothing that was over long ago comes up again.
    let several_times = std::time::Instant::now() + Duration::from_secs(4);
    until("some time to pass", PATIENCE, || {
        let active: BTreeSet<String> = alertmanager.active().into_keys().collect();
        assert_eq!(active, firing.iter().map(|name| labels(name)).collect());
        std::time::Instant::now() > several_times
    });
    weir.stop(PATIENCE);
    println!("alertmanager: {kills} kills, {} alerts fire at the end", firing.len());
}
