//! Members of a group come and go, by SIGTERM and by SIGKILL: nothing is lost, and order holds in every partition.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use weir_tests::campaign::Campaign;
use weir_tests::feed::Feed;
use weir_tests::graphs;
use weir_tests::output::{Crash, Replay, check_complete, check_replays};
use weir_tests::process::{Home, Weir};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::until;

const PARTITIONS: i32 = 10;
const SETTLED: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(20);

fn lanes(weir: &Weir) -> u64 {
    weir.metric("weir_lanes").unwrap_or(0)
}

fn until_shared(what: &str, members: &[&Weir]) {
    until(what, SETTLED, || {
        let lanes: Vec<u64> = members.iter().map(|member| lanes(member)).collect();
        lanes.iter().sum::<u64>() == PARTITIONS as u64 && !lanes.contains(&0)
    });
}

#[test]
fn members_that_join_leave_and_die_lose_nothing_and_keep_the_order() {
    let campaign = Campaign::of("rebalance");
    let (each, rate) = (campaign.count(1_000_000), 10_000);
    let (input, output) = (Topic::create("group-in", PARTITIONS, &[]), Topic::create("group-out", PARTITIONS, &[]));
    let group = Group::of(&input);
    let home = Home::new(&graphs::filter(&input, &output, ""));
    let began = Instant::now();
    let feed = Feed::start(&input, each, Some(rate));
    let goes_on = |what: &str| {
        let goal = output.len() + rate / 10;
        until(what, SETTLED, || output.len() >= goal);
    };

    // By partition: the deaths of members that had it. A member that leaves in order commits what it has produced.
    let mut deaths = vec![Vec::new(); PARTITIONS as usize];
    let rounds = campaign.count(10);
    for round in 0..rounds {
        let one = home.start("one", &[]);
        until_shared("the first has all", &[&one]);
        goes_on("one at work");
        let two = home.start("two", &["sources.in.client_id=two"]);
        until_shared("two share", &[&one, &two]);
        goes_on("two at work");
        let three = home.start("three", &[]);
        until_shared("three share", &[&one, &two, &three]);
        goes_on("three at work");
        one.stop(LIMIT);
        until_shared("two share again", &[&two, &three]);
        goes_on("two at work again");
        let had = group.partitions_of("two");
        assert_eq!(had.len() as u64, lanes(&two), "the group agrees with the member");
        two.kill();
        let death = Crash { committed: input.committed(&group), output_end: output.ends() };
        had.into_iter().for_each(|partition| deaths[partition as usize].push(death.clone()));
        until_shared("the last takes over from the dead", &[&three]);
        goes_on("one at work again");
        let four = home.start("four", &[]);
        until_shared("a newcomer shares", &[&three, &four]);
        goes_on("the newcomer at work");
        three.stop(LIMIT);
        until_shared("the newcomer has all", &[&four]);
        goes_on("the newcomer alone");
        four.stop(LIMIT);
        println!("rebalance: round {} is over after {:.1} s", round + 1, began.elapsed().as_secs_f64());
    }
    let each = feed.stop();
    let last = home.start("last", &[]);
    until("everything to be committed", Duration::from_secs(120), || input.is_read_by(&group));
    last.stop(LIMIT);
    let (mut all, mut replays) = (0, Replay::default());
    for ((partition, seqs), deaths) in (0..).zip(output.seqs()).zip(&deaths) {
        all += check_complete(partition, &seqs, each).unwrap();
        let mut costs = vec![Replay::default(); deaths.len()];
        check_replays(partition, &seqs, deaths, &mut costs).unwrap();
        for cost in costs {
            replays.duplicates += cost.duplicates;
            replays.bound += cost.bound;
        }
    }
    let Replay { duplicates, bound } = replays;
    assert_eq!(all, duplicates, "only a death explains duplicates");
    println!(
        "rebalance: {} records, {rounds} rounds with a death in each, all there and in order, {duplicates} duplicates, \
         bound {bound}, {:.1} s",
        each * PARTITIONS as u64,
        began.elapsed().as_secs_f64()
    );
}
