//! `syslog`: messages of RFC 5424 and RFC 3164.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{KeyString, ObjectMap, Value};
use weir::Result;
use weir::component::{DecodingConfig, EncodingConfig};
use weir::event::json::Numbers;
use weir::event::{CodecError, Decoder, Encoder, rfc3339};

use crate::text::{self, utf8};

/// Syslog messages (RFC 5424 and RFC 3164). Fields, as far as present: `facility`, `severity`, `timestamp`, `hostname`,
/// `appname`, `procid`, `msgid`, `structured_data` and `message`.
///
/// Timestamps of RFC 3164 have no year and no time zone and stay texts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogDecoding {}

/// Syslog messages (RFC 5424), from the fields that the decoding produces.
///
/// All fields except `message` are optional; `facility` defaults to `user` and `severity` to `info`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogEncoding {}

weir::register_decoding!("syslog", SyslogDecoding);
weir::register_encoding!("syslog", SyslogEncoding);

#[typetag::deserialize(name = "syslog")]
impl DecodingConfig for SyslogDecoding {
    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(Arc::new(Syslog))
    }
}

#[typetag::deserialize(name = "syslog")]
impl EncodingConfig for SyslogEncoding {
    fn build(&self) -> Result<Arc<dyn Encoder>> {
        Ok(Arc::new(Syslog))
    }
}

/// RFC 5424, table 1; the names are those of `syslog.h`.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
/// RFC 5424, table 2.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
/// Other words for severities.
const ALSO: [(&str, usize); 8] = [
    ("emergency", 0),
    ("critical", 2),
    ("fatal", 2),
    ("error", 3),
    ("warn", 4),
    ("information", 6),
    ("informational", 6),
    ("trace", 7),
];
/// Header fields in order, with their longest length (RFC 5424, 6).
const HEADER: [(&str, usize); 4] = [("hostname", 255), ("appname", 48), ("procid", 128), ("msgid", 32)];

const BYTE_ORDER_MARK: &str = "\u{feff}";

#[derive(Debug)]
struct Syslog;

