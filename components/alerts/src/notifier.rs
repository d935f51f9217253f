//! The task that tells Alertmanagers of alerts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use weir::component::BuildContext;
use weir::delivery::{Outcome, Receipt, RejectedBatch};
use weir::event::{Event, OriginId, Rejected};
use weir_http_client::{Backoff, Client, Request as Post, Verdict};

use crate::alert::{Alert, Texts, rfc3339};
use crate::alertmanager::STORED;
use crate::held::{HeldSet, Taken};

/// Batches that wait for the notifier, and that it takes at once.
pub(crate) const WAITING: usize = 32;
/// How the text of trouble with the disk begins.
const NOT_STORED: &str = "the alerts that fire cannot be stored";
/// The shortest pause between two looks at what is due.
const SHORTEST: Duration = Duration::from_millis(10);

/// What the sink asks of its notifier.
pub(crate) enum Request {
    Write(Write),
    Flush(oneshot::Sender<()>),
}

/// A batch with its alerts.
pub(crate) struct Write {
    pub origin: Arc<OriginId>,
    pub receipt: Receipt,
    pub alerts: Vec<(Event, Alert)>,
}

/// Why Alertmanagers do not take alerts, by their labels.
type Refused = BTreeMap<Texts, String>;

pub(crate) struct Notifier {
    pub client: Arc<Client>,
    pub context: BuildContext,
    pub held: HeldSet,
    /// Interval at which firing alerts are sent again. None: never.
    pub resend_every: Option<Duration>,
    pub resolve_timeout: Duration,
    pub batch_size: usize,
    /// Uptime before which no firing alert is sent again.
    pub pauses_until: Duration,
}

