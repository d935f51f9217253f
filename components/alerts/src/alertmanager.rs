//! The `alertmanager` sink: its options, and the way to its notifier.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir::component::{BuildContext, Finding, ProbeContext, Problems, Sink, SinkConfig, async_trait};
use weir::config::Span;
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Rejected};
use weir::{Error, ErrorKind, Result};
use weir_http_client::{Auth, Client, Method, Settings, Tls, Url};

use crate::alert::{Reader, Refusal, Texts};
use crate::held::HeldSet;
use crate::notifier::{Notifier, Request, WAITING, Write};
use crate::probe;

/// Sends alerts to Alertmanager, as Prometheus does; an event is delivered once one Alertmanager has accepted it.
///
/// Reads events from `alert_firing`. A firing alert is sent again every `resend_delay`, also after a restart, until an
/// event resolves it; the resolved alert is sent for another 15 minutes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Addresses of Alertmanagers, such as `http://alertmanager:9093`; each receives every alert. Messages show only
    /// host and port.
    endpoints: Vec<Url>,
    /// Annotations added to alerts, by name; values may contain `{{ VRL }}`. Default: none.
    #[serde(default)]
    annotations: Texts,
    /// Link to the origin of the alert; may contain `{{ VRL }}`. Default: none.
    generator_url: Option<String>,
    /// Whether to remember firing alerts and send them again. If false, Alertmanager resolves an alert after
    /// `resolve_timeout` unless another event arrives. Default: true.
    #[serde(default = "default_resend")]
    resend: bool,
    /// Interval between repeated notifications of a firing alert. Default: `1m`.
    #[serde(default = "default_resend_delay")]
    resend_delay: Span,
    /// Time after which Alertmanager resolves an alert that is not sent again. Default: four times `resend_delay`.
    resolve_timeout: Option<Span>,
    /// Maximum alerts per request. Default: 256.
    #[serde(default = "default_batch_size")]
    #[schemars(range(min = 1, max = 10_000))]
    batch_size: usize,
    /// Maximum alerts remembered; further alerts are rejected (`too_many_alerts`). Default: 100000.
    #[serde(default = "default_max_alerts")]
    #[schemars(range(min = 1))]
    max_alerts: usize,
    /// Credentials sent with each request. Default: none.
    auth: Option<Auth>,
    /// TLS options for `https` addresses. Default: certificates are checked against the system's authorities.
    tls: Option<Tls>,
    /// Time limit per request. Default: `10s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
}

fn default_resend() -> bool {
    true
}

fn default_resend_delay() -> Span {
    Span(Duration::from_secs(60))
}

fn default_batch_size() -> usize {
    256
}

fn default_max_alerts() -> usize {
    100_000
}

pub(crate) fn default_timeout() -> Span {
    Span(Duration::from_secs(10))
}

weir::register_sink!(
    "alertmanager",
    Alertmanager,
    r#"{type: alertmanager, inputs: [in], endpoints: ["http://localhost:9093"]}"#
);

impl Alertmanager {
    fn settings(&self) -> Settings<'_> {
        let mut settings = Settings::new(self.auth.as_ref(), self.tls.as_ref());
        settings.timeout = self.timeout.0;
        settings
    }

    fn resolve_timeout(&self) -> Duration {
        self.resolve_timeout.map_or(self.resend_delay.0.saturating_mul(4), |timeout| timeout.0)
    }
}

#[typetag::deserialize(name = "alertmanager")]
#[async_trait]
impl SinkConfig for Alertmanager {
    fn check(&self, problems: &mut Problems) {
        self.settings().check("endpoints", &self.endpoints, problems);
        Reader::compile(&self.annotations, self.generator_url.as_deref(), problems);
        if self.resend_delay.0.is_zero() {
            problems.error("resend_delay", "out_of_range", "is no time at all", "write a span such as 1m");
        }
        if self.resend && self.resolve_timeout() <= self.resend_delay.0 {
            let what = "is over before an alert is told again, so that Alertmanager would resolve what fires";
            problems.error("resolve_timeout", "out_of_range", what, "make it longer than resend_delay");
        }
    }

