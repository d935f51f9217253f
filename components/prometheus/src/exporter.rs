//! The sink `prometheus_exporter`: its options, and the page that is scraped.

mod held;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Finding, ProbeContext, Problems, Resource, Sink, SinkConfig, async_trait};
use weir::config::{ByteSize, Span};
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Body, Codec, CodecError, Event, Rejected};
use weir::state::Clock;
use weir_http_server::hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use weir_http_server::hyper::{Method, StatusCode};
use weir_http_server::{Answer, Auth, Handler, Head, Listen, Request, Share, Site, Tls, come_back, refused};

use crate::codec::exact_json;
use crate::point::Point;
use held::{Held, Names};

/// Serves the latest point of each series for Prometheus to scrape.
///
/// Points are held in memory only. A stale marker ends its series.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusExporter {
    /// Address to listen on. Default: `127.0.0.1:9598`, reachable from this machine only.
    #[serde(default = "default_listen")]
    #[schemars(with = "String", extend("format" = "address"))]
    listen: SocketAddr,
    /// Request path. Default: `/metrics`.
    #[serde(default = "default_path")]
    path: String,
    /// Credentials that clients must present. Default: none.
    #[serde(default)]
    auth: Option<Auth>,
    /// TLS options. Default: no encryption.
    #[serde(default)]
    tls: Option<Tls>,
    /// Seconds without points after which a series is removed. Default: 300.
    #[serde(default = "default_flush_period")]
    #[schemars(range(min = 1))]
    flush_period_secs: u64,
    /// Whether to omit timestamps, so that points get the scrape time. Default: false.
    #[serde(default)]
    suppress_timestamp: bool,
    /// Maximum series, and metrics with metadata; further ones are rejected. Default: 100000.
    #[serde(default = "default_max_series")]
    #[schemars(range(min = 1, max = 10_000_000))]
    max_series: usize,
    /// Maximum concurrent connections; further ones get 503. Default: 32.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 100_000))]
    max_connections: u32,
    /// Time limit for the head of a request. Default: `30s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9598))
}

fn default_path() -> String {
    "/metrics".to_owned()
}

fn default_flush_period() -> u64 {
    300
}

fn default_max_series() -> usize {
    100_000
}

fn default_max_connections() -> u32 {
    32
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

/// The largest body of a request; nobody sends one.
const BODY: ByteSize = ByteSize(4 << 10);

weir::register_sink!(
    "prometheus_exporter",
    PrometheusExporter,
    "{type: prometheus_exporter, inputs: [in], listen: \"127.0.0.1:9598\"}"
);

#[typetag::deserialize(name = "prometheus_exporter")]
#[async_trait]
impl SinkConfig for PrometheusExporter {
    fn check(&self, problems: &mut Problems) {
        if !self.path.starts_with('/') {
            problems.error("path", "bad_value", "is no path", "begin it with a slash: `/metrics`");
        }
        self.listening().check(problems);
    }

    fn resources(&self) -> Vec<Resource> {
        Resource::address(self.listen).into_iter().collect()
    }

    fn explain(&self) -> String {
        let PrometheusExporter { listen, path, flush_period_secs, .. } = self;
        format!(
            "delivered once it is in the memory that {listen}{path} shows, for {flush_period_secs} s: a restart forgets it; a replay \
             changes nothing"
        )
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        self.listening().probe(context).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let held = Held::new(self.max_series, Duration::from_secs(self.flush_period_secs));
        let held = Arc::new(Mutex::new(held));
        let page = Page {
            held: held.clone(),
            path: self.path.clone(),
            has_timestamps: !self.suppress_timestamp,
            clock: context.clock.clone(),
        };
        let site = Site::open(context, &self.listening(), page).await?;
        Ok(Arc::new(Exporter { held, context: context.clone(), _site: site }))
    }
}

impl PrometheusExporter {
    fn listening(&self) -> Listen<'_> {
        Listen {
            address: self.listen,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
            max_body_size: BODY,
            max_connections: self.max_connections,
            timeout: self.timeout,
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sink at work.
struct Exporter {
    held: Arc<Mutex<Held>>,
    context: BuildContext,
    _site: Site,
}

/// The point that an event is.
pub(crate) fn point(event: &Event) -> std::result::Result<Point, CodecError> {
    match &event.body {
        Body::Raw(bytes, Codec::Json | Codec::Edited) => Point::try_from(&exact_json(bytes)?),
        Body::Raw(bytes, codec) => Point::try_from(&codec.decode(bytes)?),
        Body::Parsed(value) => Point::try_from(value),
    }
}

#[async_trait]
impl Sink for Exporter {
    async fn write(&self, batch: Batch) {
        let Batch { origin, receipt, events, .. } = batch;
        let now = self.context.clock.uptime();
        let count = events.len();
        let mut rejected = Vec::new();
        // Decoded first: the page does not wait for that.
        let points: Vec<_> = events.iter().map(point).collect();
        {
            let mut held = lock(&self.held);
            for (event, point) in events.into_iter().zip(points) {
                if let Err(error) = point.and_then(|point| held.put(point, now)) {
                    rejected.push(Rejected { event, code: error.code, message: error.message });
                }
            }
        }
        self.context.books.passed(count - rejected.len());
        if !rejected.is_empty() {
            self.context.rejects.reject(RejectedBatch { origin, receipt: receipt.clone(), rejected }).await;
        }
        receipt.resolve(Outcome::Delivered);
    }

    async fn flush(&self) {}
}

/// A page until it is read: those of slow scrapers take a bounded memory together.
struct Shown {
    text: String,
    _share: Share,
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// What is answered to a scraper.
struct Page {
    held: Arc<Mutex<Held>>,
    path: String,
    has_timestamps: bool,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Handler for Page {
    fn greet(&self, _: &Head) -> Option<Answer> {
        None
    }

    fn refuse(&self, head: &Head) -> Option<Answer> {
        if head.uri.path() != self.path {
            return Some(refused(StatusCode::NOT_FOUND, format!("the metrics are at {}", self.path)));
        }
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        (!is_read).then(|| refused(StatusCode::METHOD_NOT_ALLOWED, "metrics are read by GET"))
    }

    async fn take(&self, mut request: Request) -> Answer {
        let accepted = request.head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (names, content_type) = if accepted.into_iter().any(|value| value.contains("escaping=allow-utf-8")) {
            (Names::Quoted, "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8")
        } else {
            (Names::Plain, "text/plain; version=0.0.4; charset=utf-8")
        };
        let now = self.clock.uptime();
        // Many series take milliseconds, in which others of this thread would wait.
        let text = tokio::task::block_in_place(|| lock(&self.held).text(names, self.has_timestamps, now));
        if request.share.take_answer(text.len()).is_err() {
            return come_back("too many pages are being read", 1);
        }
        let page = bytes::Bytes::from_owner(Shown { text, _share: request.share });
        let mut answer = Answer::new(page.into());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer
    }
}
