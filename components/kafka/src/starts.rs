//! Where reading begins: in partitions without a committed offset, and in those whose next record is gone from the log.
//!
//! With `start: latest` a group that is new to a topic begins at its end. A partition that the topic did not have then was
//! added later: everything in it is new, so it is read from its beginning. So that members and restarts agree, the first
//! commit of each partition notes how many partitions the topic had, as the metadata of the committed offset.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use crate::consumer::{GroupConsumer, LOOK};
use crate::control::Place;
use crate::source::{OnOutOfRange, Start};

/// In front of the number of partitions, in the metadata of a committed offset.
const NOTE: &str = "weir partitions=";

/// The metadata of commits in a topic that had so many partitions when its group began.
fn note(partitions: i32) -> String {
    format!("{NOTE}{partitions}")
}

fn noted(metadata: &str) -> Option<i32> {
    metadata.strip_prefix(NOTE)?.parse().ok()
}

/// A group's commits in one topic.
#[derive(Debug, Default, Clone, Copy)]
struct Commits {
    has_any: bool,
    /// Partitions that the topic had when the group began there.
    partitions: Option<i32>,
}

/// Begins partitions that the group has no offset for.
pub(crate) struct Starts {
    start: Start,
    /// Partitions of each topic that existed when the source started; `None`: not known yet.
    known: Option<BTreeMap<String, i32>>,
    /// Partitions that were assigned before. If their offset is gone, so is their topic, and it was created again.
    begun: BTreeSet<Place>,
}

/// Offsets for partitions of an assignment.
pub(crate) struct Beginnings {
    /// The assignment; without an offset where the group has one, or the brokers did not answer.
    pub list: TopicPartitionList,
    /// Offsets that have to be committed before anything is read.
    pub first: TopicPartitionList,
    /// The metadata of commits, by partition.
    pub notes: BTreeMap<Place, String>,
}

impl Starts {
    pub fn new(start: Start) -> Starts {
        Starts { start, known: None, begun: BTreeSet::new() }
    }

    /// Notes which topics exist before any is read; a topic that appears later is read from its beginning. `None` stands for
    /// all topics, where the subscription has a pattern.
    pub fn note_topics<'a>(&mut self, consumer: &GroupConsumer, topics: impl Iterator<Item = Option<&'a str>>) {
        if self.known.is_some() || self.start == Start::Earliest {
            return;
        }
        let mut known = BTreeMap::new();
        for topic in topics {
            let Ok(metadata) = consumer.fetch_metadata(topic, LOOK) else { return };
            let exist = metadata.topics().iter().filter(|found| found.error().is_none());
            known.extend(exist.map(|found| (found.name().to_owned(), count(found.partitions().len()))));
        }
        self.known = Some(known);
    }

    /// The topic was deleted: when it is there again, all of it is new.
    pub fn forget_topic(&mut self, topic: &str) {
        if let Some(known) = &mut self.known {
            known.remove(topic);
        }
    }

    /// Offsets for the partitions of `list` that have none and that the group has none for.
    pub fn beginnings(&mut self, consumer: &GroupConsumer, list: &TopicPartitionList) -> Beginnings {
        let (mut list, mut first, mut notes) = (list.clone(), TopicPartitionList::new(), BTreeMap::new());
        let places: Vec<Place> = open_places(&list);
        let committed = consumer.committed_offsets(list.clone(), LOOK);
        let mut commits: BTreeMap<String, Commits> = BTreeMap::new();
        for found in committed.iter().flat_map(TopicPartitionList::elements) {
            let place = (found.topic().to_owned(), found.partition());
            if matches!(found.offset(), Offset::Offset(_)) || !places.contains(&place) {
                notes.extend(noted(found.metadata()).map(|partitions| (place, note(partitions))));
                continue;
            }
            if self.start == Start::Earliest {
                set(&mut list, &place, Offset::Beginning);
                continue;
            }
            let (topic, partition) = (found.topic(), found.partition());
            let of_topic = match commits.get(topic) {
                Some(known) => *known,
                None => {
                    let Some(asked) = commits_of(consumer, topic) else { continue };
                    *commits.entry(topic.to_owned()).or_insert(asked)
                }
            };
            notes.extend(of_topic.partitions.map(|partitions| (place.clone(), note(partitions))));
            if !self.begins_at_end(&place, of_topic) {
                tracing::info!(topic, partition, "a new partition begins at its beginning");
                set(&mut list, &place, Offset::Beginning);
                continue;
            }
            let Ok((_, end)) = consumer.fetch_watermarks(topic, partition, LOOK) else { continue };
            set(&mut list, &place, Offset::Offset(end));
            tracing::info!(topic, partition, offset = end, "begins at the end");
            let mut element = first.add_partition(topic, partition);
            // Cannot fail for an offset that a broker gave.
            let _ = element.set_offset(Offset::Offset(end));
            if let Some(note) = notes.get(&place) {
                element.set_metadata(note);
            }
        }
        self.begun.extend(places);
        Beginnings { list, first, notes }
    }

    fn begins_at_end(&self, place: &Place, commits: Commits) -> bool {
        let (topic, partition) = place;
        let is_new_here = match self.known.as_ref().map(|known| known.get(topic)) {
            Some(Some(count)) => partition >= count,
            Some(None) => true,
            None => false,
        };
        let is_new_to_group = match commits.partitions {
            Some(count) => *partition >= count,
            // Committed by another program: what it read is known, this partition is not.
            None => commits.has_any,
        };
        !(is_new_here || is_new_to_group || self.begun.contains(place))
    }
}

