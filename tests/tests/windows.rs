//! Windows as a user has them: from files, over kills, with late events, and what the check says of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use weir_tests::command::weir as weir_says;
use weir_tests::process::Home;
use weir_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

const GRAPH: &str = r#"name: windows
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  once: {type: dedupe, inputs: [in], key: .id, within: 10m}
  minute:
    type: aggregate
    inputs: [once]
    time: .ts
    lateness: 10s
    window: {tumbling: 1m}
    group_by: [.host]
    compute: {n: count, total: {sum: .bytes}, p99: {quantile: [.bytes, 0.99]}}
sinks:
  out: {type: file, inputs: [minute], path: out.ndjson}
  late: {type: file, inputs: [minute.late], path: late.ndjson}
"#;

#[test]
fn results_come_in_order_of_window_end_and_group() {
    let home = Home::new(GRAPH);
    let input = r#"{"id":1,"ts":"2026-03-01T10:00:05Z","host":"b","bytes":10}
{"id":2,"ts":"2026-03-01T10:00:06Z","host":"a","bytes":1}
{"id":1,"ts":"2026-03-01T10:00:05Z","host":"b","bytes":10}
{"id":3,"ts":"2026-03-01T10:01:05Z","host":"b","bytes":5}
{"id":4,"ts":"2026-03-01T10:00:59Z","host":"a","bytes":2}
{"id":5,"ts":"2026-03-01T10:01:10Z","host":"c","bytes":7}
{"id":6,"ts":"2026-03-01T10:00:59Z","host":"a","bytes":100}
{"id":7,"ts":1772359290,"host":"b","bytes":null}
"#;
    std::fs::write(home.path("in.ndjson"), input).unwrap();
    let _ = weir_says(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[0].starts_with(
            r#"{"window_start":"2026-03-01T10:00:00Z","window_end":"2026-03-01T10:01:00Z","host":"a","n":2,"total":3,"p99":"#
        ),
        "{out}"
    );
    assert!(lines[1].contains(r#""host":"b","n":1,"total":10,"#), "{out}");
    assert!(
        lines[2].contains(r#"10:02:00Z","host":"b","n":2,"total":5,"#),
        "null counts as an event, not as a number: {out}"
    );
    assert!(lines[3].contains(r#"10:02:00Z","host":"c","n":1,"total":7,"#), "{out}");
    let late = std::fs::read_to_string(home.path("late.ndjson")).unwrap();
    assert_eq!(late, "{\"id\":6,\"ts\":\"2026-03-01T10:00:59Z\",\"host\":\"a\",\"bytes\":100}\n");
}

/// Partitions are files: their events come together in state partitions.
const MANY: &str = r#"name: many
checkpoint_every: 20ms
sources:
  in: {type: file, paths: ["in-*.ndjson"]}
  more: {type: file, paths: ["more.ndjson"]}
transforms:
  slow: {type: filter, inputs: [in, more], condition: 'exists(parse_json!(encode_json(.)).seq)'}
  once: {type: dedupe, inputs: [slow], key: .seq, within: 1d}
  windows:
    type: aggregate
    inputs: [once]
    time: int!(.seq) * 100
    window: {sliding: 3m, every: 1m}
    group_by: {key: 'mod(int!(.seq), 10)'}
    compute: {n: count, total: {sum: .seq}}
sinks:
  out: {type: file, inputs: [windows], path: out.ndjson}
"#;
const FILES: u64 = 4;
const EVENTS: u64 = 40_000;

/// `.seq * 100` as Unix time in seconds.
fn computed() -> BTreeMap<(u64, u64), (u64, u64)> {
    let mut counts: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for seq in 0..EVENTS {
        let last = seq * 100 / 60 * 60;
        for start in (0..3)
            .filter_map(|back| (last as i64 - back * 60 + 180 > (seq * 100) as i64).then_some(last as i64 - back * 60))
        {
            let entry = counts.entry(((start + 180) as u64, seq % 10)).or_default();
            *entry = (entry.0 + 1, entry.1 + seq);
        }
    }
    counts
}

#[test]
fn windows_over_several_files_survive_kills() {
    let home = Home::new(MANY);
    for file in 0..FILES {
        let mut lines = String::new();
        // Every second event is in two files.
        for seq in (0..EVENTS).filter(|seq| seq % FILES == file || (seq % 2 == 0 && (seq + 1) % FILES == file)) {
            writeln!(lines, r#"{{"seq":{seq}}}"#).unwrap();
        }
        let name = if file == 0 { "more.ndjson".to_owned() } else { format!("in-{file}.ndjson") };
        std::fs::write(home.path(&name), lines).unwrap();
    }
    let start = || home.start_with("weir", &[], &["--once"], Stdio::null());
    let mut weir = start();
    let mut kills = 0;
    for number in 1..=5u64 {
        let size = std::fs::metadata(home.path("in-1.ndjson")).unwrap().len();
        until("the commits to go on, or the end", LIMIT, || {
            weir.has_ended() || home.file_position("weir", "many", "in", "in-1.ndjson") >= size * number / 6
        });
        if !weir.kill_unless_ended() {
            break;
        }
        kills += 1;
        weir = start();
    }
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    let mut found = BTreeMap::new();
    for line in out.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let end =
            chrono::DateTime::parse_from_rfc3339(value["window_end"].as_str().unwrap()).unwrap().timestamp() as u64;
        let number = |name: &str| value[name].as_u64().unwrap();
        let result = (number("n"), number("total"));
        let before = found.insert((end, number("key")), result);
        assert!(before.is_none_or(|before| before == result), "a repeat says the same: {line}");
    }
    let wrong = computed().into_iter().find(|(key, result)| found.get(key) != Some(result));
    assert_eq!(wrong.map(|(key, result)| (key, result, found.get(&key))), None, "after {kills} kills");
    assert_eq!(found.len(), computed().len());
    assert!(kills > 0, "it was too quick to be killed: give it more to do");
    println!("windows: {kills} kills, {} results as computed", found.len());
}

#[test]
fn the_check_says_where_time_is_not_known() {
    let graph =
        MANY.replace("  windows:\n", "  later: {type: remap, inputs: [once], source: '.seq = .seq * 2'}\n  windows:\n");
    let home = Home::new(&graph.replace("inputs: [once]\n    time", "inputs: [later]\n    time"));
    let said = weir_says(&home.path(""), &["validate", "graph.yaml"]).exits(78);
    let text = said.out + &said.err;
    assert!(text.contains("the `time` of `windows` is not known in front of `once`"), "{text}");
    assert!(text.contains("put what changes events in front of `once`"), "{text}");

    // With a promise that keys stay together there is no exchange, and time is known wherever it is asked for.
    let home = Home::new(&MANY.replace("more.ndjson\"]}", "more.ndjson\"], keyed_by: [.seq]}"));
    let explained = weir_says(&home.path(""), &["explain", "graph.yaml"]).exits(0).out;
    assert!(
        explained.contains("windows (aggregate, transform with state, behind an exchange to 8 state partitions)"),
        "{explained}"
    );
    let many = GRAPH.replace("[in.ndjson]}", "['*.ndjson'], keyed_by: [.host]}");
    let home = Home::new(&many);
    let explained = weir_says(&home.path(""), &["explain", "graph.yaml"]).exits(0).out;
    assert!(explained.contains("once (dedupe, transform with state, behind an exchange"), "{explained}");
    assert!(explained.contains("minute (aggregate, transform with state, behind an exchange"), "{explained}");
    let home = Home::new(&many.replace("inputs: [once]", "inputs: [in]"));
    let explained = weir_says(&home.path(""), &["explain", "graph.yaml"]).exits(0).out;
    assert!(explained.contains("minute (aggregate, transform with state, one a lane"), "{explained}");
}

#[test]
fn what_is_computed_may_be_a_program_of_its_own() {
    let graph = r#"name: programs
sources:
  in: {type: stdin}
transforms:
  minute:
    type: aggregate
    inputs: [in]
    time: .ts
    window: {tumbling: 1m}
    group_by: {where: 'host = .host; if host == null { "nowhere" } else { host } # as it is called'}
    compute: {cpu: {mean: 'if .name == "cpu" { .value }'}, most: {max: .value}}
tests:
  - name: of two metrics one is meant
    feed:
      in:
        - {ts: "2026-03-01T10:00:05Z", name: cpu, value: 10}
        - {ts: "2026-03-01T10:00:06Z", name: memory, value: 90}
    expect:
      out:
        - {window_start: "2026-03-01T10:00:00Z", window_end: "2026-03-01T10:01:00Z", where: nowhere, cpu: 10.0, most: 90}
sinks:
  out: {type: console, inputs: [minute]}
"#;
    let home = Home::new(graph);
    let done = weir_says(&home.path(""), &["test", "graph.yaml"]).exits(0);
    assert!(done.out.contains("1 passed, 0 failed"), "{}", done.out);
}

#[test]
fn a_run_that_ends_leaves_no_window_behind_and_the_next_puts_none_out_again() {
    // Lanes open and end while checkpoints are under way; one source has nothing to open.
    let graph = r#"name: ends
checkpoint_every: 1ms
sources:
  in: {type: file, paths: ['in-*.ndjson']}
  none: {type: file, paths: ['nothing-*.ndjson']}
transforms:
  windows: {type: aggregate, inputs: [in, none], time: .t, window: {tumbling: 10s}, group_by: [.k], compute: {n: count}}
sinks:
  out: {type: file, inputs: [windows], path: out.ndjson}
"#;
    for round in 0..12 {
        let home = Home::new(graph);
        let lines: String = (0..200)
            .fold(String::new(), |lines, at| lines + &format!("{{\"t\":{},\"k\":{}}}\n", 1_700_000_000 + at, at % 3));
        (0..12).for_each(|file| std::fs::write(home.path(&format!("in-{file}.ndjson")), &lines).unwrap());
        let run = || {
            let _ = weir_says(&home.path(""), &["run", "graph.yaml"]).exits(0);
            std::fs::read_to_string(home.path("out.ndjson")).unwrap()
        };
        let first = run();
        assert_eq!(first.lines().count(), 60, "round {round}: 20 windows of 3 groups");
        assert_eq!(run(), first, "round {round}: what was put out is over");
    }
}
