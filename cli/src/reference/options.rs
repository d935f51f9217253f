//! The options of a node, read from its JSON Schema.

use serde_json::{Map, Value as Json};

/// An option of a component or of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OptionEntry {
    /// The option with the options that contain it: `tls.ca`.
    pub(super) path: String,
    /// The accepted values: `duration`, `block or drop_newest`.
    pub(super) takes: String,
    pub(super) required: bool,
    /// Empty: none is documented.
    pub(super) default: String,
    pub(super) text: String,
    /// Fixed words and what each means.
    pub(super) words: Vec<(String, String)>,
    /// The words that select the map which has this option, such as `codec: avro`; empty: it is always there.
    pub(super) with: Vec<String>,
}

impl OptionEntry {
    /// The name of the outermost option: `tls` of `tls.ca`, `columns` of `columns[].name`.
    pub(super) fn top(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or(&self.path)
    }

    /// True for an option inside another one.
    pub(super) fn is_nested(&self) -> bool {
        self.top().len() < self.path.len()
    }
}

/// Maximum number of words in the list of accepted values.
const MOST_WORDS: usize = 8;

/// Collects the options of a node or of the graph; nested options follow the option that contains them.
pub(super) struct Options<'a> {
    root: &'a Json,
    entries: Vec<OptionEntry>,
}

/// The values an option accepts.
#[derive(Default)]
struct Takes<'a> {
    /// Types in words: `size`, `list of text`.
    types: Vec<String>,
    /// Fixed words and what each means.
    words: Vec<(&'a str, &'a str)>,
    /// Maps with nested options, and what follows the option's path to reach them.
    maps: Vec<(&'static str, &'a Json)>,
}

