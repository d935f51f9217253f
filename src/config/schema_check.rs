//! Checks a tree against the JSON Schema that schemars makes of a config struct, and finds every problem.
//!
//! A validator of its own, because the point is the text and the place of each problem, not a verdict. It
//! knows what schemars emits for structs, enums, options, lists, maps and weir's own units.

use std::net::SocketAddr;
use std::str::FromStr;

use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Place};
use super::hints::{listing, nearest, shown};
use super::rename;
use super::tree::{Entry, Node, Value};
use super::units::{ByteSize, Span};

/// Checks one node's options.
pub(crate) struct SchemaCheck<'a> {
    /// The whole schema, for its `$defs`.
    pub root: &'a Json,
    /// How messages name the node: "node `k` (kafka source)".
    pub subject: String,
    /// Where to report what is missing: the key of the map it is missing from.
    pub home: Place,
    pub problems: Vec<Diagnostic>,
}

impl<'a> SchemaCheck<'a> {
    /// Checks the entries of a map against an object schema.
    pub fn entries(&mut self, schema: &'a Json, entries: &[Entry], path: &str) {
        let schema = self.resolve(schema);
        let properties = schema.get("properties").and_then(Json::as_object);
        let names: Vec<&str> = properties.map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default();
        let additional = schema.get("additionalProperties");
        let mut meant = Vec::new();
        for entry in entries {
            let below = join(path, &entry.key);
            match (properties.and_then(|map| map.get(&entry.key)), additional) {
                (Some(property), _) => self.option(property, entry, &below),
                (None, None | Some(Json::Bool(true))) => {}
                (None, Some(other)) if other.is_object() => self.option(other, entry, &below),
                (None, Some(_)) => meant.extend(self.unknown(entry, &names, path)),
            }
        }
        for required in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            // An option written under another name is one fault, not two.
            let is_there = entries.iter().any(|entry| entry.key == required) || meant.contains(&required);
            if !is_there {
                self.missing(required, properties.and_then(|map| map.get(required)), path);
            }
        }
    }

    fn option(&mut self, schema: &'a Json, entry: &Entry, path: &str) {
        let home = std::mem::replace(&mut self.home, entry.key_place.clone());
        self.node(schema, &entry.node, path);
        self.home = home;
    }

    /// Reports an option that does not exist; gives the one that was probably meant.
    fn unknown<'n>(&mut self, entry: &Entry, names: &[&'n str], path: &str) -> Option<&'n str> {
        let nearest = nearest(&entry.key, names);
        let subject = match path {
            "" => self.subject.clone(),
            path => format!("{}: `{path}`", self.subject),
        };
        self.problems.push(rename::unknown(&subject, entry, nearest, names));
        nearest
    }

    fn missing(&mut self, name: &str, property: Option<&'a Json>, path: &str) {
        let message = format!("{} lacks the option `{}`", self.subject, join(path, name));
        let what = property.and_then(description).unwrap_or_default();
        let help = format!("add `{name}:`. {what}");
        self.problems.push(Diagnostic::error("missing_field", self.home.clone(), message).help(help.trim_end()));
    }

    /// Checks one value.
    fn node(&mut self, schema: &'a Json, node: &Node, path: &str) {
        let own = description(schema);
        self.least_size(schema, node, path);
        let schema = self.resolve(schema);
        let what = own.or_else(|| description(schema));
        if matches!(node.value, Value::Unknown) {
            return;
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            return self.choice(choices, what.as_deref(), node, path);
        }
        if let Some(allowed) = constants(schema) {
            return self.one_of(&allowed, node, path);
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| is_type(name, node)) {
            return self.wrong_type(schema, &types, what.as_deref(), node, path);
        }
        if let (Some(format), Value::Text(text)) = (schema.get("format").and_then(Json::as_str), &node.value) {
            self.unit(format, text, node, path);
        }
        self.length(schema, node, path);
        self.range(schema, node, path);
        match &node.value {
            Value::Map(entries) => self.entries(schema, entries, path),
            Value::List(items) => {
                if let Some(of) = schema.get("items") {
                    let home = self.home.clone();
                    for (at, item) in items.iter().enumerate() {
                        self.home = item.place.clone();
                        self.node(of, item, &format!("{path}.{at}"));
                    }
                    self.home = home;
                }
            }
            _ => {}
        }
    }

    fn unit(&mut self, format: &str, text: &str, node: &Node, path: &str) {
        let verdict = match format {
            "bytesize" => ByteSize::from_str(text).map(drop),
            "span" => Span::from_str(text).map(drop),
            "address" => SocketAddr::from_str(text)
                .map(drop)
                .map_err(|_| format!("{text:?} is not an address with a port; write one such as \"127.0.0.1:9598\"")),
            _ => return,
        };
        let Err(why) = verdict else { return };
        // A substituted text may be a secret: name the option, not the value.
        let why =
            if node.written.is_some() { "the value put in for it has not the right form".to_owned() } else { why };
        let (code, help) = match format {
            "span" => ("bad_duration", "write a number and one of the units ms, s, m, h or d, as in \"5s\""),
            "address" => ("bad_address", "write an IP address, not a name, and a port, as in \"0.0.0.0:9598\""),
            _ => ("bad_size", "write a number and one of the units B, KB, MB, GB, KiB, MiB or GiB, as in \"10MiB\""),
        };
        let message = format!("{}: `{path}`: {why}", self.subject);
        self.problems.push(Diagnostic::error(code, node.place.clone(), message).help(help));
    }

    /// Bounds on the length of lists and texts.
    fn length(&mut self, schema: &Json, node: &Node, path: &str) {
        let (names, length, what) = match &node.value {
            Value::List(items) => (["minItems", "maxItems"], items.len(), "items"),
            Value::Text(text) => (["minLength", "maxLength"], text.chars().count(), "characters"),
            _ => return,
        };
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64).and_then(|bound| usize::try_from(bound).ok());
        let (least, most) = (bound(names[0]), bound(names[1]));
        let wanted = match (least, most) {
            (Some(least), _) if length < least => format!("at least {least}"),
            (_, Some(most)) if length > most => format!("at most {most}"),
            _ => return,
        };
        let message = match length {
            0 => format!("{}: `{path}` is empty", self.subject),
            _ => format!("{}: `{path}` has {length} {what}", self.subject),
        };
        let problem = Diagnostic::error("out_of_range", node.place.clone(), message);
        self.problems.push(problem.label(format!("takes {wanted}")).help(format!("give it {wanted} of the {what}")));
    }

    /// `Option<T>` and enums with data: takes the alternative that fits, or the one that fits best.
    fn choice(&mut self, choices: &'a [Json], what: Option<&str>, node: &Node, path: &str) {
        let resolved: Vec<&'a Json> = choices.iter().map(|choice| self.resolve(choice)).collect();
        let is_null = |schema: &Json| schema.get("type").and_then(Json::as_str) == Some("null");
        if matches!(node.value, Value::Null) && resolved.iter().any(|schema| is_null(schema)) {
            return;
        }
        let rest: Vec<&'a Json> = resolved.iter().filter(|schema| !is_null(schema)).copied().collect();
        let constants: Vec<Option<Vec<&str>>> = rest.iter().map(|schema| constants(schema)).collect();
        if constants.iter().all(Option::is_some) {
            let allowed: Vec<&str> = constants.into_iter().flatten().flatten().collect();
            return self.one_of(&allowed, node, path);
        }
        let maps: Vec<&'a Json> =
            rest.iter().zip(&constants).filter(|(_, words)| words.is_none()).map(|(schema, _)| *schema).collect();
        let keyed: Option<Vec<(&'a str, &'a Json)>> = maps.iter().map(|schema| only_option(schema)).collect();
        if let (Some(keyed), Value::Map(entries)) = (&keyed, &node.value) {
            return self.keyed(keyed, entries, node, path);
        }
        // A word, or a map that begins with one, as `decoding:` is.
        let words = constants.iter().position(Option::is_some);
        if let (Some(words), Value::Text(text)) = (words.and_then(|at| constants[at].as_ref()), &node.value) {
            return match keyed.into_iter().flatten().find(|(name, _)| Some(*name) == nearest(text, &[*name])) {
                Some((name, _)) if !words.contains(&text.as_str()) => {
                    let message = format!("{}: `{path}` does not say of what", self.subject);
                    let problem = Diagnostic::error("bad_value", node.place.clone(), message);
                    self.problems.push(problem.help(format!("write a map: `{{{name}: ...}}`")));
                }
                _ => self.one_of(words, node, path),
            };
        }
        if let Some(tag) = maps.first().and_then(|first| self.tags(first).next()) {
            let own = |schema: &&'a Json| self.tags(schema).find(|(name, _)| *name == tag.0).map(|(_, value)| value);
            let values: Vec<&str> = maps.iter().filter_map(own).collect();
            if values.len() == maps.len() && matches!(node.value, Value::Map(_)) {
                return self.tagged(tag.0, &values, &maps, node, path);
            }
        }
        let all: Vec<&str> = rest.iter().flat_map(|schema| types(schema)).collect();
        if !all.is_empty() && !all.iter().any(|name| is_type(name, node)) {
            return self.wrong_type(&Json::Null, &all, what, node, path);
        }
        let mut best: Option<Vec<Diagnostic>> = None;
        for schema in &rest {
            let mut attempt = SchemaCheck {
                root: self.root,
                subject: self.subject.clone(),
                home: self.home.clone(),
                problems: Vec::new(),
            };
            attempt.node(schema, node, path);
            let fits_type = types(schema).iter().any(|name| is_type(name, node));
            let is_better = best.as_ref().is_none_or(|best| fits_type && attempt.problems.len() < best.len());
            if attempt.problems.is_empty() {
                return;
            }
            if is_better || fits_type {
                best = Some(attempt.problems);
            }
        }
        self.problems.extend(best.unwrap_or_default());
    }

    /// An enum that says by its one option's name what it is.
    fn keyed(&mut self, choices: &[(&'a str, &'a Json)], entries: &[Entry], node: &Node, path: &str) {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let [entry] = entries else {
            let message = format!("{}: `{path}` has {} options, and takes one", self.subject, entries.len());
            let problem = Diagnostic::error("bad_value", node.place.clone(), message).allowed(&names);
            return self.problems.push(problem.help(format!("write one of {}", listing(&names))));
        };
        match choices.iter().find(|(name, _)| *name == entry.key) {
            Some((_, schema)) => self.option(schema, entry, &join(path, &entry.key)),
            None => drop(self.unknown(entry, &names, path)),
        }
    }

    /// An enum that says by a field what it is.
    fn tagged(&mut self, tag: &str, values: &[&str], schemas: &[&'a Json], node: &Node, path: &str) {
        let Some(written) = node.get(tag) else {
            let message = format!("{} lacks the option `{}`", self.subject, join(path, tag));
            let help = format!("add `{tag}:` with one of {}", listing(values));
            let problem = Diagnostic::error("missing_field", self.home.clone(), message);
            return self.problems.push(problem.allowed(values).help(help));
        };
        let chosen = values.iter().position(|value| written.node.as_text() == Some(value));
        match chosen {
            Some(number) => self.node(schemas[number], node, path),
            None => self.one_of(values, &written.node, &join(path, tag)),
        }
    }

    /// The fields of an object schema that have one possible value.
    fn tags(&self, schema: &'a Json) -> impl Iterator<Item = (&'a str, &'a str)> {
        let root = self.root;
        let properties = schema.get("properties").and_then(Json::as_object);
        properties
            .into_iter()
            .flatten()
            .filter_map(move |(name, property)| Some((name.as_str(), resolve(root, property).get("const")?.as_str()?)))
    }

    fn one_of(&mut self, allowed: &[&str], node: &Node, path: &str) {
        let written = node.as_text();
        if written.is_some_and(|text| allowed.contains(&text)) {
            return;
        }
        let shown = match &node.value {
            Value::Text(_) if node.written.is_some() => "the value put in for it".to_owned(),
            Value::Text(text) => format!("`{}`", shown(text)),
            _ => node.kind().to_owned(),
        };
        let message = format!("{}: `{path}` cannot be {shown}", self.subject);
        let mut problem = Diagnostic::error("bad_value", node.place.clone(), message);
        // A guess at a value from outside would say something of it.
        let guessed = written.filter(|_| node.written.is_none());
        if let Some(name) = guessed.and_then(|text| nearest(text, allowed)) {
            problem = problem.label(format!("did you mean `{name}`?"));
        }
        self.problems.push(problem.allowed(allowed).help(format!("write one of {}", listing(allowed))));
    }

    fn wrong_type(&mut self, schema: &Json, types: &[&str], what: Option<&str>, node: &Node, path: &str) {
        let format = schema.get("format").and_then(Json::as_str);
        let wanted: Vec<&str> = types.iter().filter(|name| **name != "null").map(|name| type_name(name)).collect();
        let wanted = match format {
            Some("span") => "a span of time".to_owned(),
            Some("bytesize") => "a size".to_owned(),
            _ => wanted.join(" or "),
        };
        let message = format!("{}: `{path}` takes {wanted}, not {}", self.subject, node.kind());
        let problem = Diagnostic::error("wrong_type", node.place.clone(), message).label(format!("expected {wanted}"));
        let takes = |name: &str| types.contains(&name);
        let help = match &node.value {
            Value::Null => "give it a value, or remove the option".to_owned(),
            Value::Int(_) if format == Some("span") => "give it a unit: ms, s, m, h or d, as in \"5s\"".to_owned(),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if takes("string") && format.is_none() => {
                "put it in quotes to make it a text".to_owned()
            }
            Value::Text(text) if node.written.is_none() && would_fit(text, types) => {
                format!("remove the quotes: `{text}`")
            }
            Value::Text(_) if node.written.is_some() && !takes("array") => format!(
                "the variable must hold {wanted}, and `${{...}}` must be the whole value, without quotes and on a line of its own"
            ),
            Value::Text(text) if takes("boolean") && is_old_boolean(text) => {
                "write `true` or `false`: other words for them are texts in YAML 1.2".to_owned()
            }
            Value::Text(text) if takes("array") && node.written.is_none() && !text.contains('\n') => {
                format!("put it in brackets to make it a list of one: `[{}]`", shown(text))
            }
            Value::Text(_) | Value::Int(_) if takes("array") => {
                "put it in brackets to make it a list of one: `[...]`".to_owned()
            }
            Value::List(items) if takes("string") && items.iter().all(|item| item.as_text().is_some()) => {
                let texts: Vec<&str> =
                    items.iter().filter(|item| item.written.is_none()).filter_map(Node::as_text).collect();
                match what.filter(|what| what.contains("commas")) {
                    Some(_) => format!("write one text, with commas between: \"{}\"", shown(&texts.join(","))),
                    None => "write one text, without brackets".to_owned(),
                }
            }
            _ => match what {
                Some(what) => format!("write {wanted} here. {what}"),
                None => format!("write {wanted} here"),
            },
        };
        self.problems.push(problem.help(help));
    }

    fn range(&mut self, schema: &Json, node: &Node, path: &str) {
        let number = match node.value {
            Value::Int(value) => value as f64,
            Value::Float(value) => value,
            _ => return,
        };
        let bound = |name| schema.get(name).and_then(Json::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum").or_else(|| largest(schema)));
        let is_outside = least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most);
        if !is_outside {
            return;
        }
        let allowed = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            (Some(least), None) => format!("at least {least}"),
            (_, Some(most)) => format!("at most {most}"),
            (None, None) => return,
        };
        let message = format!("{}: `{path}` is out of range", self.subject);
        self.problems.push(
            Diagnostic::error("out_of_range", node.place.clone(), message)
                .label(format!("must be {allowed}"))
                .help(format!("write a number {allowed}")),
        );
    }

    /// A size below which nothing works: mostly a number whose unit was forgotten.
    fn least_size(&mut self, schema: &Json, node: &Node, path: &str) {
        let Some(least) = schema.get("minBytes").and_then(Json::as_u64) else { return };
        let size = match &node.value {
            Value::Int(bytes) => u64::try_from(*bytes).ok(),
            Value::Text(text) => ByteSize::from_str(text).ok().map(|size| size.0),
            _ => None,
        };
        let Some(size) = size.filter(|size| *size < least) else { return };
        let message = format!("{}: `{path}` is too small", self.subject);
        let least = ByteSize(least);
        let problem = Diagnostic::error("out_of_range", node.place.clone(), message);
        let help = match &node.value {
            Value::Int(_) if node.written.is_none() => {
                format!("give it a unit, as in \"{size}MiB\", and at least {least}")
            }
            _ => format!("give it at least {least}"),
        };
        self.problems.push(problem.label(format!("must be at least {least}")).help(help));
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        resolve(self.root, schema)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether a text would be of one of the types without its quotes.
fn would_fit(text: &str, types: &[&str]) -> bool {
    match text {
        "true" | "false" => types.contains(&"boolean"),
        _ => {
            (types.contains(&"integer") && text.parse::<i64>().is_ok())
                || (types.contains(&"number") && text.parse::<f64>().is_ok_and(f64::is_finite))
        }
    }
}

/// What the words for truth values of YAML 1.1 are to those who still write them.
fn is_old_boolean(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str())
}