/// A message that is being read.
struct Reader<'a> {
    bytes: &'a Bytes,
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn invalid<T>(&self, what: &str) -> Result<T, CodecError> {
        Err(CodecError::new("invalid_syslog", format!("byte {}: {what}", self.at)))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        self.at += if is_there { token.len() } else { 0 };
        is_there
    }

    /// What is left up to a character, or all of it.
    fn until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(stop).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn value(&self, text: &str) -> Value {
        Value::Bytes(self.bytes.slice_ref(text.as_bytes()))
    }

    /// `<34>`: facility and severity.
    fn priority(&mut self, fields: &mut ObjectMap) -> Result<(), CodecError> {
        let digits = if self.skip("<") { self.until(|c| !c.is_ascii_digit()) } else { "" };
        let priority: Option<usize> = digits.parse().ok().filter(|priority| digits.len() <= 3 && *priority <= 191);
        let Some(priority) = priority.filter(|_| self.skip(">")) else {
            return self.invalid("a message begins with its priority, such as <34>");
        };
        fields.insert("facility".into(), FACILITIES[priority / 8].into());
        fields.insert("severity".into(), SEVERITIES[priority % 8].into());
        Ok(())
    }

    /// RFC 5424 behind `<34>1 `.
    fn modern(&mut self, fields: &mut ObjectMap) -> Result<(), CodecError> {
        let time = self.until(|c| c == ' ');
        if time != "-" {
            let Ok(time) = DateTime::parse_from_rfc3339(time) else {
                return self.invalid("the time is none of RFC 3339");
            };
            fields.insert("timestamp".into(), Value::Timestamp(time.with_timezone(&Utc)));
        }
        for (name, _) in HEADER {
            if !self.skip(" ") {
                return self.invalid("the header breaks off");
            }
            match self.until(|c| c == ' ') {
                "" => return self.invalid("a field of the header is empty"),
                "-" => {}
                text => drop(fields.insert(name.into(), self.value(text))),
            }
        }
        if !self.skip(" ") {
            return self.invalid("the header breaks off");
        }
        if !self.skip("-") {
            let data = self.structured_data()?;
            fields.insert("structured_data".into(), Value::Object(data));
        }
        if self.at < self.text.len() && !self.skip(" ") {
            return self.invalid("a blank is due before the message");
        }
        self.skip(BYTE_ORDER_MARK);
        Ok(())
    }

    /// `[id name="value"][...]`
    fn structured_data(&mut self) -> Result<ObjectMap, CodecError> {
        let mut data = ObjectMap::new();
        while self.skip("[") {
            let is_end = |c| matches!(c, ' ' | ']' | '=' | '"');
            let id = KeyString::from(self.until(is_end));
            if id.is_empty() {
                return self.invalid("structured data has no name");
            }
            let mut element = ObjectMap::new();
            while self.skip(" ") {
                let name = self.until(is_end);
                if name.is_empty() || !self.skip("=\"") {
                    return self.invalid("a name with =\" is due in structured data");
                }
                let mut value = String::new();
                loop {
                    value.push_str(self.until(|c| matches!(c, '"' | '\\')));
                    if self.skip("\"") {
                        break;
                    }
                    if self.at == self.text.len() {
                        return self.invalid("a value of structured data has no end");
                    }
                    // Behind a backslash these three stand for themselves; otherwise it is a backslash.
                    self.skip("\\");
                    match self.rest().chars().next() {
                        Some(c @ ('"' | '\\' | ']')) => {
                            value.push(c);
                            self.at += 1;
                        }
                        _ => value.push('\\'),
                    }
                }
                add_parameter(&mut element, name, value.into());
            }
            if !self.skip("]") {
                return self.invalid("structured data has no end");
            }
            if data.contains_key(&id) {
                return self.invalid(&format!("structured data [{id}] is there twice"));
            }
            data.insert(id, Value::Object(element));
        }
        if data.is_empty() { self.invalid("structured data or - is due") } else { Ok(data) }
    }

    /// RFC 3164 behind `<34>`: a message is what it can be read as, and its whole text otherwise.
    fn classic(&mut self, fields: &mut ObjectMap) {
        let rest = self.rest();
        let (time, length) = match rest.get(..15) {
            Some(time) if NaiveDateTime::parse_from_str(&format!("2000 {time}"), "%Y %b %e %H:%M:%S").is_ok() => {
                (self.value(time), 15)
            }
            _ => {
                let word = rest.split(' ').next().unwrap_or_default();
                let Ok(time) = DateTime::parse_from_rfc3339(word) else { return };
                (Value::Timestamp(time.with_timezone(&Utc)), word.len())
            }
        };
        if rest.as_bytes().get(length) != Some(&b' ') {
            return;
        }
        fields.insert("timestamp".into(), time);
        self.at += length + 1;
        let start = self.at;
        let host = self.until(|c| c == ' ');
        // `su: text` without a host, as a process on this host writes it.
        if host.ends_with(':') || host.is_empty() || !self.skip(" ") {
            self.at = start;
        } else {
            fields.insert("hostname".into(), self.value(host));
        }
        let start = self.at;
        let tag = self.until(|c| matches!(c, ':' | '[' | ' '));
        let mut pid = None;
        if self.skip("[") {
            pid = Some(self.until(|c| c == ']')).filter(|_| self.skip("]"));
        }
        if tag.is_empty() || !self.skip(":") {
            self.at = start;
            return;
        }
        fields.insert("appname".into(), self.value(tag));
        if let Some(pid) = pid {
            fields.insert("procid".into(), self.value(pid));
        }
        self.skip(" ");
    }
}

/// Adds a parameter of structured data. One that repeats (RFC 5424, 6.3.3) is a list of all its values.
fn add_parameter(element: &mut ObjectMap, name: &str, value: Value) {
    match element.get_mut(name) {
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![std::mem::replace(first, Value::Null), value]),
        None => drop(element.insert(name.into(), value)),
    }
}

