//! The durable state of a graph: for every lane the position it has settled up to, and what transforms remember of
//! everything below it. All of it changes in one write, so a graph that starts again has never seen an event twice, or
//! skipped one.
//!
//! What lies in the store, each kind behind its first byte; numbers are big-endian:
//!
//! | key | value |
//! |---|---|
//! | `f` | version of this layout, 1 byte |
//! | `i`, node | what the node's state means: see [`TransformConfig::state_identity`] |
//! | `l`, source, 0, log, 0, partition as text | number of the lane, 4 bytes; a state partition stands as node, nothing, number |
//! | `n`, node, 0, name of a state | number of the state, 4 bytes |
//! | `p`, lane | position, 8 bytes; the origin's bookmark |
//! | `v`, lane, state, key | a [`StatePart`]'s entry |
//! | `w` | how many writes were made durable, 8 bytes; of the store on disk alone |
//!
//! [`TransformConfig::state_identity`]: crate::component::TransformConfig::state_identity

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::part::{Entries, StatePart};
use super::store::{Changes, DiskStore, EachEntry, MemoryStore, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{OriginId, Position};

/// The layout above.
const FORMAT: u8 = 1;

/// The durable state of a graph.
pub struct GraphState {
    store: Arc<dyn StateStore>,
    /// Held while a number is given out.
    numbering: Mutex<()>,
    /// A write failed.
    is_broken: Arc<AtomicBool>,
}

/// A state of a transform: the node, the state's name there, and the state.
pub type NamedPart<'a> = (&'a str, &'static str, &'a mut dyn StatePart);

/// Where a lane goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The first position that is not in the state.
    pub position: Position,
    /// What the origin wanted to know again.
    pub bookmark: Vec<u8>,
}

impl GraphState {
    /// Opens the state in a folder, or makes one.
    pub fn open(dir: &Path) -> Result<GraphState> {
        let store = DiskStore::open(dir).map_err(|error| {
            let what =
                "it is damaged or the disk refuses; bring back a copy, or remove the folder to begin without state";
            Error::new(ErrorKind::Io, "open the state", what).with("path", dir.display()).caused_by(error)
        })?;
        GraphState::over(Arc::new(store)).map_err(|error| error.with("path", dir.display()))
    }

    /// A state for tests, as durable as the value.
    pub fn memory() -> GraphState {
        GraphState { store: Arc::new(MemoryStore::default()), numbering: Mutex::default(), is_broken: Arc::default() }
    }

    /// The state in a store.
    pub fn over(store: Arc<dyn StateStore>) -> Result<GraphState> {
        match store.get(b"f").map_err(refused)?.as_deref() {
            None => store.write(vec![(b"f".to_vec(), Some(vec![FORMAT]))]).map_err(refused)?,
            Some([FORMAT]) => {}
            Some(other) => {
                let other = other.first().map_or_else(|| "none".to_owned(), u8::to_string);
                let what = format!(
                    "it has format {other} and this weir reads {FORMAT}; run the weir that wrote it, or a later one"
                );
                return Err(Error::new(ErrorKind::Config, "open the state", what));
            }
        }
        Ok(GraphState { store, numbering: Mutex::default(), is_broken: Arc::default() })
    }

    /// Holds a node's state to what it was kept for. Options that give it another meaning are refused, or with `reset`
    /// the node begins without.
    pub fn identify(&self, node: &str, identity: &str, reset: bool) -> Result<()> {
        let key = [b"i", node.as_bytes()].concat();
        let kept = self.store.get(&key).map_err(refused)?;
        let mut changes: Changes = vec![(key, Some(identity.as_bytes().to_vec()))];
        match kept.as_deref() {
            Some(kept) if kept == identity.as_bytes() => return Ok(()),
            Some(kept) if !reset => {
                let what = format!(
                    "it was kept for {}, and the graph now says {identity}; undo the change, give the node another id, or \
                     begin without its state by `on_state_change: reset`",
                    String::from_utf8_lossy(kept)
                );
                return Err(Error::new(ErrorKind::Config, "take up the state", what).with("node", node));
            }
            Some(_) => {
                tracing::warn!(node, "the node's state is dropped: its options give it another meaning");
                self.forget(node, &mut changes)?;
            }
            None => {}
        }
        self.store.write(changes).map_err(refused)
    }

    /// Removes all entries of a node.
    fn forget(&self, node: &str, changes: &mut Changes) -> Result<()> {
        let mut numbers = Vec::new();
        let prefix = [b"n", node.as_bytes(), &[0]].concat();
        self.scan(&prefix, &mut |_, number| numbers.push(number.to_vec()))?;
        self.scan(b"v", &mut |key, _| {
            if key.get(5..9).is_some_and(|number| numbers.iter().any(|of| of == number)) {
                changes.push((key.to_vec(), None));
            }
        })
    }

    pub(super) fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> Result<()> {
        self.store.scan(prefix, each).map_err(refused)
    }

