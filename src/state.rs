//! Time, small durable facts, and keyed state: everything a lane remembers, behind seams that the
//! simulator replaces.

mod checkpoint;
mod clock;
mod front;
mod inventory;
mod keyed;
mod part;
mod spans;
mod storage;
mod store;

pub use checkpoint::{GraphState, Kept, NamedPart, Resume};
pub use clock::{Clock, SystemClock};
pub use front::Front;
pub use inventory::{KeptEntry, KeptLane, KeptState};
pub use keyed::{KeyedState, LINGERING, StateKey, StateLimits, StateValue};
pub use part::{EachChange, EachKept, Entries, Pressure, StatePart, Unreadable};
pub use spans::KeySpans;
pub use storage::{DirStorage, MemoryStorage, Storage};
pub use store::{Changes, EachEntry, MemoryStore, StateStore};
