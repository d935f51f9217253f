//! `influx`: InfluxDB's line protocol.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::Result;
use weir::component::{DecodingConfig, EncodingConfig};
use weir::event::{CodecError, Decoder, Encoder};

use crate::codec::{Format, PointCodec, absolute};
use crate::point::{Labels, Point};
use crate::scan::Scan;

/// InfluxDB line protocol: `cpu,host=a idle=98.5,user=1i 1700000000000000000`.
///
/// Each field is a point named `cpu_idle`; a field named `value` is named after the measurement alone. True is 1, false
/// is 0. Text fields are dropped if the line has other fields, and rejected otherwise. Values such as `NaN` are
/// rejected individually. A record of several lines becomes several events; comments and blank lines are skipped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfluxDecoding {
    /// Unit of timestamps.
    #[serde(default)]
    pub precision: Precision,
}

/// InfluxDB line protocol with the field `value`: `up,job=api value=1 1700000000000000000`.
///
/// Values that the protocol cannot express are rejected: `NaN`, infinities, newlines. Empty labels, and everything
/// about a point except its value, are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfluxEncoding {
    /// Unit of timestamps.
    #[serde(default)]
    pub precision: Precision,
}

/// Unit of timestamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
}

impl Precision {
    /// Its name in sentences.
    fn name(self) -> &'static str {
        match self {
            Precision::Nanoseconds => "nanoseconds",
            Precision::Microseconds => "microseconds",
            Precision::Milliseconds => "milliseconds",
            Precision::Seconds => "seconds",
        }
    }

    /// Nanoseconds of one.
    fn nanos(self) -> i128 {
        match self {
            Precision::Nanoseconds => 1,
            Precision::Microseconds => 1_000,
            Precision::Milliseconds => 1_000_000,
            Precision::Seconds => 1_000_000_000,
        }
    }
}

weir::register_decoding!("influx", InfluxDecoding);
weir::register_encoding!("influx", InfluxEncoding);

#[typetag::deserialize(name = "influx")]
impl DecodingConfig for InfluxDecoding {
    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(Arc::new(PointCodec(Influx(self.precision))))
    }
}

#[typetag::deserialize(name = "influx")]
impl EncodingConfig for InfluxEncoding {
    fn build(&self) -> Result<Arc<dyn Encoder>> {
        Ok(Arc::new(PointCodec(Influx(self.precision))))
    }
}

#[derive(Debug)]
struct Influx(Precision);

/// The field that adds nothing to the name of its measurement.
const VALUE: &str = "value";

/// A line taken apart; fields and time are as they stand.
struct Line<'a> {
    measurement: String,
    labels: Labels,
    /// Measurement and tags, as they stand.
    series: &'a str,
    fields: Vec<Field<'a>>,
    time: &'a str,
}

struct Field<'a> {
    name: String,
    /// Name and value, as they stand.
    whole: &'a str,
    value: &'a str,
}

impl Format for Influx {
    const NAME: &'static str = "influx";

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        let mut scan = Scan::new(record, "invalid_influx")?;
        let line = line(&mut scan)?;
        let [field] = &*line.fields else {
            return Err(scan.error("none of the line's fields is a number or boolean, and only these become points"));
        };
        let value = field_value(field.value).ok_or_else(|| scan.error(no_number(field)))?;
        let name = if field.name == VALUE { line.measurement } else { format!("{}_{}", line.measurement, field.name) };
        let timestamp = match line.time {
            "" => None,
            time => Some(self.time(time).ok_or_else(|| scan.error(self.no_timestamp(time)))?),
        };
        Ok(Point::new(name, line.labels, timestamp, value).into())
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        absolute(point, Self::NAME)?;
        let unsupported = |what: String| CodecError::new("unsupported_value", what);
        let value = point.value(Self::NAME)?;
        if !value.is_finite() {
            return Err(unsupported(format!("influx has no way to write the value {value}")));
        }
        put_word(&point.name, NAME, out)?;
        for (name, value) in point.labels.iter().filter(|(_, value)| !value.is_empty()) {
            out.push(b',');
            put_word(name, PART, out)?;
            out.push(b'=');
            put_word(value, PART, out)?;
        }
        let _ = write!(out, " {VALUE}={value}");
        if let Some(timestamp) = point.timestamp {
            let nanos =
                i128::from(timestamp.timestamp()) * 1_000_000_000 + i128::from(timestamp.timestamp_subsec_nanos());
            let count = i64::try_from(nanos.div_euclid(self.0.nanos())).map_err(|_| {
                let (unit, at) = (self.0.name(), timestamp.to_rfc3339());
                unsupported(format!(
                    "the timestamp {at} does not fit into 64 bits of {unit}, which is all that influx has; set a coarser \
                     `precision`, such as ms"
                ))
            })?;
            let _ = write!(out, " {count}");
        }
        Ok(())
    }

    fn split(&self, record: &Bytes) -> Option<Vec<Bytes>> {
        let split: Vec<Bytes> = lines(record).into_iter().flat_map(|line| by_field(&line)).collect();
        (split != [record.trim_ascii_end()]).then_some(split)
    }
}

