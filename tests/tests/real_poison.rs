//! Records nobody can read and records nobody takes: dead letters, while their neighbours pass and the process lives.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use weir_tests::broker::{client, servers};
use weir_tests::command;
use weir_tests::letters::{Letter, dead_letters};
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, moment, until};

/// Key and value of a record.
type Record = (Option<&'static str>, Option<Vec<u8>>);

fn write(topic: &Topic, records: &[Record]) {
    let producer: BaseProducer = client(&topic.servers).set("message.max.bytes", "100000000").create().unwrap();
    for (key, value) in records {
        let mut record = BaseRecord::<str, [u8]>::to(&topic.name).partition(0);
        record.key = *key;
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn good(n: u32, more: &str) -> Vec<u8> {
    format!(r#"{{"reason":"BackOff","n":{n},"more":"{more}"}}"#).into_bytes()
}

#[test]
fn poison_becomes_dead_letters_and_its_neighbours_pass() {
    let (input, filtered) = (Topic::create("poison-in", 1, &[]), Topic::create("poison-filter", 1, &[]));
    let remapped = Topic::create("poison-remap", 1, &[]);
    let (servers, name) = (servers(), &input.name);
    let (filter_topic, remap_topic) = (&filtered.name, &remapped.name);
    let home = Home::new(&format!(
        r#"name: poison
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: ["{name}"], group_id: {name}, start: earliest}}
transforms:
  keep: {{type: filter, inputs: [in], condition: '.reason == "BackOff"'}}
  mark: {{type: remap, inputs: [in], source: '.mark = upcase!(.reason)'}}
sinks:
  kept: {{type: kafka, inputs: [keep], bootstrap_servers: "{servers}", topic: {filter_topic}}}
  marked: {{type: kafka, inputs: [mark], bootstrap_servers: "{servers}", topic: {remap_topic}}}
"#
    ));
    let deep = format!(r#"{{"reason":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let poison: [(&str, Option<Vec<u8>>); 6] = [
        ("invalid JSON", Some(br#"{"reason": "BackOff", "#.to_vec())),
        ("invalid UTF-8", Some(b"{\"reason\":\"BackOff\",\"text\":\"\xff\xfe\"}".to_vec())),
        ("10,000 deep", Some(deep.into_bytes())),
        ("tombstone", None),
        ("garbage after the object", Some(br#"{"reason":"BackOff"} trailing"#.to_vec())),
        ("empty", Some(Vec::new())),
    ];
    let mut records: Vec<Record> = vec![(None, Some(good(0, "first")))];
    for (n, (_, value)) in (1..).zip(&poison) {
        records.push((None, value.clone()));
        records.push((None, Some(good(n, "neighbour"))));
    }
    // Large, but good.
    records.push((None, Some(good(100, &"x".repeat(900 << 10)))));
    records.push((None, Some(good(101, "last"))));
    write(&input, &records);

    let weir = home.start("weir", &[]);
    let group = Group::of(&input);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    let mut expected = Vec::new();
    // A tombstone is no poison: it passes both as it is.
    for (n, (what, value)) in poison.iter().enumerate().filter(|(_, (_, value))| value.is_some()) {
        println!("poison: {what}");
        let letter = |node: &str| (node.to_owned(), 1 + 2 * n as u64, "invalid_json".to_owned(), value.clone());
        expected.extend([letter("keep"), letter("mark")]);
    }
    expected.sort();
    let seen = dead_letters(&home.data_dir("weir"), "poison");
    let brief = |letters: &[Letter]| letters.iter().map(|it| (it.0.clone(), it.1, it.2.clone())).collect::<Vec<_>>();
    assert_eq!(brief(&seen), brief(&expected));
    assert!(seen == expected, "the bodies are kept as they came");

    let values = records.iter().map(|record| record.1.clone());
    let kept: Vec<_> = values.filter(|value| value.as_ref().is_none_or(|value| is_good(value))).collect();
    assert!(filtered.values() == [kept.clone()], "the neighbours pass the filter byte for byte");
    let numbers =
        |values: &[Option<Vec<u8>>]| values.iter().map(|value| Some(n_and_mark(value.as_deref()?))).collect::<Vec<_>>();
    let marked = numbers(&kept).into_iter().map(|found| found.map(|(n, _)| (n, Some("BACKOFF".to_owned()))));
    let marked: Vec<_> = marked.collect();
    assert_eq!(numbers(&remapped.values()[0]), marked, "the neighbours pass the program");

    weir.assert_balance(&["in", "keep", "mark", "kept", "marked"]);
    let (all, bad, good) = (records.len() as u64, poison.len() as u64, kept.len() as u64);
    assert_eq!((weir.events("keep", "received"), weir.events("mark", "received")), (all, all));
    assert_eq!((weir.events("keep", "dead_lettered"), weir.events("mark", "dead_lettered")), (bad - 1, bad - 1));
    assert_eq!((weir.events("kept", "passed"), weir.events("marked", "passed")), (good, good));
    weir.stop(Duration::from_secs(20));
    println!("poison: {all} records, {good} good ones passed twice, {} dead letters, the books balance", seen.len());
}

fn is_good(value: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(value).is_ok_and(|value| value.get("n").is_some())
}

fn n_and_mark(value: &[u8]) -> (u64, Option<String>) {
    let value: serde_json::Value = serde_json::from_slice(value).unwrap();
    (value["n"].as_u64().unwrap(), value["mark"].as_str().map(str::to_owned))
}

#[test]
fn what_brokers_refuse_becomes_dead_letters_and_its_neighbours_arrive() {
    let input = Topic::create("refused-in", 1, &[]);
    let small = Topic::create("refused-small", 1, &[("max.message.bytes", "2000")]);
    let compacted = Topic::create("refused-compacted", 1, &[("cleanup.policy", "compact")]);
    let (servers, name, small_name, compacted_name) = (servers(), &input.name, &small.name, &compacted.name);
    let home = Home::new(&format!(
        r#"name: refused
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: ["{name}"], group_id: {name}, start: earliest}}
sinks:
  small: {{type: kafka, inputs: [in], bootstrap_servers: "{servers}", topic: {small_name}}}
  compacted: {{type: kafka, inputs: [in], bootstrap_servers: "{servers}", topic: {compacted_name}, key: "{{{{ %kafka.key }}}}"}}
"#
    ));
    let records: Vec<Record> = vec![
        (Some("a"), Some(good(0, "first"))),
        (Some("b"), Some(good(1, &"x".repeat(5000)))),
        (Some("c"), Some(good(2, "neighbour"))),
        (None, Some(good(3, "without key"))),
        (Some("d"), Some(good(4, "neighbour"))),
        (None, Some(good(5, &"x".repeat(5000)))),
        (Some("e"), Some(good(6, "last"))),
    ];
    write(&input, &records);
    let weir = home.start("weir", &[]);
    let group = Group::of(&input);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));

    let letter = |node: &str, n: usize, code: &str| (node.to_owned(), n as u64, code.to_owned(), records[n].1.clone());
    let expected = [
        letter("compacted", 3, "invalid_record"),
        letter("compacted", 5, "invalid_record"),
        letter("small", 1, "message_too_large"),
        letter("small", 5, "message_too_large"),
    ];
    assert_eq!(dead_letters(&home.data_dir("weir"), "refused"), expected);
    // Neighbours refused together with a bad one are sent again, perhaps behind later ones.
    let numbers = |topic: &Topic| {
        topic.values()[0].iter().map(|value| n_and_mark(value.as_deref().unwrap()).0).collect::<BTreeSet<_>>()
    };
    assert_eq!((small.len(), numbers(&small)), (5, BTreeSet::from([0, 2, 3, 4, 6])));
    assert_eq!((compacted.len(), numbers(&compacted)), (5, BTreeSet::from([0, 1, 2, 4, 6])));
    weir.assert_balance(&["in", "small", "compacted"]);
    assert_eq!((weir.events("small", "passed"), weir.events("small", "dead_lettered")), (5, 2));
    assert_eq!((weir.events("compacted", "passed"), weir.events("compacted", "dead_lettered")), (5, 2));
    weir.stop(Duration::from_secs(20));
    println!("refused: 2 dead letters message_too_large, 2 invalid_record, all neighbours arrived, the books balance");
}

/// Takes records of up to 95 MiB.
const TAKES_ALL: [(&str, &str); 1] = [("max.message.bytes", "100000000")];

#[test]
fn a_record_of_64_mib_passes_where_it_may_and_is_a_dead_letter_where_not() {
    let (input, large) = (Topic::create("large-in", 1, &TAKES_ALL), Topic::create("large-out", 1, &TAKES_ALL));
    let small = Topic::create("large-small", 1, &[]);
    let (servers, name, large_name, small_name) = (servers(), &input.name, &large.name, &small.name);
    let home = Home::new(&format!(
        r#"name: large
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: ["{name}"], group_id: {name}, start: earliest, max_record_size: 80MiB}}
transforms:
  keep: {{type: filter, inputs: [in], condition: '.reason == "BackOff"'}}
sinks:
  large: {{type: kafka, inputs: [keep], bootstrap_servers: "{servers}", topic: {large_name}, max_message_size: 80MiB}}
  small: {{type: kafka, inputs: [keep], bootstrap_servers: "{servers}", topic: {small_name}}}
"#
    ));
    let records: Vec<Record> = vec![
        (Some("a"), Some(good(0, "first"))),
        (Some("b"), Some(good(1, &"x".repeat(64 << 20)))),
        (Some("c"), Some(good(2, "neighbour"))),
        (Some("d"), Some(good(3, "last"))),
    ];
    write(&input, &records);
    let values: Vec<_> = records.iter().map(|record| record.1.clone()).collect();
    let group = Group::of(&input);

    // A source that may not read it waits, says so, and can be stopped and put right.
    let weir = home.start("weir", &["sources.in.max_record_size=8MiB"]);
    let says_why = || weir.get("/ready").1.contains("a record is larger than max_record_size");
    until("/ready to say why", PATIENCE, says_why);
    let (said, reported) = (Instant::now(), weir.get("/ready"));
    println!(
        "large: with the default max_record_size /ready is {}: {}",
        reported.0,
        reported.1.trim().replace('\n', "; ")
    );
    while said.elapsed() < Duration::from_secs(10) {
        assert!(says_why(), "it goes on saying so: {}", weir.get("/ready").1);
        moment();
    }
    weir.stop(Duration::from_secs(20));

    let weir = home.start("weir", &[]);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    let letter: Letter = ("small".to_owned(), 1, "message_too_large".to_owned(), values[1].clone());
    assert!(dead_letters(&home.data_dir("weir"), "large") == [letter], "one dead letter, byte for byte");
    assert!(large.values() == [values.clone()], "all of it passes where it may, byte for byte and in order");
    assert!(small.values() == [[0, 2, 3].map(|n| values[n].clone())], "its neighbours pass the other sink");
    weir.assert_balance(&["in", "keep", "large", "small"]);
    println!(
        "large: a record of 64 MiB passed one sink and is a dead letter of the other, RSS {} MiB",
        weir.rss() >> 20
    );
    weir.stop(Duration::from_secs(20));
}

