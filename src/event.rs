//! Events, and the batches they travel in.
//!
//! An [`Event`] is one record: a [`Body`] that stays the bytes it came as until a node looks inside,
//! its [`Position`] in its origin, and its time. Everything that is the same for many events (origin,
//! receipt, watermark) lives on the [`Batch`]. This module knows nothing of graphs or components.

mod batch;
mod codec;
mod encode;
pub mod json;
mod mark;
#[cfg(test)]
mod tests;

pub(crate) use batch::panic_text;
pub use batch::{Batch, Rejected, Verdict};
pub use codec::{Codec, CodecError, Decoder, Encoder, Framing, Layout, Part};
pub use encode::Encoding;
pub use mark::byte_order_mark;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vrl::value::Value;
use xxhash_rust::xxh3::Xxh3;

/// A place in an origin's log: a Kafka offset, a byte or line offset in a file, a log offset.
///
/// Commits are exclusive: committing `p` says that every event *below* `p` is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position right behind this one.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every event: the watermark of a lane that has seen none.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// Behind every event: the watermark of a lane that has come to its end.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// This time, earlier by `span`; the first and the last time stay what they are.
    pub fn minus(self, span: Duration) -> Timestamp {
        match self {
            Timestamp::MIN | Timestamp::MAX => self,
            Timestamp(at) => Timestamp(at.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))),
        }
    }

    /// The last one that RFC 3339 has a text for.
    pub const LAST_OF_RFC3339: Timestamp = Timestamp(253_402_300_799_999);

    /// Whether RFC 3339 has a text for it: those of the years 0000 to 9999.
    pub fn is_rfc3339(self) -> bool {
        (-62_167_219_200_000..=Self::LAST_OF_RFC3339.0).contains(&self.0)
    }

    /// As RFC 3339 text, with a fraction where there is one. For people, also where it [is none](Self::is_rfc3339).
    pub fn to_rfc3339(self) -> String {
        let time = chrono::DateTime::from_timestamp_millis(self.0);
        let bound = if self.0 < 0 {
            chrono::DateTime::<chrono::Utc>::MIN_UTC
        } else {
            chrono::DateTime::<chrono::Utc>::MAX_UTC
        };
        time.unwrap_or(bound).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    }

    /// The time that a value of an event tells: an RFC 3339 text, a VRL timestamp, or Unix time as a number, of which the
    /// size says whether it counts seconds, milliseconds, microseconds or nanoseconds (until the year 5138 in seconds).
    pub fn of(value: &Value) -> Option<Timestamp> {
        match value {
            Value::Timestamp(at) => Some(Timestamp(at.timestamp_millis())),
            Value::Bytes(_) | Value::String(_) => {
                let text = std::str::from_utf8(value.as_bytes()?).ok()?;
                let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
                Some(Timestamp(at.timestamp_millis()))
            }
            Value::Integer(unix) => Some(Timestamp(match unix.unsigned_abs() {
                0..100_000_000_000 => unix * 1000,
                100_000_000_000..100_000_000_000_000 => *unix,
                100_000_000_000_000..100_000_000_000_000_000 => unix.div_euclid(1000),
                _ => unix.div_euclid(1_000_000),
            })),
            Value::Float(unix) if unix.abs() < 1e11 => Some(Timestamp((unix.into_inner() * 1000.0).floor() as i64)),
            Value::Float(unix) if unix.abs() < 9e18 => Timestamp::of(&Value::Integer(unix.into_inner() as i64)),
            _ => None,
        }
    }
}

/// A time as RFC 3339 text, with a fraction where there is one. RFC 3339 has the years 0000 to 9999; others are refused as
/// `unsupported_value`, since no reader would take their text for a time.
pub fn rfc3339(time: &chrono::DateTime<chrono::Utc>) -> Result<String, CodecError> {
    let text = time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    if Timestamp(time.timestamp_millis()).is_rfc3339() {
        return Ok(text);
    }
    let help = "correct it, or make a number of it by to_unix_timestamp";
    let what = format!("the time {text} cannot be written, as RFC 3339 has the years 0000 to 9999; {help}");
    Err(CodecError::new("unsupported_value", what))
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Body {
    /// As it came, not looked at or not changed. An event nobody changes leaves byte for byte.
    Raw(Bytes, Codec),
    /// Taken apart. `Value::Null` is a record without a value; see [`Event::is_tombstone`].
    Parsed(Value),
}

impl Body {
    /// Bytes this body holds in memory, for the memory budget; for a parsed body an estimate.
    pub fn size(&self) -> usize {
        match self {
            Body::Raw(bytes, _) => bytes.len(),
            Body::Parsed(value) => value_size(value),
        }
    }

    /// The JSON document that this body is, as it came or as a node left it.
    pub fn document(&self) -> Option<&Bytes> {
        match self {
            Body::Raw(document, Codec::Json | Codec::Edited) => Some(document),
            _ => None,
        }
    }

    /// The bytes as they came; of a parsed body its JSON document, in which bytes that are not UTF-8 stay as they are, so that
    /// two bodies never have the same.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Body::Raw(bytes, _) => bytes.clone(),
            Body::Parsed(value) => {
                let mut out = Vec::new();
                if json::write(value, &mut out).is_err() {
                    json::write_as_is(value, &mut out);
                }
                out.into()
            }
        }
    }
}

