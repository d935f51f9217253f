//! Delivery: an acknowledgement that is true.
//!
//! A batch carries one counted [`Receipt`]; when its last clone is gone the batch is settled with the
//! worst [`Outcome`] among them, and the lane may commit what lies before it. *Rejected is never
//! delivered, and a receipt that is dropped unresolved means failed.*

mod books;
mod journal;
mod latency;
mod ledger;
pub mod log;
mod memory;
mod receipt;
mod rejects;
mod settled;

pub use books::{BookTotals, Books};
pub use journal::{
    Journal, JournalContent, JournalError, JournalOwner, JournalReader, Records, Refused, inspect_journal,
};
pub use latency::{BOUNDS as LATENCY_BOUNDS, Latency, LatencyTotals};
pub use ledger::{Ledger, Progress};
pub use memory::{MemoryBudget, MemoryPermit};
pub use receipt::{Outcome, Receipt, Settled, Settlements};
pub use rejects::{RejectedBatch, Rejects};
pub use settled::SettledRecords;
