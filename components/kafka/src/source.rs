//! The source `kafka`: its options, and the thread that runs it.

use std::thread;

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use weir::component::{
    BuildContext, DecodingOption, Finding, Lanes, ProbeContext, Problems, Resource, Source, SourceConfig, Stream,
    async_trait,
};
use weir::config::{ByteSize, Span};
use weir::error::{Error, ErrorKind, Result};
use weir::event::Codec;

use crate::client::{Client, RawOptions, Sasl, Tls};
use crate::consumer::{GroupConsumer, SourceClient};
use crate::control::{Control, Options};
use crate::probe;
use crate::troubles::Troubles;

/// Reads Kafka topics as a member of a consumer group; partitions are processed in parallel.
///
/// An offset is committed once all earlier records are delivered, filtered or dead letters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// Bootstrap brokers as `host:port`, with commas between.
    bootstrap_servers: String,
    /// Topics to read. A name that starts with `^` is a regular expression.
    topics: Vec<String>,
    /// Consumer group; members of the same group share the partitions.
    group_id: String,
    /// Start position of a new consumer group: `earliest` or `latest`. Partitions and topics added later are read from
    /// the beginning. Default: `latest`.
    #[serde(default)]
    start: Start,
    /// Start position if the next record no longer exists: `earliest`, `latest`, or `fail`, which stops the graph.
    /// Default: `earliest`.
    #[serde(default)]
    on_out_of_range: OnOutOfRange,
    /// Handling of records without a value: `pass` (tombstones, which transforms pass unchanged) or `as_null` (events
    /// that are `null`). Default: `pass`.
    #[serde(default)]
    tombstones: Tombstones,
    /// Decoding of record values: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// Static member id, unique in the group, such as the pod's name: the member keeps its partitions over a restart
    /// shorter than `session_timeout`. Default: none.
    group_instance_id: Option<String>,
    /// Time without a heartbeat after which the group reassigns the partitions. Default: `45s`.
    #[serde(default = "default_session_timeout")]
    session_timeout: Span,
    /// When to stop: `never`, or `at_end` (at the end offsets found at the start). Default: `never`.
    #[serde(default)]
    stop: Stop,
    /// TLS options. Default: no encryption.
    tls: Option<Tls>,
    /// SASL credentials. Default: none.
    sasl: Option<Sasl>,
    /// Client name in the brokers' logs and quotas. Default: `weir`.
    client_id: Option<String>,
    /// Maximum fetched records in memory, in bytes per partition. Default: `1MiB`.
    #[serde(default = "default_fetch_buffer")]
    fetch_buffer: ByteSize,
    /// Maximum record size that a fetch must be able to return. Default: `8MiB`.
    #[serde(default = "default_max_record_size")]
    max_record_size: ByteSize,
    /// Interval between commits. Default: `1s`.
    #[serde(default = "default_commit_interval")]
    commit_interval: Span,
    /// Time limit for delivering events in flight when partitions are revoked. Default: `10s`.
    #[serde(default = "default_drain_timeout")]
    drain_timeout: Span,
    /// Raw librdkafka options, by name, for settings without an option here. Default: none.
    #[serde(default)]
    librdkafka_options: RawOptions,
}

/// Start position without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Oldest available record.
    Earliest,
    /// Next new record.
    #[default]
    Latest,
}

/// Start position if the next record no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// Oldest available record; after a truncation, the point of divergence.
    #[default]
    Earliest,
    /// Next new record.
    Latest,
    /// Stop the graph with an error.
    Fail,
}

/// Handling of records without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// Tombstones, which transforms pass unchanged.
    #[default]
    Pass,
    /// Events that are `null`, processed like others.
    AsNull,
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// When the graph stops.
    #[default]
    Never,
    /// At the end offsets found at the start.
    AtEnd,
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn default_session_timeout() -> Span {
    Span(45 * SECOND)
}

fn default_fetch_buffer() -> ByteSize {
    ByteSize(1 << 20)
}

fn default_max_record_size() -> ByteSize {
    ByteSize(8 << 20)
}

fn default_commit_interval() -> Span {
    Span(SECOND)
}

fn default_drain_timeout() -> Span {
    Span(10 * SECOND)
}

/// librdkafka options that only the source owns, and what to use instead.
const OWNED: [(&str, &str); 18] = [
    ("group.id", "use group_id"),
    ("group.instance.id", "use group_instance_id"),
    ("group.protocol", "leave it out"),
    ("session.timeout.ms", "use session_timeout"),
    ("auto.offset.reset", "use start and on_out_of_range"),
    ("enable.auto.commit", "leave it out; weir commits what is settled"),
    ("auto.commit.enable", "leave it out; weir commits what is settled"),
    ("auto.commit.interval.ms", "use commit_interval"),
    ("enable.auto.offset.store", "leave it out; weir commits what is settled"),
    ("enable.partition.eof", "use stop: at_end"),
    ("partition.assignment.strategy", "leave it out; weir needs cooperative-sticky"),
    ("offset.store.method", "leave it out"),
    ("queued.max.messages.kbytes", "use fetch_buffer"),
    ("max.partition.fetch.bytes", "use fetch_buffer"),
    ("fetch.message.max.bytes", "use fetch_buffer"),
    ("fetch.max.bytes", "use max_record_size"),
    ("receive.message.max.bytes", "use max_record_size"),
    ("consume.callback.max.messages", "leave it out"),
];

