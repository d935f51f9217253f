//! Brokers go away under load, all of them or those of the sink alone: memory stays flat, `/ready` says so, and weir
//! catches up by itself.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use weir_tests::broker::{OwnBroker, servers};
use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::graphs;
use weir_tests::output::{Crash, Replay, check_complete, check_replays};
use weir_tests::process::{Home, Weir};
use weir_tests::records::ONE_IN;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{moment, until};

const PARTITIONS: i32 = 10;
const RATE: u64 = 20_000;
const MIB: u64 = 1 << 20;
/// With the small budgets the test gives: those are filled by an outage of the sink.
const GROWTH: u64 = 30 * MIB;

/// The largest resident memory seen while `goes_on`.
fn largest(weir: &mut Weir, limit: Duration, mut goes_on: impl FnMut(&Weir) -> bool) -> u64 {
    let (began, mut largest) = (Instant::now(), 0);
    loop {
        weir.assert_running();
        largest = largest.max(weir.rss());
        if !goes_on(weir) {
            return largest;
        }
        assert!(began.elapsed() < limit, "it goes on for longer than {limit:?}");
        moment();
    }
}

#[test]
fn an_outage_of_all_brokers_costs_neither_records_nor_memory() {
    let broker = OwnBroker::start();
    outage("outage of all", &broker.servers, &broker);
}

#[test]
fn an_outage_of_the_sink_s_brokers_costs_neither_records_nor_memory() {
    outage("outage of the sink", &servers(), &OwnBroker::start());
}

/// Reads from `input_servers`, writes to `broker`, and kills that one.
fn outage(name: &str, input_servers: &str, broker: &OwnBroker) {
    let campaign = Campaign::of(name);
    let outage = campaign.span(Duration::from_secs(60), Duration::from_secs(10));
    let input = Topic::create_at(input_servers, "outage-in", PARTITIONS, &[]);
    let output = Topic::create_at(&broker.servers, "outage-out", PARTITIONS, &[]);
    let group = Group::of(&input);
    let home = Home::new(&graphs::filter(&input, &output, ""));
    let feed = Feed::start(&input, u64::MAX, Some(RATE));
    let began = Instant::now();
    // As large as the one the outage leaves: reading it at full speed takes the memory it takes, outage or not.
    let backlog = RATE * outage.as_secs();
    until("a backlog", 2 * outage, || feed.delivered() >= backlog);
    let mut weir = home.start("weir", &["memory=16MiB", "sinks.out.buffer=4MiB"]);
    let busy = largest(&mut weir, Duration::from_secs(60), |_| output.len() < (backlog + RATE * 10) / ONE_IN);
    assert_eq!(weir.get("/ready").0, 200);

    // Read before, as nobody answers afterwards: what is committed or written in between makes the bound larger.
    let crash = Crash { committed: input.committed(&group), output_end: output.ends() };
    let before = weir.rss();
    broker.kill();
    let away = Instant::now();
    let mut noticed = None;
    let during = largest(&mut weir, 2 * outage, |weir| {
        let (status, why) = weir.get("/ready");
        if noticed.is_none() && status != 200 {
            println!("{name}: after {:?} /ready is {status}: {}", away.elapsed(), why.trim().replace('\n', "; "));
            noticed = Some(status);
        }
        away.elapsed() < outage
    });
    assert_eq!(noticed, Some(503), "/ready during the outage");
    let (status, why) = weir.get("/ready");
    assert!(status == 503 && why.contains("\nout: "), "/ready at its end: {status} {why}");
    assert_eq!(weir.get("/health").0, 200, "it lives");

    broker.restart();
    let back = Instant::now();
    weir.until_ready(Duration::from_secs(60));
    let ready = back.elapsed();
    let each = feed.stop();
    let after = largest(&mut weir, Duration::from_secs(120), |_| !input.is_read_by(&group));
    let caught_up = back.elapsed();
    weir.assert_balance(&["in", "keep", "out"]);
    weir.stop(Duration::from_secs(20));
    let mut replay = [Replay::default()];
    for (partition, seqs) in (0..).zip(output.seqs()) {
        check_complete(partition, &seqs, each).unwrap();
        check_replays(partition, &seqs, std::slice::from_ref(&crash), &mut replay).unwrap();
    }
    let [Replay { duplicates, bound }] = replay;
    println!(
        "{name}: {outage:?} without, RSS {} MiB before and at most {} MiB during; {} MiB while catching up before, {} MiB \
         after; ready {ready:?} and caught up {caught_up:?} after its return; {} records, all matches there and in order, {duplicates} duplicates, \
         bound {bound}, {:.1} s",
        before / MIB,
        during / MIB,
        busy / MIB,
        after / MIB,
        each * PARTITIONS as u64,
        began.elapsed().as_secs_f64()
    );
    assert!(during <= before + GROWTH, "memory grew from {before} to {during} bytes while it waited");
}
