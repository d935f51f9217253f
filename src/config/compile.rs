//! From a document to a graph: settings, nodes, edges, tests. Every problem is collected.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::buffer::{BufferConfig, LEAST};
use super::diagnostic::{Diagnostic, Place, SourceText};
use super::document::{SECTIONS, duplicate_id};
use super::edges::{self, Gap};
use super::elsewhere::{self, Instead};
use super::graph::{DeadLettersConfig, Graph, Input, Node, NodeConfig, Test, TestBody};
use super::hints::{listing, nearest, shown};
use super::paths;
use super::schema_check::{SchemaCheck, keep_texts};
use super::secrets::Secrets;
use super::settings::{FeedConfig, OnStateChange, Settings, TestConfig};
use super::tree::{self, Entry, Value};
use super::whole;
use crate::component::{Component, Kind, Problems, Severity, components};
use crate::graph::{DEAD_LETTERS, keying};
use crate::script::{Expression, Problem};

const KINDS: [Kind; 3] = [Kind::Source, Kind::Transform, Kind::Sink];

/// A node as written.
pub(crate) struct Draft<'a> {
    pub kind: Kind,
    pub entry: &'a Entry,
    pub component: Option<&'static Component>,
    /// Names of its outputs, where they have names; `None` where its options are wrong and nobody knows.
    pub ports: Option<Vec<String>>,
    /// Whether its id alone is an output.
    pub has_main_port: bool,
    /// Of a source: see [`Node::keyed_by`].
    pub keyed_by: Vec<String>,
    /// Of a sink: what waits before it.
    pub buffer: Option<BufferConfig>,
}