impl Decoder for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        let mut reader = Reader { bytes, text: utf8(bytes, "invalid_syslog")?, at: 0 };
        let mut fields = ObjectMap::new();
        reader.priority(&mut fields)?;
        if reader.skip("1 ") {
            reader.modern(&mut fields)?;
        } else {
            reader.classic(&mut fields);
        }
        fields.insert("message".into(), reader.value(reader.rest()));
        Ok(Value::Object(fields))
    }
}

fn refused<T>(what: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError::new("no_syslog", what))
}

/// A facility or severity by its name or number.
fn code(
    fields: &ObjectMap,
    name: &str,
    names: &[&str],
    also: &[(&str, usize)],
    default: usize,
) -> Result<usize, CodecError> {
    let found = match fields.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(Value::Integer(number)) => usize::try_from(*number).ok().filter(|number| *number < names.len()),
        Some(value) => value.to_str().and_then(|text| {
            let text = text.to_lowercase();
            let other = also.iter().find(|(word, _)| *word == text).map(|(_, number)| *number);
            names.iter().position(|name| *name == text).or(other)
        }),
    };
    found.map_or_else(|| refused(format!("`{name}` is none; the names are {}", names.join(", "))), Ok)
}

impl Encoder for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn encode(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_exact(value, &Numbers::default(), topic, out)
    }

    fn encode_exact(&self, value: &Value, numbers: &Numbers, _: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let fields = text::object(value)?;
        let facility = code(fields, "facility", &FACILITIES, &[], 1)?;
        let severity = code(fields, "severity", &SEVERITIES, &ALSO, 6)?;
        out.extend_from_slice(format!("<{}>1 ", facility * 8 + severity).as_bytes());
        let time = match fields.get("timestamp") {
            None | Some(Value::Null) => None,
            Some(Value::Timestamp(time)) => Some(*time),
            Some(value) => match value.to_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()) {
                Some(time) => Some(time.with_timezone(&Utc)),
                None => return refused("`timestamp` is no time; parse it before"),
            },
        };
        time.as_ref().map(rfc3339).transpose()?;
        // No more than microseconds are allowed.
        let time = time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true));
        out.extend_from_slice(time.as_deref().unwrap_or("-").as_bytes());
        for (name, longest) in HEADER {
            out.push(b' ');
            let text = fields.get(name).map_or(Ok(Bytes::new()), |value| text::of(value, numbers))?;
            if text.len() > longest || !text.iter().all(u8::is_ascii_graphic) {
                return refused(format!(
                    "`{name}` must be at most {longest} printable ASCII characters without blanks"
                ));
            }
            out.extend_from_slice(if text.is_empty() { b"-" } else { &text });
        }
        out.push(b' ');
        match fields.get("structured_data") {
            Some(Value::Object(data)) if !data.is_empty() => {
                for (id, element) in data {
                    put_element(id, element, numbers, out)?;
                }
            }
            None | Some(Value::Null | Value::Object(_)) => out.push(b'-'),
            Some(_) => return refused("`structured_data` is no object"),
        }
        let Some(message) = fields.get("message").filter(|message| !message.is_null()) else {
            let what =
                "the event has no field message, and a syslog message without one says nothing; set .message before";
            return Err(CodecError::new("no_message", what));
        };
        let message = text::of(message, numbers)?;
        if !message.is_empty() {
            out.push(b' ');
            // The first byte order mark is no part of the message (RFC 5424, 6.4), so one of its own needs another.
            if message.starts_with(BYTE_ORDER_MARK.as_bytes()) {
                out.extend_from_slice(BYTE_ORDER_MARK.as_bytes());
            }
            out.extend_from_slice(&message);
        }
        Ok(())
    }
}

