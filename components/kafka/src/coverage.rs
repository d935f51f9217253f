//! Whether one process reads all partitions of a subscription, as state over several partitions needs.

use std::collections::BTreeSet;

use bytes::Buf;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use regex::Regex;

use crate::consumer::{GroupConsumer, LOOK};
use crate::control::Place;

/// What is known of the partitions of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// All of them are ours.
    Whole,
    /// Others have some of them, for example this one; so many are ours.
    Part { missing: Place, ours: usize },
    /// The brokers did not answer, or the group is sharing out its partitions.
    Unknown,
}

/// Looks who has the partitions of `topics`, of which `owned` are ours.
pub(crate) fn coverage(consumer: &GroupConsumer, group: &str, topics: &[String], owned: &BTreeSet<Place>) -> Coverage {
    let part = |missing| Coverage::Part { missing, ours: owned.len() };
    let (patterns, names): (Vec<&String>, Vec<&String>) = topics.iter().partition(|topic| topic.starts_with('^'));
    let seen: BTreeSet<&str> =
        names.into_iter().map(String::as_str).chain(owned.iter().map(|(topic, _)| topic.as_str())).collect();
    for topic in seen {
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), LOOK) else { return Coverage::Unknown };
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.filter(|found| found.error().is_none()).map_or(&[][..], |found| found.partitions());
        let places = partitions.iter().map(|partition| (topic.to_owned(), partition.id()));
        if let Some(missing) = places.into_iter().find(|place| !owned.contains(place)) {
            return part(missing);
        }
    }
    if patterns.is_empty() {
        return Coverage::Whole;
    }
    // Whole topics of a pattern may be with others.
    let groups = match consumer.fetch_group_list(Some(group), LOOK) {
        Ok(groups) => groups,
        // Brokers that do not know the question, or a missing right.
        Err(error) if !is_no_answer(&error) => return Coverage::Whole,
        Err(_) => return Coverage::Unknown,
    };
    let Some(found) = groups.groups().first() else { return Coverage::Whole };
    if found.members().len() < 2 {
        return Coverage::Whole;
    }
    if found.state() != "Stable" {
        return Coverage::Unknown;
    }
    // A pattern of librdkafka's that is none here is taken to match.
    let patterns: Vec<Option<Regex>> = patterns.into_iter().map(|pattern| Regex::new(pattern).ok()).collect();
    let matches = |topic: &str| patterns.iter().any(|pattern| pattern.as_ref().is_none_or(|it| it.is_match(topic)));
    let given = found.members().iter().filter_map(|member| member.assignment()).flat_map(partitions_in);
    given.into_iter().find(|place| matches(&place.0) && !owned.contains(place)).map_or(Coverage::Whole, part)
}

fn is_no_answer(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::OperationTimedOut | Code::RequestTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown)
    )
}

/// The partitions in a member's assignment, as the consumer protocol writes it: `version, [topic, [partition]]`.
fn partitions_in(mut bytes: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    // What is cut off or no such thing says nothing more.
    let mut read = || -> Option<()> {
        bytes.try_get_i16().ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
            let topic = std::str::from_utf8(bytes.get(..length)?).ok()?.to_owned();
            bytes.advance(length);
            for _ in 0..bytes.try_get_i32().ok()? {
                places.push((topic.clone(), bytes.try_get_i32().ok()?));
            }
        }
        Some(())
    };
    read();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_a_member_are_read_as_far_as_its_assignment_makes_sense() {
        let bytes = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x03\0\x02bc\0\0\0\x01\0\0\0\x07\0\0\0\0";
        let all: Vec<Place> = [("a", 0), ("a", 3), ("bc", 7)].map(|(topic, at)| (topic.to_owned(), at)).into();
        assert_eq!(partitions_in(bytes), all);
        assert_eq!(partitions_in(&bytes[..20]), all[..1]);
        for broken in
            [&b""[..], b"\0\x01\x7f\xff\xff\xff\x7f\xff", b"\0\x01\xff\xff\xff\xff", b"\0\x01\0\0\0\x01\xff\xff"]
        {
            assert_eq!(partitions_in(broken), []);
        }
    }
}
