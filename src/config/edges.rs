//! The edges between nodes: every `inputs` resolved, every cycle found.

use super::compile::Draft;
use super::diagnostic::{Diagnostic, Place};
use super::graph::{Input, Port};
use super::hints::{listing, nearest};
use super::tree::{Entry, Node, Value};
use crate::component::Kind;

/// What `inputs` lead to.
pub(crate) struct Edges {
    /// The inputs of each node, by number of the draft; `None` where one is wrong.
    pub inputs: Vec<Option<Vec<Input>>>,
    /// Numbers of the drafts in topological order; `None` where there is a cycle.
    pub order: Option<Vec<usize>>,
}

/// Resolves all inputs and finds what is missing, circular or unused.
pub(crate) fn resolve(drafts: &[Draft<'_>], entries: &[Entry], problems: &mut Vec<Diagnostic>) -> Edges {
    let mut places: Vec<Vec<Place>> = Vec::with_capacity(drafts.len());
    let mut known: Vec<Vec<Input>> = Vec::with_capacity(drafts.len());
    let mut inputs = Vec::with_capacity(drafts.len());
    for number in 0..drafts.len() {
        let before = problems.len();
        let found = inputs_of(number, drafts, problems);
        inputs.push((problems.len() == before).then(|| found.iter().map(|(input, _)| *input).collect()));
        places.push(found.iter().map(|(_, place)| place.clone()).collect());
        known.push(found.iter().map(|(input, _)| *input).collect());
    }
    for kind in [Kind::Source, Kind::Sink] {
        if !drafts.iter().any(|draft| draft.kind == kind) {
            let home = entries.first().map_or(Place { source: 0, span: 0..0 }, |entry| entry.key_place.clone());
            let message = format!("the graph has no {}", kind.name());
            let help = format!("add one under `{}:`; `weir list` shows what there is", kind.section());
            problems.push(Diagnostic::error("missing_field", home, message).help(help));
        }
    }
    // With an input mistyped somewhere, what it meant only looks unused.
    if inputs.iter().all(Option::is_some) {
        unused(drafts, &known, problems);
    }
    let order = sort(drafts, &known, &places, problems);
    Edges { inputs, order }
}

fn inputs_of(number: usize, drafts: &[Draft<'_>], problems: &mut Vec<Diagnostic>) -> Vec<(Input, Place)> {
    let Draft { kind, entry, .. } = &drafts[number];
    let written = entry.node.get("inputs");
    let (kind, written) = match (kind, written) {
        (Kind::Source, None) => return Vec::new(),
        (Kind::Source, Some(written)) => {
            let message = format!("the source `{}` cannot have `inputs`", entry.key);
            let help = "remove `inputs`: a source reads from outside; nodes that read the source name it in theirs";
            problems.push(Diagnostic::error("unknown_field", written.key_place.clone(), message).help(help));
            return Vec::new();
        }
        (kind, Some(written)) => (*kind, written),
        (kind, None) => {
            // A node that is no map has been reported already.
            if let Value::Map(_) = entry.node.value {
                let mut message = format!("the {} `{}` has no `inputs`", kind.name(), entry.key);
                let elsewhere = ["from", "input"].iter().find(|name| entry.node.get(name).is_some());
                if let Some(name) = elsewhere {
                    message += &format!("; did you mean `inputs` by `{name}`?");
                }
                let candidates = listing(&readable(drafts, number));
                let help = format!("add `inputs: [...]` with the nodes it reads, out of {candidates}");
                problems.push(Diagnostic::error("missing_field", entry.key_place.clone(), message).help(help));
            }
            return Vec::new();
        }
    };
    let Value::List(items) = &written.node.value else {
        let message =
            format!("node `{}` ({}): `inputs` takes a list, not {}", entry.key, kind.name(), written.node.kind());
        let help = "put it in brackets: `inputs: [...]`";
        problems.push(
            Diagnostic::error("wrong_type", written.node.place.clone(), message).label("expected a list").help(help),
        );
        return Vec::new();
    };
    if items.is_empty() {
        let message = format!("the {} `{}` reads nothing: its `inputs` are empty", kind.name(), entry.key);
        let help = format!("name at least one of {}", listing(&readable(drafts, number)));
        problems.push(Diagnostic::error("missing_field", written.node.place.clone(), message).help(help));
    }
    let mut found: Vec<(Input, Place)> = Vec::new();
    for item in items {
        match input(item, number, drafts) {
            Ok(input) if found.iter().any(|(other, _)| *other == input) => {
                let problem =
                    Diagnostic::warning("duplicate_input", item.place.clone(), "the same input is there twice");
                problems.push(problem.help("remove one: every event would count once all the same"));
            }
            Ok(input) => found.push((input, item.place.clone())),
            Err(problem) => problems.push(*problem),
        }
    }
    found
}

/// Ids a node may read: sources and transforms, but not itself.
fn readable<'a>(drafts: &[Draft<'a>], reader: usize) -> Vec<&'a str> {
    let is_readable = |(number, draft): &(usize, &Draft<'_>)| *number != reader && draft.kind != Kind::Sink;
    drafts.iter().enumerate().filter(is_readable).map(|(_, draft)| draft.entry.key.as_str()).collect()
}

