//! Millions of series, each of which comes once, against the limits: all are answered, memory stays flat, and nobody else is
//! kept waiting.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::push::{Sender, free_address};
use weir_tests::remote_write::{Message, V1, labels, post, request, sample, series, snappy};
use weir_tests::wait::{Over, PATIENCE, beside, found, moment, until};

const NOWHERE: &str = r#"name: series
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0", max_size: 256MiB}
sinks:
  out: {type: blackhole, inputs: [in]}
"#;

/// What has no room goes where all else goes.
const ALERTS: &str = r#"name: series
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0", max_size: 256MiB}
transforms:
  firing: {type: alert_firing, inputs: [in], emit: changes, max_alerts: 20000, resolve_after: 1h}
sinks:
  out: {type: blackhole, inputs: [firing]}
  no_room: {type: blackhole, inputs: [firing.errors]}
"#;

const BATCH: u64 = 2000;
const MIB: u64 = 1 << 20;
/// What batches under way, and what the allocator keeps, may take.
const GROWTH: u64 = 96 * MIB;

/// One of many alerts, each of another machine.
fn alert(number: u64, millis: i64) -> Message {
    let instance = format!("10.{}.{}.{}:9100", number >> 16, number >> 8 & 255, number & 255);
    let all = [("__name__", "ALERTS"), ("alertname", "Down"), ("alertstate", "firing"), ("instance", &*instance)];
    labels(Message::new(), &all).bytes(2, sample(1.0_f64.to_bits(), millis))
}

/// Sends so many series, and again what was not taken for want of room; says after each request how many they were.
fn send(address: SocketAddr, count: u64, mut say: impl FnMut(u64)) {
    let mut sender = Sender::connect(address).unwrap();
    let mut snappy = snap::raw::Encoder::new();
    for first in (0..count).step_by(BATCH as usize) {
        let all = (first..(first + BATCH).min(count)).map(|number| alert(number, 1_700_000_000_000));
        let body = snappy.compress_vec(&request(all).0).unwrap();
        until("the request to be taken", PATIENCE, || match post(&mut sender, V1, &body) {
            Ok(answer) => {
                assert!(matches!(answer.status, 204 | 503), "{answer:?}");
                answer.status == 204
            }
            // Who is told to come back may have to come anew.
            Err(_) => {
                sender = Sender::connect(address).unwrap();
                false
            }
        });
        say(first + BATCH);
    }
}

/// Sends a small request again and again; gives the longest time it had to wait.
fn watch(address: SocketAddr, over: &Over) -> Duration {
    let mut longest = Duration::ZERO;
    let body = snappy(&request([series(&[("__name__", "up")], &[(1.0, 1_700_000_000_000)])]).0);
    while !over.is() {
        let begun = Instant::now();
        let answer = post(&mut Sender::connect(address).unwrap(), V1, &body).unwrap();
        // When the log is full that is so for everybody.
        assert!(matches!(answer.status, 204 | 503), "{answer:?}");
        longest = longest.max(begun.elapsed());
        moment();
    }
    longest
}

fn floods(name: &str, graph: &str) -> (Weir, Home) {
    let count = Campaign::of(name).count(10_000_000);
    let home = Home::new(graph);
    let address = free_address();
    let weir = home.start("weir", &[&format!("sources.in.listen={address}"), "memory=64MiB"]);
    found("the source to listen", PATIENCE, || Sender::connect(address).ok());
    let begun = Instant::now();
    let mut memory = Vec::new();
    let ((), watched) = beside(
        1,
        |_, over| watch(address, over),
        || {
            send(address, count, |sent| {
                if sent >= count / 10 * (memory.len() as u64 + 1) {
                    memory.push(weir.rss() / MIB);
                }
            });
        },
    );
    let longest = watched[0];
    until("everything to be done with", 4 * PATIENCE, || {
        weir.events("out", "received") + weir.events("no_room", "received") >= count
    });
    let peak = weir.peak_rss().unwrap() / MIB;
    println!(
        "{name}: {count} series in {:.1} s, MiB resident at each tenth {memory:?}, peak {peak}; others waited {longest:?} at most",
        begun.elapsed().as_secs_f64()
    );
    assert!(peak * MIB <= memory[0] * MIB + GROWTH, "memory grew from {} to {peak} MiB", memory[0]);
    assert!(longest < Duration::from_secs(10), "others waited {longest:?}");
    (weir, home)
}

#[test]
fn millions_of_series_cost_no_memory_where_nobody_keeps_them() {
    let (weir, _home) = floods("series to nowhere", NOWHERE);
    weir.stop(PATIENCE);
}

#[test]
fn millions_of_firing_alerts_cost_as_much_memory_as_there_may_be_of_them() {
    let (weir, _home) = floods("series that fire", ALERTS);
    assert_eq!(weir.events("out", "received"), 20_000, "those that have room");
    weir.stop(PATIENCE);
}
