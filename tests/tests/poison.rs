//! Events nobody can read, between good ones: they end at the `errors` port or among the dead letters, as they came,
//! and their neighbours pass in order.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Stdio;

use weir::graph::DeadLetter;
use weir_tests::command::{log_lines, weir};
use weir_tests::process::{Home, Weir};
use weir_tests::wait::{PATIENCE, moment, until};

/// So many good ones and as many bad ones: enough for several batches.
const ROUNDS: usize = 1500;

fn good(n: usize) -> Vec<u8> {
    format!(r#"{{"reason":"BackOff","n":{n},"text":"a neighbour"}}"#).into_bytes()
}

/// Every kind in turn; each starts like an event that would pass.
fn bad(n: usize) -> Vec<u8> {
    let start = format!(r#"{{"n":{n},"reason":"BackOff""#);
    match n % 7 {
        0 if n < 70 => format!(r#"{start},"deep":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000)).into_bytes(),
        1 => [start.as_bytes(), b",\"text\":\"\xff\xfe\"}"].concat(),
        2 => format!("{start}}} trailing").into_bytes(),
        3 => format!("{start},").into_bytes(),
        4 => format!("{start}}}{{}}").into_bytes(),
        5 => [start.as_bytes(), b",\"text\":\"a\tb\"}"].concat(),
        _ => format!("{start},\"number\":01}}").into_bytes(),
    }
}

fn lines<'a>(events: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    events.into_iter().flat_map(|event| [event, &b"\n"[..]].concat()).collect()
}

/// Good and bad ones, each in their order.
struct Events {
    good: Vec<Vec<u8>>,
    bad: Vec<Vec<u8>>,
}

impl Events {
    fn new() -> Events {
        Events { good: (0..ROUNDS).map(good).collect(), bad: (0..ROUNDS).map(bad).collect() }
    }

    /// Good and bad in turn, as a file.
    fn write(&self, home: &Home) {
        let all = self.good.iter().zip(&self.bad).flat_map(|(good, bad)| [good, bad]);
        std::fs::write(home.path("in.ndjson"), lines(all)).unwrap();
    }
}

fn dead_letters(home: &Home, graph: &str) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let dir = home.path(".weir").join(graph).join("dead-letters");
    weir::graph::read_dead_letters(&dir, |letter| letters.push(letter), |damage| panic!("{damage}")).unwrap();
    letters
}

fn run(home: &Home) -> Vec<serde_json::Value> {
    let done = weir(&home.path(""), &["run", "--once", "graph.yaml", "--log-format", "json"]).exits(0);
    log_lines(&done.err)
}

fn assert_books(logs: &[serde_json::Value], node: &str, expected: &[(&str, usize)]) {
    let books = logs.iter().find(|line| line["message"] == "event counts" && line["node"] == node).unwrap();
    for (outcome, count) in expected {
        assert_eq!(books[outcome], *count, "{node}: {outcome}: {books}");
    }
}

#[test]
fn a_wired_errors_port_gets_them_as_they_came_and_the_others_pass() {
    let home = Home::new(
        r#"name: wired
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason == "BackOff"'}
sinks:
  out: {type: file, inputs: [keep], path: out.ndjson}
  odd: {type: file, inputs: [keep.errors], path: odd.txt, encoding: raw}
"#,
    );
    let events = Events::new();
    events.write(&home);
    let logs = run(&home);
    assert!(std::fs::read(home.path("out.ndjson")).unwrap() == lines(&events.good), "the neighbours, in order");
    assert!(std::fs::read(home.path("odd.txt")).unwrap() == lines(&events.bad), "the others, in order");
    assert_eq!(dead_letters(&home, "wired"), []);
    let all = 2 * ROUNDS;
    assert_books(&logs, "keep", &[("received", all), ("passed", all), ("dead_lettered", 0), ("in_flight", 0)]);
    assert_books(&logs, "odd", &[("received", ROUNDS), ("passed", ROUNDS)]);
}

#[test]
fn what_nobody_listens_to_is_a_dead_letter_of_every_node_that_refused_it() {
    let home = Home::new(
        r#"name: unwired
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason == "BackOff"'}
  mark: {type: remap, inputs: [in], source: '.mark = upcase!(.reason)'}
sinks:
  kept: {type: file, inputs: [keep], path: kept.ndjson}
  marked: {type: file, inputs: [mark], path: marked.ndjson}
"#,
    );
    let events = Events::new();
    events.write(&home);
    let logs = run(&home);
    assert!(std::fs::read(home.path("kept.ndjson")).unwrap() == lines(&events.good), "the neighbours of the filter");
    let marked = |event: &Vec<u8>| [&event[..event.len() - 1], br#","mark":"BACKOFF"}"#].concat();
    let marked: Vec<Vec<u8>> = events.good.iter().map(marked).collect();
    assert!(std::fs::read(home.path("marked.ndjson")).unwrap() == lines(&marked), "the neighbours of the program");

    let letters = dead_letters(&home, "unwired");
    for node in ["keep", "mark"] {
        let of_node: Vec<&DeadLetter> = letters.iter().filter(|letter| letter.node == node).collect();
        let bodies: Vec<Vec<u8>> = of_node.iter().map(|letter| letter.bytes().unwrap()).collect();
        assert!(bodies == events.bad, "{node}: {} dead letters, in order and as they came", bodies.len());
        let mut position = 0;
        for ((letter, good), bad) in of_node.iter().zip(&events.good).zip(&events.bad) {
            assert_eq!((letter.code.as_str(), letter.codec.as_str()), ("invalid_json", "json"), "{}", letter.message);
            position += good.len() + 1;
            assert_eq!(letter.id, format!("in/in.ndjson/0/{position}"), "the place where it stands in the file");
            position += bad.len() + 1;
        }
        let books = [("received", 2 * ROUNDS), ("passed", ROUNDS), ("dead_lettered", ROUNDS), ("in_flight", 0)];
        assert_books(&logs, node, &books);
    }
    assert_eq!(letters.len(), 2 * ROUNDS);
}

#[test]
fn what_unfolds_deep_or_large_is_a_dead_letter_and_the_rest_passes() {
    let home = Home::new(
        r#"name: unfolded
memory: 16MiB
max_value: 1MiB
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  open:
    type: remap
    inputs: [in]
    source: |
      if exists(.ruby) { .out = parse_ruby_hash!(.ruby) }
      if exists(.xml) { .out = parse_xml!(.xml) }
      if exists(.dots) { .out = unflatten(object!(.dots)) }
      if exists(.lz4) { .out = decode_lz4!(decode_base64!(.lz4), prepended_size: true) }
      if exists(.zstd) { .out = strlen(decode_zstd!(decode_base64!(.zstd))) }
      if exists(.items) { for_each(array!(.items)) -> |_i, _v| { .out = {"before": .out} } }
sinks:
  out: {type: file, inputs: [open], path: out.ndjson}
"#,
    );
    let bomb = |bytes: usize| {
        let zeros = vec![b'0'; bytes];
        base64::prelude::Engine::encode(&base64::prelude::BASE64_STANDARD, zstd::encode_all(&zeros[..], 3).unwrap())
    };
    let deep = 2_000;
    let bad = [
        format!(r#"{{"ruby":"{}1{}"}}"#, "{a=>".repeat(deep), "}".repeat(deep)),
        format!(r#"{{"xml":"{}1{}"}}"#, "<a>".repeat(deep), "</a>".repeat(deep)),
        format!(r#"{{"dots":{{"{}":1}}}}"#, vec!["a"; deep].join(".")),
        format!(r#"{{"items":[{}]}}"#, vec!["1"; deep].join(",")),
        r#"{"lz4":"////7x9hAQD/////////////////////////////"}"#.to_owned(),
        format!(r#"{{"zstd":"{}"}}"#, bomb((1 << 20) + 1)),
    ];
    // All of them in one batch, which decompresses to a hundred times what it may.
    let good = format!(r#"{{"zstd":"{}"}}"#, bomb(1 << 20));
    let events: Vec<String> = bad.iter().cloned().chain(std::iter::repeat_n(good.clone(), 200)).collect();
    std::fs::write(home.path("in.ndjson"), events.join("\n") + "\n").unwrap();
    run(&home);
    let letters = dead_letters(&home, "unfolded");
    let bodies: Vec<String> =
        letters.iter().map(|letter| String::from_utf8(letter.bytes().unwrap()).unwrap()).collect();
    assert!(bodies == bad, "{:?}", letters.iter().map(|letter| &letter.message).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.code == "vrl_error"));
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    let passed = format!(r#"{},"out":1048576}}"#, &good[..good.len() - 1]);
    assert!(out.lines().count() == 200 && out.lines().all(|line| line == passed), "{}", out.lines().count());
}

#[test]
fn integers_of_more_than_64_bits_are_told_apart_everywhere() {
    let home = Home::new(
        r#"name: large
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  edit: {type: remap, inputs: [in], source: '. |= {"at": "2026-01-01T00:00:00Z", "copy": .id}'}
  once: {type: dedupe, inputs: [edit], key: .id, within: 1h, time: .at}
  calm: {type: throttle, inputs: [edit], key: '[.copy]', threshold: 1, window: 1h, time: .at}
  count: {type: aggregate, inputs: [edit], time: .at, window: {tumbling: 1m}, group_by: [.id], compute: {n: count}}
  all: {type: aggregate, inputs: [edit], time: .at, window: {tumbling: 1m}, compute: {ids: {distinct: .id}}}
sinks:
  once_out: {type: file, inputs: [once], path: once.ndjson}
  calm_out: {type: file, inputs: [calm], path: calm.ndjson}
  count_out: {type: file, inputs: [count], path: count.ndjson}
  all_out: {type: file, inputs: [all], path: all.ndjson}
"#,
    );
    let ids = [
        "18446744073709551615",
        "18446744073709551614",
        "18446744073709551000",
        "9223372036854775808",
        "0.1000000000000000055",
    ];
    let events: Vec<String> = ids.iter().chain(&ids).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    std::fs::write(home.path("in.ndjson"), events.join("\n") + "\n").unwrap();
    run(&home);
    let read = |file: &str| std::fs::read_to_string(home.path(file)).unwrap();
    let whole: Vec<String> =
        ids.iter().map(|id| format!(r#"{{"at":"2026-01-01T00:00:00Z","copy":{id},"id":{id}}}"#)).collect();
    for file in ["once.ndjson", "calm.ndjson"] {
        assert_eq!(read(file).lines().collect::<Vec<_>>(), whole, "{file}");
    }
    for id in ids {
        let result = format!(r#""id":{id},"n":2}}"#);
        assert_eq!(
            read("count.ndjson").lines().filter(|line| line.ends_with(&result)).count(),
            1,
            "{}",
            read("count.ndjson")
        );
    }
    assert!(read("all.ndjson").contains(r#""ids":5"#), "{}", read("all.ndjson"));
}

#[test]
fn behind_an_errors_port_a_program_sees_why() {
    let home = Home::new(
        r#"name: reasons
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  shout: {type: remap, inputs: [in], source: '.reason = upcase!(.reason)'}
  why: {type: remap, inputs: [shout.errors], source: '.why = [%error.node, %error.code]'}
sinks:
  out: {type: file, inputs: [shout], path: out.ndjson}
  odd: {type: file, inputs: [why], path: odd.ndjson}
"#,
    );
    let input = "{\"reason\":\"a\"}\n{\"reason\":7, \"n\":1e0}\nno json\n{\"reason\":\"b\"}\n{\"n\":2}\n";
    std::fs::write(home.path("in.ndjson"), input).unwrap();
    run(&home);
    let read = |name: &str| std::fs::read_to_string(home.path(name)).unwrap();
    assert_eq!(read("out.ndjson"), "{\"reason\":\"A\"}\n{\"reason\":\"B\"}\n");
    let expected =
        "{\"reason\":7, \"n\":1e0,\"why\":[\"shout\",\"vrl_error\"]}\n{\"n\":2,\"why\":[\"shout\",\"vrl_error\"]}\n";
    assert_eq!(read("odd.ndjson"), expected);
    let letters = dead_letters(&home, "reasons");
    let brief: Vec<_> = letters.iter().map(|letter| (letter.node.as_str(), letter.body.as_deref())).collect();
    assert_eq!(brief, [("why", Some("no json"))], "no program can run on it, behind the port as before it");
}

#[test]
fn what_a_sink_cannot_say_leaves_by_its_own_errors_port() {
    let graph = r#"name: refused
sources:
  in: {type: file, paths: [in.ndjson]}
sinks:
  out: {type: file, inputs: [in], path: out.txt, encoding: text}
"#;
    let input = "{\"message\":\"one\"}\n{\"n\":2}\n{\"message\":\"three\"}\n";
    let wired = "  odd: {type: file, inputs: [out.errors], path: odd.ndjson}\n";
    for (more, letters, odd) in [("", 1, None), (wired, 0, Some("{\"n\":2}\n"))] {
        let home = Home::new(&format!("{graph}{more}"));
        std::fs::write(home.path("in.ndjson"), input).unwrap();
        let logs = run(&home);
        assert_eq!(std::fs::read_to_string(home.path("out.txt")).unwrap(), "one\nthree\n");
        assert_eq!(std::fs::read_to_string(home.path("odd.ndjson")).ok().as_deref(), odd);
        let found = dead_letters(&home, "refused");
        assert_eq!(found.len(), letters, "{found:?}");
        assert!(found.iter().all(|letter| letter.code == "no_message" && letter.body.as_deref() == Some("{\"n\":2}")));
        assert_books(&logs, "out", &[("received", 3), ("dead_lettered", letters), ("in_flight", 0)]);
    }
}

#[test]
fn a_full_log_of_dead_letters_holds_the_lane_until_there_is_room_and_loses_none() {
    let home = Home::new(
        r#"name: full
sources:
  in: {type: file, paths: [in.txt]}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason == "BackOff"'}
sinks:
  out: {type: file, inputs: [keep], path: out.ndjson}
dead_letters: {path: letters, max_size: 256KiB}
"#,
    );
    let bad: Vec<String> = (0..3000).map(|n| format!("no json: {n}")).collect();
    std::fs::write(home.path("in.txt"), bad.join("\n")).unwrap();
    std::fs::create_dir(home.path("moved")).unwrap();
    let mut weir = home.start_with("weir", &[], &["--once"], Stdio::null());
    let is_full = |weir: &Weir| {
        let (status, why) = weir.get("/ready");
        status == 503 && why.contains("dead letters in letters cannot be written") && why.contains("max_size")
    };
    until("the log to be full", PATIENCE, || is_full(&weir));
    while !weir.has_ended() {
        let mut files: Vec<_> =
            std::fs::read_dir(home.path("letters")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.pop();
        for file in files {
            std::fs::rename(&file, home.path("moved").join(file.file_name().unwrap())).unwrap();
        }
        moment();
    }
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    let mut bodies = Vec::new();
    for dir in ["moved", "letters"] {
        let each = |letter: DeadLetter| bodies.extend(letter.body);
        weir::graph::read_dead_letters(&home.path(dir), each, |damage| panic!("{damage}")).unwrap();
    }
    assert!(bodies == bad, "{} dead letters of {}", bodies.len(), bad.len());
}
