//! Where in a record the Kubernetes event is.
//!
//! Two shapes: an eventrouter's line, `{"verb": "ADDED", "event": {...}}`, and what a log collector makes of it, with the
//! event moved to `kubernetes.event`. Found by structure alone, so spacing, order and the namespace that the eventrouter
//! runs in do not matter, and a log that quotes an event in its message is none.

use bytes::Bytes;
use vrl::value::Value;
use weir::event::CodecError;
use weir::event::json::{self, Edit, Fields, Found, JsonError, Numbers};

/// Looks into records; keeps its memory from one to the next.
#[derive(Debug)]
pub(crate) struct Reader {
    record: (Fields, Found),
    kubernetes: (Fields, Found),
}

/// Indexes among the fields of a record.
const EVENT: usize = 0;
const KUBERNETES: usize = 1;
const TAG: usize = 2;

impl Reader {
    /// A reader that puts tags into the field `tag`.
    pub fn new(tag: &str) -> Reader {
        let record = (Fields::new(["event", "kubernetes", tag]), Found::default());
        Reader { record, kubernetes: (Fields::new(["event"]), Found::default()) }
    }

    /// The bytes of the Kubernetes event in a JSON record, and the event; `None` when the record holds none.
    pub fn event(&mut self, doc: &Bytes) -> Result<Option<(Bytes, Value)>, JsonError> {
        let (fields, found) = &mut self.record;
        json::scan(doc, fields, found)?;
        if let Some(range) = found.get(EVENT)
            && let Some(event) = event_at(doc.slice(range))?
        {
            return Ok(Some(event));
        }
        let Some(range) = found.get(KUBERNETES) else { return Ok(None) };
        let inner = doc.slice(range);
        let (fields, found) = &mut self.kubernetes;
        json::scan(&inner, fields, found)?;
        found.get(EVENT).map_or(Ok(None), |range| event_at(inner.slice(range)))
    }

    /// The record last read, with its tag set to `tags`.
    pub fn tagged(&self, doc: &Bytes, tags: &Value) -> Result<Bytes, CodecError> {
        let (fields, found) = &self.record;
        json::splice(doc, fields, found, &[Edit::Set(TAG, tags)], &Numbers::default()).map(Bytes::from)
    }
}

fn event_at(bytes: Bytes) -> Result<Option<(Bytes, Value)>, JsonError> {
    if bytes.first() != Some(&b'{') {
        return Ok(None);
    }
    let event = json::parse(&bytes)?;
    Ok(is_event(&event).then_some((bytes, event)))
}

/// The Kubernetes event in a record that was taken apart.
pub(crate) fn event_in(record: &Value) -> Option<&Value> {
    fn event_of(value: &Value) -> Option<&Value> {
        value.as_object()?.get("event").filter(|event| is_event(event))
    }
    event_of(record).or_else(|| event_of(record.as_object()?.get("kubernetes")?))
}

/// An object of the API group `core` (`involvedObject`) or `events.k8s.io` (`regarding`).
fn is_event(event: &Value) -> bool {
    !text(Some(event), "reason").is_empty() && about(event).is_some_and(Value::is_object)
}

/// The object an event is about.
pub(crate) fn about(event: &Value) -> Option<&Value> {
    let fields = event.as_object()?;
    fields.get("involvedObject").or_else(|| fields.get("regarding"))
}

/// A text of an object; empty where there is none.
pub(crate) fn text<'a>(object: Option<&'a Value>, name: &str) -> &'a str {
    let fields = object.and_then(Value::as_object);
    fields.and_then(|fields| fields.get(name)).and_then(Value::to_str).unwrap_or_default()
}
