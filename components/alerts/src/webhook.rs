//! The `webhook` sink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use weir::component::{BuildContext, Finding, ProbeContext, Problems, Sink, SinkConfig, async_trait};
use weir::config::{Secret, Span};
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Event, Rejected};
use weir::script::{Problem, Template};
use weir::{Error, Result};
use weir_http_client::{
    Ask, Auth, Client, HeaderName, HeaderValue, Method, Request as Post, Settings, TaskSink, Tls, Url,
};

use crate::alert::{Reader, Refusal, Texts};
use crate::alertmanager::default_timeout;
use crate::payload::{Form, Group, Posted};
use crate::probe;

/// Posts alerts in Alertmanager's webhook format, or any event as your own text; delivered once the server answers 2xx.
///
/// With `payload: alertmanager`, reads events from `alert_firing` and sends the alerts of a group that arrive within
/// `group_wait` in one request. With `body`, sends one request per event, in order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Address to post to. Messages show only host and port.
    url: Url,
    /// Content of the request: `alertmanager` (version 4 of its payload) or `body`. Default: `body` if `body` is set,
    /// otherwise `alertmanager`.
    payload: Option<Payload>,
    /// Request body for an event; may contain `{{ VRL }}`, such as `{{ encode_json(.labels) }}`. Default: none.
    body: Option<String>,
    /// `Content-Type` header. Default: `application/json`.
    content_type: Option<String>,
    /// Additional request headers, by name. Default: none.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// Labels by which alerts are grouped into requests. Default: `[alertname]`.
    #[serde(default = "default_group_by")]
    group_by: Vec<String>,
    /// Time to wait for further alerts of a group. Default: `1s`.
    #[serde(default = "default_group_wait")]
    group_wait: Span,
    /// Receiver name in the payload. Default: the node's id.
    receiver: Option<String>,
    /// Link to this installation in the payload. Default: empty.
    #[serde(default)]
    external_url: String,
    /// Maximum alerts per payload; `truncatedAlerts` counts the rest. 0: no maximum. Default: 0.
    #[serde(default)]
    max_alerts: usize,
    /// Annotations added to alerts, by name; values may contain `{{ VRL }}`. Default: none.
    #[serde(default)]
    annotations: Texts,
    /// Link to the origin of the alert; may contain `{{ VRL }}`. Default: none.
    generator_url: Option<String>,
    /// Credentials sent with each request. Default: none.
    auth: Option<Auth>,
    /// TLS options for an `https` address. Default: certificates are checked against the system's authorities.
    tls: Option<Tls>,
    /// Time limit per request. Default: `10s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
}

/// Content of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Alerts in Alertmanager's format.
    Alertmanager,
    /// The text in `body`.
    Body,
}

fn default_group_by() -> Vec<String> {
    vec!["alertname".to_owned()]
}

fn default_group_wait() -> Span {
    Span(Duration::from_secs(1))
}

/// Batches that wait, and that are taken at once.
const WAITING: usize = 32;

weir::register_sink!("webhook", Webhook, "{type: webhook, inputs: [in], url: \"http://localhost:8080/alerts\"}");

impl Webhook {
    fn settings(&self) -> Settings<'_> {
        let mut settings = Settings::new(self.auth.as_ref(), self.tls.as_ref());
        settings.timeout = self.timeout.0;
        settings
    }

    /// The text of events, or the form of alerts.
    fn writer(&self, node: &str, problems: &mut Problems) -> Option<Writer> {
        match (self.payload, &self.body) {
            (Some(Payload::Alertmanager), Some(_)) => {
                let what = "is of no use with `payload: alertmanager`";
                problems.error("body", "invalid_option", what, "leave out one of the two");
                None
            }
            (Some(Payload::Body), None) => {
                problems.error(
                    "body",
                    "missing_value",
                    "there is no text to post",
                    "write one: body: '{{ encode_json(.) }}'",
                );
                None
            }
            (_, Some(body)) => Problem::report(Template::compile(body), "body", "invalid_template", problems)
                .map(|template| Writer::Text(Box::new(template))),
            (_, None) => {
                let reader = Reader::compile(&self.annotations, self.generator_url.as_deref(), problems)?;
                let form = Form {
                    receiver: self.receiver.clone().unwrap_or_else(|| node.to_owned()),
                    external_url: self.external_url.clone(),
                    group_by: self.group_by.clone(),
                    max_alerts: self.max_alerts,
                };
                Some(Writer::Alerts(Box::new(reader), form, Posted::default()))
            }
        }
    }
}

