//! The books of a node: every event that came in is accounted for.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one node, in input events:
/// `received = passed + filtered + absorbed + dead_lettered + failed + in_flight`.
#[derive(Debug, Default)]
pub struct Books {
    received: AtomicU64,
    passed: AtomicU64,
    filtered: AtomicU64,
    absorbed: AtomicU64,
    dead_lettered: AtomicU64,
    failed: AtomicU64,
    emitted: AtomicU64,
    bytes: AtomicU64,
}

/// The books at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the words of docs/guarantees.md")]
pub struct BookTotals {
    pub received: u64,
    pub passed: u64,
    pub filtered: u64,
    pub absorbed: u64,
    pub dead_lettered: u64,
    pub failed: u64,
    pub emitted: u64,
}

impl BookTotals {
    /// Received and not yet ended.
    pub fn in_flight(&self) -> u64 {
        let ended = self.passed + self.filtered + self.absorbed + self.dead_lettered + self.failed;
        self.received.saturating_sub(ended)
    }
}

impl Books {
    /// `n` events came in.
    pub fn received(&self, n: usize) {
        self.received.fetch_add(n as u64, Relaxed);
    }

    /// `n` events went on, or, at a sink, were delivered.
    pub fn passed(&self, n: usize) {
        self.passed.fetch_add(n as u64, Relaxed);
    }

    /// `n` events ended here as intended.
    pub fn filtered(&self, n: usize) {
        self.filtered.fetch_add(n as u64, Relaxed);
    }

    /// `n` events went into state.
    pub fn absorbed(&self, n: usize) {
        self.absorbed.fetch_add(n as u64, Relaxed);
    }

    /// `n` events are durably among the dead letters.
    pub fn dead_lettered(&self, n: usize) {
        self.dead_lettered.fetch_add(n as u64, Relaxed);
    }

    /// `n` events failed and will be read again.
    pub fn failed(&self, n: usize) {
        self.failed.fetch_add(n as u64, Relaxed);
    }

    /// `n` events were put out; counted beside the balance.
    pub fn emitted(&self, n: usize) {
        self.emitted.fetch_add(n as u64, Relaxed);
    }

    /// `n` bytes of events were read by a source, or written by a sink, before compression.
    pub fn bytes(&self, n: usize) {
        self.bytes.fetch_add(n as u64, Relaxed);
    }

    /// The bytes so far.
    pub fn total_bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The counters now. Ends are read before `received`, so that in-flight is never negative.
    pub fn totals(&self) -> BookTotals {
        BookTotals {
            passed: self.passed.load(Relaxed),
            filtered: self.filtered.load(Relaxed),
            absorbed: self.absorbed.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            emitted: self.emitted.load(Relaxed),
            received: self.received.load(Relaxed),
        }
    }
}
