//! A route: all transforms behind one source, fused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::spot::Spot;
use super::tap::Tap;
use crate::component::{Output, Transform, Trouble};
use crate::config::Port;
use crate::delivery::{Books, Outcome, RejectedBatch};
use crate::event::{Batch, Event, Meta, Reason, Rejected, panic_text};
use crate::state::NamedPart;

/// What all lanes share of a node.
#[derive(Debug, Default)]
pub struct Node {
    /// Its id in the graph.
    pub id: Arc<str>,
    /// Its books.
    pub books: Arc<Books>,
    /// Why it cannot work, if so.
    pub trouble: Trouble,
    /// Of a source: where its lanes stand.
    pub(crate) lanes: Mutex<Vec<Arc<Spot>>>,
    /// Who looks at what leaves it.
    pub(crate) tap: Tap,
}

impl Node {
    /// Shows whoever looks what leaves by the `errors` port, also where nobody is connected to it.
    pub(crate) fn see_rejected(&self, batch: &RejectedBatch) {
        let with_reason = |rejected: &Rejected| {
            let Rejected { event, code, message } = rejected;
            with_reason(&self.id, Rejected { event: event.clone(), code, message: message.clone() })
        };
        self.tap.see_made(Port::Errors, &batch.origin, batch.rejected.iter().map(with_reason));
    }

    /// Where the lanes of this source stand.
    pub(crate) fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Spot>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an edge leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A step of the same route.
    Step(usize),
    /// A sink, by its number in the plan.
    Sink(usize),
}

/// One transform of a route.
pub(crate) struct Step {
    pub node: Arc<Node>,
    pub transform: Transform,
    pub next: Vec<Target>,
    /// Who reads its named ports, by number.
    pub named: Vec<Vec<Target>>,
    /// Who listens on the `errors` port; nobody: the dead letters.
    pub errors: Vec<Target>,
}

/// What leaves a route.
#[derive(Debug)]
pub enum Outgoing {
    /// A batch for a sink.
    Sink {
        /// The sink's number in the plan.
        sink: usize,
        /// What it gets.
        batch: Batch,
    },
    /// Rejected events that nobody listens to.
    DeadLetters {
        /// The node that rejected them.
        node: Arc<Node>,
        /// The events, and the receipt that waits for them.
        batch: RejectedBatch,
    },
}

/// A transform panicked outside of a single event; its batch has failed and is to be read again, one event
/// at a time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// The transforms behind one source, in topological order.
pub struct Route {
    pub(crate) steps: Vec<Step>,
    pub(crate) entry: Vec<Target>,
}

impl Route {
    /// Takes a batch through every step; what leaves goes to `out`.
    ///
    /// `alone` says that the batch holds one event and nothing else is in flight: then a panic is that event's
    /// fault and costs it alone.
    pub(crate) fn process(&mut self, batch: Batch, alone: bool, out: &mut Vec<Outgoing>) -> Result<(), Panicked> {
        if let ([Target::Sink(sink)], true) = (&*self.entry, self.steps.is_empty()) {
            out.push(Outgoing::Sink { sink: *sink, batch });
            return Ok(());
        }
        let mut waiting: Vec<Vec<Batch>> = Vec::new();
        waiting.resize_with(self.steps.len(), Vec::new);
        send(batch, &self.entry, &mut waiting, out);
        for at in 0..self.steps.len() {
            for batch in std::mem::take(&mut waiting[at]) {
                let step = &mut self.steps[at];
                let (batch, Output { rejected, named, .. }) = step.run(batch, alone)?;
                if !rejected.is_empty() {
                    let (origin, receipt) = (batch.origin.clone(), batch.receipt.clone());
                    step.send_rejected(RejectedBatch { origin, receipt, rejected }, &mut waiting, out);
                }
                for (named, targets) in named.into_iter().zip(&step.named) {
                    if !named.events.is_empty() {
                        send(batch.with_events(named.events), targets, &mut waiting, out);
                    }
                }
                send(batch, &step.next, &mut waiting, out);
            }
        }
        Ok(())
    }

    /// Takes a single event through, in an epoch of its own that is settled at once: there is no lane here
    /// that could read it again.
    pub(crate) fn process_alone(&mut self, batch: Batch, epoch: u64, out: &mut Vec<Outgoing>) {
        self.parts().into_iter().for_each(|(_, _, part)| part.begin(epoch));
        // Alone, a panic rejects the event: it is no error here.
        let _rejected = self.process(batch, true, out);
        self.parts().into_iter().for_each(|(_, _, part)| part.commit(epoch));
    }

