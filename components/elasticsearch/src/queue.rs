//! What is on its way to the server: documents that gather for a request, requests that are due, and what has to be sent
//! again; pure.
//!
//! Lines of documents come in, in order; requests of a bounded size go out, and what became of each document of a request
//! comes back. Documents of which one is the successor of the other have the same key, and never are in two requests
//! at once: the later one is *held* until the earlier one has ended. In one request they may stand one behind
//! the other where the later one leaves nothing of the earlier one, for a server goes through a request in order.
//!
//! Where events choose the index, the documents of one that refuses them wait apart from all others: see [`shut`].

mod shut;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::action::{Action, Verdict};
use crate::request::{Refusal, Written};
pub(crate) use shut::Patience;
use shut::ShutIndices;

/// Which event of which batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    /// The batch.
    pub slot: u32,
    /// The event.
    pub row: u32,
}

/// A document of a request.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub row: Row,
    pub action: Action,
    key: Option<Arc<str>>,
    /// The index, where the event chooses it.
    index: Option<Arc<str>>,
    /// How many documents came before it, and the number of its batch.
    came: u64,
    batch: u64,
    since: Duration,
    /// When its index refused it first.
    refused_at: Option<Duration>,
    /// Where its lines end in the request's body.
    end: usize,
}

/// What is sent at once.
#[derive(Debug)]
pub(crate) struct Request {
    number: u64,
    pub body: Bytes,
    pub items: Vec<Item>,
    /// The shut index that is asked whether it takes documents again.
    asks: Option<Arc<str>>,
}

impl Request {
    /// The lines of the item at `at`.
    fn lines(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.items[at - 1].end };
        &self.body[start..self.items[at].end]
    }

    fn parcels(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = Parcel> {
        range.map(|at| self.parcel(at))
    }

    fn parcel(&self, at: usize) -> Parcel {
        Parcel { item: self.items[at].clone(), lines: Bytes::copy_from_slice(self.lines(at)) }
    }
}

/// A document with its lines.
#[derive(Debug)]
struct Parcel {
    item: Item,
    lines: Bytes,
}

/// Where the documents with a key are.
#[derive(Debug, Default)]
struct Place {
    /// The request that the earliest is in; none: it is to be sent again.
    request: Option<u64>,
    /// Those that wait for it, in order.
    held: VecDeque<Parcel>,
}

/// A request that is still gathering.
#[derive(Debug, Default)]
struct Gathering {
    number: u64,
    body: Vec<u8>,
    items: Vec<Item>,
    /// When the oldest of them came.
    since: Duration,
}

impl Gathering {
    fn put(&mut self, mut item: Item, lines: &[u8]) {
        self.body.extend_from_slice(lines);
        item.end = self.body.len();
        self.items.push(item);
    }

    fn into_request(self) -> Request {
        Request { number: self.number, body: self.body.into(), items: self.items, asks: None }
    }
}

/// What is on its way to the server.
#[derive(Debug)]
pub(crate) struct Queue {
    max_events: usize,
    max_bytes: usize,
    max_age: Duration,
    /// Requests that were begun.
    begun: u64,
    open: Gathering,
    closed: VecDeque<Request>,
    again: VecDeque<Parcel>,
    /// Not before then.
    again_at: Duration,
    keys: HashMap<Arc<str>, Place>,
    shut: ShutIndices,
    /// Documents and batches that came.
    came: u64,
    batches: u64,
    /// Documents that are not with the server, and the bytes of their lines.
    waiting: usize,
    waiting_bytes: usize,
}

