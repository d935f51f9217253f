//! Names of sections, `type` and `inputs` that were written in another way.
//!
//! Each is reported once and then taken for what it was meant to be: without that, one wrong word at the top
//! would make every input unknown and every node unused.

use super::diagnostic::Diagnostic;
use super::document::SECTIONS;
use super::elsewhere;
use super::hints::{listing, nearest, shown};
use super::tree::{Entry, Value};
use crate::component::{Component, Kind, components};

/// Corrects what is misnamed and reports it. `settings` are the other names at the top.
pub(crate) fn correct(entries: &mut [Entry], settings: &[&str], problems: &mut Vec<Diagnostic>) {
    let allowed: Vec<&str> = SECTIONS.iter().chain(settings).copied().collect();
    let present: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let mut taken: Vec<&str> = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !allowed.contains(&entry.key.as_str())) {
        let Some(meant) = nearest(&entry.key, &allowed).filter(|name| SECTIONS.contains(name)) else { continue };
        // With the right one there as well, it is only unknown.
        if present.iter().any(|key| key == meant) || taken.contains(&meant) {
            continue;
        }
        taken.push(meant);
        problems.push(unknown("the graph", entry, Some(meant), &allowed));
        entry.key = meant.to_owned();
    }
    let all = components();
    for kind in [Kind::Source, Kind::Transform, Kind::Sink] {
        let Some(section) = entries.iter_mut().find(|entry| entry.key == kind.section()) else { continue };
        let Value::Map(nodes) = &mut section.node.value else { continue };
        for node in nodes {
            if let Value::Map(options) = &mut node.node.value {
                node_options(kind, &node.key, options, &all, problems);
            }
        }
    }
}

/// Finds `type` and, where there are inputs, `inputs` under other names.
fn node_options(
    kind: Kind,
    id: &str,
    options: &mut [Entry],
    all: &[&'static Component],
    problems: &mut Vec<Diagnostic>,
) {
    let has = |options: &[Entry], name: &str| options.iter().any(|option| option.key == name);
    let component = |options: &[Entry]| {
        let name = options.iter().find(|option| option.key == "type")?.node.as_text()?;
        all.iter().find(|component| component.kind == kind && component.name == name)
    };
    if !has(options, "type") {
        // A short word is near to many others: its value must be a component, or it a slip of one letter.
        let names_one = |text: &str| all.iter().any(|component| component.name == text);
        let is_type = |option: &&mut Entry| {
            let is_near = nearest(&option.key, &["type"]).is_some();
            let is_slip = strsim::damerau_levenshtein(&option.key, "type") == 1;
            option.node.as_text().is_some_and(|text| is_near && (is_slip || names_one(text)))
        };
        if let Some(option) = options.iter_mut().find(is_type) {
            let named =
                option.node.as_text().and_then(|text| all.iter().find(|one| one.kind == kind && one.name == text));
            let own = named.map(|component| names(component)).unwrap_or_default();
            let common: &[&str] = super::compile::common(kind);
            let allowed: Vec<&str> = common.iter().copied().chain(own.iter().map(String::as_str)).collect();
            let problem = unknown(&format!("node `{id}` ({})", kind.name()), option, Some("type"), &allowed);
            // Without the component there is no saying what else is allowed.
            problems.push(if named.is_some() { problem } else { problem.help("write `type`") });
            option.key = "type".to_owned();
        }
    }
    if kind == Kind::Source || has(options, "inputs") {
        return;
    }
    let own = component(options).map(|component| names(component)).unwrap_or_default();
    let mut allowed = vec!["type", "inputs"];
    allowed.extend(own.iter().map(String::as_str));
    let is_inputs = |option: &&mut Entry| {
        !allowed.contains(&option.key.as_str()) && nearest(&option.key, &allowed) == Some("inputs")
    };
    if let Some(option) = options.iter_mut().find(is_inputs) {
        problems.push(unknown(&format!("node `{id}` ({})", kind.name()), option, Some("inputs"), &allowed));
        option.key = "inputs".to_owned();
    }
}

/// The options of a component.
fn names(component: &Component) -> Vec<String> {
    let schema = (component.schema)();
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// The problem of an option that does not exist; `meant` is the one that does.
pub(crate) fn unknown(subject: &str, entry: &Entry, meant: Option<&str>, allowed: &[&str]) -> Diagnostic {
    let message = format!("{subject} has no option `{}`", shown(&entry.key));
    let problem = Diagnostic::error("unknown_field", entry.key_place.clone(), message).allowed(allowed);
    let listed = match allowed {
        [] => "no option is allowed here".to_owned(),
        _ => format!("allowed here: {}", listing(allowed)),
    };
    match meant {
        Some(name) => {
            problem.label(format!("did you mean `{name}`?")).help(format!("write `{name}`, or remove it; {listed}"))
        }
        None => match elsewhere::option(&entry.key) {
            Some(advice) => problem.label(advice).help(format!("remove it; {listed}")),
            None => problem.help(format!("remove it; {listed}")),
        },
    }
}
