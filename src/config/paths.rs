//! Paths in options: files that are not there, and `~`, which a shell expands and weir does not.

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::schema_check::resolve;
use super::tree::{Entry, Node, Value};

/// The format, in a schema, of a path to a file that is read.
const INPUT_FILE: &str = "input-file";
/// That of a path to a file or folder that is made, or that may be a pattern.
const PATH: &str = "path";

/// Checks the paths among options.
pub(super) fn check(root: &Json, options: &[Entry], subject: &str, problems: &mut Vec<Diagnostic>) {
    let mut found = Vec::new();
    Walk { root, subject, found: &mut found }.entries(root, options, "");
    // Alternatives of one option may both know a path.
    found.dedup_by(|one, other| one.place == other.place);
    problems.extend(found);
}

struct Walk<'a> {
    root: &'a Json,
    subject: &'a str,
    found: &'a mut Vec<Diagnostic>,
}

impl Walk<'_> {
    /// The tree's own limit of depth bounds the recursion.
    fn entries(&mut self, schema: &Json, entries: &[Entry], path: &str) {
        let schema = resolve(self.root, schema);
        for entry in entries {
            let Some(property) = schema.get("properties").and_then(|all| all.get(&entry.key)) else { continue };
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            self.node(property, &entry.node, &path);
        }
    }

    fn node(&mut self, schema: &Json, node: &Node, path: &str) {
        let schema = resolve(self.root, schema);
        for choice in ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(name)?.as_array()).flatten() {
            self.node(choice, node, path);
        }
        match &node.value {
            Value::Map(entries) => self.entries(schema, entries, path),
            Value::List(items) => {
                if let Some(of) = schema.get("items") {
                    items.iter().enumerate().for_each(|(at, item)| self.node(of, item, &format!("{path}.{at}")));
                }
            }
            Value::Text(text) => {
                if let Some(format @ (INPUT_FILE | PATH)) = schema.get("format").and_then(Json::as_str) {
                    self.text(text, node, path, format == INPUT_FILE);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, node: &Node, path: &str, is_read: bool) {
        let subject = self.subject;
        // What was put in from outside is not shown.
        let shown = if node.written.is_some() { "the file".to_owned() } else { format!("{text:?}") };
        if text == "~" || text.starts_with("~/") {
            let message = format!("{subject}: `{path}`: `~` is not expanded in paths");
            let problem = Diagnostic::error("bad_path", node.place.clone(), message);
            self.found.push(problem.help(format!("write \"${{HOME}}{}\", or an absolute path", &text[1..])));
        } else if is_read && let Err(error) = std::fs::metadata(text) {
            let message = format!("{subject}: `{path}`: {shown} cannot be read here: {error}");
            let problem = Diagnostic::warning("file_not_found", node.place.clone(), message);
            self.found.push(problem.help("correct the path, or put the file there before the graph runs"));
        }
    }
}
