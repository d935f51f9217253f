//! One dead letter: an event and why no node took it, as a JSON document, and back.

use std::collections::HashSet;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::RECORD_BYTES;
use crate::delivery::SettledRecords;
use crate::delivery::log::{Damage, LogReader, Record, segments};
use crate::event::{Body, Codec, Event, EventId, Meta, OriginId, OriginKind, Timestamp, json};
use crate::script::hash;

/// The codec of a body that JSON has no way to say.
const VALUE: &str = "value";

/// An event as the failing node received it, and why it is here. One JSON document a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was written, milliseconds since the epoch.
    pub time: i64,
    /// The graph whose node rejected it. Letters of earlier versions have none: they belong to whichever graph reads them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub graph: Option<String>,
    /// The node that rejected it.
    pub node: String,
    /// A stable word for the class of error.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// The event's id: `source/log/partition/position`, `.ordinal` for a child.
    pub id: String,
    /// The identity that the event's format gives it, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub identity: Option<String>,
    /// What kind of log the event came from, which decides its metadata: `kafka`, `file` or `other`.
    #[serde(default)]
    pub kind: OriginKind,
    /// The event's own time, milliseconds since the epoch.
    pub event_time: i64,
    /// Format of the body: the name of a codec, `edited` for a JSON document that a node has written, `value` for JSON with
    /// bytes that are not UTF-8 or numbers that are not finite, `none` for a tombstone, or `null` for a record without a value that its source emits as null.
    pub codec: String,
    /// The body, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body otherwise, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The record's key, where it had one, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The record's headers, values in base64.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<(String, Option<String>)>,
}

impl DeadLetter {
    /// The letter about an event that `node` rejected at `now`.
    pub fn new(node: &str, now: Timestamp, origin: &OriginId, event: &Event, code: &str, message: &str) -> DeadLetter {
        let base64 = |bytes: &Bytes| BASE64_STANDARD.encode(bytes);
        let (codec, bytes) = match &event.body {
            Body::Raw(bytes, codec) => (codec.name(), Some(bytes.clone())),
            Body::Parsed(vrl::value::Value::Null) if event.is_tombstone() => ("none", None),
            Body::Parsed(vrl::value::Value::Null) => ("null", None),
            Body::Parsed(value) => {
                let mut document = Vec::new();
                let codec = if json::write(value, &mut document).is_ok() {
                    Codec::Edited.name()
                } else {
                    json::write_as_is(value, &mut document);
                    VALUE
                };
                (codec, Some(document.into()))
            }
        };
        let text = bytes.as_ref().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let body_base64 = bytes.as_ref().filter(|_| text.is_none()).map(base64);
        DeadLetter {
            time: now.0,
            graph: None,
            node: node.to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            id: EventId { origin, position: event.position, ordinal: event.ordinal }.to_string(),
            identity: event.meta.as_ref().and_then(|meta| meta.identity).map(|bits| format!("{bits:032x}")),
            kind: origin.kind,
            event_time: event.time.0,
            codec: codec.to_owned(),
            body: text,
            body_base64,
            key_base64: event.key().map(base64),
            headers: event.headers().iter().map(|(name, value)| (name.clone(), value.as_ref().map(base64))).collect(),
        }
    }

    /// The same letter, as one of this graph.
    pub fn of_graph(self, graph: &str) -> DeadLetter {
        DeadLetter { graph: Some(graph.to_owned()), ..self }
    }

    /// The graph it belongs to, if that is another one. Graphs that run one after the other may share a log.
    pub fn other_graph(&self, this: &str) -> Option<&str> {
        self.graph.as_deref().filter(|graph| *graph != this)
    }

