//! The sink `kafka`: its options, and how batches are handed to librdkafka.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{
    BuildContext, EncodingOption, Finding, ProbeContext, Problem, Problems, Resource, Severity, Sink, SinkConfig,
    Stream, async_trait,
};
use weir::config::{ByteSize, Span};
use weir::delivery::{MemoryBudget, Outcome};
use weir::error::{Error, ErrorKind, Result};
use weir::event::{Batch, Encoding};
use weir::script::{Expression, Problem as ScriptProblem};
use weir::state::Clock;

use crate::client::{Client, RawOptions, Sasl, Tls};
use crate::delivery::{AGAIN, Common, Listener, see_topic};
use crate::destinations::{Destinations, Refused};
use crate::flights::{Flight, Flights, Row};
use crate::probe;
use crate::record::{Key, Placement, Recorder, Refusal, no_name};
use crate::render::Text;
use crate::topics::{self, Known, TopicCreation, Topics};
use crate::troubles::{Subject, Troubles};

/// Writes events to Kafka topics; an event is delivered once all in-sync replicas have it.
///
/// The producer is idempotent and retries without limit: it waits while brokers are unavailable or a fixed topic does
/// not exist.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSink {
    /// Bootstrap brokers as `host:port`, with commas between.
    bootstrap_servers: String,
    /// Topic; may contain `{{ VRL }}`. A fixed topic is waited for while it is missing or refuses records. If events
    /// choose the topic, events for a topic that refuses them are rejected and others continue.
    topic: String,
    /// Record key; may contain `{{ VRL }}`. `{{ %kafka.key }}` forwards the key of the consumed record, byte for byte.
    /// Default: the series of a point for metric encodings, otherwise the event's own key. A compacted topic requires a
    /// key.
    key: Option<String>,
    /// Partition: `key` (hash of the key, as in Kafka's Java clients; without a key, any), `source` (same number as the
    /// consumed record), or a VRL expression that returns a number. Default: `key`.
    #[serde(default = "default_partition")]
    partition: String,
    /// Headers added to each record, by name; values may contain `{{ VRL }}`. They replace headers of the event with the same
    /// name. Default: none.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Whether the event's own headers, such as those of a Kafka record it was read from, are sent too. Default: true.
    #[serde(default = "crate::client::yes")]
    forward_headers: bool,
    /// Encoding of the value: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    encoding: EncodingOption,
    /// Compression of batches: `none`, `gzip`, `snappy`, `lz4` or `zstd`. Default: `none`.
    #[serde(default)]
    compression: Compression,
    /// Maximum time a record waits for others. Default: `20ms`.
    #[serde(default = "default_linger")]
    linger: Span,
    /// Memory for records in flight. Default: `16MiB`.
    #[serde(default = "default_buffer")]
    buffer: ByteSize,
    /// Maximum record size in bytes; larger records are rejected (`message_too_large`). Default: 1000000, as in Kafka.
    #[serde(default = "default_max_message_size")]
    max_message_size: ByteSize,
    /// Creates a missing topic with these settings; an existing topic is not changed. Default: waits until the topic
    /// exists.
    create_topic: Option<TopicCreation>,
    /// TLS options. Default: no encryption.
    tls: Option<Tls>,
    /// SASL credentials. Default: none.
    sasl: Option<Sasl>,
    /// Client name in the brokers' logs and quotas. Default: `weir`.
    client_id: Option<String>,
    /// Raw librdkafka options, by name, for settings without an option here. Default: none.
    #[serde(default)]
    librdkafka_options: RawOptions,
}

/// Compression of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

fn default_partition() -> String {
    "key".to_owned()
}

fn default_linger() -> Span {
    Span(Duration::from_millis(20))
}

fn default_buffer() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_max_message_size() -> ByteSize {
    ByteSize(1_000_000)
}

/// librdkafka options that only the sink owns, and what to use instead.
const OWNED: [(&str, &str); 12] = [
    ("enable.idempotence", "leave it out; the sink is always idempotent"),
    ("acks", "leave it out; the sink always waits for all in-sync replicas"),
    ("request.required.acks", "leave it out; the sink always waits for all in-sync replicas"),
    ("message.timeout.ms", "leave it out; the sink never drops records"),
    ("delivery.timeout.ms", "leave it out; the sink never drops records"),
    ("retries", "leave it out; the sink never drops records"),
    ("message.send.max.retries", "leave it out; the sink never drops records"),
    ("transactional.id", "leave it out"),
    ("linger.ms", "use linger"),
    ("queue.buffering.max.ms", "use linger"),
    ("queue.buffering.max.kbytes", "use buffer"),
    ("compression.codec", "use compression"),
];