fn put_element(id: &str, element: &Value, numbers: &Numbers, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let is_name = |name: &str| {
        (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'=' | b']' | b'"'))
    };
    let Some(params) = element.as_object().filter(|_| is_name(id)) else {
        return refused(format!("structured data {id:?} is no object with a name of 1 to 32 printable characters"));
    };
    out.push(b'[');
    out.extend_from_slice(id.as_bytes());
    for (name, value) in params {
        if !is_name(name) {
            return refused(format!("{:?} cannot be a name in structured data", name.as_str()));
        }
        let values = match value {
            Value::Array(values) => &values[..],
            one => std::slice::from_ref(one),
        };
        for value in values {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            for byte in text::of(value, numbers)? {
                if matches!(byte, b'"' | b'\\' | b']') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        }
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::as_json;

    fn read(line: &str) -> Result<serde_json::Value, String> {
        Syslog.decode(&Bytes::from(line.to_owned())).map(as_json).map_err(|error| error.message)
    }

    #[test]
    fn examples_of_rfc_5424_are_read() {
        assert_eq!(
            read("<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8").unwrap(),
            json!({"facility": "auth", "severity": "crit", "timestamp": "2003-10-11T22:14:15.003Z", "hostname": "mymachine.example.com",
                "appname": "su", "msgid": "ID47", "message": "'su root' failed for lonvick on /dev/pts/8"})
        );
        assert_eq!(
            read("<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\"][examplePriority@32473 class=\"high\"]").unwrap(),
            json!({"facility": "local4", "severity": "notice", "timestamp": "2003-10-11T22:14:15.003Z", "hostname": "mymachine.example.com",
                "appname": "evntslog", "msgid": "ID47", "message": "",
                "structured_data": {"exampleSDID@32473": {"iut": "3", "eventSource": "Application"}, "examplePriority@32473": {"class": "high"}}})
        );
        let escaped = read(r#"<0>1 - - - 7 - [a b="\"\\\]\n"] x"#).unwrap();
        assert_eq!(escaped["structured_data"]["a"]["b"], r#""\]\n"#);
        assert_eq!(escaped["procid"], "7");
    }

    #[test]
    fn a_parameter_that_repeats_is_a_list_and_a_mark_of_the_message_stays() {
        let line = "<14>1 - - - - - [net ip=\"10.0.0.1\" ip=\"10.0.0.2\" mac=\"x\" ip=\"::1\"] m";
        let event = read(line).unwrap();
        let ips = json!(["10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(event["structured_data"], json!({"net": {"ip": ips, "mac": "x"}}));
        let mut out = Vec::new();
        Syslog.encode(&Value::from(event.clone()), "", &mut out).unwrap();
        assert_eq!(read(std::str::from_utf8(&out).unwrap()).unwrap(), event);
        assert_eq!(
            read("<14>1 - - - - - [a x=\"1\"][a x=\"2\"]").unwrap_err(),
            "byte 34: structured data [a] is there twice"
        );
        let marked = json!({"facility": "user", "severity": "info", "message": "\u{feff}x"});
        out.clear();
        Syslog.encode(&Value::from(marked.clone()), "", &mut out).unwrap();
        assert_eq!(read(std::str::from_utf8(&out).unwrap()).unwrap(), marked);
    }

    #[test]
    fn a_year_that_rfc_3339_has_not_is_refused() {
        let far = Value::Timestamp(DateTime::from_timestamp(300_000_000_000, 0).unwrap());
        let event = Value::Object([("timestamp".into(), far), ("message".into(), "m".into())].into());
        assert_eq!(Syslog.encode(&event, "", &mut Vec::new()).unwrap_err().code, "unsupported_value");
    }

    #[test]
    fn examples_of_rfc_3164_are_read() {
        assert_eq!(
            read("<34>Oct 11 22:14:15 mymachine su[230]: 'su root' failed for lonvick on /dev/pts/8").unwrap(),
            json!({"facility": "auth", "severity": "crit", "timestamp": "Oct 11 22:14:15", "hostname": "mymachine",
                "appname": "su", "procid": "230", "message": "'su root' failed for lonvick on /dev/pts/8"})
        );
        let plain = read("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!").unwrap();
        assert_eq!((&plain["hostname"], &plain["message"]), (&json!("10.0.0.99"), &json!("Use the BFG!")));
        let iso = read("<13>2003-10-11T22:14:15Z host app: x").unwrap();
        assert_eq!((&iso["timestamp"], &iso["appname"]), (&json!("2003-10-11T22:14:15Z"), &json!("app")));
        assert_eq!(read("<13>anything").unwrap()["message"], "anything");
        assert_eq!(read("<13>Feb  5 17:32:18 cron: x").unwrap()["appname"], "cron");
    }

    #[test]
    fn what_is_no_message_says_where_and_why() {
        assert!(read("no priority").unwrap_err().contains("priority"));
        assert!(read("<192>1 - - - - - -").unwrap_err().contains("priority"));
        assert!(read("<1>1 now - - - - -").unwrap_err().contains("RFC 3339"));
        assert!(read("<1>1 - - -").unwrap_err().contains("breaks off"));
        assert!(read("<1>1 - - - - - [a b=\"x").unwrap_err().contains("no end"));
        assert!(read("<1>1 - - - - - x").unwrap_err().contains("structured data or -"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for value in [
            json!({"severity": "loud"}),
            json!({"facility": 24}),
            json!({"hostname": "two words"}),
            json!({"appname": "x".repeat(49)}),
            json!({"timestamp": "today"}),
            json!({"structured_data": {"a=b": {}}}),
            json!({"structured_data": 1}),
        ] {
            let refused = Syslog.encode(&Value::from(value.clone()), "", &mut Vec::new()).unwrap_err();
            assert_eq!(refused.code, "no_syslog", "{value}");
        }
        for value in [json!({}), json!({"message": null, "hostname": "h"}), json!({"msg": "x"})] {
            let refused = Syslog.encode(&Value::from(value.clone()), "", &mut Vec::new()).unwrap_err();
            assert_eq!(refused.code, "no_message", "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            (facility, severity) in (0..24_usize, 0..8_usize),
            header in prop::collection::vec(prop::option::of("[a-z0-9.]{1,9}"), 4),
            data in prop::collection::btree_map("[a-z@]{1,5}", prop::collection::btree_map("[a-z]{1,3}", "\\PC{0,4}|[\\]\\\\\"n]{0,4}", 0..3), 0..3),
            micros in prop::option::of(0..4_000_000_000_000_000_i64),
            message in "\u{feff}{0,2}\\PC{0,9}",
        ) {
            let mut fields = ObjectMap::from([("facility".into(), FACILITIES[facility].into()), ("severity".into(), SEVERITIES[severity].into()), ("message".into(), Value::from(message))]);
            for ((name, _), value) in HEADER.iter().zip(header) {
                fields.extend(value.map(|value| ((*name).into(), Value::from(value))));
            }
            fields.extend(micros.and_then(DateTime::from_timestamp_micros).map(|time| ("timestamp".into(), Value::Timestamp(time))));
            let data: ObjectMap = data.into_iter().map(|(id, element)| {
                (id.into(), Value::Object(element.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
            }).collect();
            if !data.is_empty() {
                fields.insert("structured_data".into(), Value::Object(data));
            }
            let mut out = Vec::new();
            Syslog.encode(&Value::Object(fields.clone()), "", &mut out).unwrap();
            prop_assert_eq!(Syslog.decode(&out.into()).unwrap(), Value::Object(fields));
        }

        #[test]
        fn any_bytes_are_read_or_refused(head in "(<[0-9]{1,3}>(1 (- ){5})?)?", rest in prop::collection::vec(prop_oneof![Just(b'['), Just(b'"'), Just(b'\\'), Just(b' '), Just(b':'), any::<u8>()], 0..40)) {
            let _either = Syslog.decode(&[head.into_bytes(), rest].concat().into());
        }
    }
}
