//! A batch: what moves along the edges of the graph.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::BytesMut;

use super::{Event, OriginId, Timestamp};
use crate::delivery::Receipt;

/// Events of one origin, in order, with the receipt that tells the lane when they are settled.
#[derive(Debug)]
pub struct Batch {
    /// Where all of these events came from.
    pub origin: Arc<OriginId>,
    /// Resolved when every event of the source's batch has its outcome.
    pub receipt: Receipt,
    /// The latest event time of the lane, this batch included.
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
    /// It went into state.
    Absorb,
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
                Verdict::Filter | Verdict::Absorb => {}
                Verdict::Reject { code, message } => {
                    rejected.push(Rejected { event: event.clone(), code, message });
                }
            }
        }
        self.events.truncate(kept);
        if kept <= self.events.capacity() / 2 {
            self.let_go_of_the_rest();
        }
        rejected
    }

    /// Moves what is left into memory of its own: the events of a source's batch are slices of one buffer, which
    /// would stay whole for the few that are kept.
    fn let_go_of_the_rest(&mut self) {
        self.events.shrink_to_fit();
        let size = |event: &mut Event| {
            let mut size = 0;
            event.each_bytes(|bytes| size += bytes.len());
            size
        };
        let mut buffer = BytesMut::with_capacity(self.events.iter_mut().map(size).sum());
        for event in &mut self.events {
            event.each_bytes(|bytes| {
                buffer.extend_from_slice(bytes);
                *bytes = buffer.split().freeze();
            });
        }
    }
}

/// The text of a panic, for the dead letter.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the node panicked: {}", text.unwrap_or("no text"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::event::{Body, Codec, Meta, OriginKind, Position};

    #[test]
    fn few_kept_events_do_not_hold_the_memory_of_all() {
        let read = Bytes::from("key-and-body ".repeat(100).into_bytes());
        let event = |at: usize| {
            let slice = |from: usize, to: usize| read.slice(at * 13 + from..at * 13 + to);
            let mut event = Event::new(Body::Raw(slice(8, 12), Codec::Text), Position(at as u64), Timestamp(0));
            event.meta = Some(Box::new(Meta {
                key: Some(slice(0, 3)),
                headers: vec![("h".into(), Some(slice(4, 7)))],
                ..Meta::default()
            }));
            event
        };
        let origin = Arc::new(OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::File });
        let receipt = Receipt::new(0, Arc::default(), None);
        let events = (0..100).map(event).collect();
        let mut batch = Batch { origin, receipt, watermark: Timestamp(0), events };
        batch.decide(|event| if event.position.0 % 25 == 3 { Verdict::Pass } else { Verdict::Filter });

        assert_eq!(batch.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [3, 28, 53, 78]);
        assert_eq!(batch.events.capacity(), 4);
        for event in &batch.events {
            assert!(matches!(&event.body, Body::Raw(body, Codec::Text) if body == "body"));
            assert_eq!(event.key().unwrap(), "key");
            assert_eq!(event.headers()[0].1.as_ref().unwrap(), "and");
        }
        assert!(read.is_unique(), "nothing refers to what was read any more");
    }
}
