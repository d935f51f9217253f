//! Values as texts, for the codecs that have nothing else.

use bytes::Bytes;
use vrl::value::{ObjectMap, Value};
use weir::event::json::Numbers;
use weir::event::{CodecError, rfc3339};

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

/// A value as text: null is empty; objects and lists are JSON; a number has the digits of the event.
pub(crate) fn of(value: &Value, numbers: &Numbers) -> Result<Bytes, CodecError> {
    match value {
        Value::Null => Ok(Bytes::new()),
        Value::Object(_) | Value::Array(_) => {
            let mut out = Vec::new();
            numbers.write(value, &mut out)?;
            Ok(out.into())
        }
        Value::Float(float) if let Some(digits) = numbers.spelling(float.into_inner()) => {
            Ok(Bytes::copy_from_slice(digits.as_bytes()))
        }
        Value::Timestamp(time) => Ok(rfc3339(time)?.into()),
        other => {
            let text = other.coerce_to_bytes();
            utf8(&text, "invalid_utf8")?;
            Ok(text)
        }
    }
}

/// A number as nodes see it; one that JSON has not is a text, as in Protobuf's JSON mapping.
pub(crate) fn number(value: f64) -> Value {
    match value {
        _ if value.is_finite() => Value::from_f64_or_zero(value),
        _ if value.is_nan() => "NaN".into(),
        _ => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
    }
}

/// The number that such a text stands for.
pub(crate) fn not_finite(value: &Value) -> Option<f64> {
    match value.to_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
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
        Value::Bytes(_) if value.to_str().is_none() => "bytes that are no utf-8",
        Value::Bytes(_) | Value::String(_) | Value::Regex(_) => "a text",
    }
}
