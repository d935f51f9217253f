//! The edges between nodes: every `inputs` resolved, every cycle found.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::compile::Draft;
use super::diagnostic::{Diagnostic, Place};
use super::graph::{Input, Port};
use super::hints::{listing, nearest, shown};
use super::secrets::Secrets;
use super::tree::{Entry, Node, Value};
use crate::component::Kind;
use crate::graph::DEAD_LETTERS;

/// What `inputs` lead to.
pub(crate) struct Edges {
    /// The inputs of each node, by number of the draft; `None` where one is wrong.
    pub inputs: Vec<Option<Vec<Input>>>,
    /// Numbers of the drafts in topological order; `None` where there is a cycle.
    pub order: Option<Vec<usize>>,
}

/// What could not be read: an id that is not there may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Everything was read.
    None,
    /// A section is no map.
    Section,
    /// A file could not be read.
    File,
}

/// Resolves all inputs and finds what is missing, circular or unused.
pub(crate) fn resolve(drafts: &[Draft<'_>], entries: &[Entry], gap: Gap, problems: &mut Vec<Diagnostic>) -> Edges {
    let all = All::of(drafts, gap);
    let mut places: Vec<Vec<Place>> = Vec::with_capacity(drafts.len());
    let mut known: Vec<Vec<Input>> = Vec::with_capacity(drafts.len());
    let mut are_right = Vec::with_capacity(drafts.len());
    for number in 0..drafts.len() {
        let (found, is_right) = inputs_of(number, &all, problems);
        are_right.push(is_right);
        places.push(found.iter().map(|(_, place)| place.clone()).collect());
        known.push(found.iter().map(|(input, _)| *input).collect());
    }
    wire_dead_letters(drafts, &mut known, &mut places);
    let inputs: Vec<Option<Vec<Input>>> =
        known.iter().zip(are_right).map(|(inputs, is_right)| is_right.then(|| inputs.clone())).collect();
    for kind in [Kind::Source, Kind::Sink] {
        // A section that is no map has been reported already.
        let is_wrong = entries
            .iter()
            .any(|entry| entry.key == kind.section() && !matches!(entry.node.value, Value::Map(_) | Value::Null));
        if gap != Gap::File && !is_wrong && !drafts.iter().any(|draft| draft.kind == kind) {
            let home = entries.first().map_or(Place { source: 0, span: 0..0 }, |entry| entry.key_place.clone());
            let message = format!("the graph has no {}", kind.name());
            let help = format!("add one under `{}:`; `weir list` shows what there is", kind.section());
            problems.push(Diagnostic::error("missing_field", home, message).help(help));
        }
    }
    // With an input mistyped somewhere, what it meant only looks unused.
    if gap == Gap::None && inputs.iter().all(Option::is_some) {
        unused(drafts, &known, problems);
    }
    let order = sort(drafts, &known, &places, problems);
    Edges { inputs, order }
}

/// Stands for `dead_letters` among inputs, until it is known which `errors` ports it means.
const DEAD_LETTERS_INPUT: Input = Input { node: usize::MAX, port: Port::Errors };

/// `inputs: [dead_letters]` reads what any node rejects and nobody else listens to. What the nodes behind it reject stays
/// out: a letter that cannot be delivered must not come round again, and goes to the file.
fn wire_dead_letters(drafts: &[Draft<'_>], known: &mut [Vec<Input>], places: &mut [Vec<Place>]) {
    let mut is_behind: Vec<bool> = known.iter().map(|inputs| inputs.contains(&DEAD_LETTERS_INPUT)).collect();
    let mut more = is_behind.contains(&true);
    while more {
        let reads_one = |inputs: &Vec<Input>| inputs.iter().any(|input| is_behind.get(input.node) == Some(&true));
        let found: Vec<usize> =
            (0..known.len()).filter(|number| !is_behind[*number] && reads_one(&known[*number])).collect();
        found.iter().for_each(|number| is_behind[*number] = true);
        more = !found.is_empty();
    }
    let errors_of = |node: usize| Input { node, port: Port::Errors };
    let is_read = |node: usize| known.iter().flatten().any(|input| *input == errors_of(node));
    let is_meant = |node: &usize| drafts[*node].kind != Kind::Source && !is_behind[*node] && !is_read(*node);
    let meant: Vec<usize> = (0..drafts.len()).filter(is_meant).collect();
    for (inputs, places) in known.iter_mut().zip(places) {
        if let Some(at) = inputs.iter().position(|input| *input == DEAD_LETTERS_INPUT) {
            inputs.splice(at..=at, meant.iter().map(|node| errors_of(*node)));
            let place = places[at].clone();
            places.splice(at..=at, meant.iter().map(|_| place.clone()));
        }
    }
}

/// All nodes, and ways to find them.
struct All<'a, 'd> {
    drafts: &'a [Draft<'d>],
    numbers: HashMap<&'d str, usize>,
    gap: Gap,
}

impl<'a, 'd> All<'a, 'd> {
    fn of(drafts: &'a [Draft<'d>], gap: Gap) -> All<'a, 'd> {
        let numbers = drafts.iter().enumerate().map(|(number, draft)| (draft.entry.key.as_str(), number)).collect();
        All { drafts, numbers, gap }
    }

    /// Ids a node may read: sources and transforms, but not itself.
    fn readable(&self, reader: usize) -> Vec<&'d str> {
        let is_readable = |(number, draft): &(usize, &Draft<'_>)| *number != reader && draft.kind != Kind::Sink;
        self.drafts.iter().enumerate().filter(is_readable).map(|(_, draft)| draft.entry.key.as_str()).collect()
    }

    /// The same for people; there may be none.
    fn readable_text(&self, reader: usize) -> String {
        match &*self.readable(reader) {
            [] => "any source, once there is one".to_owned(),
            names => listing(names),
        }
    }
}

