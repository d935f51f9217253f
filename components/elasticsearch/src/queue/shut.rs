//! Documents that wait for indices that do not take any; pure.
//!
//! Where events choose the index, an index that refuses documents is *shut*: its documents wait here, in the order in which they
//! came, and no other waits for them. Now and then a request with nothing but the oldest of them asks whether it takes them
//! again. A document that has waited too long, or is too many, is given up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Gathering, Parcel, Row};
use crate::request::Refusal;

/// The pause before an index is asked again; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// Indices that are shut at once.
const INDICES: usize = 100;
/// Of these are logged.
const LOGGED: usize = 10;

/// How long, and how many, documents wait for indices that refuse them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Time since a document was refused first.
    pub time: Duration,
    /// Documents of all shut indices.
    pub documents: usize,
    /// Bytes of their lines.
    pub bytes: usize,
    /// Batches that came behind a document that waits: a source reads no further than so many batches ahead.
    pub batches: u64,
}

/// Why and until when an index is left alone.
#[derive(Debug)]
struct Shut {
    /// By when they came.
    waiting: BTreeMap<u64, Parcel>,
    /// The request that asks whether it takes documents again.
    asking: Option<u64>,
    ask_at: Duration,
    pause: Duration,
    /// Documents that may ask at once.
    most: usize,
    why: Refusal,
}

/// All shut indices.
#[derive(Debug)]
pub(super) struct ShutIndices {
    patience: Patience,
    indices: HashMap<Arc<str>, Shut>,
    documents: usize,
    bytes: usize,
    /// When a document of another index was delivered last.
    flowed_at: Option<Duration>,
    given_up: Vec<(Row, Refusal)>,
}

impl ShutIndices {
    pub fn new(patience: Patience) -> ShutIndices {
        ShutIndices { patience, indices: HashMap::new(), documents: 0, bytes: 0, flowed_at: None, given_up: Vec::new() }
    }

    pub fn is_shut(&self, index: Option<&Arc<str>>) -> bool {
        index.is_some_and(|index| self.indices.contains_key(index))
    }

    #[cfg(test)]
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Documents of other indices go through.
    pub fn others_flow(&mut self, now: Duration) {
        self.flowed_at = Some(now);
    }

    /// Whether there is room for more; with others that go through the oldest make room.
    pub fn has_room(&self) -> bool {
        self.documents < self.patience.documents && self.bytes < self.patience.bytes
            || self.indices.values().any(|shut| shut.first_refused().is_some_and(|at| self.may_make_room(at)))
    }

    fn may_make_room(&self, refused_at: Duration) -> bool {
        self.flowed_at.is_some_and(|flowed_at| flowed_at >= refused_at)
    }

    /// An index refuses a document, which then comes by [`ShutIndices::put`]. False: there is no room for another index.
    pub fn shut(&mut self, index: &Arc<str>, why: &Refusal, now: Duration) -> bool {
        if let Some(shut) = self.indices.get_mut(index) {
            shut.why.clone_from(why);
            return true;
        }
        if self.indices.len() >= INDICES && !self.give_up_longest() {
            return false;
        }
        if self.indices.len() < LOGGED {
            tracing::warn!(index = &**index, why = why.message, "an index refuses documents, which wait for it");
        }
        let why = why.clone();
        let (waiting, ask_at) = (BTreeMap::new(), now.saturating_add(FIRST_PAUSE));
        let shut = Shut { waiting, asking: None, ask_at, pause: FIRST_PAUSE, most: usize::MAX, why };
        self.indices.insert(index.clone(), shut);
        true
    }

    /// Takes a document of a shut index.
    pub fn put(&mut self, mut parcel: Parcel, now: Duration) {
        parcel.item.refused_at.get_or_insert(now);
        let Some(shut) = parcel.item.index.as_ref().and_then(|index| self.indices.get_mut(index)) else { return };
        self.documents += 1;
        self.bytes += parcel.lines.len();
        shut.waiting.insert(parcel.item.came, parcel);
    }

    /// When a document is given up, or, if it `may_ask`, when an index is asked.
    pub fn due(&self, may_ask: bool) -> Option<Duration> {
        let asks = self.indices.values().filter(|shut| may_ask && shut.asking.is_none() && !shut.waiting.is_empty());
        let ends =
            self.indices.values().filter_map(Shut::first_refused).map(|at| at.saturating_add(self.patience.time));
        asks.map(|shut| shut.ask_at).chain(ends).min()
    }