/// The largest number of the Rust type behind a schema, where YAML's own does not fit it.
fn largest(schema: &Json) -> Option<f64> {
    match schema.get("format").and_then(Json::as_str)? {
        "uint8" => Some(f64::from(u8::MAX)),
        "uint16" => Some(f64::from(u16::MAX)),
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        _ => None,
    }
}

/// Gives options that take texts the text of what was put in from outside, also where it reads as a number:
/// a password of digits is a password.
pub(crate) fn keep_texts(root: &Json, schema: &Json, node: &mut Node) {
    let schema = resolve(root, schema);
    let alternatives = || ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(*name)?.as_array()).flatten();
    match &mut node.value {
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let own = types(schema);
            let all: Vec<&str> = alternatives().flat_map(|schema| types(resolve(root, schema))).chain(own).collect();
            let is_taken = all.iter().any(|name| is_type(name, node));
            if let Some(written) = node.written.as_ref().filter(|_| !is_taken && all.contains(&"string")) {
                node.value = Value::Text(written.result.clone());
            }
        }
        Value::List(items) => {
            if let Some(of) = schema.get("items") {
                items.iter_mut().for_each(|item| keep_texts(root, of, item));
            }
        }
        Value::Map(entries) => {
            for schema in alternatives().map(|schema| resolve(root, schema)).chain([schema]) {
                for entry in entries.iter_mut() {
                    let property = schema.get("properties").and_then(|properties| properties.get(&entry.key));
                    if let Some(of) = property.or_else(|| schema.get("additionalProperties")) {
                        keep_texts(root, of, &mut entry.node);
                    }
                }
            }
        }
        _ => {}
    }
}