/// The group's commits in all partitions of a topic, the present number of partitions where nothing was noted; `None`: the
/// brokers did not answer.
fn commits_of(consumer: &GroupConsumer, topic: &str) -> Option<Commits> {
    let metadata = consumer.fetch_metadata(Some(topic), LOOK).ok()?;
    let partitions = count(metadata.topics().iter().find(|found| found.name() == topic)?.partitions().len());
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let committed = consumer.committed_offsets(list, LOOK).ok()?;
    let elements = committed.elements();
    let mut present = elements.iter().filter(|found| matches!(found.offset(), Offset::Offset(_))).peekable();
    let has_any = present.peek().is_some();
    let smallest = present.filter_map(|found| noted(found.metadata())).min();
    Some(Commits { has_any, partitions: smallest.or((!has_any).then_some(partitions)) })
}

/// The partitions of a list that have no offset yet.
fn open_places(list: &TopicPartitionList) -> Vec<Place> {
    let is_open = |offset| !matches!(offset, Offset::Offset(_) | Offset::Beginning);
    let open = list.elements().into_iter().filter(|element| is_open(element.offset()));
    open.map(|element| (element.topic().to_owned(), element.partition())).collect()
}

fn set(list: &mut TopicPartitionList, (topic, partition): &Place, offset: Offset) {
    if let Err(error) = list.set_partition_offset(topic, *partition, offset) {
        tracing::debug!(%error, topic, partition, "the first offset cannot be set");
    }
}

fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

/// Why a lane ended whose next record is gone from the log.
#[derive(Debug, Clone)]
pub(crate) struct Astray {
    /// The offset that was to be read next, where one is known.
    pub wanted: Option<i64>,
    /// The client's own words.
    pub why: String,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The offset is there after all.
    Back(i64),
    /// Reading goes on elsewhere.
    Jump(i64),
    /// The graph says that it must not.
    Fail,
}

impl Astray {
    /// Where to go on in a log that now holds the offsets from `low` up to `high`, without `high`.
    pub fn way(&self, wanted: i64, (low, high): (i64, i64), policy: OnOutOfRange) -> Way {
        let is_truncated = self.why.contains("truncation");
        if (low..=high).contains(&wanted) && !is_truncated {
            return Way::Back(wanted);
        }
        match policy {
            OnOutOfRange::Fail => Way::Fail,
            // Everything below was read; what was written since the truncation begins here.
            OnOutOfRange::Earliest => {
                let diverged = self.diverged_at().filter(|at| is_truncated && (low..=high).contains(at));
                Way::Jump(diverged.unwrap_or(low))
            }
            OnOutOfRange::Latest => Way::Jump(high),
        }
    }

    /// librdkafka: `Partition log truncation detected at offset 9 (leader epoch 1): broker end offset is 5 (offset leader …`
    fn diverged_at(&self) -> Option<i64> {
        let (_, rest) = self.why.split_once("broker end offset is ")?;
        rest.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, partition: i32) -> Place {
        (topic.to_owned(), partition)
    }

    #[test]
    fn only_partitions_that_a_group_found_at_its_first_start_begin_at_the_end() {
        let mut starts = Starts::new(Start::Latest);
        let (fresh, others) =
            (Commits { has_any: false, partitions: Some(2) }, Commits { has_any: true, partitions: None });
        let noted = Commits { has_any: true, partitions: Some(2) };
        assert!(starts.begins_at_end(&place("t", 1), fresh), "a group that is new to the topic");
        assert!(starts.begins_at_end(&place("t", 1), noted), "a partition of a member that starts beside us");
        assert!(!starts.begins_at_end(&place("t", 2), noted), "added while weir was down");
        assert!(!starts.begins_at_end(&place("t", 1), others), "the group was at work without weir");
        starts.known = Some([("t".to_owned(), 2)].into());
        assert!(!starts.begins_at_end(&place("t", 2), Commits { partitions: Some(3), ..fresh }), "added while it runs");
        assert!(
            !starts.begins_at_end(&place("u", 0), Commits { partitions: Some(1), ..fresh }),
            "a topic made meanwhile"
        );
        starts.begun.insert(place("t", 1));
        assert!(!starts.begins_at_end(&place("t", 1), fresh), "its offset is gone with its topic");
        starts.begun.clear();
        starts.forget_topic("t");
        assert!(!starts.begins_at_end(&place("t", 0), fresh), "deleted and made again");
    }

    #[test]
    fn a_lost_place_is_found_by_the_policy_and_after_a_truncation_where_the_logs_part() {
        use OnOutOfRange::{Earliest, Fail, Latest};
        let why = |text: &str| Astray { wanted: None, why: text.to_owned() };
        let gone = why("fetch failed due to requested offset not available on the broker: Broker: Offset out of range");
        let way = |astray: &Astray, wanted| [Earliest, Latest, Fail].map(|policy| astray.way(wanted, (10, 20), policy));
        assert_eq!(way(&gone, 5), [Way::Jump(10), Way::Jump(20), Way::Fail]);
        assert_eq!(way(&gone, 21), [Way::Jump(10), Way::Jump(20), Way::Fail]);
        assert_eq!(way(&gone, 20), [Way::Back(20), Way::Back(20), Way::Back(20)], "the broker was behind for a moment");
        let cut =
            why("Partition log truncation detected at offset 19 (leader epoch 1): broker end offset is 15 (offset");
        assert_eq!(way(&cut, 19), [Way::Jump(15), Way::Jump(20), Way::Fail]);
        let far = why("Partition log truncation detected at offset 19: broker end offset is 5 (offset");
        assert_eq!(way(&far, 19)[0], Way::Jump(10));
    }
}
