#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::state::store::{Changes, MemoryStore, StateStore};

const LIMITS: StateLimits = StateLimits::in_memory(3);

type State = KeyedState<Vec<u8>, u64>;
type Stored = HashMap<Vec<u8>, Vec<u8>>;

fn key(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn snapshot(state: &mut State, stored: &mut Stored) {
    state.snapshot(&mut |key, value| {
        match value {
            Some(value) => stored.insert(key.to_vec(), value),
            None => stored.remove(key),
        };
    });
}

/// The state as a restart would find it.
fn restarted(stored: &Stored) -> State {
    let mut again = KeyedState::new(LIMITS);
    for (key, value) in stored {
        again.restore(key, value).unwrap();
    }
    again
}

fn contents(state: &State) -> (Timestamp, Vec<(Vec<u8>, u64)>) {
    let mut all: Vec<_> = state.entries.iter().map(|(key, entry)| (key.clone(), entry.value)).collect();
    all.sort();
    let listed: Vec<_> = state.by_expiry.iter().map(|(expires, key)| (key.clone(), *expires)).collect();
    assert!(listed.iter().all(|(key, expires)| state.entries[key].expires == *expires), "one order, one map");
    assert_eq!(listed.len(), all.len());
    (state.now, all)
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let (mut state, mut stored) = (KeyedState::new(LIMITS), Stored::new());
    state.at(Timestamp(1));
    state.insert(key("a"), 1u64, Timestamp(10));
    snapshot(&mut state, &mut stored);
    state.written();
    let durable = contents(&state);
    for snapshots in 0..3 {
        state.at(Timestamp(5));
        state.insert(key("b"), 2, Timestamp(20));
        *state.get_mut(&key("a")).unwrap() += 6;
        for _ in 0..snapshots {
            snapshot(&mut state, &mut Stored::new());
            *state.get_mut(&key("a")).unwrap() += 1;
            state.insert(key("c"), 3, Timestamp(30));
        }
        assert_eq!(state.pop_due(Timestamp(10)).unwrap().1, 7 + snapshots);
        state.insert(key("a"), 9, Timestamp(40));
        state.abort();
        assert_eq!(contents(&state), durable, "after {snapshots} snapshots that were not written");
    }
    assert_eq!(contents(&restarted(&stored)), durable);
}

#[test]
fn a_snapshot_holds_what_is_there_at_the_barrier() {
    let (mut state, mut stored) = (KeyedState::new(LIMITS), Stored::new());
    for round in 0..4u64 {
        state.at(Timestamp(round as i64));
        state.insert(round.to_be_bytes().to_vec(), round, Timestamp(round as i64 + 2));
        if let Some(value) = state.get_mut(&0u64.to_be_bytes().to_vec()) {
            *value += 10;
        }
        snapshot(&mut state, &mut stored);
        assert_eq!(contents(&restarted(&stored)), contents(&state));
        state.written();
    }
}

#[test]
fn what_has_expired_stays_until_new_keys_need_room() {
    let mut state = KeyedState::new(StateLimits::in_memory(10));
    for name in ["a", "b", "c"] {
        state.insert(key(name), 0u64, Timestamp(9));
    }
    state.at(Timestamp(9));
    assert_eq!(state.get(&key("a")), Some(&0), "another key may have set the clock");
    state.insert(key("d"), 0, Timestamp(20));
    assert_eq!(state.get(&key("a")), None, "the first to expire makes room");
    assert_eq!(state.len(), LINGERING + 1);
    state.insert(key("b"), 1, Timestamp(3));
    state.insert(key("e"), 0, Timestamp(20));
    assert_eq!(state.get(&key("b")), Some(&1), "what was put there last stays longer");
    assert_eq!(state.get(&key("c")), None);
    assert_eq!(state.evicted(), 0, "what has expired is no loss");
}

#[test]
fn entries_come_due_in_order_of_time_and_key() {
    let mut state = KeyedState::new(StateLimits::in_memory(10));
    for (name, expires) in [("b", 4), ("c", 2), ("a", 4), ("d", 5)] {
        state.insert(key(name), 0u64, Timestamp(expires));
    }
    let due: Vec<Vec<u8>> = std::iter::from_fn(|| state.pop_due(Timestamp(4))).map(|(key, _)| key).collect();
    assert_eq!(due, [key("c"), key("a"), key("b")]);
    assert_eq!(state.len(), 1);
}

#[test]
fn the_key_that_would_end_first_makes_room() {
    let mut state = KeyedState::new(LIMITS);
    let mut evicted = Vec::new();
    for (name, expires) in [("a", 4), ("b", 2), ("c", 3), ("d", 5)] {
        evicted.extend(state.insert(key(name), expires as u64, Timestamp(expires)));
    }
    assert_eq!((state.len(), state.evicted(), evicted), (3, 1, vec![(key("b"), 2)]));
    state.at(Timestamp(3));
    assert_eq!(state.insert(key("e"), 0, Timestamp(9)), None);
    assert_eq!((state.len(), state.evicted()), (3, 1), "one that has expired is no loss");
}

#[test]
fn damage_and_other_versions_are_told() {
    let mut state: State = KeyedState::new(LIMITS);
    let mut value = encode(&7u64, Timestamp(1));
    state.restore(&[entry::KEY, b'a'], &value).unwrap();
    assert_eq!(state.get(&key("a")), Some(&7));
    value[0] = 2;
    assert_eq!(state.restore(&[entry::KEY, b'a'], &value), Err(Unreadable::TooNew(2)));
    value[0] = 0;
    assert_eq!(state.restore(&[entry::KEY, b'a'], &value), Err(Unreadable::TooOld(0)));
    assert_eq!(state.restore(&[entry::KEY, b'a'], &value[..5]), Err(Unreadable::Damaged));
    assert_eq!(state.restore(&[], &value), Err(Unreadable::Damaged));
}

/// What is done to a state.
#[derive(Debug, Clone)]
enum Do {
    At(i64),
    Get(u8),
    Add(u8),
    Insert(u8, i64),
    InsertNew(u8, i64),
    PopDue(i64),
    Snapshot,
    Write,
    Abort,
    /// A restart, in which the state on disk is in memory, or is again on disk.
    Restart(bool),
}

fn anything() -> impl Strategy<Value = Do> {
    let (key, time) = (|| 0u8..24, || -5i64..40);
    prop_oneof![
        1 => time().prop_map(Do::At),
        4 => key().prop_map(Do::Get),
        6 => key().prop_map(Do::Add),
        6 => (key(), time()).prop_map(|(key, time)| Do::Insert(key, time)),
        3 => (key(), time()).prop_map(|(key, time)| Do::InsertNew(key, time)),
        3 => time().prop_map(Do::PopDue),
        4 => Just(Do::Snapshot),
        4 => Just(Do::Write),
        1 => Just(Do::Abort),
        1 => any::<bool>().prop_map(Do::Restart),
    ]
}

/// A state with its store.
struct Bench {
    state: State,
    store: Arc<MemoryStore>,
    /// Told, and not written.
    told: Option<Changes>,
    /// What was due by then was asked for.
    done: i64,
}

impl Bench {
    fn new(cache: Option<u64>) -> Bench {
        let mut bench = Bench { state: KeyedState::new(LIMITS), store: Arc::default(), told: None, done: 0 };
        bench.restart(cache);
        bench
    }

    fn restart(&mut self, cache: Option<u64>) {
        self.state = KeyedState::new(StateLimits { max_keys: 12, cache: cache.map(ByteSize) });
        self.told = None;
        self.state.take_up(Entries::new(self.store.clone(), b"p".to_vec(), Arc::default())).unwrap();
    }

    fn write(&mut self) {
        if let Some(told) = self.told.take() {
            self.store.write(told).unwrap();
            self.state.written();
        }
    }

    /// What it answers.
    fn run(&mut self, task: &Do, is_timer: bool) -> String {
        let key = |key: &u8| vec![*key % 5, *key];
        let state = &mut self.state;
        let answer = match task {
            Do::At(time) if !is_timer => {
                state.at(Timestamp(*time));
                String::new()
            }
            Do::At(_) => String::new(),
            Do::Get(at) => format!("{:?}", state.get(&key(at))),
            Do::Add(at) => format!("{:?}", state.get_mut(&key(at)).map(|value| *value += 1)),
            // What is due already comes a little later from disk: see `Disk::not_gone`.
            Do::Insert(at, time) => format!("{:?}", state.insert(key(at), 0, Timestamp(self.done + 6 + *time))),
            Do::InsertNew(at, time) => {
                let expires = if is_timer { self.done + 6 + time } else { time + 20 };
                format!("{:?}", state.insert_new(key(at), 7, Timestamp(expires)))
            }
            Do::PopDue(_) if !is_timer => format!("{:?}", state.get(&key(&7))),
            Do::PopDue(time) => {
                let until = self.done + time;
                self.done = self.done.max(until);
                let due = std::iter::from_fn(|| state.pop_due(Timestamp(until)));
                format!("{:?}", due.take(4).collect::<Vec<_>>())
            }
            Do::Snapshot => {
                self.write();
                let mut changes = Changes::new();
                self.state.snapshot(&mut |key, value| changes.push(([b"p", key].concat(), value)));
                self.told = Some(changes);
                String::new()
            }
            Do::Write => {
                self.write();
                String::new()
            }
            Do::Abort => {
                state.abort();
                self.told = None;
                String::new()
            }
            Do::Restart(_) => String::new(),
        };
        assert!(!matches!(self.state.pressure(), Pressure::Broken(_)), "{:?}", self.state.pressure());
        answer
    }

    /// Everything there is, in order.
    fn drain(&mut self) -> Vec<(Vec<u8>, u64)> {
        std::iter::from_fn(|| self.state.pop_due(Timestamp::MAX)).collect()
    }
}

#[test]
fn what_is_put_where_all_is_gone_comes_all_the_same() {
    let mut bench = Bench::new(Some(0));
    for number in 0..3 {
        bench.state.insert(vec![number], 0, Timestamp(10));
    }
    bench.run(&Do::Snapshot, true);
    bench.write();
    assert_eq!(bench.state.pop_due(Timestamp(10)).unwrap().0, [0]);
    assert_eq!(bench.state.pop_due(Timestamp(10)).unwrap().0, [1]);
    bench.state.insert(vec![9], 0, Timestamp(5));
    bench.run(&Do::Snapshot, true);
    bench.write();
    bench.restart(Some(0));
    assert_eq!(bench.drain(), [(vec![2], 0), (vec![9], 0)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_state_on_disk_answers_like_one_in_memory(
        tasks in proptest::collection::vec(anything(), 1..120),
        cache in prop_oneof![Just(0), 500u64..4000],
        is_timer: bool,
    ) {
        let (mut memory, mut disk) = (Bench::new(None), Bench::new(Some(cache)));
        for task in &tasks {
            if let Do::Restart(is_on_disk) = task {
                memory.restart(None);
                disk.restart(is_on_disk.then_some(cache));
            }
            prop_assert_eq!(memory.run(task, is_timer), disk.run(task, is_timer), "{:?}", task);
            prop_assert_eq!(memory.state.len(), disk.state.len(), "keys after {:?}", task);
            prop_assert_eq!(memory.state.evicted(), disk.state.evicted());
        }
        prop_assert_eq!(memory.drain(), disk.drain());
        // And what is gone is removed in the end.
        for _ in 0..2 {
            disk.run(&Do::Snapshot, true);
            disk.write();
        }
        if let Some(kept) = &mut disk.state.disk {
            for _ in 0..100 {
                kept.remove_gone(|_| false);
            }
            prop_assert_eq!(disk.store.keys(&[b'p', entry::KEY], &[b'p', entry::COUNT], 100).unwrap(), Vec::<Vec<u8>>::new());
        }
    }
}