    /// The event as the failing node received it, and where it came from; `None` where nothing was kept of it, or
    /// what was kept makes no sense. `codec_of` knows the codec of a source's records.
    pub(in crate::graph) fn event(&self, codec_of: impl Fn(&str) -> Option<Codec>) -> Option<(OriginId, Event)> {
        let (origin, position, ordinal) = EventId::parse(&self.id, self.kind)?;
        let codec = codec_of(&origin.node).filter(|codec| codec.name() == self.codec);
        let body = match (self.codec.as_str(), self.bytes(), codec) {
            ("none" | "null", ..) => Body::Parsed(vrl::value::Value::Null),
            (_, None, _) => return None,
            (_, Some(bytes), Some(codec)) => Body::Raw(bytes.into(), codec),
            ("json", Some(bytes), None) => Body::Raw(bytes.into(), Codec::Json),
            ("edited", Some(bytes), None) => Body::Raw(bytes.into(), Codec::Edited),
            ("text", Some(bytes), None) => Body::Raw(bytes.into(), Codec::Text),
            ("raw", Some(bytes), None) => Body::Raw(bytes.into(), Codec::Raw),
            (VALUE, Some(bytes), None) => Body::Parsed(json::parse_as_is(&bytes.into()).ok()?),
            _ => return None,
        };
        let bytes = |base64: &String| BASE64_STANDARD.decode(base64).ok().map(Bytes::from);
        let key = self.key_base64.as_ref().and_then(bytes);
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.as_ref().and_then(bytes))).collect();
        let identity = self.identity.as_ref().and_then(|bits| u128::from_str_radix(bits, 16).ok());
        let is_null = self.codec == "null";
        let meta = Meta { key, headers, error: None, identity, is_null };
        let is_empty = meta.key.is_none() && meta.headers.is_empty() && identity.is_none() && !is_null;
        let meta = (!is_empty).then(|| Box::new(meta));
        Some((origin, Event { body, position, ordinal, time: Timestamp(self.event_time), meta }))
    }

    /// The letter as one JSON document.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts and numbers: there is nothing that JSON could not say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The same for letters about one event at one node, however often it was read or sent. An event with an identity may have
    /// another body when it is sent again, such as the time it was read; another event at the same place, as when a file was
    /// written anew, has another body.
    pub(super) fn fingerprint(&self) -> u128 {
        let (event, body) = match &self.identity {
            Some(identity) => {
                let child = EventId::parse(&self.id, self.kind).map_or(0, |(_, _, ordinal)| ordinal.0);
                (format!("{identity}.{child}"), Vec::new())
            }
            None => (self.id.clone(), self.bytes().unwrap_or_default()),
        };
        let graph = self.graph.as_deref().unwrap_or_default().as_bytes();
        let [node, event, codec, body] = [self.node.as_bytes(), event.as_bytes(), self.codec.as_bytes(), &body];
        let (forward, backward) = (hash([graph, node, event, codec, body]), hash([body, codec, event, node, graph]));
        u128::from(forward) << 64 | u128::from(backward)
    }

    /// The body's bytes as they were.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LetterChoice {
    /// Only those this node rejected.
    pub node: Option<String>,
    /// Only those of this class of error.
    pub code: Option<String>,
    /// Only the one of the event with this id.
    pub id: Option<String>,
}

impl LetterChoice {
    /// Whether this letter is one of them.
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<String>, found: &String| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.node, &letter.node) && is(&self.code, &letter.code) && is(&self.id, &letter.id)
    }
}

/// Reads the dead letters in a folder that wait for somebody, oldest first; `damage` is told what could not be read.
///
/// An event that was read or sent again after a kill may have left another letter: the first speaks for all of them.
pub fn read_dead_letters(
    dir: &Path,
    mut each: impl FnMut(DeadLetter),
    damage: impl FnMut(String),
) -> std::io::Result<()> {
    let mut events = HashSet::new();
    let first = |_, letter: DeadLetter| {
        if events.insert(letter.fingerprint()) {
            each(letter);
        }
    };
    read_waiting(dir, &SettledRecords::open(dir)?, first, damage)
}

/// Reads every record that is not settled, with its number.
pub(super) fn read_waiting(
    dir: &Path,
    settled: &SettledRecords,
    mut each: impl FnMut(u64, DeadLetter),
    mut damage: impl FnMut(String),
) -> std::io::Result<()> {
    let mut records = Records::open(dir)?;
    while let Some(record) = records.next(settled) {
        match record {
            Ok(record) if settled.contains(record.number) => {}
            Ok(record) => match serde_json::from_slice(&record.payload) {
                Ok(letter) => each(record.number, letter),
                Err(error) => damage(format!("record {}: {error}", record.number)),
            },
            Err(error) => damage(error.to_string()),
        }
    }
    Ok(())
}

/// The records of the log, and what is missing or damaged behind its oldest file: older ones a person may have moved away.
pub(super) struct Records(LogReader);

impl Records {
    pub fn open(dir: &Path) -> std::io::Result<Records> {
        let oldest = segments(dir)?.first().map_or(u64::MAX, |(first, _)| *first);
        Ok(Records(LogReader::open(dir, RECORD_BYTES, oldest)?.missing_none()))
    }

