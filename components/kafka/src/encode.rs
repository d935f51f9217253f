//! From an event's body to a record's value; pure.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::event::json;
use weir::event::{Body, Codec};

/// What the value of a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The event as one JSON document; a document nobody changed leaves byte for byte.
    #[default]
    Json,
    /// The event's `message`, as text.
    Text,
    /// The event's `message`, byte for byte.
    Raw,
}

/// The value of the record for `body`; `None` is a tombstone. `buffer` is scratch space.
pub(crate) fn encode<'a>(
    body: &'a Body,
    encoding: Encoding,
    buffer: &'a mut Vec<u8>,
) -> Result<Option<Cow<'a, [u8]>>, String> {
    let bytes = match (body, encoding) {
        (Body::Parsed(Value::Null), _) => return Ok(None),
        (Body::Raw(bytes, Codec::Json), Encoding::Json) => Cow::Borrowed(&bytes[..]),
        (Body::Raw(bytes, Codec::Text | Codec::Raw), Encoding::Text | Encoding::Raw) => Cow::Borrowed(&bytes[..]),
        (Body::Raw(bytes, Codec::Text | Codec::Raw), Encoding::Json) => {
            let message = Value::Object([("message".into(), Value::Bytes(bytes.clone()))].into());
            write(&message, buffer)
        }
        (Body::Parsed(value), Encoding::Json) => write(value, buffer),
        (Body::Raw(bytes, Codec::Json), Encoding::Text | Encoding::Raw) => {
            let value = json::parse(bytes).map_err(|error| error.to_string())?;
            Cow::Owned(message_of(&value)?)
        }
        (Body::Parsed(value), Encoding::Text | Encoding::Raw) => Cow::Owned(message_of(value)?),
    };
    Ok(Some(bytes))
}

fn write<'a>(value: &Value, buffer: &'a mut Vec<u8>) -> Cow<'a, [u8]> {
    buffer.clear();
    json::write(value, buffer);
    Cow::Borrowed(&buffer[..])
}

/// The `message` of an object: text as it is, anything else as JSON.
fn message_of(value: &Value) -> Result<Vec<u8>, String> {
    let message = value.as_object().and_then(|fields| fields.get("message"));
    let message = message.ok_or("the event has no field message; set encoding: json or add the field")?;
    if let Some(text) = message.as_bytes() {
        return Ok(text.to_vec());
    }
    let mut text = Vec::new();
    json::write(message, &mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encoded(body: Body, encoding: Encoding) -> Result<Option<String>, String> {
        let mut buffer = Vec::new();
        let bytes = encode(&body, encoding, &mut buffer)?;
        Ok(bytes.map(|bytes| String::from_utf8(bytes.into_owned()).unwrap()))
    }

    fn raw(text: &'static str, codec: Codec) -> Body {
        Body::Raw(text.into(), codec)
    }

    #[test]
    fn untouched_bytes_leave_as_they_came() {
        let odd = r#" {"b" : 1, "a":2 }"#;
        assert_eq!(encoded(raw(odd, Codec::Json), Encoding::Json).unwrap().unwrap(), odd);
        assert_eq!(encoded(raw("plain", Codec::Text), Encoding::Text).unwrap().unwrap(), "plain");
    }

    #[test]
    fn a_tombstone_stays_one_in_every_encoding() {
        for encoding in [Encoding::Json, Encoding::Text, Encoding::Raw] {
            assert_eq!(encoded(Body::Parsed(Value::Null), encoding).unwrap(), None);
        }
    }

    #[test]
    fn text_is_the_message_and_json_wraps_text() {
        assert_eq!(encoded(raw(r#"{"message":"hi"}"#, Codec::Json), Encoding::Text).unwrap().unwrap(), "hi");
        assert_eq!(encoded(raw("hi", Codec::Text), Encoding::Json).unwrap().unwrap(), r#"{"message":"hi"}"#);
        assert!(encoded(raw(r#"{"text":"hi"}"#, Codec::Json), Encoding::Text).is_err());
    }
}