impl KafkaSink {
    fn client(&self) -> Client<'_> {
        Client {
            bootstrap_servers: &self.bootstrap_servers,
            client_id: self.client_id.as_deref(),
            tls: self.tls.as_ref(),
            sasl: self.sasl.as_ref(),
            raw: &self.librdkafka_options,
            owned: &OWNED,
        }
    }

    fn client_config(&self) -> ClientConfig {
        let mut config = self.client().config();
        let mut set_default = |name: &str, value: String| {
            if !self.librdkafka_options.contains_key(name) {
                config.set(name, value);
            }
        };
        // As Kafka's Java clients, so that both put a key into the same partition.
        set_default("partitioner", "murmur2_random".into());
        // Not for ever: after that the topic is named as the trouble, and we go on asking.
        set_default("topic.metadata.propagation.max.ms", "5000".into());
        set_default("sticky.partitioning.linger.ms", self.linger_ms().to_string());
        let max_message = self.max_message_size.0.clamp(1000, 1_000_000_000);
        if self.create_topic.is_some() {
            // Brokers that create topics by themselves would do it with their own settings.
            config.set("allow.auto.create.topics", "false");
        }
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("message.timeout.ms", "0");
        config.set("linger.ms", self.linger_ms().to_string());
        config.set("compression.codec", self.compression.name());
        config.set("message.max.bytes", max_message.to_string());
        // Our own buffer is the bound; librdkafka's only has to be larger.
        let queue_kbytes = (self.buffer.0 / 1024 * 2 + max_message / 1024 + 1024).min(2_000_000_000);
        config.set("queue.buffering.max.kbytes", queue_kbytes.to_string());
        config.set("queue.buffering.max.messages", "0");
        config
    }

    fn linger_ms(&self) -> u128 {
        self.linger.0.as_millis().min(900_000)
    }

    /// Prepares the texts; every problem goes to `problems`.
    fn recorder(&self, encoding: Encoding, problems: &mut Problems) -> Option<Recorder> {
        let topic = Text::compile(&self.topic, "topic", problems);
        let key = self.key.as_ref().map(|key| match is_own_key(key) {
            true => Some(Key::Own),
            false => Text::compile(key, "key", problems).map(Key::Text),
        });
        let placement = match self.partition.as_str() {
            "key" => Some(Placement::Key),
            "source" => Some(Placement::Source),
            expression => {
                let compiled =
                    ScriptProblem::report(Expression::compile(expression), "partition", "invalid_expression", problems);
                compiled.map(|expression| Placement::Number(Box::new(expression)))
            }
        };
        let header = |(name, text): (&String, &String)| {
            Some((name.clone(), Text::compile(text, &format!("headers.{name}"), problems)?))
        };
        let headers = self.headers.iter().map(header).collect::<Option<Vec<_>>>();
        Some(Recorder {
            topic: topic?,
            key: some_if_compiled(key)?,
            placement: placement?,
            headers: headers?,
            forward_headers: self.forward_headers,
            encoding,
            buffer: Vec::new(),
            subject: Vec::new(),
            last_topic: String::new(),
            needs_key: false,
            bytes: 0,
        })
    }

    /// Whether every record has a key.
    fn sets_key(&self) -> bool {
        self.key.is_some() || self.encoding.build().is_ok_and(|encoding| encoding.has_subjects())
    }

    fn check_creation(&self, creation: &TopicCreation, problems: &mut Problems) {
        for (name, number) in [("partitions", creation.partitions), ("replication_factor", creation.replication_factor)]
        {
            if number.is_some_and(|number| !(1..=MOST).contains(&number)) {
                let help = format!("give a number from 1 to {MOST}, or leave it out for the brokers' default");
                let message = format!("{name} is out of range");
                problems.error(&format!("create_topic.{name}"), "out_of_range", message, help);
            }
        }
        let policy = creation.config.get("cleanup.policy");
        if !self.sets_key() && policy.is_some_and(|policy| topics::is_compacted(&policy.to_string())) {
            let message = format!("topic {:?} would be compacted and the sink sets no key", self.topic);
            problems.push(Problem {
                // the name has a dot, so it is one step
                path: ["create_topic", "config", "cleanup.policy"].map(str::to_owned).to_vec(),
                severity: Severity::Error,
                code: "missing_key".to_owned(),
                message,
                help: Some("set key: with what tells its records apart, or use another policy".to_owned()),
                span: None,
            });
        }
    }
}

