//! From a body to the bytes a sink writes: one place for all sinks.
//!
//! A body comes in, bytes go out; what cannot be said in the encoding is an [`CodecError`], which the sink
//! makes a rejected event. Nothing here knows of files or brokers. [`Encoding::encode`] gives one message,
//! [`Encoding::encode_line`] one line of a stream that is split at newlines.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use vrl::value::Value;

use super::codec::{Codec, CodecError, Encoder, Layout};
use super::json::Numbers;
use super::{Body, json};

/// What an event looks like outside.
#[derive(Debug, Clone, Default)]
pub enum Encoding {
    /// JSON documents. Unchanged JSON events are written byte for byte; a text becomes `{"message": "..."}`.
    #[default]
    Json,
    /// Text: the field `message` of an event with fields. Must be UTF-8.
    Text,
    /// Unchanged bytes, whatever they are; of a changed event, the field `message`.
    Raw,
    /// Whatever its encoder writes.
    Other(Arc<dyn Encoder>),
}

fn no_message(why: &str) -> CodecError {
    CodecError::new("no_message", format!("{why}; use encoding: json or set .message before"))
}

fn invalid_utf8() -> CodecError {
    CodecError::new("invalid_utf8", "the event is not utf-8; use encoding: raw")
}

impl Encoding {
    /// The body's own bytes, where they are the message already.
    pub fn as_is<'a>(&self, body: &'a Body) -> Option<&'a Bytes> {
        match (self, body) {
            (Encoding::Raw, Body::Raw(_, Codec::Edited)) => None,
            (Encoding::Raw, Body::Raw(bytes, _)) => Some(bytes),
            (Encoding::Json, body) => body.document(),
            (Encoding::Other(encoder), Body::Raw(bytes, Codec::Other(decoder))) if encoder.keeps(&**decoder) => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Appends the body to `out`, as a message for `topic`, which only some encoders ask for. After an error `out` is
    /// as it was.
    ///
    /// `Value::Null`, a Kafka tombstone, is written as `null` under `json` and has no `message` otherwise;
    /// a sink that can say "no value" must look for it first.
    pub fn encode(&self, body: &Body, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if let Some(bytes) = self.as_is(body) {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        match (self, body) {
            (Encoding::Json, Body::Raw(bytes, Codec::Text | Codec::Raw)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| invalid_utf8())?;
                out.extend_from_slice(b"{\"message\":");
                json::write_str(text, out);
                out.push(b'}');
                Ok(())
            }
            (Encoding::Text | Encoding::Raw, Body::Raw(bytes, Codec::Text | Codec::Raw)) => put_text(bytes, out),
            (_, Body::Parsed(value)) => self.put(value, topic, out),
            (_, Body::Raw(bytes, codec)) => {
                let (value, numbers) = decoded(bytes, codec)?;
                match self {
                    Encoding::Json => json::write(&value, out),
                    Encoding::Text | Encoding::Raw => self.put_message(&value, &numbers, out),
                    Encoding::Other(encoder) => {
                        let before = out.len();
                        let put = match numbers.are_exact() {
                            true => encoder.encode_exact(&value, &numbers, topic, out),
                            false => encoder.encode(&value, topic, out),
                        };
                        put.inspect_err(|_| out.truncate(before))
                    }
                }
            }
        }
    }

    /// Whether [`encode_with_subject`](Self::encode_with_subject) has subjects to give.
    pub fn has_subjects(&self) -> bool {
        matches!(self, Encoding::Other(encoder) if encoder.has_subjects())
    }

    /// The same as [`encode`](Self::encode), and appends to `subject` what the record is about.
    pub fn encode_with_subject(
        &self,
        body: &Body,
        topic: &str,
        out: &mut Vec<u8>,
        subject: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Encoding::Other(encoder) = self else { return self.encode(body, topic, out) };
        let value = match body {
            Body::Parsed(value) => Cow::Borrowed(value),
            Body::Raw(bytes, codec) => {
                let (value, numbers) = decoded(bytes, codec)?;
                Cow::Owned(if numbers.are_exact() { numbers.as_texts(&value, false) } else { value })
            }
        };
        if let Some(bytes) = self.as_is(body) {
            encoder.subject(&value, subject)?;
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let before = out.len();
        encoder.encode_with_subject(&value, topic, out, subject).inspect_err(|_| out.truncate(before))
    }

    fn put(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Encoding::Json => json::write(value, out),
            Encoding::Text | Encoding::Raw => self.put_message(value, &Numbers::default(), out),
            Encoding::Other(encoder) => {
                let before = out.len();
                encoder.encode(value, topic, out).inspect_err(|_| out.truncate(before))
            }
        }
    }

    /// Appends the body and a newline. A JSON document that holds raw line breaks is compacted, so that it stays one line. What
    /// would be read as no record, or as several, is refused: nothing at all, and a text with a line break. After an error `out`
    /// is as it was.
    pub fn encode_line(&self, body: &Body, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let before = out.len();
        match (self, body) {
            (Encoding::Json, Body::Raw(bytes, Codec::Json | Codec::Edited)) if has_break(bytes) => {
                // Only in a valid document is every raw line break whitespace.
                json::check(bytes)?;
                out.extend_from_slice(&json::compact(bytes));
            }
            // As it came it may be no line, although it can be written as one.
            (Encoding::Other(encoder), Body::Raw(bytes, codec @ Codec::Other(_)))
                if has_break(bytes) || (encoder.layout() == Layout::Quoted && bytes.contains(&b'"')) =>
            {
                self.put(&codec.decode(bytes)?, "", out)?;
            }
            _ => self.encode(body, "", out)?,
        }
        let layout = match self {
            // Its escapes and the check above leave no break.
            Encoding::Json => Layout::Quoted,
            Encoding::Text | Encoding::Raw => Layout::Line,
            Encoding::Other(encoder) => encoder.layout(),
        };
        let is_one = match layout {
            Layout::Line => !has_break(&out[before..]),
            Layout::Quoted => true,
            Layout::Lines => memchr::memchr(b'\r', &out[before..]).is_none(),
        };
        if out.len() == before || !is_one {
            let what = match (is_one, layout) {
                (true, _) => "is empty",
                (false, Layout::Lines) => "holds a carriage return, for which the format has no escape",
                (false, _) => "holds a line break",
            };
            out.truncate(before);
            let help = "use encoding: json, or replace it in the event before";
            return Err(CodecError::new(
                "not_one_line",
                format!("the record {what}, and this sink writes lines; {help}"),
            ));
        }
        out.push(b'\n');
        Ok(())
    }

    fn put_message(&self, value: &Value, numbers: &Numbers, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let message = match value {
            Value::Object(fields) => fields.get("message"),
            Value::Bytes(_) | Value::String(_) => Some(value),
            _ => return Err(no_message("the event is not an object")),
        };
        match message {
            None | Some(Value::Null) => Err(no_message("the event has no field message")),
            Some(text @ (Value::Bytes(_) | Value::String(_))) => match self {
                Encoding::Raw => {
                    out.extend_from_slice(&text.coerce_to_bytes());
                    Ok(())
                }
                _ => put_text(&text.coerce_to_bytes(), out),
            },
            Some(other) => numbers.write(other, out),
        }
    }
}