/// The graph, as far as it could be built. With `is_partial`, a file is missing.
pub(crate) fn compile(
    entries: &[Entry],
    texts: &[SourceText],
    default_name: &str,
    is_partial: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<Graph> {
    let settings = settings(entries, problems);
    let mut drafts = drafts(entries, problems);
    let mut configs: Vec<Option<NodeConfig>> = Vec::with_capacity(drafts.len());
    for draft in &mut drafts {
        let config = config(draft, texts, problems).and_then(|config| {
            draft.buffer = buffer(draft, problems)?;
            Some(config)
        });
        draft.ports = match (&config, draft.kind) {
            (Some(NodeConfig::Transform(config)), _) => Some(config.ports()),
            (None, Kind::Transform) => None,
            _ => Some(Vec::new()),
        };
        if let Some(NodeConfig::Transform(config)) = &config {
            draft.has_main_port = config.has_main_port();
        }
        draft.keyed_by = keyed_by(draft, texts, problems);
        configs.push(config);
    }
    let is_hidden = |entry: &Entry| {
        KINDS.iter().any(|kind| entry.key == kind.section()) && !matches!(entry.node.value, Value::Map(_) | Value::Null)
    };
    let gap = match entries.iter().any(is_hidden) {
        _ if is_partial => Gap::File,
        true => Gap::Section,
        false => Gap::None,
    };
    let edges = edges::resolve(&drafts, entries, gap, problems);
    let node = |((draft, config), inputs): ((&Draft<'_>, Option<NodeConfig>), Option<Vec<Input>>)| {
        let (id, component) = (draft.entry.key.clone(), draft.component?.name.to_owned());
        let (ports, config, inputs) = (draft.ports.clone()?, config?, inputs?);
        let Draft { keyed_by, buffer, .. } = draft;
        let (keyed_by, buffer) = (keyed_by.clone(), buffer.clone());
        Some(Node { id, kind: draft.kind, component, inputs, keyed_by, ports, config, buffer })
    };
    whole::check(&drafts, &configs, &edges.inputs, settings.as_ref(), problems);
    let mut nodes: Vec<Option<Node>> = drafts.iter().zip(configs).zip(edges.inputs).map(node).collect();
    let tests = tests(entries, &drafts, gap, problems);
    let (settings, order) = (settings?, edges.order?);
    let place_of = |old: usize| order.iter().position(|other| *other == old).unwrap_or(0);
    let mut sorted = Vec::with_capacity(nodes.len());
    for &number in &order {
        let mut node = nodes[number].take()?;
        for input in &mut node.inputs {
            input.node = place_of(input.node);
        }
        sorted.push(node);
    }
    let graph = Graph {
        name: settings.name.unwrap_or_else(|| default_name.to_owned()),
        data_dir: settings.data_dir,
        memory: settings.memory.0,
        max_value: settings.max_value.0,
        dead_letters: DeadLettersConfig {
            path: settings.dead_letters.path,
            max_size: settings.dead_letters.max_size.0,
        },
        telemetry: settings.telemetry.map(|telemetry| telemetry.listen),
        drain: settings.drain.0,
        checkpoint_every: settings.checkpoint_every.0,
        state_partitions: settings.state_partitions as usize,
        idle_timeout: Some(settings.idle_timeout.0).filter(|span| !span.is_zero()),
        max_ahead: Some(settings.max_ahead.0).filter(|span| !span.is_zero()),
        reset_state: settings.on_state_change == OnStateChange::Reset,
        nodes: sorted,
        tests,
    };
    for problem in keying(&graph).1 {
        let id = &graph.nodes[problem.node].id;
        let place = drafts.iter().find(|draft| draft.entry.key == *id).map(|draft| draft.entry.key_place.clone());
        if let Some(place) = place {
            let told = match problem.severity {
                Severity::Error => Diagnostic::error(problem.code, place, problem.message),
                Severity::Warning => Diagnostic::warning(problem.code, place, problem.message),
            };
            problems.push(told.help(problem.help));
        }
    }
    Some(graph)
}

/// Everything at the top that is not a section.
fn settings(entries: &[Entry], problems: &mut Vec<Diagnostic>) -> Option<Settings> {
    let mut own: Vec<Entry> = entries.iter().filter(|entry| !SECTIONS.contains(&entry.key.as_str())).cloned().collect();
    let home = entries.first().map_or(Place { source: 0, span: 0..0 }, |entry| entry.key_place.clone());
    let schema = schemars::schema_for!(Settings);
    // A section's name mistyped is as likely as a setting's: both are allowed names here.
    let mut known = schema.as_value().clone();
    if let Some(properties) = known.get_mut("properties").and_then(Json::as_object_mut) {
        properties.extend(SECTIONS.iter().map(|section| ((*section).to_owned(), Json::Bool(true))));
    }
    keep_option_texts(&known, &mut own);
    let mut check =
        SchemaCheck { root: &known, subject: "the graph".to_owned(), home: home.clone(), problems: Vec::new() };
    check.entries(&known, &own, "");
    let found = check.problems;
    paths::check(schema.as_value(), &own, "the graph", problems);
    let name = own.iter().find(|entry| entry.key == "name");
    if let Some((entry, name)) = name.and_then(|entry| Some((entry, entry.node.as_text()?)))
        && !is_id(name)
    {
        let message = Secrets::of(&entry.node, true).hide(format!("`{}` cannot be the name of a graph", shown(name)));
        let problem = Diagnostic::error("bad_name", entry.node.place.clone(), message);
        problems.push(problem.help(id_help(name)));
    }
    if !found.is_empty() || !own.iter().all(|entry| entry.node.is_complete()) {
        problems.extend(found);
        return None;
    }
    let object = own.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect();
    let secrets = own.iter().fold(Secrets::default(), |all, entry| all.and(Secrets::of(&entry.node, true)));
    let settings: Settings =
        deserialize(Json::Object(object), "the graph", &secrets, |path| at(&own, path, &home), problems)?;
    Some(settings)
}

fn at(entries: &[Entry], path: &[String], home: &Place) -> Place {
    let entry = path.first().and_then(|first| entries.iter().find(|entry| entry.key == *first));
    entry.map_or_else(|| home.clone(), |entry| entry.node.follow(&path[1..]).place.clone())
}

/// See [`keep_texts`].
fn keep_option_texts(schema: &Json, options: &mut [Entry]) {
    for option in options {
        if let Some(property) = schema.get("properties").and_then(|properties| properties.get(&option.key)) {
            keep_texts(schema, property, &mut option.node);
        }
    }
}

/// Hands a checked value to serde. An error here is one that the schema does not know of.
fn deserialize<'de, T: Deserialize<'de>>(
    value: Json,
    subject: &str,
    secrets: &Secrets,
    place: impl Fn(&[String]) -> Place,
    problems: &mut Vec<Diagnostic>,
) -> Option<T> {
    match serde_path_to_error::deserialize(value) {
        Ok(value) => Some(value),
        Err(error) => {
            let path: Vec<String> = error.path().iter().map(ToString::to_string).collect();
            let message = secrets.hide(format!("{subject}: `{}`: {}", error.path(), error.inner()));
            let help = "write what the option's description in `weir schema` says; if you did, its schema is wrong: please report it as a bug of weir";
            problems.push(Diagnostic::error("bad_value", place(&path), message).help(help));
            None
        }
    }
}

/// Bytes of an id: it is the name of a folder in `data_dir`.
const LONGEST_ID: usize = 128;

/// What stands in a graph's folder beside those of its nodes; `lock` is from versions before 0.1.
const OWN_FOLDERS: [&str; 2] = ["dead-letters", "lock"];

pub(crate) fn is_id(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= LONGEST_ID
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn id_help(name: &str) -> &'static str {
    match name.len() {
        ..=LONGEST_ID => "use letters, digits, `-` and `_`, beginning with a letter",
        _ => "use at most 128 characters: it is the name of a folder in data_dir",
    }
}

/// The nodes as written, in order of sections and lines.
fn drafts<'a>(entries: &'a [Entry], problems: &mut Vec<Diagnostic>) -> Vec<Draft<'a>> {
    let all = components();
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for kind in KINDS {
        let Some(section) = entries.iter().find(|entry| entry.key == kind.section()) else { continue };
        if matches!(section.node.value, Value::Null | Value::Unknown) {
            continue;
        }
        let Value::Map(nodes) = &section.node.value else {
            let message = format!("`{}` is a map from ids to nodes, not {}", section.key, section.node.kind());
            let problem = Diagnostic::error("wrong_type", section.node.place.clone(), message);
            problems.push(problem.help(format!("write `{}: {{my_id: {{type: ...}}}}`", section.key)));
            continue;
        };
        for entry in nodes {
            if let Some(&other) = numbers.get(entry.key.as_str()) {
                problems.push(duplicate_id(entry, &drafts[other].entry.key_place));
                continue;
            }
            numbers.insert(&entry.key, drafts.len());
            if !is_id(&entry.key) {
                let message = format!("`{}` cannot be the id of a node", entry.key);
                problems.push(Diagnostic::error("bad_id", entry.key_place.clone(), message).help(id_help(&entry.key)));
            }
            if OWN_FOLDERS.contains(&entry.key.as_str()) {
                let message =
                    format!("`{}` cannot be the id of a node: data_dir has something of that name", entry.key);
                let help = format!("give the node another id, such as `{}_{}`", entry.key, kind.name());
                problems.push(Diagnostic::error("bad_id", entry.key_place.clone(), message).help(help));
            }
            if entry.key == DEAD_LETTERS {
                let message =
                    format!("`{DEAD_LETTERS}` cannot be the id of a node: in tests it means the rejected events");
                let help = format!("give the node another id, such as `{DEAD_LETTERS}_{}`", kind.name());
                problems.push(Diagnostic::error("bad_id", entry.key_place.clone(), message).help(help));
            }
            let component = component(kind, entry, &all, problems);
            drafts.push(Draft {
                kind,
                entry,
                component,
                ports: None,
                has_main_port: true,
                keyed_by: Vec::new(),
                buffer: None,
            });
        }
    }
    drafts
}

