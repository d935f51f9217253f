//! What the raw bytes of a body are: three codecs that are built in, and the traits behind all others.
//!
//! A [`Decoder`] turns the bytes of one record into a value, an [`Encoder`] a value into bytes. Both are pure;
//! what they need from a peer, such as a schema, is fetched before: [`Decoder::prepare`], [`Encoder::prepare`].

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use vrl::value::{KeyString, ObjectMap, Value};

use super::json::Numbers;
use super::{Event, json};
use crate::error::Result;

/// How the raw bytes of a body are to be read when a node looks inside.
#[derive(Debug, Clone, Default)]
pub enum Codec {
    /// One JSON document (RFC 8259).
    #[default]
    Json,
    /// UTF-8 text; nodes see `{"message": <text>}`.
    Text,
    /// Any bytes; nodes see `{"message": <bytes>}`.
    Raw,
    /// One JSON document that a node of the graph has written: these are not the bytes that came.
    Edited,
    /// Whatever its decoder reads.
    Other(Arc<dyn Decoder>),
}

impl Codec {
    /// Its name, as in `decoding:`; `edited` is the name of no option.
    pub fn name(&self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::Text => "text",
            Codec::Raw => "raw",
            Codec::Edited => "edited",
            Codec::Other(decoder) => decoder.name(),
        }
    }

    /// What nodes see of the bytes.
    pub fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        match self {
            Codec::Json | Codec::Edited => json::parse(bytes).map_err(CodecError::from),
            Codec::Text | Codec::Raw => {
                Ok(Value::Object(ObjectMap::from([(KeyString::from("message"), Value::Bytes(bytes.clone()))])))
            }
            Codec::Other(decoder) => decoder.decode(bytes),
        }
    }

    /// The same in the place of a value, whose memory may be used again, for somebody who looks at these fields alone; `None`:
    /// at all.
    pub(crate) fn decode_into(
        &self,
        bytes: &Bytes,
        fields: Option<&[String]>,
        value: &mut Value,
    ) -> Result<(), CodecError> {
        match self {
            Codec::Other(decoder) => decoder.decode_into(bytes, fields, value)?,
            _ => *value = self.decode(bytes)?,
        }
        Ok(())
    }

    /// Whether a line of nothing but blanks is a record, as in text. Otherwise streams of lines skip it as they skip empty lines.
    pub fn has_blank_records(&self) -> bool {
        match self {
            Codec::Json | Codec::Edited => false,
            Codec::Text | Codec::Raw => true,
            Codec::Other(decoder) => decoder.has_blank_records(),
        }
    }

    /// The decoder, if it is none of the built-in ones.
    pub fn decoder(&self) -> Option<&Arc<dyn Decoder>> {
        match self {
            Codec::Other(decoder) => Some(decoder),
            _ => None,
        }
    }
}

/// Why bytes cannot be decoded, or a value not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CodecError {
    /// A stable word for the class of error, such as `invalid_json`, `invalid_utf8` or `no_message`.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
}

impl CodecError {
    /// The code of an encoder that must be prepared first.
    const UNPREPARED: &str = "unprepared";

    /// An error with its stable word.
    pub fn new(code: &'static str, message: impl Into<String>) -> CodecError {
        CodecError { code, message: message.into() }
    }

    /// Says that [`Encoder::prepare`] must be awaited, and the same then be tried again.
    pub fn unprepared(what: impl Into<String>) -> CodecError {
        CodecError::new(Self::UNPREPARED, what)
    }

    /// Whether this is [`unprepared`](Self::unprepared): no fault of the event.
    pub fn is_unprepared(&self) -> bool {
        self.code == Self::UNPREPARED
    }
}

impl From<json::JsonError> for CodecError {
    fn from(error: json::JsonError) -> CodecError {
        CodecError::new("invalid_json", error.to_string())
    }
}

impl From<CodecError> for super::Verdict {
    fn from(CodecError { code, message }: CodecError) -> Self {
        super::Verdict::Reject { code, message }
    }
}

/// Reads the records of a source.
#[async_trait]
pub trait Decoder: Any + Debug + Send + Sync {
    /// The codec's name in YAML.
    fn name(&self) -> &'static str;

    /// What nodes see of one record. Never panics, whatever the bytes are.
    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError>;

    /// The same in the place of a value, for somebody who looks at these fields of an object alone; `None`: at all. Others may be
    /// missing, and the memory of the value may be used again, if that saves something; nothing of what it was may show. What is
    /// refused must not depend on the fields.
    fn decode_into(&self, bytes: &Bytes, _fields: Option<&[String]>, value: &mut Value) -> Result<(), CodecError> {
        *value = self.decode(bytes)?;
        Ok(())
    }

