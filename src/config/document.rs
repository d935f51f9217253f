//! From files to one document: reading within limits, `--set`, and the sections of all files joined.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Place, SourceText};
use super::elsewhere::{self, Foreign};
use super::tree::{self, Entry, FILE_BYTES, Node, Parsed, Value};

/// The sections whose entries may be spread over files.
pub(crate) const SECTIONS: [&str; 4] = ["sources", "transforms", "sinks", "tests"];

/// Files of one folder at most.
const FILES: usize = 1_000;

/// All files of a graph, as one.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub texts: Vec<SourceText>,
    /// Top-level entries; those of the sections are joined.
    pub entries: Vec<Entry>,
    pub problems: Vec<Diagnostic>,
    /// A file could not be read: what is missing may be in it.
    pub is_partial: bool,
}

/// Why a file is not used: message, help, and what there is of its text with the byte meant.
struct Unreadable {
    message: String,
    help: &'static str,
    text: String,
    at: usize,
}

impl Document {
    /// Reads every file, and every `*.yaml` and `*.yml` of every folder.
    pub fn read(paths: &[PathBuf]) -> Document {
        let mut document = Document::default();
        for path in paths {
            match files_of(path) {
                Ok(files) if files.is_empty() => {
                    let help = "name a file that ends in .yaml or .yml, or a folder that holds some";
                    document.unreadable(path, Unreadable::plain("the folder has no YAML files".to_owned(), help));
                }
                Ok(files) if files.len() > FILES => {
                    let message =
                        format!("the folder has {} YAML files, more than the {FILES} of a graph", files.len());
                    document.unreadable(path, Unreadable::plain(message, "give a folder that holds only the graph"));
                }
                Ok(files) => files.iter().for_each(|file| document.add_file(file)),
                Err(error) => document.unreadable(path, Unreadable::from(error)),
            }
        }
        document
    }

    fn unreadable(&mut self, path: &Path, why: Unreadable) {
        let place = Place { source: self.texts.len(), span: why.at..why.at + 1 };
        self.texts.push(SourceText { name: path.display().to_string(), text: why.text });
        self.problems.push(Diagnostic::error("unreadable_file", place, why.message).help(why.help));
        self.is_partial = true;
    }

    fn add_file(&mut self, path: &Path) {
        match read_limited(path) {
            Ok(text) => {
                let Parsed { root, problems } = tree::parse(self.texts.len(), &text);
                let is_graph = root.as_ref().is_some_and(|root| SECTIONS.iter().any(|name| root.get(name).is_some()));
                if let Some(foreign) = elsewhere::file(&text).filter(|_| !is_graph) {
                    return self.foreign(path, text, &foreign);
                }
                self.texts.push(SourceText { name: path.display().to_string(), text });
                self.problems.extend(problems);
                match root {
                    Some(root) => self.join(root),
                    None => self.is_partial = true,
                }
            }
            Err(why) => self.unreadable(path, why),
        }
    }

    /// Refuses a file of another product, with nothing said of its lines.
    fn foreign(&mut self, path: &Path, text: String, Foreign { product, at, guide }: &Foreign) {
        let place = Place { source: self.texts.len(), span: at.clone() };
        self.texts.push(SourceText { name: path.display().to_string(), text });
        let problem =
            Diagnostic::error("other_product", place, format!("this is a configuration of {product}, not a graph"));
        let help = format!("write a graph in YAML with `sources:`, `transforms:` and `sinks:`; docs/{guide} shows how");
        self.problems.push(problem.help(help));
        self.is_partial = true;
    }

    /// Adds the top-level entries of one file.
    fn join(&mut self, root: Node) {
        let Value::Map(entries) = root.value else {
            let problem =
                Diagnostic::error("wrong_type", root.place.clone(), format!("a graph is a map, not {}", root.kind()));
            self.is_partial = true;
            return self.problems.push(problem.help("begin with `sources:` at the first column"));
        };
        for entry in entries {
            let Some(present) = self.entries.iter_mut().find(|present| present.key == entry.key) else {
                self.entries.push(entry);
                continue;
            };
            match (&mut present.node.value, entry.node.value) {
                // A section that one of the files leaves empty.
                (_, Value::Null) if SECTIONS.contains(&entry.key.as_str()) => {}
                (empty @ Value::Null, more) if SECTIONS.contains(&entry.key.as_str()) => *empty = more,
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
        let start = path.len() + 1;
        let place = Place { source, span: start..assignment.len().max(start + 1) };
        let key_place = Place { source, span: 0..path.len() };
        let empty = Node { value: Value::Text(String::new()), place: place.clone(), written: None };
        let mut node = match value.trim().is_empty() {
            true => empty,
            false => match tree::parse(source, value) {
                Parsed { root: Some(node), problems } if problems.is_empty() => node,
                Parsed { problems, .. } => {
                    let why = problems.into_iter().next().map(|problem| problem.message).unwrap_or_default();
                    let problem = Diagnostic::error("bad_set", place, format!("the value of `{path}`: {why}"));
                    let help = "put a text with characters that mean something to YAML into quotes within the argument: --set 'path=\"value\"'";
                    return self.problems.push(problem.help(help));
                }
            },
        };
        relocate(&mut node, start);
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

/// Moves the places of a value that was parsed on its own to where it stands in its argument.
fn relocate(node: &mut Node, by: usize) {
    let shift = |place: &mut Place| place.span = place.span.start + by..place.span.end + by;
    shift(&mut node.place);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| relocate(item, by)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            shift(&mut entry.key_place);
            relocate(&mut entry.node, by);
        }),
        _ => {}
    }
}

fn assign(entries: &mut Vec<Entry>, steps: &[&str], node: Node, key_place: &Place) -> Result<(), String> {
    let Some((first, rest)) = steps.split_first() else { return Ok(()) };
    let at = match entries.iter().position(|entry| entry.key == *first) {
        Some(at) => at,
        None => {
            let empty = Node { value: Value::Map(Vec::new()), place: key_place.clone(), written: None };
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
    // An option or section that was left empty.
    if matches!(target.value, Value::Null) {
        target.value = Value::Map(Vec::new());
    }
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

impl Unreadable {
    fn plain(message: String, help: &'static str) -> Unreadable {
        Unreadable { message, help, text: String::new(), at: 0 }
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Unreadable {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; it is taken from the folder weir was started in",
            std::io::ErrorKind::PermissionDenied => "give the user that runs weir the right to read it",
            _ => "check the path and its rights",
        };
        Unreadable::plain(format!("cannot read it: {error}"), help)
    }
}

fn read_limited(path: &Path) -> Result<String, Unreadable> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        let message = "the file is larger than the 1 MiB a graph file may have".to_owned();
        let help = "split the graph over several files, or give the file that holds the graph, not its data";
        return Err(Unreadable::plain(message, help));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Unreadable {
            message: format!("the file is not UTF-8: byte {at} is not part of a character"),
            help: "save it as UTF-8, or write the character as an escape in double quotes: \"\\u00e4\"",
            // The same up to that byte.
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            at,
        }
    })
}
