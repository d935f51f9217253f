//! `start: latest` in a group that never committed: what comes after the assignment is read, whatever happens.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use rand::RngExt;
use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::graphs;
use weir_tests::process::Home;
use weir_tests::records::{is_match, matches_below};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, moment, until};

const PARTITIONS: i32 = 10;
const RATE: u64 = 2000;

#[test]
fn a_kill_before_the_first_delivery_skips_nothing_that_came_after_the_assignment() {
    let mut campaign = Campaign::of("start");
    let rounds = campaign.count(20);
    let began = Instant::now();
    let mut saved = 0;
    for _ in 0..rounds {
        saved += round(Duration::from_millis(campaign.random.random_range(0..300)));
    }
    println!(
        "start: {rounds} kills before the first delivery of a group that begins at the end, {saved} records came between \
         assignment and restart, none was skipped, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// Kills weir so long after its first assignment. Gives how many matches a start at the end would have skipped.
fn round(delay: Duration) -> u64 {
    let (input, output) = (Topic::create("start-in", PARTITIONS, &[]), Topic::create("start-out", PARTITIONS, &[]));
    let group = Group::of(&input);
    let home = Home::new(&graphs::filter(&input, &output, "group_instance_id: one"));
    let feed = Feed::start(&input, u64::MAX, Some(RATE));
    until("records from before", PATIENCE, || input.len() > RATE / 10);
    let before = input.ends();

    // It reads, and keeps what it reads to itself.
    let weir = home.start("weir", &["sources.in.start=latest", "sinks.out.linger=60s"]);
    until("the assignment", PATIENCE, || weir.metric("weir_lanes") == Some(PARTITIONS as u64));
    let assigned = input.ends();
    let killed = Instant::now() + delay;
    while Instant::now() < killed {
        moment();
    }
    weir.kill();
    assert!(output.is_empty(), "killed before its first delivery");
    let more = input.len() + RATE / 10;
    until("records while it is down", PATIENCE, || input.len() >= more);
    let restarted = input.ends();

    let weir = home.start("weir", &["sources.in.start=latest"]);
    until("the restart to read", PATIENCE, || !output.is_empty());
    let each = feed.stop();
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    weir.stop(Duration::from_secs(20));
    let mut saved = 0;
    for (partition, seqs) in (0..).zip(output.seqs()) {
        let place = partition as usize;
        let first = *seqs.first().unwrap();
        assert!(first >= before[place], "partition {partition} begins at {first}, before the start");
        let expected: Vec<u64> = (first..each).filter(|seq| is_match(partition, *seq)).collect();
        assert_eq!(seqs, expected, "partition {partition}: all from the first on, in order, once");
        let skipped = matches_below(partition, first).saturating_sub(matches_below(partition, assigned[place]));
        assert_eq!(skipped, 0, "partition {partition} begins at {first}, but was assigned at {}", assigned[place]);
        saved += matches_below(partition, restarted[place]) - matches_below(partition, assigned[place]);
    }
    saved
}
