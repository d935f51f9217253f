//! Time, small durable facts, and keyed state: everything a lane remembers, behind seams that the
//! simulator replaces.

mod checkpoint;
mod clock;
mod inventory;
mod keyed;
mod part;
mod storage;
mod store;

pub use checkpoint::{GraphState, LaneState, NamedPart, Resume};
pub use clock::{Clock, SystemClock};
pub use inventory::{KeptEntry, KeptLane, KeptState};
pub use keyed::{KeyedState, StateKey, StateLimits, StateValue};
pub use part::{EachChange, StatePart, Unreadable};
pub use storage::{DirStorage, MemoryStorage, Storage};
pub use store::{Changes, EachEntry, MemoryStore, StateStore};
