//! YAML as a tree in which every key and value knows its place.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::diagnostic::{Diagnostic, Place, SourceText};

/// Bounds on a file: far above any real graph, far below what hurts.
pub(crate) const FILE_BYTES: u64 = 1 << 20;
const DEPTH: usize = 64;
const NODES: usize = 100_000;
const ALIASES: usize = 1_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub value: Value,
    pub place: Place,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, and how it came to be.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub text: String,
    /// Something was put in from outside; the file's own text says what.
    pub substituted: bool,
    /// What was to be put in is missing. That has been said; nothing more can be said of the value.
    pub missing: bool,
}

/// One `key: value`.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

impl Node {
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(&text.text),
            _ => None,
        }
    }

    /// For messages: `a text`, `a number`, `a list`...
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
            ),
        }
    }

    /// Whether something that was to be put in below is missing.
    pub fn is_incomplete(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.missing,
            Value::List(items) => items.iter().any(Node::is_incomplete),
            Value::Map(entries) => entries.iter().any(|entry| entry.node.is_incomplete()),
            _ => false,
        }
    }

    /// The node at a path of keys and list numbers; as far as it leads.
    pub fn follow(&self, path: &[String]) -> &Node {
        let Some((first, rest)) = path.split_first() else { return self };
        let next = match &self.value {
            Value::Map(_) => self.get(first).map(|entry| &entry.node),
            Value::List(items) => first.parse::<usize>().ok().and_then(|at| items.get(at)),
            _ => None,
        };
        next.map_or(self, |next| next.follow(rest))
    }

    /// Where bytes `within` of this text stand in its file: exact for plain, quoted and block texts that were
    /// not substituted, else the whole value.
    pub fn place_within(&self, within: &Range<usize>, source: &SourceText) -> Place {
        let exact = match &self.value {
            Value::Text(text) if !text.substituted => locate(&text.text, within, &source.text, self.place.span.start),
            _ => None,
        };
        exact.map_or_else(|| self.place.clone(), |span| Place { source: self.place.source, span })
    }
}

/// Finds line after line of a YAML text in its file, and so the place of a stretch of it.
fn locate(value: &str, within: &Range<usize>, file: &str, from: usize) -> Option<Range<usize>> {
    let (start, end) = (within.start.min(value.len()), within.end.min(value.len()));
    let mut cursor = from;
    let mut line_start = 0;
    for line in value.split_inclusive('\n') {
        let text = line.trim_end_matches('\n');
        let found = cursor + file.get(cursor..)?.find(text)?;
        let line_end = line_start + line.len();
        if start < line_end || line_end == value.len() {
            let begin = found + (start - line_start).min(text.len());
            let finish = found + end.saturating_sub(line_start).clamp(start - line_start, text.len());
            return Some(begin..finish.max(begin + 1).min(file.len()));
        }
        cursor = found + text.len();
        line_start = line_end;
    }
    None
}

/// Reads one YAML document; problems in its form are the only problems found here.
pub(crate) fn parse(source: usize, text: &SourceText) -> Result<Node, Vec<Diagnostic>> {
    let at = |span: Range<usize>| Place { source, span };
    if text.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let help = "a graph has at least `sources:` and `sinks:`; `weir demo --eject DIR` writes one to start from";
        return Err(vec![Diagnostic::error("empty_file", at(0..0), "the file is empty").help(help)]);
    }
    if let Some(tab) = tab_indentation(&text.text) {
        let problem = Diagnostic::error("tab_indentation", at(tab..tab + 1), "the line is indented with a tab")
            .label("a tab")
            .help(
                "YAML allows only blanks before the first character of a line: replace the tab by two blanks a level",
            );
        return Err(vec![problem]);
    }
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = DEPTH;
        budget.max_nodes = NODES;
        budget.max_aliases = ALIASES;
        budget.max_documents = 1;
    }
    options.alias_limits.max_total_replayed_events = NODES;
    options.with_snippet = false;
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(&text.text, options) {
        Ok(raw) => {
            let mut problems = Vec::new();
            let node = build(raw, source, &mut problems);
            if problems.is_empty() { Ok(node) } else { Err(problems) }
        }
        Err(error) => Err(vec![syntax_error(&error, source, &text.text)]),
    }
}

fn syntax_error(error: &serde_saphyr::Error, source: usize, text: &str) -> Diagnostic {
    let error = error.without_snippet();
    let start = error.location().map_or(0, |at| offset_of(text, at.line() as usize, at.column() as usize));
    let place = Place { source, span: start..(start + 1).min(text.len()).max(start) };
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    // The place is shown beneath.
    let message = message.split(" at line ").next().unwrap_or_default();
    let is_limit = ["budget", "alias", "depth", "limit"].iter().any(|word| message.to_lowercase().contains(word));
    if is_limit {
        let help = format!(
            "a file may hold {NODES} values, {DEPTH} levels and {ALIASES} aliases, aliases written out counted"
        );
        return Diagnostic::error("too_large", place, format!("the file is beyond a limit: {message}")).help(help);
    }
    let help = "the YAML ends or breaks here: look for a missing `:`, an open quote or bracket, or a line indented differently from its neighbours";
    Diagnostic::error("yaml_syntax", place, format!("not valid YAML: {message}")).help(help)
}

/// Byte offset of a line and a column, both from 1; columns count characters.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len() - start, |(at, _)| at);
    start + within
}

/// A tab before the first character of a line that is not inside a block text's own indentation.
fn tab_indentation(text: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let blank = line.len() - line.trim_start_matches([' ', '\t']).len();
        let is_comment = line[blank..].starts_with(['#', '\n', '\r']);
        // Behind blanks a tab may belong to a block text; as the first character it never may.
        if line.starts_with('\t') && !is_comment {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

/// As serde-saphyr gives it.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(i64::try_from(value).map_or(Raw::Float(value as f64), Raw::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

fn build(raw: Spanned<Raw>, source: usize, problems: &mut Vec<Diagnostic>) -> Node {
    let place = place_of(&raw.referenced, source);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Int(value) => Value::Int(value),
        Raw::Float(value) => Value::Float(value),
        Raw::Text(text) => Value::Text(Text { text, substituted: false, missing: false }),
        Raw::List(items) => Value::List(items.into_iter().map(|item| build(item, source, problems)).collect()),
        Raw::Map(pairs) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
            for (key, value) in pairs {
                let key_place = place_of(&key.referenced, source);
                if let Some(earlier) = entries.iter().find(|entry| entry.key == key.value) {
                    problems.push(
                        Diagnostic::error(
                            "duplicate_key",
                            key_place,
                            format!("the key `{}` is there twice", key.value),
                        )
                        .label("the second")
                        .related(earlier.key_place.clone(), "the first")
                        .help("keep one of them; two nodes of one kind need two ids"),
                    );
                    continue;
                }
                entries.push(Entry { key: key.value, key_place, node: build(value, source, problems) });
            }
            Value::Map(entries)
        }
    };
    Node { value, place }
}

fn place_of(location: &serde_saphyr::Location, source: usize) -> Place {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    let length = span.byte_len().unwrap_or(0) as usize;
    Place { source, span: start..start + length.max(1) }
}
