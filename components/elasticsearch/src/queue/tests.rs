#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience { time: Duration::from_secs(60), documents: 100, bytes: 1 << 20, batches: 8 };

fn queue(max_events: usize) -> Queue {
    Queue::new(max_events, 1 << 20, Duration::from_secs(1), PATIENCE)
}

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn written(action: Action, key: Option<&str>) -> Written {
    Written { action, key: key.map(Arc::from), index: None }
}

/// A document of an index that its event chooses.
fn chosen(index: &str, key: Option<&str>) -> Written {
    let key = key.map(|key| Arc::from(format!("{index} {key}")));
    Written { action: Action::Update, key, index: Some(index.into()) }
}

fn refusal(message: &str) -> Refusal {
    Refusal { code: "index_unavailable", message: message.to_owned() }
}

fn blocked() -> Verdict {
    Verdict::Blocked(refusal("blocked"))
}

fn row(row: u32) -> Row {
    Row { slot: 0, row }
}

fn rows(request: &Request) -> Vec<u32> {
    request.items.iter().map(|item| item.row.row).collect()
}

fn again() -> Verdict {
    Verdict::Again("429".to_owned())
}

#[test]
fn requests_are_full_or_old_or_asked_for() {
    let mut queue = queue(1000);
    for number in 0..10_500 {
        queue.push(row(number), written(Action::Index, None), b"x\n", at(u64::from(number) / 100));
        assert_eq!(queue.has_room(), number < 1999);
    }
    let sizes = |queue: &mut Queue, now| -> Vec<usize> {
        std::iter::from_fn(|| queue.next(now, false)).map(|request| request.items.len()).collect()
    };
    assert_eq!(sizes(&mut queue, at(200)), [1000; 10]);
    assert_eq!(queue.due(), Some(at(1100)), "a second after the first of them");
    assert_eq!(sizes(&mut queue, at(1100)), [500]);
    assert!(queue.waiting == 0 && queue.due().is_none());
    queue.push(row(0), written(Action::Index, None), b"x\n", at(5000));
    assert_eq!(queue.next(at(5000), true).unwrap().items.len(), 1, "a flush does not wait");
}

#[test]
fn bytes_bound_a_request_and_one_that_is_larger_goes_alone() {
    let mut queue = Queue::new(100, 10, Duration::ZERO, PATIENCE);
    for (number, lines) in [&b"1234\n"[..], b"1234\n", b"12\n", b"123456789012\n", b"1\n"].into_iter().enumerate() {
        queue.push(row(number as u32), written(Action::Index, None), lines, at(0));
    }
    let all: Vec<Vec<u32>> = std::iter::from_fn(|| queue.next(at(0), false)).map(|request| rows(&request)).collect();
    assert_eq!(all, [vec![0, 1], vec![2], vec![3], vec![4]]);
}

#[test]
fn what_has_to_be_sent_again_goes_alone_and_its_key_is_held_back() {
    let mut queue = queue(3);
    for (number, key) in [(0, "a"), (1, "b"), (2, "c")] {
        queue.push(row(number), written(Action::Update, Some(key)), b"x\n", at(0));
    }
    let first = queue.next(at(0), false).unwrap();
    // While these are with the server, more come.
    for (number, key) in [(3, "b"), (4, "d"), (5, "b")] {
        queue.push(row(number), written(Action::Update, Some(key)), b"x\n", at(1));
    }
    assert_eq!(rows(&queue.next(at(1), true).unwrap()), [4], "others pass");
    let verdicts = vec![Verdict::Delivered, again(), Verdict::Refused(refusal(""))];
    let ends: Vec<bool> =
        queue.answered(&first, verdicts, at(0), at(500)).into_iter().map(|(_, end)| end.is_ok()).collect();
    assert_eq!(ends, [true, false]);
    assert!(queue.next(at(499), true).is_none(), "not before its time, and nothing of its key either");
    let second = queue.next(at(500), true).unwrap();
    assert_eq!(rows(&second), [1]);
    assert!(queue.next(at(600), true).is_none());
    queue.answered(&second, vec![Verdict::Delivered], at(0), at(0));
    let third = queue.next(at(600), true).unwrap();
    assert_eq!(rows(&third), [3], "one at a time");
    queue.answered(&third, vec![Verdict::Delivered], at(0), at(0));
    assert_eq!(rows(&queue.next(at(600), true).unwrap()), [5]);
}

