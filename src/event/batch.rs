//! A batch: what moves along the edges of the graph.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Event, OriginId, Timestamp};
use crate::delivery::Receipt;

/// Events of one origin, in order, with the receipt that tells the lane when they are settled.
#[derive(Debug)]
pub struct Batch {
    /// Where all of these events came from.
    pub origin: Arc<OriginId>,
    /// Resolved when every event of the source's batch has its outcome.
    pub receipt: Receipt,
    /// No event of this lane behind this batch is older.
    pub watermark: Timestamp,
    /// The events, in the order of their positions.
    pub events: Vec<Event>,
}

/// What a node decides about one event.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It ends here, as intended.
    Filter,
    /// It could not be handled: it goes to the node's `errors` port, as the node received it.
    Reject {
        /// A stable word for the class of error.
        code: &'static str,
        /// The text for people.
        message: String,
    },
}

/// An event that a node rejected, as the node received it.
#[derive(Debug)]
pub struct Rejected {
    /// The event, unchanged.
    pub event: Event,
    /// A stable word for the class of error.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
}

impl Batch {
    /// A clone for another branch: same events, and the receipt waits for both.
    pub fn fork(&self) -> Batch {
        Batch {
            origin: self.origin.clone(),
            receipt: self.receipt.clone(),
            watermark: self.watermark,
            events: self.events.clone(),
        }
    }

    /// A batch of other events under the same receipt.
    pub fn with_events(&self, events: Vec<Event>) -> Batch {
        Batch { origin: self.origin.clone(), receipt: self.receipt.clone(), watermark: self.watermark, events }
    }

    /// Memory the events hold, in bytes.
    pub fn size(&self) -> usize {
        self.events.iter().map(Event::size).sum()
    }

    /// Decides on every event: those that pass stay, in order; rejected ones are returned.
    ///
    /// `decide` must leave an event it rejects as it was. A panic in `decide` rejects that event alone,
    /// with the code `panic`.
    pub fn decide(&mut self, mut decide: impl FnMut(&mut Event) -> Verdict) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        let mut kept = 0;
        for at in 0..self.events.len() {
            let event = &mut self.events[at];
            let verdict = catch_unwind(AssertUnwindSafe(|| decide(event)))
                .unwrap_or_else(|panic| Verdict::Reject { code: "panic", message: panic_text(&*panic) });
            match verdict {
                Verdict::Pass => {
                    self.events.swap(kept, at);
                    kept += 1;
                }
                Verdict::Filter => {}
                Verdict::Reject { code, message } => {
                    rejected.push(Rejected { event: event.clone(), code, message });
                }
            }
        }
        self.events.truncate(kept);
        rejected
    }
}

/// The text of a panic, for the dead letter.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the node panicked: {}", text.unwrap_or("no text"))
}
