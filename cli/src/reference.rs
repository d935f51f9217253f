//! The reference of this binary's components as Markdown, from the JSON Schema that editors get.

mod options;
mod shared;

use std::fmt::Write;

use serde_json::Value as Json;
use weir::component::{Component, Kind, components};

use options::{OptionEntry, Options, description, is_required, properties};
use shared::Shared;

/// A page of the reference.
#[derive(Debug)]
pub struct Page {
    /// File name: `source-kafka.md`.
    pub file: String,
    /// Title in a table of contents.
    pub title: String,
    /// The crate of the component, for a component's page.
    pub package: Option<&'static str>,
    /// Markdown text.
    pub text: String,
}

/// Returns every page: the overview, the options of a graph, a page per component, and the options that components share.
pub fn pages() -> Vec<Page> {
    let schema = weir::config::schema();
    let all = components();
    let own: Vec<Vec<OptionEntry>> = all.iter().map(|component| options(&schema, component)).collect();
    let shared = Shared::find(&all, &own);
    let mut pages = vec![overview(&all), settings(&schema), shared.page()];
    pages.extend(all.iter().zip(&own).map(|(component, own)| {
        page(&schema, component, &shared.replaced(own), "The [overview](index.md#types) explains the types.\n")
    }));
    pages
}

/// Returns a page per component with all its options, also those that other components share: for a terminal.
pub fn complete_pages() -> Vec<Page> {
    let schema = weir::config::schema();
    components().iter().map(|component| page(&schema, component, &options(&schema, component), "")).collect()
}

const KINDS: [Kind; 3] = [Kind::Source, Kind::Transform, Kind::Sink];

/// The types that options name, and how their values are written.
const TYPES: &str = "\
| type | how it is written |
|---|---|
| size | bytes with a unit: `512KiB`, `10MiB`, `1GB` |
| duration | a number with a unit: `250ms`, `5s`, `10m`, `1h30m`, `7d` |
| address | an IP address and a port: `127.0.0.1:9598` |
| list: ..., map: ... | a YAML list; a YAML map with names of your choice |
";

fn file(component: &Component) -> String {
    format!("{}-{}.md", component.kind.name(), component.name)
}

fn overview(all: &[&Component]) -> Page {
    let mut text = "# Reference\n\nEvery component and option of this version. `weir list` and `weir schema` print the same \
                    for the binary you have.\n\nSee also the [options of a graph](graph.md) and the [options that several \
                    components share](shared.md).\n"
        .to_owned();
    for kind in KINDS {
        let section = kind.section();
        let heading = section[..1].to_uppercase() + &section[1..];
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {heading}\n\n| component | purpose |\n|---|---|\n");
        for component in all.iter().filter(|component| component.kind == kind) {
            let _ = writeln!(text, "| [`{}`]({}) | {} |", component.name, file(component), cell(&component.summary()));
        }
    }
    let _ = write!(text, "\n## Types\n\n{TYPES}");
    Page { file: "index.md".to_owned(), title: "Reference".to_owned(), package: None, text }
}

fn settings(schema: &Json) -> Page {
    let intro = "# Options of a graph\n\nA graph file is a map. `sources`, `transforms` and `sinks` contain the nodes by id, each \
                 with the `type:` of a component. The options below apply to the graph as a whole.\n\n";
    let mut options = Options::new(schema);
    for (name, property) in properties(schema) {
        if !KINDS.iter().any(|kind| kind.section() == name) {
            options.option(name, property, is_required(schema, name));
        }
    }
    let text = intro.to_owned() + &list(&options.into_entries());
    Page { file: "graph.md".to_owned(), title: "Options of a graph".to_owned(), package: None, text }
}

/// The schema of a component's node.
fn node<'a>(schema: &'a Json, component: &Component) -> &'a Json {
    let nodes = schema["properties"][component.kind.section()]["additionalProperties"]["oneOf"].as_array();
    let is_it = |node: &&Json| node["properties"]["type"]["const"] == *component.name;
    nodes.into_iter().flatten().find(is_it).unwrap_or(&Json::Null)
}

fn options(schema: &Json, component: &Component) -> Vec<OptionEntry> {
    let node = node(schema, component);
    let mut options = Options::new(schema);
    let (inputs, own): (Vec<_>, Vec<_>) =
        properties(node).filter(|(name, _)| *name != "type").partition(|(name, _)| *name == "inputs");
    for (name, property) in inputs.into_iter().chain(own) {
        options.option(name, property, is_required(node, name));
    }
    options.into_entries()
}

fn page(schema: &Json, component: &Component, options: &[OptionEntry], end: &str) -> Page {
    let Component { kind, name, example, .. } = component;
    let id = match kind {
        Kind::Source => "in",
        Kind::Transform => "between",
        Kind::Sink => "out",
    };
    // Examples are one line or a block: a block goes below its id.
    let example = match example.trim_end() {
        block if block.contains('\n') => block.lines().map(|line| format!("\n    {line}")).collect(),
        line => format!(" {line}"),
    };
    let text = format!(
        "# The {} `{name}`\n\n{}\n\n```yaml\n{}:\n  {id}:{example}\n```\n\n## Options\n\n{}",
        kind.name(),
        description(node(schema, component)),
        kind.section(),
        if options.is_empty() { "None.\n".to_owned() } else { list(options) + end }
    );
    Page { file: file(component), title: (*name).to_owned(), package: Some(component.package), text }
}

/// Options as a list that reads at any width: name, type and default on one line, the description below.
fn list(options: &[OptionEntry]) -> String {
    let mut out = String::new();
    for OptionEntry { path, takes, required, default, text, words, .. } in options {
        let _ = write!(out, "- **`{path}`**: {takes}");
        match (required, default.as_str()) {
            (true, _) => out.push_str("; **required**"),
            (false, "") => {}
            (false, default) => drop(write!(out, "; default: {default}")),
        }
        let _ = writeln!(out, "\n\n  {}", text.replace('\n', "\n  ").replace("\n  \n", "\n\n"));
        for (word, meaning) in words {
            let _ = write!(out, "\n  - `{word}`: {}", meaning.replace('\n', " "));
        }
        out.push_str(if words.is_empty() { "\n" } else { "\n\n" });
    }
    out
}

/// A text as a cell of a table: one line, in which nothing is taken for markup that is none.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_code = false;
    for (at, character) in text.char_indices() {
        match character {
            '\n' => out.push(' '),
            '|' => out.push_str("\\|"),
            '<' if !is_code && !text[at..].starts_with("<br>") => out.push_str("&lt;"),
            other => {
                is_code ^= other == '`';
                out.push(other);
            }
        }
    }
    out
}