    /// The records of one event each that this record holds, to be decoded in its place; `None`: it is one event itself. Of
    /// what cannot be taken apart it gives nothing either: the node that looks rejects it. Never panics.
    fn split(&self, _bytes: &Bytes) -> Option<Vec<Bytes>> {
        None
    }

    /// Called once for each event as it enters the graph, its body still raw: the decoder may tell of it what its format knows,
    /// such as an identity ([`Event::set_identity`]) or when it happened, and may leave its bytes to another codec. Never panics.
    fn admit(&self, _event: &mut Event) {}

    /// Whether records have to go through [`prepare`](Self::prepare) before they are decoded.
    fn must_prepare(&self) -> bool {
        false
    }

    /// The decoder for this very record, with all that it needs from peers. A record that no peer knows anything of
    /// gets a decoder that says so; an error means that a peer cannot be asked now, so that waiting may help.
    async fn prepare(&self, _bytes: &Bytes) -> Result<Arc<dyn Decoder>> {
        Err(crate::Error::unchecked("decoding"))
    }

    /// How records lie in a stream of lines.
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    /// Whether a stream of lines begins with one that names the columns of all others.
    fn wants_header(&self) -> bool {
        false
    }

    /// As [`Codec::has_blank_records`].
    fn has_blank_records(&self) -> bool {
        false
    }

    /// The decoder for what follows this header.
    fn with_header(&self, _header: &[u8]) -> Result<Arc<dyn Decoder>, CodecError> {
        Err(CodecError::new("invalid_header", "this codec has no header line"))
    }
}

/// How records lie in a stream of lines.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    /// A line is a record.
    Lines,
    /// So it is, but newlines between double quotes are part of a record (RFC 4180). A quote opens at the beginning of
    /// a field; fields are split by this byte.
    Quoted(u8),
    /// Several lines may be one record.
    Parts(fn(&[u8]) -> Option<Part>),
}

/// How the records of an encoder lie in a stream of lines. What is not laid out so is refused, as it would be read as other
/// records than were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A record is one line.
    Line,
    /// So it is, but a line break between double quotes is part of the record (RFC 4180).
    Quoted,
    /// A record may be several lines, each of which says something by itself.
    Lines,
}

/// A line that may be a part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where the line says to which stream it belongs: the parts of a record have the same bytes here.
    pub stream: Range<usize>,
    /// Where its content begins. The record is the last part, with the contents of all before its own.
    pub content: usize,
    /// Whether the record ends with it.
    pub is_last: bool,
}

/// Writes the records of a sink.
#[async_trait]
pub trait Encoder: Debug + Send + Sync {
    /// The codec's name in YAML.
    fn name(&self) -> &'static str;

    /// Appends one record for `topic` (empty where a sink has none) to `out`; after an error, whatever is behind the
    /// end that `out` had is of no use.
    fn encode(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The same for a value in which floats stand in for numbers that a float does not hold: an encoder that writes numbers as
    /// text writes their digits. Others get an integer as a text of its digits, where that has a place, and the float otherwise.
    fn encode_exact(&self, value: &Value, numbers: &Numbers, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let before = out.len();
        self.encode(&numbers.as_texts(value, true), topic, out).or_else(|_| {
            out.truncate(before);
            self.encode(value, topic, out)
        })
    }

    /// Whether its records are about something that tells them apart, such as the series of a point: where there are keys, they
    /// are keyed by that if nobody says otherwise.
    fn has_subjects(&self) -> bool {
        false
    }

    /// The same as [`encode`](Self::encode), and appends what the record is about to `subject`; nothing where it is about
    /// nothing.
    fn encode_with_subject(
        &self,
        value: &Value,
        topic: &str,
        out: &mut Vec<u8>,
        _subject: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        self.encode(value, topic, out)
    }

    /// Appends to `subject` alone what the record is about, where its bytes stay what they are.
    fn subject(&self, value: &Value, subject: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_with_subject(value, "", &mut Vec::new(), subject)
    }

    /// Whether a record of this decoder that nobody changed is fit to be written as it came.
    fn keeps(&self, _decoder: &dyn Decoder) -> bool {
        false
    }

    /// Fetches what records for `topic` need; an error means that waiting may help.
    async fn prepare(&self, _topic: &str) -> Result<()> {
        Ok(())
    }

    /// How its records lie in a stream of lines.
    fn layout(&self) -> Layout {
        Layout::Line
    }

    /// What a new file begins with; empty: nothing.
    fn header(&self) -> &[u8] {
        &[]
    }
}