fn component(
    kind: Kind,
    entry: &Entry,
    all: &[&'static Component],
    problems: &mut Vec<Diagnostic>,
) -> Option<&'static Component> {
    let names: Vec<&str> =
        all.iter().filter(|component| component.kind == kind).map(|component| component.name).collect();
    if matches!(entry.node.value, Value::Unknown) {
        return None;
    }
    let Value::Map(_) = entry.node.value else {
        let message = format!("the node `{}` is a map with a `type`, not {}", entry.key, entry.node.kind());
        let help = format!("write `{}: {{type: ...}}`; types of {}s: {}", entry.key, kind.name(), listing(&names));
        problems.push(Diagnostic::error("wrong_type", entry.node.place.clone(), message).help(help));
        return None;
    };
    let Some(written) = entry.node.get("type") else {
        let message = format!("the {} `{}` has no `type`", kind.name(), entry.key);
        let help = format!("add `type:` with one of {}", listing(&names));
        let problem = Diagnostic::error("missing_field", entry.key_place.clone(), message);
        problems.push(problem.allowed(&names).help(help));
        return None;
    };
    if matches!(written.node.value, Value::Unknown) {
        return None;
    }
    let Some(name) = written.node.as_text() else {
        let message =
            format!("the `type` of `{}` is the name of a {}, not {}", entry.key, kind.name(), written.node.kind());
        let problem = Diagnostic::error("wrong_type", written.node.place.clone(), message);
        problems.push(problem.allowed(&names).help(format!("write one of {}", listing(&names))));
        return None;
    };
    let found = all.iter().find(|component| component.kind == kind && component.name == name).copied();
    if found.is_none() {
        let secrets = Secrets::of(&written.node, false);
        let message = secrets.hide(format!("there is no {} of type `{}`", kind.name(), shown(name)));
        let mut problem = Diagnostic::error("unknown_type", written.node.place.clone(), message).allowed(&names);
        let elsewhere = all.iter().find(|component| component.name == name);
        if written.node.written.is_some() {
            problem = problem.label("from outside the file");
        } else if let Some(component) = elsewhere {
            let (kind, section) = (component.kind.name(), component.kind.section());
            problem = problem.label(format!("that is a {kind}: move it to `{section}`"));
        } else {
            problem = match (elsewhere::component(name, &names), nearest(name, &names)) {
                (Some(Instead::Ours(ours)), _) if names.contains(&ours) => {
                    problem.label(format!("that is `{ours}` in weir"))
                }
                (Some(Instead::Ours(ours)), None) => problem.label(format!("`{ours}` does that in weir")),
                (Some(Instead::Way(way)), _) => problem.label(way),
                (Some(Instead::Nothing), _) => problem.label("not available in this version"),
                (_, Some(name)) => problem.label(format!("did you mean `{name}`?")),
                (None, None) => problem,
            };
        }
        let one_of = if names.is_empty() { "this binary has none".to_owned() } else { listing(&names) };
        problems.push(problem.help(format!("types of {}s: {one_of}", kind.name())));
    }
    found
}

