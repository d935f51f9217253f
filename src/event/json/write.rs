//! From VRL values to JSON.
//!
//! JSON holds UTF-8 text and finite numbers; a VRL value may hold any bytes, and infinity. Replacing them would make different
//! events equal, so [`write()`] refuses them, and [`write_as_is`] retains them for weir's own logs.

use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use vrl::value::Value;

use crate::event::{CodecError, rfc3339};

/// Appends a value as one JSON document; timestamps are RFC 3339 text. After an error `out` is as it was.
///
/// Bytes that are not UTF-8 are refused as `invalid_utf8`, an infinite number as `unsupported_value`.
pub fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
    write_with(value, CompactFormatter, out)
}

/// The same, spelled as the formatter does.
pub(super) fn write_with(value: &Value, formatter: impl Formatter, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, formatter);
    Strict(value).serialize(&mut serializer).map_err(|error| {
        out.truncate(before);
        refused(value).unwrap_or_else(|| CodecError::new("unsupported_value", error.to_string()))
    })
}

/// Appends a text in quotes, with its escapes.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    // A `Vec` takes every write, and a text is always valid JSON.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a value as JSON that keeps what JSON has no way to say: bytes stay in their text as they are, and an infinite
/// number is `1e999`. [`parse_as_is`](super::parse_as_is) reads it back.
pub(crate) fn write_as_is(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            out.push(b'{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_str(name, out);
                out.push(b':');
                write_as_is(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_as_is(item, out);
            }
            out.push(b']');
        }
        Value::Bytes(bytes) => {
            out.push(b'"');
            for chunk in bytes.utf8_chunks() {
                let quote = out.len();
                write_str(chunk.valid(), out);
                out.remove(quote);
                out.pop();
                out.extend_from_slice(chunk.invalid());
            }
            out.push(b'"');
        }
        Value::Float(number) if number.is_infinite() => {
            out.extend_from_slice(if number.is_sign_negative() { b"-1e999" } else { b"1e999" });
        }
        other => drop(serde_json::to_writer(out, other)),
    }
}

/// A value that fails to serialize where VRL's own implementation replaces bytes, or serde_json writes `null`.
struct Strict<'a>(&'a Value);

impl Serialize for Strict<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bytes(_) => match self.0.to_str() {
                Some(text) => serializer.serialize_str(text),
                None => Err(S::Error::custom("not utf-8")),
            },
            Value::Float(number) if number.is_infinite() => Err(S::Error::custom("infinite")),
            Value::Timestamp(time) => serializer.serialize_str(&rfc3339(time).map_err(S::Error::custom)?),
            Value::Object(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, Strict(value)))),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Strict)),
            other => other.serialize(serializer),
        }
    }
}

/// The first part of a value that JSON has no way to say, with its place and what to do about it.
#[cold]
fn refused(value: &Value) -> Option<CodecError> {
    let mut place = String::new();
    let found = find(value, &mut place)?;
    let place = if place.is_empty() { "the event" } else { &place };
    let unsupported = |what: String| CodecError::new("unsupported_value", what);
    Some(match found {
        Value::Timestamp(time) => unsupported(format!("{place}: {}", rfc3339(time).err()?)),
        Value::Float(_) => {
            unsupported(format!("{place} is infinite, and JSON has no such number; set it to null or a text before"))
        }
        _ => CodecError::new(
            "invalid_utf8",
            format!("{place} is not utf-8; encode it before, such as by encode_base64, or use encoding: raw"),
        ),
    })
}

/// The first such part; leaves its path in `place`.
fn find<'a>(value: &'a Value, place: &mut String) -> Option<&'a Value> {
    let length = place.len();
    let mut within = |step: String, value: &'a Value| {
        place.push_str(&step);
        find(value, place).or_else(|| {
            place.truncate(length);
            None
        })
    };
    match value {
        Value::Bytes(_) if value.to_str().is_none() => Some(value),
        Value::Float(number) if number.is_infinite() => Some(value),
        Value::Timestamp(time) if rfc3339(time).is_err() => Some(value),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| within(format!(".{name}"), value)),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, value)| within(format!("[{at}]"), value)),
        _ => None,
    }
}