impl Queue {
    /// With these bounds of a request, and for how long documents wait for others.
    pub fn new(max_events: usize, max_bytes: usize, max_age: Duration, patience: Patience) -> Queue {
        Queue {
            max_events: max_events.max(1),
            max_bytes: max_bytes.max(1),
            max_age,
            begun: 0,
            open: Gathering::default(),
            closed: VecDeque::new(),
            again: VecDeque::new(),
            again_at: Duration::ZERO,
            keys: HashMap::new(),
            shut: ShutIndices::new(patience),
            came: 0,
            batches: 0,
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    /// Whether more may come: what waits is less than two requests, and what waits for shut indices within its bounds.
    pub fn has_room(&self) -> bool {
        self.waiting < 2 * self.max_events && self.waiting_bytes < 2 * self.max_bytes && self.shut.has_room()
    }

    /// Whether nothing waits but for shut indices.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// A batch comes; what is pushed next is of it.
    pub fn begin_batch(&mut self) {
        self.batches += 1;
    }

    /// Whether something waits to be sent again.
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Takes a document.
    pub fn push(&mut self, row: Row, written: Written, lines: &[u8], now: Duration) {
        let Written { action, key, index } = written;
        self.came += 1;
        let (came, batch, since) = (self.came, self.batches, now);
        let item = Item { row, action, key, index, came, batch, since, refused_at: None, end: 0 };
        self.waiting += 1;
        self.waiting_bytes += lines.len();
        self.put(item, Cow::Borrowed(lines), now);
    }

    /// When a document that waits for a shut index is given up, or, if it `may_ask`, when such an index is asked.
    pub fn shut_due(&self, may_ask: bool) -> Option<Duration> {
        self.shut.due(may_ask)
    }

    /// Documents that waited too long for their index, or are too many, with the reasons.
    pub fn give_up(&mut self, now: Duration) -> Vec<(Row, Refusal)> {
        self.shut.give_up(now, self.batches)
    }

    /// When the next request is due, if something waits for its time.
    pub fn due(&self) -> Option<Duration> {
        let again = self.has_again().then_some(self.again_at);
        let open = (!self.open.items.is_empty()).then(|| self.open.since.saturating_add(self.max_age));
        again.into_iter().chain(open).min()
    }

    /// A request that is due; `all`: what waits for others is.
    pub fn next(&mut self, now: Duration, all: bool) -> Option<Request> {
        let mut asking = Gathering { number: self.begun + 1, ..Gathering::default() };
        if let Some(index) = self.shut.ask(now, self.max_bytes, self.max_events, &mut asking) {
            self.begun += 1;
            return Some(Request { asks: Some(index), ..asking.into_request() });
        }
        if self.has_again() && now >= self.again_at {
            self.gather_again();
        } else if self.closed.is_empty()
            && !self.open.items.is_empty()
            && (all || now >= self.open.since.saturating_add(self.max_age))
        {
            self.close();
        }
        let request = self.closed.pop_front()?;
        self.waiting -= request.items.len();
        self.waiting_bytes -= request.body.len();
        Some(request)
    }

    /// A request has to be sent again as it is.
    pub fn take_back(&mut self, request: Request) {
        self.waiting += request.items.len();
        self.waiting_bytes += request.body.len();
        self.closed.push_front(request);
    }

    /// A request was too much, or one document of it spoils the others: it becomes two.
    pub fn split(&mut self, request: Request, now: Duration) {
        if let Some(index) = &request.asks {
            let parcels = request.parcels(0..request.items.len()).collect();
            return self.shut.ask_with_fewer(index, parcels, now);
        }
        self.waiting += request.items.len();
        self.waiting_bytes += request.body.len();
        let half = request.items.len() / 2;
        let mut later = Vec::new();
        let (mut first, mut second) = (self.begin(), self.begin());
        for (at, parcel) in request.parcels(0..request.items.len()).enumerate() {
            let place = parcel.item.key.as_ref().and_then(|key| self.keys.get_mut(key));
            match place {
                // What comes behind one of the first half waits until that has ended.
                Some(place) if at >= half && place.request == Some(first.number) => later.push(parcel),
                place => {
                    let side = if at < half { &mut first } else { &mut second };
                    if let Some(place) = place {
                        place.request = Some(side.number);
                    }
                    side.put(parcel.item, &parcel.lines);
                }
            }
        }
        for parcel in later.into_iter().rev() {
            if let Some(place) = parcel.item.key.as_ref().and_then(|key| self.keys.get_mut(key)) {
                place.held.push_front(parcel);
            }
        }
        for side in [second, first] {
            if !side.items.is_empty() {
                self.closed.push_front(side.into_request());
            }
        }
    }

    /// What became of each item of a request; those to be sent again wait until `again_at`. Gives the ends of the others.
    pub fn answered(
        &mut self,
        request: &Request,
        mut verdicts: Vec<Verdict>,
        now: Duration,
        again_at: Duration,
    ) -> Vec<(Row, Result<(), Refusal>)> {
        let is_all_well = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Delivered | Verdict::Refused(_)));
        if !is_all_well {
            settle_the_replaced(&request.items, &mut verdicts);
            self.shut_what_is_blocked(request, &mut verdicts, now);
        }
        let mut ends = Vec::with_capacity(request.items.len());
        let mut back = Vec::new();
        for (at, (item, verdict)) in request.items.iter().zip(verdicts).enumerate() {
            match verdict {
                Verdict::Delivered => ends.push((item.row, Ok(()))),
                Verdict::Refused(refusal) => ends.push((item.row, Err(refusal))),
                Verdict::Again(_) | Verdict::Blocked(_) => back.push(request.parcel(at)),
            }
        }
        match &request.asks {
            Some(index) => {
                let has_progress = !ends.is_empty();
                for Parcel { item, lines } in self.shut.asked(index, back, has_progress, now) {
                    self.waiting += 1;
                    self.waiting_bytes += lines.len();
                    self.put(item, Cow::Owned(lines.into()), now);
                }
            }
            None => {
                if ends.iter().any(|(_, end)| end.is_ok()) {
                    self.shut.others_flow(now);
                }
                self.send_again(request, back, now, again_at);
            }
        }
        ends
    }

    /// Shuts the indices that refuse documents. An index without a choice is never shut: its documents are sent again.
    fn shut_what_is_blocked(&mut self, request: &Request, verdicts: &mut [Verdict], now: Duration) {
        for (item, verdict) in request.items.iter().zip(verdicts) {
            let Verdict::Blocked(why) = verdict else { continue };
            match &item.index {
                Some(index) if self.shut.shut(index, why, now) => {}
                Some(_) => *verdict = Verdict::Refused(why.clone()),
                None => *verdict = Verdict::Again(std::mem::take(&mut why.message)),
            }
        }
    }