impl<'a> Options<'a> {
    /// Starts with no options; `root` holds the definitions that schemas refer to.
    pub(super) fn new(root: &'a Json) -> Options<'a> {
        Options { root, entries: Vec::new() }
    }

    /// Returns the collected options. One that several maps have in common, of which a word selects one, is there once.
    pub(super) fn into_entries(self) -> Vec<OptionEntry> {
        let mut entries: Vec<OptionEntry> = Vec::new();
        for mut entry in self.entries {
            let with = std::mem::take(&mut entry.with);
            let is_same = |known: &&mut OptionEntry| OptionEntry { with: Vec::new(), ..(**known).clone() } == entry;
            match entries.iter_mut().filter(|known| known.path == entry.path).find(is_same) {
                Some(known) => known.with.extend(with),
                None => entries.push(OptionEntry { with, ..entry }),
            }
        }
        for entry in entries.iter_mut().filter(|entry| !entry.with.is_empty()) {
            let words: Vec<String> = entry.with.iter().map(|word| format!("`{word}`")).collect();
            entry.text = format!("With {}. {}", words.join(" or "), entry.text);
        }
        entries
    }

    /// Adds an option and the options nested in it.
    pub(super) fn option(&mut self, path: &str, schema: &'a Json, required: bool) {
        let mut takes = Takes::default();
        self.read(schema, &mut takes);
        // The most specific description: of the option, else of its type, else of the list's elements.
        let inside = takes.maps.first().map_or(&Json::Null, |(_, map)| map);
        let all = [schema, self.resolve(schema), inside];
        let written = all.into_iter().map(description).find(|text| !text.is_empty()).unwrap_or_default();
        let (text, default) = split_default(written);
        // A long list of words is only explained below the option, not repeated in its type.
        let is_long = takes.words.len() > MOST_WORDS && takes.words.iter().all(|(_, meaning)| !meaning.is_empty());
        let words = takes.words.iter().map(|(word, _)| format!("`{word}`"));
        let words: Vec<String> = if is_long { vec!["a name".to_owned()] } else { words.collect() };
        let mut all: Vec<String> = Vec::new();
        words.into_iter().chain(takes.types.iter().cloned()).for_each(|one| {
            if !all.contains(&one) {
                all.push(one)
            }
        });
        let explained = takes.words.iter().filter(|(_, meaning)| !meaning.is_empty());
        let words = explained.map(|(word, meaning)| ((*word).to_owned(), (*meaning).to_owned())).collect();
        self.entries.push(OptionEntry {
            path: path.to_owned(),
            takes: all.join(" or "),
            required,
            default,
            text,
            words,
            with: Vec::new(),
        });
        self.tag(path, &takes);
        for (step, map) in takes.maps {
            let tag = self.tag_of(map);
            for (name, property) in properties(map).filter(|(name, _)| tag.is_none_or(|(tag, _)| tag != *name)) {
                let first = self.entries.len();
                self.option(&format!("{path}{step}.{name}"), property, is_required(map, name));
                let Some(entry) = self.entries.get_mut(first) else { continue };
                if let Some((tag, word)) = tag {
                    entry.with.push(format!("{tag}: {word}"));
                } else if entry.text.is_empty() {
                    // One of several maps with one option each: the map's description is the option's.
                    (entry.text, entry.required) = (description(map).to_owned(), false);
                }
            }
        }
    }

    /// Adds the option that selects one of several maps, such as `auth.strategy`.
    fn tag(&mut self, path: &str, takes: &Takes<'a>) {
        let tagged = takes.maps.iter().filter_map(|(step, map)| Some((*step, self.tag_of(map)?, *map)));
        let tagged: Vec<(&str, (&str, &str), &Json)> = tagged.collect();
        let Some((step, (tag, _), _)) = tagged.first() else { return };
        // The name of a codec, for example, is accepted in place of the map and is explained there.
        let is_word_too = takes.words.iter().any(|(known, _)| tagged.iter().any(|(_, (_, word), _)| known == word));
        let words = tagged.iter().map(|(_, (_, word), map)| ((*word).to_owned(), split_default(description(map)).0));
        self.entries.push(OptionEntry {
            path: format!("{path}{step}.{tag}"),
            takes: match is_word_too {
                true => "a name".to_owned(),
                false => tagged.iter().map(|(_, (_, word), _)| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            },
            required: true,
            default: String::new(),
            text: match is_word_too {
                true => format!("One of the names that `{path}` accepts; selects the options below."),
                false => "Selects the options below.".to_owned(),
            },
            words: words.filter(|(_, meaning)| !meaning.is_empty() && !is_word_too).collect(),
            with: Vec::new(),
        });
    }

    /// The property with a fixed word by which a map is selected, and that word.
    fn tag_of(&self, map: &'a Json) -> Option<(&'a str, &'a str)> {
        properties(map).find_map(|(name, property)| Some((name, self.resolve(property).get("const")?.as_str()?)))
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

    /// A list or a map of names, and its element type.
    fn elements(&self, what: &str, step: &'static str, of: Option<&'a Json>, takes: &mut Takes<'a>) {
        let mut inner = Takes::default();
        if let Some(of) = of {
            self.read(of, &mut inner);
        }
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

pub(super) fn properties(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let all = schema.get("properties").and_then(Json::as_object);
    all.into_iter().flat_map(Map::iter).map(|(name, property)| (name.as_str(), property))
}

pub(super) fn is_required(schema: &Json, name: &str) -> bool {
    schema.get("required").and_then(Json::as_array).is_some_and(|all| all.iter().any(|one| one == name))
}

pub(super) fn description(schema: &Json) -> &str {
    schema.get("description").and_then(Json::as_str).unwrap_or_default()
}

/// True for the choice `${VAR}`, which every option accepts.
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

/// Splits a description into the text without its sentence `Default: ...`, and the default.
fn split_default(text: &str) -> (String, String) {
    let Some((before, default)) = text.split_once("Default: ") else { return (text.to_owned(), String::new()) };
    let (default, after) = default.split_once(". ").unwrap_or((default.trim_end_matches('.'), ""));
    (format!("{before}{after}").trim_end().to_owned(), default.replace('\n', " "))
}