impl Notifier {
    /// Serves requests until the sink is gone.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let until_due = self.until_due();
            // Also while one request follows the other.
            if until_due.is_some_and(|until| until.is_zero()) {
                self.tell_again().await;
                self.pauses_until = self.context.clock.uptime() + SHORTEST;
            }
            let request = tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                () = self.context.clock.sleep(until_due.unwrap_or_default()), if until_due.is_some() => continue,
            };
            let mut flushes = Vec::new();
            let mut writes = Vec::new();
            let mut next = Some(request);
            while let Some(request) = next {
                match request {
                    Request::Write(write) => writes.push(write),
                    Request::Flush(done) => flushes.push(done),
                }
                next = if writes.len() < WAITING && flushes.is_empty() { requests.try_recv().ok() } else { None };
            }
            self.write(writes).await;
            for done in flushes {
                let _gone = done.send(());
            }
        }
    }

    /// Time until the next firing alert must be sent again.
    fn until_due(&self) -> Option<Duration> {
        let now = self.context.clock.uptime();
        let until = self.held.until_due(self.resend_every?, now)?;
        Some(until.max(self.rest()).max(self.pauses_until.saturating_sub(now)))
    }

    /// How long until any Alertmanager may be asked.
    fn rest(&self) -> Duration {
        (0..self.client.addresses().len()).map(|address| self.client.rest_of(address)).min().unwrap_or_default()
    }

    /// Takes batches in, and returns when all of them are settled.
    async fn write(&mut self, writes: Vec<Write>) {
        let now = self.context.clock.now();
        let mut refused = Refused::new();
        let mut news: BTreeMap<Texts, Alert> = BTreeMap::new();
        for (_, alert) in writes.iter().flat_map(|write| &write.alerts) {
            match self.held.take(alert.clone(), now) {
                Taken::News => drop(news.insert(alert.labels.clone(), alert.clone())),
                Taken::Known if self.resend_every.is_none() => drop(news.insert(alert.labels.clone(), alert.clone())),
                Taken::Known => {}
                Taken::Full => drop(refused.insert(alert.labels.clone(), String::new())),
            }
        }
        if !news.is_empty() {
            // Before it is told: a process that begins behind a crash must not forget what an Alertmanager knows.
            self.store().await;
            let news: Vec<Alert> = news.into_values().collect();
            refused.extend(self.tell(&news, true).await);
        }
        if self.resend_every.is_none() {
            self.held.clear();
        }
        for write in writes {
            self.settle(write, &refused).await;
        }
    }

    async fn settle(&self, write: Write, refused: &Refused) {
        let Write { origin, receipt, alerts } = write;
        let total = alerts.len();
        let mut rejected = Vec::new();
        for (event, alert) in alerts {
            match refused.get(&alert.labels) {
                None => {}
                Some(why) if why.is_empty() => {
                    let message = "as many alerts fire as max_alerts allows".to_owned();
                    rejected.push(Rejected { event, code: "too_many_alerts", message });
                }
                Some(why) => rejected.push(Rejected { event, code: "alert_refused", message: why.clone() }),
            }
        }
        self.context.books.passed(total - rejected.len());
        if !rejected.is_empty() {
            let rejected = RejectedBatch { origin, receipt: receipt.clone(), rejected };
            self.context.rejects.reject(rejected).await;
        }
        receipt.resolve(Outcome::Delivered);
    }

    /// Tells what is due once; what does not get through is due again.
    async fn tell_again(&mut self) {
        let Some(every) = self.resend_every else { return };
        if self.held.forget_resolved(self.context.clock.now()) {
            self.store().await;
        }
        let due = self.held.due(every, self.context.clock.uptime());
        if !due.is_empty() {
            let refused = self.tell(&due, false).await;
            for (labels, why) in refused {
                tracing::warn!(?labels, why, "an alert is refused, and told no more");
            }
        }
    }

    /// Tells of alerts; where nobody listens, it waits if that `is_needed` and otherwise tries again some time later. Gives
    /// those that are refused.
    async fn tell(&mut self, alerts: &[Alert], is_needed: bool) -> Refused {
        let mut refused = Refused::new();
        for chunk in alerts.chunks(self.batch_size) {
            match self.post(chunk, is_needed).await {
                Ok(is_told) => self.note(chunk, is_told),
                // One of them is to blame; the others may be in there already, and come once more.
                Err(_) if chunk.len() > 1 => {
                    for alert in chunk.chunks(1) {
                        match self.post(alert, is_needed).await {
                            Ok(is_told) => self.note(alert, is_told),
                            Err(why) => drop(refused.insert(alert[0].labels.clone(), why)),
                        }
                    }
                }
                Err(why) => drop(refused.insert(chunk[0].labels.clone(), why)),
            }
        }
        if !refused.is_empty() {
            refused.keys().for_each(|labels| self.held.remove(labels));
            self.store().await;
        }
        refused
    }

    fn note(&mut self, alerts: &[Alert], is_told: bool) {
        if is_told {
            self.held.sent(alerts, self.context.clock.uptime());
        }
    }

    /// Sends one request to every Alertmanager, if it `is_needed` until one has it or refuses it; gives whether one has it.
    async fn post(&self, alerts: &[Alert], is_needed: bool) -> Result<bool, String> {
        loop {
            let mut reasons = Vec::new();
            let mut refusal = None;
            let mut is_delivered = false;
            let mut asked = JoinSet::new();
            let post = Post::post("application/json", self.body(alerts));
            self.context.books.bytes(post.body.len());
            for address in 0..self.client.addresses().len() {
                if self.client.rest_of(address).is_zero() {
                    let (client, post) = (self.client.clone(), post.clone());
                    asked.spawn(async move { client.send_to(address, &post).await });
                }
            }
            while let Some(verdict) = asked.join_next().await {
                match verdict {
                    Ok(Verdict::Delivered(_)) => is_delivered = true,
                    Ok(Verdict::Refused { why, .. }) => refusal = Some(why),
                    Ok(Verdict::Again { why, .. }) => reasons.push(why),
                    Err(error) => reasons.push(error.to_string()),
                }
            }
            let trouble = &self.context.trouble;
            if is_delivered {
                trouble.clear();
                reasons.iter().for_each(|why| tracing::warn!(why, "one of several Alertmanagers does not take alerts"));
                return Ok(true);
            }
            if let Some(why) = refusal {
                trouble.clear();
                return Err(why);
            }
            if !reasons.is_empty() {
                reasons.sort();
                let why = reasons.join("; ");
                if trouble.get().as_ref() != Some(&why) {
                    tracing::warn!(why, "no Alertmanager takes alerts, will try again");
                }
                trouble.set(why);
            }
            if !is_needed {
                return Ok(false);
            }
            self.context.clock.sleep(self.rest().max(SHORTEST)).await;
        }
    }

    /// The request's body (Alertmanager's API, version 2).
    fn body(&self, alerts: &[Alert]) -> Vec<u8> {
        let timeout = i64::try_from(self.resolve_timeout.as_millis()).unwrap_or(i64::MAX / 4);
        let now = self.context.clock.now().0;
        let one = |alert: &Alert| {
            let mut one = json!({
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": rfc3339(alert.starts_at),
                // A cluster's clock may be ahead of ours, and no alert may end before it begins.
                "endsAt": rfc3339(alert.ends_at.unwrap_or(now.max(alert.starts_at).saturating_add(timeout))),
            });
            if !alert.generator_url.is_empty() {
                one["generatorURL"] = Json::String(alert.generator_url.clone());
            }
            one
        };
        Json::Array(alerts.iter().map(one).collect()).to_string().into_bytes()
    }

    /// Makes durable what is told again and again.
    async fn store(&self) {
        if self.resend_every.is_none() {
            return;
        }
        let mut backoff = Backoff::default();
        loop {
            let storage = self.context.storage.clone();
            let stored = match self.held.to_bytes() {
                Ok(bytes) => tokio::task::spawn_blocking(move || storage.store(STORED, &bytes)).await,
                Err(error) => Ok(Err(error.into())),
            };
            let why = match stored {
                Ok(Ok(())) => return self.context.trouble.clear_if(|what| what.starts_with(NOT_STORED)),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            let why = format!("{NOT_STORED}: {why}");
            tracing::error!(why, "waiting");
            self.context.trouble.set(why);
            self.context.clock.sleep(backoff.pause()).await;
        }
    }
}
