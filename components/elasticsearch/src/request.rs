//! From an event to its lines in a bulk request; pure.
//!
//! One line says what is to be done, the next is the document, where there is one. The document of an event that nobody
//! changed is the bytes it came as.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use weir::component::Problems;
use weir::event::json::{self, Fields, Found};
use weir::event::{Body, Codec, CodecError, Encoding, Event, OriginId, Position, Timestamp};
use weir::script::{Expression, Failure, Problem, Template};

use crate::action::{Action, Chooser, Rules, VersionType};
use crate::config::NO_ID;

/// The longest id that servers take.
const LONGEST_ID: usize = 512;
/// How often the server tries an update again that somebody else came before.
const UPDATE_TRIES: u32 = 3;
/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// Why an event cannot become a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The class of error.
    pub code: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal { code: failure.code, message: failure.message }
    }
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Refusal {
        Refusal { code: error.code, message: error.message }
    }
}

/// The options that documents are made by.
pub(crate) struct Sources<'a> {
    pub index: &'a str,
    pub time: Option<&'a str>,
    pub action: &'a str,
    pub id: Option<&'a str>,
    pub version: Option<(&'a str, Option<VersionType>)>,
    pub routing: Option<&'a str>,
    pub pipeline: Option<&'a str>,
    pub require_alias: bool,
    /// Documents without `@timestamp` get one.
    pub stamp: bool,
}

/// A text of an option.
enum Text {
    Constant(String),
    Made(Box<Template>),
}

impl Text {
    fn compile(source: &str, path: &str, problems: &mut Problems) -> Option<Text> {
        let template = Problem::report(Template::compile(source), path, "invalid_template", problems)?;
        Some(match template.is_constant() {
            Some(text) => Text::Constant(text.to_owned()),
            None => Text::Made(Box::new(template)),
        })
    }

    fn render(&mut self, event: &Event, origin: &OriginId) -> Result<Cow<'_, str>, Refusal> {
        match self {
            Text::Constant(text) => Ok(Cow::Borrowed(text)),
            Text::Made(template) => Ok(Cow::Owned(template.render(event, origin)?)),
        }
    }
}

/// Names the index.
enum Index {
    Constant(String),
    /// By time alone: the text of the last event's hour, if it is the same all through that hour.
    Timed {
        template: Box<Template>,
        hour: Option<i64>,
        text: String,
    },
    Made(Box<Template>),
}

impl Index {
    fn compile(source: &str, problems: &mut Problems) -> Option<Index> {
        let template = Problem::report(Template::compile_with_time(source), "index", "invalid_template", problems)?;
        let constant = template.is_constant().map(str::to_owned);
        Some(match constant {
            Some(text) => Index::Constant(text),
            None if source.contains("{{") => Index::Made(Box::new(template)),
            None => Index::Timed { template: Box::new(template), hour: None, text: String::new() },
        })
    }

    fn chooser(&self) -> Chooser {
        match self {
            Index::Constant(_) => Chooser::Graph,
            Index::Timed { .. } => Chooser::Time,
            Index::Made(_) => Chooser::Event,
        }
    }

    /// Reports a name that the graph alone makes and that no index can have.
    fn check(&mut self, problems: &mut Problems) {
        let name = match self {
            Index::Constant(text) => text.clone(),
            Index::Timed { .. } => match self.render(&nothing(Timestamp(0)), Timestamp(0), &nowhere()) {
                Ok(name) => name.into_owned(),
                Err(_) => return,
            },
            Index::Made(_) => return,
        };
        if let Some(what) = fault_of_name(&name) {
            let help = "write lower case letters, digits and - _ . alone, such as logs-%Y.%m.%d";
            problems.error("index", "bad_value", format!("{name:?} {what}"), help);
        }
    }

    fn render(&mut self, event: &Event, time: Timestamp, origin: &OriginId) -> Result<Cow<'_, str>, Refusal> {
        match self {
            Index::Constant(text) => Ok(Cow::Borrowed(text)),
            Index::Made(template) if time == event.time => Ok(Cow::Owned(template.render(event, origin)?)),
            Index::Made(template) => {
                let moved = Event { time, ..event.clone() };
                Ok(Cow::Owned(template.render(&moved, origin)?))
            }
            Index::Timed { template, hour, text } => {
                let now = time.0.div_euclid(HOUR);
                if *hour != Some(now) {
                    let mut at = |time| template.render(&nothing(time), origin);
                    *text = at(time)?;
                    let first = Timestamp(now.saturating_mul(HOUR));
                    let is_same = at(first)? == *text && at(Timestamp(first.0.saturating_add(HOUR - 1)))? == *text;
                    *hour = is_same.then_some(now);
                }
                Ok(Cow::Borrowed(text))
            }
        }
    }
}

