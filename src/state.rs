//! Time, small durable facts, and keyed state: everything a lane remembers, behind seams that the
//! simulator replaces.

mod clock;
mod keyed;
mod storage;

pub use clock::{Clock, SystemClock};
pub use keyed::{KeyedState, StateLimits};
pub use storage::{DirStorage, MemoryStorage, Storage};
