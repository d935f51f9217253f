//! The `event_filter` transform.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::config::Span;
use weir::event::{Batch, Body, Codec, CodecError, Event, OriginId, Timestamp, Verdict};
use weir::script::{Condition, Problem};
use weir::{Error, Result};

use crate::presets::{Entry, Preset, TABLE};
use crate::record::{Reader, about, event_in, text};

/// Selects Kubernetes events from a log stream, by presets and conditions; everything else is filtered. Records pass
/// unchanged, except for a field with the names of the matching presets. Tombstones pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Groups of events to keep: `scaling`, `node_pressure`, `upgrade`, `crash`, `scheduling`, `image`, `storage`.
    /// Default: none, all Kubernetes events are kept.
    #[serde(default)]
    presets: Vec<Preset>,
    /// VRL condition for additional events to keep, such as `.type == "Warning"`. It is evaluated on the Kubernetes
    /// event, wherever that is nested in the record. Default: none.
    condition: Option<String>,
    /// Field for the list of matching presets (of those in `presets`, or of all if none are set). Records without a
    /// match, and all records if the name is empty, are unchanged. Default: `presets`.
    #[serde(default = "default_tag")]
    tag: String,
    /// Drops events that happened longer than this before their record's time: a restarted eventrouter sends all stored
    /// events again. Default: none.
    max_age: Option<Span>,
}

fn default_tag() -> String {
    "presets".to_owned()
}

weir::register_transform!(
    "event_filter",
    EventFilter,
    r#"{type: event_filter, inputs: [in], presets: [crash, scheduling], condition: '.reason == "NodeNotReady"'}"#
);

impl EventFilter {
    fn condition(&self) -> Result<Option<Condition>> {
        self.condition
            .as_ref()
            .map(|source| Ok(Condition::compile(source).map_err(|_| Error::unchecked("condition"))?.0))
            .transpose()
    }
}

#[typetag::deserialize(name = "event_filter")]
impl TransformConfig for EventFilter {
    fn check(&self, problems: &mut Problems) {
        if let Some(condition) = &self.condition {
            Problem::report(Condition::compile(condition), "condition", "invalid_condition", problems);
        }
        if ["event", "kubernetes"].contains(&self.tag.as_str()) {
            let message = format!("`{}` is where the Kubernetes event may be", self.tag);
            problems.error("tag", "bad_value", message, "name another field");
        }
    }

    fn explain(&self) -> String {
        let names: Vec<&str> = self.presets.iter().map(|preset| preset.name()).collect();
        match (&*names, &self.condition) {
            ([], None) => "keeps every Kubernetes event".to_owned(),
            (names, condition) => {
                let by_condition = condition.is_some().then_some("those the condition holds for");
                let kept: Vec<&str> = names.iter().copied().chain(by_condition).collect();
                format!("keeps Kubernetes events: {}", kept.join(", "))
            }
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let is_selective = !self.presets.is_empty() || self.condition.is_some();
        let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in TABLE.iter().filter(|entry| !is_selective || self.presets.contains(&entry.preset)) {
            entries.entry(entry.reason).or_default().push(entry);
        }
        let mut filter = Filter {
            reader: Reader::new(&self.tag),
            entries,
            is_selective,
            condition: self.condition()?,
            tag: self.tag.as_str().into(),
            max_age: self.max_age.map(|age| i64::try_from(age.0.as_millis()).unwrap_or(i64::MAX)),
        };
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            let origin = batch.origin.clone();
            output.rejected = batch.decide(|event| {
                if event.is_tombstone() {
                    return Verdict::Pass;
                }
                match filter.decide(event, &origin) {
                    Ok(true) => Verdict::Pass,
                    Ok(false) => Verdict::Filter,
                    Err((code, message)) => Verdict::Reject { code, message },
                }
            });
        }))
    }
}

struct Filter {
    reader: Reader,
    /// What is asked for, by reason.
    entries: HashMap<&'static str, Vec<&'static Entry>>,
    /// Whether there is more to an event that is kept than being one.
    is_selective: bool,
    condition: Option<Condition>,
    tag: Arc<str>,
    max_age: Option<i64>,
}

