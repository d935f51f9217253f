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

use metrics::counter;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use weir::component::{LaneHandle, Lanes, Origin};
use weir::error::{Error, ErrorKind, Result};
use weir::event::{Codec, OriginId, OriginKind};

use crate::batch_consume::PartitionQueue;
use crate::consumer::{GroupConsumer, LOOK, Rebalance, assign, unassign};
use crate::coverage::{Coverage, coverage};
use crate::origin::{KafkaOrigin, Partition};
use crate::source::{OnOutOfRange, Start, Tombstones};
use crate::starts::{Astray, Beginnings, Starts, Way};
use crate::troubles::Subject;

/// Longest wait for something to do; also how soon a stop is seen.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for the brokers to take a commit when partitions are given back.
const COMMIT: Duration = Duration::from_secs(5);
/// How long `/ready` speaks of a jump: long enough for whoever asks now and then. The counter stays.
const JUMP_SHOWN: Duration = Duration::from_secs(300);
/// Pause between two looks whether all partitions are still ours, where state needs that.
const STILL_WHOLE: Duration = Duration::from_secs(5);

/// A topic's partition.
pub(crate) type Place = (String, i32);

/// What the thread is told when it is made.
pub(crate) struct Options {
    pub node: String,
    pub topics: Vec<String>,
    pub group: String,
    pub codec: Codec,
    pub at_end: bool,
    pub start: Start,
    pub on_out_of_range: OnOutOfRange,
    pub tombstones: Tombstones,
    /// State behind the source needs all partitions in this process.
    pub needs_all: bool,
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
    /// What is read.
    assigned: BTreeMap<Place, Assigned>,
    /// What the group has given us. The same as `assigned`, unless all partitions are needed and others have some.
    owned: BTreeSet<Place>,
    starts: Starts,
    /// Jumps that `/ready` still speaks of.
    jumps: Vec<(Place, Instant)>,
    /// `stop: at_end`: partitions read to the end noted.
    covered: BTreeSet<Place>,
    /// `stop: at_end`: where partitions of other members ended at our first look.
    ends: BTreeMap<Place, i64>,
    was_assigned: bool,
    last_look: Instant,
    /// When to look who has the partitions; `None`: now.
    members_seen: Option<Instant>,
}

impl Control {
    pub fn new(consumer: GroupConsumer, options: Options, lanes: Lanes, runtime: Handle) -> Control {
        Control {
            consumer: Arc::new(consumer),
            starts: Starts::new(options.start),
            options,
            lanes,
            runtime,
            assigned: BTreeMap::new(),
            owned: BTreeSet::new(),
            jumps: Vec::new(),
            covered: BTreeSet::new(),
            ends: BTreeMap::new(),
            was_assigned: false,
            last_look: Instant::now(),
            members_seen: None,
        }
    }