/// An event of which only its time is known.
fn nothing(time: Timestamp) -> Event {
    Event::new(Body::Raw(Bytes::new(), Codec::Raw), Position(0), time)
}

fn nowhere() -> OriginId {
    OriginId { node: String::new(), log: String::new(), partition: 0, kind: Default::default() }
}

/// Why no index can have this name (`MetadataCreateIndexService.validateIndexOrAliasName`). Names in `<>` are the server's to
/// work out.
fn fault_of_name(name: &str) -> Option<&'static str> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
    match name {
        _ if name.starts_with('<') => None,
        "." | ".." => Some("is no name of an index"),
        _ if name.len() > 255 => Some("is longer than 255 bytes"),
        _ if name.starts_with(['-', '_', '+']) => Some("begins with a character that no index may begin with"),
        _ if name.contains(is_odd) => Some("has a character that no index may have"),
        _ if name.chars().any(char::is_uppercase) => Some("has a capital letter, which no index may have"),
        _ => None,
    }
}

/// Names the document.
enum Id {
    /// By the event's own identity.
    Event,
    /// The server does.
    Server,
    Made(Text),
}

/// Says what is done.
enum Deed {
    Constant(Action),
    Made(Text),
}

impl Deed {
    fn compile(source: &str, problems: &mut Problems) -> Option<Deed> {
        match Text::compile(source, "action", problems)? {
            Text::Constant(name) => match Action::named(&name) {
                Some(action) => Some(Deed::Constant(action)),
                None => {
                    let help = "write index, create, update, upsert or delete";
                    problems.error("action", "bad_value", format!("{name:?} is no action"), help);
                    None
                }
            },
            made => Some(Deed::Made(made)),
        }
    }

    fn of(&mut self, event: &Event, origin: &OriginId) -> Result<Action, Refusal> {
        match self {
            Deed::Constant(action) => Ok(*action),
            Deed::Made(text) => {
                let name = text.render(event, origin)?;
                Action::named(name.trim())
                    .ok_or_else(|| Refusal::new("invalid_action", format!("{name:?} is no action, such as index")))
            }
        }
    }
}

/// What was written of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// What is done.
    pub action: Action,
    /// Which document it is, where the graph says so and events may share one.
    pub key: Option<Arc<str>>,
    /// The index, where the event chooses it.
    pub index: Option<Arc<str>>,
}

/// Makes the lines of events.
pub(crate) struct Writer {
    index: Index,
    /// The index of the last event, where events choose it: neighbours often share one.
    last_index: Option<Arc<str>>,
    time: Option<Expression>,
    action: Deed,
    id: Id,
    id_comes_from_key: bool,
    version: Option<(Text, VersionType)>,
    routing: Option<Text>,
    pipeline: Option<Text>,
    require_alias: bool,
    stamp: bool,
    rules: Rules,
    fields: Fields,
    found: Found,
}

impl Writer {
    /// From options; every problem goes to `problems`.
    pub fn compile(sources: Sources<'_>, problems: &mut Problems) -> Option<Writer> {
        if sources.index.trim().is_empty() {
            problems.error("index", "missing_value", "no index is named", "write one, such as logs-%Y.%m.%d");
        }
        let mut index = Index::compile(sources.index, problems);
        if let Some(index) = index.as_mut().filter(|_| !sources.index.trim().is_empty()) {
            index.check(problems);
        }
        let time =
            sources.time.map(|time| Problem::report(Expression::compile(time), "time", "invalid_time", problems));
        let action = Deed::compile(sources.action, problems);
        let id = match sources.id {
            None => Some(Id::Event),
            Some(NO_ID) => Some(Id::Server),
            Some(id) => Text::compile(id, "id", problems).map(Id::Made),
        };
        let mut text = |source: Option<&str>, path: &str| match source {
            None => Some(None),
            Some(source) => Text::compile(source, path, problems).map(Some),
        };
        let version = text(sources.version.map(|(text, _)| text), "version");
        let (routing, pipeline) = (text(sources.routing, "routing"), text(sources.pipeline, "pipeline"));
        let version_type = sources.version.and_then(|(_, kind)| kind).unwrap_or(VersionType::External);
        let index = index?;
        let rules = Rules {
            is_versioned: sources.version.is_some(),
            chooser: index.chooser(),
            is_pipeline_chosen: sources.pipeline.is_some_and(|pipeline| pipeline.contains("{{")),
        };
        let time = match time {
            None => None,
            Some(time) => Some(time?),
        };
        Some(Writer {
            index,
            last_index: None,
            // Nobody else asks for it.
            time: time.filter(|_| sources.index.contains('%') || sources.stamp),
            action: action?,
            id: id?,
            id_comes_from_key: sources.id.is_some_and(|id| id.contains("%kafka.key")),
            version: version?.map(|text| (text, version_type)),
            routing: routing?,
            pipeline: pipeline?,
            require_alias: sources.require_alias,
            stamp: sources.stamp,
            rules,
            fields: Fields::new(sources.stamp.then_some(TIMESTAMP)),
            found: Found::default(),
        })
    }

