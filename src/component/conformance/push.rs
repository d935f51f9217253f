//! What every push source must do: one that is sent events, and answers for them.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::source::{LARGE, Running, SMALL, bodies, check_read};
use super::{DEADLINE, in_time};
use crate::component::{BuildContext, DetachedLane, Origin, Read, ReadLimit, SourceConfig, async_trait};
use crate::event::Event;
use crate::state::DirStorage;

/// Sends requests to the source that is tested, as its senders do.
#[async_trait]
pub trait PushClient: Send + Sync {
    /// The events of one request, as they are to be read; those of another number are others. Default: four JSON documents
    /// of some 400 bytes.
    fn events(&self, number: u64) -> Vec<Bytes> {
        let numbers = number * EVENTS..(number + 1) * EVENTS;
        numbers.map(|number| format!("{{\"number\":{number},\"pad\":\"{:->400}\"}}", "").into()).collect()
    }

    /// Begins a request with these events: sends so much of it that the source works on it, and not all. `None`: nobody
    /// listens.
    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>>;
}

/// A request that has begun.
#[async_trait]
pub trait PushRequest: Send {
    /// Sends the rest, and waits for the answer.
    async fn end(self: Box<Self>) -> PushAnswer;
}

/// What a source answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushAnswer {
    /// Every event of the request is durable.
    Taken,
    /// None of them was taken.
    Refused,
    /// None came: nothing is promised.
    Nothing,
}

/// Events of a request, unless its client makes them.
const EVENTS: u64 = 4;
/// Requests that come one after the other.
const REQUESTS: u64 = 15;
/// Requests that fill a log.
const MOST: u64 = 50_000;
/// Time in which something would have come that must not.
const MOMENT: Duration = Duration::from_millis(150);

/// Checks a push source whose log is small (some MiB at most), and which keeps it in a folder: `dir`, which is empty. It
/// reads JSON, unless `client` makes other events. `too_much` is a request that it must refuse.
///
/// - what it answered for is read, in the order of the answers, once; reads keep to their limits, and one that is dropped
///   while it waits loses nothing; after a seek the very same events come again;
/// - after a restart nothing above the committed position is missing;
/// - what it refuses it does not take in part, and goes on; a log that is full refuses, loses nothing, and takes again once
///   what it holds is settled;
/// - asked to stop, it answers the requests that have begun before it returns, takes no more, and what it answered for
///   meanwhile is read by the next run.
pub async fn push_source(config: &dyn SourceConfig, dir: &Path, client: &dyn PushClient, too_much: &[Bytes]) {
    let storage = match DirStorage::open(dir) {
        Ok(storage) => Arc::new(storage),
        Err(error) => panic!("the folder of the test cannot be used: {error}"),
    };
    let context = || {
        let (mut context, _rejected) = BuildContext::detached("conformance");
        (context.storage, context.once) = (storage.clone(), false);
        context
    };
    let mut sent = Sent { client, next: 0 };
    check_reads(config, &context(), &mut sent).await;
    check_limits(config, &context(), &mut sent, too_much).await;
    check_stop(config, &context(), &mut sent).await;
}

/// What was sent so far.
struct Sent<'a> {
    client: &'a dyn PushClient,
    next: u64,
}

impl Sent<'_> {
    /// Events that nobody has sent yet.
    fn events(&mut self) -> Vec<Bytes> {
        self.next += 1;
        self.client.events(self.next - 1)
    }

    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>> {
        in_time("a request can be begun", self.client.begin(events)).await
    }

    async fn send(&self, events: &[Bytes]) -> PushAnswer {
        match self.begin(events).await {
            Some(request) => in_time("a request is answered", request.end()).await,
            None => PushAnswer::Nothing,
        }
    }

    /// Sends a request that must be taken, as soon as somebody listens.
    async fn taken(&mut self, all: &mut Vec<Bytes>) {
        let events = self.events();
        let begun = Instant::now();
        let answer = loop {
            match self.send(&events).await {
                PushAnswer::Nothing if begun.elapsed() < DEADLINE => tokio::time::sleep(MOMENT / 10).await,
                answer => break answer,
            }
        };
        assert_eq!(answer, PushAnswer::Taken, "a healthy source takes a request that keeps to its limits");
        all.extend(events);
    }
}

async fn lane(running: &mut Running) -> DetachedLane {
    match in_time("a push source opens its lane", running.lanes.next()).await {
        Some(lane) => lane,
        None => panic!("a push source opens its lane, and it returned"),
    }
}

/// Reads so many events, and checks that there are no more.
async fn read(origin: &mut dyn Origin, count: usize, limit: ReadLimit) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        match in_time("what was answered for is read", origin.read(limit)).await {
            Ok(Read::Events(events)) => {
                check_read(&events, limit);
                all.extend(events);
            }
            Ok(_) => panic!("a push source has no end"),
            Err(error) => panic!("a read of a healthy source failed: {error}"),
        }
    }
    let more = tokio::time::timeout(MOMENT, origin.read(limit)).await;
    assert!(more.is_err(), "nothing is read but what was answered for, once: {more:?}");
    all
}

fn texts(events: &[Event]) -> Vec<Bytes> {
    events.iter().map(|event| event.body.to_bytes()).collect()
}

async fn commit(origin: &mut dyn Origin, last: &Event) {
    if let Err(error) = origin.commit(last.position.next()).await {
        panic!("a commit of a healthy source failed: {error}");
    }
}

