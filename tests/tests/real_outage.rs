//! The broker goes away under load: memory stays flat, `/ready` says so, and it catches up by itself.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use weir_tests::broker::OwnBroker;
use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::graphs;
use weir_tests::output::check_complete;
use weir_tests::process::{Home, Weir};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{moment, until};

const PARTITIONS: i32 = 10;
const MIB: u64 = 1 << 20;

/// The largest resident memory seen while `goes_on`.
fn largest(weir: &mut Weir, mut goes_on: impl FnMut(&Weir) -> bool) -> u64 {
    let mut largest = 0;
    loop {
        weir.assert_running();
        largest = largest.max(weir.rss());
        if !goes_on(weir) {
            return largest;
        }
        moment();
    }
}

#[test]
fn an_outage_of_the_broker_costs_neither_records_nor_memory() {
    let campaign = Campaign::of("outage");
    weir_tests::broker::servers();
    let Some(broker) = OwnBroker::from_env() else {
        println!(
            "outage: DID NOT RUN: it kills the broker, and the one at KAFKA_BOOTSTRAP_SERVERS was given to us; \
                  with KAFKA_SERVICE_DIR (see `tests/services/kafka env`) it runs"
        );
        return;
    };
    let outage = campaign.span(Duration::from_secs(60), Duration::from_secs(10));
    let (input, output) = (Topic::create("outage-in", PARTITIONS, &[]), Topic::create("outage-out", PARTITIONS, &[]));
    let group = Group::named(&input.name);
    let home = Home::new(&graphs::filter(&input, &output, ""));
    let rate = 20_000;
    let feed = Feed::start(&input, u64::MAX, Some(rate));
    let mut weir = home.start("weir", &[]);
    let began = Instant::now();
    let warm = largest(&mut weir, |_| output.len() < rate);
    assert_eq!(weir.get("/ready").0, 200);

    let gone = broker.kill();
    let away = Instant::now();
    let mut noticed = None;
    let during = largest(&mut weir, |weir| {
        let (status, why) = weir.get("/ready");
        if status != 200 && noticed.is_none() {
            println!("outage: after {:?} /ready is {status}: {}", away.elapsed(), why.trim().replace('\n', "; "));
            noticed = Some(status);
        }
        away.elapsed() < outage
    });
    assert_eq!(noticed, Some(503), "/ready during the outage");
    assert_eq!(weir.get("/ready").0, 503, "/ready at its end");
    assert_eq!(weir.get("/health").0, 200, "it lives");

    gone.end();
    let back = Instant::now();
    weir.until_ready(Duration::from_secs(60));
    let ready = back.elapsed();
    let each = feed.stop();
    until("everything to be committed", Duration::from_secs(120), || input.is_read_by(&group));
    let caught_up = back.elapsed();
    let after = weir.rss();
    weir.assert_balance(&["in", "keep", "out"]);
    weir.stop(Duration::from_secs(20));
    let duplicates: u64 =
        (0..).zip(output.seqs()).map(|(partition, seqs)| check_complete(partition, &seqs, each).unwrap()).sum();
    println!(
        "outage: {outage:?} without broker, RSS {} MiB before, {} MiB at most during, {} MiB after; ready {ready:?} and \
         caught up {caught_up:?} after its return; {} records, all matches there and in order, {duplicates} duplicates, \
         {:.1} s",
        warm / MIB,
        during / MIB,
        after / MIB,
        each * PARTITIONS as u64,
        began.elapsed().as_secs_f64()
    );
    assert!(during <= warm + 30 * MIB, "memory grew from {warm} to {during} bytes");
}