    /// The states of every transform, in an order that depends on the graph alone.
    pub(crate) fn parts(&mut self) -> Vec<NamedPart<'_>> {
        let mut parts = Vec::new();
        for Step { node, transform, .. } in &mut self.steps {
            if let Transform::Stateful(transform) = transform {
                parts.extend(transform.state().into_iter().map(|(name, part)| (&*node.id, name, part)));
            }
        }
        parts
    }
}

impl Step {
    /// Runs the transform on a batch; gives what passed, and what left by other ports.
    fn run(&mut self, mut batch: Batch, alone: bool) -> Result<(Batch, Output), Panicked> {
        let books = &self.node.books;
        let received = batch.events.len();
        books.received(received);
        // It may be alone because it panicked before: keep what is needed to name the event.
        let only = if alone { batch.events.first().cloned() } else { None };
        let mut output = Output::with_ports(self.named.iter().map(|targets| !targets.is_empty()));
        let transform = &mut self.transform;
        let result = catch_unwind(AssertUnwindSafe(|| match transform {
            Transform::Stateless(process) => process(&mut batch, &mut output),
            Transform::Stateful(transform) => {
                transform.process(&mut batch, &mut output);
                transform.watermark(batch.watermark);
            }
        }));
        if let Err(panic) = result {
            let message = panic_text(&*panic);
            tracing::error!(node = &*self.node.id, reason = message, "a transform panicked");
            let Some(event) = only else {
                books.failed(received);
                return Err(Panicked);
            };
            if let Transform::Stateful(transform) = &mut self.transform {
                transform.state().into_iter().for_each(|(_, part)| part.abort());
            }
            batch.events.clear();
            output = Output { rejected: vec![Rejected { event, code: "panic", message }], ..Output::default() };
        }
        let passed = batch.events.len() + output.sent;
        books.passed(passed);
        books.emitted(batch.events.len() + output.named.iter().map(|named| named.events.len()).sum::<usize>());
        books.filtered(received.saturating_sub(passed + output.rejected.len()));
        let tap = &self.node.tap;
        tap.see(Port::Main, &batch.origin, &batch.events);
        for (port, named) in output.named.iter().enumerate() {
            tap.see(Port::Named(port), &batch.origin, &named.events);
        }
        Ok((batch, output))
    }

    fn send_rejected(&self, rejected: RejectedBatch, waiting: &mut [Vec<Batch>], out: &mut Vec<Outgoing>) {
        self.node.see_rejected(&rejected);
        if self.errors.is_empty() {
            out.push(Outgoing::DeadLetters { node: self.node.clone(), batch: rejected });
            return;
        }
        let count = rejected.rejected.len();
        self.node.books.passed(count);
        self.node.books.emitted(count);
        send(errors_batch(&self.node.id, rejected), &self.errors, waiting, out);
    }
}

/// A rejected event as it leaves an `errors` port: unchanged, with `%error` saying why.
fn with_reason(node: &str, Rejected { mut event, code, message }: Rejected) -> Event {
    let meta: &mut Meta = event.meta.get_or_insert_default();
    meta.error = Some(Arc::new(Reason { node: node.to_owned(), code, message }));
    event
}

/// The rejected events as they leave an `errors` port.
pub(crate) fn errors_batch(node: &str, batch: RejectedBatch) -> Batch {
    let events: Vec<Event> = batch.rejected.into_iter().map(|rejected| with_reason(node, rejected)).collect();
    let watermark = events.iter().map(|event| event.time).min().unwrap_or_default();
    Batch { origin: batch.origin, receipt: batch.receipt, watermark, events }
}

/// Sends a batch along every edge. Nothing left, or nobody there: it is settled as filtered.
fn send(batch: Batch, targets: &[Target], waiting: &mut [Vec<Batch>], out: &mut Vec<Outgoing>) {
    let Some((last, others)) = targets.split_last() else {
        return batch.receipt.resolve(Outcome::Filtered);
    };
    if batch.events.is_empty() {
        return batch.receipt.resolve(Outcome::Filtered);
    }
    let mut one = |target: &Target, batch: Batch| match *target {
        Target::Step(step) => waiting[step].push(batch),
        Target::Sink(sink) => out.push(Outgoing::Sink { sink, batch }),
    };
    for target in others {
        one(target, batch.fork());
    }
    one(last, batch);
}
