//! What a window comes to, as an event.

use std::io::Write;

use vrl::value::Value;
use weir::event::{Body, Codec, Event, Ordinal, Position, Timestamp};
use weir::script::hash;

use crate::config::Compute;
use crate::number::Number;
use crate::partial::Partial;
use crate::windows::{SEPARATOR, WindowKey};

/// The names of a result's fields.
#[derive(Debug)]
pub(crate) struct Shape {
    pub groups: Vec<String>,
    pub compute: Vec<(String, Compute)>,
    /// Whether results say if they are final.
    pub has_early: bool,
    /// Length of a window in milliseconds.
    pub length: i64,
}

impl Shape {
    /// The result of a window and group. Its id depends on the two alone, so that a sink knows it again.
    pub fn event(&self, key: &WindowKey, partials: &[Partial], is_final: bool) -> Event {
        let end = key.start.saturating_add(self.length);
        let mut body = Vec::with_capacity(160);
        // Writing to memory cannot fail.
        let _ = write!(
            body,
            "{{\"window_start\":\"{}\",\"window_end\":\"{}\"",
            Timestamp(key.start).to_rfc3339(),
            Timestamp(end).to_rfc3339()
        );
        for (name, value) in self.groups.iter().zip(key.group.split(|byte| *byte == SEPARATOR)) {
            field(&mut body, name);
            body.extend_from_slice(value);
        }
        for ((name, compute), partial) in self.compute.iter().zip(partials) {
            field(&mut body, name);
            match partial.result(compute) {
                Some(Number::Whole(whole)) => drop(write!(body, "{whole}")),
                Some(Number::Spelled(digits)) => body.extend_from_slice(digits.as_bytes()),
                Some(Number::Float(float)) if float.is_finite() => {
                    // A finite number can always be written.
                    let _ = weir::event::json::write(&Value::from_f64_or_zero(float), &mut body);
                }
                Some(Number::Float(_)) | None => body.extend_from_slice(b"null"),
            }
        }
        if self.has_early {
            let _ = write!(body, ",\"final\":{is_final}");
        }
        body.push(b'}');
        let time = Timestamp(end.saturating_sub(1));
        let mut event = Event::new(Body::Raw(body.into(), Codec::Json), Position(end.max(0).cast_unsigned()), time);
        let (high, low) = (hash([&key.group[..]]), hash([&b"low"[..], &key.group]));
        event.ordinal = Ordinal(u128::from(high) << 64 | u128::from(low));
        event
    }
}

fn field(body: &mut Vec<u8>, name: &str) {
    body.push(b',');
    weir::event::json::write_str(name, body);
    body.push(b':');
}