/// The most partitions that a topic is created with; more is a slip.
const MOST: i32 = 10_000;

/// Whether a key's text stands for the key the event came with.
fn is_own_key(key: &str) -> bool {
    key.split_whitespace().collect::<String>() == "{{%kafka.key}}"
}

/// `None`: it did not compile; `Some(None)`: there is none.
fn some_if_compiled<T>(text: Option<Option<T>>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => text.map(Some),
    }
}

#[typetag::deserialize(name = "kafka")]
#[async_trait]
impl SinkConfig for KafkaSink {
    fn check(&self, problems: &mut Problems) {
        if self.topic.trim().is_empty() {
            problems.error("topic", "missing_value", "no topic is named", "name the topic");
        }
        self.encoding.check(Stream::Messages, problems);
        let recorder = self.recorder(Encoding::Json, problems);
        let topic = recorder.as_ref().and_then(|recorder| recorder.topic.constant());
        if let Some(topic) = topic.filter(|topic| !topic.trim().is_empty() && !topics::is_name(topic)) {
            let help = "use letters, digits, `.`, `_` and `-`, 249 at most";
            problems.error("topic", "bad_value", no_name(topic), help);
        }
        if let Some(creation) = &self.create_topic {
            self.check_creation(creation, problems);
        }
        self.client().check(&self.client_config(), problems);
    }

    fn resources(&self) -> Vec<Resource> {
        let is_literal = !self.topic.contains("{{") && !self.topic.contains('%');
        let topic = || Resource::written(Resource::topic(&self.topic, &self.bootstrap_servers));
        is_literal.then(topic).into_iter().collect()
    }

    fn explain(&self) -> String {
        "delivered when all in-sync replicas have it; retried in order until then; a replay may repeat records"
            .to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        let recorder = self.recorder(Encoding::Json, &mut Problems::default());
        let topic = recorder.and_then(|recorder| recorder.topic.constant().map(str::to_owned));
        let (creation, sets_key) = (self.create_topic.clone(), self.sets_key());
        let writing = probe::Writing { topic, creation, sets_key, max_message: self.max_message_size.0 };
        self.client().peer(self.client_config(), context.limit).probe_writing(writing).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let refused = || Error::new(ErrorKind::Config, "kafka sink", "the options are refused");
        let mut problems = Problems::default();
        let recorder = self.recorder(self.encoding.build()?, &mut problems).ok_or_else(refused)?;
        let config = self.client_config();
        let troubles = Troubles::new(context);
        let destinations =
            Destinations::new(recorder.topic.constant().is_none(), matches!(recorder.placement, Placement::Key));
        let common = Common::new(&config, Flights::new(context.clone()), troubles, destinations)
            .map_err(|error| refused().caused_by(error))?;
        let topics = Topics::new(&config, self.create_topic.clone(), self.sets_key(), common.reports.clone());
        if let Some(topic) = recorder.topic.constant() {
            tokio::spawn(learn(topics.clone(), topic.to_owned(), common.clone(), context.clock.clone()));
        }
        let listener = Listener::new(common.clone(), config, recorder.clone(), topics.clone());
        std::thread::Builder::new()
            .name("kafka-delivery".into())
            .spawn(move || listener.run())
            .map_err(|error| Error::new(ErrorKind::Io, "kafka sink", "no thread can be started").caused_by(error))?;
        Ok(Arc::new(Writing {
            common,
            topics,
            room: MemoryBudget::new(self.buffer.0),
            recorder: recorder.clone(),
            idle: Mutex::default(),
            context: context.clone(),
        }))
    }
}

/// Asks for the sink's one topic at the start, so that what is wrong with it is said before there are records.
async fn learn(topics: Arc<Topics>, topic: String, common: Arc<Common>, clock: Arc<dyn Clock>) {
    while topics.learn(&topic).await == Known::NotYet && !common.stop.load(Ordering::Relaxed) {
        clock.sleep(AGAIN).await;
    }
}