    fn explain(&self) -> String {
        "delivered when an Alertmanager has it; what fires is told again until it is resolved".to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        let mut settings = self.settings();
        settings.timeout = context.limit;
        let mut findings = Vec::new();
        for address in self.endpoints.iter().filter_map(|url| url.parse().ok()) {
            findings.push(probe::ask(&settings, address.join("/api/v2/status"), Method::GET, true).await);
        }
        findings
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let addresses = self.endpoints.iter().map(|url| url.parse().map(|base| base.join("/api/v2/alerts")));
        let addresses = addresses.collect::<Result<Vec<_>, _>>().map_err(|_| Error::unchecked("endpoints"))?;
        let client = Client::new(&self.settings(), addresses, context.clock.clone())?;
        let reader = Reader::compile(&self.annotations, self.generator_url.as_deref(), &mut Problems::default())
            .ok_or_else(|| Error::unchecked("annotations"))?;
        let notifier = Notifier {
            client: Arc::new(client),
            context: context.clone(),
            held: self.held(context)?,
            resend_every: self.resend.then_some(self.resend_delay.0),
            resolve_timeout: self.resolve_timeout(),
            pauses_until: Duration::ZERO,
            batch_size: self.batch_size.max(1),
        };
        let (send, requests) = mpsc::channel(WAITING);
        let task = tokio::spawn(notifier.run(requests));
        Ok(Arc::new(Telling { send, task, reader: Mutex::new(reader), context: context.clone() }))
    }
}

/// Under this name lies what is told again and again.
pub(crate) const STORED: &str = "alerts";

impl Alertmanager {
    /// What another process before this one held.
    fn held(&self, context: &BuildContext) -> Result<HeldSet> {
        if !self.resend {
            return Ok(HeldSet::new(self.max_alerts));
        }
        let failed = |what: &str| Error::new(ErrorKind::Io, "take up the alerts that fire", what.to_owned());
        let stored = context.storage.load(STORED).map_err(|error| failed("they cannot be read").caused_by(error))?;
        match stored {
            None => Ok(HeldSet::new(self.max_alerts)),
            Some(bytes) => HeldSet::from_bytes(&bytes, self.max_alerts).map_err(|error| {
                failed("what is stored of them is damaged; remove the file, and those that fire are told when they come again")
                    .with("file", format!("{STORED}.fact"))
                    .caused_by(error)
            }),
        }
    }
}

/// The sink at work.
struct Telling {
    send: mpsc::Sender<Request>,
    task: JoinHandle<()>,
    reader: Mutex<Reader>,
    context: BuildContext,
}

#[async_trait]
impl Sink for Telling {
    async fn write(&self, batch: Batch) {
        let now = self.context.clock.now();
        let Batch { origin, receipt, events, .. } = batch;
        if events.is_empty() {
            return receipt.resolve(Outcome::Filtered);
        }
        let (mut alerts, mut rejected) = (Vec::with_capacity(events.len()), Vec::new());
        {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                match reader.read(&event, &origin, now) {
                    Ok(alert) => alerts.push((event, alert)),
                    Err(Refusal { code, message }) => rejected.push(Rejected { event, code, message }),
                }
            }
        }
        if !rejected.is_empty() {
            let rejected = RejectedBatch { origin: origin.clone(), receipt: receipt.clone(), rejected };
            self.context.rejects.reject(rejected).await;
        }
        // A notifier that is gone drops the receipt: failed.
        let _gone = self.send.send(Request::Write(Write { origin, receipt, alerts })).await;
    }

    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _gone = self.send.send(Request::Flush(done)).await;
        let _gone = flushed.await;
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
    }
}
