//! Windows over a real Kafka: killed at random moments and inside of checkpoints, with brokers that restart, they come to
//! what they come to without any of it.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use weir_tests::broker::OwnBroker;
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;

const PARTITIONS: u64 = 4;
const HOSTS: u64 = 50;
/// Event time from one event of the whole topic to the next, in milliseconds.
const STEP: u64 = 6;
/// 2026-03-01T00:00:00Z.
const BEGIN: u64 = 1_772_323_200_000;
const MINUTE: u64 = 60_000;
/// Every so-many-th event comes twice, in two partitions.
const TWICE: u64 = 10;
const LIMIT: Duration = Duration::from_secs(120);

fn graph(input: &Topic, tumbling: &Topic, sliding: &Topic) -> String {
    let (Topic { name: group, servers, .. }, tumbling, sliding) = (input, &tumbling.name, &sliding.name);
    let sink = |input: &str, topic: &str| {
        format!(
            r#"{{type: kafka, inputs: [{input}], bootstrap_servers: "{servers}", topic: {topic}, key: "{{{{ .host }}}}", encoding: json, linger: 1ms}}"#
        )
    };
    format!(
        r#"name: real-windows
checkpoint_every: 20ms
sources:
  in:
    type: kafka
    bootstrap_servers: "{servers}"
    topics: ["{group}"]
    group_id: {group}
    group_instance_id: one
    start: earliest
    session_timeout: 6s
    commit_interval: 100ms
    decoding: json
transforms:
  once: {{type: dedupe, inputs: [in], key: .id, within: 1d}}
  minute:
    type: aggregate
    inputs: [once]
    time: .ts
    lateness: 10s
    window: {{tumbling: 1m}}
    group_by: [.host]
    compute: {{n: count, total: {{sum: .bytes}}, least: {{min: .bytes}}}}
  five:
    type: aggregate
    inputs: [once]
    time: .ts
    lateness: 10s
    window: {{sliding: 5m, every: 1m}}
    group_by: [.host]
    compute: {{n: count, total: {{sum: .bytes}}, least: {{min: .bytes}}}}
sinks:
  tumbling: {}
  sliding: {}
"#,
        sink("minute", tumbling),
        sink("five", sliding)
    )
}

fn host(seq: u64) -> u64 {
    seq * 7 % HOSTS
}

fn bytes(seq: u64) -> u64 {
    seq * 2_654_435_761 % 10_000
}

