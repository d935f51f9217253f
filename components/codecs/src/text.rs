//! Values as texts, for the codecs that have nothing else.

use bytes::Bytes;
use vrl::value::{ObjectMap, Value};
use weir::event::{CodecError, json};

/// The bytes as text; an error has the codec's own code.
pub(crate) fn utf8<'a>(bytes: &'a [u8], code: &'static str) -> Result<&'a str, CodecError> {
    std::str::from_utf8(bytes).map_err(|error| CodecError::new(code, format!("byte {}: not utf-8", error.valid_up_to())))
}

/// The fields of a value that must have some.
pub(crate) fn object(value: &Value) -> Result<&ObjectMap, CodecError> {
    value.as_object().ok_or_else(|| CodecError::new("no_object", "the event is no object, so it has no fields to write"))
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
