//! Checks over all nodes of a graph: what no node can see by itself.

use super::compile::Draft;
use super::diagnostic::Diagnostic;
use super::graph::{Input, NodeConfig};
use super::settings::Settings;
use crate::component::{Resource, Use};

/// Finds nodes that cannot both have what they ask for, and output that the graph reads again.
pub(super) fn check(
    drafts: &[Draft<'_>],
    configs: &[Option<NodeConfig>],
    inputs: &[Option<Vec<Input>>],
    settings: Option<&Settings>,
    problems: &mut Vec<Diagnostic>,
) {
    let mut uses: Vec<(usize, Resource)> = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let resources = match config {
            Some(NodeConfig::Source(config)) => config.resources(),
            Some(NodeConfig::Sink(config)) => config.resources(),
            Some(NodeConfig::Transform(_)) | None => continue,
        };
        for resource in resources {
            for (other, used) in &uses {
                let is_behind = || leads_to(inputs, *other, number);
                problems.extend(conflict((&drafts[*other], used), (&drafts[number], &resource), is_behind));
            }
            uses.push((number, resource));
        }
    }
    let telemetry = settings.and_then(|settings| settings.telemetry.as_ref());
    let Some(taken) = telemetry.and_then(|telemetry| Resource::address(telemetry.listen)) else { return };
    for (number, resource) in uses.iter().filter(|(_, resource)| *resource == taken) {
        let draft = &drafts[*number];
        let message = format!("node `{}` wants {} and so does `telemetry.listen`", draft.entry.key, resource.name);
        let problem = Diagnostic::error("taken_twice", draft.entry.key_place.clone(), message);
        problems.push(problem.help("give one of them another port"));
    }
}

/// Whether what leaves the node `from` comes to the node `to`.
fn leads_to(inputs: &[Option<Vec<Input>>], from: usize, to: usize) -> bool {
    let (mut seen, mut open) = (vec![false; inputs.len()], vec![to]);
    while let Some(node) = open.pop() {
        if node == from {
            return true;
        }
        if !std::mem::replace(&mut seen[node], true) {
            open.extend(inputs[node].iter().flatten().map(|input| input.node));
        }
    }
    false
}

/// `is_behind`: what the first node reads comes to the second.
fn conflict(
    (first, used): (&Draft<'_>, &Resource),
    (second, resource): (&Draft<'_>, &Resource),
    is_behind: impl Fn() -> bool,
) -> Option<Diagnostic> {
    if used.name != resource.name {
        return None;
    }
    let (id, other, name) = (&second.entry.key, &first.entry.key, &resource.name);
    let place = second.entry.key_place.clone();
    let problem = match (used.used, resource.used) {
        (Use::Owns, Use::Owns) => {
            let message = format!("nodes `{other}` and `{id}` both take {name}, which only one node can");
            Diagnostic::error("taken_twice", place, message)
                .help("keep one of them, and have both paths read it in their `inputs`")
        }
        (Use::Reads, Use::Writes | Use::WritesAlone) if is_behind() => {
            let message =
                format!("node `{id}` writes {name}, which node `{other}` reads: each event comes round again");
            let help = "write somewhere else; if that is wanted, make sure that a `filter` ends the circle";
            Diagnostic::warning("reads_own_output", place, message).help(help)
        }
        (Use::WritesAlone, Use::WritesAlone) => {
            let message = format!("nodes `{other}` and `{id}` both write {name}, which only one node can");
            Diagnostic::error("taken_twice", place, message).help("keep one of them, with both paths in its `inputs`")
        }
        _ => return None,
    };
    Some(problem.related(first.entry.key_place.clone(), "the other node"))
}