fn event(seq: u64) -> String {
    let time = BEGIN + seq * STEP;
    format!(r#"{{"id":{seq},"ts":{time},"host":"host-{}","bytes":{}}}"#, host(seq), bytes(seq))
}

/// What comes to a window and host: how many, their sum, the least.
type Counts = BTreeMap<(u64, String), (u64, u64, u64)>;

/// What is right of windows that are over by the time of `events` events, whatever happens.
fn computed(events: u64, length: u64) -> Counts {
    let mut counts = Counts::new();
    for seq in 0..events {
        let time = BEGIN + seq * STEP;
        let last = time / MINUTE * MINUTE;
        for start in (0..length / MINUTE).map(|back| last - back * MINUTE).filter(|start| start + length > time) {
            let entry = counts.entry((start + length, format!("host-{}", host(seq)))).or_insert((0, 0, u64::MAX));
            *entry = (entry.0 + 1, entry.1 + bytes(seq), entry.2.min(bytes(seq)));
        }
    }
    counts
}

/// What came out, in which every repeat is as the first; and how many repeats.
fn delivered(topic: &Topic) -> (Counts, usize) {
    let (mut counts, mut repeats) = (Counts::new(), 0);
    for values in topic.values() {
        let mut latest: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen: BTreeSet<(u64, String)> = BTreeSet::new();
        for value in values {
            let value: Value = serde_json::from_slice(&value.unwrap()).unwrap();
            let end = value["window_end"].as_str().unwrap();
            let end = chrono::DateTime::parse_from_rfc3339(end).unwrap().timestamp_millis().cast_unsigned();
            let host = value["host"].as_str().unwrap().to_owned();
            let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{value}"));
            let numbers = (number("n"), number("total"), number("least"));
            if let Some(before) = counts.insert((end, host.clone()), numbers) {
                assert_eq!(before, numbers, "{value}: a repeat says the same");
            }
            if seen.insert((end, host.clone())) {
                let before = latest.insert(host, end);
                assert!(before.is_none_or(|before| before < end), "{value}: new windows of a host come in order");
            } else {
                repeats += 1;
            }
        }
    }
    (counts, repeats)
}

#[test]
fn two_processes_in_one_group_end_no_window_on_half_of_its_events() {
    let topic = |purpose: &str| Topic::create(purpose, PARTITIONS as i32, &[]);
    let (input, tumbling, sliding) = (topic("shared"), topic("shared-tumbling"), topic("shared-sliding"));
    let home = Home::new(&graph(&input, &tumbling, &sliding).replace("    group_instance_id: one\n", ""));
    let (first, second) = (home.start("first", &[]), home.start("second", &[]));
    let says = |weir: &Weir| weir.get("/ready").1.contains("has other members");
    until("both say why they do not read", LIMIT, || says(&first) && says(&second));
    let events: Vec<String> = (0..30_000).map(event).collect();
    input.write(events.iter().map(String::as_str));
    first.stop(LIMIT);
    second.until_ready(LIMIT);
    let mut right = computed(30_000, MINUTE);
    right.retain(|(end, _), _| end + 10_000 <= BEGIN + 29_000 * STEP);
    until("all windows that are over", LIMIT, || tumbling.len() >= right.len() as u64);
    assert_eq!(delivered(&tumbling), (right, 0));
    second.stop(LIMIT);
}

#[test]
fn windows_come_to_the_same_whatever_is_killed() {
    let mut campaign = Campaign::of("windows");
    let (events, kills) = (campaign.count(1_000_000), campaign.count(100));
    let restarts = campaign.count(20);
    let broker = OwnBroker::start();
    let topic = |purpose: &str| Topic::create_at(&broker.servers, purpose, PARTITIONS as i32, &[]);
    let (input, tumbling, sliding) = (topic("windows-in"), topic("windows-1m"), topic("windows-5m"));
    let group = Group::of(&input);
    let home = Home::new(&graph(&input, &tumbling, &sliding));
    let mut failpoints = 0;
    let chunk = events / kills;
    let mut written = 0;
    let mut weir = home.start("weir", &[]);
    for number in 0..kills {
        // By turns into the partitions: one event of each is never far from those of the others.
        let mut all: Vec<String> = Vec::new();
        for seq in number * chunk..(number + 1) * chunk {
            all.push(event(seq));
            if seq % TWICE == 0 {
                all.push(event(seq));
            }
        }
        written += all.len() as u64;
        input.write(all.iter().map(String::as_str));
        if number % (kills / restarts) == 1 {
            broker.kill();
            broker.restart();
        }
        let moment = written - campaign.random.random_range(0..chunk);
        until("the commits to go on", LIMIT, || {
            weir.has_ended() || input.committed(&group).iter().sum::<u64>() >= moment
        });
        failpoints += u64::from(weir.has_ended());
        let _ = weir.kill_unless_ended();
        // Every third time it ends by itself, in the middle of a checkpoint or commit.
        let place = ["checkpoint", "checkpoint_written", "commit"][campaign.random.random_range(0..3)];
        let env = [("WEIR_FAILPOINT", format!("{place}:1"))];
        weir = match number % 3 {
            0 => home.start_with_env("weir", &env),
            _ => home.start("weir", &[]),
        };
    }
    // Far behind, in every partition: everything before is over.
    let end = BEGIN + events * STEP + 60 * MINUTE;
    let last: Vec<String> =
        (0..PARTITIONS).map(|at| format!(r#"{{"id":"end-{at}","ts":{end},"host":"end","bytes":0}}"#)).collect();
    input.write(last.iter().map(String::as_str));
    until("everything to be committed", LIMIT, || {
        if weir.has_ended() {
            failpoints += 1;
            weir = home.start("weir", &[]);
        }
        input.is_read_by(&group)
    });
    let _ = weir.stop(Duration::from_secs(20));

    for (what, topic, length) in [("tumbling", &tumbling, MINUTE), ("sliding", &sliding, 5 * MINUTE)] {
        let (found, repeats) = delivered(topic);
        let right = computed(events, length);
        let wrong = right.iter().find(|(key, counts)| found.get(key) != Some(counts));
        assert_eq!(wrong.map(|(key, counts)| (key, counts, found.get(key))), None, "{what}");
        assert_eq!(found.len(), right.len(), "{what}: nothing else came out");
        println!("windows: {what}: {} results as computed, {repeats} repeats that say the same", right.len());
    }
    println!(
        "windows: {events} events and {} repeated, {kills} ends, {failpoints} of them inside a checkpoint or commit, {restarts} restarts of the broker",
        events / TWICE
    );
}
