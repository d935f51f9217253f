//! From a body to the bytes a sink writes: one place for all sinks.
//!
//! A body comes in, bytes go out; what cannot be said in the encoding is an [`EncodeError`], which the sink
//! makes a rejected event. Nothing here knows of files or brokers. [`Encoding::encode`] gives one message,
//! [`Encoding::encode_line`] one line of a stream that is split at newlines.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;

use super::{Body, Codec, json};

/// What an event looks like outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One JSON document. A JSON event that nobody changed leaves byte for byte as it came; text becomes
    /// `{"message": "..."}`.
    #[default]
    Json,
    /// The text itself: of an event with fields, its field `message`. Must be UTF-8.
    Text,
    /// The bytes as they came, whatever they are; of an event that was changed, its field `message`.
    Raw,
}

/// What the bytes of a source's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// One JSON document a record; checked when a node first looks inside.
    #[default]
    Json,
    /// UTF-8 text; nodes see it as `.message`.
    Text,
    /// Any bytes; nodes see them as `.message`.
    Raw,
}

impl From<Decoding> for Codec {
    fn from(decoding: Decoding) -> Codec {
        match decoding {
            Decoding::Json => Codec::Json,
            Decoding::Text => Codec::Text,
            Decoding::Raw => Codec::Raw,
        }
    }
}

/// Why an event cannot be written in an encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EncodeError {
    /// A stable word for the class of error: `no_message`, `invalid_json` or `invalid_utf8`.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
}

impl EncodeError {
    fn no_message(why: &str) -> EncodeError {
        EncodeError { code: "no_message", message: format!("{why}; use encoding: json or set .message before") }
    }

    fn invalid_json(why: json::JsonError) -> EncodeError {
        EncodeError { code: "invalid_json", message: why.to_string() }
    }

    fn invalid_utf8() -> EncodeError {
        EncodeError { code: "invalid_utf8", message: "the event is not utf-8; use encoding: raw".to_owned() }
    }
}

impl Encoding {
    /// The body's own bytes, where they are the message already.
    pub fn as_is(self, body: &Body) -> Option<&Bytes> {
        match (self, body) {
            (Encoding::Raw, Body::Raw(bytes, _)) | (Encoding::Json, Body::Raw(bytes, Codec::Json)) => Some(bytes),
            _ => None,
        }
    }

    /// Appends the body to `out`. After an error `out` is as it was.
    ///
    /// `Value::Null`, a Kafka tombstone, is written as `null` under `json` and has no `message` otherwise;
    /// a sink that can say "no value" must look for it first.
    pub fn encode(self, body: &Body, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Some(bytes) = self.as_is(body) {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        match (self, body) {
            (Encoding::Json, Body::Raw(bytes, _)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| EncodeError::invalid_utf8())?;
                out.extend_from_slice(b"{\"message\":");
                json::write(&Value::from(text), out);
                out.push(b'}');
                Ok(())
            }
            (Encoding::Json, Body::Parsed(value)) => {
                json::write(value, out);
                Ok(())
            }
            (_, Body::Parsed(value)) => self.put_message(value, out),
            (_, Body::Raw(bytes, Codec::Json)) => {
                let value = json::parse(bytes).map_err(EncodeError::invalid_json)?;
                self.put_message(&value, out)
            }
            (_, Body::Raw(bytes, Codec::Text | Codec::Raw)) => put_text(bytes, out),
        }
    }

    /// The same, and a newline behind it. A JSON document that holds raw newlines is compacted, so that it
    /// stays one line; a text with newlines takes as many lines as it has.
    pub fn encode_line(self, body: &Body, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match (self, body) {
            (Encoding::Json, Body::Raw(bytes, Codec::Json)) if memchr::memchr(b'\n', bytes).is_some() => {
                // Only in a valid document is every raw newline whitespace.
                json::check(bytes).map_err(EncodeError::invalid_json)?;
                out.extend_from_slice(&json::compact(bytes));
            }
            _ => self.encode(body, out)?,
        }
        out.push(b'\n');
        Ok(())
    }