/// The inputs of a node, and whether all that is written there is right.
fn inputs_of(number: usize, all: &All<'_, '_>, problems: &mut Vec<Diagnostic>) -> (Vec<(Input, Place)>, bool) {
    let Draft { kind, entry, .. } = &all.drafts[number];
    let written = entry.node.get("inputs");
    let (kind, written) = match (kind, written) {
        (Kind::Source, None) => return (Vec::new(), true),
        (Kind::Source, Some(written)) => {
            let message = format!("the source `{}` cannot have `inputs`", entry.key);
            let help = "remove `inputs`: a source reads from outside; nodes that read the source name it in theirs";
            problems.push(Diagnostic::error("unknown_field", written.key_place.clone(), message).help(help));
            return (Vec::new(), true);
        }
        (kind, Some(written)) => (*kind, written),
        (kind, None) => {
            // A node that is no map has been reported already.
            if let Value::Map(_) = entry.node.value {
                let message = format!("the {} `{}` has no `inputs`", kind.name(), entry.key);
                let help = format!("add `inputs: [...]` with the nodes it reads, out of {}", all.readable_text(number));
                let problem = Diagnostic::error("missing_field", entry.key_place.clone(), message);
                problems.push(problem.allowed(&all.readable(number)).help(help));
            }
            return (Vec::new(), false);
        }
    };
    if matches!(written.node.value, Value::Unknown) {
        return (Vec::new(), false);
    }
    let Value::List(items) = &written.node.value else {
        let message =
            format!("node `{}` ({}): `inputs` takes a list, not {}", entry.key, kind.name(), written.node.kind());
        let help = match written.node.as_text() {
            Some(id) if written.node.written.is_none() => format!("put it in brackets: `inputs: [{id}]`"),
            _ => format!("write `inputs: [...]` with some of {}", all.readable_text(number)),
        };
        problems.push(
            Diagnostic::error("wrong_type", written.node.place.clone(), message).label("expected a list").help(help),
        );
        return (Vec::new(), false);
    };
    if items.is_empty() {
        let message = format!("the {} `{}` reads nothing: its `inputs` are empty", kind.name(), entry.key);
        let help = format!("name at least one of {}", all.readable_text(number));
        problems.push(Diagnostic::error("missing_field", written.node.place.clone(), message).help(help));
    }
    let mut is_right = !items.is_empty();
    let mut found: Vec<(Input, Place)> = Vec::new();
    for item in items {
        match input(item, number, all) {
            Ok(input) if found.iter().any(|(other, _)| *other == input) => {
                let problem =
                    Diagnostic::warning("duplicate_input", item.place.clone(), "the same input is there twice");
                problems
                    .push(problem.help("remove one of the two: an event comes once, however often its node is named"));
            }
            Ok(input) => found.push((input, item.place.clone())),
            Err(problem) => {
                is_right = false;
                problems.extend(problem.map(|problem| *problem));
            }
        }
    }
    (found, is_right)
}

