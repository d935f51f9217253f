//! Values as texts, for the codecs that have nothing else.

use bytes::Bytes;
use vrl::value::{ObjectMap, Value};
use weir::event::{CodecError, json};

/// The bytes as text; an error has the codec's own code.
pub(crate) fn utf8<'a>(bytes: &'a [u8], code: &'static str) -> Result<&'a str, CodecError> {
    std::str::from_utf8(bytes)
        .map_err(|error| CodecError::new(code, format!("byte {}: not utf-8", error.valid_up_to())))
}

/// The fields of a value that must have some.
pub(crate) fn object(value: &Value) -> Result<&ObjectMap, CodecError> {
    value
        .as_object()
        .ok_or_else(|| CodecError::new("no_object", "the event is no object, so it has no fields to write"))
}

/// A value as text: null is empty; objects and lists are JSON.
pub(crate) fn of(value: &Value) -> Result<Bytes, CodecError> {
    match value {
        Value::Null => Ok(Bytes::new()),
        Value::Object(_) | Value::Array(_) => {
            let mut out = Vec::new();
            json::write(value, &mut out);
            Ok(out.into())
        }
        other => {
            let text = other.coerce_to_bytes();
            utf8(&text, "invalid_utf8")?;
            Ok(text)
        }
    }
}

/// A number as nodes see it; what is no number (NaN) has no value.
pub(crate) fn number(value: f64) -> Value {
    if value.is_nan() { Value::Null } else { Value::from_f64_or_zero(value) }
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Timestamp(_) => "a timestamp",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::Bytes(_) | Value::String(_) | Value::Regex(_) => "a text",
    }
}
