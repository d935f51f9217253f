//! Problems of a graph's files: where, what, and what to do about it; for people and for programs.

use std::fmt::Write;
use std::ops::Range;

use serde_json::json;

use super::secrets::hide_addresses;
use crate::terminal::{self, lines};

pub use crate::component::Severity;

/// A text that configuration came from: a file, or one `--set`.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// The file's path as given, or `--set`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the text.
    pub source: usize,
    /// Bytes of it.
    pub span: Range<usize>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the graph is refused for it.
    pub severity: Severity,
    /// A stable word for the class of problem.
    pub code: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Where; `None` for a file that could not be read at all.
    pub place: Option<Place>,
    /// What to write at the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// What could stand there instead, where that is a list of names.
    pub allowed: Vec<String>,
    /// Other places that belong to it.
    pub related: Vec<(Place, String)>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: &str, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: code.to_owned(),
            message: message.into(),
            place: Some(place),
            label: None,
            help: None,
            allowed: Vec::new(),
            related: Vec::new(),
        }
    }

    /// A warning at a place.
    pub fn warning(code: &str, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, place, message) }
    }

    /// What to write at the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What could stand there instead.
    #[must_use]
    pub fn allowed<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        self.allowed = names.iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn related(mut self, place: Place, text: impl Into<String>) -> Self {
        self.related.push((place, text.into()));
        self
    }
}

/// A line of a text and a column in it, both from 1; columns count characters.
struct Spot<'a> {
    line: usize,
    column: usize,
    text: &'a str,
    /// Byte offset within `text`.
    at: usize,
}

/// The texts with the starts of their lines, so that many problems are as cheap as few.
struct Texts<'a>(Vec<(&'a SourceText, Vec<usize>)>);

impl<'a> Texts<'a> {
    fn new(sources: &'a [SourceText]) -> Texts<'a> {
        let starts = |text: &str| {
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect()
        };
        Texts(sources.iter().map(|source| (source, starts(&source.text))).collect())
    }

    fn spot(&self, source: usize, offset: usize) -> Option<Spot<'a>> {
        let (source, starts) = self.0.get(source)?;
        let text = source.text.as_str();
        let offset = text.floor_char_boundary(offset.min(text.len()));
        let line = starts.partition_point(|start| *start <= offset);
        let start = starts[line - 1];
        let end = starts.get(line).map_or(text.len(), |next| next - 1);
        let shown = text[start..end.max(offset)].trim_end_matches('\r');
        let before = text[start..offset].trim_start_matches('\u{feff}');
        Some(Spot { line, column: before.chars().count() + 1, text: shown, at: (offset - start).min(shown.len()) })
    }
}

/// Colours of a terminal; all empty where there is none.
struct Paint {
    error: &'static str,
    warning: &'static str,
    dim: &'static str,
    off: &'static str,
}

const COLOURED: Paint = Paint { error: "\x1b[1;31m", warning: "\x1b[1;33m", dim: "\x1b[34m", off: "\x1b[0m" };
const PLAIN: Paint = Paint { error: "", warning: "", dim: "", off: "" };

/// Characters of a line shown around the caret.
const WIDTH: usize = 100;

