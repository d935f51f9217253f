//! Lumberjack, version 2: what Beats send to Logstash. Bytes come in, frames go out; there is no socket here.
//!
//! All numbers are u32, big-endian. A frame begins with the version, `2`, and its type:
//!
//! | frame | behind its type | meaning |
//! |---|---|---|
//! | `W` | count | a window begins: so many events come, and are acknowledged together; of 0 nothing comes |
//! | `J` | sequence, length, that many bytes | an event, as JSON; the first of a window has sequence 1, with most senders |
//! | `C` | length, that many bytes | zlib; decompressed it is frames |
//! | `A` | sequence | from the receiver: the event of this sequence is safe, and all before it in the window |
//!
//! A sender waits for the `A` of a window's last event, and gives up when none at all comes for some time (Filebeat: 30 s).
//! An `A` with the sequence of an earlier event, or 0, says that the receiver is alive.
//!
//! Not taken: version 1, which logstash-forwarder spoke; frames of type `D`, which came before JSON; and a compressed frame
//! inside another one, which no sender makes.

mod buffer;
mod decoder;
pub mod encode;
mod frame;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Limits};
pub use frame::{Broken, Frame, acknowledgement};
