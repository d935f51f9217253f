//! The control thread of a source: polls the group's queue, opens and closes lanes as partitions come and go.
//!
//! The queue it polls carries rebalances, errors and commit answers, never records: every partition's
//! queue is split off before the partition is assigned. Partitions are never paused, which would throw away what is
//! fetched. While revoked lanes drain nothing is polled, so `drain_timeout` stays below librdkafka's
//! `max.poll.interval.ms`; the lanes that stay go on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use weir::component::{LaneHandle, Lanes, Origin};
use weir::error::{Error, ErrorKind, Result};
use weir::event::{Codec, OriginId, OriginKind};

use crate::batch_consume::PartitionQueue;
use crate::consumer::{GroupConsumer, Rebalance, assign, unassign};
use crate::origin::{KafkaOrigin, Partition};
use crate::troubles::Subject;

/// Longest wait for something to do; also how soon a stop is seen.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for the brokers to take a commit when partitions are given back.
const COMMIT: Duration = Duration::from_secs(5);
/// Pause between two looks whether a trouble is over, or whether all partitions are covered.
const LOOK: Duration = Duration::from_secs(1);

/// A topic's partition.
type Place = (String, i32);

/// What the thread is told when it is made.
pub(crate) struct Options {
    pub node: String,
    pub topics: Vec<String>,
    pub codec: Codec,
    pub at_end: bool,
    /// `start: latest`.
    pub from_latest: bool,
    pub drain_timeout: Duration,
}

struct Assigned {
    partition: Arc<Partition>,
    /// `None` when the lane has ended by itself.
    lane: Option<LaneHandle>,
}

/// The control thread's state.
pub(crate) struct Control {
    consumer: Arc<GroupConsumer>,
    options: Options,
    lanes: Lanes,
    runtime: Handle,
    assigned: BTreeMap<Place, Assigned>,
    /// `stop: at_end`: partitions read to the end noted.
    covered: BTreeSet<Place>,
    /// `stop: at_end`: where partitions of other members ended at our first look.
    ends: BTreeMap<Place, i64>,
    was_assigned: bool,
    last_look: Instant,
}

impl Control {
    pub fn new(consumer: GroupConsumer, options: Options, lanes: Lanes, runtime: Handle) -> Control {
        Control {
            consumer: Arc::new(consumer),
            options,
            lanes,
            runtime,
            assigned: BTreeMap::new(),
            covered: BTreeSet::new(),
            ends: BTreeMap::new(),
            was_assigned: false,
            last_look: Instant::now(),
        }
    }

    /// Runs until the graph stops or, with `stop: at_end`, everything is read.
    pub fn run(mut self) -> Result<()> {
        let result = loop {
            self.poll(POLL);
            if let Err(error) = self.reap() {
                break Err(error);
            }
            if let Some(why) = self.consumer.context().fatal() {
                break Err(Error::new(ErrorKind::Denied, "kafka source", why));
            }
            if self.lanes.is_stopping() || (self.options.at_end && self.is_covered()) {
                break Ok(());
            }
            self.look_again();
        };
        self.close();
        result
    }