    /// Runs until the graph stops or, with `stop: at_end`, everything is read.
    pub fn run(mut self) -> Result<()> {
        let result = loop {
            self.poll(POLL);
            if let Err(error) = self.reap().and_then(|()| self.find_places()) {
                break Err(error);
            }
            if let Some(why) = self.consumer.context().fatal() {
                break Err(Error::new(ErrorKind::Denied, "kafka source", why));
            }
            if self.lanes.is_stopping() || (self.options.at_end && self.is_covered()) {
                break Ok(());
            }
            self.look_again();
            self.look_at_members();
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
                Rebalance::Assign(list) => self.take_on(&list),
                Rebalance::Revoke(list) => self.give_back(&list),
            }
        }
    }

    fn take_on(&mut self, list: &TopicPartitionList) {
        let all = self.options.topics.iter().map(|topic| Some(topic.as_str()).filter(|topic| !topic.starts_with('^')));
        self.starts.note_topics(&self.consumer, all);
        self.owned.extend(places(list));
        self.was_assigned = true;
        self.consumer.context().troubles.clear(|open| matches!(open, Subject::Connection | Subject::Group));
        tracing::info!(node = %self.options.node, partitions = listed(list), "kafka partitions assigned");
        if self.options.needs_all {
            // The group waits for an answer. What is read is decided as soon as it is known who has the rest.
            assign(&self.consumer, &TopicPartitionList::new());
            self.members_seen = None;
        } else {
            self.open(list, false);
        }
    }

    /// Reads these partitions from now on; after a jump whatever is remembered of them.
    fn open(&mut self, list: &TopicPartitionList, is_jump: bool) {
        let places: Vec<Place> = places(list).collect();
        let queues: Vec<_> =
            places.iter().map(|(topic, partition)| PartitionQueue::split(&self.consumer, topic, *partition)).collect();
        let Beginnings { list, first, mut notes } = self.starts.beginnings(&self.consumer, list);
        // Answered before anything is read: what comes after the assignment is then safe.
        if let Err(why) = self.commit_list(first) {
            tracing::warn!(why, "the first offsets are not committed; a crash before the first delivery skips records");
        }
        assign(&self.consumer, &list);
        let (mut partitions, mut origins) = (Vec::new(), Vec::<Box<dyn Origin>>::new());
        for (place, queue) in places.into_iter().zip(queues) {
            let (topic, number) = &place;
            let Some(queue) = queue else {
                self.consumer.context().set_fatal(format!("partition {number} of topic {topic:?} has no queue"));
                return;
            };
            let partition = Arc::new(Partition::new(&place, queue, notes.remove(&place)));
            let id = OriginId {
                node: self.options.node.clone(),
                log: topic.clone(),
                partition: *number,
                kind: OriginKind::Kafka,
            };
            let next = match list.find_partition(topic, *number).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            };
            let origin = KafkaOrigin::new(id, partition.clone(), &self.options, next, is_jump);
            partitions.push((place, partition));
            origins.push(Box::new(origin));
        }
        // An error means that the graph is gone, which the main loop sees next.
        let mut lanes = self.lanes.open_all_blocking(origins).unwrap_or_default().into_iter();
        for (place, partition) in partitions {
            self.assigned.insert(place, Assigned { partition, lane: lanes.next() });
        }
    }

    fn give_back(&mut self, list: &TopicPartitionList) {
        places(list).for_each(|place| {
            self.owned.remove(&place);
        });
        tracing::info!(node = %self.options.node, partitions = listed(list),
            is_lost = self.consumer.assignment_lost(), "kafka partitions revoked");
        if self.options.needs_all {
            // The rest is not read without them.
            self.close_all();
            self.members_seen = None;
        } else {
            self.close_lanes(places(list).collect());
        }
    }

    /// Reads none of the partitions that the group has given us.
    fn close_all(&mut self) {
        self.close_lanes(self.assigned.keys().cloned().collect());
    }

    /// Has lanes settle what they hold, commits that, and reads their partitions no longer.
    fn close_lanes(&mut self, places: Vec<Place>) {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places.iter().filter(|place| self.assigned.contains_key(*place)) {
            list.add_partition(topic, *partition);
        }
        self.revoke(&list);
    }

    fn revoke(&mut self, list: &TopicPartitionList) {
        let is_lost = self.consumer.assignment_lost();
        let mut leaving: Vec<Assigned> = places(list).filter_map(|place| self.assigned.remove(&place)).collect();
        let limit = if is_lost { Duration::ZERO } else { self.options.drain_timeout };
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
            let is_its = |topic: &String, number: &i32| *topic == partition.topic && *number == partition.partition;
            troubles.clear(|open| match open {
                Subject::Partition(topic, number) | Subject::Jump(topic, number) => is_its(topic, number),
                _ => false,
            });
        }
    }

    /// Commits what is settled and waits for the brokers' answer, but not for ever.
    fn commit<'a>(&self, of: impl IntoIterator<Item = &'a Assigned>) {
        let mut list = TopicPartitionList::new();
        for Assigned { partition, .. } in of {
            let Some(offset) = partition.settled() else { continue };
            if let Err(error) = partition.add_to(&mut list, offset) {
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

    /// Finds a place in partitions whose next record is gone.
    fn find_places(&mut self) -> Result<()> {
        if self.lanes.is_stopping() {
            return Ok(());
        }
        let lost =
            self.assigned.iter().filter_map(|(place, assigned)| Some((place.clone(), assigned.partition.astray()?)));
        for (place, astray) in lost.collect::<Vec<_>>() {
            let Some(wanted) = astray.wanted.or_else(|| self.committed(&place)) else {
                // The group has no offset, and the brokers did not say so when the partition was assigned.
                self.reopen(&place, Offset::Invalid, false);
                continue;
            };
            let Ok(range) = self.consumer.fetch_watermarks(&place.0, place.1, LOOK) else { continue };
            match astray.way(wanted, range, self.options.on_out_of_range) {
                Way::Back(offset) => {
                    tracing::info!(node = %self.options.node, topic = place.0, partition = place.1, offset, why = astray.why, "reads on");
                    self.reopen(&place, Offset::Offset(offset), false);
                }
                Way::Jump(offset) => {
                    self.reopen(&place, Offset::Offset(offset), true);
                    self.note_jump(&place, wanted, offset, range, &astray);
                }
                Way::Fail => return Err(self.cannot_go_on(&place, wanted, range)),
            }
        }
        Ok(())
    }

    fn committed(&self, place: &Place) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&place.0, place.1);
        match self.consumer.committed_offsets(list, LOOK).ok()?.elements().first()?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn note_jump(&mut self, place: &Place, from: i64, to: i64, (low, high): (i64, i64), astray: &Astray) {
        counter!("weir_kafka_offset_jumps_total", "node" => self.options.node.clone()).increment(1);
        let (topic, partition) = place;
        let text = format!(
            "partition {partition} of topic {topic:?}: offset {from} is gone (the log has {low} up to {high}), so reading went \
             on at {to}; records may be lost or come again; keep them for longer than weir may be down (retention.ms)"
        );
        tracing::warn!(node = %self.options.node, topic, partition, from, to, why = astray.why, "reads on elsewhere");
        self.consumer.context().troubles.set(Subject::Jump(topic.clone(), *partition), text);
        self.jumps.retain(|(jumped, _)| jumped != place);
        self.jumps.push((place.clone(), Instant::now()));
    }

    fn cannot_go_on(&self, (topic, partition): &Place, wanted: i64, (low, high): (i64, i64)) -> Error {
        let text = format!(
            "partition {partition} of topic {topic:?}: offset {wanted} is gone (the log has {low} up to {high}), and \
             on_out_of_range is fail; move the group (kafka-consumer-groups --group {} --topic {topic}:{partition} \
             --reset-offsets --to-earliest --execute), or set on_out_of_range: earliest or latest",
            self.options.group
        );
        Error::new(ErrorKind::Rejected, "kafka source", text)
    }

    /// Reads a partition from another offset on; `Invalid`: from where its group begins.
    fn reopen(&mut self, place: &Place, offset: Offset, is_jump: bool) {
        self.close_lanes(vec![place.clone()]);
        let mut list = TopicPartitionList::new();
        if let Err(error) = list.add_partition_offset(&place.0, place.1, offset) {
            tracing::debug!(%error, ?place, "an offset cannot be set");
        }
        if is_jump && let Err(why) = self.commit_list(list.clone()) {
            // A restart before the next commit finds the same gap.
            tracing::warn!(why, "the new place is not committed");
        }
        self.open(&list, is_jump);
    }

    /// Where state needs all partitions in one process: reads them while all are ours, and none while others have some.
    fn look_at_members(&mut self) {
        let pause = if self.assigned.is_empty() { LOOK } else { STILL_WHOLE };
        let is_time = self.members_seen.is_none_or(|seen| seen.elapsed() > pause);
        if !self.options.needs_all || !self.was_assigned || !is_time {
            return;
        }
        self.members_seen = Some(Instant::now());
        let troubles = &self.consumer.context().troubles;
        match coverage(&self.consumer, &self.options.group, &self.options.topics, &self.owned) {
            Coverage::Unknown => {}
            Coverage::Whole => {
                troubles.clear(|open| *open == Subject::Members);
                let mut list = TopicPartitionList::new();
                for (topic, partition) in self.owned.iter().filter(|place| !self.assigned.contains_key(*place)) {
                    list.add_partition(topic, *partition);
                }
                if list.count() > 0 {
                    self.open(&list, false);
                }
            }
            Coverage::Part { missing: (topic, partition), ours } => {
                let text = format!(
                    "group {:?} has other members: partition {partition} of topic {topic:?} is not among the {ours} that this \
                     process has, and the state of this graph needs all of them in one process; nothing is read until then: \
                     stop the other members, or give one of the graphs another group_id; where equal keys always come by \
                     one partition, say so by keyed_by on the source, and the graph may be scaled",
                    self.options.group
                );
                troubles.set(Subject::Members, text);
                // Without any it would be an answer to a rebalance that was not seen yet.
                if !self.assigned.is_empty() {
                    self.close_all();
                }
            }
        }
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
        self.jumps.retain(|(place, at)| {
            let is_shown = at.elapsed() < JUMP_SHOWN;
            if !is_shown {
                troubles.clear(|open| *open == Subject::Jump(place.0.clone(), place.1));
            }
            is_shown
        });
        troubles.clear(|open| *open == Subject::RecordSize && self.consumer.context().is_oversize_over());
        if topics.is_empty() && self.consumer.fetch_metadata(self.literal_topics().next(), LOOK).is_ok() {
            troubles.clear(|open| *open == Subject::Connection);
        }
        for topic in topics {
            let Ok(metadata) = self.consumer.fetch_metadata(Some(&topic), LOOK) else { return };
            troubles.clear(|open| *open == Subject::Connection);
            let errors = metadata.topics().iter().filter_map(|found| found.error()).map(RDKafkaErrorCode::from);
            let errors: Vec<RDKafkaErrorCode> = errors.collect();
            if errors.is_empty() {
                troubles.clear(|open| *open == Subject::Topic(topic.clone()));
            } else if errors.contains(&RDKafkaErrorCode::UnknownTopicOrPartition) {
                self.starts.forget_topic(&topic);
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

/// The partitions, for people.
fn listed(list: &TopicPartitionList) -> String {
    places(list).map(|(topic, partition)| format!("{topic}/{partition}")).collect::<Vec<_>>().join(", ")
}

fn places(list: &TopicPartitionList) -> impl Iterator<Item = Place> {
    list.elements().into_iter().map(|element| (element.topic().to_owned(), element.partition()))
}