/// Every problem as text for people, with the line and a caret.
pub fn render(diagnostics: &[Diagnostic], sources: &[SourceText], coloured: bool) -> String {
    let paint = if coloured { COLOURED } else { PLAIN };
    let texts = Texts::new(sources);
    let mut out = String::new();
    for diagnostic in diagnostics {
        render_one(&mut out, diagnostic, &texts, &paint);
        out.push('\n');
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    if errors > 0 {
        let _ = writeln!(out, "{errors} error{} found", if errors == 1 { "" } else { "s" });
    }
    out
}

fn render_one(out: &mut String, diagnostic: &Diagnostic, texts: &Texts<'_>, paint: &Paint) {
    let Paint { dim, off, .. } = paint;
    let (word, colour) = match diagnostic.severity {
        Severity::Error => ("error", paint.error),
        Severity::Warning => ("warning", paint.warning),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{colour}{word}[{}]{off}: {}", diagnostic.code, lines(&diagnostic.message));
    if let Some(place) = &diagnostic.place {
        render_place(out, place, diagnostic.label.as_deref(), texts, "-->", paint);
    }
    for (place, text) in &diagnostic.related {
        render_place(out, place, Some(text), texts, ":::", paint);
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "  {dim}={off} help: {}", lines(help));
    }
}

fn render_place(out: &mut String, place: &Place, label: Option<&str>, texts: &Texts<'_>, arrow: &str, paint: &Paint) {
    let Some(Spot { line, column, text, at }) = texts.spot(place.source, place.span.start) else { return };
    let (source, _) = texts.0[place.source];
    let Paint { dim, off, error, .. } = paint;
    let gutter = line.to_string().len();
    let _ = writeln!(out, "{:gutter$}{dim}{arrow}{off} {}:{line}:{column}", "", terminal::line(&source.name));
    if source.text.is_empty() {
        return;
    }
    let (shown, before) = window(text, at);
    let marked = place.span.len().min(text.len().saturating_sub(at));
    let carets = text.get(at..at + marked).map_or(1, |marked| marked.chars().count());
    let carets = carets.min(shown.chars().count().saturating_sub(before)).max(1);
    let _ = writeln!(out, "{:gutter$} {dim}|{off}", "");
    let _ = writeln!(out, "{dim}{line} |{off} {shown}");
    let label = label.map(|label| format!(" {}", lines(label))).unwrap_or_default();
    let _ = writeln!(out, "{:gutter$} {dim}|{off} {:before$}{error}{}{label}{off}", "", "", "^".repeat(carets));
}

/// The part of a line around byte `at`, tabs as blanks, and how many characters stand before it.
fn window(text: &str, at: usize) -> (String, usize) {
    let column = text[..at].chars().count();
    let from = if column > WIDTH - 20 { column - WIDTH / 2 } else { 0 };
    // One character each, so that the caret stands where it should.
    let shown: String = hide_addresses(text).chars().skip(from).take(WIDTH).map(terminal::blank).collect();
    let cut = |cut: bool| if cut { "..." } else { "" };
    let before = column - from + cut(from > 0).len();
    (format!("{}{shown}{}", cut(from > 0), cut(text.chars().count() > from + WIDTH)), before)
}

/// Every problem for programs.
pub fn render_json(diagnostics: &[Diagnostic], sources: &[SourceText]) -> serde_json::Value {
    let texts = Texts::new(sources);
    let with_place = |place: Option<&Place>, fields: serde_json::Value| {
        let mut object = serde_json::Map::new();
        let spots = place.and_then(|place| {
            let (start, end) = (texts.spot(place.source, place.span.start)?, texts.spot(place.source, place.span.end)?);
            Some((&sources[place.source].name, start, end))
        });
        if let Some((file, start, end)) = spots {
            object.insert("file".to_owned(), file.as_str().into());
            object.insert("line".to_owned(), start.line.into());
            object.insert("column".to_owned(), start.column.into());
            object.insert("end_line".to_owned(), end.line.into());
            object.insert("end_column".to_owned(), end.column.into());
        }
        if let serde_json::Value::Object(fields) = fields {
            object.extend(fields);
        }
        serde_json::Value::Object(object)
    };
    let one = |diagnostic: &Diagnostic| {
        let related = diagnostic.related.iter().map(|(at, text)| with_place(Some(at), json!({ "text": text })));
        let fields = json!({
            "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": diagnostic.code,
            "message": diagnostic.message,
            "label": diagnostic.label,
            "help": diagnostic.help,
            "allowed": diagnostic.allowed,
            "related": related.collect::<Vec<_>>(),
        });
        with_place(diagnostic.place.as_ref(), fields)
    };
    diagnostics.iter().map(one).collect()
}
