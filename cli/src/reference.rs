//! The reference of this binary's components as Markdown, from the JSON Schema that editors get.

use std::fmt::Write;

use serde_json::{Map, Value as Json};
use weir::component::{Component, Kind, components};

/// A page of the reference.
#[derive(Debug)]
pub struct Page {
    /// Its file, beside those of the other pages: `source-kafka.md`.
    pub file: String,
    /// How a table of contents names it.
    pub title: String,
    /// The crate of the component it is about, if it is about one.
    pub package: Option<&'static str>,
    /// Its text in Markdown.
    pub text: String,
}

/// Every page: an overview, the settings of a graph, and a page a component.
pub fn pages() -> Vec<Page> {
    let schema = weir::config::schema();
    let all = components();
    let mut pages = vec![overview(&all), settings(&schema)];
    pages.extend(all.into_iter().map(|component| page(&schema, component)));
    pages
}

const KINDS: [Kind; 3] = [Kind::Source, Kind::Transform, Kind::Sink];

/// What a table calls the values of an option, and what is written.
const UNITS: &str = "\
| type | written |
|---|---|
| size | bytes with a unit: `512KiB`, `10MiB`, `1GB` |
| duration | a time with a unit: `250ms`, `5s`, `10m`, `1h30m`, `7d` |
| address | an IP address and a port: `127.0.0.1:9598` |
| list: ..., map: ... | a YAML list; a YAML map with names of your choice |
";

fn file(component: &Component) -> String {
    format!("{}-{}.md", component.kind.name(), component.name)
}

fn overview(all: &[&Component]) -> Page {
    let mut text = "# Reference\n\nEvery option of every component, as this version has them. `weir list` and \
                    `weir schema` say the same of the binary at hand.\n\n[Settings of a graph](graph.md) stand beside \
                    its nodes.\n"
        .to_owned();
    for kind in KINDS {
        let section = kind.section();
        let heading = section[..1].to_uppercase() + &section[1..];
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {heading}\n\n| component | does |\n|---|---|\n");
        for component in all.iter().filter(|component| component.kind == kind) {
            let _ = writeln!(text, "| [`{}`]({}) | {} |", component.name, file(component), cell(&component.summary()));
        }
    }
    let _ = write!(text, "\n## Types\n\n{UNITS}");
    Page { file: "index.md".to_owned(), title: "Reference".to_owned(), package: None, text }
}

fn settings(schema: &Json) -> Page {
    let intro = "# Settings of a graph\n\nA graph file is a map: `sources`, `transforms` and `sinks` hold its nodes by \
                 their ids, each with the `type:` of a component; these options stand beside them.\n\n";
    let mut options = Options { root: schema, rows: Vec::new() };
    for (name, property) in properties(schema) {
        if !KINDS.iter().any(|kind| kind.section() == name) {
            options.option(name, property, is_required(schema, name));
        }
    }
    let text = intro.to_owned() + &table(&options.rows);
    Page { file: "graph.md".to_owned(), title: "Settings of a graph".to_owned(), package: None, text }
}

fn page(schema: &Json, component: &Component) -> Page {
    let Component { kind, name, example, .. } = component;
    let nodes = schema["properties"][kind.section()]["additionalProperties"]["oneOf"].as_array();
    let is_it = |node: &&Json| node["properties"]["type"]["const"] == *name;
    let node = nodes.into_iter().flatten().find(is_it).unwrap_or(&Json::Null);
    let mut options = Options { root: schema, rows: Vec::new() };
    let (inputs, own): (Vec<_>, Vec<_>) =
        properties(node).filter(|(name, _)| *name != "type").partition(|(name, _)| *name == "inputs");
    for (name, property) in inputs.into_iter().chain(own) {
        options.option(name, property, is_required(node, name));
    }
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
        description(node),
        kind.section(),
        if options.rows.is_empty() { "It has none.\n".to_owned() } else { table(&options.rows) }
    );
    Page { file: file(component), title: (*name).to_owned(), package: Some(component.package), text }
}

/// A line of a table of options.
struct Row {
    /// The option, with the options it stands in: `tls.ca`.
    path: String,
    /// What it takes.
    takes: String,
    required: bool,
    default: String,
    text: String,
}

fn table(rows: &[Row]) -> String {
    let mut out = "| option | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    for Row { path, takes, required, default, text } in rows {
        let default = if *required { "**required**" } else { default };
        let _ = writeln!(out, "| `{path}` | {} | {} | {} |", cell(takes), cell(default), cell(text));
    }
    out + "\nSizes, durations and the other types are explained in the [overview](index.md#types).\n"
}

/// Words that the column of types holds.
const MOST_WORDS: usize = 8;

/// Collects the options of a node or of the graph, those within others behind them.
struct Options<'a> {
    root: &'a Json,
    rows: Vec<Row>,
}

/// What a value may be.
#[derive(Default)]
struct Takes<'a> {
    /// Types in words: `size`, `list of text`.
    types: Vec<String>,
    /// Fixed words, with what each means.
    words: Vec<(&'a str, &'a str)>,
    /// Maps with options of their own, and how the path goes on to them.
    maps: Vec<(&'static str, &'a Json)>,
}

