//! The `http` source: its options, and how it starts and ends.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{
    BuildContext, DecodingOption, Finding, ProbeContext, Problems, Resource, Source, SourceConfig, Stream, async_trait,
};
use weir::config::{ByteSize, Span};
use weir::event::Codec;
use weir_http_server::{Auth, Listen, Receiver, Tls};

use crate::framing::Divider;
use crate::handler::Events;
use crate::options::Framing;

/// Receives events over HTTP; answers once they are on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    /// Address to listen on, such as `0.0.0.0:8080`.
    #[schemars(with = "String", extend("format" = "address"))]
    listen: SocketAddr,
    /// Request path. Default: `/`.
    #[serde(default = "default_path")]
    path: String,
    /// Decoding of events: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// How a body is split into events: `auto`, `json`, `newline_delimited` or `bytes`. Default: `auto`.
    #[serde(default)]
    framing: Framing,
    /// Credentials that senders must present. Default: none.
    #[serde(default)]
    auth: Option<Auth>,
    /// TLS options. Default: no encryption.
    #[serde(default)]
    tls: Option<Tls>,
    /// Maximum body size, compressed or not; larger bodies are refused. Default: `10MiB`.
    #[serde(default = "default_max_body_size")]
    max_body_size: ByteSize,
    /// Maximum concurrent connections; further ones get 503. Default: 1024.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 100_000))]
    max_connections: u32,
    /// Time limit for the head of a request, and then for its body. Default: `30s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
    /// Maximum size of the log on disk; while it is full, senders get 503 with `Retry-After`. Default: `1GiB`.
    #[serde(default = "default_max_size")]
    max_size: ByteSize,
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_max_body_size() -> ByteSize {
    ByteSize(10 << 20)
}

fn default_max_connections() -> u32 {
    1024
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

fn default_max_size() -> ByteSize {
    ByteSize(1 << 30)
}

weir::register_source!("http", HttpSource, "{type: http, listen: \"127.0.0.1:8080\", path: /events}");

#[typetag::deserialize(name = "http")]
#[async_trait]
impl SourceConfig for HttpSource {
    fn check(&self, problems: &mut Problems) {
        self.decoding.check(Stream::Messages, problems);
        if !self.path.starts_with('/') {
            problems.error("path", "bad_value", "is no path", "begin it with a slash: `/events`");
        }
        if self.framing == Framing::Json && !matches!(self.decoding, DecodingOption::Json) {
            let message = "divides JSON alone";
            problems.error("framing", "bad_value", message, "use `newline_delimited` or `bytes`, or `decoding: json`");
        }
        if self.max_size.0 < 4 * self.max_body_size.0 {
            let message = "has no room for the largest bodies";
            problems.error("max_size", "out_of_range", message, "give it four times `max_body_size` at least");
        }
        self.listen().check(problems);
    }

    fn has_one_lane(&self) -> bool {
        true
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn resources(&self) -> Vec<Resource> {
        Resource::address(self.listen).into_iter().collect()
    }

    fn explain(&self) -> String {
        let HttpSource { listen, path, max_size, .. } = self;
        format!(
            "listens on {listen}{path}, answers once events are in its log on disk (at most {max_size}); one lane reads the log"
        )
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        self.listen().probe(context).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let codec = self.codec()?;
        let handler = |ledger| Events {
            path: self.path.clone(),
            divider: Divider { framing: self.framing, codec: codec.clone() },
            limit: usize::try_from(self.max_body_size.0).unwrap_or(usize::MAX),
            ledger,
        };
        // A body as it came, decompressed, on its way into the log, and a bit of all.
        let largest = 4 * self.max_body_size.0;
        let receiver =
            Receiver::open(context, &self.listen(), self.max_size.0, codec.clone(), largest, handler).await?;
        Ok(Box::new(receiver))
    }
}

impl HttpSource {
    fn listen(&self) -> Listen<'_> {
        Listen {
            address: self.listen,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
            max_body_size: self.max_body_size,
            max_connections: self.max_connections,
            timeout: self.timeout,
        }
    }
}
