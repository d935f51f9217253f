//! Batches of which documents are under way, and what became of each of their events.

use weir::component::BuildContext;
use weir::delivery::{Outcome, RejectedBatch};
use weir::event::{Batch, Rejected};

use crate::queue::Row;
use crate::request::Refusal;

/// A batch, with what became of its events.
#[derive(Debug)]
struct Flight {
    batch: Batch,
    /// How many batches came before it.
    number: u64,
    /// Events without an end.
    open: usize,
    rejected: Vec<Rejected>,
}

/// All batches under way. The events are kept until their batch has ended, because what goes to the `errors` port is the
/// event as the sink received it.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    begun: u64,
    ended: Vec<Flight>,
}

impl Flights {
    /// Takes a batch on; every event of it is owed an end.
    pub fn begin(&mut self, batch: Batch) -> u32 {
        let flight = Flight { open: batch.events.len(), batch, number: self.begun, rejected: Vec::new() };
        self.begun += 1;
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(flight);
                slot
            }
            None => {
                self.slots.push(Some(flight));
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// The batch in a slot.
    pub fn batch(&self, slot: u32) -> Option<&Batch> {
        self.slots.get(slot as usize)?.as_ref().map(|flight| &flight.batch)
    }

    /// An event has come to its end.
    pub fn end(&mut self, row: Row, end: Result<(), Refusal>) {
        let Some(place) = self.slots.get_mut(row.slot as usize) else { return };
        let Some(flight) = place else { return };
        if let (Err(Refusal { code, message }), Some(event)) = (end, flight.batch.events.get(row.row as usize)) {
            flight.rejected.push(Rejected { event: event.clone(), code, message });
        }
        flight.open = flight.open.saturating_sub(1);
        if flight.open == 0 {
            self.ended.extend(place.take());
            self.free.push(row.slot);
        }
    }

    /// Settles the batches that have ended.
    pub async fn settle(&mut self, context: &BuildContext) {
        for Flight { batch, mut rejected, .. } in self.ended.drain(..) {
            context.books.passed(batch.events.len() - rejected.len());
            let Batch { origin, receipt, .. } = batch;
            if !rejected.is_empty() {
                rejected.sort_by_key(|one| one.event.position);
                context.rejects.reject(RejectedBatch { origin, receipt: receipt.clone(), rejected }).await;
            }
            receipt.resolve(Outcome::Delivered);
        }
    }

    /// Batches that were taken on so far.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether the first so many batches have ended.
    pub fn have_ended(&self, first: u64) -> bool {
        self.slots.iter().flatten().all(|flight| flight.number >= first)
    }
}