    /// Waits for news from librdkafka, and answers rebalances.
    fn poll(&mut self, limit: Duration) {
        match self.consumer.poll(limit) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            // The context has turned it into a trouble or a log line.
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => self.consumer.context().set_fatal(code.to_string()),
            Some(Err(_)) => {}
            Some(Ok(message)) => {
                // Cannot happen, as queues are split before anything is fetched; if it does, read it again.
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                tracing::error!(topic, partition, offset, "record on the control queue");
                if let Err(error) = self.consumer.seek(topic, partition, Offset::Offset(offset), Duration::ZERO) {
                    self.consumer.context().set_fatal(error.to_string());
                }
            }
        }
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(list) => self.assign(&list),
                Rebalance::Revoke(list) => self.revoke(&list),
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList) {
        let places: Vec<Place> = places(list).collect();
        let queues: Vec<_> =
            places.iter().map(|(topic, partition)| PartitionQueue::split(&self.consumer, topic, *partition)).collect();
        let list = &self.with_first_offsets(list);
        assign(&self.consumer, list);
        self.was_assigned = true;
        self.consumer.context().troubles.clear(|open| matches!(open, Subject::Connection | Subject::Group));
        tracing::info!(node = %self.options.node, partitions = ?places, "kafka partitions assigned");
        let (mut partitions, mut origins) = (Vec::new(), Vec::<Box<dyn Origin>>::new());
        for (place, queue) in places.into_iter().zip(queues) {
            let (topic, number) = &place;
            let Some(queue) = queue else {
                self.consumer.context().set_fatal(format!("partition {number} of topic {topic:?} has no queue"));
                return;
            };
            let partition = Arc::new(Partition::new(topic, *number, queue));
            let id = OriginId {
                node: self.options.node.clone(),
                log: topic.clone(),
                partition: *number,
                kind: OriginKind::Kafka,
            };
            let origin = KafkaOrigin::new(id, partition.clone(), self.options.codec.clone(), self.options.at_end);
            partitions.push((place, partition));
            origins.push(Box::new(origin));
        }
        // An error means that the graph is gone, which the main loop sees next.
        let mut lanes = self.lanes.open_all_blocking(origins).unwrap_or_default().into_iter();
        for (place, partition) in partitions {
            self.assigned.insert(place, Assigned { partition, lane: lanes.next() });
        }
    }

    /// With `start: latest`, notes where a partition without a committed offset ends now, and commits that:
    /// else a crash before the first commit would skip what came in between. A broker that does not answer
    /// leaves it as it is.
    fn with_first_offsets(&self, list: &TopicPartitionList) -> TopicPartitionList {
        let mut list = list.clone();
        if !self.options.from_latest {
            return list;
        }
        let Ok(committed) = self.consumer.committed_offsets(list.clone(), LOOK) else { return list };
        let mut first = TopicPartitionList::new();
        for place in committed.elements().iter().filter(|place| !matches!(place.offset(), Offset::Offset(_))) {
            let (topic, partition) = (place.topic(), place.partition());
            if let Ok((_, end)) = self.consumer.fetch_watermarks(topic, partition, LOOK) {
                let noted = list.set_partition_offset(topic, partition, Offset::Offset(end)).is_ok();
                if noted && first.add_partition_offset(topic, partition, Offset::Offset(end)).is_ok() {
                    tracing::info!(node = %self.options.node, topic, partition, offset = end, "begins at the end");
                }
            }
        }
        // Answered before anything is read: what comes after the assignment is then safe.
        if let Err(why) = self.commit_list(first) {
            tracing::warn!(why, "the first offsets are not committed; a crash before the first delivery skips records");
        }
        list
    }

    fn revoke(&mut self, list: &TopicPartitionList) {
        let is_lost = self.consumer.assignment_lost();
        let mut leaving: Vec<Assigned> = places(list).filter_map(|place| self.assigned.remove(&place)).collect();
        let limit = if is_lost { Duration::ZERO } else { self.options.drain_timeout };
        tracing::info!(node = %self.options.node, partitions = ?places(list).collect::<Vec<_>>(), is_lost,
            "kafka partitions revoked");
        for lane in leaving.iter().filter_map(|assigned| assigned.lane.as_ref()) {
            lane.stop(limit);
        }
        if !is_lost {
            // A little longer than the lanes themselves were given.
            let deadline = tokio::time::Instant::now() + limit + Duration::from_millis(500);
            let all_ended = self.runtime.block_on(async {
                let ended = async {
                    for lane in leaving.iter_mut().filter_map(|assigned| assigned.lane.as_mut()) {
                        // However it ended: what is settled is committed, the rest is read again.
                        let _ = lane.ended().await;
                    }
                };
                tokio::time::timeout_at(deadline, ended).await.is_ok()
            });
            if !all_ended {
                tracing::warn!(node = %self.options.node, "revoked lanes did not end in time; their rest is read again");
            }
        }
        for assigned in &leaving {
            assigned.partition.close();
        }
        if !is_lost {
            self.commit(&leaving);
        }
        unassign(&self.consumer, list);
        let troubles = &self.consumer.context().troubles;
        for Assigned { partition, .. } in &leaving {
            let subject = Subject::Partition(partition.topic.clone(), partition.partition);
            troubles.clear(|open| *open == subject);
        }
    }

    /// Commits what is settled and waits for the brokers' answer, but not for ever.
    fn commit<'a>(&self, of: impl IntoIterator<Item = &'a Assigned>) {
        let mut list = TopicPartitionList::new();
        for Assigned { partition, .. } in of {
            let Some(offset) = partition.settled() else { continue };
            if let Err(error) = list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(offset))
            {
                tracing::warn!(%error, offset, "offset cannot be committed");
            }
        }
        if let Err(why) = self.commit_list(list) {
            tracing::warn!(why, "kafka commit failed; the records may be read again");
        }
    }

    fn commit_list(&self, list: TopicPartitionList) -> Result<(), String> {
        if list.count() == 0 {
            return Ok(());
        }
        // On a thread of its own with a deadline: without its coordinator, librdkafka waits for a whole session.
        let consumer = self.consumer.clone();
        let committing = self.runtime.spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        match self.runtime.block_on(async { tokio::time::timeout(COMMIT, committing).await }) {
            Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
            Ok(Err(_)) | Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Sees which lanes have ended by themselves.
    fn reap(&mut self) -> Result<()> {
        for (place, assigned) in &mut self.assigned {
            let Some(lane) = &mut assigned.lane else { continue };
            let Poll::Ready(ended) = pin!(lane.ended()).poll(&mut Context::from_waker(Waker::noop())) else { continue };
            assigned.lane = None;
            if ended? && self.options.at_end {
                self.covered.insert(place.clone());
            } else if !self.lanes.is_stopping() {
                let text = format!("the lane of partition {} of topic {:?} ended early", place.1, place.0);
                return Err(Error::temporary(ErrorKind::Unavailable, "kafka source", text));
            }
        }
        Ok(())
    }

    fn has_lanes(&self) -> bool {
        self.assigned.values().any(|assigned| assigned.lane.is_some())
    }

    fn is_time_to_look(&mut self) -> bool {
        let is_time = self.last_look.elapsed() > LOOK;
        if is_time {
            self.last_look = Instant::now();
        }
        is_time
    }

    /// Asks the brokers, while there is a trouble, whether it is over: an idle topic sends no data to tell.
    fn look_again(&mut self) {
        let troubles = &self.consumer.context().troubles;
        if !troubles.any() {
            return;
        }
        let topics = troubles.topics();
        if !self.is_time_to_look() {
            return;
        }
        let troubles = &self.consumer.context().troubles;
        troubles.clear(|open| *open == Subject::RecordSize && self.consumer.context().is_oversize_over());
        if topics.is_empty() && self.consumer.fetch_metadata(self.literal_topics().next(), LOOK).is_ok() {
            troubles.clear(|open| *open == Subject::Connection);
        }
        for topic in topics {
            let Ok(metadata) = self.consumer.fetch_metadata(Some(&topic), LOOK) else { return };
            troubles.clear(|open| *open == Subject::Connection);
            if metadata.topics().iter().all(|found| found.error().is_none()) {
                troubles.clear(|open| *open == Subject::Topic(topic.clone()));
            }
        }
    }

    fn literal_topics(&self) -> impl Iterator<Item = &str> {
        self.options.topics.iter().map(String::as_str).filter(|topic| !topic.starts_with('^'))
    }

    /// Whether every partition of every topic was read to its end, by us or by another member of the group.
    fn is_covered(&mut self) -> bool {
        if !self.was_assigned || self.has_lanes() || !self.is_first_look_or_time() {
            return false;
        }
        let mut others = TopicPartitionList::new();
        let mut topics: BTreeSet<String> = self.literal_topics().map(str::to_owned).collect();
        let seen = self.covered.iter().chain(self.assigned.keys());
        topics.extend(seen.map(|(topic, _)| topic.clone()));
        if topics.is_empty() {
            return false;
        }
        for topic in &topics {
            let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), LOOK) else { return false };
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let Some(found) = found.filter(|found| found.error().is_none()) else { return false };
            for partition in found.partitions() {
                let place = (topic.clone(), partition.id());
                if self.covered.contains(&place) {
                    continue;
                }
                if !self.ends.contains_key(&place) {
                    match self.consumer.fetch_watermarks(topic, partition.id(), LOOK) {
                        Ok((low, high)) => self.ends.insert(place.clone(), if low == high { 0 } else { high }),
                        Err(_asked_again) => return false,
                    };
                }
                others.add_partition(&place.0, place.1);
            }
        }
        if others.count() == 0 {
            return true;
        }
        let Ok(committed) = self.consumer.committed_offsets(others, LOOK) else { return false };
        committed.elements().iter().all(|element| {
            let place = (element.topic().to_owned(), element.partition());
            let end = self.ends.get(&place).copied().unwrap_or(i64::MAX);
            end == 0 || matches!(element.offset(), Offset::Offset(offset) if offset >= end)
        })
    }

    /// Looking costs a round trip, so it is done at once when all is read, and then once a while.
    fn is_first_look_or_time(&mut self) -> bool {
        let all_ours = !self.assigned.is_empty() && self.ends.is_empty();
        all_ours || self.is_time_to_look()
    }

    /// Waits for the lanes, which the graph drains, commits, and leaves the group.
    fn close(mut self) {
        let is_stopping = self.lanes.is_stopping();
        if !is_stopping {
            for lane in self.assigned.values().filter_map(|assigned| assigned.lane.as_ref()) {
                lane.stop(self.options.drain_timeout);
            }
        }
        while self.has_lanes() {
            self.poll(Duration::from_millis(10));
            for assigned in self.assigned.values_mut() {
                let has_ended = assigned
                    .lane
                    .as_mut()
                    .is_some_and(|lane| pin!(lane.ended()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
                if has_ended {
                    assigned.lane = None;
                }
            }
        }
        for assigned in self.assigned.values() {
            assigned.partition.close();
        }
        if !self.consumer.assignment_lost() {
            self.commit(self.assigned.values());
        }
        self.consumer.context().closing();
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(_) => {}
                Rebalance::Revoke(list) => unassign(&self.consumer, &list),
            }
        }
        // Dropping the consumer leaves the group, unless `group_instance_id` keeps our place in it.
    }
}

fn places(list: &TopicPartitionList) -> impl Iterator<Item = Place> {
    list.elements().into_iter().map(|element| (element.topic().to_owned(), element.partition()))
}