/// The lines of a record, but for comments and blank ones. A newline within a quoted text is part of its line.
fn lines(record: &Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    let mut rest = &record[..];
    while !rest.is_empty() {
        let end = line_end(rest);
        let line = rest[..end].trim_ascii();
        if !line.is_empty() && !line.starts_with(b"#") {
            lines.push(record.slice_ref(&rest[..end]));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    lines
}

/// Where the first line ends. A quote opens behind the `=` of a field; if it is never closed, the line ends at its first
/// newline, so that it does not take the others with it.
fn line_end(text: &[u8]) -> usize {
    let first = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let start = text.len() - text.trim_ascii_start().len();
    if start > first || text[start..].starts_with(b"#") || !text[..first].contains(&b'"') {
        return first;
    }
    let (mut in_fields, mut is_quoted, mut before) = (false, false, 0);
    let mut at = start;
    while at < text.len() {
        match text[at] {
            b'\n' if !is_quoted => return at,
            // What is behind a backslash stands for itself; but a line ends all the same.
            b'\\' if is_quoted || text.get(at + 1) != Some(&b'\n') => at += 1,
            b'"' if is_quoted => is_quoted = false,
            b'"' => is_quoted = in_fields && before == b'=',
            b' ' => in_fields = true,
            _ => {}
        }
        before = text.get(at).copied().unwrap_or_default();
        at += 1;
    }
    if is_quoted { first } else { text.len() }
}

/// Why a field is no point, and what to do.
fn no_number(field: &Field<'_>) -> String {
    let (name, value) = (&field.name, field.value);
    let suffix = value.strip_suffix(['i', 'u']).filter(|digits| digits.parse::<f64>().is_ok());
    match suffix {
        Some(digits) => format!(
            "the field `{name}` is no number: `{value}` is no integer of 64 bits; write it as a float, `{digits}`"
        ),
        None if value.parse::<f64>().is_ok() => {
            format!("the field `{name}` is no number that influx has: `{value}` is not finite; leave the field out")
        }
        None => format!(
            "the field `{name}` is no number; write a number such as 1.5 or 2i, or true or false, and texts in quotes \
             beside one"
        ),
    }
}

impl Influx {
    fn no_timestamp(&self, text: &str) -> String {
        let unit = self.0.name();
        let is_whole = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
        match is_whole {
            true => format!(
                "`{text}` is no timestamp: so many {unit} do not fit into 64 bits, or lie beyond all dates; check \
                 that `precision` is the unit that the sender writes"
            ),
            false => format!("`{text}` is no timestamp: write a whole number of {unit} since 1970"),
        }
    }

    fn time(&self, text: &str) -> Option<DateTime<Utc>> {
        let nanos = i128::from(text.parse::<i64>().ok()?) * self.0.nanos();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
        DateTime::from_timestamp(seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?)
    }
}

/// A line for each field that is no text. What cannot be taken apart stays, and is rejected when a node looks, as is a field
/// that is no number.
fn by_field(record: &Bytes) -> Vec<Bytes> {
    let whole = vec![record.clone()];
    let Ok(mut scan) = Scan::new(record, "invalid_influx") else { return whole };
    let Ok(line) = line(&mut scan) else { return whole };
    if line.fields.len() == 1 {
        return whole;
    }
    let numbers = line.fields.iter().filter(|field| !field.value.starts_with('"'));
    let of = |field: &Field<'_>| {
        let time = if line.time.is_empty() { String::new() } else { format!(" {}", line.time) };
        Bytes::from(format!("{} {}{time}", line.series, field.whole))
    };
    let split: Vec<Bytes> = numbers.map(of).collect();
    if split.is_empty() { whole } else { split }
}

fn line<'a>(scan: &mut Scan<'a>) -> Result<Line<'a>, CodecError> {
    scan.skip_blanks();
    if scan.peek() == Some(b'#') {
        return Err(scan.error("a comment is no point"));
    }
    let start = scan.at;
    let measurement = word(scan, NAME);
    if measurement.is_empty() {
        return Err(scan.error("expected the name of a measurement"));
    }
    let mut labels = Labels::new();
    while scan.takes(b',') {
        let name = word(scan, PART);
        scan.needs(b'=')?;
        let value = word(scan, PART);
        if name.is_empty() || value.is_empty() || labels.insert(name, value).is_some() {
            return Err(scan.error("a tag has no name, no value, or a name that was there before"));
        }
    }
    let series = &scan.line[start..scan.at];
    scan.needs(b' ')?;
    scan.skip_blanks();
    let mut fields = Vec::new();
    loop {
        let start = scan.at;
        let name = word(scan, PART);
        scan.needs(b'=')?;
        let from = scan.at;
        if scan.peek() == Some(b'"') {
            let _text = scan.quoted(Scan::character)?;
        } else {
            scan.until(|byte| matches!(byte, b',' | b' '));
        }
        if name.is_empty() {
            return Err(scan.error("a field has no name"));
        }
        fields.push(Field { name, whole: &scan.line[start..scan.at], value: &scan.line[from..scan.at] });
        if !scan.takes(b',') {
            break;
        }
    }
    scan.skip_blanks();
    let time = scan.until(|byte| byte == b' ');
    scan.skip_blanks();
    if !scan.rest().is_empty() {
        return Err(scan.error("expected the end of the line"));
    }
    Ok(Line { measurement, labels, series, fields, time })
}

