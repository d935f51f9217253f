//! From a body to its events: pure.

use std::ops::Range;

use bytes::Bytes;
use weir::event::json::{self, JsonError};
use weir::event::{Codec, byte_order_mark};

use crate::options::Framing;

/// Events of one request, at most.
pub(crate) const MOST_EVENTS: usize = 1 << 18;

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// What it is not.
    #[error("{0}")]
    Bad(String),
    /// Too many events.
    #[error("the request holds more than {MOST_EVENTS} events; send fewer at once")]
    TooMany,
}

/// Divides the bodies of one source.
#[derive(Debug)]
pub(crate) struct Divider {
    pub framing: Framing,
    pub codec: Codec,
}

impl Divider {
    /// Bytes at the beginning of a body that are a byte order mark and no part of an event. A body that is one event may be
    /// no text and has none then.
    pub fn mark(&self, body: &[u8]) -> Result<usize, Refused> {
        match (self.framing, &self.codec) {
            (Framing::Bytes, Codec::Raw | Codec::Other(_)) => Ok(0),
            _ => byte_order_mark(body).map_err(|what| Refused::Bad(what.to_owned())),
        }
    }

    /// The places of the events in a body.
    pub fn divide(&self, body: &Bytes, content_type: Option<&str>) -> Result<Vec<Range<usize>>, Refused> {
        let is_json = matches!(self.codec, Codec::Json);
        match self.framing {
            Framing::Json => document(body),
            Framing::Auto if is_json && !means_lines(content_type) => document(body),
            Framing::Auto | Framing::NewlineDelimited => lines(body, &self.codec),
            Framing::Bytes if body.is_empty() => Ok(Vec::new()),
            Framing::Bytes => {
                if is_json {
                    json::check(body).map_err(|error| bad(body, 0, error))?;
                }
                Ok(std::iter::once(0..body.len()).collect())
            }
        }
    }
}

fn means_lines(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
    known.contains(&essence.as_str()) || essence == "text/plain"
}

/// Says in which line of the body it is; `start` is where the document begins.
fn bad(body: &[u8], start: usize, error: JsonError) -> Refused {
    let at = (start + error.offset).min(body.len());
    let line = memchr::memchr_iter(b'\n', &body[..at]).count() + 1;
    let column = at - memchr::memrchr(b'\n', &body[..at]).map_or(0, |newline| newline + 1) + 1;
    let mut text = format!("line {line}, byte {column}: {}; nothing of the request was taken", error.kind);
    if error.kind == json::JsonErrorKind::TrailingText {
        text += "; for a document a line send Content-Type: application/x-ndjson";
    }
    Refused::Bad(text)
}

fn lines(body: &[u8], codec: &Codec) -> Result<Vec<Range<usize>>, Refused> {
    let (is_json, has_blanks) = (matches!(codec, Codec::Json), codec.has_blank_records());
    let mut found = Vec::new();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    for end in ends {
        let line = start..end;
        start = end + 1;
        let text = body.get(line.clone()).unwrap_or_default();
        // The last line has no newline, and so no carriage return that belongs to one.
        let text = text.strip_suffix(b"\r").filter(|_| end < body.len()).unwrap_or(text);
        if text.is_empty() || !has_blanks && text.trim_ascii().is_empty() {
            continue;
        }
        if is_json {
            json::check(text).map_err(|error| bad(body, line.start, error))?;
        }
        if found.len() == MOST_EVENTS {
            return Err(Refused::TooMany);
        }
        found.push(line.start..line.start + text.len());
    }
    Ok(found)
}

/// One document, or the elements of an array.
fn document(body: &[u8]) -> Result<Vec<Range<usize>>, Refused> {
    json::check(body).map_err(|error| bad(body, 0, error))?;
    let start = body.len() - body.trim_ascii_start().len();
    match body.get(start) {
        Some(b'[') => elements(body, start + 1),
        _ => Ok(std::iter::once(start..start + body.trim_ascii().len()).collect()),
    }
}