async fn check_reads(config: &dyn SourceConfig, context: &BuildContext, sent: &mut Sent<'_>) {
    let mut running = Running::start(config, context).await;
    let DetachedLane { mut origin, end } = lane(&mut running).await;
    let mut expected = Vec::new();
    for _ in 0..REQUESTS {
        sent.taken(&mut expected).await;
    }
    let all = read(&mut *origin, expected.len(), SMALL).await;
    assert_eq!(texts(&all), expected, "what was answered for is read in the order of the answers");
    assert!(all.is_sorted_by(|a, b| a.position < b.position), "positions rise");
    {
        let mut waiting = origin.read(LARGE);
        let polled = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
        assert!(polled, "a read waits while there is nothing");
    }
    sent.taken(&mut expected).await;
    let last = read(&mut *origin, expected.len() - all.len(), LARGE).await;
    assert_eq!(texts(&last), expected[all.len()..], "a read that was dropped while it waited loses nothing");
    let middle = all.len() / 2;
    if let Err(error) = origin.seek(all[middle].position).await {
        panic!("a source can go back to what is not committed: {error}");
    }
    let mut rest = all[middle..].to_vec();
    rest.extend(last);
    let again = read(&mut *origin, rest.len(), LARGE).await;
    assert_eq!(bodies(&again), bodies(&rest), "after a seek the same events come again");
    commit(&mut *origin, &all[middle - 1]).await;
    drop(origin);
    running.lanes.stop();
    end.clean();
    running.end().await;

    let mut running = Running::start(config, context).await;
    let DetachedLane { mut origin, end } = lane(&mut running).await;
    let again = read(&mut *origin, rest.len(), SMALL).await;
    let what = "after a restart what was answered for and is not committed comes again";
    assert_eq!(bodies(&again), bodies(&rest), "{what}");
    commit(&mut *origin, &again[again.len() - 1]).await;
    drop(origin);
    running.lanes.stop();
    end.clean();
    running.end().await;
}

/// What is too much is refused, as a whole, and costs nobody else anything.
async fn check_limits(config: &dyn SourceConfig, context: &BuildContext, sent: &mut Sent<'_>, too_much: &[Bytes]) {
    let mut running = Running::start(config, context).await;
    let DetachedLane { mut origin, end } = lane(&mut running).await;
    let mut expected = Vec::new();
    sent.taken(&mut expected).await;
    assert_eq!(sent.send(too_much).await, PushAnswer::Refused, "what is above a limit is refused");
    sent.taken(&mut expected).await;

    let mut is_full = false;
    for _ in 0..MOST {
        let events = sent.events();
        match sent.send(&events).await {
            PushAnswer::Taken => expected.extend(events),
            PushAnswer::Refused => {
                is_full = true;
                break;
            }
            PushAnswer::Nothing => panic!("a log that is full is told to the sender"),
        }
    }
    assert!(is_full, "a log that is full refuses: {} events were taken", expected.len());
    let all = read(&mut *origin, expected.len(), LARGE).await;
    assert_eq!(texts(&all), expected, "what was taken is read, and nothing of what was refused");
    let begun = Instant::now();
    let more = loop {
        // Room comes in steps, and what is settled is stored now and then.
        commit(&mut *origin, &all[all.len() - 1]).await;
        let events = sent.events();
        match sent.send(&events).await {
            PushAnswer::Taken => break events,
            answer => assert!(begun.elapsed() < DEADLINE, "a log that has room takes again: {answer:?}"),
        }
        tokio::time::sleep(MOMENT).await;
    };
    let all = read(&mut *origin, more.len(), LARGE).await;
    assert_eq!(texts(&all), more, "what was taken is read, and nothing of what was refused");
    commit(&mut *origin, &all[all.len() - 1]).await;
    drop(origin);
    running.lanes.stop();
    end.clean();
    running.end().await;
}

/// Requests that have begun are answered, and the answers hold.
async fn check_stop(config: &dyn SourceConfig, context: &BuildContext, sent: &mut Sent<'_>) {
    let mut running = Running::start(config, context).await;
    let DetachedLane { origin, end } = lane(&mut running).await;
    let mut expected = Vec::new();
    sent.taken(&mut expected).await;
    let events = sent.events();
    let Some(begun) = sent.begin(&events).await else { panic!("a healthy source listens") };
    // A later request has its answer: the source works on the one that came before.
    sent.taken(&mut expected).await;
    running.lanes.stop();
    // The lane has nothing to drain, so it ends at once.
    drop(origin);
    end.clean();
    tokio::time::sleep(MOMENT).await;
    assert!(!running.has_returned(), "a source that is asked to stop answers what has begun before it returns");
    let late = sent.events();
    assert_ne!(sent.send(&late).await, PushAnswer::Taken, "a source that is asked to stop takes nothing new");
    let answer = in_time("a request is answered", begun.end()).await;
    assert_ne!(answer, PushAnswer::Nothing, "a source that is asked to stop answers what has begun");
    running.end().await;
    if answer == PushAnswer::Taken {
        expected.extend(events);
    }

    let mut running = Running::start(config, context).await;
    let DetachedLane { mut origin, end } = lane(&mut running).await;
    let all = read(&mut *origin, expected.len(), LARGE).await;
    assert_eq!(texts(&all), expected, "what was answered for before a stop is read behind it");
    drop(origin);
    running.lanes.stop();
    end.clean();
    running.end().await;
}
