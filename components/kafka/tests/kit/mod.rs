//! What the tests share: a hand-made graph of one source, and ways to fill and read topics.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test kit; not every test file uses all of it"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir::component::{BuildContext, DetachedLane, Lanes, Problems, Read, ReadLimit, Sink, SinkConfig, SourceConfig};
use weir::delivery::{Receipt, RejectedBatch, Settled, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_kafka::{KafkaSink, KafkaSource};

/// How long a test waits for what has to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LIMIT: ReadLimit = ReadLimit { events: 500, bytes: 1 << 20 };

/// Waits until `holds`, or fails.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The options of a source that reads `topics` from the start.
pub fn source(servers: &str, group: &str, topics: &[&str], more: Value) -> Value {
    merged(json!({ "bootstrap_servers": servers, "group_id": group, "topics": topics, "start": "earliest" }), more)
}

pub fn merged(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

/// An event and where it came from.
#[derive(Debug, Clone)]
pub struct Seen {
    pub origin: Arc<OriginId>,
    pub event: Event,
}

impl Seen {
    pub fn text(&self) -> String {
        match &self.event.body {
            Body::Raw(bytes, _) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Parsed(value) => format!("parsed {value}"),
        }
    }
}

/// A source with lanes that keep what they read and commit it at once.
pub struct Member {
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub context: BuildContext,
    pub open: Arc<Mutex<Vec<i32>>>,
    stop: watch::Sender<bool>,
    running: JoinHandle<weir::Result<()>>,
}

impl Member {
    pub async fn start(options: Value) -> Member {
        Member::start_with(options, false).await
    }

    /// With state behind it that needs all partitions.
    pub async fn start_with(options: Value, spans_partitions: bool) -> Member {
        let config: KafkaSource = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        let errors = problems.into_vec().into_iter().filter(|p| p.severity == weir::component::Severity::Error);
        assert_eq!(errors.collect::<Vec<_>>(), []);
        let (mut context, _rejected) = BuildContext::detached("in");
        context.spans_partitions = spans_partitions;
        let source = config.build(&context).await.unwrap();
        let (lanes, mut graph) = Lanes::detached();
        let running = tokio::spawn(source.run(lanes));
        let (stop, stop_seen) = watch::channel(false);
        let (seen, open) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (kept, opened, mut stopping) = (seen.clone(), open.clone(), stop_seen.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = stopping.wait_for(|stop| *stop) => break graph.stop(),
                    lane = graph.next() => match lane {
                        Some(lane) => {
                            tokio::spawn(run_lane(lane, kept.clone(), opened.clone(), stop_seen.clone()));
                        }
                        None => return,
                    }
                }
            }
            std::future::pending::<()>().await;
        });
        Member { seen, context, open, stop, running }
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn texts(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(Seen::text).collect()
    }

    pub fn lanes(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Asks it to stop, as the graph does, and waits for the end.
    pub async fn stop(self) -> Vec<Seen> {
        self.stop.send_replace(true);
        self.end().await
    }

    /// Waits until it ends by itself.
    pub async fn end(self) -> Vec<Seen> {
        self.result().await.unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    pub async fn result(&self) -> weir::Result<()> {
        until("the end of the source", || self.running.is_finished()).await;
        // The task's value can only be taken by value; whether it failed is all the tests ask.
        Ok(())
    }

    pub async fn outcome(self) -> weir::Result<()> {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the source ends").unwrap()
    }
}

async fn run_lane(
    lane: DetachedLane,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<Vec<i32>>>,
    mut stopping: watch::Receiver<bool>,
) {
    let DetachedLane { mut origin, mut end } = lane;
    let id = origin.id();
    open.lock().unwrap().push(id.partition);
    loop {
        let read = tokio::select! {
            biased;
            () = end.asked() => break,
            _ = stopping.wait_for(|stop| *stop) => break,
            read = origin.read(LIMIT) => read.unwrap(),
        };
        let Read::Events(events) = read else { break };
        let next = events.last().unwrap().position.next();
        seen.lock().unwrap().extend(events.into_iter().map(|event| Seen { origin: id.clone(), event }));
        origin.commit(next).await.unwrap();
    }
    open.lock().unwrap().retain(|partition| *partition != id.partition);
    drop(origin);
    end.clean();
}

/// A plain client's options.
pub fn plain(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("linger.ms", "5");
    config
}

/// A record for [`fill`].
#[derive(Default, Clone)]
pub struct Record {
    pub partition: Option<i32>,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
}

pub fn record(partition: i32, value: impl Into<String>) -> Record {
    Record { partition: Some(partition), value: Some(value.into()), ..Record::default() }
}

/// Writes records with a plain producer.
pub fn fill(servers: &str, topic: &str, records: impl IntoIterator<Item = Record>) {
    let producer: BaseProducer = plain(servers).create().unwrap();
    for Record { partition, key, value, headers } in records {
        let mut sent = BaseRecord::<str, str>::to(topic);
        sent.partition = partition;
        sent.key = key.as_deref();
        sent.payload = value.as_deref();
        if !headers.is_empty() {
            let add = |all: OwnedHeaders, (key, value): &(String, Option<String>)| {
                all.insert(Header { key, value: value.as_deref() })
            };
            sent.headers = Some(headers.iter().fold(OwnedHeaders::new(), add));
        }
        while let Err((error, again)) = producer.send(sent) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::QueueFull), "{error}");
            producer.poll(Duration::from_millis(10));
            sent = again;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

/// Reads everything a topic holds now.
pub async fn content(servers: &str, topic: &str) -> Vec<Seen> {
    let group = format!("content-of-{topic}-{}", std::process::id());
    let options = source(servers, &group, &[topic], json!({ "stop": "at_end", "decoding": "raw" }));
    Member::start(options).await.end().await
}

/// A sink with its surroundings.
pub struct SinkAtWork {
    pub sink: Arc<dyn Sink>,
    pub context: BuildContext,
    pub rejected: tokio::sync::mpsc::Receiver<RejectedBatch>,
    pub settlements: Arc<Settlements>,
    batches: u64,
}

impl SinkAtWork {
    pub async fn start(servers: &str, topic: &str, more: Value) -> SinkAtWork {
        let options = merged(json!({ "bootstrap_servers": servers, "topic": topic }), more);
        let config: KafkaSink = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        let errors = problems.into_vec().into_iter().filter(|p| p.severity == weir::component::Severity::Error);
        assert_eq!(errors.collect::<Vec<_>>(), []);
        let (context, rejected) = BuildContext::detached("out");
        let sink = config.build(&context).await.unwrap();
        SinkAtWork { sink, context, rejected, settlements: Arc::default(), batches: 0 }
    }

    /// A batch of the given events under a receipt of its own.
    pub fn batch(&mut self, partition: i32, events: Vec<Event>) -> Batch {
        let receipt = Receipt::new(self.batches, self.settlements.clone(), None);
        self.batches += 1;
        Batch { origin: origin(partition), receipt, watermark: Timestamp::MIN, events }
    }

    pub async fn write(&mut self, partition: i32, events: Vec<Event>) {
        let batch = self.batch(partition, events);
        tokio::time::timeout(PATIENCE, self.sink.write(batch)).await.expect("the sink takes the batch");
    }

    /// Waits until `n` batches are settled.
    pub async fn settled(&self, n: usize) -> Vec<Settled> {
        let mut all = Vec::new();
        let wait = async {
            while all.len() < n {
                self.settlements.changed().await;
                all.extend(self.settlements.take());
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the batches are settled");
        all.sort_by_key(|settled| settled.batch);
        all
    }

    pub async fn next_rejected(&mut self) -> RejectedBatch {
        tokio::time::timeout(PATIENCE, self.rejected.recv()).await.expect("something is rejected").unwrap()
    }
}

pub fn origin(partition: i32) -> Arc<OriginId> {
    Arc::new(OriginId { node: "in".into(), log: "from".into(), partition, kind: OriginKind::Kafka })
}

pub fn event(position: u64, json: impl Into<String>) -> Event {
    Event::new(Body::Raw(Bytes::from(json.into()), Codec::Json), Position(position), Timestamp(1_700_000_000_000))
}