impl KafkaSource {
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
        // librdkafka waits a whole second when a local queue is full; ours are small, so it happens all the time.
        set_default("fetch.queue.backoff.ms", "20".into());
        // Besides the bytes, as every record costs librdkafka some 300 bytes on top.
        set_default("queued.min.messages", "10000".into());
        set_default("topic.metadata.refresh.interval.ms", "60000".into());
        let buffer = self.fetch_buffer.0.clamp(64 << 10, 1 << 30);
        // Never less than one record and the rest of an answer around it.
        let answer = (16 << 20).max(self.max_record_size.0.saturating_add(1 << 20)).min(1 << 30);
        config.set("queued.max.messages.kbytes", (buffer >> 10).to_string());
        config.set("fetch.message.max.bytes", (buffer / 2).max(32 << 10).to_string());
        config.set("fetch.max.bytes", answer.to_string());
        config.set("receive.message.max.bytes", (answer + (1 << 20)).to_string());
        config.set("message.max.bytes", self.max_record_size.0.clamp(1000, 1_000_000_000).min(answer).to_string());
        config.set("group.id", &self.group_id);
        if let Some(instance) = &self.group_instance_id {
            config.set("group.instance.id", instance);
        }
        config.set("session.timeout.ms", self.session_timeout.0.as_millis().to_string());
        // The control thread decides where to begin, and where to go on, and says so.
        config.set("auto.offset.reset", "error");
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.auto.commit", "true");
        config.set("auto.commit.interval.ms", self.commit_interval.0.as_millis().to_string());
        config.set("enable.partition.eof", (self.stop == Stop::AtEnd).to_string());
        config
    }

    fn max_poll_interval(&self) -> u128 {
        let raw = self.librdkafka_options.get("max.poll.interval.ms");
        raw.and_then(|value| value.to_string().parse().ok()).unwrap_or(300_000)
    }
}

#[typetag::deserialize(name = "kafka")]
#[async_trait]
impl SourceConfig for KafkaSource {
    fn check(&self, problems: &mut Problems) {
        if self.topics.iter().all(|topic| topic.is_empty()) {
            problems.error("topics", "missing_value", "no topic is named", "name a topic, or \"^prefix-\" for many");
        }
        for (index, topic) in self.topics.iter().enumerate() {
            if self.topics[..index].contains(topic) {
                let message = format!("topic {topic:?} is named twice");
                problems.error(&format!("topics.{index}"), "duplicate", message, "leave one out");
            }
        }
        if self.group_id.is_empty() {
            problems.error("group_id", "missing_value", "the group has no name", "name the consumer group");
        }
        if self.drain_timeout.0.as_millis() * 2 > self.max_poll_interval() {
            let message = "drain_timeout is more than half of librdkafka's max.poll.interval.ms";
            problems.error("drain_timeout", "out_of_range", message, "make it shorter, the default is 10s");
        }
        self.decoding.check(Stream::Messages, problems);
        self.client().check(&self.client_config(), problems);
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn resources(&self) -> Vec<Resource> {
        let literal = self.topics.iter().filter(|topic| !topic.starts_with('^'));
        literal.map(|topic| Resource::read(Resource::topic(topic, &self.bootstrap_servers))).collect()
    }

    fn explain(&self) -> String {
        "one lane a partition; a commit is the group's offset, so whoever has the partition next goes on there"
            .to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        let (topics, group) = (self.topics.clone(), self.group_id.clone());
        let reading = probe::Reading { topics, group, max_record: self.max_record_size.0 };
        self.client().peer(self.client_config(), context.limit).probe_reading(reading).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let options = Options {
            node: context.node.to_string(),
            topics: self.topics.clone(),
            group: self.group_id.clone(),
            codec: self.codec()?,
            at_end: self.stop == Stop::AtEnd,
            start: self.start,
            on_out_of_range: self.on_out_of_range,
            tombstones: self.tombstones,
            needs_all: context.spans_partitions,
            drain_timeout: self.drain_timeout.0,
        };
        let config = self.client_config();
        config.create_native_config().map_err(refused)?;
        Ok(Box::new(Reading { config, options, troubles: Troubles::new(context) }))
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, "kafka source", "the options are refused").caused_by(error)
}

/// The source, ready to join its group.
struct Reading {
    config: ClientConfig,
    options: Options,
    troubles: Troubles,
}

#[async_trait]
impl Source for Reading {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let Reading { config, options, troubles } = *self;
        let consumer: GroupConsumer = config.create_with_context(SourceClient::new(troubles)).map_err(refused)?;
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refused)?;
        let (done, ended) = oneshot::channel();
        let control = Control::new(consumer, options, lanes, Handle::current());
        thread::Builder::new()
            .name("kafka-control".into())
            // The receiver is gone when the graph gave up on us.
            .spawn(move || drop(done.send(control.run())))
            .map_err(|error| Error::new(ErrorKind::Io, "kafka source", "no thread can be started").caused_by(error))?;
        match ended.await {
            Ok(result) => result,
            Err(_panicked) => Err(Error::new(ErrorKind::Internal, "kafka source", "the control thread panicked")),
        }
    }
}

weir::register_source!(
    "kafka",
    KafkaSource,
    "type: kafka\nbootstrap_servers: localhost:9092\ntopics: [events]\ngroup_id: weir\nstart: earliest\n"
);
