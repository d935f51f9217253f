//! SIGTERM under load: it ends in time and with 0, and whoever starts next goes on without a duplicate.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use rand::RngExt;
use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::graphs;
use weir_tests::output::check_complete;
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;

const PARTITIONS: i32 = 10;
/// The graph's `drain`.
const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn a_stop_under_load_is_clean_and_the_next_start_repeats_nothing() {
    let mut campaign = Campaign::of("stop");
    let (each, stops) = (campaign.count(200_000), campaign.count(50));
    let (input, output) = (Topic::create("stop-in", PARTITIONS, &[]), Topic::create("stop-out", PARTITIONS, &[]));
    let group = Group::of(&input);
    let home = Home::new(&graphs::filter(&input, &output, ""));
    let matches = each * PARTITIONS as u64 / 5;

    let mut moments: Vec<u64> = (0..stops).map(|_| campaign.random.random_range(0..matches * 9 / 10)).collect();
    moments.sort_unstable();
    // Half of it waits already, so that weir runs at full speed; the rest comes while it does.
    let began = Instant::now();
    let feed = Feed::start(&input, each, None);
    until("half of the input", Duration::from_secs(120), || feed.delivered() >= each * PARTITIONS as u64 / 2);
    let mut weir = home.start("weir", &[]);
    let mut slowest = Duration::ZERO;
    for moment in moments {
        until("the output to grow", Duration::from_secs(60), || output.len() >= moment);
        weir.until_ready(Duration::from_secs(10));
        slowest = slowest.max(weir.stop(LIMIT));
        weir = home.start("weir", &[]);
    }
    assert_eq!(feed.finish(), each);
    until("everything to be committed", Duration::from_secs(180), || input.is_read_by(&group));
    weir.assert_balance(&["in", "keep", "out"]);
    slowest = slowest.max(weir.stop(LIMIT));
    let duplicates: u64 =
        (0..).zip(output.seqs()).map(|(partition, seqs)| check_complete(partition, &seqs, each).unwrap()).sum();
    println!(
        "stop: {stops} stops by SIGTERM under load, the slowest took {slowest:?} of {LIMIT:?}; {matches} matches all \
         there and in order, {duplicates} duplicates, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(duplicates, 0, "a clean stop commits everything it has delivered");
}
