//! A disk that, by the seed, refuses writes, says so of some that it made, is full for a while, and tears a write when the
//! process dies in it.

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::state::{Changes, EachEntry, MemoryStore, StateStore};

/// Of so many checkpoints, one meets a fault; and of so many other writes, with which a process starts.
const ONE_OF: u32 = 4;
const ONE_OF_OTHERS: u32 = 64;
/// Writes that a full disk refuses, at most.
const FULL_FOR: u32 = 6;

/// Checkpoints that were written before the faults were over, and how often one met each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// No fault at all.
    pub written: u64,
    /// A write failed, and the disk has nothing of it.
    pub refused: u64,
    /// A write failed, and the disk has it all the same: `fsync` said no.
    pub unsynced: u64,
    /// The process died in a write, and the disk has nothing of it.
    pub torn_off: u64,
    /// The process died in a write, and the disk has all of it.
    pub torn_behind: u64,
    /// There was no room.
    pub full: u64,
}

impl Faults {
    pub fn each(self) -> [u64; 6] {
        [self.written, self.refused, self.unsynced, self.torn_off, self.torn_behind, self.full]
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { written, refused, unsynced, torn_off, torn_behind, full } = self;
        write!(
            f,
            "{written} checkpoints written, {refused} refused, {unsynced} written and said to have failed, {full} "
        )?;
        write!(f, "refused for lack of room, {torn_off} lost and {torn_behind} kept when the process died in them")
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, more: Faults) {
        self.written += more.written;
        self.refused += more.refused;
        self.unsynced += more.unsynced;
        self.torn_off += more.torn_off;
        self.torn_behind += more.torn_behind;
        self.full += more.full;
    }
}

/// What outlives every process.
pub(super) struct Disk {
    store: MemoryStore,
    fate: Mutex<Fate>,
}

struct Fate {
    rng: StdRng,
    /// The faults are over.
    is_mended: bool,
    full_for: u32,
    faults: Faults,
    /// The process that wrote last is dead, and does not know it.
    is_process_dead: bool,
}

/// What becomes of a write.
enum End {
    Written,
    Refused(io::ErrorKind),
    Unsynced,
    Torn { is_applied: bool },
}

impl Disk {
    pub fn new(seed: u64) -> Arc<Disk> {
        let rng = StdRng::seed_from_u64(seed);
        let fate = Fate { rng, is_mended: false, full_for: 0, faults: Faults::default(), is_process_dead: false };
        Arc::new(Disk { store: MemoryStore::default(), fate: Mutex::new(fate) })
    }

    /// The disk as a new process sees it.
    pub fn open(self: &Arc<Disk>) -> Opened {
        self.fate().is_process_dead = false;
        Opened { disk: self.clone(), has_failed: AtomicBool::new(false) }
    }

    /// Whether the process died in a write: what it did behind it never was.
    pub fn is_process_dead(&self) -> bool {
        self.fate().is_process_dead
    }

    /// From now on every write succeeds.
    pub fn mend(&self) {
        self.fate().is_mended = true;
    }

    pub fn faults(&self) -> Faults {
        self.fate().faults
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fate {
    fn of_write(&mut self, is_checkpoint: bool) -> End {
        let one_of = if is_checkpoint { ONE_OF } else { ONE_OF_OTHERS };
        if self.is_mended {
            return End::Written;
        }
        let is_met = self.full_for > 0 || self.rng.random_range(0..one_of) == 0;
        let mut others = Faults::default();
        let faults = if is_checkpoint { &mut self.faults } else { &mut others };
        if !is_met {
            faults.written += 1;
            return End::Written;
        }
        if self.full_for == 0 {
            match self.rng.random_range(0..5) {
                0 => {
                    faults.refused += 1;
                    return End::Refused(io::ErrorKind::Other);
                }
                1 => {
                    faults.unsynced += 1;
                    return End::Unsynced;
                }
                2 => {
                    faults.torn_off += 1;
                    return End::Torn { is_applied: false };
                }
                3 => {
                    faults.torn_behind += 1;
                    return End::Torn { is_applied: true };
                }
                _ => self.full_for = self.rng.random_range(1..=FULL_FOR),
            }
        }
        self.full_for -= 1;
        faults.full += 1;
        End::Refused(io::ErrorKind::StorageFull)
    }
}

/// A process's way to the disk.
pub(super) struct Opened {
    disk: Arc<Disk>,
    has_failed: AtomicBool,
}

impl StateStore for Opened {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.disk.store.get(key)
    }

    fn scan(&self, prefix: &[u8], each: &mut EachEntry<'_>) -> io::Result<()> {
        self.disk.store.scan(prefix, each)
    }

    fn keys(&self, from: &[u8], until: &[u8], most: usize) -> io::Result<Vec<Vec<u8>>> {
        self.disk.store.keys(from, until, most)
    }

    fn write_soon(&self, changes: Changes) -> io::Result<()> {
        // It may come to nothing, and nobody is told.
        let is_applied = self.disk.fate().rng.random_bool(0.5);
        if is_applied { self.disk.store.write(changes) } else { Ok(()) }
    }

    fn write(&self, changes: Changes) -> io::Result<()> {
        assert!(!self.has_failed.load(Relaxed), "a process that the disk refused something writes nothing more");
        // All else is one number, or the format.
        let end = self.disk.fate().of_write(changes.len() > 1);
        if let End::Written | End::Unsynced | End::Torn { is_applied: true } = end {
            self.disk.store.write(changes)?;
        }
        self.has_failed.store(!matches!(end, End::Written), Relaxed);
        match end {
            End::Written => Ok(()),
            End::Refused(kind) => Err(kind.into()),
            End::Unsynced => Err(io::Error::other("fsync failed")),
            End::Torn { .. } => {
                self.disk.fate().is_process_dead = true;
                Err(io::Error::other("the process died"))
            }
        }
    }
}
