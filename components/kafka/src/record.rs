//! From an event to a record handed to librdkafka.

use std::borrow::Cow;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use vrl::value::Value;
use weir::event::{Body, Encoding, Event, OriginId};
use weir::script::Expression;

use crate::delivery::SinkClient;
use crate::flights::{Flight, Row};
use crate::render::Text;
use crate::topics::{self, Topics};
use crate::troubles::Subject;

/// Which partition a record goes to.
#[derive(Debug, Clone)]
pub(crate) enum Placement {
    /// By the key's hash.
    Key,
    /// The number of the partition the event came from.
    Source,
    /// The number this gives.
    Number(Box<Expression>),
}

/// What records are keyed by.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// The key that the event came with.
    Own,
    /// A text.
    Text(Text),
}

/// Makes records; clone one for every concurrent user, for its scratch space.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub topic: Text,
    /// `None`: what the record is about, where the encoding knows it, or else the event's own.
    pub key: Option<Key>,
    pub placement: Placement,
    /// Headers that are added; each replaces those of the event with its name.
    pub headers: Vec<(String, Text)>,
    /// Whether the event's own headers are passed on.
    pub forward_headers: bool,
    pub encoding: Encoding,
    pub buffer: Vec<u8>,
    /// Scratch space for the key of a record that is keyed by what it is about.
    pub subject: Vec<u8>,
    /// The topic of the last record, which is fit for more.
    pub last_topic: String,
    /// Whether that takes records with a key alone.
    pub needs_key: bool,
    /// Bytes of keys and values that were handed over since [`Recorder::take_bytes`].
    pub bytes: usize,
}

/// Why librdkafka did not take a record.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Its queue is full.
    Full,
    /// Nobody has asked the brokers for this topic yet; [`Topics::learn`] does.
    Unknown(String),
    /// Waiting may help.
    Later(Subject, String),
    /// Nothing helps.
    Reject(&'static str, String),
    /// The encoding has to be prepared for this topic first.
    Unprepared(String),
    /// This producer takes nothing any more.
    Dead,
}

impl Recorder {
    /// Hands one row of a batch to the producer.
    pub fn send(
        &mut self,
        producer: &BaseProducer<SinkClient>,
        topics: &Topics,
        flight: &Flight,
        row: Row,
    ) -> Result<(), Refusal> {
        let Some(event) = flight.events.get(row.row as usize) else { return Ok(()) };
        let origin = &*flight.origin;
        let partition = self.partition(event, origin)?;
        let headers = self.headers(event, origin)?;
        let is_keyed_by_subject = self.key.is_none() && self.encoding.has_subjects();
        let Recorder { topic, key, encoding, buffer, subject, last_topic, needs_key, bytes, .. } = self;
        let topic = topic.render(event, origin).map_err(template_failed)?;
        if *last_topic != *topic {
            if !topics::is_name(&topic) {
                return Err(Refusal::Reject("invalid_topic", no_name(&topic)));
            }
            let Some(fit) = topics.destinations().fit(&topic) else {
                return Err(Refusal::Unknown(topic.into_owned()));
            };
            *needs_key = fit.needs_key;
            last_topic.replace_range(.., &topic);
        }
        subject.clear();
        let value = value(&event.body, encoding, &topic, buffer, is_keyed_by_subject.then_some(&mut *subject))?;
        let key = match key {
            Some(Key::Text(key)) => {
                Some(Cow::Owned(key.render(event, origin).map_err(template_failed)?.into_owned().into_bytes()))
            }
            None if !subject.is_empty() => Some(Cow::Borrowed(&subject[..])),
            Some(Key::Own) | None => event.key().map(|key| Cow::Borrowed(&key[..])),
        };
        if *needs_key && key.is_none() {
            return Err(Refusal::Reject("invalid_record", topics::needs_key(&topic)));
        }
        let record = BaseRecord::<[u8], [u8], usize> {
            topic: &topic,
            partition,
            payload: value,
            key: key.as_deref(),
            // 0 would mean "now" to librdkafka, and so does the absence of a time.
            timestamp: Some(event.time.0).filter(|&time| time > 0),
            headers,
            delivery_opaque: row.opaque(),
        };
        let size = value.map_or(0, <[u8]>::len) + key.as_deref().map_or(0, <[u8]>::len);
        producer.send(record).map_err(|(error, _)| {
            if topics.destinations().by_event && is_missing(&error, partition) {
                // It was there, and is to be asked for anew.
                topics.destinations().forget(&topic);
                last_topic.clear();
                return Refusal::Unknown(topic.as_ref().to_owned());
            }
            refusal(&error, &topic, partition, size)
        })?;
        *bytes += size;
        Ok(())
    }

