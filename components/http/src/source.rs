//! The `http` source: its options, and how it starts and ends.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use weir::component::{
    BuildContext, DecodingOption, Finding, Lanes, ProbeContext, Problem, Problems, PushLog, PushOrigin, Severity,
    Source, SourceConfig, Stream, async_trait,
};
use weir::config::{ByteSize, Secret, Span};
use weir::event::Codec;
use weir::{Error, ErrorKind, Result};

use crate::body::Memory;
use crate::framing::Divider;
use crate::options::{Auth, Framing, Tls};
use crate::server::{Door, Server};
use crate::tls;

/// Memory for the bodies of all requests together, unless one needs more.
const BODIES: u64 = 64 << 20;

/// Is sent events over HTTP, and answers once they are durable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    /// Address to listen on, such as `0.0.0.0:8080`.
    #[schemars(with = "String", extend("format" = "address"))]
    listen: SocketAddr,
    /// Path that events are sent to. Default: `/`.
    #[serde(default = "default_path")]
    path: String,
    /// What the events are: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// How a body is divided into events: `auto`, `json`, `newline_delimited` or `bytes`. Default: `auto`.
    #[serde(default)]
    framing: Framing,
    /// Who may send. Default: anyone.
    #[serde(default)]
    auth: Option<Auth>,
    /// Encryption by TLS. Default: none.
    #[serde(default)]
    tls: Option<Tls>,
    /// The largest body, compressed or not; a larger one is refused. Default: `10MiB`.
    #[serde(default = "default_max_body_size")]
    max_body_size: ByteSize,
    /// Connections at the same time; to others it answers that it is busy. Default: 1024.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 100_000))]
    max_connections: u32,
    /// Time within which the head of a request has to come, and then its body. Default: `30s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
    /// Bytes of its log on disk; when they are full, senders are told to come back. Default: `1GiB`.
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
        if self.timeout.0.is_zero() {
            problems.error("timeout", "out_of_range", "leaves no time for a request", "give a time such as `30s`");
        }
        if self.max_body_size.0 == 0 {
            problems.error("max_body_size", "out_of_range", "lets nothing in", "give a size such as `10MiB`");
        }
        if self.max_size.0 < 4 * self.max_body_size.0 {
            let message = "has no room for the largest bodies";
            problems.error("max_size", "out_of_range", message, "give it four times `max_body_size` at least");
        }
        if self.auth.is_some() && self.tls.is_none() && !self.listen.ip().is_loopback() {
            problems.push(Problem {
                path: vec!["auth".to_owned()],
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "passwords and tokens come in unencrypted".to_owned(),
                help: Some("set `tls`, or listen on a loopback address behind a proxy that does it".to_owned()),
                span: None,
            });
        }
    }

    fn has_one_lane(&self) -> bool {
        true
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn explain(&self) -> String {
        let HttpSource { listen, path, max_size, .. } = self;
        format!(
            "listens on {listen}{path}, answers once events are in its log on disk (at most {max_size}); one lane reads the log"
        )
    }

    async fn probe(&self, _: &ProbeContext) -> Vec<Finding> {
        let mut findings = vec![match TcpListener::bind(self.listen).await {
            Ok(_) => Finding::ok(format!("{} is free to listen on", self.listen)),
            Err(error) => Finding::failed(
                format!("{} cannot be listened on: {error}", self.listen),
                "if this graph runs, it is the one that listens; otherwise choose another `listen`",
            ),
        }];
        if let Some(tls) = &self.tls {
            findings.push(match tls::acceptor(tls) {
                Ok(_) => Finding::ok("certificate and key belong together"),
                Err(error) => Finding::failed(error.to_string(), "correct `tls.cert_file` and `tls.key_file`"),
            });
        }
        findings
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let codec = self.codec()?;
        let (log, origin) = PushLog::open(context, self.max_size.0, codec.clone())?;
        if context.once {
            return Ok(Box::new(Http { origin, server: None }));
        }
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            let what = "the address cannot be listened on; choose another `listen`, or stop whoever uses it";
            Error::new(ErrorKind::Config, "listen", what).with("address", self.listen).caused_by(error)
        })?;
        let body_limit = usize::try_from(self.max_body_size.0).unwrap_or(usize::MAX);
        let memory = usize::try_from(BODIES.max(4 * self.max_body_size.0)).unwrap_or(usize::MAX);
        let door = Door {
            path: self.path.clone(),
            authorization: self.auth.as_ref().map(authorization),
            divider: Divider { framing: self.framing, codec },
            body_limit,
            memory: Memory::new(memory),
            timeout: self.timeout.0,
            log,
            node: context.node.clone(),
            clock: context.clock.clone(),
            trouble: context.trouble.clone(),
        };
        let tls = self.tls.as_ref().map(tls::acceptor).transpose()?;
        let server = Server { listener, tls, door: Arc::new(door), max_connections: self.max_connections };
        Ok(Box::new(Http { origin, server: Some(server) }))
    }
}

/// The scheme that is asked for, and what has to stand behind it.
fn authorization(auth: &Auth) -> (&'static str, Secret) {
    match auth {
        Auth::Basic { username, password } => {
            ("Basic", Secret(BASE64_STANDARD.encode(format!("{username}:{}", password.0))))
        }
        Auth::Bearer { token } => ("Bearer", token.clone()),
    }
}

struct Http {
    origin: PushOrigin,
    /// None under `--once`.
    server: Option<Server>,
}

#[async_trait]
impl Source for Http {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let mut lane = lanes.open_one(Box::new(self.origin)).await?;
        let Some(server) = self.server else { return lane.ended().await.map(drop) };
        let mut serving = pin!(server.serve(lanes.clone()));
        tokio::select! {
            () = &mut serving => lane.ended().await.map(drop),
            end = lane.ended() => {
                // The lane may be done before every request has its answer. Where it ended by itself nobody reads any
                // more, and what comes in would wait for the next start.
                if lanes.is_stopping() {
                    serving.await;
                }
                end.map(drop)
            }
        }
    }
}