    fn put_message(self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let message = match value {
            Value::Object(fields) => fields.get("message"),
            Value::Bytes(_) | Value::String(_) => Some(value),
            _ => return Err(EncodeError::no_message("the event is not an object")),
        };
        match message {
            None | Some(Value::Null) => Err(EncodeError::no_message("the event has no field message")),
            Some(text @ (Value::Bytes(_) | Value::String(_))) => match self {
                Encoding::Raw => {
                    out.extend_from_slice(&text.coerce_to_bytes());
                    Ok(())
                }
                _ => put_text(&text.coerce_to_bytes(), out),
            },
            Some(other) => {
                json::write(other, out);
                Ok(())
            }
        }
    }
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    std::str::from_utf8(bytes).map_err(|_| EncodeError::invalid_utf8())?;
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw(bytes: &'static [u8], codec: Codec) -> Body {
        Body::Raw(bytes.into(), codec)
    }

    fn parsed(json: &str) -> Body {
        Body::Parsed(serde_json::from_str(json).unwrap())
    }

    fn line(encoding: Encoding, body: &Body) -> Result<String, &'static str> {
        let mut out = b"before|".to_vec();
        let result = encoding.encode_line(body, &mut out);
        let text = String::from_utf8_lossy(&out[7..]).into_owned();
        match result {
            Ok(()) => Ok(text),
            Err(error) => {
                assert_eq!(text, "", "after an error nothing is left behind");
                Err(error.code)
            }
        }
    }

    #[test]
    fn json_that_nobody_changed_leaves_byte_for_byte_and_on_one_line() {
        let odd = br#"{ "a" : 1.50, "a":"\u0041" }"#;
        assert_eq!(line(Encoding::Json, &raw(odd, Codec::Json)).unwrap().as_bytes(), [&odd[..], b"\n"].concat());
        let spread = b"{\n  \"a b\": \"c \\\" d\",\r\n\t\"e\": [ 1 ]\n}\n";
        assert_eq!(
            line(Encoding::Json, &raw(spread, Codec::Json)).unwrap(),
            "{  \"a b\": \"c \\\" d\",\r\t\"e\": [ 1 ]}\n"
        );
        assert_eq!(line(Encoding::Json, &raw(b"\"a\nb\"", Codec::Json)), Err("invalid_json"));
    }

    #[test]
    fn text_and_fields_become_json() {
        assert_eq!(
            line(Encoding::Json, &raw(b"say \"hi\"", Codec::Text)).unwrap(),
            "{\"message\":\"say \\\"hi\\\"\"}\n"
        );
        assert_eq!(line(Encoding::Json, &raw(b"\xff", Codec::Raw)), Err("invalid_utf8"));
        assert_eq!(
            line(Encoding::Json, &parsed(r#"{"b":1,"a":[true,null]}"#)).unwrap(),
            "{\"a\":[true,null],\"b\":1}\n"
        );
    }

    #[test]
    fn text_is_the_message() {
        assert_eq!(line(Encoding::Text, &raw(b"plain", Codec::Text)).unwrap(), "plain\n");
        assert_eq!(line(Encoding::Text, &raw(br#"{"message":"m","x":1}"#, Codec::Json)).unwrap(), "m\n");
        assert_eq!(line(Encoding::Text, &parsed(r#"{"message":{"a":1}}"#)).unwrap(), "{\"a\":1}\n");
        assert_eq!(line(Encoding::Text, &parsed(r#"{"x":1}"#)), Err("no_message"));
        assert_eq!(line(Encoding::Text, &raw(b"{", Codec::Json)), Err("invalid_json"));
        assert_eq!(line(Encoding::Text, &raw(b"\xff", Codec::Raw)), Err("invalid_utf8"));
        assert_eq!(line(Encoding::Raw, &parsed("null")), Err("no_message"));
    }

    #[test]
    fn raw_is_whatever_came() {
        let mut out = Vec::new();
        Encoding::Raw.encode(&raw(b"\xff{", Codec::Json), &mut out).unwrap();
        Encoding::Raw.encode(&parsed(r#"{"message":"m"}"#), &mut out).unwrap();
        assert_eq!(out, b"\xff{m");
    }
}
