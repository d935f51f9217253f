//! `exposition`: the text format of Prometheus (exposition format 0.0.4, with quoted names as in Prometheus 3).

use std::io::Write;

use bytes::Bytes;
use chrono::DateTime;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{ObjectMap, Value};
use weir::event::{CodecError, Layout};

use crate::codec::{Format, absolute, lines, number_text, register};
use crate::point::{Labels, Measured, Metadata, Point, number, text};
use crate::scan::{Scan, prometheus_escape};

/// Prometheus text format: `up{job="api"} 1 1700000000000`, timestamps in milliseconds.
///
/// Each sample is a point. `# TYPE`, `# HELP` and `# UNIT` are events `{name, type}`, `{name, help}` and `{name,
/// unit}`; other comments are events with `.message`. A record of several lines becomes several events. OpenMetrics
/// extensions, such as exemplars, are rejected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpositionDecoding {}

/// Prometheus text format: `up{job="api"} 1 1700000000000`, timestamps in milliseconds.
///
/// Events with `type`, `help` or `unit` and no value become `# TYPE`, `# HELP` and `# UNIT`. A stale marker is written
/// as `NaN`. Native histograms are rejected; exemplars, creation times, and metadata beside a value are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpositionEncoding {}

register!(Exposition, "exposition", ExpositionDecoding, ExpositionEncoding);

#[derive(Debug)]
struct Exposition;

/// What a comment says of a metric, and the field that nodes see.
const SAID: [(&str, &str); 3] = [("# HELP ", "help"), ("# TYPE ", "type"), ("# UNIT ", "unit")];

impl Format for Exposition {
    const NAME: &'static str = "exposition";
    /// Type, help and unit of a metric are a line each.
    const LAYOUT: Layout = Layout::Lines;

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        let mut scan = Scan::new(record, "invalid_exposition")?;
        scan.skip_blanks();
        if matches!(scan.peek(), None | Some(b'#')) {
            return comment(&mut scan);
        }
        let (name, labels) = series(&mut scan)?;
        scan.skip_blanks();
        let word = scan.until(|byte| matches!(byte, b' ' | b'\t'));
        let value = number(word).ok_or_else(|| scan.error(format_args!("`{word}` is no number")))?;
        scan.skip_blanks();
        let millis = scan.until(|byte| matches!(byte, b' ' | b'\t'));
        let timestamp = match millis {
            "" => None,
            millis => {
                let at = millis.parse().ok().and_then(DateTime::from_timestamp_millis);
                Some(at.ok_or_else(|| scan.error(format_args!("`{millis}` is no timestamp in milliseconds")))?)
            }
        };
        scan.skip_blanks();
        if !scan.rest().is_empty() {
            return Err(scan.error("expected the end of the line"));
        }
        Ok(Point::new(name, labels, timestamp, value).into())
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        absolute(point, Self::NAME)?;
        if point.measured == Measured::Nothing && !point.metadata.is_empty() && point.exemplars.is_empty() {
            let all = [&point.metadata.help, &point.metadata.kind, &point.metadata.unit];
            if all.iter().any(|said| said.contains('\r')) {
                // The reader takes one at the end of a line for a part of the line's end.
                let what = "exposition has no escape for a carriage return in help, type or unit; replace it before";
                return Err(CodecError::new("unsupported_value", what));
            }
            put_metadata(&point.name, &point.metadata, out);
            return Ok(());
        }
        let value = point.value(Self::NAME)?;
        put_series(&point.name, &point.labels, out);
        let _ = write!(out, " {}", number_text(value));
        if let Some(timestamp) = point.timestamp {
            let _ = write!(out, " {}", timestamp.timestamp_millis());
        }
        Ok(())
    }

    fn write_other(&self, value: &Value, out: &mut Vec<u8>) -> bool {
        let text = |name: &str| text(value.as_object()?.get(name)?);
        for (comment, field) in SAID {
            if let (Some(name), Some(said)) = (text("name"), text(field))
                && !said.contains('\r')
            {
                put_comment(comment, &name, &said, out);
                return true;
            }
        }
        let comment = text("message").filter(|text| text.starts_with('#') && !text.contains(['\n', '\r']));
        comment.map(|comment| out.extend_from_slice(comment.as_bytes())).is_some()
    }

    fn split(&self, record: &Bytes) -> Option<Vec<Bytes>> {
        lines(record)
    }
}

