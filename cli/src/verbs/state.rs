//! `weir state`: what a graph remembers.

use weir::graph::with_state;
use weir::state::{KeptEntry, KeptLane, KeptState};
use weir::terminal::line;

use crate::Exit;
use crate::args::{OutputFormat, State, StateVerb};
use crate::print::{dataln, errln, out_as_is, outln};
use crate::screen::Screen;
use crate::table::{Table, number, text};

pub(super) fn run(args: &State) -> Exit {
    let (StateVerb::Inspect { graph, .. } | StateVerb::Check { graph } | StateVerb::Export { graph }) = &args.verb;
    let graph = match super::graph_or_exit(super::load(graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let mut export = |entry: KeptEntry| dataln!("{}", json(&entry));
    let mut ignore = |_| {};
    let each: &mut dyn FnMut(KeptEntry) = match args.verb {
        StateVerb::Export { .. } => &mut export,
        _ => &mut ignore,
    };
    let lanes = match with_state(&graph, |state| state.inventory(each)) {
        Ok(Some(lanes)) => lanes,
        Ok(None) => {
            errln!("{} remembers nothing: there is no {}", graph.name, graph.state_dir().display());
            return Exit::Ok;
        }
        Err(error) => {
            errln!("{error}");
            return Exit::Failed;
        }
    };
    match &args.verb {
        StateVerb::Inspect { format: OutputFormat::Json, .. } => {
            lanes.iter().for_each(|lane| dataln!("{}", json(lane)))
        }
        StateVerb::Inspect { .. } => show(&lanes),
        StateVerb::Check { .. } | StateVerb::Export { .. } => {}
    }
    judge(&lanes, matches!(args.verb, StateVerb::Check { .. }))
}

fn json(value: &impl serde::Serialize) -> String {
    // Plain structs with texts and numbers.
    serde_json::to_string(value).unwrap_or_default()
}

fn show(lanes: &[KeptLane]) {
    let columns = [text("lane"), number("position"), text("state"), number("keys"), number("bytes")];
    let mut table = Table::new(columns.to_vec());
    for KeptLane { lane, position, states } in lanes {
        let position = position.map_or_else(|| "-".to_owned(), |position| position.to_string());
        if states.is_empty() {
            table.row([lane.clone(), position.clone()]);
        }
        for KeptState { node, state, keys, bytes, .. } in states {
            table.row([lane.clone(), position.clone(), format!("{node}.{state}"), keys.to_string(), bytes.to_string()]);
        }
    }
    out_as_is(&table.render(Screen::out()));
}

/// Whether all of it can be read; says so to whoever asked.
fn judge(lanes: &[KeptLane], say: bool) -> Exit {
    let (mut keys, mut damaged) = (0, 0);
    for KeptLane { lane, states, .. } in lanes {
        for state in states {
            keys += state.keys;
            damaged += state.damaged;
            if state.damaged > 0 {
                errln!("{}: {}.{}: {} entries are damaged", line(lane), state.node, state.state, state.damaged);
            }
        }
    }
    if damaged > 0 {
        errln!("bring back a copy of the folder, or remove it to begin without state");
        return Exit::Failed;
    }
    if say {
        outln!("lanes: {}, keys: {keys}; all of them can be read", lanes.len());
    }
    Exit::Ok
}
