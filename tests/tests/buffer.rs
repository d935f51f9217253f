//! A buffer on disk before a sink: what is in it is delivered, whatever the sink and the process do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;
use weir_tests::command::weir as weir_says;
use weir_tests::output::without_repeats;
use weir_tests::process::{Home, Weir};
use weir_tests::wait::{PATIENCE, until};

const EVENTS: u64 = 40_000;

/// The pipe that the sink writes to is not read.
const GRAPH: &str = r#"name: buffered
sources:
  in: {type: file, paths: [in.ndjson]}
sinks:
  out: {type: console, inputs: [in], buffer: {type: disk, max_size: 64MiB}}
"#;

fn home() -> (Home, u64) {
    let home = Home::new(GRAPH);
    let mut lines = String::new();
    for seq in 0..EVENTS {
        writeln!(lines, r#"{{"seq":{seq}, "pad":"{:->200}"}}"#, "").unwrap();
    }
    std::fs::write(home.path("in.ndjson"), &lines).unwrap();
    (home, lines.len() as u64)
}

fn start(home: &Home, set: &[&str]) -> Weir {
    home.start_with("weir", set, &[], Stdio::piped())
}

/// Waits until the source has nothing left to give: all of it is in the buffer, or was dropped.
fn until_taken(home: &Home, size: u64) {
    until("all of it to be committed", PATIENCE, || {
        home.file_position("weir", "buffered", "in", "in.ndjson") > size - 300
    });
}

/// Everything that was written to the pipe of a process that is gone.
fn rest(weir: &mut Weir) -> Vec<u64> {
    let mut text = String::new();
    weir.stdout().read_to_string(&mut text).unwrap();
    let seq = |line: &str| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64();
    text.lines().filter_map(seq).collect()
}

fn says(home: &Home, verb: &[&str], code: i32) -> String {
    let args = [&["buffer"], verb, &["graph.yaml", "--set", "data_dir=weir"]].concat();
    let done = weir_says(&home.path(""), &args).exits(code);
    done.out + &done.err
}

#[test]
fn what_is_in_the_buffer_survives_a_kill_and_is_delivered_in_order() {
    let (home, size) = home();
    let mut weir = start(&home, &[]);
    until_taken(&home, size);
    assert!(weir.events("out", "passed") < EVENTS / 2, "nobody reads what the sink writes");
    assert!(weir.kill_unless_ended());
    let mut seqs = rest(&mut weir);
    assert!((seqs.len() as u64) < EVENTS);

    let inspected: Value = serde_json::from_str(&says(&home, &["inspect", "--format", "json"], 0)).unwrap();
    assert_eq!(
        (&inspected["node"], &inspected["log"], &inspected["records"]),
        (&"out".into(), &"buffer".into(), &EVENTS.into())
    );
    assert!(says(&home, &["inspect"], 0).contains("buffer"));
    assert!(says(&home, &["check"], 0).contains("all of them can be read"));
    let dumped: Value = serde_json::from_str(&says(&home, &["dump", "--node", "out", "--limit", "1"], 0)).unwrap();
    assert!(dumped["body"].as_str().unwrap().starts_with("{\"seq\":") && dumped["number"].is_u64(), "{dumped}");

    let mut weir = start(&home, &[]);
    seqs.extend(rest(&mut weir));
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    assert!(without_repeats(&seqs).into_iter().eq(0..EVENTS), "{} events in order", EVENTS);
    assert!(says(&home, &["inspect", "--format", "json"], 0).contains("\"waiting\":0"));
}

#[test]
fn damage_costs_its_own_records_and_is_counted() {
    let (home, size) = home();
    let mut weir = start(&home, &[]);
    until_taken(&home, size);
    assert!(weir.kill_unless_ended());
    let mut seqs = rest(&mut weir);
    let dir = home.data_dir("weir").join("buffered/out/buffer");
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let last = files.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(last, bytes).unwrap();
    assert!(says(&home, &["check"], 1).contains("1 records known to be lost"));

    let mut weir = start(&home, &[]);
    seqs.extend(rest(&mut weir));
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    let there: std::collections::BTreeSet<u64> = seqs.into_iter().collect();
    assert_eq!(there.len() as u64, EVENTS - 1);
    assert!(weir.log().contains("the log is damaged"), "{}", weir.log());
    assert!(
        std::fs::read_dir(&dir).unwrap().any(|file| file
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "quarantine"))
    );
}

#[test]
fn a_full_buffer_drops_new_events_where_the_graph_says_so_and_counts_them() {
    let (home, size) = home();
    let set = ["sinks.out.buffer.max_size=4MiB", "sinks.out.buffer.when_full=drop_newest"];
    let explained = weir_says(&home.path(""), &["explain", "graph.yaml", "--set", set[1]]).exits(0).out;
    assert!(explained.contains("NEW EVENTS ARE DROPPED"), "{explained}");
    let mut weir = start(&home, &set);
    until_taken(&home, size);
    let dropped = weir.events("out", "filtered");
    assert!(dropped > 0 && dropped < EVENTS);
    assert_eq!(weir.metric("weir_buffer_dropped_events_total{node=\"out\"}"), Some(dropped));
    let seqs = rest(&mut weir);
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    assert_eq!(seqs.len() as u64, EVENTS - dropped);
    assert!(seqs.is_sorted());
    assert!(weir.log().contains("new events are dropped"));
}