/// What an item of `inputs` means; an error without a problem has been reported before.
fn input(item: &Node, reader: usize, all: &All<'_, '_>) -> Result<Input, Option<Box<Diagnostic>>> {
    let place = item.place.clone();
    let refuse = |problem: Diagnostic| Err(Some(Box::new(problem)));
    if matches!(item.value, Value::Unknown) {
        return Err(None);
    }
    let candidates = all.readable(reader);
    let Some(written) = item.as_text() else {
        let message = format!("an input is the id of a node, not {}", item.kind());
        let help = format!("write the id of a source or transform: {}", all.readable_text(reader));
        return refuse(Diagnostic::error("wrong_type", place, message).help(help));
    };
    let (id, port) = match written.split_once('.') {
        None => (written, None),
        Some((id, port)) => (id, Some(port)),
    };
    if written == DEAD_LETTERS {
        return Ok(DEAD_LETTERS_INPUT);
    }
    let Some(&node) = all.numbers.get(id) else {
        if all.gap != Gap::None {
            return Err(None);
        }
        let secrets = Secrets::of(item, false);
        let message = secrets.hide(format!("there is no node `{}`", shown(id)));
        let mut problem = Diagnostic::error("unknown_input", place, message).allowed(&candidates);
        let guess = nearest(id, &candidates).filter(|_| item.written.is_none());
        if let Some(name) = guess {
            problem = problem.label(format!("did you mean `{name}`?"));
        }
        let help = format!(
            "inputs can be {}, `.errors` of a node, or `{DEAD_LETTERS}`, what is rejected anywhere",
            all.readable_text(reader)
        );
        return refuse(problem.help(help));
    };
    let Draft { kind, ports, has_main_port, .. } = &all.drafts[node];
    if node == reader && port.is_none() {
        let problem = Diagnostic::error("self_input", place, format!("the node `{id}` reads itself"));
        let help = format!("name another node: {}", all.readable_text(reader));
        return refuse(problem.allowed(&candidates).help(help));
    }
    // Wrong options have been reported already.
    let named = match (ports, port) {
        (Some(ports), _) => ports,
        (None, Some("errors")) => &Vec::new(),
        (None, _) => return Err(None),
    };
    let number = named.iter().position(|name| Some(name.as_str()) == port);
    match (port, kind) {
        (None, Kind::Transform) if !has_main_port => {
            let problem = Diagnostic::error("unknown_port", place, format!("`{id}` has several outputs, not one"));
            let ports: Vec<String> = named.iter().map(|port| format!("{id}.{port}")).collect();
            let help = format!("name the one that is meant: {}", listing(&ports));
            refuse(problem.allowed(&ports).help(help))
        }
        (None, Kind::Source | Kind::Transform) => Ok(Input { node, port: Port::Main }),
        (Some("errors"), Kind::Transform | Kind::Sink) => Ok(Input { node, port: Port::Errors }),
        (Some(_), Kind::Transform) if let Some(number) = number => Ok(Input { node, port: Port::Named(number) }),
        (None, Kind::Sink) => {
            let problem =
                Diagnostic::error("unknown_input", place, format!("`{id}` is a sink: nothing comes out of it"));
            let help = format!("inputs can be {}; `{id}.errors` is what the sink rejects", all.readable_text(reader));
            refuse(problem.allowed(&candidates).help(help))
        }
        (Some(port), kind) => {
            let message = format!("the {} `{id}` has no port `{port}`", kind.name());
            let problem = Diagnostic::error("unknown_port", place, Secrets::of(item, true).hide(message));
            let (ports, help) = match kind {
                Kind::Source => (vec![id.to_owned()], format!("a source has one output: write `{id}`")),
                Kind::Transform if !named.is_empty() => {
                    let named = named.iter().map(String::as_str).chain(["errors"]).map(|port| format!("{id}.{port}"));
                    let ports: Vec<String> = has_main_port.then(|| id.to_owned()).into_iter().chain(named).collect();
                    let help = format!("its ports are {}", listing(&ports));
                    (ports, help)
                }
                Kind::Transform => (
                    vec![id.to_owned(), format!("{id}.errors")],
                    format!("ports are `{id}` (what passed) and `{id}.errors` (what was rejected)"),
                ),
                Kind::Sink => {
                    (vec![format!("{id}.errors")], format!("a sink has one port: `{id}.errors` (what was rejected)"))
                }
            };
            refuse(problem.allowed(&ports).help(help))
        }
    }
}