#[typetag::deserialize(name = "webhook")]
#[async_trait]
impl SinkConfig for Webhook {
    fn check(&self, problems: &mut Problems) {
        self.settings().check("url", [&self.url], problems);
        let _writer = self.writer("", problems);
        for (name, value) in &self.headers {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.0.as_str()).is_err() {
                let what = "the name or the value cannot stand in a header";
                problems.error(&format!("headers.{name}"), "bad_value", what, "check for blanks and newlines");
            }
        }
        if self.content_type.as_ref().is_some_and(|text| HeaderValue::try_from(text.as_str()).is_err()) {
            problems.error("content_type", "bad_value", "cannot stand in a header", "write for example text/plain");
        }
    }

    fn explain(&self) -> String {
        "delivered when the peer answers 2xx; a replay may repeat requests".to_owned()
    }

    async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        let mut settings = self.settings();
        settings.timeout = context.limit;
        match self.url.parse() {
            Ok(address) => vec![probe::ask(&settings, address, Method::HEAD, false).await],
            Err(_) => Vec::new(),
        }
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let address = self.url.parse().map_err(|_| Error::unchecked("url"))?;
        let mut client = Client::new(&self.settings(), vec![address], context.clock.clone())?;
        for (name, value) in &self.headers {
            client = client.with_header(name, &value.0)?;
        }
        if let Some(content_type) = &self.content_type {
            client = client.with_header("content-type", content_type)?;
        }
        let writer = self.writer(&context.node, &mut Problems::default()).ok_or_else(|| Error::unchecked("body"))?;
        let group_wait = if matches!(writer, Writer::Alerts(..)) { self.group_wait.0 } else { Duration::ZERO };
        let has_content_type = self.content_type.is_some();
        let poster = Poster { client, writer, group_wait, has_content_type, context: context.clone() };
        Ok(Arc::new(TaskSink::start(WAITING, |requests| poster.run(requests))))
    }
}

/// What makes bodies of events.
enum Writer {
    Text(Box<Template>),
    Alerts(Box<Reader>, Form, Posted),
}

/// The numbers of events that one request is about, and its body; or why they cannot be posted.
type Parcel = (Vec<usize>, std::result::Result<Vec<u8>, Refusal>);

impl Writer {
    /// The requests that events make.
    fn parcels(&mut self, events: &[(usize, &Event)], batches: &[Batch], now: weir::event::Timestamp) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        match self {
            Writer::Text(template) => {
                for (number, (batch, event)) in events.iter().enumerate() {
                    let text = template.render(event, &batches[*batch].origin);
                    let body = text.map(String::into_bytes).map_err(Refusal::from);
                    parcels.push((vec![number], body));
                }
            }
            Writer::Alerts(reader, form, posted) => {
                let (mut alerts, mut numbers) = (Vec::new(), Vec::new());
                for (number, (batch, event)) in events.iter().enumerate() {
                    match reader.read(event, &batches[*batch].origin, now) {
                        Ok(alert) => {
                            alerts.push(alert);
                            numbers.push(number);
                        }
                        Err(refusal) => parcels.push((vec![number], Err(refusal))),
                    }
                }
                for (group, Group { members, last }) in form.groups(&alerts) {
                    let told: Vec<_> = last.iter().map(|at| &alerts[*at]).collect();
                    let reason = posted.reason(&group, &told);
                    let body = form.payload(&group, &told, reason).to_string().into_bytes();
                    parcels.push((members.iter().map(|at| numbers[*at]).collect(), Ok(body)));
                }
            }
        }
        parcels
    }
}

/// The task that posts.
struct Poster {
    client: Client,
    writer: Writer,
    group_wait: Duration,
    has_content_type: bool,
    context: BuildContext,
}

impl Poster {
    /// Serves requests until the sink is gone.
    async fn run(mut self, mut requests: mpsc::Receiver<Ask>) {
        while let Some(request) = requests.recv().await {
            let mut flushes = Vec::new();
            let mut batches = Vec::new();
            let mut next = Some(request);
            let mut wait = self.context.clock.sleep(self.group_wait);
            while let Some(request) = next.take() {
                match request {
                    Ask::Write(batch) => batches.push(batch),
                    Ask::Flush(done) => flushes.push(done),
                }
                // A flush does not wait for others.
                if batches.len() < WAITING && flushes.is_empty() {
                    next = tokio::select! {
                        biased;
                        request = requests.recv() => request,
                        () = &mut wait => None,
                    };
                }
            }
            self.post(batches).await;
            for done in flushes {
                let _gone = done.send(());
            }
        }
    }

    /// Posts batches, and returns when all of them are settled.
    async fn post(&mut self, batches: Vec<Batch>) {
        let numbered = batches.iter().enumerate();
        let events: Vec<(usize, &Event)> =
            numbered.flat_map(|(number, batch)| batch.events.iter().map(move |event| (number, event))).collect();
        let mut rejected: Vec<Vec<Rejected>> = batches.iter().map(|_| Vec::new()).collect();
        for (members, body) in self.writer.parcels(&events, &batches, self.context.clock.now()) {
            let refusal = match body {
                Ok(body) => self.deliver(body).await.err(),
                Err(refusal) => Some(refusal),
            };
            if let Some(Refusal { code, message }) = refusal {
                for number in members {
                    let (batch, event) = events[number];
                    rejected[batch].push(Rejected { event: event.clone(), code, message: message.clone() });
                }
            }
        }
        for (batch, rejected) in batches.into_iter().zip(rejected) {
            self.settle(batch, rejected).await;
        }
    }

    async fn deliver(&self, body: Vec<u8>) -> std::result::Result<(), Refusal> {
        let mut post = Post::post("application/json", body);
        if self.has_content_type {
            post.headers.clear();
        }
        self.context.books.bytes(post.body.len());
        let answer = self.client.deliver(&post, &self.context.trouble).await;
        answer.map(drop).map_err(|(_, why)| Refusal { code: "webhook_refused", message: why })
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