    /// The bytes of keys and values that were handed over since the last call.
    pub fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    fn partition(&mut self, event: &Event, origin: &OriginId) -> Result<Option<i32>, Refusal> {
        match &mut self.placement {
            Placement::Key => Ok(None),
            Placement::Source => Ok(Some(origin.partition)),
            Placement::Number(expression) => {
                let value = expression.value(event, origin).map_err(|why| template_failed(why.message))?;
                match value.as_integer().and_then(|number| i32::try_from(number).ok()) {
                    Some(number) if number >= 0 => Ok(Some(number)),
                    _ => Err(Refusal::Reject("unknown_partition", format!("{value} is no partition number"))),
                }
            }
        }
    }

    fn headers(&mut self, event: &Event, origin: &OriginId) -> Result<Option<OwnedHeaders>, Refusal> {
        let mut headers = None;
        let mut add = |name: &str, value: Option<&[u8]>| {
            if name.contains('\0') {
                return Err(Refusal::Reject("invalid_header", format!("header name {name:?} holds a zero byte")));
            }
            let all: OwnedHeaders = headers.take().unwrap_or_default();
            headers = Some(all.insert(Header { key: name, value }));
            Ok(())
        };
        if self.forward_headers {
            for (name, value) in event.headers() {
                if !self.headers.iter().any(|(added, _)| added == name) {
                    add(name, value.as_deref())?;
                }
            }
        }
        for (name, text) in &mut self.headers {
            let value = text.render(event, origin).map_err(template_failed)?;
            add(name, Some(value.as_bytes()))?;
        }
        Ok(headers)
    }
}

/// The record's value; `None` is a tombstone. `buffer` is scratch space; `subject` gets what the record is about.
fn value<'a>(
    body: &'a Body,
    encoding: &Encoding,
    topic: &str,
    buffer: &'a mut Vec<u8>,
    subject: Option<&mut Vec<u8>>,
) -> Result<Option<&'a [u8]>, Refusal> {
    if let Body::Parsed(Value::Null) = body {
        return Ok(None);
    }
    buffer.clear();
    let encoded = match (subject, encoding.as_is(body)) {
        (Some(subject), _) => encoding.encode_with_subject(body, topic, buffer, subject),
        (None, Some(bytes)) => return Ok(Some(bytes)),
        (None, None) => encoding.encode(body, topic, buffer),
    };
    encoded.map_err(|error| match error.is_unprepared() {
        true => Refusal::Unprepared(topic.to_owned()),
        false => Refusal::Reject(error.code, error.message),
    })?;
    Ok(Some(buffer))
}

fn template_failed(message: String) -> Refusal {
    Refusal::Reject("template_failed", message)
}

/// A topic that was deleted has no partition, either.
fn is_missing(error: &KafkaError, partition: Option<i32>) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    match error.rdkafka_error_code() {
        Some(UnknownTopic | UnknownTopicOrPartition) => true,
        Some(UnknownPartition) => partition.is_none(),
        _ => false,
    }
}

fn refusal(error: &KafkaError, topic: &str, partition: Option<i32>, size: usize) -> Refusal {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => Refusal::Full,
        Some(Code::Fatal) => Refusal::Dead,
        Some(Code::MessageSizeTooLarge) => Refusal::Reject(
            "message_too_large",
            format!("the record has {size} bytes, more than the sink's max_message_size allows"),
        ),
        _ if is_missing(error, partition) => {
            Refusal::Later(Subject::Topic(topic.to_owned()), format!("topic {topic:?} does not exist; create it"))
        }
        Some(Code::UnknownPartition) => Refusal::Reject("unknown_partition", no_partition(topic, partition)),
        Some(Code::InvalidArgument) | None => Refusal::Reject("invalid_topic", no_name(topic)),
        Some(_) => Refusal::Later(Subject::Connection, error.to_string()),
    }
}

pub(crate) fn no_name(topic: &str) -> String {
    format!("{topic:?} cannot be the name of a topic")
}

pub(crate) fn no_partition(topic: &str, partition: Option<i32>) -> String {
    match partition {
        Some(partition) => format!("topic {topic:?} has no partition {partition}; give it more or set partition: key"),
        None => format!("topic {topic:?} has no partition"),
    }
}

#[cfg(test)]
mod tests {
    use weir::event::Codec;

    use super::*;

    #[test]
    fn a_tombstone_stays_one_in_every_encoding() {
        for encoding in [Encoding::Json, Encoding::Text, Encoding::Raw] {
            assert!(matches!(value(&Body::Parsed(Value::Null), &encoding, "t", &mut Vec::new(), None), Ok(None)));
        }
    }

    #[test]
    fn what_has_no_text_is_refused_by_its_class() {
        let body = Body::Raw((&b"\xff"[..]).into(), Codec::Raw);
        let refused = value(&body, &Encoding::Text, "t", &mut Vec::new(), None).map(|_| ());
        assert!(matches!(refused, Err(Refusal::Reject("invalid_utf8", _))));
    }
}
