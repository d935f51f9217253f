//! `cri`: the log lines of container runtimes, `TIME STREAM P|F[:TAG...] CONTENT`.
//!
//! Format: Kubernetes, design proposal "CRI logging". A long line is written in parts, all but the last tagged `P`.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{KeyString, ObjectMap, Value};
use weir::Result;
use weir::component::DecodingConfig;
use weir::event::{CodecError, Decoder, Framing, Part};

use crate::text::utf8;

/// Log lines of container runtimes (CRI). Fields: `timestamp`, `stream` and `message`.
///
/// The parts of a long line are joined to one event if the source reads lines; its timestamp is that of the last part.
/// A line whose end is missing has `partial: true`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriDecoding {}

weir::register_decoding!("cri", CriDecoding);

#[typetag::deserialize(name = "cri")]
impl DecodingConfig for CriDecoding {
    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(Arc::new(Cri))
    }
}

#[derive(Debug)]
struct Cri;

/// Where things stand in a line; `None` if it is none of a container runtime.
fn part(line: &[u8]) -> Option<Part> {
    let blank = |from: usize| memchr::memchr(b' ', &line[from..]).map(|found| from + found);
    let stream = blank(0)? + 1;
    let stream_end = blank(stream)?;
    let tags = stream_end + 1;
    let tags_end = blank(tags).unwrap_or(line.len());
    let is_last = match line[tags..tags_end].split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let is_stream = matches!(&line[stream..stream_end], b"stdout" | b"stderr");
    // A line without content may end behind its tags.
    is_stream.then_some(Part { stream: stream..stream_end, content: (tags_end + 1).min(line.len()), is_last })
}

impl Decoder for Cri {
    fn name(&self) -> &'static str {
        "cri"
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        let invalid = |what: &str| CodecError::new("invalid_cri", what);
        let found =
            part(bytes).ok_or_else(|| invalid("the line does not begin with a time, stdout or stderr, and F or P"))?;
        let time = utf8(&bytes[..found.stream.start - 1], "invalid_cri")?;
        let time = DateTime::parse_from_rfc3339(time)
            .map_err(|_| invalid("the line does not begin with a time (RFC 3339)"))?;
        let mut fields = ObjectMap::from([
            (KeyString::from("timestamp"), Value::Timestamp(time.with_timezone(&Utc))),
            ("stream".into(), Value::Bytes(bytes.slice(found.stream))),
            ("message".into(), Value::Bytes(bytes.slice(found.content..))),
        ]);
        if !found.is_last {
            fields.insert("partial".into(), Value::Boolean(true));
        }
        Ok(Value::Object(fields))
    }

    fn framing(&self) -> Framing {
        Framing::Parts(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::as_json;

    fn read(line: &str) -> Result<serde_json::Value, String> {
        Cri.decode(&Bytes::from(line.to_owned())).map(as_json).map_err(|error| error.message)
    }

    #[test]
    fn lines_are_read_with_time_stream_and_message() {
        let whole =
            json!({"timestamp": "2016-10-06T00:17:09.669794202Z", "stream": "stdout", "message": "log content 1"});
        assert_eq!(read("2016-10-06T00:17:09.669794202Z stdout F log content 1").unwrap(), whole);
        let partial =
            json!({"timestamp": "2016-10-06T00:17:09Z", "stream": "stderr", "message": " a ", "partial": true});
        assert_eq!(read("2016-10-06T02:17:09+02:00 stderr P:x  a ").unwrap(), partial);
        assert_eq!(read("2016-10-06T00:17:09Z stdout F").unwrap()["message"], "");
        assert_eq!(read("2016-10-06T00:17:09Z stdout F ").unwrap()["message"], "");
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for line in
            ["", "a b", "2016-10-06T00:17:09Z stdin F x", "2016-10-06T00:17:09Z stdout X x", "yesterday stdout F x"]
        {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, tail in "(2016-10-06T00:17:09Z stdout )?[PF: ]{0,6}") {
            let _either = Cri.decode(&bytes.clone().into());
            let _either = Cri.decode(&[tail.into_bytes(), bytes].concat().into());
        }
    }
}
