//! Records nobody can read and records nobody takes: dead letters, while their neighbours pass and the process lives.
#![cfg(feature = "real")]

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use weir_tests::broker::{client, servers};
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, until};

/// Key and value of a record.
type Record = (Option<&'static str>, Option<Vec<u8>>);

fn write(topic: &Topic, records: &[Record]) {
    let producer: BaseProducer = client().set("message.max.bytes", "1000000").create().unwrap();
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

/// The dead letters: by node, position and code.
fn dead_letters(home: &Home, graph: &str) -> Vec<(String, u64, String, Option<Vec<u8>>)> {
    let mut letters = Vec::new();
    let dir = home.data_dir("weir").join(graph).join("dead-letters");
    let each = |letter: weir::graph::DeadLetter| {
        let position = letter.id.rsplit('/').next().and_then(|position| position.parse().ok()).unwrap();
        letters.push((letter.node.clone(), position, letter.code.clone(), letter.bytes()));
    };
    weir::graph::read_dead_letters(&dir, each, |damage| panic!("{damage}")).unwrap();
    letters.sort();
    letters
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
  mark: {{type: remap, inputs: [in], source: '.mark = to_string!(.reason) + "!"'}}
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
    let group = Group::named(name);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    let letters = dead_letters(&home, "poison");
    for (n, (what, _)) in poison.iter().enumerate() {
        let position = 1 + 2 * n as u64;
        let of = |node: &str| letters.iter().find(|letter| (&*letter.0, letter.1) == (node, position));
        println!("poison: {what}: filter {:?}, remap {:?}", of("keep").map(|it| &it.2), of("mark").map(|it| &it.2));
    }
    let values = [filtered.values(), remapped.values()];
    let describe = |value: &Option<Vec<u8>>| {
        value.as_ref().map(|value| String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned())
    };
    for (what, values) in [("filter", &values[0][0]), ("remap", &values[1][0])] {
        println!("poison: {what} passed {:?}", values.iter().map(describe).collect::<Vec<_>>());
    }
    for node in ["in", "keep", "mark", "kept", "marked"] {
        let outcomes = ["received", "passed", "filtered", "dead_lettered", "failed"];
        let books: BTreeMap<&str, u64> = outcomes.iter().map(|outcome| (*outcome, weir.events(node, outcome))).collect();
        println!("poison: {node} {books:?}");
    }
    weir.assert_balance(&["in", "keep", "mark", "kept", "marked"]);
    weir.stop(Duration::from_secs(20));
    panic!("look");
}
