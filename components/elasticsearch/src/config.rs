//! The options, and their check.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{
    BuildContext, Finding, ProbeContext, Problem, Problems, Severity, Sink, SinkConfig, async_trait,
};
use weir::config::{ByteSize, Secret, Span};
use weir::{Error, Result};
use weir_http_client::{Settings, TaskSink, Tls, Url};

use crate::action::{Action, VersionType};
use crate::client::{Client, Reach};
use crate::limit::Limit;
use crate::probe;
use crate::request::{Sources, Writer};
use crate::sink::{Sender, WAITING};
use crate::template::Template;

/// Writes events as documents to Elasticsearch or OpenSearch; an event is delivered once the server confirms its
/// document.
///
/// The document id is the event's id, so replays do not create duplicates. Documents that the server cannot take at the
/// moment are retried without limit; documents that it refuses go to the port `errors` with the server's reason.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elasticsearch {
    /// Addresses of the cluster's nodes, such as `http://localhost:9200`, used in turn; failing nodes are skipped.
    /// Messages show only host and port.
    pub(crate) endpoints: Vec<Url>,
    /// Index, data stream or alias; may contain `{{ VRL }}` and strftime specifiers: `logstash-%Y.%m.%d`.
    pub(crate) index: String,
    /// Maximum time an event waits for an index that refuses documents, such as a write-blocked or closed one, if the
    /// event chooses the index (`{{ VRL }}` or strftime specifiers); it is then rejected (`index_unavailable`).
    /// Documents of other indices do not wait. A fixed index is waited for without limit. Default: `1m`.
    #[serde(default = "default_index_wait")]
    pub(crate) index_wait: Span,
    /// VRL expression for the time used by strftime specifiers and, with `data_stream`, by `@timestamp`: RFC 3339 text
    /// or Unix time. Default: the event's time.
    pub(crate) time: Option<String>,
    /// Bulk action: `index` (create or replace), `create` (only if new), `update` (change fields of an existing
    /// document), `upsert` (update or create) or `delete`; may be `{{ VRL }}`. Default: `index`, or `create` for a data
    /// stream.
    pub(crate) action: Option<String>,
    /// Whether the index is a data stream: documents are created, and a missing `@timestamp` is set to the event's
    /// time. Default: false.
    #[serde(default)]
    pub(crate) data_stream: bool,
    /// Whether the index must be an alias: documents wait for a missing alias instead of creating an index. Default:
    /// false.
    #[serde(default)]
    pub(crate) require_alias: bool,
    /// Document id; may contain `{{ VRL }}`. `none`: the server generates ids, and replays create duplicates. Default:
    /// the event's id.
    pub(crate) id: Option<String>,
    /// External document version, an integer; may contain `{{ VRL }}`. A version older than the stored one counts as
    /// delivered. Default: none.
    pub(crate) version: Option<String>,
    /// How versions are compared. Default: `external`.
    pub(crate) version_type: Option<VersionType>,
    /// Routing value that selects the shard instead of the id; may contain `{{ VRL }}`. Default: none.
    pub(crate) routing: Option<String>,
    /// Ingest pipeline; may contain `{{ VRL }}`. Default: the index's pipeline.
    pub(crate) pipeline: Option<String>,
    /// Size of bulk requests.
    #[serde(default)]
    pub(crate) batch: Batching,
    /// Compression of requests: `none` or `gzip`. Default: `none`.
    #[serde(default)]
    pub(crate) compression: Compression,
    /// Timeout and concurrency of requests.
    #[serde(default)]
    pub(crate) request: Requests,
    /// Credentials. Default: none.
    pub(crate) auth: Option<Auth>,
    /// TLS options for an `https` address. Default: certificates are checked against the system's authorities.
    pub(crate) tls: Option<Tls>,
    /// Index template created before the first document. Default: none.
    pub(crate) template: Option<IndexTemplate>,
}

/// Size of bulk requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Maximum documents per request. Default: 1000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_events: usize,
    /// Maximum bytes per request before compression; a larger document is sent alone. Default: `5MiB`.
    pub(crate) max_bytes: ByteSize,
    /// Maximum seconds a document waits for others. Default: 1.
    #[schemars(range(min = 0.0))]
    pub(crate) timeout_secs: f64,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching { max_events: 1000, max_bytes: ByteSize(5 << 20), timeout_secs: 1.0 }
    }
}