    /// The next; what is missing since it is settled is no damage.
    pub fn next(&mut self, settled: &SettledRecords) -> Option<Result<Record, Damage>> {
        loop {
            let mut damage = match self.0.next()? {
                Err(damage) => damage,
                record => return Some(record),
            };
            let behind = self.0.next_number();
            let lost = settled.waiting_in(behind.saturating_sub(damage.records)..behind);
            if damage.bytes > 0 || damage.records == 0 || lost > 0 {
                damage.records = lost;
                return Some(Err(damage));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vrl::value::Value;

    use super::*;
    use crate::event::{Encoding, Position};

    #[test]
    fn an_event_comes_back_as_the_one_it_was() {
        let origin = OriginId { node: "in".into(), log: "a/b".into(), partition: 2, kind: OriginKind::Kafka };
        let mut event = Event::new(Body::Raw((&b"\xff"[..]).into(), Codec::Raw), Position(7), Timestamp(9));
        event.meta =
            Some(Box::new(Meta { key: Some("k".into()), headers: vec![("h".into(), None)], ..Meta::default() }));
        for identity in [None, Some(u128::MAX), Some(1)] {
            if let Some(identity) = identity {
                event.set_identity(identity);
            }
            let letter = DeadLetter::new("out", Timestamp(1), &origin, &event, "code", "why");
            let read: DeadLetter = serde_json::from_slice(&letter.to_json()).unwrap();
            let (from, again) = read.event(|_| None).unwrap();
            assert_eq!((&from, again.key(), again.headers()), (&origin, event.key(), event.headers()));
            assert_eq!(again.token(&from), event.token(&origin));
            assert_eq!(again.body.to_bytes(), event.body.to_bytes());
        }
    }

    #[test]
    fn a_value_that_json_has_no_way_to_say_comes_back_whole() {
        let origin = OriginId { node: "in".into(), log: "a".into(), partition: 0, kind: OriginKind::Other };
        let bytes = |bytes: &'static [u8]| Value::Bytes(Bytes::from_static(bytes));
        let value = Value::from(vec![
            bytes(b"caf\xe9 \"\n\xff\xfe\\"),
            bytes(b"\xff\xff\\u0041"),
            Value::from_f64_or_zero(f64::NEG_INFINITY),
            Value::Object([("na\"me".into(), bytes(b"\xc3"))].into()),
            bytes("é".as_bytes()),
        ]);
        let event = Event::new(Body::Parsed(value.clone()), Position(7), Timestamp(9));
        let letter = DeadLetter::new("out", Timestamp(1), &origin, &event, "invalid_utf8", "why");
        let read: DeadLetter = serde_json::from_slice(&letter.to_json()).unwrap();
        let (_, again) = read.event(|_| None).unwrap();
        assert!(matches!(again.body, Body::Parsed(again) if again == value));
    }

    #[test]
    fn what_a_node_has_written_comes_back_as_that() {
        let origin = OriginId { node: "in".into(), log: "a".into(), partition: 0, kind: OriginKind::Other };
        let document = r#"{"message":"m","n":18446744073709551615}"#;
        let parsed = Value::Object([("message".into(), "m".into())].into());
        for body in [Body::Raw(document.into(), Codec::Edited), Body::Parsed(parsed)] {
            let event = Event::new(body, Position(7), Timestamp(9));
            let letter = DeadLetter::new("out", Timestamp(1), &origin, &event, "code", "why");
            let (_, again) = letter.event(|_| Some(Codec::Json)).unwrap();
            for encoding in [Encoding::Raw, Encoding::Json, Encoding::Text] {
                let written = |event: &Event| {
                    let mut out = Vec::new();
                    encoding.encode(&event.body, "", &mut out).map(|()| out)
                };
                assert_eq!(written(&again), written(&event), "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_record_without_a_value_comes_back_as_a_tombstone_or_as_null() {
        let origin = OriginId { node: "in".into(), log: "a".into(), partition: 2, kind: OriginKind::Kafka };
        let mut event = Event::new(Body::Parsed(Value::Null), Position(7), Timestamp(9));
        for is_null in [false, true] {
            event.meta = Some(Box::new(Meta { key: Some("k".into()), is_null, ..Meta::default() }));
            let letter = DeadLetter::new("out", Timestamp(1), &origin, &event, "code", "why");
            let (_, again) = letter.event(|_| Some(Codec::Json)).unwrap();
            assert_eq!((again.is_tombstone(), letter.bytes()), (!is_null, None));
            assert!(matches!(again.body, Body::Parsed(Value::Null)));
        }
    }

    #[test]
    fn an_event_that_comes_again_is_known_by_its_identity_or_by_place_and_body() {
        let origin = OriginId { node: "in".into(), log: "a".into(), partition: 0, kind: OriginKind::Other };
        let print = |position, ordinal, identity: Option<u128>, body: &str, node| {
            let body = Body::Raw(body.to_owned().into(), Codec::Json);
            let mut event = Event::new(body, Position(position), Timestamp(9));
            event.ordinal = crate::event::Ordinal(ordinal);
            if let Some(identity) = identity {
                event.set_identity(identity);
            }
            DeadLetter::new(node, Timestamp(1), &origin, &event, "code", "why").fingerprint()
        };
        let sent = print(7, 0, Some(5), "{}", "out");
        assert_eq!(sent, print(8, 0, Some(5), "{\"read\":2}", "out"), "sent again");
        for other in
            [print(7, 0, Some(6), "{}", "out"), print(7, 1, Some(5), "{}", "out"), print(7, 0, Some(5), "{}", "in")]
        {
            assert_ne!(sent, other);
        }
        let letter = || {
            DeadLetter::new(
                "out",
                Timestamp(1),
                &origin,
                &Event::new(Body::Raw("1".into(), Codec::Json), Position(7), Timestamp(9)),
                "",
                "",
            )
        };
        assert_ne!(letter().of_graph("a").fingerprint(), letter().of_graph("b").fingerprint());
        let read = print(7, 0, None, "{}", "out");
        assert_eq!(read, print(7, 0, None, "{}", "out"), "read again");
        for other in [print(8, 0, None, "{}", "out"), print(7, 1, None, "{}", "out"), print(7, 0, None, "[]", "out")] {
            assert_ne!(read, other);
        }
    }
}
