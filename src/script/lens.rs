//! How a program sees an event: only as much of it as its plan asks for.

use bytes::Bytes;
use vrl::compiler::{SecretTarget, Target};
use vrl::path::{OwnedTargetPath, PathPrefix};
use vrl::value::{KeyString, ObjectMap, Value};

use super::functions::{Now, check_path};
use super::plan::Plan;
use super::{Failure, bounds, ledger};
use crate::event::json::{self, Edit, Fields, Found, JsonError, Numbers};
use crate::event::{Body, Codec, Event, OriginId, OriginKind};

/// What a program needs between the event and VRL. It keeps its memory from event to event; nothing a program saw of
/// one event shows in the next.
#[derive(Debug)]
pub(super) struct Lens {
    plan: Plan,
    fields: Fields,
    keys: Vec<KeyString>,
    found: Found,
    /// The planned fields of a JSON event; its keys stay from event to event.
    object: Value,
    /// An event that had to be taken apart, as a whole unless nothing is written and its decoder can do with less.
    parsed: Value,
    /// Where the event that was looked at last is.
    seen: Seen,
    /// Its numbers that 64 bits do not hold.
    numbers: Numbers,
    /// It takes much memory, and is let go of behind the program.
    is_large: bool,
}

/// Text of a large event, or of a large field of one.
const LARGE: usize = 64 << 10;
/// Text of an event that programs of other threads wait for.
const VERY_LARGE: usize = 512 << 10;

/// Whether a document is large; fails where it would be too large as a value.
fn check_document(doc: &[u8]) -> Result<bool, Failure> {
    if doc.len() <= LARGE {
        return Ok(false);
    }
    let unread = |why| Failure::new("vrl_error", format!("the event cannot be taken apart for the program: {why}"));
    bounds::check_document(doc).map_err(unread)?;
    if doc.len() > VERY_LARGE {
        ledger::take_turn();
    }
    Ok(true)
}

#[derive(Debug, Clone, Copy)]
enum Seen {
    /// In the event itself.
    Body,
    Object,
    Parsed,
}

impl Clone for Lens {
    /// The same plan with nothing remembered.
    fn clone(&self) -> Lens {
        Lens::new(self.plan.clone())
    }
}

fn invalid_json(error: JsonError) -> Failure {
    Failure::new("invalid_json", error.to_string())
}