type Failed = (&'static str, String);

impl Filter {
    /// Whether the record goes on; tags it if so.
    fn decide(&mut self, record: &mut Event, origin: &OriginId) -> std::result::Result<bool, Failed> {
        let (body, event) = match &record.body {
            Body::Raw(doc, codec @ (Codec::Json | Codec::Edited)) => {
                let found = self.reader.event(doc).map_err(|error| ("invalid_json", error.to_string()))?;
                let Some((bytes, event)) = found else { return Ok(false) };
                (Body::Raw(bytes, codec.clone()), event)
            }
            Body::Parsed(value) => match event_in(value) {
                Some(event) => (Body::Parsed(event.clone()), event.clone()),
                None => return Ok(false),
            },
            Body::Raw(bytes, codec @ Codec::Other(_)) => {
                let value = codec.decode(bytes).map_err(|error| (error.code, error.message))?;
                let Some(event) = event_in(&value).cloned() else { return Ok(false) };
                (Body::Parsed(event.clone()), event)
            }
            Body::Raw(_, Codec::Text | Codec::Raw) => return Ok(false),
        };
        if self.is_too_old(&event, record.time) {
            return Ok(false);
        }
        let presets = self.presets_of(&event);
        if self.is_selective && presets.is_empty() {
            let Some(condition) = &mut self.condition else { return Ok(false) };
            let alone =
                Event { body, position: record.position, ordinal: record.ordinal, time: record.time, meta: None };
            if !condition.holds(&alone, origin).map_err(|failure| (failure.code, failure.message))? {
                return Ok(false);
            }
        }
        self.put_tag(record, presets).map_err(|error| (error.code, error.message))?;
        Ok(true)
    }

    fn presets_of(&self, event: &Value) -> Vec<Value> {
        let reason = text(Some(event), "reason");
        let Some(entries) = self.entries.get(reason) else { return Vec::new() };
        let (kind, event_type) = (text(about(event), "kind"), text(Some(event), "type"));
        let mut presets: Vec<Preset> =
            entries.iter().filter(|entry| entry.takes(kind, event_type)).map(|entry| entry.preset).collect();
        presets.dedup();
        presets.into_iter().map(|preset| Value::from(preset.name())).collect()
    }

    fn is_too_old(&self, event: &Value, now: Timestamp) -> bool {
        let Some(max_age) = self.max_age else { return false };
        happened(event).is_some_and(|then| now.0.saturating_sub(then) > max_age)
    }

    fn put_tag(&self, record: &mut Event, presets: Vec<Value>) -> std::result::Result<(), CodecError> {
        if self.tag.is_empty() || presets.is_empty() {
            return Ok(());
        }
        let tags = Value::Array(presets);
        if let Body::Raw(bytes, codec @ Codec::Other(_)) = &record.body
            && let Ok(value) = codec.decode(bytes)
        {
            record.body = Body::Parsed(value);
        }
        match &mut record.body {
            Body::Raw(doc, codec @ (Codec::Json | Codec::Edited)) => {
                (*doc, *codec) = (self.reader.tagged(doc, &tags)?, Codec::Edited);
            }
            Body::Parsed(Value::Object(fields)) => {
                fields.insert((&*self.tag).into(), tags);
            }
            _ => {}
        }
        Ok(())
    }
}

/// When an event last happened, in milliseconds since 1970: the newest of all times that an event of `core` or of
/// `events.k8s.io` may bear. A repeated one keeps the time of its creation, and one without `series` that of its first time.
fn happened(event: &Value) -> Option<i64> {
    let (series, metadata) = (event.as_object()?.get("series"), event.as_object()?.get("metadata"));
    let times = [
        (Some(event), "lastTimestamp"),
        (Some(event), "deprecatedLastTimestamp"),
        (Some(event), "eventTime"),
        (Some(event), "firstTimestamp"),
        (Some(event), "deprecatedFirstTimestamp"),
        (series, "lastObservedTime"),
        (metadata, "creationTimestamp"),
    ];
    let millis =
        |(object, name): (Option<&Value>, &str)| Timestamp::of(object?.as_object()?.get(name)?).map(|time| time.0);
    // Go writes a time that is not set as the beginning of year 1.
    times.into_iter().filter_map(millis).filter(|at| *at > 0).max()
}