/// A metric's name and its labels.
pub(crate) fn put_series(name: &str, labels: &Labels, out: &mut Vec<u8>) {
    let is_plain = is_metric(name);
    if is_plain {
        out.extend_from_slice(name.as_bytes());
    }
    if !is_plain || !labels.is_empty() {
        out.push(b'{');
        if !is_plain {
            put_quoted(name, out);
        }
        for (at, (name, value)) in labels.iter().enumerate() {
            if at > 0 || !is_plain {
                out.push(b',');
            }
            if is_label(name) {
                out.extend_from_slice(name.as_bytes())
            } else {
                put_quoted(name, out)
            }
            out.push(b'=');
            put_quoted(value, out);
        }
        out.push(b'}');
    }
}

/// A line for each thing that is known of a metric.
pub(crate) fn put_metadata(name: &str, metadata: &Metadata, out: &mut Vec<u8>) {
    let begin = out.len();
    for ((comment, _), said) in SAID.iter().zip([&metadata.help, &metadata.kind, &metadata.unit]) {
        if !said.is_empty() {
            if out.len() > begin {
                out.push(b'\n');
            }
            put_comment(comment, name, said, out);
        }
    }
}

fn put_comment(comment: &str, name: &str, said: &str, out: &mut Vec<u8>) {
    let said = said.replace('\\', "\\\\").replace('\n', "\\n");
    out.extend_from_slice(comment.as_bytes());
    if is_metric(name) {
        out.extend_from_slice(name.as_bytes())
    } else {
        put_quoted(name, out)
    }
    let _ = write!(out, " {said}");
}

