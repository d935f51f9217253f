//! The whole binary against a real broker: killed, poisoned, stopped. `KAFKA_BOOTSTRAP_SERVERS` names it.
//!
//! A tenth of the campaign runs by default; `WEIR_CAMPAIGN=full` runs all of it. The seed is printed, and
//! `WEIR_CAMPAIGN_SEED` sets it.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod kafka;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::{Cluster, Weir, until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PARTITIONS: i32 = 10;
/// Every so-many-th record is one the filter keeps.
const KEPT: u64 = 5;

fn full() -> bool {
    std::env::var("WEIR_CAMPAIGN").is_ok_and(|size| size == "full")
}

fn record(partition: i32, seq: u64) -> String {
    let reason = if seq % KEPT == 0 { "BackOff" } else { "Pulled" };
    let padding = "x".repeat(360);
    format!(r#"{{"partition":{partition},"seq":{seq},"reason":"{reason}","padding":"{padding}"}}"#)
}

fn graph(cluster: &Cluster, input: &str, output: &str, member: &str) -> String {
    let servers = &cluster.servers;
    format!(
        "name: campaign\nsources:\n  in:\n    type: kafka\n    bootstrap_servers: \"{servers}\"\n    topics: [{input}]\n    group_id: {input}\n    group_instance_id: {member}\n    session_timeout: 6s\n    commit_interval: 200ms\n    start: earliest\ntransforms:\n  keep: {{type: filter, inputs: [in], condition: '.reason == \"BackOff\"'}}\nsinks:\n  out:\n    type: kafka\n    inputs: [keep]\n    bootstrap_servers: \"{servers}\"\n    topic: {output}\n    partition: source\n"
    )
}

/// What came out, partition by partition, in order.
type Output = BTreeMap<i32, Vec<u64>>;

fn parsed(records: Vec<(i32, Vec<u8>)>) -> Output {
    let mut output = Output::new();
    for (partition, value) in records {
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(value["partition"], partition, "a record keeps its partition");
        output.entry(partition).or_default().push(value["seq"].as_u64().unwrap());
    }
    output
}

/// Checks that nothing is lost and that first occurrences are in order; counts what came twice.
fn check(output: &Output, per_partition: u64) -> u64 {
    let mut twice = 0;
    for partition in 0..PARTITIONS {
        let got = &output[&partition];
        let mut next = 0;
        for &seq in got {
            assert!(seq <= next, "partition {partition}: {seq} came before {next}");
            if seq == next {
                next += KEPT;
            } else {
                twice += 1;
            }
        }
        let kept = per_partition.div_ceil(KEPT);
        assert_eq!(next, kept * KEPT, "partition {partition}: records are missing at the end");
    }
    twice
}

#[test]
fn kills_lose_nothing_and_repeat_no_more_than_was_not_committed() {
    let seed = std::env::var("WEIR_CAMPAIGN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into());
    let (records, kills, seconds): (u64, u32, u64) = if full() { (2_000_000, 50, 120) } else { (200_000, 5, 12) };
    println!("kill campaign: {records} records, {kills} kills, at least {seconds} s, WEIR_CAMPAIGN_SEED={seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let cluster = Cluster::from_env();
    let (input, output) = (cluster.topic("kill-in", PARTITIONS, &[]), cluster.topic("kill-out", PARTITIONS, &[]));
    let per_partition = records / PARTITIONS as u64;
    let producing = std::thread::spawn({
        let (cluster, input) = (cluster.clone(), input.clone());
        move || cluster.produce_paced(&input, PARTITIONS, per_partition, Duration::from_secs(seconds), record)
    });
    let dir = tempfile::tempdir().unwrap();
    let yaml = graph(&cluster, &input, &output, "only");
    let started = Instant::now();
    let mut weir = Weir::start(dir.path(), &yaml);
    let mut bound = 0;
    for kill in 0..kills {
        // A moment of its own within this kill's share of the run, and never before there is some output.
        let share = seconds as f64 / f64::from(kills);
        let moment = Duration::from_secs_f64(share * (f64::from(kill) + rng.random_range(0.3..1.0)));
        let before = cluster.end(&output);
        until("output goes on", || cluster.end(&output) > before || cluster.end(&output) * KEPT >= records);
        until("the moment of the kill", || started.elapsed() >= moment);
        weir.kill();
        let committed = cluster.committed(&input, PARTITIONS);
        let produced = parsed(cluster.read(&output));
        for partition in 0..PARTITIONS {
            let last = produced.get(&partition).and_then(|seqs| seqs.iter().max().copied());
            let from = committed[&partition];
            bound += last.map_or(0, |last| (last / KEPT + 1).saturating_sub(from.div_ceil(KEPT)));
        }
        weir = Weir::start(dir.path(), &yaml);
    }
    producing.join().unwrap();
    let expected = per_partition.div_ceil(KEPT) * PARTITIONS as u64;
    until("everything has come out", || {
        cluster.end(&output) >= expected
            && cluster.committed(&input, PARTITIONS).values().all(|at| *at == per_partition)
    });
    assert_eq!(weir.stop(), 0, "a clean stop");
    let twice = check(&parsed(cluster.read(&output)), per_partition);
    println!(
        "{kills} kills in {:.0} s: nothing lost, {twice} records twice, at most {bound} allowed",
        started.elapsed().as_secs_f64()
    );
    assert!(twice <= bound, "{twice} records came twice, {bound} were written beyond what was committed");
}

#[test]
fn members_join_and_leave_without_loss() {
    let cluster = Cluster::from_env();
    let (input, output) = (cluster.topic("join-in", PARTITIONS, &[]), cluster.topic("join-out", PARTITIONS, &[]));
    let per_partition = if full() { 50_000 } else { 10_000 };
    let producing = std::thread::spawn({
        let (cluster, input) = (cluster.clone(), input.clone());
        move || cluster.produce_paced(&input, PARTITIONS, per_partition, Duration::from_secs(15), record)
    });
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let start =
        |number: usize| Weir::start(dirs[number].path(), &graph(&cluster, &input, &output, &format!("m{number}")));
    let progress = || {
        let before = cluster.end(&output);
        let all = per_partition * PARTITIONS as u64 / KEPT;
        until("output goes on", || cluster.end(&output) > before || cluster.end(&output) >= all);
    };
    let first = start(0);
    progress();
    let second = start(1);
    progress();
    let third = start(2);
    progress();
    assert_eq!(second.stop(), 0, "a member that leaves stops cleanly");
    progress();
    first.kill();
    let first = start(0);
    producing.join().unwrap();
    until("everything is committed", || cluster.committed(&input, PARTITIONS).values().all(|at| *at == per_partition));
    assert_eq!((first.stop(), third.stop()), (0, 0), "clean stops");
    let mut output = parsed(cluster.read(&output));
    for partition in 0..PARTITIONS {
        let got = output.get_mut(&partition).unwrap();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len() as u64, per_partition.div_ceil(KEPT), "partition {partition} is whole");
    }
    println!("three members joined, one left, one was killed and came back: nothing lost");
}

#[test]
fn poison_is_a_dead_letter_and_its_neighbours_pass() {
    let cluster = Cluster::from_env();
    let (input, output) =
        (cluster.topic("poison-in", 1, &[]), cluster.topic("poison-out", 1, &[("max.message.bytes", "2000")]));
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let large = format!(r#"{{"n":1,"keep":true,"padding":"{}"}}"#, "x".repeat(900_000));
    let poison: Vec<Option<Vec<u8>>> = vec![
        Some(b"{\"n\":".to_vec()),
        Some(b"{\"n\":1,\"keep\":true} garbage".to_vec()),
        Some(b"{\"n\":\"\xff\"}".to_vec()),
        Some(deep),
        Some(Vec::new()),
        None,
        Some(large.into_bytes()),
    ];
    let mut records = Vec::new();
    for (at, poison) in poison.into_iter().enumerate() {
        records.push(Some(format!(r#"{{"n":{at},"keep":true}}"#).into_bytes()));
        records.push(poison);
    }
    records.push(Some(br#"{"n":7,"keep":true}"#.to_vec()));
    cluster.produce(&input, 0, records);
    let dir = tempfile::tempdir().unwrap();
    let servers = &cluster.servers;
    let yaml = format!(
        "name: poison\nsources:\n  in: {{type: kafka, bootstrap_servers: \"{servers}\", topics: [{input}], group_id: {input}, start: earliest, stop: at_end}}\ntransforms:\n  keep: {{type: filter, inputs: [in], condition: '.keep == true'}}\n  mark: {{type: remap, inputs: [keep], source: '.seen = true'}}\nsinks:\n  out: {{type: kafka, inputs: [mark], bootstrap_servers: \"{servers}\", topic: {output}}}\n"
    );
    let code = Weir::start(dir.path(), &yaml).wait();
    assert_eq!(code, 0, "the run ends well");
    let got: Vec<serde_json::Value> =
        cluster.read(&output).into_iter().map(|(_, value)| serde_json::from_slice(&value).unwrap()).collect();
    let expected: Vec<_> = (0..8).map(|n| serde_json::json!({ "n": n, "keep": true, "seen": true })).collect();
    assert_eq!(got, expected, "the neighbours pass, in order");
    let mut letters = BTreeMap::<(String, String), u32>::new();
    weir::graph::read_dead_letters(
        &dir.path().join("data/poison/dead-letters"),
        |letter| *letters.entry((letter.node, letter.code)).or_default() += 1,
        |damage| panic!("{damage}"),
    )
    .unwrap();
    println!("dead letters: {letters:?}; the tombstone is filtered");
    let expected = [(("keep", "invalid_json"), 5), (("out", "message_too_large"), 1)];
    let got: Vec<_> = letters.iter().map(|((node, code), count)| ((node.as_str(), code.as_str()), *count)).collect();
    assert_eq!(got, expected);
}
