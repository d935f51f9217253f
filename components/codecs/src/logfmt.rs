//! `logfmt`: `key=value` pairs, as many services write their logs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{ObjectMap, Value};
use weir::Result;
use weir::component::{DecodingConfig, EncodingConfig};
use weir::event::json::Numbers;
use weir::event::{CodecError, Decoder, Encoder};

use crate::text::{self, utf8};

/// Objects and lists inside one another that are written, at most.
const MAX_DEPTH: usize = 32;

/// `key=value` pairs separated by blanks. Events are objects of texts.
///
/// Quoted values may contain blanks and JSON escapes. A key without `=` is true. If a key repeats, the last value
/// counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogfmtDecoding {}

/// `key=value` pairs separated by blanks.
///
/// Nested fields are written with their path as key: `a.b=1`. Events with a key that cannot be written, such as one
/// with a blank, are rejected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogfmtEncoding {}

weir::register_decoding!("logfmt", LogfmtDecoding);
weir::register_encoding!("logfmt", LogfmtEncoding);

#[typetag::deserialize(name = "logfmt")]
impl DecodingConfig for LogfmtDecoding {
    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(Arc::new(Logfmt))
    }
}

#[typetag::deserialize(name = "logfmt")]
impl EncodingConfig for LogfmtEncoding {
    fn build(&self) -> Result<Arc<dyn Encoder>> {
        Ok(Arc::new(Logfmt))
    }
}

#[derive(Debug)]
struct Logfmt;

fn invalid(at: usize, what: &str) -> CodecError {
    CodecError::new("invalid_logfmt", format!("byte {at}: {what}"))
}

/// Where the bare word at `start` ends.
fn word_end(line: &[u8], start: usize, stop: impl Fn(u8) -> bool) -> usize {
    line[start..].iter().position(|byte| stop(*byte)).map_or(line.len(), |found| start + found)
}

impl Decoder for Logfmt {
    fn name(&self) -> &'static str {
        "logfmt"
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        let text = utf8(bytes, "invalid_logfmt")?;
        let mut fields = ObjectMap::new();
        let mut at = 0;
        loop {
            at = word_end(bytes, at, |byte| byte > b' ');
            if at == bytes.len() {
                return Ok(Value::Object(fields));
            }
            let end = word_end(bytes, at, |byte| byte <= b' ' || byte == b'=' || byte == b'"');
            let key = &text[at..end];
            if key.is_empty() {
                return Err(invalid(at, "a key is missing"));
            }
            let value = match bytes.get(end) {
                Some(b'"') => return Err(invalid(end, "a key holds a quote")),
                Some(b'=') if bytes.get(end + 1) == Some(&b'"') => {
                    let (value, behind) = quoted(bytes, end + 1)?;
                    at = behind;
                    if bytes.get(at).is_some_and(|byte| *byte > b' ') {
                        return Err(invalid(at, "something stands behind a closing quote"));
                    }
                    Value::Bytes(value)
                }
                Some(b'=') => {
                    at = word_end(bytes, end + 1, |byte| byte <= b' ' || byte == b'"');
                    if bytes.get(at) == Some(&b'"') {
                        return Err(invalid(at, "a quote stands within a value"));
                    }
                    Value::Bytes(bytes.slice(end + 1..at))
                }
                _ => {
                    at = end;
                    Value::Boolean(true)
                }
            };
            fields.insert(key.into(), value);
        }
    }
}

/// The value of the quoted text at `start`, and what is behind it.
fn quoted(line: &Bytes, start: usize) -> Result<(Bytes, usize), CodecError> {
    let mut end = start + 1;
    let mut is_escaped = false;
    loop {
        match memchr::memchr2(b'"', b'\\', &line[end.min(line.len())..]).map(|found| end + found) {
            None => return Err(invalid(start, "a quote is not closed")),
            Some(at) if line[at] == b'"' => {
                let inside = line.slice(start + 1..at);
                let value = if is_escaped { unescaped(line, start, at)? } else { inside };
                return Ok((value, at + 1));
            }
            Some(at) => (is_escaped, end) = (true, at + 2),
        }
    }
}

/// The quoted text from `start` to `end` without its escapes, which are those of JSON.
fn unescaped(line: &[u8], start: usize, end: usize) -> Result<Bytes, CodecError> {
    // JSON has no raw control characters in a text; here they are as good as any other.
    let text = utf8(&line[start..=end], "invalid_logfmt")?;
    let mut escaped = Cow::Borrowed(text);
    if text.bytes().any(|byte| byte < b' ') {
        let put = |c: char| if c < ' ' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        escaped = text.chars().map(put).collect::<String>().into();
    }
    let value: String =
        serde_json::from_str(&escaped).map_err(|_| invalid(start, "an escape in this text is invalid"))?;
    Ok(value.into())
}

impl Encoder for Logfmt {
    fn name(&self) -> &'static str {
        "logfmt"
    }

    fn encode(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_exact(value, &Numbers::default(), topic, out)
    }

    fn encode_exact(&self, value: &Value, numbers: &Numbers, _: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut pairs = Pairs { numbers, before: out.len(), way: String::new(), keys: None };
        let fields = text::object(value)?;
        let is_nested = |value: &Value| matches!(value, Value::Object(_) | Value::Array(_));
        if fields.values().any(is_nested) {
            pairs.keys = Some(HashSet::new());
        }
        for (name, value) in fields {
            pairs.put(name, value, out)?;
        }
        Ok(())
    }

    fn keeps(&self, decoder: &dyn Decoder) -> bool {
        decoder.name() == "logfmt"
    }
}

/// The pairs of an event that is being written.
struct Pairs<'a> {
    numbers: &'a Numbers,
    /// Where the record begins.
    before: usize,
    /// The key of the field at hand.
    way: String,
    /// The keys so far, where two fields may have one: `a.b` beside `b` within `a`.
    keys: Option<HashSet<String>>,
}

