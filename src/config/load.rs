//! The phases from files to a checked graph; every problem of every phase is collected.

use std::path::PathBuf;

use super::compile::compile;
use super::diagnostic::{self, Diagnostic, Severity, SourceText};
use super::document::Document;
use super::graph::Graph;
use super::rename::correct;
use super::settings::Settings;
use super::substitute::{Env, substitute};

/// What to load.
pub struct LoadRequest<'a> {
    /// Files and folders; together they are one graph.
    pub paths: &'a [PathBuf],
    /// `path=value` from the command line.
    pub set: &'a [String],
    /// The environment for `${VAR}`.
    pub env: Env<'a>,
}

/// A graph, if there is one, and everything there is to say about its files.
#[derive(Debug)]
pub struct Loaded {
    /// The graph; `None` when a problem is an error.
    pub graph: Option<Graph>,
    /// Every problem, in order of place.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts the problems point into.
    pub sources: Vec<SourceText>,
}

/// Loads a graph: reads, joins, sets, substitutes, checks and builds it. Reaches no peer and starts nothing.
pub fn load(request: &LoadRequest<'_>) -> Loaded {
    let mut document = Document::read(request.paths);
    for assignment in request.set {
        document.set(assignment);
    }
    let Document { texts, mut entries, mut problems, is_partial } = document;
    let settings = settings_names();
    correct(&mut entries, &settings.iter().map(String::as_str).collect::<Vec<_>>(), &mut problems);
    for entry in &mut entries {
        // The bodies in tests are data, not configuration.
        if entry.key != "tests" {
            substitute(&mut entry.node, request.env, &texts, &mut problems);
        }
    }
    let graph = match is_partial && entries.is_empty() {
        true => None,
        false => compile(&entries, &texts, &default_name(request.paths), is_partial, &mut problems),
    };
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.source, place.span.start)));
    let is_refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    Loaded { graph: graph.filter(|_| !is_refused), diagnostics: problems, sources: texts }
}

/// The names at the top that are no section.
fn settings_names() -> Vec<String> {
    let schema = schemars::schema_for!(Settings);
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// What the first file or folder is called, made a name that can stand in a path.
fn default_name(paths: &[PathBuf]) -> String {
    // `.` and `..` are called what they lead to.
    let path = paths.first().map(|path| match path.file_name() {
        Some(_) => path.clone(),
        None => path.canonicalize().unwrap_or_default(),
    });
    let stem = path.as_ref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut name: String = stem.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    // With what may stand in front of it a folder's name still.
    name.truncate(249);
    match name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        true => name,
        false if name.is_empty() => "graph".to_owned(),
        false => format!("graph-{name}"),
    }
}

/// The problems for people.
pub fn render_text(loaded: &Loaded, coloured: bool) -> String {
    diagnostic::render(&loaded.diagnostics, &loaded.sources, coloured)
}

/// The problems for programs.
pub fn render_json(loaded: &Loaded) -> serde_json::Value {
    diagnostic::render_json(&loaded.diagnostics, &loaded.sources)
}