fn unused(drafts: &[Draft<'_>], known: &[Vec<Input>], problems: &mut Vec<Diagnostic>) {
    let mut is_read = vec![false; drafts.len()];
    known.iter().flatten().filter(|input| input.port != Port::Errors).for_each(|input| is_read[input.node] = true);
    for (number, (draft, is_read)) in drafts.iter().zip(is_read).enumerate() {
        if is_read {
            unused_ports(number, draft, known, problems);
        }
        if draft.kind == Kind::Sink || is_read {
            continue;
        }
        let message = format!("nobody reads the {} `{}`", draft.kind.name(), draft.entry.key);
        let help = "add it to the `inputs` of a node, or remove it: what comes out of it is dropped";
        problems.push(Diagnostic::warning("unused_node", draft.entry.key_place.clone(), message).help(help));
    }
}

/// Outputs that were named on purpose and lead nowhere. What is left over, `default`, is often not wanted; `errors` is no name
/// that one may give.
fn unused_ports(number: usize, draft: &Draft<'_>, known: &[Vec<Input>], problems: &mut Vec<Diagnostic>) {
    if draft.has_main_port {
        return;
    }
    for (at, name) in
        draft.ports.iter().flatten().enumerate().filter(|(_, name)| !["default", "errors"].contains(&name.as_str()))
    {
        let port = Input { node: number, port: Port::Named(at) };
        if known.iter().flatten().any(|input| *input == port) {
            continue;
        }
        let output = format!("{}.{name}", draft.entry.key);
        let message = format!("nobody reads `{output}`: what goes there is dropped");
        let help = format!("add `{output}` to the `inputs` of a node; to drop it on purpose, of a `blackhole`");
        problems.push(Diagnostic::warning("unused_port", draft.entry.key_place.clone(), message).help(help));
    }
}

/// Kahn's algorithm, keeping the written order where there is a choice. Every cycle is reported once, and
/// opened to find the next.
fn sort(
    drafts: &[Draft<'_>],
    known: &[Vec<Input>],
    places: &[Vec<Place>],
    problems: &mut Vec<Diagnostic>,
) -> Option<Vec<usize>> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    let mut waits_for: Vec<usize> = known.iter().map(Vec::len).collect();
    for (number, inputs) in known.iter().enumerate() {
        inputs.iter().for_each(|input| readers[input.node].push(number));
    }
    let mut ready: BTreeSet<usize> = (0..drafts.len()).filter(|number| waits_for[*number] == 0).collect();
    let mut order: Vec<usize> = Vec::with_capacity(drafts.len());
    let mut is_left = vec![true; drafts.len()];
    let mut opened: HashSet<(usize, usize)> = HashSet::new();
    loop {
        while let Some(number) = ready.pop_first() {
            order.push(number);
            is_left[number] = false;
            for &reader in &readers[number] {
                waits_for[reader] -= 1;
                if waits_for[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        let Some(start) = is_left.iter().position(|left| *left) else { break };
        let cycle = cycle(start, known, &is_left, &opened)?;
        problems.push(cycle_problem(&cycle, drafts, known, places));
        let (reader, input) = cycle[0];
        opened.insert((reader, input));
        // The node read stays to be sorted; only this edge is gone.
        let read = known[reader][input].node;
        let at = readers[read].iter().position(|other| *other == reader)?;
        readers[read].swap_remove(at);
        waits_for[reader] -= 1;
        if waits_for[reader] == 0 {
            ready.insert(reader);
        }
    }
    opened.is_empty().then_some(order)
}

/// Walks back from a node that is left: every one has an input that is left, too, so the walk comes round.
/// Gives each reader with the number of its input, from the written beginning of the cycle on.
fn cycle(
    start: usize,
    known: &[Vec<Input>],
    is_left: &[bool],
    opened: &HashSet<(usize, usize)>,
) -> Option<Vec<(usize, usize)>> {
    let mut walk: Vec<(usize, usize)> = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut at = start;
    loop {
        if let Some(&first) = seen.get(&at) {
            let mut cycle = walk.split_off(first);
            cycle.reverse();
            let lowest = (0..cycle.len()).min_by_key(|number| cycle[*number].0)?;
            cycle.rotate_left(lowest);
            return Some(cycle);
        }
        seen.insert(at, walk.len());
        let is_open = |(number, input): &(usize, &Input)| is_left[input.node] && !opened.contains(&(at, *number));
        let (number, input) = known[at].iter().enumerate().find(is_open)?;
        walk.push((at, number));
        at = input.node;
    }
}

fn cycle_problem(
    cycle: &[(usize, usize)],
    drafts: &[Draft<'_>],
    known: &[Vec<Input>],
    places: &[Vec<Place>],
) -> Diagnostic {
    let id = |number: usize| drafts[number].entry.key.as_str();
    let ids: Vec<&str> = cycle.iter().chain(cycle.first()).map(|(number, _)| id(*number)).collect();
    let message = format!("the nodes form a cycle: {}", ids.join(" -> "));
    let label = |(reader, input): (usize, usize)| format!("`{}` reads `{}`", id(reader), id(known[reader][input].node));
    let (reader, input) = cycle[0];
    let problem = Diagnostic::error("cycle", places[reader][input].clone(), message)
        .label(label((reader, input)))
        .help("remove one of these inputs: events would go round for ever");
    cycle[1..].iter().fold(problem, |problem, &(reader, input)| {
        problem.related(places[reader][input].clone(), label((reader, input)))
    })
}