fn input(item: &Node, reader: usize, drafts: &[Draft<'_>]) -> Result<Input, Box<Diagnostic>> {
    let place = item.place.clone();
    let Some(written) = item.as_text() else {
        let message = format!("an input is the id of a node, not {}", item.kind());
        return Err(Box::new(
            Diagnostic::error("wrong_type", place, message).help("write the id of a source or transform"),
        ));
    };
    let (id, port) = match written.split_once('.') {
        None => (written, None),
        Some((id, port)) => (id, Some(port)),
    };
    let candidates = readable(drafts, reader);
    let Some(node) = drafts.iter().position(|draft| draft.entry.key == id) else {
        let mut problem = Diagnostic::error("unknown_input", place, format!("there is no node `{id}`"));
        if let Some(name) = nearest(id, &candidates) {
            problem = problem.label(format!("did you mean `{name}`?"));
        }
        return Err(Box::new(problem.help(format!("inputs can be {}, or `.errors` of a node", listing(&candidates)))));
    };
    let kind = drafts[node].kind;
    if node == reader && port.is_none() {
        let problem = Diagnostic::error("self_input", place, format!("the node `{id}` reads itself"));
        return Err(Box::new(problem.help(format!("name another node: {}", listing(&candidates)))));
    }
    match (port, kind) {
        (None, Kind::Source | Kind::Transform) => Ok(Input { node, port: Port::Main }),
        (Some("errors"), Kind::Transform | Kind::Sink) => Ok(Input { node, port: Port::Errors }),
        (None, Kind::Sink) => {
            let problem =
                Diagnostic::error("unknown_input", place, format!("`{id}` is a sink: nothing comes out of it"));
            let help = format!("inputs can be {}; `{id}.errors` is what the sink rejects", listing(&candidates));
            Err(Box::new(problem.help(help)))
        }
        (Some(port), kind) => {
            let problem =
                Diagnostic::error("unknown_port", place, format!("the {} `{id}` has no port `{port}`", kind.name()));
            let ports = match kind {
                Kind::Source => format!("a source has one output: write `{id}`"),
                _ => format!("ports are `{id}` (what passed; not of a sink) and `{id}.errors` (what was rejected)"),
            };
            Err(Box::new(problem.help(ports)))
        }
    }
}

fn unused(drafts: &[Draft<'_>], known: &[Vec<Input>], problems: &mut Vec<Diagnostic>) {
    for (number, draft) in drafts.iter().enumerate() {
        let is_read = known.iter().flatten().any(|input| input.node == number && input.port == Port::Main);
        if draft.kind == Kind::Sink || is_read {
            continue;
        }
        let message = format!("nobody reads the {} `{}`", draft.kind.name(), draft.entry.key);
        let help = "add it to the `inputs` of a node, or remove it: what comes out of it is dropped";
        problems.push(Diagnostic::warning("unused_node", draft.entry.key_place.clone(), message).help(help));
    }
}

/// Kahn's algorithm, keeping the written order where there is a choice.
fn sort(
    drafts: &[Draft<'_>],
    known: &[Vec<Input>],
    places: &[Vec<Place>],
    problems: &mut Vec<Diagnostic>,
) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(drafts.len());
    loop {
        let is_ready =
            |number: &usize| !order.contains(number) && known[*number].iter().all(|input| order.contains(&input.node));
        match (0..drafts.len()).find(is_ready) {
            Some(number) => order.push(number),
            None if order.len() == drafts.len() => return Some(order),
            None => break,
        }
    }
    // Every node left has an input that is left, too: walking back must come round.
    let is_left = |number: usize| !order.contains(&number);
    let mut path = vec![(0..drafts.len()).find(|number| is_left(*number))?];
    loop {
        let last = *path.last()?;
        let back = known[last].iter().position(|input| is_left(input.node))?;
        let previous = known[last][back].node;
        if let Some(start) = path.iter().position(|number| *number == previous) {
            let mut ids: Vec<&str> =
                path[start..].iter().rev().map(|number| drafts[*number].entry.key.as_str()).collect();
            ids.push(ids[0]);
            let round = ids.join(" -> ");
            let problem =
                Diagnostic::error("cycle", places[last][back].clone(), format!("the nodes form a cycle: {round}"));
            problems.push(problem.help("remove one of these inputs: events would go round for ever"));
            return None;
        }
        path.push(previous);
    }
}