    /// The number of a lane or state; a new one, if it has none yet.
    fn number(&self, kind: u8, name: &[u8]) -> Result<[u8; 4]> {
        let _one_by_one = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [&[kind], name].concat();
        if let Some(number) = self.store.get(&key).map_err(refused)? {
            return number.try_into().map_err(|_| damaged("a number is damaged"));
        }
        let mut taken: u32 = 0;
        self.scan(&[kind], &mut |_, _| taken += 1)?;
        let number = taken.to_be_bytes();
        self.write(vec![(key, Some(number.to_vec()))])?;
        Ok(number)
    }

    /// Where the entries of a lane are kept. Its states are filled with what was kept of them.
    pub fn lane(&self, origin: &OriginId, parts: Vec<NamedPart<'_>>) -> Result<(Kept, Option<Resume>)> {
        let partition = origin.partition.to_string();
        let name = [origin.node.as_bytes(), &[0], origin.log.as_bytes(), &[0], partition.as_bytes()].concat();
        let lane = self.number(b'l', &name)?;
        let mut prefixes = Vec::new();
        for (node, name, part) in parts {
            let state = self.number(b'n', &[node.as_bytes(), &[0], name.as_bytes()].concat())?;
            let prefix = entries_of(&lane, &state);
            let entries = Entries::new(self.store.clone(), prefix.clone(), self.is_broken.clone());
            part.take_up(entries).map_err(|why| damaged(why).with("node", node).with("state", name))?;
            prefixes.push(prefix);
        }
        let resume = self.place(&lane)?;
        Ok((Kept { place: place_key(&lane), prefixes }, resume))
    }

    /// Where the lane of this number goes on, if it has had a checkpoint.
    pub(super) fn place(&self, lane: &[u8]) -> Result<Option<Resume>> {
        let Some(bytes) = self.store.get(&place_key(lane)).map_err(refused)? else { return Ok(None) };
        let (position, bookmark) = bytes.split_first_chunk().ok_or_else(|| damaged("a position is damaged"))?;
        Ok(Some(Resume { position: Position(u64::from_be_bytes(*position)), bookmark: bookmark.to_vec() }))
    }

    /// Writes a checkpoint. After an error the process must start again from the checkpoint before: what the disk has is
    /// not known, and nothing more is written, also for lanes that are opened later.
    pub fn write(&self, changes: Changes) -> Result<()> {
        if self.is_broken.load(Relaxed) {
            return Err(Error::new(ErrorKind::Io, "use the state", "an earlier write failed; start again"));
        }
        self.store.write(changes).inspect_err(|_| self.is_broken.store(true, Relaxed)).map_err(refused)
    }
}

fn place_key(lane: &[u8]) -> Vec<u8> {
    [b"p", lane].concat()
}

/// What the keys of a lane's entries of a state begin with.
pub(super) fn entries_of(lane: &[u8], state: &[u8]) -> Vec<u8> {
    [b"v", lane, state].concat()
}

/// The parts of the name of a lane or state.
pub(super) fn text_of(name: &[u8]) -> Vec<String> {
    name.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Where the entries of one lane, or of one state partition, are kept. The default is nowhere: what is remembered is not
/// to survive a restart.
#[derive(Debug, Default)]
pub struct Kept {
    /// Empty: nowhere.
    place: Vec<u8>,
    /// Of the keys of each state, in the order of the route.
    prefixes: Vec<Vec<u8>>,
}

impl Kept {
    /// A barrier: what its states changed since the last one.
    pub fn snapshot(&self, parts: Vec<NamedPart<'_>>, changes: &mut Changes) {
        for (at, (_, _, part)) in parts.into_iter().enumerate() {
            part.snapshot(&mut |key, value| {
                if let Some(prefix) = self.prefixes.get(at) {
                    changes.push(([prefix, key].concat(), value));
                }
            });
        }
    }

    /// The place that belongs to a snapshot.
    pub fn note_place(&self, resume: &Resume, changes: &mut Changes) {
        if self.place.is_empty() {
            return;
        }
        let place = [&resume.position.0.to_be_bytes()[..], &resume.bookmark].concat();
        changes.push((self.place.clone(), Some(place)));
    }
}

fn refused(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "use the state", "the disk refused; make room or mend it, and start again")
        .caused_by(error)
}