/// Bytes for people to read: what is not UTF-8 stands there as `\xff`.
pub fn readable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let chunks = bytes.utf8_chunks();
            chunks.flat_map(|chunk| [chunk.valid().to_owned(), chunk.invalid().escape_ascii().to_string()]).collect()
        }
    }
}

fn value_size(value: &Value) -> usize {
    const NODE: usize = size_of::<Value>();
    NODE + match value {
        Value::Bytes(_) | Value::String(_) => value.as_bytes().map_or(0, |text| text.len()),
        Value::Object(map) => map.iter().map(|(key, value)| NODE + key.len() + value_size(value)).sum(),
        Value::Array(items) => items.iter().map(value_size).sum(),
        _ => 0,
    }
}

/// What few events carry, kept behind one pointer.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The record's key, as Kafka has it.
    pub key: Option<Bytes>,
    /// The record's headers, in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// On an `errors` port: why the event is there.
    pub error: Option<Arc<Reason>>,
    /// What tells the event from all others wherever it is read, where its format says so; see [`Event::token`].
    pub identity: Option<u128>,
    /// Its source hands over a record without a value as an event that is `null`, not as a tombstone.
    pub is_null: bool,
}

/// Why an event was rejected, by whom, and what went wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Id of the node that rejected the event.
    pub node: String,
    /// A stable word for the class of error, such as `invalid_json` or `message_too_large`.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
}

/// Which child of its record an event is: the child index at each 1-to-n step, folded into one number.
///
/// `0` is the record itself. Two children of one record never share an ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ordinal(pub u128);

impl Ordinal {
    /// Bits of one step: node (16) and child index (16).
    const STEP: u32 = 32;

    /// The ordinal of child `index` that node number `node` (1-based) makes of this event; `None` when the
    /// path is longer than four 1-to-n steps or an index does not fit, which the caller rejects.
    pub fn child(self, node: u16, index: usize) -> Option<Ordinal> {
        let index = u16::try_from(index).ok()?;
        if node == 0 || self.0.leading_zeros() < Self::STEP {
            return None;
        }
        Some(Ordinal(self.0 << Self::STEP | u128::from(node) << 16 | u128::from(index)))
    }
}

/// One record on its way through the graph.
#[derive(Debug, Clone)]
pub struct Event {
    /// What it says.
    pub body: Body,
    /// Where it stands in its origin.
    pub position: Position,
    /// Which child of that record it is.
    pub ordinal: Ordinal,
    /// When it happened, as the source knows: the Kafka record's timestamp, the generated time.
    pub time: Timestamp,
    /// Key, headers and error, where there are any.
    pub meta: Option<Box<Meta>>,
}

impl Event {
    /// An event without key and headers.
    pub fn new(body: Body, position: Position, time: Timestamp) -> Self {
        Event { body, position, ordinal: Ordinal::default(), time, meta: None }
    }

    /// The record's key.
    pub fn key(&self) -> Option<&Bytes> {
        self.meta.as_ref()?.key.as_ref()
    }

    /// Returns true for a record without a value, which stands for the deletion of its key. Transforms pass it unchanged.
    pub fn is_tombstone(&self) -> bool {
        matches!(self.body, Body::Parsed(Value::Null)) && !self.meta.as_ref().is_some_and(|meta| meta.is_null)
    }

    /// The record's headers.
    pub fn headers(&self) -> &[(String, Option<Bytes>)] {
        self.meta.as_ref().map_or(&[], |meta| &meta.headers)
    }

    /// Gives the event an identity of its own, such as a hash of what its sender says of where it stood: it is then the same
    /// event wherever and however often it comes.
    pub fn set_identity(&mut self, identity: u128) {
        self.meta.get_or_insert_default().identity = Some(identity);
    }