/// What ends a measurement, and what ends the parts of tags and the names of fields; a backslash in front undoes it.
const NAME: &[u8] = b", ";
const PART: &[u8] = b",= ";

/// A name or value, with its escapes undone.
fn word(scan: &mut Scan<'_>, ends: &[u8]) -> String {
    let mut word = String::new();
    loop {
        word.push_str(scan.until(|byte| byte == b'\\' || ends.contains(&byte)));
        if !scan.takes(b'\\') {
            return word;
        }
        match scan.peek() {
            Some(byte) if ends.contains(&byte) => {
                scan.at += 1;
                word.push(char::from(byte));
            }
            _ => word.push('\\'),
        }
    }
}

fn put_word(word: &str, escaped: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    if word.is_empty() || word.ends_with('\\') || word.contains(['\n', '\r']) || word.starts_with(['#', '\t', '\x0c']) {
        let why = "nothing, a newline, `#` or a tab in front, or a backslash at the end";
        let what = format!("influx has no way to write {word:?}: {why}");
        return Err(CodecError::new("unsupported_value", what));
    }
    for byte in word.bytes() {
        if escaped.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    Ok(())
}

/// The number that a field is; none: it is a text.
fn field_value(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
    if let Some(whole) = text.strip_suffix('i') {
        return whole.parse::<i64>().ok().map(|value| value as f64);
    } else if let Some(whole) = text.strip_suffix('u') {
        return whole.parse::<u64>().ok().map(|value| value as f64);
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{assert_reads_back, assert_refused, decoded, encoded, points};

    const NANOS: Influx = Influx(Precision::Nanoseconds);

    fn split(lines: &str) -> Vec<String> {
        let lines = Bytes::from(lines.to_owned());
        let text = |line: &Bytes| String::from_utf8(line.to_vec()).unwrap();
        NANOS.split(&lines).unwrap_or(vec![lines]).iter().map(text).collect()
    }

    #[test]
    fn lines_are_read_and_written() {
        assert_eq!(
            decoded(NANOS, r"my\ cpu,ho\=st=a\,b,path=C:\x idle=98.5 1700000000000000001"),
            json!({"name": "my cpu_idle", "labels": {"ho=st": "a,b", "path": "C:\\x"}, "timestamp": "2023-11-14T22:13:20.000000001Z", "value": 98.5})
        );
        let line = r"up,job=a\ b value=1 1700000000";
        assert_eq!(encoded(Influx(Precision::Seconds), decoded(Influx(Precision::Seconds), line)), line);
        for (field, value) in [("-3i", -3.0), ("7u", 7.0), ("t", 1.0), ("FALSE", 0.0), ("1e3", 1000.0)] {
            assert_eq!(decoded(NANOS, &format!("a value={field}")), json!({"name": "a", "labels": {}, "value": value}));
        }
    }

    #[test]
    fn each_field_with_a_number_is_a_point() {
        assert_eq!(
            split("cpu,host=a idle=1,user=2i,state=\"on, \\\"all\\\" day\" 17\n\n# no\nup value=1\n"),
            ["cpu,host=a idle=1 17", "cpu,host=a user=2i 17", "up value=1"]
        );
        assert_eq!(split("cpu idle=1"), ["cpu idle=1"]);
        assert_eq!(split("cpu state=\"on\""), ["cpu state=\"on\""]);
        assert_eq!(split("cpu a=1,b=2"), ["cpu a=1", "cpu b=2"]);
        assert_eq!(split("m a=1,b=\"x\" 5"), ["m a=1 5"], "one number is left");
        assert_eq!(split("m a=\"x\",b=\"y\""), ["m a=\"x\",b=\"y\""], "nothing but texts");
    }

    #[test]
    fn comments_and_blank_lines_are_nothing_and_a_bad_field_costs_no_other() {
        for nothing in ["# comment", " \t# c=\"", "", "  ", "\n", "#\n\n# x\n"] {
            assert_eq!(split(nothing), [""; 0], "{nothing:?}");
        }
        for (bad, parts) in [
            ("m v=1,w=NaN", ["m v=1", "m w=NaN"]),
            ("m w=inf,v=1i", ["m w=inf", "m v=1i"]),
            ("m w=99999999999999999999i,v=t", ["m w=99999999999999999999i", "m v=t"]),
            ("m w=,v=1 7", ["m w= 7", "m v=1 7"]),
        ] {
            assert_eq!(split(bad), parts);
            let read: Vec<bool> = parts.iter().map(|part| NANOS.read(&Bytes::from(*part)).is_ok()).collect();
            assert_eq!(read.iter().filter(|is_read| **is_read).count(), 1, "{bad}");
        }
    }

    #[test]
    fn a_newline_within_a_quoted_text_does_not_end_its_line() {
        assert_eq!(split("m s=\"a\nb=\\\"\n\",v=1\nup value=2"), ["m v=1", "up value=2"]);
        assert_eq!(split("m,t=\"x v=1\nup value=2"), ["m,t=\"x v=1", "up value=2"], "a quote in a tag is a letter");
        assert_eq!(split("m s=\"a\nup value=2"), ["m s=\"a", "up value=2"], "one that is never closed");
        assert_eq!(split("a\\\nup value=2"), ["a\\", "up value=2"], "a backslash at the end");
        let name = r"m\=a,t\=u=v\=w f\=g=1";
        assert_eq!(decoded(NANOS, name), json!({"name": "m\\=a_f=g", "labels": {"t=u": "v=w"}, "value": 1.0}));
    }

    #[test]
    fn what_is_no_line_says_where_and_why() {
        let wrong = [
            ("", "byte 0: expected the name of a measurement"),
            ("up", "byte 2: expected ` `"),
            ("up,job value=1", "byte 6: expected `=`"),
            ("up,job= value=1", "a tag has no name, no value"),
            ("up value=", "the field `value` is no number"),
            ("up value=NaN", "the field `value` is no number"),
            ("up state=\"on\"", "the field `state` is no number"),
            ("up value=\"on", "byte 9: a quote is not closed"),
            ("up value=1 soon", "`soon` is no timestamp"),
            ("up value=1 1 1", "byte 13: expected the end of the line"),
            ("up value=1 99999999999999999999", "so many nanoseconds do not fit into 64 bits"),
            ("up value=1 -9223372036854775809", "check that `precision` is the unit"),
            ("up value=99999999999999999999i", "write it as a float, `99999999999999999999`"),
            ("up value=inf", "`inf` is not finite"),
            ("# up", "byte 0: a comment is no point"),
        ];
        assert_refused(|| NANOS, "invalid_influx", &wrong);
    }

    #[test]
    fn a_timestamp_that_does_not_fit_is_refused_and_says_what_to_do() {
        let point =
            |seconds: i64| Point::new("up".to_owned(), Labels::new(), DateTime::from_timestamp(seconds, 0), 1.0);
        for (precision, seconds, fits) in [
            (Precision::Nanoseconds, 9_223_372_036, true),
            (Precision::Nanoseconds, 9_223_372_037, false),
            (Precision::Nanoseconds, -9_223_372_037, false),
            (Precision::Microseconds, 9_223_372_037, true),
            (Precision::Seconds, 8_000_000_000_000, true),
        ] {
            let mut out = Vec::new();
            match Influx(precision).write(&point(seconds), &mut out) {
                Ok(()) => assert!(fits, "{precision:?} {seconds}: {out:?}"),
                Err(error) => {
                    assert!(!fits && error.code == "unsupported_value", "{error}");
                    assert!(error.message.contains("set a coarser `precision`"), "{error}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(mut point in points()) {
            let mut out = Vec::new();
            if NANOS.write(&point, &mut out).is_ok() {
                prop_assert!(!out.contains(&b'\n') && !point.is_incremental && point.value("influx").is_ok_and(f64::is_finite));
                let split = NANOS.split(&out.clone().into());
                prop_assert_eq!(split, None);
                point.labels.retain(|_, value| !value.is_empty());
                assert_reads_back(&NANOS, out, &point);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(line in "[ #=,\"\\\\a-z0-9\n\\u{0}-\\u{ffff}]{0,40}") {
            let line = Bytes::from(line);
            let _either = NANOS.read(&line);
            let _split = NANOS.split(&line);
        }
    }
}