/// Compression of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// Timeout and concurrency of requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    /// Time limit per request. Default: `60s`.
    pub(crate) timeout: Span,
    /// Concurrent requests: a number, or `adaptive`, which follows the server's push-back between 1 and `max`. Default:
    /// `adaptive`.
    pub(crate) concurrency: Concurrency,
    /// Maximum concurrent requests with `adaptive`. Default: 16.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) max: usize,
}

impl Default for Requests {
    fn default() -> Requests {
        let timeout = Span(Duration::from_secs(60));
        Requests { timeout, concurrency: Concurrency::Found(Adaptive::Adaptive), max: 16 }
    }
}

/// Concurrent requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Concurrency {
    /// Fixed number.
    Fixed(usize),
    /// As many as the server accepts.
    Found(Adaptive),
}

/// Marker for an adaptive number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adaptive {
    /// As many as the server accepts.
    Adaptive,
}

/// Credentials.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "strategy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// API key.
    ApiKey {
        /// API key in base64, as in the server's `encoded` field; contains id and secret.
        key: Secret,
    },
    /// Token.
    Bearer {
        /// Token.
        token: Secret,
    },
}

/// Index template created before the first document.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexTemplate {
    /// Name of the template.
    pub(crate) name: String,
    /// Content as in the server's API: `index_patterns`, `template`, `data_stream`, ... Default: read from `file`.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub(crate) body: Option<serde_json::Map<String, serde_json::Value>>,
    /// JSON file with the content. Default: see `body`.
    #[schemars(extend("format" = "input-file"))]
    pub(crate) file: Option<PathBuf>,
    /// Whether to replace an existing template at every start. Default: false.
    #[serde(default)]
    pub(crate) overwrite: bool,
}

fn default_index_wait() -> Span {
    Span(Duration::from_secs(60))
}

weir::register_sink!(
    "elasticsearch",
    Elasticsearch,
    "{type: elasticsearch, inputs: [in], endpoints: [\"http://localhost:9200\"], index: \"logs-%Y.%m.%d\"}"
);

impl Elasticsearch {
    /// What documents are made of; every problem goes to `problems`.
    pub(crate) fn writer(&self, problems: &mut Problems) -> Option<Writer> {
        let default_action = if self.data_stream { "create" } else { "index" };
        Writer::compile(
            Sources {
                index: &self.index,
                time: self.time.as_deref(),
                action: self.action.as_deref().unwrap_or(default_action),
                id: self.id.as_deref(),
                version: self.version.as_deref().map(|text| (text, self.version_type)),
                routing: self.routing.as_deref(),
                pipeline: self.pipeline.as_deref(),
                require_alias: self.require_alias,
                stamp: self.data_stream,
            },
            problems,
        )
    }

