//! From files to one document: reading within limits, `--set`, and the sections of all files joined.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Place, Severity, SourceText};
use super::tree::{self, Entry, FILE_BYTES, Node, Value};

/// The sections whose entries may be spread over files.
pub(crate) const SECTIONS: [&str; 4] = ["sources", "transforms", "sinks", "tests"];

/// All files of a graph, as one.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub texts: Vec<SourceText>,
    /// Top-level entries; those of the sections are joined.
    pub entries: Vec<Entry>,
    pub problems: Vec<Diagnostic>,
}

impl Document {
    /// Reads every file, and every `*.yaml` and `*.yml` of every folder.
    pub fn read(paths: &[PathBuf]) -> Document {
        let mut document = Document::default();
        for path in paths {
            match files_of(path) {
                Ok(files) if files.is_empty() => {
                    let help = "name a file that ends in .yaml or .yml, or a folder that holds some";
                    document.unreadable(format!("{}: the folder has no YAML files", path.display()), help);
                }
                Ok(files) => files.iter().for_each(|file| document.add_file(file)),
                Err(error) => {
                    document.unreadable(format!("{}: {error}", path.display()), "check the path and its rights")
                }
            }
        }
        document
    }

    fn unreadable(&mut self, message: String, help: &str) {
        self.problems.push(Diagnostic {
            severity: Severity::Error,
            code: "unreadable_file".to_owned(),
            message,
            place: None,
            label: None,
            help: Some(help.to_owned()),
            related: Vec::new(),
        });
    }

    fn add_file(&mut self, path: &Path) {
        match read_limited(path) {
            Ok(text) => {
                self.texts.push(SourceText { name: path.display().to_string(), text });
                match tree::parse(self.texts.len() - 1, &self.texts[self.texts.len() - 1]) {
                    Ok(root) => self.join(root),
                    Err(problems) => self.problems.extend(problems),
                }
            }
            Err((message, help)) => self.unreadable(format!("{}: {message}", path.display()), help),
        }
    }

    /// Adds the top-level entries of one file.
    fn join(&mut self, root: Node) {
        let Value::Map(entries) = root.value else {
            let problem =
                Diagnostic::error("wrong_type", root.place.clone(), format!("a graph is a map, not {}", root.kind()));
            return self.problems.push(problem.help("begin with `sources:` at the first column"));
        };
        for entry in entries {
            let Some(present) = self.entries.iter_mut().find(|present| present.key == entry.key) else {
                self.entries.push(entry);
                continue;
            };
            match (&mut present.node.value, entry.node.value) {
                (Value::Map(all), Value::Map(more)) if SECTIONS.contains(&entry.key.as_str()) => {
                    for node in more {
                        match all.iter().find(|other| other.key == node.key) {
                            Some(other) => self.problems.push(duplicate_id(&node, &other.key_place)),
                            None => all.push(node),
                        }
                    }
                }
                (Value::List(all), Value::List(more)) if entry.key == "tests" => all.extend(more),
                _ => self.problems.push(
                    Diagnostic::error("duplicate_key", entry.key_place, format!("`{}` is set in two files", entry.key))
                        .related(present.key_place.clone(), "first set here")
                        .help("keep it in one of the files"),
                ),
            }
        }
    }

    /// Carries out `--set path=value`.
    pub fn set(&mut self, assignment: &str) {
        let source = self.texts.len();
        self.texts.push(SourceText { name: "--set".to_owned(), text: assignment.to_owned() });
        let whole = Place { source, span: 0..assignment.len() };
        let refuse = |message: String| {
            Diagnostic::error("bad_set", whole.clone(), message)
                .help("write --set path=value, as in --set sources.in.group_id=mine; numbers name items of a list")
        };
        let Some((path, value)) = assignment.split_once('=') else {
            return self.problems.push(refuse("`--set` without `=`".to_owned()));
        };
        let steps: Vec<&str> = path.split('.').collect();
        if steps.iter().any(|step| step.is_empty()) {
            return self.problems.push(refuse(format!("`{path}` is not a path")));
        }
        let place = Place { source, span: path.len() + 1..assignment.len().max(path.len() + 2) };
        let parsed = tree::parse(source, &SourceText { name: String::new(), text: value.to_owned() });
        let mut node = parsed.unwrap_or(Node {
            value: Value::Text(tree::Text { text: value.to_owned(), substituted: true, missing: false }),
            place: place.clone(),
        });
        relocate(&mut node, &place);
        let key_place = Place { source, span: 0..path.len() };
        if let Err(message) = assign(&mut self.entries, &steps, node, &key_place) {
            self.problems.push(refuse(message));
        }
    }
}

/// Ids are unique in a graph, whatever the kind.
pub(crate) fn duplicate_id(node: &Entry, other: &Place) -> Diagnostic {
    Diagnostic::error("duplicate_id", node.key_place.clone(), format!("there are two nodes with the id `{}`", node.key))
        .label("the second")
        .related(other.clone(), "the first")
        .help("give one of them another id, and change the `inputs` that mean it")
}

fn relocate(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_place = place.clone();
            relocate(&mut entry.node, place);
        }),
        // Its place is the argument, not a stretch of YAML.
        Value::Text(text) => text.substituted = true,
        _ => {}
    }
}

fn assign(entries: &mut Vec<Entry>, steps: &[&str], node: Node, key_place: &Place) -> Result<(), String> {
    let Some((first, rest)) = steps.split_first() else { return Ok(()) };
    let at = match entries.iter().position(|entry| entry.key == *first) {
        Some(at) => at,
        None => {
            let empty = Node { value: Value::Map(Vec::new()), place: key_place.clone() };
            entries.push(Entry { key: (*first).to_owned(), key_place: key_place.clone(), node: empty });
            entries.len() - 1
        }
    };
    assign_in(&mut entries[at].node, first, rest, node, key_place)
}

fn assign_in(target: &mut Node, name: &str, rest: &[&str], node: Node, key_place: &Place) -> Result<(), String> {
    let Some((next, after)) = rest.split_first() else {
        *target = node;
        return Ok(());
    };
    match &mut target.value {
        Value::Map(entries) => assign(entries, rest, node, key_place),
        Value::List(items) => {
            let item = next.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            let item = item.ok_or_else(|| format!("`{name}` is a list without an item `{next}`"))?;
            assign_in(item, next, after, node, key_place)
        }
        _ => Err(format!("`{name}` holds {}, which has no `{next}`", target.kind())),
    }
}

fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let is_yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_limited(path: &Path) -> Result<String, (String, &'static str)> {
    let failed = |error: std::io::Error| (error.to_string(), "check the path and its rights");
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        let message = "the file is larger than the 1 MiB a graph file may have".to_owned();
        return Err((
            message,
            "split the graph over several files, or give the file that holds the graph, not its data",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        (
            format!("the file is not UTF-8: byte {at} is not part of a character"),
            "save it as UTF-8 without a byte order mark",
        )
    })
}
