//! What a graph remembers over kills, in another place, and under other options.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use weir_tests::command::weir as weir_says;
use weir_tests::output::without_repeats;
use weir_tests::process::Home;
use weir_tests::wait::until;

/// Keys; each comes twice, far apart: the second of each is to be dropped.
const KEYS: u64 = 200_000;
const KILLS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(60);

/// The filter only makes it slow enough to be killed on its way.
const GRAPH: &str = r#"name: remembering
checkpoint_every: 20ms
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  slow: {type: filter, inputs: [in], condition: 'exists(parse_json!(encode_json(.)).seq)'}
  once: {type: dedupe, inputs: [slow], key: .key, within: 1d}
sinks:
  out: {type: file, inputs: [once], path: out.ndjson}
"#;

fn home() -> (Home, u64) {
    let home = Home::new(GRAPH);
    let mut lines = String::new();
    for seq in 0..2 * KEYS {
        writeln!(lines, r#"{{"seq":{seq},"key":"key-{}"}}"#, seq % KEYS).unwrap();
    }
    std::fs::write(home.path("in.ndjson"), &lines).unwrap();
    (home, lines.len() as u64)
}

/// Bytes of the input that are committed.
fn committed(home: &Home, instance: &str) -> u64 {
    home.file_position(instance, "remembering", "in", "in.ndjson")
}

fn output(home: &Home) -> Vec<u64> {
    let text = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_graph_that_is_killed_and_moved_remembers_what_it_has_seen() {
    let (home, size) = home();
    let start = |instance: &str| home.start_with(instance, &[], &["--once"], Stdio::null());
    let mut instance = "weir".to_owned();
    let mut weir = start(&instance);
    let mut kills = 0;
    for number in 1..=KILLS {
        until("the commits to go on, or the end", LIMIT, || {
            weir.has_ended() || committed(&home, &instance) >= size * number / (KILLS + 1)
        });
        if !weir.kill_unless_ended() {
            break;
        }
        kills += 1;
        // The data folder goes elsewhere each time.
        let next = format!("weir-{number}");
        std::fs::rename(home.data_dir(&instance), home.data_dir(&next)).unwrap();
        instance = next;
        weir = start(&instance);
    }
    assert!(kills > 0, "it was too quick to be killed: give it more to do");
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());

    let seqs = output(&home);
    assert!(
        without_repeats(&seqs).into_iter().eq(0..KEYS),
        "the first of each key comes out, in order, and no second one"
    );
    println!("state: {kills} kills and moves, {KEYS} keys, {} repeats", seqs.len() as u64 - KEYS);
    assert!(!home.data_dir(&instance).join("remembering/.state").exists(), "a run that came to its end begins anew");
}

#[test]
fn state_is_not_taken_up_under_another_meaning() {
    let (home, size) = home();
    let input = std::fs::read(home.path("in.ndjson")).unwrap();
    // As much as has every key; a run that is not for once remembers where it came to.
    std::fs::write(home.path("in.ndjson"), &input[..input.len() * 3 / 4]).unwrap();
    let start = |set: &[&str], args: &[&str]| home.start_with("weir", set, args, Stdio::null());
    let mut weir = start(&[], &[]);
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());
    std::fs::write(home.path("in.ndjson"), &input).unwrap();

    let data_dir = format!("data_dir={}", home.data_dir("weir").display());
    let ask = |args: &[&str]| {
        weir_says(&home.path(""), &[&["state"], args, &["graph.yaml", "--set", &data_dir]].concat()).exits(0).out
    };
    let lane: Value = serde_json::from_str(&ask(&["inspect", "--format", "json"])).unwrap();
    let states = lane["states"].as_array().unwrap();
    let once = states.iter().find(|state| state["node"] == "once").unwrap();
    assert_eq!((&lane["lane"], &once["keys"]), (&"in/in.ndjson/0".into(), &KEYS.into()), "{lane}");
    assert!(lane["position"].as_u64().unwrap() > size / 2, "{lane}");
    assert!(ask(&["inspect"]).contains("once.seen"));
    assert_eq!(ask(&["check"]), format!("lanes: 1, keys: {KEYS}; all of them can be read\n"));
    let exported = ask(&["export"]);
    assert_eq!(exported.lines().count() as u64, KEYS);
    assert!(
        exported
            .contains(r#""state":"seen","key":"\"key-7\"","version":2,"expires":86400000,"value":[86400000,null]}"#),
        "{}",
        &exported[..500]
    );

    let other = "transforms.once.key=.seq";
    let mut refused = start(&[other], &["--once"]);
    assert_eq!(refused.wait(LIMIT).code(), Some(78));
    let log = refused.log();
    assert!(log.contains("it was kept for dedupe with key .key, keep first, in the lanes it reads, and the graph now says dedupe with key .seq"), "{log}");
    assert!(log.contains("on_state_change: reset"), "{log}");

    let mut begun_anew = start(&[other, "on_state_change=reset"], &["--once"]);
    assert_eq!(begun_anew.wait(LIMIT).code(), Some(0), "{}", begun_anew.log());
    assert!(output(&home).last().is_some_and(|seq| *seq == 2 * KEYS - 1), "by the other key they are all new");
}