impl Lens {
    pub(super) fn new(plan: Plan) -> Lens {
        let fields = Fields::new(if plan.whole { &[][..] } else { &plan.fields[..] }.iter().cloned());
        let keys = fields.names().iter().map(|name| KeyString::from(name.as_str())).collect();
        let object = Value::Object(ObjectMap::new());
        let (found, numbers) = (Found::default(), Numbers::default());
        Lens { plan, fields, keys, found, object, parsed: Value::Null, seen: Seen::Parsed, numbers, is_large: false }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes the clock and the random numbers those of the event, where the run is deterministic.
    pub(super) fn enter(&self, event: &Event, origin: &OriginId, salt: u64) -> Option<Now> {
        if self.plan.chance { Now::of(event, origin, salt) } else { None }
    }

    /// Checks a JSON document and finds the planned fields.
    pub(super) fn scan(&mut self, doc: &Bytes) -> Result<(), Failure> {
        json::scan(doc, &self.fields, &mut self.found).map_err(invalid_json)
    }

    /// What the last scan found.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Prepares an object of the planned fields alone; false when the document is not an object.
    pub(super) fn load(&mut self, doc: &Bytes) -> Result<bool, Failure> {
        self.scan(doc)?;
        self.fill(doc)
    }

    /// The object of the planned fields, and the event's numbers.
    pub(super) fn loaded(&mut self) -> (&mut Value, &mut Numbers) {
        (&mut self.object, &mut self.numbers)
    }

    /// The numbers of the event that was looked at last.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Puts the fields that were found into the object; false when the document is not an object.
    fn fill(&mut self, doc: &Bytes) -> Result<bool, Failure> {
        self.numbers.clear();
        if !self.found.is_object() {
            return Ok(false);
        }
        self.fill_object(doc)?;
        if self.numbers.are_exact() {
            // Those before the first that has to be entered are to be entered, too.
            self.fill_object(doc)?;
        }
        Ok(true)
    }

    fn fill_object(&mut self, doc: &Bytes) -> Result<(), Failure> {
        if !self.object.is_object() {
            self.object = Value::Object(ObjectMap::new());
        }
        let Value::Object(map) = &mut self.object else { return Ok(()) };
        for (number, key) in self.keys.iter().enumerate() {
            match self.found.get(number) {
                Some(range) => {
                    self.is_large |= check_document(&doc[range.clone()])?;
                    let value = json::parse_range_with(doc, range, &mut self.numbers).map_err(invalid_json)?;
                    match map.get_mut(key) {
                        Some(slot) => *slot = value,
                        None => {
                            map.insert(key.clone(), value);
                        }
                    }
                }
                None => {
                    map.remove(key);
                }
            }
        }
        Ok(())
    }

    /// The bytes that [`scan`](Self::scan) finds the planned fields in, where it can.
    pub(super) fn scannable<'a>(&self, event: &'a Event) -> Option<&'a Bytes> {
        event.body.document().filter(|_| !self.plan.whole)
    }

    /// Prepares what [`seen`](Self::seen) shows.
    pub(super) fn look(&mut self, event: &Event) -> Result<(), Failure> {
        if let Some(doc) = self.scannable(event) {
            self.scan(doc)?;
        }
        self.take_apart(event)
    }

    /// The same for an event that was scanned where it can be.
    pub(super) fn take_apart(&mut self, event: &Event) -> Result<(), Failure> {
        self.numbers.clear();
        self.seen = match &event.body {
            Body::Parsed(_) => Seen::Body,
            Body::Raw(doc, Codec::Json | Codec::Edited) if !self.plan.whole && self.fill(doc)? => Seen::Object,
            Body::Raw(doc, Codec::Json | Codec::Edited) => {
                self.is_large |= check_document(doc)?;
                self.parsed = json::parse_with(doc, &mut self.numbers).map_err(invalid_json)?;
                Seen::Parsed
            }
            Body::Raw(bytes, codec) => {
                // What a program may change is put back as a whole.
                let is_partial = !self.plan.whole && self.plan.writes.is_empty();
                let fields = is_partial.then_some(&*self.plan.fields);
                let decoded = codec.decode_into(bytes, fields, &mut self.parsed);
                decoded.map_err(|error| Failure::new(error.code, error.message))?;
                if bytes.len() > LARGE {
                    self.is_large = true;
                    bounds::check(&self.parsed).map_err(|why| Failure::new("vrl_error", why))?;
                }
                Seen::Parsed
            }
        };
        Ok(())
    }

    /// The event last taken apart, as the program sees it, and its numbers.
    pub(super) fn seen<'a>(&'a mut self, event: &'a Event) -> (&'a Value, &'a mut Numbers) {
        let value = match (self.seen, &event.body) {
            (Seen::Body, Body::Parsed(value)) => value,
            (Seen::Object, _) => &self.object,
            _ => &self.parsed,
        };
        (value, &mut self.numbers)
    }

    /// The event last taken apart as a whole, for a program that changes it, and its numbers. A copy stays here, unless it is large.
    pub(super) fn taken(&mut self, event: &Event) -> (Value, &mut Numbers) {
        let value = match (self.seen, &event.body) {
            (Seen::Parsed, _) if self.is_large => std::mem::replace(&mut self.parsed, Value::Null),
            _ => self.seen(event).0.clone(),
        };
        (value, &mut self.numbers)
    }

    /// Whether a value equals the event last [`taken`](Self::taken).
    pub(super) fn looks_like(&mut self, event: &Event, value: &Value) -> Result<bool, Failure> {
        match &event.body {
            Body::Raw(doc, Codec::Json) if self.is_large => {
                Ok(json::parse_range_with(doc, 0..doc.len(), &mut self.numbers).map_err(invalid_json)? == *value)
            }
            Body::Raw(..) if self.is_large => Ok(false),
            _ => Ok(self.parsed == *value),
        }
    }

    /// Lets go of a large event.
    pub(super) fn forget(&mut self) {
        if std::mem::take(&mut self.is_large) {
            self.parsed = Value::Null;
            self.object = Value::Null;
        }
    }

    /// The body after a program has changed the object of [`load`](Self::load); `None` when all is as it was.
    pub(super) fn put_back(&mut self, doc: &Bytes) -> Result<Option<Body>, Failure> {
        let Value::Object(map) = &self.object else { return Ok(None) };
        let mut edits = Vec::new();
        let mut stays_json = true;
        for number in self.plan.writes.iter().copied() {
            let now = self.keys.get(number).and_then(|key| map.get(key));
            let before = self.found.get(number);
            let before = before.map(|range| json::parse_range_with(doc, range, &mut self.numbers)).transpose();
            let before = before.map_err(invalid_json)?;
            match now {
                Some(value) if before.as_ref() != Some(value) => {
                    stays_json &= json::same_after_json(value);
                    edits.push(Edit::Set(number, value));
                }
                None if before.is_some() => edits.push(Edit::Remove(number)),
                _ => {}
            }
        }
        if edits.is_empty() {
            return Ok(None);
        }
        if stays_json {
            let doc = json::splice(doc, &self.fields, &self.found, &edits, &self.numbers)
                .map_err(|error| Failure::new(error.code, error.message))?;
            return Ok(Some(Body::Raw(Bytes::from(doc), Codec::Edited)));
        }
        // A timestamp would be text for the next node if it went through JSON.
        let whole = json::parse_range_with(doc, 0..doc.len(), &mut self.numbers);
        let mut whole = whole.map_err(invalid_json)?;
        if let Value::Object(whole) = &mut whole {
            for edit in edits {
                match edit {
                    Edit::Set(number, value) => whole.insert(self.keys[number].clone(), value.clone()),
                    Edit::Remove(number) => whole.remove(&self.keys[number]),
                };
            }
        }
        Ok(Some(body_with(&whole, &self.numbers)?.unwrap_or(Body::Parsed(whole))))
    }

    /// What `%` is for an event, when the program asks for it.
    pub(super) fn metadata(&self, event: &Event, origin: &OriginId) -> Value {
        if !self.plan.metadata {
            return Value::Null;
        }
        let mut metadata = ObjectMap::new();
        let position = Value::Integer(event.position.0.min(i64::MAX as u64) as i64);
        match origin.kind {
            OriginKind::Kafka => {
                let optional = |bytes: Option<&Bytes>| bytes.map_or(Value::Null, |bytes| Value::Bytes(bytes.clone()));
                let headers = event.headers().iter();
                let headers = headers.map(|(name, value)| (name.as_str().into(), optional(value.as_ref()))).collect();
                let time = chrono::DateTime::from_timestamp_millis(event.time.0);
                metadata.insert(
                    "kafka".into(),
                    object([
                        ("topic", Value::from(origin.log.as_str())),
                        ("partition", Value::Integer(origin.partition.into())),
                        ("offset", position),
                        ("key", optional(event.key())),
                        ("headers", Value::Object(headers)),
                        ("timestamp", time.map_or(Value::Null, Value::Timestamp)),
                    ]),
                );
            }
            OriginKind::File => {
                let file = object([("path", Value::from(origin.log.as_str())), ("offset", position)]);
                metadata.insert("file".into(), file);
            }
            OriginKind::Other => {}
        }
        if let Some(reason) = event.meta.as_ref().and_then(|meta| meta.error.as_ref()) {
            let error = [("node", reason.node.as_str()), ("code", reason.code), ("message", reason.message.as_str())];
            metadata.insert("error".into(), object(error.map(|(name, text)| (name, Value::from(text)))));
        }
        Value::Object(metadata)
    }
}