/// The elements of an array that begins before `start`, in a body that is known to be one JSON document.
fn elements(body: &[u8], start: usize) -> Result<Vec<Range<usize>>, Refused> {
    let mut found = Vec::new();
    let (mut depth, mut first, mut at) = (0_usize, start, start);
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => at = behind_string(body, at + 1),
            b'[' | b'{' => depth += 1,
            b',' | b']' | b'}' if depth == 0 => {
                let element = &body[first..at];
                let skipped = element.len() - element.trim_ascii_start().len();
                let length = element.trim_ascii().len();
                if length > 0 {
                    if found.len() == MOST_EVENTS {
                        return Err(Refused::TooMany);
                    }
                    found.push(first + skipped..first + skipped + length);
                }
                if byte == b']' {
                    return Ok(found);
                }
                first = at + 1;
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Ok(found)
}

/// Where the string ends that begins at `at`: the place of its closing quote.
fn behind_string(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if body[at] == b'"' {
            return at;
        }
        at += 2;
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(framing: Framing, codec: Codec, content_type: &str, body: &str) -> Result<Vec<String>, String> {
        let ranges = Divider { framing, codec }.divide(&Bytes::from(body.to_owned()), Some(content_type));
        ranges
            .map(|ranges| ranges.into_iter().map(|range| body[range].to_owned()).collect())
            .map_err(|refused| refused.to_string())
    }

    fn json(content_type: &str, body: &str) -> Result<Vec<String>, String> {
        divided(Framing::Auto, Codec::Json, content_type, body)
    }

    #[test]
    fn a_document_an_array_and_lines_are_told_by_the_content_type() {
        let of = |all: &[&str]| Ok(all.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(json("application/json", " {\"a\": [1, 2]}\n"), of(&["{\"a\": [1, 2]}"]));
        assert_eq!(json("", "7"), of(&["7"]));
        let array = r#" [ {"a":"],[\"\\"} , [1,{"b":[]}],"x,y" ,-1.5e3,null ] "#;
        assert_eq!(
            json("application/json", array),
            of(&[r#"{"a":"],[\"\\"}"#, r#"[1,{"b":[]}]"#, "\"x,y\"", "-1.5e3", "null"])
        );
        assert_eq!(json("application/json", "[]"), of(&[]));
        let lines = "{\"a\":1}\r\n\n[1,2]\n";
        assert_eq!(json("Application/X-NDJSON; charset=utf-8", lines), of(&["{\"a\":1}", "[1,2]"]));
        assert_eq!(divided(Framing::Auto, Codec::Text, "application/json", "a b\nc"), of(&["a b", "c"]));
        assert_eq!(divided(Framing::Bytes, Codec::Raw, "", "a b\nc"), of(&["a b\nc"]));
        assert_eq!(divided(Framing::NewlineDelimited, Codec::Json, "", "1\n2"), of(&["1", "2"]));
        let blanks = "1\n \n\n2\r\n\t\r";
        assert_eq!(divided(Framing::NewlineDelimited, Codec::Json, "", blanks), of(&["1", "2"]));
        assert_eq!(divided(Framing::NewlineDelimited, Codec::Text, "", blanks), of(&["1", " ", "2", "\t\r"]));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_event_and_utf_16_is_refused() {
        let mark = |framing, codec, body: &[u8]| Divider { framing, codec }.mark(body);
        for (framing, codec) in
            [(Framing::Auto, Codec::Json), (Framing::Auto, Codec::Raw), (Framing::NewlineDelimited, Codec::Text)]
        {
            assert_eq!(mark(framing, codec.clone(), b"\xef\xbb\xbf{}"), Ok(3));
            assert_eq!(mark(framing, codec.clone(), b"{}"), Ok(0));
            let refused = mark(framing, codec, b"\xff\xfe{\0}\0").unwrap_err().to_string();
            assert!(refused.contains("UTF-16; convert it to UTF-8"), "{refused}");
        }
        assert_eq!(mark(Framing::Bytes, Codec::Raw, b"\xef\xbb\xbf\xff"), Ok(0), "any bytes");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let lines = json("application/x-ndjson", "{\"a\":1}\n\n{\"a\":}\n{}").unwrap_err();
        assert!(lines.starts_with("line 3, byte 6: expected a value; nothing"), "{lines}");
        let several = json("application/json", "{}\n{}").unwrap_err();
        assert!(several.contains("line 2") && several.contains("application/x-ndjson"), "{several}");
        assert!(json("", "").unwrap_err().contains("the document is empty"));
        assert!(json("text/plain", &"1\n".repeat(MOST_EVENTS + 1)).unwrap_err().contains("send fewer"));
        assert!(json("", &format!("[{}1]", "1,".repeat(MOST_EVENTS))).unwrap_err().contains("send fewer"));
    }
}
