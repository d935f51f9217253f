//! The graph at work: lanes over origins, fused transforms, sinks at their ends.
//!
//! [`Route`] is what one lane runs: plain functions over batches, no task, no channel, no clock.
//! [`Lane`] adds the ledger and says what to commit and when to rewind. Both are synchronous, so that the
//! simulator can run them on any schedule; [`run`] is the shell that waits, reads, commits and stops.

mod buffer;
mod builder;
mod dead_letters;
mod driver;
mod epochs;
mod exchange;
mod folders;
mod horizon;
mod keeper;
mod keying;
mod lane;
mod logs;
mod member;
mod plan;
mod poison;
mod prepare;
mod route;
mod running;
mod runtime;
mod shard;
mod shared;
#[cfg(test)]
mod simulator;
pub(crate) mod spot;
mod status;
mod step;
pub(crate) mod tap;
mod test_run;

pub use dead_letters::retry::{Retried, purge_dead_letters};
pub use dead_letters::{DEAD_LETTERS, DeadLetter, LetterChoice, import_dead_letters, read_dead_letters};
pub use folders::probe_folders;
pub(crate) use keying::keying;
pub use lane::{Lane, Step as LaneStep};
pub use logs::{KeptLog, inspect_logs};
pub use plan::{Plan, PlanNode};
pub use route::{Node, Outgoing, Route};
pub use runtime::{Report, RunOptions, in_use, run, run_by, with_state};
pub use spot::LaneSnapshot;
pub use status::{NodeSnapshot, Process, Snapshot, Status};
pub use test_run::{TestOutcome, run_tests};
