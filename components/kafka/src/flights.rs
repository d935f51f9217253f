//! Batches on their way to the brokers, and what became of each of their events.
//!
//! One entry a batch, in a slot; a record carries the slot's number and its row as one integer through librdkafka, so
//! a record costs no allocation here. The events are kept until their batch is settled, because what goes
//! to the `errors` port is the event as the sink received it, and what is sent again is rendered again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use weir::component::BuildContext;
use weir::delivery::{MemoryPermit, Outcome, Receipt, RejectedBatch};
use weir::event::{Event, OriginId, Rejected};

/// The events of one `write`.
#[derive(Debug)]
pub(crate) struct Flight {
    pub origin: Arc<OriginId>,
    pub events: Vec<Event>,
    /// Room in the sink's buffer.
    pub _room: MemoryPermit,
}

/// A record's name on its way through librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub slot: u32,
    pub row: u32,
}

impl Row {
    /// As the opaque of a record.
    pub fn opaque(self) -> usize {
        (self.slot as usize) << 32 | self.row as usize
    }

    /// Back from the opaque.
    pub fn from_opaque(opaque: usize) -> Row {
        Row { slot: (opaque >> 32) as u32, row: opaque as u32 }
    }
}

const _: () = assert!(usize::BITS == 64, "a slot and a row share one pointer");

#[derive(Debug)]
struct Entry {
    flight: Arc<Flight>,
    receipt: Receipt,
    /// Rows without an outcome.
    open: usize,
    delivered: usize,
    failed: usize,
}

/// All batches in flight.
pub(crate) struct Flights {
    slots: Mutex<Slots>,
    settled: Notify,
    context: BuildContext,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Flights {
    pub fn new(context: BuildContext) -> Flights {
        Flights { slots: Mutex::default(), settled: Notify::new(), context }
    }

    /// Takes a batch on; every row of it is owed an outcome.
    pub fn begin(&self, flight: Arc<Flight>, receipt: Receipt) -> u32 {
        let open = flight.events.len();
        let entry = Entry { flight, receipt, open, delivered: 0, failed: 0 };
        let mut slots = self.slots();
        match slots.free.pop() {
            Some(slot) => {
                slots.entries[slot as usize] = Some(entry);
                slot
            }
            None => {
                slots.entries.push(Some(entry));
                // Bounded by the room in the buffer, at one KiB each, so far below u32.
                (slots.entries.len() - 1) as u32
            }
        }
    }

    /// The batch a row belongs to.
    pub fn flight(&self, row: Row) -> Option<Arc<Flight>> {
        Some(self.slots().entries.get(row.slot as usize)?.as_ref()?.flight.clone())
    }

    /// The brokers have it.
    pub fn delivered(&self, row: Row) {
        self.end(row.slot, 1, |entry| entry.delivered += 1);
    }

    /// `rows` of a batch have to be read again.
    pub fn failed(&self, slot: u32, rows: usize) {
        if rows > 0 {
            self.end(slot, rows, |entry| entry.failed += rows);
        }
    }

    /// Rejected rows, to be handed to the `errors` port; the caller does, as it may have to wait there.
    pub fn rejected(&self, slot: u32, rows: &[(u32, &'static str, String)]) -> Option<RejectedBatch> {
        if rows.is_empty() {
            return None;
        }
        let batch = {
            let slots = self.slots();
            let entry = slots.entries.get(slot as usize)?.as_ref()?;
            let rejected = rows.iter().filter_map(|(row, code, message)| {
                let event = entry.flight.events.get(*row as usize)?.clone();
                Some(Rejected { event, code, message: message.clone() })
            });
            let (origin, receipt) = (entry.flight.origin.clone(), entry.receipt.clone());
            RejectedBatch { origin, receipt, rejected: rejected.collect() }
        };
        self.end(slot, rows.len(), |_| {});
        Some(batch)
    }

    /// Waits until nothing is in flight.
    pub async fn landed(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            {
                let slots = self.slots();
                if slots.free.len() == slots.entries.len() {
                    return;
                }
            }
            settled.await;
        }
    }

    /// The node's surroundings.
    pub fn context(&self) -> &BuildContext {
        &self.context
    }

    fn end(&self, slot: u32, rows: usize, note: impl FnOnce(&mut Entry)) {
        let mut slots = self.slots();
        let Some(place) = slots.entries.get_mut(slot as usize) else { return };
        let Some(entry) = place else { return };
        note(entry);
        entry.open = entry.open.saturating_sub(rows);
        if entry.open > 0 {
            return;
        }
        let ended = place.take();
        slots.free.push(slot);
        drop(slots);
        if let Some(Entry { receipt, delivered, failed, .. }) = ended {
            self.context.books.passed(delivered);
            self.context.books.failed(failed);
            receipt.resolve(if failed > 0 { Outcome::Failed } else { Outcome::Delivered });
        }
        self.settled.notify_waiters();
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
