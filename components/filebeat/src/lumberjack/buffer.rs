//! Bytes that have come and are not yet taken as frames.

/// What is kept of a buffer that is empty; larger ones are let go of.
const KEPT: usize = 64 << 10;

/// Bytes come in behind, and are taken from the front.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    data: Vec<u8>,
    /// What is before this is taken.
    start: usize,
}

impl Buffer {
    /// What is not taken.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    /// Takes so many bytes, which are there until [`room`](Self::room) is asked for.
    pub fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = (from + count).min(self.data.len());
        self.data.get(from..self.start).unwrap_or_default()
    }

    /// Where more can be put behind: at least `least` bytes without growing.
    pub fn room(&mut self, least: usize) -> &mut Vec<u8> {
        if self.start > 0 {
            // Little is left, as a rule: a frame that is not whole.
            self.data.drain(..self.start);
            self.start = 0;
        }
        if self.data.is_empty() && self.data.capacity() > KEPT {
            self.data.shrink_to(KEPT);
        }
        self.data.reserve(least);
        &mut self.data
    }

    /// Gives back its memory, if nothing is in it.
    pub fn rest(&mut self) {
        if self.bytes().is_empty() {
            *self = Buffer::default();
        }
    }

    /// Bytes of memory it holds.
    pub fn footprint(&self) -> usize {
        self.data.capacity()
    }
}