/// A body that keeps the digits of numbers that 64 bits do not hold: a JSON document, in which timestamps are texts. `None`:
/// there are no such numbers.
pub(super) fn body_with(value: &Value, numbers: &Numbers) -> Result<Option<Body>, Failure> {
    if !numbers.are_exact() || !numbers.are_in(value) {
        return Ok(None);
    }
    let mut doc = Vec::new();
    numbers.write(value, &mut doc).map_err(|error| {
        let why = "an event with numbers of more than 64 bits is kept as JSON";
        Failure::new(error.code, format!("{}; {why}", error.message))
    })?;
    Ok(Some(Body::Raw(doc.into(), Codec::Edited)))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (KeyString::from(name), value)).collect())
}

/// A parsed event that a program changes in place; what it was comes back unless the changes are kept. That holds
/// for a panic as well.
pub(super) struct Changes<'a> {
    value: &'a mut Value,
    before: Before,
}

enum Before {
    Whole(Value),
    Fields(Vec<(KeyString, Option<Value>)>),
    Kept,
}

impl<'a> Changes<'a> {
    pub(super) fn begin(value: &'a mut Value, plan: &Plan) -> Changes<'a> {
        let before = match &*value {
            Value::Object(map) if !plan.whole => {
                let names = plan.writes.iter().map(|number| KeyString::from(plan.fields[*number].as_str()));
                Before::Fields(names.map(|name| (name.clone(), map.get(&name).cloned())).collect())
            }
            whole => Before::Whole(whole.clone()),
        };
        Changes { value, before }
    }

    pub(super) fn value(&mut self) -> &mut Value {
        self.value
    }

    pub(super) fn keep(mut self) {
        self.before = Before::Kept;
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.before, Before::Kept) {
            Before::Whole(value) => *self.value = value,
            Before::Fields(fields) => {
                let Value::Object(map) = &mut *self.value else { return };
                for (name, value) in fields {
                    match value {
                        Some(value) => map.insert(name, value),
                        None => map.remove(&name),
                    };
                }
            }
            Before::Kept => {}
        }
    }
}

