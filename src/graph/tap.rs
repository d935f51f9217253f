//! Taps: a look at the events that leave a node, at a price that is bounded.
//!
//! A node that nobody looks at pays one relaxed load a batch. A reader is given copies of at most so many events a
//! second; what comes beyond, or while it reads nothing, is counted and not copied. No reader ever makes a lane wait.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::Port;
use crate::event::{Event, OriginId};

/// The rate is kept in each of so many parts of a second, so that what is seen is spread over it.
const PARTS: u32 = 10;
/// Batches that wait for a reader.
const WAITING: usize = 16;
/// Bytes of the events that wait for a reader, and one event more.
const WAITING_BYTES: usize = 2 << 20;

/// The readers of one node.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    is_open: AtomicBool,
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    port: Port,
    /// Events in a part of a second.
    allowed: usize,
    part: Instant,
    used: usize,
    seen: mpsc::Sender<Seen>,
    missed: Arc<AtomicU64>,
    held: Arc<AtomicUsize>,
}

/// Copies of events that left a node together.
#[derive(Debug)]
pub(crate) struct Seen {
    pub origin: Arc<OriginId>,
    pub events: Vec<Event>,
    _share: Share,
}

/// Bytes of what a reader has not taken; given back on drop.
#[derive(Debug)]
struct Share {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}

/// A reader's end; dropping it closes the tap.
#[derive(Debug)]
pub(crate) struct Tapped {
    pub seen: mpsc::Receiver<Seen>,
    missed: Arc<AtomicU64>,
}

impl Tapped {
    /// Events that passed without being seen since the last call.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Relaxed)
    }
}

impl Tap {
    /// A reader of one output, of at most about `rate` events a second.
    pub fn open(&self, port: Port, rate: u32) -> Tapped {
        let (seen, receiver) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        let allowed = rate.div_ceil(PARTS).max(1) as usize;
        let reader =
            Reader { port, allowed, part: Instant::now(), used: 0, seen, missed: missed.clone(), held: Arc::default() };
        self.readers().push(reader);
        self.is_open.store(true, Relaxed);
        Tapped { seen: receiver, missed }
    }

    /// Events leave the node by this output.
    pub fn see(&self, port: Port, origin: &Arc<OriginId>, events: &[Event]) {
        if self.is_open.load(Relaxed) {
            self.show(port, origin, events.len(), || events.iter());
        }
    }

    /// The same for events that only exist when somebody looks.
    pub fn see_made<E: std::borrow::Borrow<Event>>(
        &self,
        port: Port,
        origin: &Arc<OriginId>,
        events: impl ExactSizeIterator<Item = E>,
    ) {
        if self.is_open.load(Relaxed) {
            let made: Vec<E> = events.collect();
            self.show(port, origin, made.len(), || made.iter().map(std::borrow::Borrow::borrow));
        }
    }

    #[cold]
    fn show<'a, I: Iterator<Item = &'a Event>>(
        &self,
        port: Port,
        origin: &Arc<OriginId>,
        count: usize,
        events: impl Fn() -> I,
    ) {
        let mut readers = self.readers();
        readers.retain(|reader| !reader.seen.is_closed());
        if readers.is_empty() {
            return self.is_open.store(false, Relaxed);
        }
        for reader in readers.iter_mut().filter(|reader| reader.port == port) {
            let granted = reader.grant(count);
            let (shown, bytes) = reader.fitting(events().take(granted));
            reader.missed.fetch_add((count - shown) as u64, Relaxed);
            if shown > 0 {
                let events = events().take(shown).map(copied).collect();
                reader.held.fetch_add(bytes, Relaxed);
                let share = Share { bytes, of: reader.held.clone() };
                // There was room just now, and only this lock's holder sends.
                let _sent = reader.seen.try_send(Seen { origin: origin.clone(), events, _share: share });
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// How many of `count` events it may see now.
    fn grant(&mut self, count: usize) -> usize {
        if self.seen.capacity() == 0 {
            return 0;
        }
        if self.part.elapsed() >= Duration::from_secs(1) / PARTS {
            (self.part, self.used) = (Instant::now(), 0);
        }
        let granted = count.min(self.allowed - self.used);
        self.used += granted;
        granted
    }

    /// How many of these events there is memory for, and their bytes.
    fn fitting<'a>(&self, events: impl Iterator<Item = &'a Event>) -> (usize, usize) {
        let held = self.held.load(Relaxed);
        let (mut count, mut bytes) = (0, 0);
        for event in events {
            if held + bytes >= WAITING_BYTES {
                break;
            }
            bytes += event.size();
            count += 1;
        }
        (count, bytes)
    }
}

/// A copy that keeps nothing of the batch alive.
fn copied(event: &Event) -> Event {
    let mut copy = event.clone();
    copy.each_bytes(|bytes| *bytes = Bytes::copy_from_slice(bytes));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Codec, OriginKind, Position, Timestamp};

    #[test]
    fn a_reader_that_takes_nothing_holds_a_bounded_number_of_bytes_and_misses_the_rest() {
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let (tap, origin) = (Tap::default(), Arc::new(origin));
        let mut tapped = tap.open(Port::Main, 100_000);
        let event = |bytes: usize| Event::new(Body::Raw(vec![0; bytes].into(), Codec::Raw), Position(0), Timestamp(0));
        for _ in 0..100 {
            tap.see(Port::Main, &origin, &[event(100_000), event(100_000)]);
        }
        let held = |tap: &Tap| tap.readers()[0].held.load(Relaxed);
        assert!(held(&tap) < WAITING_BYTES + 101_000, "{}", held(&tap));
        let waiting = std::iter::from_fn(|| tapped.seen.try_recv().ok());
        let seen: usize = waiting.map(|seen| seen.events.len()).sum();
        assert_eq!(seen as u64 + tapped.take_missed(), 200);
        assert!(seen >= 16 && held(&tap) == 0, "what was taken is given back");
        tap.see(Port::Main, &origin, &[event(WAITING_BYTES * 2)]);
        assert!(tapped.seen.try_recv().is_ok(), "one large event is shown");
    }
}
