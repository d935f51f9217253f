//! Components for the tests of the loader: shaped like the real ones, doing nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{
    BuildContext, Problems, Sink, SinkConfig, Source, SourceConfig, Transform, TransformConfig, async_trait,
};
use crate::config::{ByteSize, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::script::{Condition, Problem};

fn nothing<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Internal, "build", "components of tests are never built"))
}

/// Reads topics.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) struct KafkaSource {
    /// Brokers as `host:port`, with commas between.
    pub bootstrap_servers: String,
    /// Topics to read.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// The consumer group.
    pub group_id: String,
    /// Where to begin. Default: `latest`.
    #[serde(default)]
    pub start: Start,
    /// Largest answer of a broker. Default: 1MiB.
    pub fetch_size: Option<ByteSize>,
    /// Time without a sign of life. Default: 45s.
    pub session_timeout: Option<Span>,
    /// Records a second. Default: as many as come.
    #[schemars(range(min = 1, max = 1000))]
    pub rate: Option<u32>,
    /// TLS options. Default: no encryption.
    pub tls: Option<Tls>,
    /// SASL credentials. Default: none.
    pub sasl: Option<Sasl>,
    /// An address that serde knows more of than the schema.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub from_address: Option<SocketAddr>,
}

/// Where to begin.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Start {
    /// With the oldest.
    Earliest,
    /// With the next to come.
    #[default]
    Latest,
}

/// Encryption.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) struct Tls {
    /// File of the authority's certificate.
    pub ca: PathBuf,
    /// Check the broker's name. Default: true.
    pub verify: Option<bool>,
}

/// Authentication.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) enum Sasl {
    /// Name and password.
    Plain {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A token.
    Token {
        /// Where tokens come from.
        url: String,
    },
}

crate::register_source!(
    "kafka",
    KafkaSource,
    "{type: kafka, bootstrap_servers: 'localhost:9092', topics: [logs], group_id: mine}"
);

#[typetag::deserialize(name = "kafka")]
#[async_trait]
impl SourceConfig for KafkaSource {
    fn check(&self, problems: &mut Problems) {
        for (number, topic) in self.topics.iter().enumerate().filter(|(_, topic)| topic.contains(' ')) {
            let message = format!("`{topic}` has a blank in it");
            problems.error(&format!("topics.{number}"), "bad_topic", message, "remove the blank");
        }
    }

    async fn build(&self, _: &BuildContext) -> Result<Box<dyn Source>> {
        nothing()
    }
}

/// Reads files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) struct FileSource {
    /// Files to read.
    pub paths: Vec<PathBuf>,
    /// What the lines are: `json` or `text`. Default: `json`.
    #[serde(default)]
    pub decoding: Coding,
}

/// How bodies are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Coding {
    #[default]
    Json,
    Text,
}

crate::register_source!("file", FileSource, "{type: file, paths: [in.ndjson], decoding: json}");

#[typetag::deserialize(name = "file")]
#[async_trait]
impl SourceConfig for FileSource {
    async fn build(&self, _: &BuildContext) -> Result<Box<dyn Source>> {
        nothing()
    }
}

/// Keeps the events for which a condition holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// VRL expression that yields true or false.
    pub condition: String,
}

crate::register_transform!("filter", Filter, "{type: filter, inputs: [in], condition: '.a == 1'}");

#[typetag::deserialize(name = "filter")]
impl TransformConfig for Filter {
    fn check(&self, problems: &mut Problems) {
        Problem::report(Condition::compile(&self.condition), "condition", "invalid_condition", problems);
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        nothing()
    }
}

/// Writes a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) struct FileSink {
    /// Output file.
    pub path: PathBuf,
    /// How events are written. Default: `json`.
    #[serde(default)]
    pub encoding: Coding,
    /// Write behind what is there. Default: false.
    #[serde(default)]
    pub append: bool,
}

crate::register_sink!("file", FileSink, "{type: file, inputs: [in], path: out.ndjson, encoding: json}");

#[typetag::deserialize(name = "file")]
#[async_trait]
impl SinkConfig for FileSink {
    async fn build(&self, _: &BuildContext) -> Result<Arc<dyn Sink>> {
        nothing()
    }
}

/// Writes to a topic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only their form matters")]
pub(super) struct KafkaSink {
    /// Brokers as `host:port`, with commas between.
    pub bootstrap_servers: String,
    /// The topic.
    pub topic: String,
    /// Field that is the record's key. Default: none.
    pub key: Option<String>,
}

crate::register_sink!(
    "kafka",
    KafkaSink,
    "{type: kafka, inputs: [in], bootstrap_servers: 'localhost:9092', topic: out}"
);

#[typetag::deserialize(name = "kafka")]
#[async_trait]
impl SinkConfig for KafkaSink {
    async fn build(&self, _: &BuildContext) -> Result<Arc<dyn Sink>> {
        nothing()
    }
}