/// The options that every node of a kind has.
pub(super) fn common(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Source => &["type", "keyed_by"],
        Kind::Transform => &["type", "inputs"],
        Kind::Sink => &["type", "inputs", "buffer"],
    }
}

/// A source's promise of which events come by the same partition.
fn keyed_by(draft: &Draft<'_>, texts: &[SourceText], problems: &mut Vec<Diagnostic>) -> Vec<String> {
    if draft.kind != Kind::Source {
        return Vec::new();
    }
    let Some(option) = draft.entry.node.get("keyed_by") else { return Vec::new() };
    let subject = format!("node `{}`", draft.entry.key);
    let Value::List(items) = &option.node.value else {
        let message = format!("{subject}: `keyed_by` is a list of VRL expressions, not {}", option.node.kind());
        let problem = Diagnostic::error("wrong_type", option.node.place.clone(), message);
        problems.push(problem.help("write for example `keyed_by: [.host]`"));
        return Vec::new();
    };
    let mut found = Problems::default();
    let mut all = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("keyed_by.{at}");
        match item.as_text() {
            Some(text) => {
                Problem::report(Expression::compile(text), &path, "invalid_key", &mut found);
                all.push(text.trim().to_owned());
            }
            None => found.error(&path, "wrong_type", "is no VRL expression", "write for example `keyed_by: [.host]`"),
        }
    }
    problems.extend(found.into_vec().into_iter().map(|problem| with_place(problem, &subject, draft.entry, texts)));
    all
}

/// With the options that every node of a kind has: allowed, and checked elsewhere.
fn with_common(mut schema: Json, kind: Kind) -> Json {
    let names = common(kind).iter().map(|name| ((*name).to_owned(), Json::Bool(true)));
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        let own = std::mem::take(properties);
        properties.extend(names.chain(own));
    }
    schema
}

/// Checks a node's options and builds its config.
fn config(draft: &Draft<'_>, texts: &[SourceText], problems: &mut Vec<Diagnostic>) -> Option<NodeConfig> {
    let (entry, component) = (draft.entry, draft.component?);
    // What a sink calls a buffer may be its own.
    let is_own = |option: &&Entry| match &*option.key {
        "buffer" => !is_buffer(draft, option),
        key => !common(draft.kind).contains(&key),
    };
    let mut own: Vec<Entry> = entry.node.entries().iter().filter(is_own).cloned().collect();
    let schema = with_common((component.schema)().to_value(), draft.kind);
    let subject = format!("node `{}` ({} {})", entry.key, component.name, draft.kind.name());
    keep_option_texts(&schema, &mut own);
    let mut check = SchemaCheck { root: &schema, subject, home: entry.key_place.clone(), problems: Vec::new() };
    check.entries(&schema, &own, "");
    let subject = check.subject;
    paths::check(&schema, &own, &subject, problems);
    if !check.problems.is_empty() || !own.iter().all(|option| option.node.is_complete()) {
        problems.extend(check.problems);
        // What is wrong in the programs of the other options is said all the same.
        own.retain(|option| is_sound(option, &schema));
        let (_, found) = build(draft, component, &own, &subject, &mut Vec::new())?;
        let in_programs = found.into_vec().into_iter().filter(|problem| problem.span.is_some());
        problems.extend(in_programs.map(|problem| with_place(problem, &subject, entry, texts)));
        return None;
    }
    let (config, found) = build(draft, component, &own, &subject, problems)?;
    problems.extend(found.into_vec().into_iter().map(|problem| with_place(problem, &subject, entry, texts)));
    Some(config)
}