/// The sink at work.
struct Writing {
    common: Arc<Common>,
    topics: Arc<Topics>,
    room: MemoryBudget,
    recorder: Recorder,
    /// Recorders for reuse, one a concurrent writer.
    idle: Mutex<Vec<Recorder>>,
    context: BuildContext,
}

/// Rows of a batch that were not handed over yet. When the write is given up they fail.
struct Unsent<'a> {
    flights: &'a Flights,
    slot: u32,
    rows: usize,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.flights.failed(self.slot, self.rows);
    }
}

impl Writing {
    /// Fetches what the encoding needs for a topic; after a failure there is a pause, and the caller tries again.
    async fn prepare(&self, encoding: &Encoding, topic: &str) {
        let Encoding::Other(encoder) = encoding else { return };
        let troubles = &self.common.reports.troubles;
        match encoder.prepare(topic).await {
            Ok(()) => troubles.clear(|open| *open == Subject::Encoding),
            Err(error) => {
                troubles.set(Subject::Encoding, error.to_string());
                self.context.clock.sleep(AGAIN).await;
            }
        }
    }

    /// Hands every row to librdkafka, waiting where it has no room.
    async fn send_all(&self, flight: &Flight, slot: u32, recorder: &mut Recorder) {
        let rows = flight.events.len();
        let mut unsent = Unsent { flights: &self.common.reports.flights, slot, rows };
        let mut producer = self.common.producer();
        let mut rejected = Vec::new();
        let mut row = 0;
        let mut asked_for = None;
        while unsent.rows > 0 {
            match recorder.send(&producer, &self.topics, flight, Row { slot, row }) {
                Ok(()) => {}
                Err(Refusal::Reject(code, message)) => rejected.push((row, code, message)),
                Err(Refusal::Unprepared(topic)) => {
                    self.prepare(&recorder.encoding, &topic).await;
                    continue;
                }
                // Cannot last: our own buffer is smaller than librdkafka's.
                Err(Refusal::Full) => {
                    self.context.clock.sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(Refusal::Unknown(topic)) => match self.topics.learn(&topic).await {
                    Known::Refused(Refused { code, message }) => rejected.push((row, code, message)),
                    Known::Fit if asked_for != Some(row) => {
                        asked_for = Some(row);
                        continue;
                    }
                    Known::Fit => {
                        let producer = producer.clone();
                        // The next try shows whether it was seen.
                        let _ = tokio::task::spawn_blocking(move || see_topic(&producer, &topic)).await;
                        self.context.clock.sleep(AGAIN).await;
                        continue;
                    }
                    Known::NotYet => {
                        self.context.clock.sleep(AGAIN).await;
                        continue;
                    }
                },
                Err(Refusal::Later(subject, text)) => {
                    self.common.reports.troubles.set(subject, text);
                    self.context.clock.sleep(AGAIN).await;
                    continue;
                }
                Err(Refusal::Dead) => {
                    self.context.clock.sleep(Duration::from_millis(100)).await;
                    producer = self.common.producer();
                    continue;
                }
            }
            row += 1;
            unsent.rows -= 1;
        }
        self.context.books.bytes(recorder.take_bytes());
        if let Some(batch) = self.common.reports.flights.rejected(slot, &rejected) {
            self.context.rejects.reject(batch).await;
        }
    }
}

#[async_trait]
impl Sink for Writing {
    async fn write(&self, batch: Batch) {
        let size = batch.size();
        let Batch { origin, receipt, events, .. } = batch;
        if events.is_empty() {
            return receipt.resolve(Outcome::Filtered);
        }
        let room = self.room.acquire(size).await;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut recorder = idle.unwrap_or_else(|| self.recorder.clone());
        let flight = Arc::new(Flight { origin, events, _room: room });
        let slot = self.common.reports.flights.begin(flight.clone(), receipt);
        self.send_all(&flight, slot, &mut recorder).await;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(recorder);
    }

    async fn flush(&self) {
        self.common.reports.flights.landed().await;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::Relaxed);
    }
}

weir::register_sink!(
    "kafka",
    KafkaSink,
    r#"{type: kafka, inputs: [in], bootstrap_servers: "localhost:9092", topic: events}"#
);