    /// A short name for the event: 22 letters, digits, `-` and `_`. The same record gives the same in every run, two records
    /// never share one, nor do two children of one record: sinks use it so that a replay does not duplicate.
    ///
    /// It is 128 bits of XXH3: of the identity the event was given, or else of its place in its origin and its time, which keeps
    /// a topic or a log that begins anew apart from the one before. Where the source knows no time, as of the lines of a file or
    /// of standard input, what the event says stands in for it.
    pub fn token(&self, origin: &OriginId) -> String {
        let mut hash = Xxh3::new();
        match self.meta.as_ref().and_then(|meta| meta.identity) {
            Some(identity) if self.ordinal == Ordinal::default() => return token(identity),
            Some(identity) => hash.update(&identity.to_le_bytes()),
            None => {
                for name in [&origin.node, &origin.log] {
                    // The length keeps "ab", "c" and "a", "bc" apart.
                    hash.update(&(name.len() as u64).to_le_bytes());
                    hash.update(name.as_bytes());
                }
                hash.update(&origin.partition.to_le_bytes());
                hash.update(&self.position.0.to_le_bytes());
                hash.update(&self.time.0.to_le_bytes());
                if self.time == Timestamp::default() {
                    hash.update(&self.body.to_bytes());
                }
            }
        }
        hash.update(&self.ordinal.0.to_le_bytes());
        token(hash.digest128())
    }

    /// Calls `each` with every piece of raw bytes that the event refers to.
    pub(crate) fn each_bytes(&mut self, mut each: impl FnMut(&mut Bytes)) {
        if let Body::Raw(bytes, _) = &mut self.body {
            each(bytes);
        }
        if let Some(meta) = &mut self.meta {
            meta.key.iter_mut().chain(meta.headers.iter_mut().filter_map(|(_, value)| value.as_mut())).for_each(each);
        }
    }

    /// Bytes this event holds, for the memory budget.
    pub fn size(&self) -> usize {
        self.body.size() + self.size_beside_body()
    }

    /// The same without the body.
    pub(crate) fn size_beside_body(&self) -> usize {
        let meta = self.meta.as_ref().map_or(0, |meta| {
            let headers: usize = meta.headers.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Bytes::len)).sum();
            size_of::<Meta>() + meta.key.as_ref().map_or(0, Bytes::len) + headers
        });
        size_of::<Event>() + meta
    }
}

fn token(bits: u128) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bits.to_be_bytes())
}

/// A source's partition: where events come from and to where positions are committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginId {
    /// Id of the source node in the graph.
    pub node: String,
    /// The log the positions count in: a Kafka topic, a file's path, or the node's id.
    pub log: String,
    /// Partition number within the log; 0 where a log has one.
    pub partition: i32,
    /// Which metadata events of this origin show to VRL.
    pub kind: OriginKind,
}

/// What kind of log an origin is; decides the metadata names in VRL (`%kafka.topic`, `%file.path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// `%kafka.{topic,partition,offset,key,headers,timestamp}`.
    Kafka,
    /// `%file.{path,offset}`.
    File,
    /// No metadata of its own.
    #[default]
    Other,
}

/// Where an event stands: the same record gives the same id in every run, and two children of one record never share one.
/// It is how people and dead letters name an event; sinks go by [`Event::token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId<'a> {
    /// Where the record came from.
    pub origin: &'a OriginId,
    /// Where it stands there.
    pub position: Position,
    /// Which child of the record.
    pub ordinal: Ordinal,
}

impl EventId<'_> {
    /// What the text form of an id says, given the kind of the origin, which it leaves out.
    pub fn parse(text: &str, kind: OriginKind) -> Option<(OriginId, Position, Ordinal)> {
        // A log's name may hold slashes, a node's id does not.
        let (node, rest) = text.split_once('/')?;
        let (rest, place) = rest.rsplit_once('/')?;
        let (log, partition) = rest.rsplit_once('/')?;
        let (position, ordinal) = match place.split_once('.') {
            Some((position, ordinal)) => (position, u128::from_str_radix(ordinal, 16).ok()?),
            None => (place, 0),
        };
        let origin = OriginId { node: node.to_owned(), log: log.to_owned(), partition: partition.parse().ok()?, kind };
        Some((origin, Position(position.parse().ok()?), Ordinal(ordinal)))
    }
}

impl std::fmt::Display for EventId<'_> {
    /// `node/log/partition/position`, then `.ordinal` in hexadecimal for a child.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OriginId { node, log, partition, .. } = self.origin;
        write!(f, "{node}/{log}/{partition}/{}", self.position.0)?;
        match self.ordinal.0 {
            0 => Ok(()),
            ordinal => write!(f, ".{ordinal:x}"),
        }
    }
}