    /// How the cluster is reached.
    pub(crate) fn reach(&self) -> Reach<'_> {
        Reach {
            endpoints: &self.endpoints,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
            timeout: self.request.timeout.0,
            compress: self.compression == Compression::Gzip,
        }
    }

    fn check_reach(&self, problems: &mut Problems) {
        let mut settings = Settings::new(None, self.tls.as_ref());
        settings.timeout = self.request.timeout.0.max(Duration::from_millis(1));
        settings.check("endpoints", &self.endpoints, problems);
        if self.request.timeout.0.is_zero() {
            problems.error("request.timeout", "out_of_range", "is no time at all", "write a span such as 60s");
        }
        let Some(auth) = &self.auth else { return };
        if self.reach().header().is_none() {
            let what = "holds a character that cannot be sent, such as a newline";
            problems.error("auth", "bad_value", what, "check where the text comes from");
        }
        if let Auth::ApiKey { key } = auth
            && key.0.contains(':')
        {
            let help = "give the key as the server does in `encoded`: base64 of id:secret";
            problems.error("auth.key", "bad_value", "is an id and a secret with a colon between", help);
        }
        if self.endpoints.iter().any(|url| url.parse().is_ok_and(|address| !address.is_encrypted())) {
            problems.push(Problem {
                path: vec!["endpoints".to_owned()],
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "the password, key or token is sent unencrypted".to_owned(),
                help: Some("use an https:// address".to_owned()),
                span: None,
            });
        }
    }

    fn check_numbers(&self, problems: &mut Problems) {
        let Batching { max_events, max_bytes, timeout_secs } = self.batch;
        if !(1..=100_000).contains(&max_events) {
            problems.error("batch.max_events", "out_of_range", "is no number of documents", "write 1 to 100000");
        }
        if !(1..=100 << 20).contains(&max_bytes.0) {
            let help = "write a size up to 100MiB, which is what servers take by default";
            problems.error("batch.max_bytes", "out_of_range", "is no size of a request", help);
        }
        if !(0.0..=3600.0).contains(&timeout_secs) {
            problems.error("batch.timeout_secs", "out_of_range", "is no time to wait", "write 0 to 3600 seconds");
        }
        let (option, number) = match self.request.concurrency {
            Concurrency::Fixed(number) => ("request.concurrency", number),
            Concurrency::Found(_) => ("request.max", self.request.max),
        };
        if !(1..=256).contains(&number) {
            problems.error(option, "out_of_range", "is no number of requests", "write 1 to 256");
        }
    }

    /// Options that contradict each other.
    fn check_together(&self, problems: &mut Problems) {
        let action = self.action.as_deref().and_then(Action::named);
        let has_none = self.id.as_deref() == Some(NO_ID);
        if self.data_stream && self.action.is_some() && action != Some(Action::Create) {
            let what = "a data stream takes new documents alone";
            problems.error("action", "invalid_option", what, "leave action out, or data_stream");
        }
        if self.data_stream && self.version.is_some() {
            let what = "documents of a data stream have no versions from outside";
            problems.error("version", "invalid_option", what, "leave version out, or data_stream");
        }
        if action.is_some_and(Action::needs_id) && (has_none || self.id.is_none() && action != Some(Action::Upsert)) {
            let what = "the action is about a document that is there, and nothing says which";
            problems.error("id", "missing_value", what, "name the document, such as id: '{{ .id }}'");
        }
        if self.version.is_some() && has_none {
            let what = "a version is of no use to a document that has an id of its own each time";
            problems.error("version", "invalid_option", what, "leave version out, or id: none");
        }
        if self.version.is_some() && matches!(action, Some(Action::Update | Action::Upsert | Action::Create)) {
            let what = "only index and delete take versions from outside";
            problems.error("version", "invalid_option", what, "leave version out, or action: index");
        }
        if self.version.is_none() && self.version_type.is_some() {
            let what = "there is no version to compare";
            problems.error("version_type", "missing_value", what, "set version, or leave version_type out");
        }
        if self.pipeline.is_some() && matches!(action, Some(Action::Update | Action::Upsert | Action::Delete)) {
            let what = "only index and create go through a pipeline";
            problems.error("pipeline", "invalid_option", what, "leave pipeline out, or action: index");
        }
    }
}

/// The word for documents that get their ids from the server.
pub(crate) const NO_ID: &str = "none";

#[typetag::deserialize(name = "elasticsearch")]
#[async_trait]
impl SinkConfig for Elasticsearch {
    fn check(&self, problems: &mut Problems) {
        self.check_reach(problems);
        self.check_numbers(problems);
        self.check_together(problems);
        self.writer(problems);
        if let Some(template) = &self.template {
            Template::check(template, problems);
        }
    }

    fn explain(&self) -> String {
        match self.id.as_deref() {
            Some(NO_ID) => "delivered when the server says so of the document; a replay may write documents twice",
            _ => "delivered when the server says so of the document; a replay writes the same documents again, by their ids",
        }
        .to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        probe::probe(self, context).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let writer = self.writer(&mut Problems::default()).ok_or_else(|| Error::unchecked("index"))?;
        let client = Client::new(&self.reach(), context.clock.clone())?;
        let template = self.template.as_ref().map(Template::read).transpose()?;
        let limit = match self.request.concurrency {
            Concurrency::Fixed(number) => Limit::fixed(number),
            Concurrency::Found(_) => Limit::adaptive(self.request.max),
        };
        let sender = Sender::new(writer, client, template, &self.batch, self.index_wait.0, limit, context.clone());
        Ok(Arc::new(TaskSink::start(WAITING, |asks| sender.run(asks))))
    }
}

#[cfg(test)]
mod tests;
