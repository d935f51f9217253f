//! The task that sends: events become documents, documents become requests, and answers settle the batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use weir::component::BuildContext;
use weir::event::Batch;
use weir_http_client::{Ask, Backoff};

use crate::action::{self, Action, Verdict};
use crate::client::{Client, Sent};
use crate::config::Batching;
use crate::flights::Flights;
use crate::limit::Limit;
use crate::queue::{Patience, Queue, Request, Row};
use crate::request::{Refusal, Writer};
use crate::template::Template;

/// Batches that wait for the task.
pub(crate) const WAITING: usize = 32;

/// What may wait for indices that refuse documents, beside the time: documents, bytes of their lines, and batches behind them.
const REFUSED_DOCUMENTS: usize = 10_000;
const REFUSED_BYTES: usize = 16 << 20;
/// A lane has 256 batches open at most, and stands still then.
const REFUSED_BATCHES: u64 = 64;

/// The task that sends.
pub(crate) struct Sender {
    writer: Writer,
    client: Arc<Client>,
    template: Option<Template>,
    queue: Queue,
    limit: Limit,
    flights: Flights,
    /// For documents that are sent again, while whole requests go through.
    backoff: Backoff,
    /// Lines of the document that is being made.
    lines: Vec<u8>,
    context: BuildContext,
}

/// A request that came back.
struct Back {
    request: Request,
    sent_at: Duration,
    sent: Sent,
}

impl Sender {
    pub fn new(
        writer: Writer,
        client: Client,
        template: Option<Template>,
        batching: &Batching,
        index_wait: Duration,
        limit: Limit,
        context: BuildContext,
    ) -> Sender {
        let max_bytes = usize::try_from(batching.max_bytes.0).unwrap_or(usize::MAX);
        let max_age = Duration::try_from_secs_f64(batching.timeout_secs).unwrap_or_default();
        let patience =
            Patience { time: index_wait, documents: REFUSED_DOCUMENTS, bytes: REFUSED_BYTES, batches: REFUSED_BATCHES };
        Sender {
            writer,
            client: Arc::new(client),
            template,
            queue: Queue::new(batching.max_events, max_bytes, max_age, patience),
            limit,
            flights: Flights::default(),
            backoff: Backoff::default(),
            lines: Vec::new(),
            context,
        }
    }

