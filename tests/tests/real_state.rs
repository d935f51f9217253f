//! What a graph over a real Kafka remembers: killed at random moments, it drops what it has seen before every one of them.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use weir_tests::campaign::Campaign;
use weir_tests::output::without_repeats;
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;

const PARTITIONS: u64 = 4;

fn graph(input: &Topic, output: &Topic) -> String {
    let (Topic { name: group, servers, .. }, Topic { name: output, .. }) = (input, output);
    format!(
        r#"name: real-state
checkpoint_every: 50ms
sources:
  in:
    type: kafka
    bootstrap_servers: "{servers}"
    topics: ["{group}"]
    group_id: {group}
    group_instance_id: one
    start: earliest
    session_timeout: 6s
    commit_interval: 50ms
    decoding: json
    keyed_by: [.key]
transforms:
  once: {{type: dedupe, inputs: [in], key: .key, within: 1d}}
sinks:
  out: {{type: kafka, inputs: [once], bootstrap_servers: "{servers}", topic: {output}, partition: source, encoding: json, linger: 1ms}}
"#
    )
}

/// Event `seq` of a partition: in the second half every key comes again.
fn event(partition: u64, seq: u64, keys: u64) -> String {
    format!(r#"{{"seq":{seq},"key":"{partition}-{}"}}"#, seq % keys)
}

#[test]
fn a_key_that_was_seen_before_a_kill_is_known_after_it() {
    let mut campaign = Campaign::of("state");
    let (keys, kills) = (campaign.count(125_000), campaign.count(100));
    let chunk = 2 * keys / kills;
    let (input, output) =
        (Topic::create("state-in", PARTITIONS as i32, &[]), Topic::create("state-out", PARTITIONS as i32, &[]));
    let group = Group::of(&input);
    let home = Home::new(&graph(&input, &output));
    let mut weir = home.start("weir", &[]);
    for number in 0..kills {
        let seqs = number * chunk..(number + 1) * chunk;
        let events: Vec<String> =
            seqs.flat_map(|seq| (0..PARTITIONS).map(move |partition| event(partition, seq, keys))).collect();
        input.write(events.iter().map(String::as_str));
        let written = (number + 1) * chunk * PARTITIONS;
        let moment = written - campaign.random.random_range(0..chunk * PARTITIONS);
        until("the commits to go on", Duration::from_secs(60), || {
            input.committed(&group).iter().sum::<u64>() >= moment
        });
        weir.kill();
        weir = home.start("weir", &[]);
    }
    until("everything to be committed", Duration::from_secs(60), || input.is_read_by(&group));
    // Everything may have been committed before the last one was up.
    weir.until_running();
    let _ = weir.stop(Duration::from_secs(20));

    let mut repeats = 0;
    for (partition, values) in output.values().into_iter().enumerate() {
        let seq =
            |value: Option<Vec<u8>>| serde_json::from_slice::<Value>(&value.unwrap()).unwrap()["seq"].as_u64().unwrap();
        let seqs: Vec<u64> = values.into_iter().map(seq).collect();
        let new = without_repeats(&seqs);
        assert!(
            new.iter().copied().eq(0..keys),
            "partition {partition}: the first of each key, in order, and no second one"
        );
        repeats += seqs.len() - new.len();
    }
    println!(
        "state: {} events of {} keys, {kills} kills, all firsts there and in order, no second one, {repeats} repeats",
        2 * keys * PARTITIONS,
        keys * PARTITIONS
    );
}