fn damaged(what: impl std::fmt::Display) -> Error {
    let what = format!("{what}; bring back a copy, or remove the folder `.state` to begin without");
    Error::new(ErrorKind::Io, "take up the state", what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::{OriginKind, Timestamp};
    use crate::state::{KeyedState, StateLimits};
    type Seen = KeyedState<Vec<u8>, u64>;

    fn origin(partition: i32) -> OriginId {
        OriginId { node: "in".into(), log: "topic".into(), partition, kind: OriginKind::Kafka }
    }

    fn seen() -> Seen {
        KeyedState::new(StateLimits::in_memory(10))
    }

    fn parts(seen: &mut Seen) -> Vec<NamedPart<'_>> {
        vec![("once", "seen", seen)]
    }

    /// One event in a lane, settled and written.
    fn remember(state: &Arc<GraphState>, partition: i32, key: &[u8], position: u64) {
        let mut seen = seen();
        let (lane, _) = state.lane(&origin(partition), parts(&mut seen)).unwrap();
        seen.at(Timestamp(1));
        seen.insert(key.to_vec(), position, Timestamp(100));
        checkpoint(state, &lane, &mut seen, position).unwrap();
    }

    fn checkpoint(state: &GraphState, lane: &Kept, seen: &mut Seen, position: u64) -> Result<()> {
        let mut changes = Changes::new();
        lane.snapshot(parts(seen), &mut changes);
        lane.note_place(&Resume { position: Position(position), bookmark: b"mark".to_vec() }, &mut changes);
        state.write(changes)
    }

    fn recall(state: &Arc<GraphState>, partition: i32) -> (Seen, Option<Resume>) {
        let mut seen = seen();
        let (_, resume) = state.lane(&origin(partition), parts(&mut seen)).unwrap();
        (seen, resume)
    }

    #[test]
    fn a_folder_copied_elsewhere_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let state = Arc::new(GraphState::open(&here).unwrap());
        remember(&state, 0, b"a", 7);
        remember(&state, 11, b"b", 9);
        drop(state);
        std::fs::rename(here, &there).unwrap();
        let state = Arc::new(GraphState::open(&there).unwrap());
        let (mut seen, resume) = recall(&state, 0);
        assert_eq!(seen.get(&b"a".to_vec()), Some(&7));
        assert_eq!(seen.get(&b"b".to_vec()), None);
        assert_eq!(resume, Some(Resume { position: Position(7), bookmark: b"mark".to_vec() }));
        let (mut seen, resume) = recall(&state, 11);
        assert_eq!((seen.get(&b"b".to_vec()), resume.unwrap().position), (Some(&9), Position(9)));
        assert_eq!(recall(&state, 1).1, None);
    }

    #[test]
    fn state_of_another_meaning_is_refused_or_dropped() {
        let state = Arc::new(GraphState::memory());
        state.identify("once", "dedupe with key .id", false).unwrap();
        remember(&state, 0, b"a", 7);
        state.identify("once", "dedupe with key .id", false).unwrap();
        let refused = state.identify("once", "dedupe with key .uid", false).unwrap_err().to_string();
        assert!(
            refused.contains("kept for dedupe with key .id, and the graph now says dedupe with key .uid"),
            "{refused}"
        );
        assert_eq!(recall(&state, 0).0.len(), 1);
        state.identify("once", "dedupe with key .uid", true).unwrap();
        assert_eq!(recall(&state, 0).0.len(), 0);
        assert_eq!(recall(&state, 0).1.unwrap().position, Position(7), "what was read stays read");
    }

    #[test]
    fn a_later_format_is_refused_and_damage_is_told() {
        let store = MemoryStore::default();
        store.write(vec![(b"f".to_vec(), Some(vec![9]))]).unwrap();
        let refused = GraphState::over(Arc::new(store)).err().unwrap().to_string();
        assert!(refused.contains("it has format 9 and this weir reads 1"), "{refused}");

        let state = Arc::new(GraphState::memory());
        remember(&state, 0, b"a", 7);
        let mut values = Vec::new();
        state.scan(b"v", &mut |key, _| values.push((key.to_vec(), Some(vec![1, 2])))).unwrap();
        state.store.write(values).unwrap();
        let mut seen = seen();
        let damaged = state.lane(&origin(0), parts(&mut seen)).err().unwrap().to_string();
        assert!(damaged.contains("an entry is damaged; bring back a copy"), "{damaged}");
    }

    /// A store whose disk is full from the second write on.
    #[derive(Default)]
    struct Full(MemoryStore, std::sync::atomic::AtomicU32);

    impl StateStore for Full {
        fn get(&self, key: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
            self.0.get(key)
        }
        fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> std::io::Result<()> {
            self.0.scan(prefix, each)
        }
        fn keys(&self, from: &[u8], until: &[u8], most: usize) -> std::io::Result<Vec<Vec<u8>>> {
            self.0.keys(from, until, most)
        }
        fn write_soon(&self, changes: Changes) -> std::io::Result<()> {
            self.0.write_soon(changes)
        }
        fn write(&self, changes: Changes) -> std::io::Result<()> {
            // Only the fifth fails: format, lane, state, first checkpoint, and then the disk.
            match self.1.fetch_add(1, Relaxed) {
                4 => Err(std::io::ErrorKind::StorageFull.into()),
                _ => self.0.write(changes),
            }
        }
    }

    #[test]
    fn after_a_failed_write_nothing_is_written_any_more() {
        let state = Arc::new(GraphState::over(Arc::<Full>::default()).unwrap());
        let mut seen = seen();
        let (lane, _) = state.lane(&origin(0), parts(&mut seen)).unwrap();
        checkpoint(&state, &lane, &mut seen, 1).unwrap();
        seen.insert(b"a".to_vec(), 1, Timestamp(100));
        checkpoint(&state, &lane, &mut seen, 2).unwrap_err();
        checkpoint(&state, &lane, &mut seen, 3).unwrap_err();
        let (again, kept) = recall(&state, 0);
        assert_eq!((again.len(), kept.unwrap().position), (0, Position(1)), "state and position stay together");
    }
}