    /// Documents of a request that have not ended go where they wait, and those that are held behind them with them.
    fn send_again(&mut self, request: &Request, back: Vec<Parcel>, now: Duration, again_at: Duration) {
        let mut held_back = HashSet::new();
        for parcel in back {
            if self.shut.is_shut(parcel.item.index.as_ref()) {
                self.shut.put(parcel, now);
                continue;
            }
            self.waiting += 1;
            self.waiting_bytes += parcel.lines.len();
            self.again_at = if self.has_again() { self.again_at } else { again_at };
            if let Some(key) = &parcel.item.key {
                held_back.insert(key.clone());
            }
            self.again.push_back(parcel);
        }
        for key in request.items.iter().filter_map(|item| item.key.as_ref()) {
            if held_back.contains(key) {
                self.keys.entry(key.clone()).or_default().request = None;
            } else {
                self.release(key, request.number, now);
            }
        }
    }

    /// No document with this key that was in that request waits to be sent again: those that were held may go.
    fn release(&mut self, key: &Arc<str>, request: u64, now: Duration) {
        if self.keys.get(key).is_none_or(|place| place.request != Some(request)) {
            return;
        }
        let mut held = self.keys.remove(key).map(|place| place.held).unwrap_or_default();
        while let Some(Parcel { item, lines }) = held.pop_front() {
            self.put(item, Cow::Owned(lines.into()), now);
            if let Some(place) = self.keys.get_mut(key)
                && !place.held.is_empty()
            {
                place.held.append(&mut held);
            }
        }
    }

    /// Puts a document into the open request, or holds it, or lets it wait for its index.
    fn put(&mut self, item: Item, lines: Cow<'_, [u8]>, now: Duration) {
        if self.shut.is_shut(item.index.as_ref()) && item.key.as_ref().is_none_or(|key| !self.keys.contains_key(key)) {
            self.waiting -= 1;
            self.waiting_bytes -= lines.len();
            return self.shut.put(Parcel { item, lines: lines.into_owned().into() }, now);
        }
        if !self.open.items.is_empty() && self.open.body.len() + lines.len() > self.max_bytes {
            self.close();
        }
        if let Some(key) = &item.key {
            let number = self.open.number;
            match self.keys.get_mut(key) {
                None => drop(self.keys.insert(key.clone(), Place { request: Some(number), held: VecDeque::new() })),
                Some(place) if item.action.replaces() && place.held.is_empty() && place.request == Some(number) => {}
                Some(place) => {
                    let lines = lines.into_owned().into();
                    return place.held.push_back(Parcel { item, lines });
                }
            }
        }
        let is_first = self.open.items.is_empty();
        self.open.since = if is_first { item.since } else { self.open.since.min(item.since) };
        self.open.put(item, &lines);
        if self.open.items.len() >= self.max_events || self.open.body.len() >= self.max_bytes {
            self.close();
        }
    }

    fn begin(&mut self) -> Gathering {
        self.begun += 1;
        Gathering { number: self.begun, ..Gathering::default() }
    }

    fn close(&mut self) {
        let mut next = self.begin();
        next.body.reserve(self.open.body.len());
        next.items.reserve(self.open.items.len());
        self.closed.push_back(std::mem::replace(&mut self.open, next).into_request());
    }

    /// A request, before all others, of what has to be sent again.
    fn gather_again(&mut self) {
        let mut gathering = self.begin();
        let mut left = VecDeque::new();
        let mut is_full = false;
        for parcel in std::mem::take(&mut self.again) {
            let Parcel { item, lines } = &parcel;
            is_full |= gathering.items.len() >= self.max_events
                || !gathering.items.is_empty() && gathering.body.len() + lines.len() > self.max_bytes;
            let place = item.key.as_ref().and_then(|key| self.keys.get_mut(key));
            // Its neighbours of the same key go along, for they may not overtake each other.
            if is_full && place.as_ref().is_none_or(|place| place.request != Some(gathering.number)) {
                left.push_back(parcel);
                continue;
            }
            if let Some(place) = place {
                place.request = Some(gathering.number);
            }
            gathering.put(parcel.item, &parcel.lines);
        }
        self.again = left;
        self.closed.push_front(gathering.into_request());
    }
}

/// Items to be sent again of which nothing would be left by one behind them that was delivered have ended with it: sent
/// now, they would overwrite it.
fn settle_the_replaced(items: &[Item], verdicts: &mut [Verdict]) {
    let mut replaced = HashSet::new();
    for (item, verdict) in items.iter().zip(verdicts).rev() {
        let Some(key) = &item.key else { continue };
        match verdict {
            Verdict::Delivered if item.action.replaces() => {
                replaced.insert(key);
            }
            Verdict::Again(_) | Verdict::Blocked(_) if replaced.contains(key) => *verdict = Verdict::Delivered,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
