//! An event as a person may see it: taken apart, shortened, without secrets.

use std::borrow::Cow;
use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use vrl::value::Value;

use crate::event::{Body, Event, EventId, OriginId, readable};

/// What stands in place of a secret.
const HIDDEN: &str = "***";
/// The longest body that is shown whole, in bytes.
const LONGEST: usize = 64 << 10;

/// Names whose values nobody sees.
#[expect(clippy::expect_used, reason = "a constant pattern")]
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)passw|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization|credential|cookie";
    Regex::new(pattern).expect("the pattern is right")
});
/// The same within a text: `password=x`, `"token": "x"`, `Authorization: Bearer x`, `user:x@host`.
#[expect(clippy::expect_used, reason = "a constant pattern")]
static SECRET_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?i)((?:passw(?:or)?d|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization|credentials?|cookie)\\?["']?\s*[=:]\s*\\?["']?(?:(?:bearer|basic)\s+)?)[^\s"'\\,;&]+|(://[^\s/:@]*:)[^\s/@]+(@)"#;
    Regex::new(pattern).expect("the pattern is right")
});

/// An event that a tap shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    /// Its id: `source/log/partition/position`.
    pub id: String,
    /// Its time, RFC 3339.
    pub time: String,
    /// The record's key, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The record's headers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<(String, String)>,
    /// On an `errors` port: why it is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What it says: a JSON document, or a text where it is none.
    pub event: Json,
}

impl Sight {
    /// What may be seen of an event.
    pub(super) fn of(event: &Event, origin: &OriginId, redaction: &Redaction) -> Sight {
        let text = |bytes: &[u8]| redaction.text(&readable(bytes)).into_owned();
        let header = |(name, value): &(String, Option<bytes::Bytes>)| {
            let value = value.as_deref().unwrap_or_default();
            (name.clone(), if redaction.hides(name) { HIDDEN.to_owned() } else { text(value) })
        };
        let error = event.meta.as_ref().and_then(|meta| meta.error.as_ref());
        Sight {
            id: EventId { origin, position: event.position, ordinal: event.ordinal }.to_string(),
            time: DateTime::from_timestamp_millis(event.time.0)
                .unwrap_or_default()
                .to_rfc3339_opts(SecondsFormat::Millis, true),
            key: event.key().map(|key| text(key)),
            headers: event.headers().iter().map(header).collect(),
            error: error.map(|reason| redaction.text(&format!("{}: {}", reason.code, reason.message)).into_owned()),
            event: body(&event.body, redaction),
        }
    }
}

fn body(body: &Body, redaction: &Redaction) -> Json {
    let bytes = body.to_bytes();
    if let Some(shown) = bytes.get(..LONGEST) {
        return Json::String(format!("{}... ({} bytes)", redaction.text(&readable(shown)), bytes.len()));
    }
    let document = match body {
        Body::Parsed(value) => Some(as_json(value)),
        Body::Raw(..) => serde_json::from_slice(&bytes).ok(),
    };
    match document {
        Some(mut value) => {
            redaction.value(&mut value);
            value
        }
        None => Json::String(redaction.text(&readable(&bytes)).into_owned()),
    }
}

/// A value for people to read: what JSON has no way to say is a text.
fn as_json(value: &Value) -> Json {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.to_string(), as_json(value))).collect(),
        Value::Array(items) => items.iter().map(as_json).collect(),
        Value::Bytes(bytes) => readable(bytes).into(),
        Value::Float(number) if number.is_infinite() => number.to_string().into(),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// What is hidden: values of fields that bear the name of a secret, and what follows such a name within a text.
pub(super) struct Redaction {
    names: Vec<String>,
}

impl Redaction {
    /// With further names of fields, in any case.
    pub fn new(names: &[String]) -> Redaction {
        Redaction { names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    fn hides(&self, name: &str) -> bool {
        SECRET_NAME.is_match(name) || self.names.contains(&name.to_lowercase())
    }

    fn value(&self, value: &mut Json) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    match self.hides(name) {
                        true => *value = HIDDEN.into(),
                        false => self.value(value),
                    }
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Json::String(text) => {
                if let Cow::Owned(redacted) = self.text(text) {
                    *text = redacted;
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }

    fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        SECRET_TEXT.replace_all(text, format!("$1$2{HIDDEN}$3"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_by_name_and_within_texts() {
        let mut value = json!({
            "user": "ann", "Password": "p1", "nested": [{"api_key": 7, "n": 1, "ssn": "123"}],
            "message": "login password=hunter2 ok, Authorization: Bearer abc.def, \"token\": \"t0\" kafka://u:pw@host:9092",
            "log": "{\"secret\":\"s3\",\"a\":1}",
        });
        Redaction::new(&["SSN".to_owned()]).value(&mut value);
        assert_eq!(
            value,
            json!({
                "user": "ann", "Password": "***", "nested": [{"api_key": "***", "n": 1, "ssn": "***"}],
                "message": "login password=*** ok, Authorization: Bearer ***, \"token\": \"***\" kafka://u:***@host:9092",
                "log": "{\"secret\":\"***\",\"a\":1}",
            })
        );
    }
}
