//! What a lane does with the states of its transforms; authors need not know of it.

/// Is told of a key, and of its bytes unless it is gone.
pub type EachChange<'a> = dyn FnMut(&[u8], Option<Vec<u8>>) + 'a;

/// A state that can be taken back, written and brought back. [`super::KeyedState`] is one.
pub trait StatePart: Send {
    /// What follows belongs to this batch. Numbers rise.
    fn begin(&mut self, batch: u64);

    /// This batch and all before it are settled: they can no longer be taken back.
    fn commit(&mut self, batch: u64);

    /// Takes back what batches did that are not settled.
    fn abort(&mut self);

    /// Tells of every entry that a settled batch has changed since the last call: its key, and its bytes unless it is
    /// gone. The entries are as the last settled batch left them.
    fn changes(&mut self, each: &mut EachChange<'_>);

    /// Takes in an entry as [`changes`](Self::changes) told it, of an earlier run.
    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Unreadable>;
}

/// Why an entry of an earlier run cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what was written.
    #[error("an entry is damaged")]
    Damaged,
    /// Nobody remembers this version of its type.
    #[error("an entry has version {0}, which this weir no longer reads")]
    TooOld(u8),
    /// A later weir wrote it.
    #[error("an entry has version {0}, which a later weir wrote")]
    TooNew(u8),
}
