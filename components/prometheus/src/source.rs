//! The `prometheus_remote_write` source: its options, and what it is built of.

mod receiver;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Finding, ProbeContext, Problems, Resource, Source, SourceConfig, async_trait};
use weir::config::{ByteSize, Span};
use weir::event::Codec;
use weir_http_server::{Auth, Listen, Receiver, Tls};

use crate::remote_write::{Limits, decoder};
use receiver::RemoteWrite;

/// Receives points by Prometheus remote write 1.0 and 2.0; answers once they are on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusRemoteWriteSource {
    /// Address to listen on. Default: `0.0.0.0:9090`.
    #[serde(default = "default_listen")]
    #[schemars(with = "String", extend("format" = "address"))]
    listen: SocketAddr,
    /// Request path, such as `/api/v1/write`. Default: any.
    #[serde(default)]
    path: Option<String>,
    /// Credentials that senders must present. Default: none.
    #[serde(default)]
    auth: Option<Auth>,
    /// TLS options. Default: no encryption.
    #[serde(default)]
    tls: Option<Tls>,
    /// Maximum compressed body size; larger bodies are refused. Default: `10MiB`.
    #[serde(default = "default_max_body_size")]
    max_body_size: ByteSize,
    /// Maximum decompressed request size; larger requests are refused. Default: `16MiB`.
    #[serde(default = "default_max_decompressed_size")]
    max_decompressed_size: ByteSize,
    /// Maximum series per request; requests with more are refused. Default: 65536.
    #[serde(default = "default_max_series")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_series: u32,
    /// Maximum samples, histograms and exemplars per request; requests with more are refused. Default: 65536.
    #[serde(default = "default_max_points")]
    #[schemars(range(min = 1, max = 65_536))]
    max_points: u32,
    /// Maximum labels per series; series with more are refused. Default: 256.
    #[serde(default = "default_max_labels")]
    #[schemars(range(min = 1, max = 10_000))]
    max_labels: u32,
    /// Maximum bytes of label names and values per series; series with more are refused. Default: `64KiB`.
    #[serde(default = "default_max_label_bytes")]
    max_label_bytes: ByteSize,
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

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090))
}

fn default_max_body_size() -> ByteSize {
    ByteSize(10 << 20)
}

fn default_max_decompressed_size() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_max_series() -> u32 {
    1 << 16
}

fn default_max_points() -> u32 {
    1 << 16
}

fn default_max_labels() -> u32 {
    256
}

fn default_max_label_bytes() -> ByteSize {
    ByteSize(64 << 10)
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

weir::register_source!(
    "prometheus_remote_write",
    PrometheusRemoteWriteSource,
    "{type: prometheus_remote_write, listen: \"0.0.0.0:9090\"}"
);

#[typetag::deserialize(name = "prometheus_remote_write")]
#[async_trait]
impl SourceConfig for PrometheusRemoteWriteSource {
    fn check(&self, problems: &mut Problems) {
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            let help = "begin it with a slash: `/api/v1/write`; without `path` every path is taken";
            problems.error("path", "bad_value", "is no path", help);
        }
        if self.max_decompressed_size.0 == 0 {
            problems.error("max_decompressed_size", "out_of_range", "lets nothing in", "give a size such as `16MiB`");
        }
        // A record of the log is a request and a few bytes.
        if self.max_size.0 < 4 * self.max_decompressed_size.0.saturating_add(1024) {
            let help = "give it more than four times `max_decompressed_size`";
            problems.error("max_size", "out_of_range", "has no room for the largest requests", help);
        }
        self.listen().check(problems);
    }

    fn has_one_lane(&self) -> bool {
        true
    }

    fn codec(&self) -> Result<Codec> {
        Ok(Codec::Other(decoder()))
    }

    fn resources(&self) -> Vec<Resource> {
        Resource::address(self.listen).into_iter().collect()
    }

    fn explain(&self) -> String {
        let PrometheusRemoteWriteSource { listen, path, max_size, .. } = self;
        let path = path.as_deref().unwrap_or(", at any path");
        format!(
            "listens on {listen}{path}, answers 204 once points are in its log on disk (at most {max_size}), and 503 when that is \
             full, so that the sender keeps them; one lane reads the log, and makes an event of each point"
        )
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        self.listen().probe(context).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let limits = Limits {
            series: self.max_series as usize,
            points: self.max_points as usize,
            labels: self.max_labels as usize,
            label_bytes: size(self.max_label_bytes),
            ..Limits::default()
        };
        let handler = |ledger| RemoteWrite {
            path: self.path.clone(),
            max_decompressed: size(self.max_decompressed_size),
            limits,
            node: Arc::clone(&context.node),
            ledger,
        };
        // A body as it came; decompressed, without what is refused, and on its way into the log.
        let largest = self.max_body_size.0.saturating_add(self.max_decompressed_size.0.saturating_mul(3));
        let receiver =
            Receiver::open(context, &self.listen(), self.max_size.0, self.codec()?, largest, handler).await?;
        Ok(Box::new(receiver))
    }
}

fn size(bytes: ByteSize) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}

impl PrometheusRemoteWriteSource {
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
