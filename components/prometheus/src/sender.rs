//! The sink `prometheus_remote_write`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use weir::component::{BuildContext, Finding, ProbeContext, Problems, Sink, SinkConfig, async_trait};
use weir::config::{ByteSize, Secret, Span};
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Rejected};
use weir::state::SystemClock;
use weir::{Error, Result};
use weir_http_client::{
    Answer, Ask, Auth, Client, HeaderMap, HeaderName, HeaderValue, Method, Request as Post, Settings, TaskSink, Tls,
    Url, Verdict,
};

use crate::exporter::point;
use crate::remote_write::request::Builder;
use crate::remote_write::{MessageVersion, Version};

/// Sends points to Prometheus or any remote-write receiver; delivered once the receiver accepts them.
///
/// Requests are sent one at a time, so that the points of a series stay in order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteSink {
    /// Address of the receiver, such as `http://prometheus:9090/api/v1/write`. Messages show only host and port.
    endpoint: Url,
    /// Message version: `1` or `2`. Default: 1, which every receiver accepts; it omits types, help texts, units and
    /// creation times.
    #[serde(default = "default_version")]
    version: MessageVersion,
    /// Size of bulk requests.
    #[serde(default)]
    batch: Batching,
    /// Additional request headers, such as `X-Scope-OrgID`; headers of the protocol cannot be set. Default: none.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// Credentials sent with each request. Default: none.
    auth: Option<Auth>,
    /// TLS options for an `https` address. Default: certificates are checked against the system's authorities.
    tls: Option<Tls>,
    /// Time limit per request. Default: `30s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
}

/// Size of bulk requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Maximum points per request. Default: 2000.
    #[schemars(range(min = 1, max = 65_536))]
    max_events: usize,
    /// Approximate maximum bytes per request before compression. Default: `1MiB`.
    max_bytes: ByteSize,
    /// Maximum seconds a point waits for others. Default: 1.
    #[schemars(range(min = 0.0))]
    timeout_secs: f64,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching { max_events: 2000, max_bytes: ByteSize(1 << 20), timeout_secs: 1.0 }
    }
}

fn default_version() -> MessageVersion {
    MessageVersion(Version::V1)
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

/// Batches that wait for the sender.
const WAITING: usize = 32;
/// Headers of the protocol itself.
const RESERVED: [&str; 4] = ["content-encoding", "content-type", "user-agent", "x-prometheus-remote-write-version"];

weir::register_sink!(
    "prometheus_remote_write",
    RemoteWriteSink,
    "{type: prometheus_remote_write, inputs: [in], endpoint: \"http://localhost:9090/api/v1/write\"}"
);

impl RemoteWriteSink {
    fn settings(&self) -> Settings<'_> {
        let mut settings = Settings::new(self.auth.as_ref(), self.tls.as_ref());
        settings.timeout = self.timeout.0;
        settings
    }
}

#[typetag::deserialize(name = "prometheus_remote_write")]
#[async_trait]
impl SinkConfig for RemoteWriteSink {
    fn check(&self, problems: &mut Problems) {
        self.settings().check("endpoint", [&self.endpoint], problems);
        for (name, value) in &self.headers {
            if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
                let what = "is a header of the protocol itself";
                problems.error(&format!("headers.{name}"), "bad_value", what, "leave it out");
            }
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.0.as_str()).is_err() {
                let what = "the name or the value cannot stand in a header";
                problems.error(&format!("headers.{name}"), "bad_value", what, "check for blanks and newlines");
            }
        }
        let Batching { max_events, max_bytes, timeout_secs } = self.batch;
        if !(1..=65_536).contains(&max_events) {
            problems.error("batch.max_events", "out_of_range", "is no number of points", "write 1 to 65536");
        }
        if max_bytes.0 == 0 || max_bytes.0 > 64 << 20 {
            problems.error("batch.max_bytes", "out_of_range", "is no size of a request", "write a size up to 64MiB");
        }
        if !(0.0..=3600.0).contains(&timeout_secs) {
            problems.error("batch.timeout_secs", "out_of_range", "is no time to wait", "write 0 to 3600 seconds");
        }
    }

    fn explain(&self) -> String {
        "delivered when the peer answers 2xx; a replay may send points again, with the same time and value".to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        let mut settings = self.settings();
        settings.timeout = context.limit;
        let Ok(address) = self.endpoint.parse() else { return Vec::new() };
        let shown = address.to_string();
        let client = match Client::new(&settings, vec![address], Arc::new(SystemClock::default())) {
            Ok(client) => client,
            Err(error) => return vec![Finding::failed(error.to_string(), "correct the files that `tls` names")],
        };
        // A receiver takes POST alone: that it answers at all is all that can be asked without writing anything.
        let request = Post { method: Method::HEAD, headers: HeaderMap::new(), body: Default::default() };
        vec![match client.send_to(0, &request).await {
            Verdict::Again { why, .. } if !why.contains("HTTP 405") => {
                Finding::failed(why, "check the address, `auth` and `tls`, and that the peer runs with its receiver on")
            }
            _ => Finding::ok(format!("{shown} answers")),
        }]
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let address = self.endpoint.parse().map_err(|_| Error::unchecked("endpoint"))?;
        let mut client = Client::new(&self.settings(), vec![address], context.clock.clone())?;
        for (name, value) in &self.headers {
            client = client.with_header(name, &value.0)?;
        }
        let sender = Sender { client, version: self.version.0, batching: self.batch.clone(), context: context.clone() };
        Ok(Arc::new(TaskSink::start(WAITING, |requests| sender.run(requests))))
    }
}