    /// Fills a request with the oldest documents of an index that is to be asked.
    pub fn ask(
        &mut self,
        now: Duration,
        max_bytes: usize,
        max_events: usize,
        gathering: &mut Gathering,
    ) -> Option<Arc<str>> {
        let is_due = |shut: &Shut| shut.asking.is_none() && !shut.waiting.is_empty() && shut.ask_at <= now;
        let (index, shut) = self.indices.iter_mut().find(|(_, shut)| is_due(shut))?;
        let mut keys = HashSet::new();
        while let Some(entry) = shut.waiting.first_entry() {
            let Parcel { item, lines } = entry.get();
            let is_full = gathering.items.len() >= max_events.min(shut.most)
                || !gathering.items.is_empty() && gathering.body.len() + lines.len() > max_bytes;
            let is_second = item.key.as_ref().is_some_and(|key| !keys.insert(key.clone()));
            // One that adds to its predecessor is not in one request with it.
            if is_full || is_second && !item.action.replaces() {
                break;
            }
            let Parcel { item, lines } = entry.remove();
            self.documents -= 1;
            self.bytes -= lines.len();
            gathering.put(item, &lines);
        }
        shut.asking = Some(gathering.number);
        Some(index.clone())
    }

    /// A request that asked has to be asked again in smaller ones.
    pub fn ask_with_fewer(&mut self, index: &Arc<str>, parcels: Vec<Parcel>, now: Duration) {
        if let Some(shut) = self.indices.get_mut(index) {
            (shut.asking, shut.most, shut.ask_at) = (None, (parcels.len() / 2).max(1), now);
        }
        parcels.into_iter().for_each(|parcel| self.put(parcel, now));
    }

    /// What came back of a request that asked. Where nothing came back the index is open: gives what waited for it.
    pub fn asked(&mut self, index: &Arc<str>, back: Vec<Parcel>, has_progress: bool, now: Duration) -> Vec<Parcel> {
        let Some(shut) = self.indices.get_mut(index) else { return back };
        if back.is_empty() {
            let waiting: Vec<Parcel> = std::mem::take(&mut shut.waiting).into_values().collect();
            self.documents -= waiting.len();
            self.bytes -= waiting.iter().map(|parcel| parcel.lines.len()).sum::<usize>();
            self.indices.remove(index);
            tracing::info!(index = &**index, waited = waiting.len(), "an index takes documents again");
            return waiting;
        }
        shut.asking = None;
        shut.pause = if has_progress { FIRST_PAUSE } else { (shut.pause * 2).min(LAST_PAUSE) };
        shut.ask_at = now.saturating_add(shut.pause);
        back.into_iter().for_each(|parcel| self.put(parcel, now));
        Vec::new()
    }

    /// Documents that wait no longer, with the reasons; `batches` is the number of the batch that came last.
    pub fn give_up(&mut self, now: Duration, batches: u64) -> Vec<(Row, Refusal)> {
        let Patience { time, documents, bytes, batches: behind } = self.patience;
        let flowed_at = self.flowed_at;
        for shut in self.indices.values_mut() {
            while let Some(entry) = shut.waiting.first_entry() {
                let item = &entry.get().item;
                let refused_at = item.refused_at.unwrap_or(now);
                let is_late = now.saturating_sub(refused_at) >= time;
                let is_in_the_way = batches.saturating_sub(item.batch) >= behind && flowed_at >= Some(refused_at);
                if !is_late && !is_in_the_way {
                    break;
                }
                let Parcel { item, lines } = entry.remove();
                self.documents -= 1;
                self.bytes -= lines.len();
                self.given_up.push((item.row, shut.reason(now.saturating_sub(refused_at))));
            }
        }
        while (self.documents > documents || self.bytes > bytes) && self.give_up_oldest(now) {}
        self.indices.retain(|_, shut| !shut.waiting.is_empty() || shut.asking.is_some());
        std::mem::take(&mut self.given_up)
    }

    /// Makes room for another document.
    fn give_up_oldest(&mut self, now: Duration) -> bool {
        let waiting = self.indices.values_mut().filter(|shut| !shut.waiting.is_empty());
        let Some(shut) = waiting.min_by_key(|shut| shut.first_refused()) else { return false };
        let Some((_, Parcel { item, lines })) = shut.waiting.pop_first() else { return false };
        self.documents -= 1;
        self.bytes -= lines.len();
        self.given_up.push((item.row, shut.reason(now.saturating_sub(item.refused_at.unwrap_or(now)))));
        true
    }

    /// Makes room for another index, if one of them is not being asked.
    fn give_up_longest(&mut self) -> bool {
        let idle = self.indices.iter().filter(|(_, shut)| shut.asking.is_none() && !shut.waiting.is_empty());
        let longest = idle.min_by_key(|(_, shut)| shut.first_refused()).map(|(index, _)| index.clone());
        let Some(shut) = longest.and_then(|index| self.indices.remove(&index)) else { return false };
        for Parcel { item, lines } in shut.waiting.into_values() {
            self.documents -= 1;
            self.bytes -= lines.len();
            self.given_up.push((item.row, shut.why.clone()));
        }
        true
    }
}

impl Shut {
    /// When the oldest of its documents was refused first.
    fn first_refused(&self) -> Option<Duration> {
        self.waiting.first_key_value().and_then(|(_, parcel)| parcel.item.refused_at)
    }

    fn reason(&self, waited: Duration) -> Refusal {
        let Refusal { code, message } = &self.why;
        Refusal { code, message: format!("the index did not take it within {:.1} s: {message}", waited.as_secs_f64()) }
    }
}
