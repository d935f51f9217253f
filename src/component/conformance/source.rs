//! What every source that ends must do.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use tokio::task::JoinHandle;

use super::in_time;
use crate::component::{
    BuildContext, DetachedLane, DetachedLanes, Lanes, Origin, Read, ReadLimit, Source, SourceConfig,
};
use crate::error::Result;
use crate::event::{Event, Position};

/// A source at work, with the test in place of the graph.
pub(super) struct Running {
    pub lanes: DetachedLanes,
    run: JoinHandle<Result<()>>,
}

impl Running {
    pub async fn start(config: &dyn SourceConfig, context: &BuildContext) -> Running {
        let source: Box<dyn Source> = match config.build(context).await {
            Ok(source) => source,
            Err(error) => panic!("a source must build without reaching its peer: {error}"),
        };
        let (open, lanes) = Lanes::detached();
        Running { lanes, run: tokio::spawn(source.run(open)) }
    }

    /// Works through every lane the source opens, until it returns.
    async fn each_lane(mut self, mut work: impl AsyncFnMut(&mut dyn Origin)) {
        while let Some(DetachedLane { mut origin, end }) = in_time("a bounded source ends", self.lanes.next()).await {
            work(&mut *origin).await;
            drop(origin);
            end.clean();
        }
        self.end().await;
    }

    /// Whether the source has returned by itself.
    pub fn has_returned(&self) -> bool {
        self.run.is_finished()
    }

    pub async fn end(self) {
        self.lanes.stop();
        match in_time("a source returns soon after it was asked to stop", self.run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("a source that was only stopped returned an error: {error}"),
            Err(panic) => panic!("the source panicked: {panic}"),
        }
    }
}

/// Reads an origin to its end, checking what every read must keep to.
async fn read_all(origin: &mut dyn Origin, limit: ReadLimit) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let read = match in_time("a read returns", origin.read(limit)).await {
            Ok(read) => read,
            Err(error) => panic!("a read of a healthy source failed: {error}"),
        };
        let Read::Events(events) = read else { return all };
        check_read(&events, limit);
        all.extend(events);
    }
}

/// What every read must keep to.
pub(super) fn check_read(events: &[Event], limit: ReadLimit) {
    assert!(!events.is_empty(), "a read returns at least one event");
    assert!(events.len() <= limit.events, "a read keeps to its limit of {} events: {}", limit.events, events.len());
    let bytes: usize = events.iter().map(|event| event.body.size()).sum();
    assert!(bytes <= limit.bytes || events.len() == 1, "a read keeps to its limit of {} bytes: {bytes}", limit.bytes);
}

pub(super) fn bodies(events: &[Event]) -> Vec<(Position, String)> {
    events.iter().map(|event| (event.position, format!("{:?}", event.body))).collect()
}

pub(super) const SMALL: ReadLimit = ReadLimit { events: 7, bytes: 64 << 10 };
pub(super) const LARGE: ReadLimit = ReadLimit { events: 1000, bytes: 16 << 20 };

/// Checks a bounded source that yields exactly `events` events in all.
///
/// - it opens its lanes, reads to the end, and returns;
/// - positions rise within an origin, and reads keep to their limits;
/// - a read that is dropped while waiting loses nothing;
/// - after a seek the very same events come again;
/// - after a restart nothing above the committed position is missing;
/// - after a run that was completed, the next begins anew;
/// - asked to stop in the middle, it returns.
pub async fn source(config: &dyn SourceConfig, events: usize) {
    check_stop(config).await;
    let (context, _rejected) = BuildContext::detached("conformance");
    let mut first = BTreeMap::new();
    Running::start(config, &context)
        .await
        .each_lane(async |origin| {
            let id = origin.id();
            let all = read_all(origin, SMALL).await;
            let rising = all.is_sorted_by(|a, b| (a.position, a.ordinal) < (b.position, b.ordinal));
            assert!(rising, "positions of {id:?} rise");
            check_seek(origin, &all).await;
            first.insert(format!("{id:?}"), all);
        })
        .await;
    let count: usize = first.values().map(Vec::len).sum();
    assert_eq!(count, events, "every event is read once");
    check_restart(config, &context, &first).await;
}

/// A stop while a lane is being read: the graph drains the lane, and the source goes.
async fn check_stop(config: &dyn SourceConfig) {
    let (context, _rejected) = BuildContext::detached("conformance");
    let mut running = Running::start(config, &context).await;
    let Some(mut lane) = in_time("a source opens a lane", running.lanes.next()).await else {
        return running.end().await;
    };
    if let Err(error) = in_time("a read returns", lane.origin.read(ReadLimit { events: 1, ..SMALL })).await {
        panic!("a read of a healthy source failed: {error}");
    }
    // As a graph does: every lane hears of the stop and ends, those that were still being opened, too.
    running.lanes.stop();
    drop(lane);
    while in_time("a source that was asked to stop opens no lanes for ever", running.lanes.next()).await.is_some() {}
    running.end().await;
}

/// Going back to the middle gives the same events from there on, also when a read was dropped meanwhile.
async fn check_seek(origin: &mut dyn Origin, all: &[Event]) {
    let Some(middle) = all.get(all.len() / 2) else { return };
    if let Err(error) = origin.seek(middle.position).await {
        panic!("a source can go back to what is not committed: {error}");
    }
    {
        let mut read = origin.read(LARGE);
        let dropped: Option<Result<Read>> = poll_fn(|context| {
            Poll::Ready(match read.as_mut().poll(context) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        })
        .await;
        drop(read);
        // One that was ready at once has been taken, not dropped: go back again.
        if dropped.is_some() {
            let _ = origin.seek(middle.position).await;
        }
    }
    let again = read_all(origin, LARGE).await;
    assert_eq!(bodies(&again), bodies(&all[all.len() / 2..]), "after a seek the same events come again");
}

async fn check_restart(config: &dyn SourceConfig, context: &BuildContext, first: &BTreeMap<String, Vec<Event>>) {
    // A run that commits half of every lane and dies.
    Running::start(config, context)
        .await
        .each_lane(async |origin| {
            let all = read_all(origin, LARGE).await;
            if let Some(middle) = all.get(all.len() / 2)
                && let Err(error) = origin.commit(middle.position).await
            {
                panic!("a commit of a healthy source failed: {error}");
            }
        })
        .await;
    Running::start(config, context)
        .await
        .each_lane(async |origin| {
            let id = format!("{:?}", origin.id());
            let all = read_all(origin, LARGE).await;
            let expected = &first[&id];
            let rest = &expected[expected.len() / 2..];
            assert!(all.len() >= rest.len(), "after a restart nothing above the committed position of {id} is missing");
            let tail = &all[all.len() - rest.len()..];
            assert_eq!(bodies(tail), bodies(rest), "after a restart the same events come");
            if let Err(error) = origin.complete().await {
                panic!("a completed run cannot be noted: {error}");
            }
        })
        .await;
    let mut again = 0;
    Running::start(config, context).await.each_lane(async |origin| again += read_all(origin, LARGE).await.len()).await;
    assert_eq!(again, first.values().map(Vec::len).sum::<usize>(), "after a completed run the next begins anew");
}
