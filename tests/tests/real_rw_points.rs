//! Every kind of point goes from a sender of remote write over a real Kafka to a receiver of remote write: what arrives is
//! what was sent, bit for bit, by every codec that can say it.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use weir_tests::broker::servers;
use weir_tests::process::Home;
use weir_tests::push::{Sender, free_address};
use weir_tests::remote_write::{Message, V1, V2, post, snappy};
use weir_tests::rw_facts::facts;
use weir_tests::rw_kinds::{request_of_1, request_of_2};
use weir_tests::rw_recorder::Recorder;
use weir_tests::topic::Topic;
use weir_tests::wait::{found, moment};

const LIMIT: Duration = Duration::from_secs(60);

/// How records are written to the topics: as they came, as a request anew, and as JSON.
const ENCODINGS: [&str; 3] = ["remote_write", "{codec: remote_write, version: 2, compression: snappy}", "points_json"];

fn graph(version: u8, topics: &[Topic], recorder: &Recorder) -> String {
    let (servers, to) = (servers(), recorder.address);
    let mut sources = "  in: {type: prometheus_remote_write, listen: \"127.0.0.1:0\"}\n".to_owned();
    let mut sinks = String::new();
    for (at, (encoding, topic)) in ENCODINGS.into_iter().zip(topics).enumerate() {
        let decoding = if encoding.contains("remote_write") { "remote_write" } else { encoding };
        let topic = &topic.name;
        let kafka = format!("type: kafka, bootstrap_servers: \"{servers}\"");
        writeln!(
            sources,
            "  from_{at}: {{{kafka}, topics: [{topic}], group_id: {topic}, start: earliest, decoding: {decoding}}}"
        )
        .unwrap();
        writeln!(
            sinks,
            "  to_{at}: {{{kafka}, inputs: [in], topic: {topic}, encoding: {encoding}}}\n  \
             back_{at}: {{type: prometheus_remote_write, inputs: [from_{at}], endpoint: \"http://{to}/{at}\", version: {version}, batch: {{timeout_secs: 0.1}}}}"
        )
        .unwrap();
    }
    format!("name: every-kind\nsources:\n{sources}sinks:\n{sinks}")
}

/// What has arrived at a path, once it is so much; what is missing after a while is told by who compares.
fn arrived(recorder: &Recorder, path: &str, parts: usize) -> BTreeSet<String> {
    let begun = Instant::now();
    loop {
        let arrived = recorder.facts(path);
        if arrived.len() >= parts || begun.elapsed() > LIMIT {
            return arrived;
        }
        moment();
    }
}

/// Sends a request of this version, and compares what arrives by each codec in the same version.
fn passes(version: u8, content_type: &str, request: &Message) {
    let recorder = Recorder::start();
    let topics: Vec<Topic> = ENCODINGS.iter().map(|_| Topic::create("rw-points", 2, &[])).collect();
    let home = Home::new(&graph(version, &topics, &recorder));
    let address = free_address();
    let weir = home.start("weir", &[&format!("sources.in.listen={address}")]);
    let mut sender = found("the source to listen", LIMIT, || Sender::connect(address).ok());
    let answer = post(&mut sender, content_type, &snappy(&request.0)).unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    let sent = facts(&request.0);
    for (at, encoding) in ENCODINGS.into_iter().enumerate() {
        let arrived = arrived(&recorder, &format!("/{at}"), sent.len());
        let (missing, more): (Vec<_>, Vec<_>) =
            (sent.difference(&arrived).collect(), arrived.difference(&sent).collect());
        assert!(missing.is_empty() && more.is_empty(), "{encoding}: missing {missing:#?}, instead {more:#?}");
        println!(
            "remote write {version}.0 over kafka by {encoding}: {} parts, each the same bit for bit",
            arrived.len()
        );
    }
    weir.stop(LIMIT);
}

#[test]
fn every_kind_of_point_of_1_0_comes_through_kafka_bit_for_bit() {
    passes(1, V1, &request_of_1());
}

#[test]
fn every_kind_of_point_of_2_0_comes_through_kafka_bit_for_bit() {
    passes(2, V2, &request_of_2());
}
