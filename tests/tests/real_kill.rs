//! Kills weir at random moments: nothing is lost, order holds, duplicates stay within what was not committed.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use rand::RngExt;
use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::output::{Crash, Replay, check_complete, check_replays};
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;
use weir_tests::{graphs, records};

const PARTITIONS: i32 = 10;

#[test]
fn kills_lose_nothing_and_repeat_only_what_was_not_committed() {
    let mut campaign = Campaign::of("kill");
    let (each, kills) = (campaign.count(200_000), campaign.count(50));
    let seconds = campaign.count(120);
    let total = each * PARTITIONS as u64;
    let (input, output) = (Topic::create("kill-in", PARTITIONS, &[]), Topic::create("kill-out", PARTITIONS, &[]));
    let group = Group::of(&input);
    let home = Home::new(&graphs::filter(&input, &output, "group_instance_id: one"));

    let mut moments: Vec<u64> = (0..kills).map(|_| campaign.random.random_range(total / 50..total)).collect();
    moments.sort_unstable();
    let began = Instant::now();
    let feed = Feed::start(&input, each, Some(total / seconds));
    let mut weir = home.start("weir", &[]);
    let mut crashes = Vec::new();
    for moment in moments {
        until("the feed to go on", Duration::from_secs(60), || feed.delivered() >= moment);
        weir.kill();
        crashes.push(Crash { committed: input.committed(&group), output_end: output.ends() });
        weir = home.start("weir", &[]);
    }
    assert_eq!(feed.finish(), each);
    let fed = began.elapsed();
    assert_eq!(input.ends(), vec![each; PARTITIONS as usize], "offsets are numbers");
    until("everything to be committed", Duration::from_secs(180), || input.is_read_by(&group));
    let stopped = weir.stop(Duration::from_secs(20));
    assert!(fed >= Duration::from_secs(seconds), "the feed took {fed:?}");

    let mut replays = vec![Replay::default(); crashes.len()];
    let mut duplicates = 0;
    for (partition, seqs) in (0..).zip(output.seqs()) {
        duplicates += check_complete(partition, &seqs, each).unwrap();
        check_replays(partition, &seqs, &crashes, &mut replays).unwrap();
    }
    for (number, Replay { duplicates, bound }) in (1..).zip(&replays) {
        println!("kill {number}: {duplicates} duplicates, bound {bound}");
    }
    assert_eq!(duplicates, replays.iter().map(|replay| replay.duplicates).sum::<u64>());
    let matches: u64 = (0..PARTITIONS).map(|partition| records::matches_below(partition, each)).sum();
    println!(
        "kill: {total} records in {:.1} s, {kills} kills, {matches} matches all there and in order, {duplicates} \
         duplicates, bound {}, stopped in {stopped:?}",
        began.elapsed().as_secs_f64(),
        replays.iter().map(|replay| replay.bound).sum::<u64>()
    );
}