    /// How answers are to be read.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The index of an event of this time, if no event has to be looked at for it.
    pub fn index_at(&mut self, time: Timestamp) -> Option<String> {
        if matches!(self.index, Index::Made(_)) {
            return None;
        }
        self.index.render(&nothing(time), time, &nowhere()).ok().map(Cow::into_owned)
    }

    /// What is done, if it is the same for all events.
    pub fn constant_action(&self) -> Option<Action> {
        match self.action {
            Deed::Constant(action) => Some(action),
            Deed::Made(_) => None,
        }
    }

    /// Appends the lines of an event; when it is refused, `out` is as it was.
    pub fn write(&mut self, event: &Event, origin: &OriginId, out: &mut Vec<u8>) -> Result<Written, Refusal> {
        let before = out.len();
        let written = self.put(event, origin, out);
        if written.is_err() {
            out.truncate(before);
        }
        written
    }

    fn put(&mut self, event: &Event, origin: &OriginId, out: &mut Vec<u8>) -> Result<Written, Refusal> {
        let time = self.time_of(event, origin)?;
        let action = match event.is_tombstone() {
            true => self.action_of_tombstone(event, origin)?,
            false => self.action.of(event, origin)?,
        };
        let written = self.put_head(action, event, time, origin, out)?;
        match action {
            Action::Delete => {}
            Action::Index | Action::Create => {
                self.put_document(event, time, out)?;
                out.push(b'\n');
            }
            Action::Update => {
                out.extend_from_slice(b"{\"doc\":");
                self.put_document(event, time, out)?;
                out.extend_from_slice(b"}\n");
            }
            Action::Upsert => {
                out.extend_from_slice(b"{\"doc\":");
                self.put_document(event, time, out)?;
                out.extend_from_slice(b",\"doc_as_upsert\":true}\n");
            }
        }
        Ok(written)
    }

    /// A tombstone deletes the document that its record's key names. Where `id` does not come from the key, nothing says which
    /// document that is, unless the graph asks for a deletion itself.
    fn action_of_tombstone(&mut self, event: &Event, origin: &OriginId) -> Result<Action, Refusal> {
        if self.id_comes_from_key || matches!(self.action.of(event, origin), Ok(Action::Delete)) {
            return Ok(Action::Delete);
        }
        let message = "a tombstone has no document; to delete by it, set id: '{{ %kafka.key }}'";
        Err(Refusal::new("tombstone", message))
    }

    fn time_of(&mut self, event: &Event, origin: &OriginId) -> Result<Timestamp, Refusal> {
        let Some(time) = &mut self.time else { return Ok(event.time) };
        let value = time.value(event, origin)?;
        Timestamp::of(&value).ok_or_else(|| {
            Refusal::new("invalid_time", format!("the time is {value}, which is neither RFC 3339 nor Unix time"))
        })
    }