impl<'a> Options<'a> {
    fn option(&mut self, path: &str, schema: &'a Json, required: bool) {
        let mut takes = Takes::default();
        self.read(schema, &mut takes);
        // What is nearest says most: of the option, of its type, of what a list holds.
        let inside = takes.maps.first().map_or(&Json::Null, |(_, map)| map);
        let all = [schema, self.resolve(schema), inside];
        let written = all.into_iter().map(description).find(|text| !text.is_empty()).unwrap_or_default();
        let (mut text, default) = split_default(written);
        for (word, meaning) in takes.words.iter().filter(|(_, meaning)| !meaning.is_empty()) {
            let _ = write!(text, "<br>`{word}`: {meaning}");
        }
        // Many words that are explained beside it need not stand here, too.
        let is_long = takes.words.len() > MOST_WORDS && takes.words.iter().all(|(_, meaning)| !meaning.is_empty());
        let words = takes.words.iter().map(|(word, _)| format!("`{word}`"));
        let words: Vec<String> = if is_long { vec!["a name".to_owned()] } else { words.collect() };
        let mut all: Vec<String> = Vec::new();
        words.into_iter().chain(takes.types).for_each(|one| {
            if !all.contains(&one) {
                all.push(one)
            }
        });
        self.rows.push(Row { path: path.to_owned(), takes: all.join(" or "), required, default, text });
        for (step, map) in takes.maps {
            // A map that says by a fixed word what it is: its options belong to that word.
            let constant = |(name, property)| Some((name, self.resolve(property).get("const")?.as_str()?));
            let tag: Option<(&str, &str)> = properties(map).find_map(constant);
            for (name, property) in properties(map).filter(|(name, _)| tag.is_none_or(|(tag, _)| tag != *name)) {
                let first = self.rows.len();
                self.option(&format!("{path}{step}.{name}"), property, is_required(map, name));
                let Some(row) = self.rows.get_mut(first) else { continue };
                if let Some((tag, word)) = tag {
                    row.text = format!("With `{tag}: {word}`. {}", row.text);
                } else if row.text.is_empty() {
                    // One of several maps with one option each: what the map is for is what the option is for.
                    (row.text, row.required) = (description(map).to_owned(), false);
                }
            }
        }
    }

    fn read(&self, schema: &'a Json, takes: &mut Takes<'a>) {
        let schema = self.resolve(schema);
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            choices.iter().filter(|choice| !is_variable(choice)).for_each(|choice| self.read(choice, takes));
            return;
        }
        if let Some(word) = schema.get("const").and_then(Json::as_str) {
            takes.words.push((word, description(schema)));
            return;
        }
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            takes.words.extend(words.iter().filter_map(Json::as_str).map(|word| (word, "")));
            return;
        }
        let mut of_type = |name: &str| {
            let text = match name {
                "null" => return,
                "string" => match schema.get("format").and_then(Json::as_str) {
                    Some("bytesize") => "size",
                    Some("span") => "duration",
                    Some("address") => "address",
                    _ => "text",
                },
                // A plain number is a size, too, in bytes; the unit is what is to be written.
                "integer" if schema.get("format").is_some_and(|format| format == "bytesize") => return,
                "integer" | "number" => return takes.types.push(name.to_owned() + &range(schema)),
                "boolean" => "`true` or `false`",
                "array" => return self.elements("list", "[]", schema.get("items"), takes),
                "object" if schema.get("properties").is_some() => {
                    takes.maps.push(("", schema));
                    "map"
                }
                "object" => return self.elements("map", ".NAME", schema.get("additionalProperties"), takes),
                other => other,
            };
            takes.types.push(text.to_owned());
        };
        match schema.get("type") {
            Some(Json::String(name)) => of_type(name),
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).for_each(of_type),
            _ => takes.types.push("any value".to_owned()),
        }
    }

    /// A list or a map of names, and what it holds.
    fn elements(&self, what: &str, step: &'static str, of: Option<&'a Json>, takes: &mut Takes<'a>) {
        let mut inner = Takes::default();
        if let Some(of) = of {
            self.read(of, &mut inner);
        }
        // Words with a meaning are explained below; here they would stand twice.
        let words = inner.words.iter().map(|(word, _)| format!("`{word}`"));
        let inside: Vec<String> = words.chain(inner.types).collect();
        takes.types.push(match inside.is_empty() {
            true => what.to_owned(),
            false => format!("{what}: {}", inside.join(" or ")),
        });
        takes.maps.extend(inner.maps.into_iter().map(|(_, map)| (step, map)));
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let name = schema.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.root.get("$defs")?.get(name)).map_or(schema, |found| self.resolve(found))
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let all = schema.get("properties").and_then(Json::as_object);
    all.into_iter().flat_map(Map::iter).map(|(name, property)| (name.as_str(), property))
}

fn is_required(schema: &Json, name: &str) -> bool {
    schema.get("required").and_then(Json::as_array).is_some_and(|all| all.iter().any(|one| one == name))
}

fn description(schema: &Json) -> &str {
    schema.get("description").and_then(Json::as_str).unwrap_or_default()
}

/// `${VAR}` may stand for any value: no table needs to say so.
fn is_variable(schema: &Json) -> bool {
    schema.get("pattern").and_then(Json::as_str).is_some_and(|pattern| pattern.starts_with("^\\$\\{"))
}

fn range(schema: &Json) -> String {
    let bound = |name: &str| schema.get(name).filter(|bound| bound.as_f64() != Some(0.0));
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

/// A description without its sentence `Default: ...`, and what that says.
fn split_default(text: &str) -> (String, String) {
    let Some((before, default)) = text.split_once("Default: ") else { return (text.to_owned(), String::new()) };
    let (default, after) = default.split_once(". ").unwrap_or((default.trim_end_matches('.'), ""));
    (format!("{before}{after}").trim_end().to_owned(), default.to_owned())
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
