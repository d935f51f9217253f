//! `vector_text`: the line that Vector's codec `text` writes for a metric.

use bytes::Bytes;
use chrono::DateTime;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::event::{CodecError, rfc3339};

use crate::codec::{Format, register};
use crate::point::{Labels, Point, number};
use crate::scan::Scan;

/// Vector's text form of counters and gauges: `2022-08-02T14:12:43Z up{job="api"} = 1`.
///
/// Events are points. Vector's sets, distributions, histograms and summaries are rejected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorTextDecoding {}

/// Vector's text form of counters and gauges: `2022-08-02T14:12:43Z up{job="api"} = 1`.
///
/// All `NaN` values are written alike, including stale markers. Native histograms are rejected; exemplars, metadata and
/// creation times are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorTextEncoding {}

register!(VectorText, "vector_text", VectorTextDecoding, VectorTextEncoding);

#[derive(Debug)]
struct VectorText;

impl Format for VectorText {
    const NAME: &'static str = "vector_text";

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        let mut scan = Scan::new(record, "invalid_vector_text")?;
        let timestamp = timestamp(&mut scan)?;
        let name = name(&mut scan)?;
        let labels = labels(&mut scan)?;
        scan.needs(b' ')?;
        let is_incremental = scan.takes(b'+');
        if !is_incremental {
            scan.needs(b'=')?;
        }
        scan.needs(b' ')?;
        let value = number(scan.rest()).ok_or_else(|| scan.error("expected one number: a counter or gauge"))?;
        Ok(Point { is_incremental, ..Point::new(name, labels, timestamp, value) }.into())
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        use std::io::Write;

        let value = point.value(Self::NAME)?;
        if let Some(timestamp) = point.timestamp {
            let _ = write!(out, "{} ", rfc3339(&timestamp)?);
        }
        put_word(&point.name, out);
        out.push(b'{');
        for (at, (name, value)) in point.labels.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            put_word(name, out);
            let _ = write!(out, "={value:?}");
        }
        let _ = write!(out, "}} {} {}", if point.is_incremental { '+' } else { '=' }, value);
        Ok(())
    }
}