    /// Serves the sink until it is gone.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        if let Some(template) = self.template.take() {
            template.bring(&self.client, &self.context).await;
        }
        let clock = self.context.clock.clone();
        let mut running: JoinSet<Back> = JoinSet::new();
        let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
        // Those that wait for nothing but indices that refuse documents, with the number of batches they wait for.
        let mut late_flushes: Vec<(u64, oneshot::Sender<()>)> = Vec::new();
        loop {
            self.give_up().await;
            self.start(&mut running, !flushes.is_empty());
            if running.is_empty() && self.queue.is_idle() {
                late_flushes.extend(flushes.drain(..).map(|done| (self.flights.begun(), done)));
            }
            for (_, done) in late_flushes.extract_if(.., |(batches, _)| self.flights.have_ended(*batches)) {
                let _gone = done.send(());
            }
            let may_start = running.len() < self.limit.allowed();
            let due = self.queue.due().filter(|_| may_start);
            let pause = due
                .into_iter()
                .chain(self.queue.shut_due(may_start))
                .min()
                .map(|due| due.saturating_sub(clock.uptime()));
            tokio::select! {
                biased;
                Some(back) = running.join_next(), if !running.is_empty() => match back {
                    Ok(back) => {
                        let was_full = running.len() + 1 >= self.limit.allowed();
                        self.came_back(back, was_full).await;
                    }
                    // Its documents are lost to us, so that all has to be read again.
                    Err(error) => {
                        tracing::error!(%error, "a request was given up");
                        return;
                    }
                },
                // A flush waits for what is here, not for what may come.
                ask = asks.recv(), if flushes.is_empty() && self.queue.has_room() => match ask {
                    Some(Ask::Write(batch)) => self.take(batch).await,
                    Some(Ask::Flush(done)) => flushes.push(done),
                    None => return,
                },
                () = clock.sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Makes documents of a batch.
    async fn take(&mut self, batch: Batch) {
        let now = self.context.clock.uptime();
        self.queue.begin_batch();
        let slot = self.flights.begin(batch);
        let mut refused = Vec::new();
        let Some(batch) = self.flights.batch(slot) else { return };
        for (at, event) in batch.events.iter().enumerate() {
            let row = Row { slot, row: at as u32 };
            self.lines.clear();
            match self.writer.write(event, &batch.origin, &mut self.lines) {
                Ok(written) => self.queue.push(row, written, &self.lines, now),
                Err(refusal) => refused.push((row, refusal)),
            }
        }
        for (row, refusal) in refused {
            self.flights.end(row, Err(refusal));
        }
        self.flights.settle(&self.context).await;
    }

    /// Rejects the documents that have waited too long for their index.
    async fn give_up(&mut self) {
        let given_up = self.queue.give_up(self.context.clock.uptime());
        if !given_up.is_empty() {
            for (row, refusal) in given_up {
                self.flights.end(row, Err(refusal));
            }
            self.flights.settle(&self.context).await;
        }
    }

    /// Sends what is due, as far as the limit lets it. Where no others may come, nothing waits for them.
    fn start(&mut self, running: &mut JoinSet<Back>, is_flushing: bool) {
        let clock = &self.context.clock;
        while running.len() < self.limit.allowed() {
            let all = is_flushing || !self.queue.has_room();
            let Some(request) = self.queue.next(clock.uptime(), all) else { return };
            let (client, clock) = (self.client.clone(), clock.clone());
            self.context.books.bytes(request.body.len());
            running.spawn(async move {
                let sent_at = clock.uptime();
                let sent = client.bulk(&request.body, request.items.len()).await;
                Back { request, sent_at, sent }
            });
        }
    }

    async fn came_back(&mut self, Back { request, sent_at, sent }: Back, was_full: bool) {
        let now = self.context.clock.uptime();
        match sent {
            Sent::Said(said) => {
                let rules = self.writer.rules();
                let is_push_back = said.iter().any(action::is_push_back);
                match is_push_back {
                    true => self.limit.pushed_back(sent_at, now),
                    false => self.limit.went_well(was_full),
                }
                let verdicts = said.iter().zip(&request.items);
                let verdicts = verdicts.map(|(said, item)| action::verdict(item.action, rules, said)).collect();
                self.answered(&request, verdicts).await;
            }
            Sent::Again { why, is_push_back } => {
                if is_push_back {
                    self.limit.pushed_back(sent_at, now);
                }
                self.say(why);
                self.queue.take_back(request);
            }
            Sent::TooLarge(why) => {
                self.part(request, |_| Verdict::Refused(Refusal::new("document_too_large", why))).await;
            }
            Sent::Refused(said) => {
                let rules = self.writer.rules();
                self.part(request, |action| action::verdict(action, rules, &said)).await;
            }
            Sent::LongAnswer(why) => {
                self.say(why);
                match request.items.len() {
                    0 | 1 => self.queue.take_back(request),
                    _ => self.queue.split(request, now),
                }
            }
        }
    }

    /// Takes a refused request apart; a single document is what is refused.
    async fn part(&mut self, request: Request, verdict: impl FnOnce(Action) -> Verdict) {
        match &request.items[..] {
            [] => {}
            [item] => {
                let verdicts = vec![verdict(item.action)];
                self.answered(&request, verdicts).await;
            }
            _ => self.queue.split(request, self.context.clock.uptime()),
        }
    }

    async fn answered(&mut self, request: &Request, verdicts: Vec<Verdict>) {
        let again = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Again(why) => Some(why),
            _ => None,
        });
        let count = again.clone().count();
        let first = again.clone().next().cloned();
        let now = self.context.clock.uptime();
        // What failed beside others that wait already goes with them.
        let is_first = first.is_some() && !self.queue.has_again();
        let pause = if is_first { self.backoff.pause() } else { Duration::ZERO };
        let ends = self.queue.answered(request, verdicts, now, now.saturating_add(pause));
        for (row, end) in ends {
            self.flights.end(row, end);
        }
        match first {
            Some(why) => self.say(format!("{count} of {} documents are sent again: {why}", request.items.len())),
            None if !self.queue.has_again() => {
                self.backoff.reset();
                self.context.trouble.clear();
            }
            None => {}
        }
        self.flights.settle(&self.context).await;
    }

    /// Says why documents wait.
    fn say(&self, why: String) {
        if self.context.trouble.get().as_ref() != Some(&why) {
            tracing::warn!(why, "cannot deliver, will try again");
        }
        self.context.trouble.set(why);
    }
}
