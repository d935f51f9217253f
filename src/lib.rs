//! The runtime of weir and everything a component author needs.
//!
//! Events flow `source -> lane -> transforms -> sinks` as [`event::Batch`]es; each batch carries a
//! [`delivery::Receipt`] that tells the lane when its positions may be committed. Dependencies point
//! one way: `graph -> component -> delivery, state, script -> event`.

pub mod admin;
pub mod component;
pub mod config;
pub mod delivery;
pub mod error;
pub mod event;
mod failpoint;
pub mod files;
mod folder_lock;
pub mod graph;
pub mod listen;
mod private;
pub mod script;
pub mod state;
pub mod telemetry;
pub mod terminal;

pub use error::{Error, ErrorKind, Result};

/// Used by the registration macros; not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use schemars;
    pub use typetag;
}
