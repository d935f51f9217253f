//! YAML as a tree in which every key and value knows its place.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::diagnostic::{Diagnostic, Place, SourceText};
use super::scalar;

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
    /// How the file has it, where something was put in from outside.
    pub written: Option<Box<Written>>,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Not known, for a problem that has been reported already: it fits everywhere.
    Unknown,
}

/// A text with `${...}` in it, as the file has it, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub text: String,
    pub result: String,
    pub pieces: Vec<Piece>,
}

/// A `${...}` or `$${`, and what stands for it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Bytes of the written text.
    pub from: Range<usize>,
    /// Bytes of the result.
    pub to: Range<usize>,
    /// It comes from outside the file: it is never shown.
    pub is_secret: bool,
    /// It is a `${...}`, not an escape.
    pub is_whole: bool,
}

impl Written {
    /// Where bytes of the result come from in the written text; a `${...}` is one thing.
    fn origin(&self, within: &Range<usize>) -> Range<usize> {
        let back = |at: usize, is_end: bool| {
            let mut shift = (0, 0);
            for piece in &self.pieces {
                if at < piece.to.start || (is_end && at == piece.to.start) {
                    break;
                }
                if at < piece.to.end || (is_end && at == piece.to.end) {
                    return if is_end { piece.from.end } else { piece.from.start };
                }
                shift = (piece.from.end, piece.to.end);
            }
            at + shift.0 - shift.1
        };
        back(within.start, false)..back(within.end, true)
    }
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
            Value::Text(text) => Some(text),
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
            Value::Unknown => "unknown",
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null | Value::Unknown => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
            ),
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

    /// Whether anything in it is unknown.
    pub fn is_complete(&self) -> bool {
        match &self.value {
            Value::Unknown => false,
            Value::List(items) => items.iter().all(Node::is_complete),
            Value::Map(entries) => entries.iter().all(|entry| entry.node.is_complete()),
            _ => true,
        }
    }

    /// Where bytes `within` of this text stand in its file. What cannot be told apart, such as an alias, is
    /// the whole value.
    pub fn place_within(&self, within: &Range<usize>, source: &SourceText) -> Place {
        self.exact(within, source).map_or_else(|| self.place.clone(), |span| Place { source: self.place.source, span })
    }

    fn exact(&self, within: &Range<usize>, source: &SourceText) -> Option<Range<usize>> {
        let (value, within) = match &self.written {
            Some(written) => (written.text.as_str(), written.origin(within)),
            None => (self.as_text()?, within.clone()),
        };
        let raw = source.text.get(self.place.span.clone())?;
        let origins = scalar::origins(raw, value)?;
        let start = within.start.min(value.len());
        let end = within.end.clamp(start, value.len());
        let first = raw.floor_char_boundary(origins[start]);
        // Up to behind the last character meant, not up to the next one, which may stand on another line.
        let last = if end > start { origins[end - 1] } else { origins[start] };
        let behind = raw.ceil_char_boundary(last.max(first) + 1);
        // An escape is more than its first character.
        let next = origins[end].max(behind);
        let stop = if raw.get(behind..next).is_some_and(|gap| !gap.contains('\n')) { next } else { behind };
        let base = self.place.span.start;
        Some(base + first..base + stop)
    }
}

/// What there is to a YAML document: its root, unless it cannot be read, and the problems of its form.
pub(crate) struct Parsed {
    pub root: Option<Node>,
    pub problems: Vec<Diagnostic>,
}

/// Reads one YAML document; problems in its form are the only problems found here.
pub(crate) fn parse(source: usize, text: &str) -> Parsed {
    let at = |span: Range<usize>| Place { source, span };
    let failed = |problem: Diagnostic| Parsed { root: None, problems: vec![problem] };
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if text.trim_start_matches('\u{feff}').lines().all(is_empty) {
        let help = "a graph has at least `sources:` and `sinks:`; `weir init` writes one to start from";
        return failed(Diagnostic::error("empty_file", at(0..0), "the file is empty").help(help));
    }
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    // YAML 1.2: `no` and `off` are texts.
    options.strict_booleans = true;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = DEPTH;
        budget.max_nodes = NODES;
        budget.max_aliases = ALIASES;
        budget.max_documents = 1;
        // What many aliases of one anchor come to is bounded below; by itself it is no fault.
        budget.enforce_alias_anchor_ratio = false;
    }
    options.alias_limits.max_total_replayed_events = NODES;
    options.with_snippet = false;
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => {
            let mut problems = Vec::new();
            let root = build(raw, source, text, &mut problems);
            Parsed { root: Some(root), problems }
        }
        Err(error) => failed(syntax_error(&error, source, text)),
    }
}

