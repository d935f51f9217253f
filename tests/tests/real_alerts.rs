//! Firing alerts out of a real Kafka whose writer knows no keys: the samples of an alert come by every partition, and kills
//! change nothing of its changes.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use weir_tests::alerts::{changes, history};
use weir_tests::campaign::Campaign;
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;

const PARTITIONS: i32 = 4;
const LIMIT: Duration = Duration::from_secs(120);

/// The filter only makes it slow enough to be killed on its way.
const TRANSFORMS: &str = r"transforms:
  slow: {type: filter, inputs: [in], condition: 'exists(parse_json!(encode_json(.)).name)'}
  firing: {type: alert_firing, inputs: [slow], emit: changes, resolve_after: 11m, lateness: 0s}
sinks:
  out: {type: file, inputs: [firing], path: out.ndjson}
";

fn over_kafka(topic: &Topic) -> Home {
    Home::new(&format!(
        "name: real-alerts\ncheckpoint_every: 20ms\nsources:\n  in:\n    type: kafka\n    \
         bootstrap_servers: \"{}\"\n    topics: [\"{name}\"]\n    group_id: {name}\n    group_instance_id: one\n    \
         session_timeout: 6s\n    start: earliest\n    stop: at_end\n    commit_interval: 100ms\n    \
         decoding: vector_text\n{TRANSFORMS}",
        topic.servers,
        name = topic.name
    ))
}

/// Told changes in order, by alert.
fn by_alert(changes: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in changes {
        let change: serde_json::Value = serde_json::from_str(&line).unwrap();
        all.entry(change["labels"].to_string()).or_default().push(line);
    }
    all
}

fn undisturbed(lines: &str) -> Vec<String> {
    let home = Home::new(&format!(
        "name: real-alerts\nsources:\n  in: {{type: file, paths: [in.txt], decoding: vector_text}}\n{TRANSFORMS}"
    ));
    std::fs::write(home.path("in.txt"), lines).unwrap();
    let mut weir = home.start_with("weir", &[], &["--once"], Stdio::null());
    assert!(weir.wait(LIMIT).success(), "{}", weir.log());
    changes(&home.path("out.ndjson")).0
}

#[test]
fn kills_change_nothing_of_the_changes_of_alerts_that_come_by_every_partition() {
    let mut campaign = Campaign::of("kills_change_nothing_of_the_changes_of_alerts_that_come_by_every_partition");
    let kills = campaign.count(30).max(5);
    let lines = history();
    let expected = by_alert(undisturbed(&lines));
    let topic = Topic::create("alerts", PARTITIONS, &[]);
    topic.write(lines.lines());
    let group = Group::of(&topic);
    let home = over_kafka(&topic);
    let start = || home.start_with("weir", &[], &["--once"], Stdio::null());
    let (count, mut done, mut weir) = (topic.len(), 0, start());
    for number in 1..=kills {
        let next = count * number / (kills + 1) + campaign.random.random_range(0..count / (2 * kills));
        until("the commits to go on, or the end", LIMIT, || {
            weir.has_ended() || topic.committed(&group).iter().sum::<u64>() >= next
        });
        if !weir.kill_unless_ended() {
            break;
        }
        done += 1;
        weir = start();
    }
    assert!(done > 0, "it was too quick to be killed: give it more to do");
    assert!(weir.wait(LIMIT).success(), "{}", weir.log());
    let (told, repeats) = changes(&home.path("out.ndjson"));
    let all = told.len();
    assert!(by_alert(told) == expected, "each alert's changes are those of an unbroken run in order of time");
    println!("alerts: {done} kills, {count} samples over {PARTITIONS} partitions, {all} changes, {repeats} repeats");
}