    /// The line that says what is to be done.
    fn put_head(
        &mut self,
        action: Action,
        event: &Event,
        time: Timestamp,
        origin: &OriginId,
        out: &mut Vec<u8>,
    ) -> Result<Written, Refusal> {
        let index = self.index.render(event, time, origin)?;
        if index.is_empty() {
            return Err(Refusal::new("template_failed", "the name of the index is empty"));
        }
        let chosen = (self.rules.chooser != Chooser::Graph).then(|| match &self.last_index {
            Some(last) if **last == *index => last.clone(),
            _ => self.last_index.insert(Arc::from(&*index)).clone(),
        });
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(action.verb().as_bytes());
        out.extend_from_slice(b"\":{\"_index\":");
        put_text(&index, out);
        let routing = self.routing.as_mut().map(|routing| routing.render(event, origin)).transpose()?;
        if let Some(routing) = routing.as_deref().filter(|routing| !routing.is_empty()) {
            out.extend_from_slice(b",\"routing\":");
            put_text(routing, out);
        }
        let mut key = None;
        match &mut self.id {
            Id::Server if action.needs_id() => {
                return Err(Refusal::new("invalid_id", format!("{} needs an id", action.verb())));
            }
            Id::Server => {}
            Id::Event => {
                out.extend_from_slice(b",\"_id\":");
                put_text(&event.token(origin), out);
            }
            Id::Made(text) => {
                let id = text.render(event, origin)?;
                if id.is_empty() || id.len() > LONGEST_ID {
                    let message = format!("an id of {} bytes; it takes 1 to {LONGEST_ID}", id.len());
                    return Err(Refusal::new("invalid_id", message));
                }
                out.extend_from_slice(b",\"_id\":");
                put_text(&id, out);
                key = Some(format!("{index}\0{}\0{id}", routing.as_deref().unwrap_or_default()).into());
            }
        }
        if let Some((version, kind)) = &mut self.version {
            let version = version.render(event, origin)?;
            let number = version.trim().parse::<i64>().ok().filter(|number| *number >= 0).ok_or_else(|| {
                Refusal::new("invalid_version", format!("{version:?} is no version; it takes a whole number from 0 on"))
            })?;
            out.extend_from_slice(format!(",\"version\":{number},\"version_type\":\"{}\"", kind.name()).as_bytes());
        }
        if let Some(pipeline) = &mut self.pipeline {
            let pipeline = pipeline.render(event, origin)?;
            if !pipeline.is_empty() {
                out.extend_from_slice(b",\"pipeline\":");
                put_text(&pipeline, out);
            }
        }
        if self.require_alias {
            out.extend_from_slice(b",\"require_alias\":true");
        }
        if matches!(action, Action::Update | Action::Upsert) {
            out.extend_from_slice(format!(",\"retry_on_conflict\":{UPDATE_TRIES}").as_bytes());
        }
        out.extend_from_slice(b"}}\n");
        Ok(Written { action, key, index: chosen })
    }

    /// The document, on one line, without the newline behind it.
    fn put_document(&mut self, event: &Event, time: Timestamp, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        match &event.body {
            Body::Raw(bytes, Codec::Json | Codec::Edited) => {
                // Before it is put on one line: only in a valid document is every raw newline whitespace.
                json::scan(bytes, &self.fields, &mut self.found).map_err(CodecError::from)?;
                out.extend_from_slice(&json::compact(bytes));
            }
            body => {
                Encoding::Json.encode(body, "", out)?;
                json::scan(&out[start..], &self.fields, &mut self.found).map_err(CodecError::from)?;
            }
        }
        if !self.found.is_object() {
            return Err(Refusal::new("no_object", "a document is a JSON object, and this is none"));
        }
        if self.stamp && self.found.get(0).is_none() {
            if !time.is_rfc3339() {
                let why = "RFC 3339 has the years 0000 to 9999; set @timestamp before";
                let what = format!("the event's time {} cannot be its @timestamp: {why}", time.to_rfc3339());
                return Err(Refusal::new("invalid_time", what));
            }
            stamp(time, start, out);
        }
        Ok(())
    }
}

/// The field that a data stream asks for.
const TIMESTAMP: &str = "@timestamp";

/// Puts `@timestamp` first into the object that begins at `start` or behind.
fn stamp(time: Timestamp, start: usize, out: &mut Vec<u8>) {
    let Some(brace) = out[start..].iter().position(|byte| *byte == b'{').map(|at| start + at) else { return };
    let is_empty = out[brace + 1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let mut field = format!("\"{TIMESTAMP}\":\"{}\"", time.to_rfc3339());
    if !is_empty {
        field.push(',');
    }
    out.splice(brace + 1..brace + 1, field.into_bytes());
}

/// A JSON text.
fn put_text(text: &str, out: &mut Vec<u8>) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        json::write_str(text, out);
    }
}

#[cfg(test)]
mod tests;
