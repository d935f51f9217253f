//! What one sender is told, and when: frames come in, events and acknowledgements go out. It waits for nothing.
//!
//! Windows are gathered until they are taken to be kept, several of them together where the sender does not wait for each.
//! Their acknowledgements are for when what was taken is durable. A window that grows too large to be held whole is taken in
//! pieces, and acknowledged up to where it is durable.

use weir::component::Pushed;
use weir::event::Timestamp;

use crate::lumberjack::{Broken, Frame, acknowledgement};

/// Windows that are gathered, at most.
const WINDOWS: usize = 64;

/// How large windows may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowLimits {
    /// Events of one.
    pub events: u32,
    /// Bytes of its events together.
    pub bytes: usize,
    /// Bytes of events that are gathered before they are to be kept, whole windows or not; and one event more.
    pub piece: u64,
}

/// One sender's windows.
#[derive(Debug)]
pub(crate) struct Session {
    limits: WindowLimits,
    open: Option<Window>,
    /// Events of the windows that are whole.
    whole: Pushed,
    /// And their last sequences.
    ends: Vec<u32>,
    /// Of the oldest window that is not acknowledged: up to where it is.
    acknowledged: u32,
}

/// A window of which not all has come.
#[derive(Debug)]
struct Window {
    left: u32,
    /// Bytes that may still come.
    allowed: usize,
    /// Of its last event.
    sequence: u32,
    began: Timestamp,
    events: Pushed,
}

/// Events to be kept together, and what is to be acknowledged then.
#[derive(Debug)]
pub(crate) struct Batch {
    pub events: Pushed,
    pub owed: Owed,
}

/// What is to be acknowledged, by its sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// The last event of each of some windows, in order.
    Windows(Vec<u32>),
    /// The last event that has come of a window that goes on.
    Part(u32),
}

impl Session {
    pub fn new(limits: WindowLimits) -> Session {
        Session { limits, open: None, whole: Pushed::new(Timestamp::default()), ends: Vec::new(), acknowledged: 0 }
    }

    /// Takes a frame that came at this time. True: a window ends with it.
    pub fn take(&mut self, frame: Frame<'_>, now: Timestamp) -> Result<bool, Broken> {
        match frame {
            Frame::Window(count) => {
                if let Some(window) = &self.open {
                    return Err(Broken::Unfinished(window.left));
                }
                if count > self.limits.events {
                    return Err(Broken::Window(count, self.limits.events));
                }
                if count == 0 {
                    // Nothing comes of it, and its sender waits for an acknowledgement all the same: of no event.
                    self.ends.push(0);
                    return Ok(true);
                }
                self.open = Some(Window {
                    left: count,
                    allowed: self.limits.bytes,
                    sequence: 0,
                    began: now,
                    events: Pushed::new(now),
                });
                Ok(false)
            }
            Frame::Event { sequence, body } => {
                let window = self.open.as_mut().ok_or(Broken::NoWindow)?;
                let allowed = window.allowed.checked_sub(body.len());
                window.allowed = allowed.ok_or(Broken::Decompressed(self.limits.bytes))?;
                window.events.push(body);
                (window.sequence, window.left) = (sequence, window.left - 1);
                if window.left > 0 {
                    return Ok(false);
                }
                if let Some(window) = self.open.take() {
                    self.whole.join(window.events);
                    self.ends.push(window.sequence);
                }
                Ok(true)
            }
        }
    }

    /// Whether as much is gathered as may be.
    pub fn is_full(&self) -> bool {
        self.size() >= self.limits.piece || self.ends.len() >= WINDOWS
    }

    /// What is to be kept next: windows that are whole, or of one that is not as much as has come, if that is a piece or if
    /// memory is short.
    pub fn next(&mut self, is_short: bool) -> Option<Batch> {
        if !self.ends.is_empty() {
            let events = std::mem::replace(&mut self.whole, Pushed::new(Timestamp::default()));
            return Some(Batch { events, owed: Owed::Windows(std::mem::take(&mut self.ends)) });
        }
        let window = self.open.as_mut()?;
        let is_due = window.events.size() >= self.limits.piece || (is_short && !window.events.is_empty());
        is_due.then(|| {
            let events = std::mem::replace(&mut window.events, Pushed::new(window.began));
            Batch { events, owed: Owed::Part(window.sequence) }
        })
    }

    /// What to tell the sender now that it is durable.
    pub fn kept(&mut self, owed: &Owed) -> Vec<u8> {
        let (all, acknowledged) = match owed {
            Owed::Windows(ends) => (ends.as_slice(), 0),
            Owed::Part(sequence) => (std::slice::from_ref(sequence), *sequence),
        };
        self.acknowledged = acknowledged;
        all.iter().flat_map(|sequence| acknowledgement(*sequence)).collect()
    }

    /// What to tell the sender who waits, so that he does not give up: nothing new.
    pub fn keep_alive(&self) -> [u8; 6] {
        acknowledgement(self.acknowledged)
    }

    /// Whether a window has begun that is not whole.
    pub fn is_in_window(&self) -> bool {
        self.open.is_some()
    }

    /// Bytes that are gathered.
    pub fn size(&self) -> u64 {
        self.whole.size() + self.open.as_ref().map_or(0, |window| window.events.size())
    }
}

#[cfg(test)]
mod tests;