fn syntax_error(error: &serde_saphyr::Error, source: usize, text: &str) -> Diagnostic {
    use serde_saphyr::Error as E;
    let error = error.without_snippet();
    let start = error.location().map_or(0, |location| offset(&location, text));
    let char_len = text.get(start..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    let place = |start: usize| Place { source, span: start..(start + char_len).min(text.len()).max(start) };
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    // The place is shown beside it.
    let message = message.split(" at line ").next().unwrap_or_default();
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let indentation = &line[..line.len() - line.trim_start().len()];
    if let Some(tab) = indentation.find('\t') {
        return Diagnostic::error("tab_indentation", place(line_start + tab), "the line is indented with a tab")
            .label("a tab")
            .help("YAML allows only blanks before the first character of a line: write two blanks a level instead");
    }
    let is_documents = matches!(error, E::MultipleDocuments { .. }) || message.contains("Documents {");
    if is_documents {
        let help = "remove the `---`, or put what follows into a file of its own: `weir run` takes several files";
        return Diagnostic::error("yaml_syntax", place(start), "the file holds more than one document").help(help);
    }
    let is_limit = matches!(
        error,
        E::Budget { .. }
            | E::AliasReplayCounterOverflow { .. }
            | E::AliasReplayLimitExceeded { .. }
            | E::AliasExpansionLimitExceeded { .. }
            | E::AliasReplayStackDepthExceeded { .. }
    ) || message.contains("limit exceeded");
    if is_limit {
        let what = if message.contains("alias") {
            "its aliases, written out, make too much of it".to_owned()
        } else if message.contains("recursion") || message.contains("depth") {
            format!("it nests deeper than {DEPTH} levels")
        } else {
            format!("it holds too much ({message})")
        };
        let help = format!(
            "a file may hold {NODES} values, {DEPTH} levels and {ALIASES} aliases, aliases written out counted; no graph needs so many: write out what is meant"
        );
        return Diagnostic::error("too_large", place(start), format!("the file is beyond a limit: {what}")).help(help);
    }
    let is_odd_key = matches!(error, E::NullIntoString { .. }) || message.contains("expected string scalar");
    if is_odd_key {
        let help = "put it in quotes if it is meant: keys are texts, not lists, maps or `null`";
        return Diagnostic::error("yaml_syntax", place(start), "a key must be a text").help(help);
    }
    if let Some(open) = unclosed(text, start) {
        let bracket = &text[open..=open];
        let number = text[..open].matches('\n').count() + 1;
        let close = if bracket == "{" { "}" } else { "]" };
        return Diagnostic::error(
            "yaml_syntax",
            place(open),
            format!("the `{bracket}` in line {number} is never closed"),
        )
        .label("opened here")
        .help(format!("add `{close}` where the list or map ends, or write its items on lines of their own"));
    }
    let unquoted = line.find(": ${").or_else(|| line.find("[${")).or_else(|| line.find(", ${"));
    let help = match unquoted {
        Some(at) if line_start + at <= start && line[..at].contains(['{', '[']) || line.contains("[${") => {
            "within `{...}` and `[...]` YAML wants quotes around it: `\"${VAR}\"`; for a number, put the option on a line of its own"
        }
        _ if matches!(error, E::UnknownAnchor { .. }) => {
            "a text that begins with `*` is an alias in YAML: put it in quotes, or define the anchor `&name` before it"
        }
        _ if line.contains('{') && line.contains('}') && message.contains("flow") => {
            "within `{...}` and `[...]` a text with `: `, a comma, brackets or quotes in it must be in quotes itself: `'.a == \"x: y\"'`; or write the options on lines of their own"
        }
        _ => {
            "look here and in the line before for a missing `:`, an open quote or bracket, or an indentation that differs from its neighbours"
        }
    };
    Diagnostic::error("yaml_syntax", place(start), format!("not valid YAML: {message}")).help(help)
}

/// The byte a location means; errors of the parser know their line and column only.
fn offset(location: &serde_saphyr::Location, text: &str) -> usize {
    if let Some(at) = location.span().byte_offset().filter(|at| *at > 0) {
        let at = (at as usize).min(text.len());
        return text.floor_char_boundary(at);
    }
    let line = usize::try_from(location.line()).unwrap_or(1).saturating_sub(1);
    let column = usize::try_from(location.column()).unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
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

/// The first bracket before `end` that a flow mapping or sequence begins with, and that a later line's beginning shows to be
/// left open: a line that starts a key at the first column is in no bracket.
fn unclosed(text: &str, end: usize) -> Option<usize> {
    let mut open: Vec<usize> = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let is_key = line.starts_with(|c: char| c.is_ascii_alphabetic()) && line.contains(':');
        if is_key && !open.is_empty() {
            return open.first().copied();
        }
        let (mut quote, mut before) = (None, ' ');
        for (at, c) in line.char_indices() {
            match (quote, c) {
                (Some(begun), c) if c == begun && !(c == '"' && before == '\\') => quote = None,
                (Some(_), _) => {}
                // Only at the beginning of a value does a quote or a bracket mean anything.
                (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
                (None, '#') if before.is_whitespace() => break,
                (None, '{' | '[') if !open.is_empty() || matches!(before, ' ' | ':' | '-') => open.push(begin + at),
                (None, '}' | ']') => match open.pop() {
                    Some(opened) if (c == '}') != text[opened..].starts_with('{') => return Some(opened),
                    _ => {}
                },
                (None, _) => {}
            }
            before = c;
        }
        begin += line.len();
        // An open quote hides what follows.
        if quote.is_some() || (begin > end && open.is_empty()) {
            return None;
        }
    }
    open.first().copied()
}

fn build(raw: Spanned<Raw>, source: usize, text: &str, problems: &mut Vec<Diagnostic>) -> Node {
    let place = place_of(&raw.referenced, source);
    let value = match raw.value {
        Raw::Null => match tag_before(place.span.start, text) {
            None => Value::Null,
            Some(tag) => {
                let written = &text[tag.clone()];
                let help = format!("a text that begins with `!` is a tag in YAML: put it in quotes, `'{written}'`");
                let problem = Diagnostic::error("yaml_syntax", Place { source, span: tag.clone() }, "this is no value");
                problems.push(problem.label("a tag").help(help));
                Value::Unknown
            }
        },
        Raw::Bool(value) => Value::Bool(value),
        Raw::Int(value) => Value::Int(value),
        Raw::Float(value) => Value::Float(value),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(items.into_iter().map(|item| build(item, source, text, problems)).collect()),
        Raw::Map(pairs) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
            let mut numbers: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
            for (key, value) in pairs {
                let key_place = place_of(&key.referenced, source);
                let earlier = numbers.get(&key.value).map(|number| &entries[*number]);
                if let Some(earlier) = earlier {
                    problems.push(
                        Diagnostic::error(
                            "duplicate_key",
                            key_place,
                            format!("the key `{}` is there twice", key.value),
                        )
                        .label("the second")
                        .related(earlier.key_place.clone(), "the first")
                        .help("keep one of the two; nodes need ids of their own"),
                    );
                    continue;
                }
                numbers.insert(key.value.clone(), entries.len());
                entries.push(Entry { key: key.value, key_place, node: build(value, source, text, problems) });
            }
            Value::Map(entries)
        }
    };
    Node { value, place, written: None }
}

/// The tag that stands before what is nothing, such as a VRL expression that begins with "not".
fn tag_before(at: usize, text: &str) -> Option<Range<usize>> {
    let line = text.get(..at)?.rsplit('\n').next()?.trim_end();
    let end = at - text[..at].rsplit('\n').next()?.len() + line.len();
    let start = end - line.len() + line.rfind([' ', ',', '[', '{', ':']).map_or(0, |blank| blank + 1);
    text[start..end].starts_with('!').then_some(start..end)
}

fn place_of(location: &serde_saphyr::Location, source: usize) -> Place {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    let length = span.byte_len().unwrap_or(0) as usize;
    Place { source, span: start..start + length.max(1) }
}