/// Whether an option exists and has a value that fits.
fn is_sound(option: &Entry, schema: &Json) -> bool {
    let home = option.key_place.clone();
    let mut check = SchemaCheck { root: schema, subject: String::new(), home: home.clone(), problems: Vec::new() };
    check.entries(schema, std::slice::from_ref(option), "");
    // Others are missing here, which is no fault of this one.
    check.problems.iter().all(|problem| problem.code == "missing_field") && option.node.is_complete()
}

/// Makes the config of checked options, with what its own check finds.
fn build(
    draft: &Draft<'_>,
    component: &Component,
    own: &[Entry],
    subject: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<(NodeConfig, Problems)> {
    let entry = draft.entry;
    let mut object = serde_json::Map::new();
    object.insert("type".to_owned(), component.name.into());
    object.extend(own.iter().map(|option| (option.key.clone(), option.node.to_json())));
    let object = Json::Object(object);
    let place = |path: &[String]| at(own, path, &entry.key_place);
    let secrets = Secrets::of(&entry.node, true);
    let config = match draft.kind {
        Kind::Source => NodeConfig::Source(deserialize(object, subject, &secrets, place, problems)?),
        Kind::Transform => NodeConfig::Transform(deserialize(object, subject, &secrets, place, problems)?),
        Kind::Sink => NodeConfig::Sink(deserialize(object, subject, &secrets, place, problems)?),
    };
    let mut found = Problems::default();
    match &config {
        NodeConfig::Source(config) => config.check(&mut found),
        NodeConfig::Transform(config) => config.check(&mut found),
        NodeConfig::Sink(config) => config.check(&mut found),
    }
    Some((config, found))
}

/// Whether an option is the buffer before a sink. A sink may have an option of that name, which is no map.
fn is_buffer(draft: &Draft<'_>, option: &Entry) -> bool {
    let has_its_own = |component: &Component| (component.schema)().pointer("/properties/buffer").is_some();
    let is_map = matches!(option.node.value, Value::Map(_));
    draft.kind == Kind::Sink && option.key == "buffer" && (is_map || !draft.component.is_some_and(has_its_own))
}

/// The buffer before a sink; `None`: what is written is wrong.
fn buffer(draft: &Draft<'_>, problems: &mut Vec<Diagnostic>) -> Option<Option<BufferConfig>> {
    let Some(option) = draft.entry.node.entries().iter().find(|option| is_buffer(draft, option)) else {
        return Some(None);
    };
    let schema = schemars::schema_for!(BufferConfig);
    let wrapper = serde_json::json!({ "properties": { "buffer": schema.as_value() }, "$defs": schema.get("$defs") });
    let subject = format!("node `{}`", draft.entry.key);
    let home = option.key_place.clone();
    let mut own = vec![option.clone()];
    keep_option_texts(&wrapper, &mut own);
    let mut check = SchemaCheck { root: &wrapper, subject, home, problems: Vec::new() };
    check.entries(&wrapper, &own, "");
    if !check.problems.is_empty() || !option.node.is_complete() {
        problems.extend(check.problems);
        return None;
    }
    let secrets = Secrets::of(&option.node, true);
    let place = |path: &[String]| option.node.follow(path).place.clone();
    let config: BufferConfig = deserialize(own[0].node.to_json(), &check.subject, &secrets, place, problems)?;
    if config.max_size < LEAST {
        let place = option.node.follow(&["max_size".to_owned()]).place.clone();
        let message = format!("{}: `buffer.max_size`: is too small", check.subject);
        let problem = Diagnostic::error("out_of_range", place, message);
        problems.push(problem.help(format!("give it {LEAST} at least")));
    }
    Some(Some(config))
}

/// A problem found by `check`, at its place in the file: inside the option's text where it says so.
fn with_place(problem: crate::component::Problem, subject: &str, entry: &Entry, texts: &[SourceText]) -> Diagnostic {
    let node = entry.node.follow(&problem.path);
    let place = match (&problem.span, texts.get(node.place.source)) {
        (Some(span), Some(text)) => node.place_within(span, text),
        _ if problem.path.is_empty() => entry.key_place.clone(),
        _ => node.place.clone(),
    };
    let option = problem.path.join(".");
    let message = if option.is_empty() {
        format!("{subject}: {}", problem.message)
    } else {
        format!("{subject}: `{option}`: {}", problem.message)
    };
    // What is said of an option may quote parts of it; the rest of the node is quoted whole if at all.
    let secrets = Secrets::of(node, true).and(Secrets::of(&entry.node, problem.path.is_empty()));
    Diagnostic {
        severity: problem.severity,
        code: problem.code,
        message: secrets.hide(message),
        place: Some(place),
        label: None,
        help: problem.help.map(|help| secrets.hide(help)),
        allowed: Vec::new(),
        related: Vec::new(),
    }
}

fn tests(entries: &[Entry], drafts: &[Draft<'_>], gap: Gap, problems: &mut Vec<Diagnostic>) -> Vec<Test> {
    let is_section = |entry: &&Entry| entry.key == "tests" && !matches!(entry.node.value, Value::Null);
    let Some(section) = entries.iter().find(is_section) else { return Vec::new() };
    let schema = schemars::schema_for!(Vec<TestConfig>);
    // Without all nodes at hand, what the tests name may be one of the others.
    if let (Value::List(items), Gap::None) = (&section.node.value, gap) {
        for item in items {
            check_names(item, "feed", Kind::Source, drafts, problems);
            check_names(item, "expect", Kind::Sink, drafts, problems);
        }
    }
    let wrapper = serde_json::json!({ "properties": { "tests": schema.as_value() }, "$defs": schema.get("$defs") });
    let own = std::slice::from_ref(section);
    let mut check = SchemaCheck {
        root: &wrapper,
        subject: "the graph".to_owned(),
        home: section.key_place.clone(),
        problems: Vec::new(),
    };
    check.entries(&wrapper, own, "");
    let found = check.problems;
    if !found.is_empty() {
        problems.extend(found);
        return Vec::new();
    }
    let place = |path: &[String]| section.node.follow(path).place.clone();
    let secrets = Secrets::default();
    let configs = deserialize::<Vec<TestConfig>>(section.node.to_json(), "the tests", &secrets, place, problems);
    let Some(configs) = configs else { return Vec::new() };
    let mut tests = Vec::new();
    for config in configs {
        let feed = config.feed.into_iter().map(|(source, feed)| (source, bodies(feed))).collect();
        let expect = config.expect.into_iter().map(|(sink, expect)| (sink, bodies(expect))).collect();
        tests.push(Test { name: config.name, feed, expect });
    }
    tests
}

/// The nodes that a test feeds and expects must be there.
fn check_names(test: &tree::Node, field: &str, kind: Kind, drafts: &[Draft<'_>], problems: &mut Vec<Diagnostic>) {
    let mut names: Vec<&str> =
        drafts.iter().filter(|draft| draft.kind == kind).map(|draft| draft.entry.key.as_str()).collect();
    if kind == Kind::Sink {
        names.push(DEAD_LETTERS);
    }
    for entry in test.get(field).map(|field| field.node.entries()).unwrap_or_default() {
        if names.contains(&entry.key.as_str()) {
            continue;
        }
        let message = format!("the graph has no {} `{}`", kind.name(), entry.key);
        let mut problem = Diagnostic::error("unknown_node", entry.key_place.clone(), message).allowed(&names);
        if let Some(name) = nearest(&entry.key, &names) {
            problem = problem.label(format!("did you mean `{name}`?"));
        }
        problems.push(problem.help(format!("`{field}` names {}s: {}", kind.name(), listing(&names))));
    }
}

fn bodies(feed: FeedConfig) -> Vec<TestBody> {
    match feed {
        FeedConfig::Lines(text) => text.lines().map(|line| TestBody::Text(line.to_owned())).collect(),
        FeedConfig::Bodies(bodies) => bodies
            .into_iter()
            .map(|body| match body {
                Json::String(text) => TestBody::Text(text),
                other => TestBody::Json(other),
            })
            .collect(),
    }
}