impl Pairs<'_> {
    fn put(&mut self, name: &str, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let length = self.way.len();
        if length > 0 {
            self.way.push('.');
        }
        self.way.push_str(name);
        match value {
            Value::Object(_) | Value::Array(_) if self.way.bytes().filter(|byte| *byte == b'.').count() > MAX_DEPTH => {
                let what = format!("objects within {MAX_DEPTH} others cannot be written");
                return Err(CodecError::new("too_deep", what));
            }
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    self.put(name, value, out)?;
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (at, value) in items.iter().enumerate() {
                    self.put(&at.to_string(), value, out)?;
                }
            }
            value => self.put_pair(value, out)?,
        }
        self.way.truncate(length);
        Ok(())
    }

    fn put_pair(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let way = &*self.way;
        let is_odd = |byte: u8| byte <= b' ' || byte == b'=' || byte == b'"';
        if way.is_empty() || way.bytes().any(is_odd) {
            return Err(CodecError::new("bad_key", format!("{way:?} cannot be a key of logfmt; rename the field")));
        }
        if let Some(keys) = &mut self.keys
            && !keys.insert(way.to_owned())
        {
            let what =
                format!("two fields have the key {way:?} in logfmt, where a nested field is its path; rename one");
            return Err(CodecError::new("bad_key", what));
        }
        if out.len() > self.before {
            out.push(b' ');
        }
        out.extend_from_slice(way.as_bytes());
        out.push(b'=');
        let text = match value {
            Value::Null => Bytes::from_static(b"null"),
            value => text::of(value, self.numbers)?,
        };
        if text.iter().any(|byte| *byte <= b' ' || matches!(byte, b'=' | b'"' | b'\\' | 0x7f)) {
            weir::event::json::write(&Value::Bytes(text), out)?;
        } else {
            out.extend_from_slice(&text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::as_json;

    fn read(line: &str) -> Result<serde_json::Value, String> {
        Logfmt.decode(&Bytes::from(line.to_owned())).map(as_json).map_err(|error| error.message)
    }

    #[test]
    fn pairs_flags_quotes_and_escapes_are_read() {
        assert_eq!(
            read("level=info msg=\"it \\\"works\\\"\\n\" dur=1.5s empty= debug  a=1 a=2 u=\"\\u00e9\" url=a=b")
                .unwrap(),
            json!({"level": "info", "msg": "it \"works\"\n", "dur": "1.5s", "empty": "", "debug": true, "a": "2", "u": "é", "url": "a=b"})
        );
        assert_eq!(read(" \t ").unwrap(), json!({}));
    }

    #[test]
    fn what_is_no_logfmt_says_where_and_why() {
        assert_eq!(read("a=1 =2").unwrap_err(), "byte 4: a key is missing");
        assert_eq!(read("a=\"x").unwrap_err(), "byte 2: a quote is not closed");
        assert_eq!(read("a=\"x\\").unwrap_err(), "byte 2: a quote is not closed");
        assert_eq!(read("a=\"x\"y").unwrap_err(), "byte 5: something stands behind a closing quote");
        assert_eq!(read("a=\"\\x\"").unwrap_err(), "byte 2: an escape in this text is invalid");
        assert_eq!(read("a\"b").unwrap_err(), "byte 1: a key holds a quote");
    }

    #[test]
    fn objects_are_written_by_their_ways() {
        let value = Value::from(json!({"a": {"b": 1, "c": [true, "x y"]}, "n": null, "e": "", "o": {}}));
        let mut out = b"before".to_vec();
        Logfmt.encode(&value, "", &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "beforea.b=1 a.c.0=true a.c.1=\"x y\" e= n=null o={}");
        let refused = Logfmt.encode(&Value::from(json!({"a b": 1})), "", &mut Vec::new()).unwrap_err();
        assert_eq!(refused.code, "bad_key");
        for twice in
            [json!({"a": {"b": 1}, "a.b": 2}), json!({"a": [1], "a.0": 2}), json!({"a": {"b.c": 1, "b": {"c": 2}}})]
        {
            let refused = Logfmt.encode(&Value::from(twice), "", &mut Vec::new()).unwrap_err();
            assert_eq!(refused.code, "bad_key");
            assert!(refused.message.starts_with("two fields have the key \"a."), "{refused}");
        }
        let mut numbers = Numbers::default();
        let doc = Bytes::from(r#"{"id":18446744073709551615,"x":[0.1000000000000000055]}"#);
        let exact = weir::event::json::parse_with(&doc, &mut numbers).unwrap();
        let mut out = Vec::new();
        Logfmt.encode_exact(&exact, &numbers, "", &mut out).unwrap();
        assert_eq!(out, b"id=18446744073709551615 x.0=0.1000000000000000055");
        let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
        assert_eq!(Logfmt.encode(&Value::from(deep), "", &mut Vec::new()).unwrap_err().code, "too_deep");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(fields in prop::collection::btree_map("[a-z.é]{1,6}", "\\PC{0,8}|[\"= \\\\\n\t\u{0}a]{0,6}", 0..5)) {
            let value: ObjectMap = fields.iter().map(|(key, text)| (key.as_str().into(), text.as_str().into())).collect();
            let mut out = Vec::new();
            Logfmt.encode(&Value::Object(value.clone()), "", &mut out).unwrap();
            prop_assert!(!out.contains(&b'\n'), "one line");
            prop_assert_eq!(Logfmt.decode(&out.into()).unwrap(), Value::Object(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'='), Just(b'\\'), Just(b' '), any::<u8>()], 0..40)) {
            let _either = Logfmt.decode(&bytes.into());
        }
    }
}