/// What the bytes say, and the digits of the numbers for which floats stand in.
fn decoded(bytes: &Bytes, codec: &Codec) -> Result<(Value, Numbers), CodecError> {
    let mut numbers = Numbers::default();
    let value = match codec {
        Codec::Json | Codec::Edited => json::parse_with(bytes, &mut numbers)?,
        codec => codec.decode(bytes)?,
    };
    Ok((value, numbers))
}

/// Whether there is something that readers of lines take for the end of one.
fn has_break(bytes: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', bytes).is_some()
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    std::str::from_utf8(bytes).map_err(|_| invalid_utf8())?;
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
            "{  \"a b\": \"c \\\" d\",\t\"e\": [ 1 ]}\n"
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
        let large = raw(br#"{"message":{"id":18446744073709551615}}"#, Codec::Json);
        assert_eq!(line(Encoding::Text, &large).unwrap(), "{\"id\":18446744073709551615}\n");
        assert_eq!(line(Encoding::Text, &parsed(r#"{"x":1}"#)), Err("no_message"));
        assert_eq!(line(Encoding::Text, &raw(b"{", Codec::Json)), Err("invalid_json"));
        assert_eq!(line(Encoding::Text, &raw(b"\xff", Codec::Raw)), Err("invalid_utf8"));
        assert_eq!(line(Encoding::Raw, &parsed("null")), Err("no_message"));
    }

    #[test]
    fn what_is_no_line_is_refused_where_lines_are_written() {
        for text in ["", "a\nb", "a\n", "\n", "a\rb", "a\r", "\r\n"] {
            let value = Value::Object([("message".into(), text.into())].into());
            for encoding in [Encoding::Text, Encoding::Raw] {
                for body in [Body::Raw(text.into(), Codec::Text), Body::Parsed(value.clone())] {
                    assert_eq!(line(encoding.clone(), &body), Err("not_one_line"), "{text:?}");
                    let mut message = Vec::new();
                    encoding.encode(&body, "", &mut message).unwrap();
                    assert_eq!(message, text.as_bytes(), "a message of Kafka may hold anything");
                }
            }
            assert_eq!(line(Encoding::Json, &Body::Parsed(value)).unwrap().matches(['\n', '\r']).count(), 1, "escaped");
        }
        assert_eq!(line(Encoding::Text, &raw(b"a\tb\0c ", Codec::Text)).unwrap(), "a\tb\0c \n");
        assert_eq!(line(Encoding::Json, &raw(b"", Codec::Json)), Err("not_one_line"));
        assert_eq!(line(Encoding::Json, &raw(b"{\"a\":\r1}\r", Codec::Json)).unwrap(), "{\"a\":1}\n");
        assert_eq!(line(Encoding::Json, &raw(b"1\r2", Codec::Json)), Err("invalid_json"));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_wherever_json_is_written() {
        let bytes = Value::Bytes(Bytes::from_static(b"caf\xe9"));
        let nested = Value::Object([("a".into(), Value::Array(vec![1.into(), bytes.clone()]))].into());
        for value in [nested.clone(), Value::Object([("message".into(), nested.clone())].into()), bytes.clone()] {
            assert_eq!(line(Encoding::Json, &Body::Parsed(value)), Err("invalid_utf8"));
        }
        let within = Value::Object([("message".into(), nested.clone())].into());
        assert_eq!(line(Encoding::Text, &Body::Parsed(within)), Err("invalid_utf8"));
        let error = Encoding::Json.encode(&Body::Parsed(nested), "", &mut Vec::new()).unwrap_err();
        assert!(error.message.starts_with(".a[1] is not utf-8; encode it before"), "{error}");
        let infinite = Value::Object([("x".into(), Value::from_f64_or_zero(f64::INFINITY))].into());
        assert_eq!(line(Encoding::Json, &Body::Parsed(infinite)), Err("unsupported_value"));
    }

    #[test]
    fn raw_is_whatever_came() {
        let mut out = Vec::new();
        Encoding::Raw.encode(&raw(b"\xff{", Codec::Json), "", &mut out).unwrap();
        Encoding::Raw.encode(&parsed(r#"{"message":"m"}"#), "", &mut out).unwrap();
        assert_eq!(out, b"\xff{m");
    }

    #[test]
    fn raw_is_the_message_of_what_a_node_has_written() {
        let edited = raw(br#"{"message":{"id":18446744073709551615},"x":1}"#, Codec::Edited);
        assert_eq!(line(Encoding::Raw, &edited).unwrap(), "{\"id\":18446744073709551615}\n");
        let as_is = "{\"message\":{\"id\":18446744073709551615},\"x\":1}\n";
        assert_eq!(line(Encoding::Json, &edited).unwrap(), as_is);
        assert_eq!(line(Encoding::Raw, &raw(br#"{"x":1}"#, Codec::Edited)), Err("no_message"));
        assert_eq!(line(Encoding::Raw, &raw(br#"{"x":1}"#, Codec::Json)).unwrap(), "{\"x\":1}\n");
    }

    #[test]
    fn a_time_that_rfc_3339_has_no_text_for_is_refused_with_its_place() {
        let time = chrono::DateTime::from_timestamp(300_000_000_000, 0).unwrap();
        let event = Value::Object([("a".into(), Value::Array(vec![Value::Timestamp(time)]))].into());
        let error = Encoding::Json.encode(&Body::Parsed(event), "", &mut Vec::new()).unwrap_err();
        assert_eq!(error.code, "unsupported_value");
        assert!(error.message.starts_with(".a[0]: the time +11476-08-15T05:20:00Z cannot be written"), "{error}");
    }
}