#[test]
fn documents_that_replace_each_other_share_a_request() {
    let mut queue = queue(10);
    for number in 0..4 {
        queue.push(row(number), written(Action::Index, Some("a")), b"x\n", at(0));
    }
    let first = queue.next(at(0), true).unwrap();
    assert_eq!(rows(&first), [0, 1, 2, 3]);
    queue.push(row(4), written(Action::Index, Some("a")), b"x\n", at(0));
    queue.push(row(5), written(Action::Delete, Some("a")), b"x\n", at(0));
    assert!(queue.next(at(0), true).is_none(), "not while they are with the server");
    // The third overwrote what the second said; the fourth is behind it.
    let verdicts = vec![Verdict::Delivered, again(), Verdict::Delivered, again()];
    let ends: Vec<u32> = queue.answered(&first, verdicts, at(0), at(0)).into_iter().map(|(row, _)| row.row).collect();
    assert_eq!(ends, [0, 1, 2]);
    let second = queue.next(at(0), true).unwrap();
    assert_eq!(rows(&second), [3]);
    queue.answered(&second, vec![Verdict::Delivered], at(0), at(0));
    assert_eq!(rows(&queue.next(at(0), true).unwrap()), [4, 5]);
}

#[test]
fn the_half_that_is_behind_waits_for_its_keys() {
    let mut queue = queue(10);
    for (number, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
        queue.push(row(number), written(Action::Index, Some(key)), format!("{number}\n").as_bytes(), at(0));
    }
    let whole = queue.next(at(0), true).unwrap();
    queue.split(whole, at(0));
    let (first, second) = (queue.next(at(0), true).unwrap(), queue.next(at(0), true).unwrap());
    assert_eq!((rows(&first), rows(&second)), (vec![0, 1], vec![3]));
    assert_eq!((&first.body[..], &second.body[..]), (&b"0\n1\n"[..], &b"3\n"[..]));
    queue.answered(&second, vec![Verdict::Delivered], at(0), at(0));
    assert!(queue.next(at(0), true).is_none());
    queue.answered(&first, vec![Verdict::Delivered; 2], at(0), at(0));
    let third = queue.next(at(0), true).unwrap();
    assert_eq!((rows(&third), &third.body[..]), (vec![2], &b"2\n"[..]));
    queue.answered(&third, vec![Verdict::Delivered], at(0), at(0));
    assert!(queue.waiting == 0 && queue.keys.is_empty(), "nothing is remembered of what has ended");
}

/// What a test does next.
#[derive(Debug, Clone)]
enum Step {
    /// A document comes: what is done, the number of its index, and that of its key; none: without.
    Push(Action, u8, Option<u8>),
    /// An index takes no documents from now on, or takes them again.
    Block(u8, bool),
    /// So many seconds pass.
    Wait(u8),
    /// A request goes out.
    Send,
    /// The oldest, or else the youngest, request comes back: whole, in halves, or with these words for its items.
    Back(bool, Fate),
}

#[derive(Debug, Clone)]
enum Fate {
    Whole,
    Halves,
    Items(Vec<u8>),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![4 => Just(Action::Index), 1 => Just(Action::Delete), 2 => Just(Action::Upsert), 1 => Just(Action::Create)]
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        1 => Just(Fate::Whole),
        1 => Just(Fate::Halves),
        5 => prop::collection::vec(0u8..6, 1..8).prop_map(Fate::Items),
    ];
    prop_oneof![
        6 => (action(), 0u8..3, prop::option::weighted(0.8, 0u8..4)).prop_map(|(action, index, key)| Step::Push(action, index, key)),
        1 => (0u8..3, any::<bool>()).prop_map(|(index, is_blocked)| Step::Block(index, is_blocked)),
        1 => (0u8..20).prop_map(Step::Wait),
        3 => Just(Step::Send),
        3 => (any::<bool>(), fate).prop_map(|(oldest, fate)| Step::Back(oldest, fate)),
    ]
}

