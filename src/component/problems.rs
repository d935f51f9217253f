//! What `check` reports: every problem of a node, with the option it is in.

use std::ops::Range;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The graph can run.
    Warning,
    /// The graph is refused.
    Error,
}

/// One problem of a node's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option, as a path from the node: `["topics", "0"]`. Empty: the node itself.
    pub path: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for the class of problem, such as `invalid_condition`.
    pub code: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Byte range within the option's text, for problems inside a VRL program or a template.
    pub span: Option<Range<usize>>,
}

/// Collects the problems of one node.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// An error in the option at `path` (dots separate steps: `tls.ca`), and what to do about it.
    pub fn error(&mut self, path: &str, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.push(Problem {
            path: split(path),
            severity: Severity::Error,
            code: code.to_owned(),
            message: message.into(),
            help: Some(help.into()),
            span: None,
        });
    }

    /// Something that is hardly meant in the option at `path`, and what to do about it.
    pub fn warning(&mut self, path: &str, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.error(path, code, message, help);
        if let Some(problem) = self.0.last_mut() {
            problem.severity = Severity::Warning;
        }
    }

    /// Adds a problem that was made elsewhere.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// The problems found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `"tls.ca"` as steps; the empty path is the node itself.
fn split(path: &str) -> Vec<String> {
    path.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect()
}
