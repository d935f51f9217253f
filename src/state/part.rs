//! What a lane does with the states of its transforms; authors need not know of it.

/// Is told of a key, and of its bytes unless it is gone.
pub type EachChange<'a> = dyn FnMut(&[u8], Option<Vec<u8>>) + 'a;

/// A state that can be taken back, written and brought back. [`super::KeyedState`] is one.
///
/// Life of a checkpoint: `snapshot` at the barrier, then `written` once it is durable. What came behind the last durable
/// snapshot can be taken back at any time.
pub trait StatePart: Send {
    /// A barrier: tells of every entry that changed since the last one, its key, and its bytes unless it is gone.
    fn snapshot(&mut self, each: &mut EachChange<'_>);

    /// The last snapshot is durable.
    fn written(&mut self);

    /// Takes back everything behind the last durable snapshot.
    fn abort(&mut self);

    /// Takes in an entry as [`snapshot`](Self::snapshot) told it, of an earlier run.
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