/// Documents as a server would have them: by key what was written, in order; an upsert adds to what is there.
type Store = BTreeMap<String, Vec<u32>>;

fn apply(store: &mut Store, action: Action, key: &str, number: u32) {
    match action {
        Action::Index => {
            store.insert(key.to_owned(), vec![number]);
        }
        Action::Create => {
            store.entry(key.to_owned()).or_insert_with(|| vec![number]);
        }
        Action::Delete => {
            store.remove(key);
        }
        Action::Update | Action::Upsert => store.entry(key.to_owned()).or_default().push(number),
    }
}

/// A queue, the requests that are with the server, and what that has.
struct World {
    queue: Queue,
    away: VecDeque<Request>,
    store: Store,
    ends: BTreeMap<u32, usize>,
    /// Indices that take no documents.
    blocked: HashSet<Arc<str>>,
    /// What was given up, and what would have been applied without it.
    given_up: BTreeSet<u32>,
    /// When each document was refused first by its index.
    refused_at: BTreeMap<u32, u64>,
    now: u64,
}

impl World {
    fn new(max_events: usize) -> World {
        World {
            queue: Queue::new(max_events, 1 << 20, Duration::ZERO, PATIENCE),
            away: VecDeque::new(),
            store: Store::new(),
            ends: BTreeMap::new(),
            blocked: HashSet::new(),
            given_up: BTreeSet::new(),
            refused_at: BTreeMap::new(),
            now: 0,
        }
    }

    fn check_keys(&self) {
        let mut keys = HashSet::new();
        for request in &self.away {
            let mine: HashSet<&Arc<str>> = request.items.iter().filter_map(|item| item.key.as_ref()).collect();
            for key in mine {
                assert!(keys.insert(key.clone()), "a key is in two requests at once");
            }
        }
    }

    fn send(&mut self) {
        self.now += 10;
        if let Some(request) = self.queue.next(at(self.now), true) {
            self.away.push_back(request);
            self.check_keys();
        }
        self.give_up();
    }

    fn give_up(&mut self) {
        for (row, _) in self.queue.give_up(at(self.now)) {
            *self.ends.entry(row.row).or_default() += 1;
            self.given_up.insert(row.row);
        }
        assert!(self.queue.shut.documents() <= PATIENCE.documents, "what waits for indices is bounded");
    }

    fn back(&mut self, oldest: bool, fate: &Fate) {
        let request = if oldest { self.away.pop_front() } else { self.away.pop_back() };
        let Some(request) = request else { return };
        match fate {
            Fate::Whole => self.queue.take_back(request),
            Fate::Halves if request.items.len() > 1 => self.queue.split(request, at(self.now)),
            Fate::Halves => self.answer(&request, &[0]),
            Fate::Items(words) => self.answer(&request, words),
        }
    }

    fn answer(&mut self, request: &Request, words: &[u8]) {
        let mut verdicts = Vec::new();
        for (number, item) in request.items.iter().enumerate() {
            let mine = item.row.row;
            assert_eq!(request.lines(number), format!("{mine}\n").as_bytes(), "its own lines");
            assert!(!self.ends.contains_key(&mine), "what has ended is sent again");
            let is_blocked = item.index.as_ref().is_some_and(|index| self.blocked.contains(index));
            verdicts.push(match words[number % words.len()] {
                _ if is_blocked => {
                    self.refused_at.entry(mine).or_insert(self.now);
                    blocked()
                }
                0 | 1 => again(),
                _ => {
                    if let Some(key) = &item.key {
                        apply(&mut self.store, item.action, key, mine);
                    }
                    Verdict::Delivered
                }
            });
        }
        for (row, _) in self.queue.answered(request, verdicts, at(self.now), at(self.now + 5)) {
            *self.ends.entry(row.row).or_default() += 1;
        }
        self.give_up();
    }