/// An event for a program that only reads.
#[derive(Debug)]
pub(super) struct ReadView<'a> {
    pub(super) value: &'a Value,
    pub(super) metadata: &'a Value,
}

/// An event for a program that may change it.
#[derive(Debug)]
pub(super) struct WriteView<'a> {
    pub(super) value: &'a mut Value,
    pub(super) metadata: &'a Value,
    /// Whether the program has set or removed anything.
    pub(super) written: bool,
    /// Memory of what it has set, in all and since the whole was measured.
    inserted: (usize, usize),
    /// Why something was not set: VRL goes on all the same, but sees nothing of the event any more.
    refused: Option<String>,
}

impl<'a> WriteView<'a> {
    pub(super) fn new(value: &'a mut Value, metadata: &'a Value) -> WriteView<'a> {
        WriteView { value, metadata, written: false, inserted: (0, 0), refused: None }
    }

    /// How a program has ended, or why something that it set was refused: what it ran into afterwards is not the cause.
    pub(super) fn ended<T>(&self, ended: Result<T, Failure>) -> Result<T, Failure> {
        match &self.refused {
            Some(why) => Err(Failure::new("vrl_error", why.clone())),
            None => ended,
        }
    }

    /// Memory of what the program has set.
    pub(super) fn inserted(&self) -> usize {
        self.inserted.0
    }

    /// Whether there is room for so many bytes more. All is measured where much has come since it was last.
    fn has_room(&mut self, path: &OwnedTargetPath, bytes: usize) -> Result<(), String> {
        self.inserted.0 = self.inserted.0.saturating_add(bytes);
        self.inserted.1 = self.inserted.1.saturating_add(bytes);
        if self.inserted.1 > bounds::max_value() / 8 {
            self.inserted.1 = 0;
            let replaced = self.value.get(&path.path).map_or(Ok(0), bounds::check)?;
            let size = bounds::check(self.value)?.saturating_sub(replaced);
            bounds::check_size(size.saturating_add(bytes))?;
        }
        Ok(())
    }

    /// Whether the program has set or removed anything; a failure where it tried what may not be.
    pub(super) fn finish(self) -> Result<bool, Failure> {
        match self.refused {
            Some(why) => Err(Failure::new("vrl_error", why)),
            None => Ok(self.written),
        }
    }
}

const READ_ONLY: &str = "this part of the event is read-only";

impl Target for ReadView<'_> {
    fn target_insert(&mut self, _: &OwnedTargetPath, _: Value) -> Result<(), String> {
        Err(READ_ONLY.to_owned())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(match path.prefix {
            PathPrefix::Event => self.value.get(&path.path),
            PathPrefix::Metadata => self.metadata.get(&path.path),
        })
    }

    fn target_get_mut(&mut self, _: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        Err(READ_ONLY.to_owned())
    }

    fn target_remove(&mut self, _: &OwnedTargetPath, _: bool) -> Result<Option<Value>, String> {
        Err(READ_ONLY.to_owned())
    }
}

impl Target for WriteView<'_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        if path.prefix == PathPrefix::Metadata {
            return Err(READ_ONLY.to_owned());
        }
        let checked = check_path(&path.path)
            .and_then(|()| bounds::check_below(&value, path.path.segments.len()))
            .and_then(|bytes| if path.path.is_root() { Ok(()) } else { self.has_room(path, bytes) });
        if let Err(why) = checked {
            self.refused.get_or_insert_with(|| why.clone());
            return Err(why);
        }
        self.written = true;
        self.value.insert(&path.path, value);
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        if let Some(why) = &self.refused {
            return Err(why.clone());
        }
        Ok(match path.prefix {
            PathPrefix::Event => self.value.get(&path.path),
            PathPrefix::Metadata => self.metadata.get(&path.path),
        })
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Err(READ_ONLY.to_owned());
        }
        self.written = true;
        Ok(self.value.get_mut(&path.path))
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Value>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Err(READ_ONLY.to_owned());
        }
        self.written = true;
        Ok(self.value.remove(&path.path, compact))
    }
}

/// Weir keeps no secrets on events.
macro_rules! no_secrets {
    ($($view:ty),*) => {$(
        impl SecretTarget for $view {
            fn get_secret(&self, _: &str) -> Option<&str> {
                None
            }
            fn insert_secret(&mut self, _: &str, _: &str) {}
            fn remove_secret(&mut self, _: &str) {}
        }
    )*};
}

no_secrets!(ReadView<'_>, WriteView<'_>);