/// The time in front of the name, where there is one: a name has no colon outside of quotes.
fn timestamp(scan: &mut Scan<'_>) -> Result<Option<DateTime<chrono::Utc>>, CodecError> {
    let word = scan.until(|byte| matches!(byte, b' ' | b'"' | b'{'));
    if scan.peek() != Some(b' ') {
        scan.at = 0;
        return Ok(None);
    }
    let time = DateTime::parse_from_rfc3339(word).map_err(|_| {
        scan.at = 0;
        scan.error("expected a time such as 2022-08-02T14:12:43Z, or a name and `{`")
    })?;
    scan.needs(b' ')?;
    Ok(Some(time.to_utc()))
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn put_word(word: &str, out: &mut Vec<u8>) {
    if word.chars().all(is_plain) {
        out.extend_from_slice(word.as_bytes());
    } else {
        out.extend_from_slice(format!("{word:?}").as_bytes());
    }
}

/// Words, bare or in quotes, as far as they go: a namespace stands in front of its `_`.
fn word(scan: &mut Scan<'_>) -> Result<String, CodecError> {
    let mut word = String::new();
    loop {
        match scan.peek() {
            Some(b'"') => word.push_str(&quoted(scan)?),
            Some(byte) if is_plain(char::from(byte)) => word.push_str(scan.until(|byte| !is_plain(char::from(byte)))),
            _ => return Ok(word),
        }
    }
}

fn name(scan: &mut Scan<'_>) -> Result<String, CodecError> {
    let name = word(scan)?;
    if name.is_empty() { Err(scan.error("expected the name of a metric")) } else { Ok(name) }
}

fn labels(scan: &mut Scan<'_>) -> Result<Labels, CodecError> {
    let mut labels = Labels::new();
    scan.needs(b'{')?;
    while !scan.takes(b'}') {
        if !labels.is_empty() {
            scan.needs(b',')?;
        }
        let name = word(scan)?;
        // A tag may stand there without a value.
        let value = if scan.takes(b'=') { quoted(scan)? } else { String::new() };
        if name.is_empty() || labels.insert(name, value).is_some() {
            return Err(scan.error("a tag has no name, or one that was there before"));
        }
    }
    Ok(labels)
}

/// A text as Rust's debug output writes it.
fn quoted(scan: &mut Scan<'_>) -> Result<String, CodecError> {
    scan.quoted(|scan| {
        Some(match scan.character()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'u' => {
                scan.needs(b'{').ok()?;
                let code = u32::from_str_radix(scan.until(|byte| byte == b'}'), 16).ok()?;
                scan.needs(b'}').ok()?;
                char::from_u32(code)?
            }
            character @ ('"' | '\'' | '\\') => character,
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{assert_reads_back, assert_refused, decoded, encoded, points};

    fn read(line: &str) -> serde_json::Value {
        decoded(VectorText, line)
    }

    #[test]
    fn lines_of_vector_are_read_and_written_byte_for_byte() {
        for line in [
            r#"2022-08-02T14:12:43Z ALERTS{alertname="TargetDown",alertstate="firing",instance="",severity="warning"} = 1"#,
            r#"2018-11-14T08:09:10.000000011Z "two word"{} + 2"#,
            r#"one{empty_tag="",normal_tag="value",true_tag="true"} = 1.23"#,
            r#"2022-08-02T14:12:43.120Z "node:cpu:rate5m"{path="C:\\a \"b\"\n\t\u{7f}"} = 0.010692756633701114"#,
            r#"2022-08-02T14:12:43.000001Z up{} = NaN"#,
            r#"2022-08-02T14:12:43Z up{"k8s.io/name"="x"} = -inf"#,
        ] {
            assert_eq!(encoded(VectorText, read(line)), line);
        }
        assert_eq!(
            read(r#"2022-08-02T14:12:43Z "vector host"_up{a,b="1"} + 2"#),
            json!({"name": "vector host_up", "labels": {"a": "", "b": "1"}, "timestamp": "2022-08-02T14:12:43Z", "value": 2.0, "kind": "incremental"})
        );
    }

    #[test]
    fn a_label_with_blanks_is_one_label() {
        let line = r#"2022-08-02T14:12:43Z ALERTS{alertname="DiskFull",alertstate="firing",summary="disk almost full",severity="critical"} = 1"#;
        let point = read(line);
        assert_eq!(point["labels"]["summary"], "disk almost full");
        assert_eq!(point["labels"]["severity"], "critical");
        assert_eq!(point["value"], 1.0);
    }

    #[test]
    fn what_is_no_such_line_says_where_and_why() {
        let wrong = [
            ("", "byte 0: expected the name of a metric"),
            ("up = 1", "byte 0: expected a time such as"),
            ("up{a=\"b} = 1", "byte 5: a quote is not closed"),
            ("up{a=\"\\x\"} = 1", "byte 6: this is no escape"),
            ("up{a=\"1\",a=\"2\"} = 1", "that was there before"),
            ("up{} ~ 1", "byte 5: expected `=`"),
            ("up{} = histogram 3@1 4@2", "byte 7: expected one number: a counter or gauge"),
            ("up{} = count=107 sum=103 53@51", "byte 7: expected one number: a counter or gauge"),
        ];
        assert_refused(|| VectorText, "invalid_vector_text", &wrong);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(point in points()) {
            let mut out = Vec::new();
            VectorText.write(&point, &mut out).unwrap();
            prop_assert!(!out.contains(&b'\n'), "one line");
            assert_reads_back(&VectorText, out, &point);
        }

        #[test]
        fn any_bytes_are_read_or_refused(line in "[ {}=+,\"\\\\a-z0-9:\\u{0}-\\u{ffff}]{0,40}") {
            let _either = VectorText.read(&line.into());
        }
    }
}