#[test]
fn a_record_that_cannot_be_read_is_stepped_over_once_and_with_a_reason() {
    let (input, output) = (Topic::create("skip-in", 1, &TAKES_ALL), Topic::create("skip-out", 1, &[]));
    let (servers, name, output_name) = (servers(), &input.name, &output.name);
    let home = Home::new(&format!(
        r#"name: skip
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: ["{name}"], group_id: {name}, start: earliest}}
sinks:
  out: {{type: kafka, inputs: [in], bootstrap_servers: "{servers}", topic: {output_name}}}
"#
    ));
    // The first record of all, before anything was read or committed, and one behind a neighbour.
    let large = good(9, &"x".repeat(40 << 20));
    let records: Vec<Record> = vec![
        (None, Some(large.clone())),
        (None, Some(good(1, "neighbour"))),
        (None, Some(large)),
        (None, Some(good(3, "last"))),
    ];
    write(&input, &records);
    let weir = home.start("weir", &[]);
    let skip = |more: &[&str]| {
        let set = format!("data_dir={}", home.data_dir("weir").display());
        command::weir(&home.path(""), &[&["skip", "graph.yaml", "--set", set.as_str()], more].concat())
    };
    for (position, wrong) in [(0, 1), (2, 3)] {
        until("/ready to say why", PATIENCE, || weir.get("/ready").1.contains("weir skip"));
        let (lane, place) = (format!("in/{name}/0 "), format!("in/{name}/0/{position}"));
        // The list says where the lane stands.
        until("the lane to know where it stands", PATIENCE, || {
            let list = skip(&[]).exits(0).out;
            let line = list.lines().find(|line| line.starts_with(&lane));
            line.is_some_and(|line| line.split_whitespace().nth(1) == Some(position.to_string().as_str()))
        });
        let elsewhere = format!("in/{name}/0/{wrong}");
        let refused = skip(&["--at", &elsewhere, "--reason", "no"]).exits(1).err;
        assert!(refused.contains(&format!("stands at {position}, not at {wrong}")), "{refused}");
        let _ = skip(&["--at", &place, "--reason", "a heap dump by mistake, ticket 7"]).exits(0);
    }
    let group = Group::of(&input);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    until("/ready to be well again", PATIENCE, || weir.get("/ready").0 == 200);
    assert!(output.values() == [[1, 3].map(|n| records[n].1.clone())], "its neighbours pass");
    let letter = |position| -> Letter { ("in".to_owned(), position, "skipped".to_owned(), None) };
    assert_eq!(dead_letters(&home.data_dir("weir"), "skip"), [letter(0), letter(2)]);
    weir.assert_balance(&["in", "out"]);
    weir.stop(Duration::from_secs(20));
    println!(
        "skip: 2 records of 40 MiB stepped over by hand, their neighbours passed, 2 dead letters, the books balance"
    );
}