pub(super) fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let name = schema.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    let found = name.and_then(|name| root.get("$defs")?.get(name));
    found.unwrap_or(schema)
}

/// What an option is for, as its documentation begins.
fn description(schema: &Json) -> Option<String> {
    let text = schema.get("description").and_then(Json::as_str)?;
    Some(text.split("\n\n").next().unwrap_or_default().replace('\n', " "))
}

/// The one option of an object that has no other.
fn only_option(schema: &Json) -> Option<(&str, &Json)> {
    let properties = schema.get("properties")?.as_object()?;
    let (name, of) = properties.iter().next().filter(|_| properties.len() == 1)?;
    let is_required = schema.get("required")?.as_array()?.iter().any(|required| required == name);
    let is_alone = schema.get("additionalProperties") == Some(&Json::Bool(false));
    (is_required && is_alone && of.get("const").is_none()).then_some((name.as_str(), of))
}

/// The texts a schema allows, where it is a plain enum.
fn constants(schema: &Json) -> Option<Vec<&str>> {
    if let Some(constant) = schema.get("const") {
        return constant.as_str().map(|text| vec![text]);
    }
    if let Some(all) = schema.get("enum").and_then(Json::as_array) {
        return all.iter().filter(|value| !value.is_null()).map(Json::as_str).collect();
    }
    let of = schema.get("oneOf").and_then(Json::as_array)?;
    let inner: Option<Vec<Vec<&str>>> = of.iter().map(constants).collect();
    inner.map(|lists| lists.into_iter().flatten().collect())
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(name: &str, node: &Node) -> bool {
    matches!(
        (name, &node.value),
        ("null", Value::Null)
            | ("boolean", Value::Bool(_))
            | ("integer", Value::Int(_))
            | ("number", Value::Int(_) | Value::Float(_))
            | ("string", Value::Text(_))
            | ("array", Value::List(_))
            | ("object", Value::Map(_))
    )
}

fn type_name(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}
