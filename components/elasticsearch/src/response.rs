//! The answer to a bulk request; pure.
//!
//! In come the bytes of an answer; out goes one word for each item, in the order of the request. No tree is built: what is
//! of no interest is skipped where it stands.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use weir_http_client::Answer;

/// Bytes of a reason that are kept.
const SHOWN: usize = 1000;
/// Causes underneath an error that are told.
const CAUSES: usize = 3;

/// What the server says of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// The status.
    pub status: u16,
    /// What went wrong, where something did.
    error: Option<Box<Failure>>,
}

/// Why an item failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    kind: String,
    reason: String,
}

impl Said {
    #[cfg(test)]
    pub fn new(status: u16, kind: &str, reason: &str) -> Said {
        let failure = || Box::new(Failure { kind: kind.to_owned(), reason: reason.to_owned() });
        Said { status, error: (!kind.is_empty()).then(failure) }
    }

    /// The type of the error.
    pub fn kind(&self) -> &str {
        self.error.as_ref().map_or("", |error| &error.kind)
    }

    /// Status, type and reason in one line of bounded length.
    pub fn text(&self) -> String {
        match &self.error {
            None => format!("HTTP {}", self.status),
            Some(error) => format!("HTTP {} {}: {}", self.status, error.kind, error.reason),
        }
    }

    /// Whether the reason begins so, behind the words that the server puts in front of several reasons.
    pub fn reason_begins(&self, start: &str) -> bool {
        let reason = self.error.as_ref().map_or("", |error| &error.reason);
        reason.strip_prefix("Validation Failed: 1: ").unwrap_or(reason).starts_with(start)
    }
}

/// What the server says of a request that it does not take; with one item it is about that.
pub(crate) fn refusal(status: u16, answer: &Answer) -> Said {
    #[derive(Deserialize)]
    struct Failed {
        error: Cause,
    }
    let error = serde_json::from_slice(&answer.body).map(|failed: Failed| failed.error);
    Outcome { status, error: Some(error.unwrap_or_else(|_| Cause::Text(answer.text()))) }.said()
}

/// What the server says of each of `expected` items; or why its answer is none to this request.
pub(crate) fn parse(answer: &[u8], expected: usize) -> Result<Vec<Said>, String> {
    let mut items = Vec::with_capacity(expected);
    let mut reader = serde_json::Deserializer::from_slice(answer);
    Bulk { items: &mut items, expected }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    match items.len() {
        found if found == expected => Ok(items),
        found => Err(format!("the answer is about {found} of {expected} documents")),
    }
}

struct Bulk<'i> {
    items: &'i mut Vec<Said>,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Bulk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Bulk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer to a bulk request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Name<'de>>()? {
            match key.0 {
                "items" if self.items.is_empty() => {
                    map.next_value_seed(Items { items: self.items, expected: self.expected })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A key that stands in the answer without escapes, as all that are of interest do.
struct Name<'de>(&'de str);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl<'de> Visitor<'de> for Key {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(key))
            }

            fn visit_str<E>(self, _escaped: &str) -> Result<Name<'de>, E> {
                Ok(Name(""))
            }
        }
        deserializer.deserialize_str(Key)
    }
}

struct Items<'i> {
    items: &'i mut Vec<Said>,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(Item(said)) = list.next_element()? {
            if self.items.len() == self.expected {
                return Err(A::Error::custom("it has more items than documents were sent"));
            }
            self.items.push(said);
        }
        Ok(())
    }
}

/// `{"index": {"status": 201, ...}}`
struct Item(Said);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only;
        impl<'de> Visitor<'de> for Only {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item with its status")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut said = None;
                while let Some((_, outcome)) = map.next_entry::<IgnoredAny, Outcome>()? {
                    said = Some(outcome.said());
                }
                said.map(Item).ok_or_else(|| A::Error::custom("an item without a status"))
            }
        }
        deserializer.deserialize_map(Only)
    }
}

/// What stands in an item, as far as it is of interest.
#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Option<Cause>,
}

impl Outcome {
    fn said(self) -> Said {
        let error = self.error.map(|cause| {
            let (kind, mut reason) = cause.words();
            reason.truncate(reason.floor_char_boundary(SHOWN));
            Box::new(Failure { kind, reason })
        });
        Said { status: self.status, error }
    }
}

/// An error: a text in old servers and in proxies, else a type, a reason, and what is underneath.
#[derive(Deserialize)]
#[serde(untagged)]
enum Cause {
    Full {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        caused_by: Option<Box<Cause>>,
    },
    Text(String),
}

impl Cause {
    /// Its type, and its reason with those underneath.
    fn words(self) -> (String, String) {
        let (mut kind, mut reason) = (None, String::new());
        let mut next = Some(self);
        for _ in 0..=CAUSES {
            let (of, text) = match next.take() {
                None => break,
                Some(Cause::Text(text)) => (String::new(), text),
                Some(Cause::Full { kind, reason, caused_by }) => {
                    next = caused_by.map(|cause| *cause);
                    (kind, reason.unwrap_or_default())
                }
            };
            kind.get_or_insert(of);
            if !text.is_empty() && !reason.contains(&text) {
                if !reason.is_empty() {
                    reason.push_str(": ");
                }
                reason.push_str(&text);
            }
        }
        reason.retain(|c| !c.is_control());
        (kind.unwrap_or_default(), reason)
    }
}

#[cfg(test)]
mod tests;