/// Why events are rejected.
struct Refusal {
    code: &'static str,
    message: String,
}

/// The task that sends.
struct Sender {
    client: Client,
    version: Version,
    batching: Batching,
    context: BuildContext,
}

impl Sender {
    /// Serves requests until the sink is gone.
    async fn run(self, mut requests: mpsc::Receiver<Ask>) {
        while let Some(request) = requests.recv().await {
            let mut flushes = Vec::new();
            let mut batches = Vec::new();
            let mut events = 0;
            let mut next = Some(request);
            let mut wait = self.context.clock.sleep(Duration::from_secs_f64(self.batching.timeout_secs));
            while let Some(request) = next.take() {
                match request {
                    Ask::Write(batch) => {
                        events += batch.events.len();
                        batches.push(batch);
                    }
                    Ask::Flush(done) => flushes.push(done),
                }
                // A flush does not wait for others.
                if events < self.batching.max_events && batches.len() < WAITING && flushes.is_empty() {
                    next = tokio::select! {
                        biased;
                        request = requests.recv() => request,
                        () = &mut wait => None,
                    };
                }
            }
            self.send(batches).await;
            for done in flushes {
                let _gone = done.send(());
            }
        }
    }

    /// Sends batches, and returns when all of them are settled.
    async fn send(&self, batches: Vec<Batch>) {
        let mut rejected: Vec<Vec<Rejected>> = batches.iter().map(|_| Vec::new()).collect();
        let mut builder = Builder::new(self.version);
        let mut members = Vec::new();
        let max_bytes = usize::try_from(self.batching.max_bytes.0).unwrap_or(usize::MAX);
        for (number, batch) in batches.iter().enumerate() {
            for (at, event) in batch.events.iter().enumerate() {
                let point = point(event).map(|mut point| {
                    // To Prometheus it is as if they were not there, and the protocol does not have them.
                    point.labels.retain(|_, value| !value.is_empty());
                    point
                });
                match point.and_then(|point| builder.push(&point)) {
                    Ok(()) => members.push((number, at)),
                    Err(error) => {
                        let (code, message) = (error.code, error.message);
                        rejected[number].push(Rejected { event: event.clone(), code, message });
                    }
                }
                if builder.points() >= self.batching.max_events || builder.size() >= max_bytes {
                    let full = std::mem::replace(&mut builder, Builder::new(self.version));
                    self.deliver(full, std::mem::take(&mut members), &batches, &mut rejected).await;
                }
            }
        }
        self.deliver(builder, members, &batches, &mut rejected).await;
        for (batch, rejected) in batches.into_iter().zip(rejected) {
            self.settle(batch, rejected).await;
        }
    }

    /// Sends one request until the peer has it, or will never take it.
    async fn deliver(
        &self,
        builder: Builder,
        members: Vec<(usize, usize)>,
        batches: &[Batch],
        rejected: &mut [Vec<Rejected>],
    ) {
        if members.is_empty() {
            return;
        }
        if let Err(Refusal { code, message }) = self.post(builder).await {
            for (number, at) in members {
                let event = batches[number].events[at].clone();
                rejected[number].push(Rejected { event, code, message: message.clone() });
            }
        }
    }

    async fn post(&self, builder: Builder) -> std::result::Result<(), Refusal> {
        let (points, measured) = (builder.points(), builder.measured());
        let body = builder.finish().map_err(|error| Refusal { code: error.code, message: error.message })?;
        let mut post = Post::post(self.version.content_type(), body);
        self.context.books.bytes(post.body.len());
        let version = if self.version == Version::V1 { "0.1.0" } else { "2.0.0" };
        for (name, value) in [("content-encoding", "snappy"), ("x-prometheus-remote-write-version", version)] {
            post.headers.insert(name, HeaderValue::from_static(value));
        }
        let refused = |message| Refusal { code: "remote_write_refused", message };
        match self.client.deliver(&post, &self.context.trouble).await {
            Ok(answer) if self.version == Version::V2 && measured > 0 && written(&answer) == Some(0) => {
                let answer = answer.text();
                let help = "it may know remote write 1.0 alone: set version: 1";
                Err(refused(format!("{answer}, and the peer says that it wrote none of {points} points; {help}")))
            }
            Ok(_) => Ok(()),
            Err((answer, why)) => Err(refused(match written(&answer) {
                Some(written) if written > 0 => {
                    format!("{why} (the peer says that it wrote {written} of {points} points; not which)")
                }
                _ => why,
            })),
        }
    }

    async fn settle(&self, batch: Batch, rejected: Vec<Rejected>) {
        self.context.books.passed(batch.events.len() - rejected.len());
        let Batch { origin, receipt, .. } = batch;
        if !rejected.is_empty() {
            let rejected = RejectedBatch { origin, receipt: receipt.clone(), rejected };
            self.context.rejects.reject(rejected).await;
        }
        receipt.resolve(Outcome::Delivered);
    }
}

/// What a receiver of 2.0 says that it wrote; what it does not name it has not written. None: its words are no numbers.
fn written(answer: &Answer) -> Option<u64> {
    let names = ["samples", "histograms", "exemplars"];
    let count = |name: &str| match answer.headers.get(format!("x-prometheus-remote-write-{name}-written")) {
        None => Some(0),
        Some(value) => value.to_str().ok()?.trim().parse::<u64>().ok(),
    };
    names.iter().try_fold(0_u64, |all, name| all.checked_add(count(name)?))
}
