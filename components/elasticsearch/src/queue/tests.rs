#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn queue(max_events: usize) -> Queue {
    Queue::new(max_events, 1 << 20, Duration::from_secs(1))
}

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn written(action: Action, key: Option<&str>) -> Written {
    Written { action, key: key.map(Arc::from) }
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
    let mut queue = Queue::new(100, 10, Duration::ZERO);
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
    let verdicts = vec![Verdict::Delivered, again(), Verdict::Refused { code: "c", message: String::new() }];
    let ends: Vec<bool> = queue.answered(&first, verdicts, at(500)).into_iter().map(|(_, end)| end.is_ok()).collect();
    assert_eq!(ends, [true, false]);
    assert!(queue.next(at(499), true).is_none(), "not before its time, and nothing of its key either");
    let second = queue.next(at(500), true).unwrap();
    assert_eq!(rows(&second), [1]);
    assert!(queue.next(at(600), true).is_none());
    queue.answered(&second, vec![Verdict::Delivered], at(0));
    let third = queue.next(at(600), true).unwrap();
    assert_eq!(rows(&third), [3], "one at a time");
    queue.answered(&third, vec![Verdict::Delivered], at(0));
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
    let ends: Vec<u32> = queue.answered(&first, verdicts, at(0)).into_iter().map(|(row, _)| row.row).collect();
    assert_eq!(ends, [0, 1, 2]);
    let second = queue.next(at(0), true).unwrap();
    assert_eq!(rows(&second), [3]);
    queue.answered(&second, vec![Verdict::Delivered], at(0));
    assert_eq!(rows(&queue.next(at(0), true).unwrap()), [4, 5]);
}

#[test]
fn the_half_that_is_behind_waits_for_its_keys() {
    let mut queue = queue(10);
    for (number, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
        queue.push(row(number), written(Action::Index, Some(key)), format!("{number}\n").as_bytes(), at(0));
    }
    let whole = queue.next(at(0), true).unwrap();
    queue.split(whole);
    let (first, second) = (queue.next(at(0), true).unwrap(), queue.next(at(0), true).unwrap());
    assert_eq!((rows(&first), rows(&second)), (vec![0, 1], vec![3]));
    assert_eq!((&first.body[..], &second.body[..]), (&b"0\n1\n"[..], &b"3\n"[..]));
    queue.answered(&second, vec![Verdict::Delivered], at(0));
    assert!(queue.next(at(0), true).is_none());
    queue.answered(&first, vec![Verdict::Delivered; 2], at(0));
    let third = queue.next(at(0), true).unwrap();
    assert_eq!((rows(&third), &third.body[..]), (vec![2], &b"2\n"[..]));
    queue.answered(&third, vec![Verdict::Delivered], at(0));
    assert!(queue.waiting == 0 && queue.keys.is_empty(), "nothing is remembered of what has ended");
}

/// What a test does next.
#[derive(Debug, Clone)]
enum Step {
    /// A document comes: what is done, and the number of its key; none: without.
    Push(Action, Option<u8>),
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
        6 => (action(), prop::option::weighted(0.8, 0u8..4)).prop_map(|(action, key)| Step::Push(action, key)),
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
    now: u64,
}

impl World {
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
    }

    fn back(&mut self, oldest: bool, fate: &Fate) {
        let request = if oldest { self.away.pop_front() } else { self.away.pop_back() };
        let Some(request) = request else { return };
        match fate {
            Fate::Whole => self.queue.take_back(request),
            Fate::Halves if request.items.len() > 1 => self.queue.split(request),
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
            verdicts.push(match words[number % words.len()] {
                0 | 1 => again(),
                _ => {
                    if let Some(key) = &item.key {
                        apply(&mut self.store, item.action, key, mine);
                    }
                    Verdict::Delivered
                }
            });
        }
        for (row, _) in self.queue.answered(request, verdicts, at(self.now + 5)) {
            *self.ends.entry(row.row).or_default() += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes back: every document ends once, none that has ended is sent again, no key is in two requests at
    /// once, and in the end the server has what it would have had if all had gone well, one by one.
    #[test]
    fn documents_of_one_key_stay_in_order(max_events in 1usize..6, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World {
            queue: Queue::new(max_events, 1 << 20, Duration::ZERO),
            away: VecDeque::new(),
            store: Store::new(),
            ends: BTreeMap::new(),
            now: 0,
        };
        let (mut expected, mut pushed) = (Store::new(), 0);
        for step in steps {
            match step {
                Step::Push(action, key) => {
                    let key = key.map(|key| key.to_string());
                    if let Some(key) = &key {
                        apply(&mut expected, action, key, pushed);
                    }
                    let lines = format!("{pushed}\n");
                    world.queue.push(row(pushed), written(action, key.as_deref()), lines.as_bytes(), at(world.now));
                    pushed += 1;
                }
                Step::Send => world.send(),
                Step::Back(oldest, fate) => world.back(oldest, &fate),
            }
        }
        let mut rounds = 0;
        while world.queue.waiting > 0 || !world.away.is_empty() {
            world.send();
            world.back(true, &Fate::Items(vec![2]));
            rounds += 1;
            prop_assert!(rounds < 10_000, "it comes to an end");
        }
        prop_assert_eq!(world.ends.len(), pushed as usize);
        prop_assert!(world.ends.values().all(|times| *times == 1));
        prop_assert_eq!(world.store, expected);
        prop_assert!(world.queue.keys.is_empty() && world.queue.waiting_bytes == 0);
    }
}
