//! Firing alerts out of real files: labels with blanks, and changes that kills do not change.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::alerts::{ALERTS, changes, history};
use weir_tests::command::weir_with;
use weir_tests::process::Home;
use weir_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

fn watched(emit: &str, input: &str) -> Vec<Value> {
    let home = Home::new(&format!(
        "name: alerts\nsources: {{in: {{type: stdin, decoding: vector_text}}}}\n\
         transforms: {{firing: {{type: alert_firing, inputs: [in], emit: {emit}}}}}\n\
         sinks: {{out: {{type: console, inputs: [firing]}}}}\n"
    ));
    let out = weir_with(&home.path(""), &["run", "--once", "graph.yaml"], &[], input.as_bytes()).exits(0).out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line that was split at its blanks by others, and lines that hold the word without being an alert.
const LINES: &str = r#"2022-08-02T14:12:43Z ALERTS{alertname="DiskFull",alertstate="firing",summary="disk almost full",severity="critical"} = 1
2022-08-02T14:12:43Z ALERTS{alertname="Slow",alertstate="pending",cluster="local-cluster"} = 1
2022-08-02T14:12:43Z MY_ALERTS_TOTAL{alertstate="firing"} = 7
2022-08-02T14:12:43Z up{job="ALERTS",alertstate="firing"} = 1
2022-08-02T14:17:43Z ALERTS{alertname="DiskFull",alertstate="firing",severity="critical",summary="disk almost full"} = 1
2022-08-02T14:17:43Z ALERTS{alertname="Slow",alertstate="firing",cluster="local-cluster",clusterID="5882"} = 1
2022-08-02T14:17:44Z ALERTS{alertname="Slow",alertstate="firing",cluster="other",clusterID="7001"} = 1
2022-08-02T14:18:43Z ALERTS{alertname="DiskFull",alertstate="firing",severity="critical",summary="disk almost full"} = NaN
2022-08-02T14:22:43Z ALERTS{alertname="Slow",alertstate="firing",cluster="local-cluster",clusterID="5882"} = 1
2022-08-02T14:28:50Z ALERTS{alertname="Slow",alertstate="firing",cluster="local-cluster",clusterID="5882"} = 1
"#;

#[test]
fn what_fires_comes_out_once_per_change_and_a_label_with_blanks_is_one_label() {
    let disk = json!({"alertname": "DiskFull", "severity": "critical", "summary": "disk almost full"});
    let slow = |cluster: &str, id: &str| json!({"alertname": "Slow", "cluster": cluster, "clusterID": id});
    let told = |state: &str, labels: &Value, starts_at: &str, ends_at: Option<&str>| {
        json!({"state": state, "labels": labels, "value": 1.0, "starts_at": starts_at, "ends_at": ends_at,
            "cluster": labels.get("cluster")})
    };
    let (local, other) = (slow("local-cluster", "5882"), slow("other", "7001"));
    let changes = [
        told("firing", &disk, "2022-08-02T14:12:43Z", None),
        told("firing", &local, "2022-08-02T14:17:43Z", None),
        told("firing", &other, "2022-08-02T14:17:44Z", None),
        told("resolved", &disk, "2022-08-02T14:12:43Z", Some("2022-08-02T14:18:43Z")),
        // Of two clusters one goes on and one is silent.
        told("resolved", &other, "2022-08-02T14:17:44Z", Some("2022-08-02T14:28:44Z")),
    ];
    assert_eq!(watched("changes", LINES), changes);
    let active = watched("active", LINES);
    assert!(active.iter().all(|event| event["state"] == "firing"), "{active:?}");
    assert_eq!(active.len(), 6, "every sample of what fires: {active:?}");
    assert_eq!(watched("all", LINES).len(), 8);
}

const KILLS: u64 = 10;

/// The filter only makes it slow enough to be killed on its way.
const GRAPH: &str = r"name: watching
checkpoint_every: 20ms
sources:
  in: {type: file, paths: [in.txt], decoding: vector_text}
transforms:
  slow: {type: filter, inputs: [in], condition: 'exists(parse_json!(encode_json(.)).name)'}
  firing: {type: alert_firing, inputs: [slow], emit: changes, resolve_after: 11m}
sinks:
  out: {type: file, inputs: [firing], path: out.ndjson}
";

fn home() -> (Home, u64) {
    let home = Home::new(GRAPH);
    let lines = history();
    std::fs::write(home.path("in.txt"), &lines).unwrap();
    (home, lines.len() as u64)
}

fn undisturbed() -> Vec<String> {
    let (home, _) = home();
    let mut weir = home.start_with("weir", &[], &["--once"], Stdio::null());
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());
    let (all, repeats) = changes(&home.path("out.ndjson"));
    assert_eq!(repeats, 0, "no change is told twice");
    // Each alert begins to fire a hundred times or so, and all but the last of these end.
    assert!(all.len() > ALERTS * 150, "{}", all.len());
    all
}

#[test]
fn kills_at_any_moment_change_nothing_of_the_changes() {
    let expected = undisturbed();
    let (home, size) = home();
    let committed = || home.file_position("weir", "watching", "in", "in.txt");
    let start = || home.start_with("weir", &[], &["--once"], Stdio::null());
    let mut weir = start();
    let mut kills = 0;
    for number in 1..=KILLS {
        until("the commits to go on, or the end", LIMIT, || {
            weir.has_ended() || committed() >= size * number / (KILLS + 1)
        });
        if !weir.kill_unless_ended() {
            break;
        }
        kills += 1;
        weir = start();
    }
    assert!(kills > 0, "it was too quick to be killed: give it more to do");
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());
    let (all, repeats) = changes(&home.path("out.ndjson"));
    assert_eq!(all, expected);
    println!("alerts: {kills} kills, {} changes, {repeats} repeats", all.len());
}

#[test]
fn a_process_that_ends_inside_of_a_checkpoint_changes_nothing_of_the_changes() {
    let expected = undisturbed();
    let (home, _) = home();
    let mut ends = 0;
    for place in
        ["checkpoint:1", "checkpoint_written:1", "commit:1", "checkpoint:3", "checkpoint_written:4", "commit:5"]
    {
        let mut weir = home.start_with_env("weir", &[("WEIR_FAILPOINT", place.to_owned())]);
        ends += usize::from(!weir.wait(LIMIT).success());
    }
    let mut weir = home.start("weir", &[]);
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());
    let (all, repeats) = changes(&home.path("out.ndjson"));
    assert_eq!(all, expected);
    println!("alerts: ended inside of {ends} checkpoints, {repeats} repeats");
    assert!(ends >= 3, "it ends where the environment says");
}