    fn is_done(&self) -> bool {
        self.queue.waiting == 0 && self.away.is_empty() && self.queue.shut.documents() == 0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes back, and whichever indices refuse documents meanwhile: every document ends once, none that has ended
    /// is sent again, no key is in two requests at once, and in the end the server has what it would have had if all but what
    /// was given up had gone well, one by one.
    #[test]
    fn documents_of_one_key_stay_in_order(
        max_events in 1usize..6,
        is_chosen in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(max_events);
        let mut pushed: Vec<(Action, Option<String>)> = Vec::new();
        for step in steps {
            match step {
                Step::Push(action, index, key) => {
                    let key = key.map(|key| format!("{index} {key}"));
                    let number = pushed.len() as u32;
                    let index = is_chosen.then(|| Arc::from(index.to_string()));
                    let written = Written { action, key: key.as_deref().map(Arc::from), index };
                    if number.is_multiple_of(3) {
                        world.queue.begin_batch();
                    }
                    world.queue.push(row(number), written, format!("{number}\n").as_bytes(), at(world.now));
                    pushed.push((action, key));
                }
                Step::Block(index, true) => drop(world.blocked.insert(index.to_string().into())),
                Step::Block(index, false) => drop(world.blocked.remove(&*index.to_string())),
                Step::Wait(seconds) => world.now += u64::from(seconds) * 1000,
                Step::Send => world.send(),
                Step::Back(oldest, fate) => world.back(oldest, &fate),
            }
        }
        world.blocked.clear();
        let mut rounds = 0;
        while !world.is_done() {
            world.now += 500;
            world.send();
            world.back(true, &Fate::Items(vec![2]));
            rounds += 1;
            prop_assert!(rounds < 10_000, "it comes to an end");
        }
        prop_assert_eq!(world.ends.len(), pushed.len());
        prop_assert!(world.ends.values().all(|times| *times == 1));
        let mut expected = Store::new();
        for (number, (action, key)) in (0..).zip(pushed) {
            if let (false, Some(key)) = (world.given_up.contains(&number), key) {
                apply(&mut expected, action, &key, number);
            }
        }
        prop_assert_eq!(world.store, expected);
        prop_assert!(world.queue.keys.is_empty() && world.queue.waiting_bytes == 0);
        prop_assert!(world.given_up.iter().all(|number| world.refused_at.contains_key(number) || is_chosen));
    }

    /// While one index refuses documents for ever, those of others are delivered at the next opportunity, those of the refusing
    /// one end by the limit, and the queue always comes to have room again.
    #[test]
    fn an_index_that_refuses_documents_holds_back_no_other(
        max_events in 1usize..6,
        documents in prop::collection::vec((0u8..3, prop::option::weighted(0.5, 0u8..3)), 1..300),
    ) {
        let mut world = World::new(max_events);
        world.blocked.insert("0".into());
        for (number, (index, key)) in (0u32..).zip(&documents) {
            if number.is_multiple_of(2) {
                world.queue.begin_batch();
            }
            let key = key.map(|key| key.to_string());
            let written = chosen(&index.to_string(), key.as_deref());
            world.queue.push(row(number), written, format!("{number}\n").as_bytes(), at(world.now));
            for _ in 0..8 {
                world.send();
                world.back(true, &Fate::Items(vec![2]));
            }
            prop_assert!(*index == 0 || world.ends.contains_key(&number), "it waits for nobody");
            prop_assert!(world.queue.has_room());
        }
        world.now += 60_000;
        for _ in 0..8 {
            world.send();
            world.back(true, &Fate::Items(vec![2]));
        }
        prop_assert_eq!(world.ends.len(), documents.len());
        for (number, (index, _)) in (0u32..).zip(&documents) {
            prop_assert_eq!(world.given_up.contains(&number), *index == 0);
        }
    }
}

#[test]
fn a_document_waits_for_its_index_as_long_as_the_limit_and_an_index_that_is_back_takes_what_waited() {
    let mut queue = queue(10);
    for (number, index) in [(0, "shut"), (1, "open"), (2, "shut")] {
        queue.push(row(number), chosen(index, None), b"x\n", at(0));
    }
    let first = queue.next(at(0), true).unwrap();
    let ends = queue.answered(&first, vec![blocked(), Verdict::Delivered, blocked()], at(0), at(0));
    assert_eq!(ends, [(row(1), Ok(()))]);
    // What comes for it goes where the others wait, and is not sent.
    queue.push(row(3), chosen("shut", None), b"x\n", at(30_000));
    assert_eq!((queue.waiting, queue.shut.documents()), (0, 3));
    let asking = queue.next(at(30_000), false).unwrap();
    assert_eq!(rows(&asking), [0, 2, 3]);
    assert!(queue.next(at(30_000), true).is_none(), "one request asks");
    assert!(queue.answered(&asking, vec![blocked(), blocked(), blocked()], at(30_000), at(0)).is_empty());
    assert!(queue.give_up(at(59_999)).is_empty());
    assert_eq!(queue.shut_due(false), Some(at(60_000)));
    let given_up = queue.give_up(at(60_000));
    assert_eq!(given_up.iter().map(|(row, _)| row.row).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(given_up[0].1.message, "the index did not take it within 60.0 s: blocked");
    // The third was refused later.
    let asking = queue.next(at(60_001), false).unwrap();
    assert_eq!(rows(&asking), [3]);
    queue.push(row(4), chosen("shut", None), b"x\n", at(60_002));
    assert_eq!(queue.answered(&asking, vec![Verdict::Delivered], at(60_003), at(0)), [(row(3), Ok(()))]);
    assert_eq!(rows(&queue.next(at(60_003), true).unwrap()), [4], "it is open again");
}

#[test]
fn documents_that_wait_for_indices_are_bounded_in_number_in_bytes_and_in_batches_behind_them() {
    let refuse_all = |patience: Patience, count: u32, flows: bool| {
        let mut queue = Queue::new(1000, 1 << 20, Duration::ZERO, patience);
        for number in 0..count {
            queue.begin_batch();
            queue.push(row(number), chosen("shut", None), b"0123456789", at(0));
        }
        queue.push(row(count), chosen("open", None), b"x\n", at(0));
        let request = queue.next(at(0), true).unwrap();
        let last = if flows { Verdict::Delivered } else { again() };
        let verdicts = std::iter::repeat_n(blocked(), count as usize).chain([last]).collect();
        queue.answered(&request, verdicts, at(0), at(0));
        queue.give_up(at(0)).into_iter().map(|(row, _)| row.row).collect::<Vec<_>>()
    };
    let wide = Patience { documents: 1000, bytes: 1 << 20, batches: 1000, ..PATIENCE };
    assert!(refuse_all(wide, 20, true).is_empty());
    assert_eq!(refuse_all(Patience { documents: 15, ..wide }, 20, true), [0, 1, 2, 3, 4], "the oldest make room");
    assert_eq!(refuse_all(Patience { bytes: 170, ..wide }, 20, true), [0, 1, 2]);
    assert_eq!(refuse_all(Patience { batches: 18, ..wide }, 20, true), [0, 1]);
    assert!(refuse_all(Patience { batches: 18, ..wide }, 20, false).is_empty(), "they are in nobody's way");
}

#[test]
fn more_indices_than_can_be_waited_for_cost_the_oldest_documents_and_no_room() {
    let mut queue = Queue::new(1000, 1 << 20, Duration::ZERO, Patience { documents: 1000, ..PATIENCE });
    let mut ended = Vec::new();
    for round in 0..3 {
        for number in round * 150..(round + 1) * 150 {
            queue.push(row(number), chosen(&number.to_string(), None), b"x\n", at(round.into()));
        }
        let request = queue.next(at(round.into()), true).unwrap();
        let ends = queue.answered(&request, vec![blocked(); 150], at(round.into()), at(0));
        assert!(ends.iter().all(|(_, end)| end.is_err()) && !queue.has_again(), "none is sent again at once");
        ended.extend(ends.into_iter().map(|(row, _)| row.row));
        ended.extend(queue.give_up(at(round.into())).into_iter().map(|(row, _)| row.row));
        assert!(queue.has_room() && queue.waiting == 0);
    }
    let different: BTreeSet<&u32> = ended.iter().collect();
    assert_eq!((ended.len(), different.len(), queue.shut.documents()), (350, 350, 100));
}