fn is_metric(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

fn is_label(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, may_be: impl Fn(u8) -> bool) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || may_be(byte);
    name.bytes().all(is_word) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn put_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', if rest[at] == b'\n' { b'n' } else { rest[at] }]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The name of a metric, its labels, or both; a name in quotes stands among the labels.
fn series(scan: &mut Scan<'_>) -> Result<(String, Labels), CodecError> {
    let mut name = scan.until(|byte| matches!(byte, b'{' | b' ' | b'\t')).to_owned();
    let mut labels = Labels::new();
    if !name.is_empty() && !is_metric(&name) {
        scan.at -= name.len();
        return Err(scan.error("expected the name of a metric; one with other characters stands in quotes: {\"a.b\"}"));
    }
    scan.skip_blanks();
    if !scan.takes(b'{') {
        return Ok((name, labels));
    }
    loop {
        scan.skip_blanks();
        if scan.takes(b'}') {
            break;
        }
        let is_quoted = scan.peek() == Some(b'"');
        let label = match is_quoted {
            true => scan.quoted(prometheus_escape)?,
            false => scan.until(|byte| matches!(byte, b'=' | b' ' | b'\t' | b'}' | b',')).to_owned(),
        };
        scan.skip_blanks();
        if is_quoted && name.is_empty() && scan.peek() != Some(b'=') {
            name = label;
        } else {
            scan.needs(b'=')?;
            scan.skip_blanks();
            let value = scan.quoted(prometheus_escape)?;
            if label.is_empty() || !(is_quoted || is_label(&label)) {
                return Err(scan.error(format_args!("`{label}` is no name of a label")));
            }
            if labels.insert(label, value).is_some() {
                return Err(scan.error("a label stands there twice"));
            }
        }
        scan.skip_blanks();
        if !scan.takes(b',') && scan.peek() != Some(b'}') {
            return Err(scan.error("expected `,` or `}`"));
        }
    }
    if name.is_empty() { Err(scan.error("the metric has no name")) } else { Ok((name, labels)) }
}

fn comment(scan: &mut Scan<'_>) -> Result<Value, CodecError> {
    let whole = scan.rest();
    for (comment, field) in SAID {
        if whole.starts_with(comment) {
            scan.at += comment.len();
            let name = match scan.peek() {
                Some(b'"') => scan.quoted(prometheus_escape)?,
                _ => scan.until(|byte| byte == b' ').to_owned(),
            };
            let said = scan.rest().strip_prefix(' ').unwrap_or_default();
            let said = said.replace("\\n", "\n").replace("\\\\", "\\");
            return Ok(Value::Object(ObjectMap::from([("name".into(), name.into()), (field.into(), said.into())])));
        }
    }
    Ok(Value::Object(ObjectMap::from([("message".into(), whole.into())])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{assert_reads_back, assert_refused, decoded, encoded, points};

    #[test]
    fn samples_and_comments_are_read_and_written() {
        for line in [
            r#"up 1"#,
            r#"http_requests_total{code="200",method="post"} 1027 1395066363000"#,
            r#"msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"",path="C:\\DIR"} 1458255915"#,
            r#"something_weird{problem="division by zero"} +Inf -3982045"#,
            r#"rpc_duration_seconds{quantile="0.5"} NaN"#,
            r#"{"my.metric","a.b"="c"} 0.00000000000000000001"#,
            "# TYPE up gauge",
            "# UNIT up seconds",
            r"# HELP up The \\ of\nit.",
            "# anything else",
        ] {
            assert_eq!(encoded(Exposition, decoded(Exposition, line)), line);
        }
        assert_eq!(
            decoded(Exposition, " up { a = \"b\" , } \t 1e3\t1000 \r\n"),
            json!({"name": "up", "labels": {"a": "b"}, "timestamp": "1970-01-01T00:00:01Z", "value": 1000.0})
        );
        assert_eq!(decoded(Exposition, "# TYPE up gauge"), json!({"name": "up", "type": "gauge"}));
    }

    #[test]
    fn a_record_of_several_lines_is_several_events() {
        let text = Bytes::from("# HELP up It is.\n# TYPE up gauge\n\nup{a=\"1\"} 1\r\nup{a=\"2\"} 0\n");
        let all = Exposition.split(&text).unwrap();
        assert_eq!(all, ["# HELP up It is.", "# TYPE up gauge", "up{a=\"1\"} 1\r", "up{a=\"2\"} 0"]);
        assert_eq!(Exposition.split(&Bytes::from("up 1\n")), None);
    }

    #[test]
    fn what_is_no_sample_says_where_and_why() {
        let wrong = [
            ("up", "byte 2: `` is no number"),
            ("up one", "byte 6: `one` is no number"),
            ("a.b 1", "byte 0: expected the name of a metric"),
            ("{a=\"b\"} 1", "the metric has no name"),
            ("up{a=\"b} 1", "byte 5: a quote is not closed"),
            ("up{a=\"\\t\"} 1", "byte 6: this is no escape"),
            ("up{a=\"1\",a=\"2\"} 1", "a label stands there twice"),
            ("up{a=\"1\" b=\"2\"} 1", "byte 9: expected `,` or `}`"),
            ("up{1a=\"1\"} 1", "`1a` is no name of a label"),
            ("up 1 1.5", "`1.5` is no timestamp"),
            ("up 1 1 # {trace_id=\"a\"} 1", "byte 7: expected the end of the line"),
        ];
        assert_refused(|| Exposition, "invalid_exposition", &wrong);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(point in points()) {
            let mut out = Vec::new();
            match Exposition.write(&point, &mut out) {
                Err(error) => prop_assert!(point.is_incremental, "{error}"),
                Ok(()) => {
                    prop_assert!(!out.contains(&b'\n'), "one line");
                    assert_reads_back(&Exposition, out, &point);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(line in "[ #{}=,\"\\\\a-z0-9:.\\u{0}-\\u{ffff}]{0,40}") {
            let _either = Exposition.read(&line.into());
        }
    }
}
