//! The phases from files to a checked graph; every problem of every phase is collected.

use std::path::PathBuf;

use super::compile::compile;
use super::diagnostic::{self, Diagnostic, Severity, SourceText};
use super::document::Document;
use super::graph::Graph;
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
    let Document { texts, mut entries, mut problems } = document;
    let readable = problems.is_empty() || !entries.is_empty();
    for entry in &mut entries {
        // The bodies in tests are data, not configuration.
        if entry.key != "tests" {
            substitute(&mut entry.node, request.env, &texts, &mut problems);
        }
    }
    let stem = request.paths.first().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
    let graph = match readable {
        true => compile(&entries, &texts, stem.unwrap_or("graph"), &mut problems),
        false => None,
    };
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.source, place.span.start)));
    let is_refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    Loaded { graph: graph.filter(|_| !is_refused), diagnostics: problems, sources: texts }
}

/// The problems for people.
pub fn render_text(loaded: &Loaded, coloured: bool) -> String {
    diagnostic::render(&loaded.diagnostics, &loaded.sources, coloured)
}

/// The problems for programs.
pub fn render_json(loaded: &Loaded) -> serde_json::Value {
    diagnostic::render_json(&loaded.diagnostics, &loaded.sources)
}
