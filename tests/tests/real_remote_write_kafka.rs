//! A real Prometheus sends all it scrapes to weir, which writes it to Kafka by series. Weir is killed again and again, and the
//! broker is away for a while: what the topic holds is what Prometheus says it has.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use weir_tests::broker::OwnBroker;
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::prometheus::{JOBS, Prometheus};
use weir_tests::push::{Sender, free_address};
use weir_tests::samples::{Output, assert_same};
use weir_tests::topic::Topic;
use weir_tests::wait::{found, until};

const LIMIT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

/// Points are keyed by their series, as nobody says otherwise.
fn into_kafka(topic: &Topic, codec: &str) -> Home {
    let Topic { name, servers, .. } = topic;
    Home::new(&format!(
        r#"name: into-kafka
sources:
  in: {{type: prometheus_remote_write, listen: "127.0.0.1:0"}}
sinks:
  out:
    type: kafka
    inputs: [in]
    bootstrap_servers: "{servers}"
    topic: {name}
    encoding: {codec}
"#
    ))
}

/// Metadata, which 1.0 sends beside the points, is none of them.
fn out_of_kafka(topic: &Topic, codec: &str) -> Home {
    let Topic { name, servers, .. } = topic;
    Home::new(&format!(
        r#"name: out-of-kafka
sources:
  in:
    type: kafka
    bootstrap_servers: "{servers}"
    topics: [{name}]
    group_id: {name}
    start: earliest
    session_timeout: 6s
    decoding: {codec}
transforms:
  points: {{type: filter, inputs: [in], condition: "exists(.value)"}}
sinks:
  out: {{type: file, inputs: [points], path: out.ndjson, encoding: points_json}}
"#
    ))
}

/// What is done to the parts at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    BrokerGoes,
    BrokerIsBack,
}

/// So many kills, each in its part of the time, and one of them in the middle of the broker's outage.
fn faults(campaign: &mut Campaign, span: Duration, kills: u32, outage: Duration) -> Vec<(Duration, Fault)> {
    let part = span / kills;
    let kill = |number: u32| (part * number + part.mul_f64(campaign.random.random_range(0.0..1.0)), Fault::Kill);
    let mut all: Vec<(Duration, Fault)> = (0..kills).map(kill).collect();
    let goes = all[kills as usize / 2].0.saturating_sub(outage / 2);
    all.extend([(goes, Fault::BrokerGoes), (goes + outage, Fault::BrokerIsBack)]);
    all.sort();
    all
}

/// The weir under test.
struct Receiver {
    home: Home,
    address: SocketAddr,
    weir: Option<Weir>,
}

impl Receiver {
    fn start(&mut self) {
        self.weir = Some(self.home.start("weir", &[&format!("sources.in.listen={}", self.address)]));
        found("the source to listen", LIMIT, || Sender::connect(self.address).ok());
    }

    /// Kills it; for some time nobody is there.
    fn kill(&mut self, away: Duration) {
        self.weir.take().unwrap().kill();
        let begun = Instant::now();
        until("the moment of the start", LIMIT, || begun.elapsed() >= away);
        self.start();
    }
}

fn campaign(version: &'static str, codec: &str) {
    let mut campaign = Campaign::of(&format!("prometheus {version} to kafka"));
    let span = campaign.span(Duration::from_secs(600), Duration::from_secs(40));
    let outage = campaign.span(Duration::from_secs(60), Duration::from_secs(8));
    let kills = if campaign.is_full() { 10 } else { 4 };
    let faults = faults(&mut campaign, span, kills, outage);

    let broker = OwnBroker::start();
    let topic = Topic::create_at(&broker.servers, "remote-write", PARTITIONS, &[]);
    let mut receiver = Receiver { home: into_kafka(&topic, codec), address: free_address(), weir: None };
    receiver.start();
    let reader_home = out_of_kafka(&topic, codec);
    let reader = reader_home.start("reader", &[]);
    let prometheus = Prometheus::start(version, &format!("http://{}/api/v1/write", receiver.address));
    prometheus.show(Some("weir_test_passing 3\n"));
    let mut output = Output::of(&reader_home.path("out.ndjson"));
    until("the first points", LIMIT, || {
        output.read_on();
        output.reaches(&JOBS) > 0
    });

    let begun = Instant::now();
    for (at, fault) in faults {
        until("the moment of a fault", span, || begun.elapsed() >= at);
        match fault {
            Fault::Kill => receiver.kill(Duration::from_millis(campaign.random.random_range(0..3000))),
            Fault::BrokerGoes => broker.kill(),
            Fault::BrokerIsBack => {
                broker.restart();
                // Its series ends, and Prometheus says so.
                prometheus.show(None);
            }
        }
        println!("prometheus {version} to kafka: {fault:?} after {:?}", begun.elapsed());
    }
    until("the end of the time", span, || begun.elapsed() >= span);

    output.read_on();
    let end = output.reaches(&JOBS) + 3000;
    // Prometheus sends in the order of its log: behind what is later all of it is on its way.
    until("the points of the end", LIMIT, || {
        output.read_on();
        output.reaches(&JOBS) >= end + 2000
    });
    prometheus.stop();
    let expected = prometheus.samples(end);
    until("nothing to be missing", LIMIT, || {
        output.read_on();
        expected.missing_in(&output.samples, end).next().is_none()
    });
    receiver.weir.take().unwrap().stop(LIMIT);
    let all: u64 = topic.len();
    assert_same(&output.samples, &expected, end);
    assert!(expected.len() > 10_000, "Prometheus has {} samples alone", expected.len());
    assert!(output.stale >= 1, "no series has ended");
    println!(
        "prometheus {version} to kafka by {codec}: {:?}, {kills} kills, broker away for {outage:?}; {} samples up to the end, each \
         in the topic and nothing else; {} points read back of {all} records, {} ends of series",
        begun.elapsed(),
        expected.len(),
        output.lines,
        output.stale
    );
    reader.stop(LIMIT);
}

#[test]
fn what_prometheus_2_sends_is_in_the_topic_whatever_happens_to_weir_and_to_the_broker() {
    campaign("2", "remote_write");
}

#[test]
#[ignore = "builds a Prometheus 3 by Go, once, which takes minutes"]
fn what_prometheus_3_sends_by_2_0_is_in_the_topic_whatever_happens_to_weir_and_to_the_broker() {
    campaign("3", "points_json");
}
