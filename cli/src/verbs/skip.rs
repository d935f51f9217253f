//! `weir skip`: past a record that cannot be read.

use std::ops::ControlFlow;

use weir::admin::{Answer, Request};
use weir::graph::{LaneSnapshot, Snapshot};
use weir::terminal::line;

use crate::Exit;
use crate::args::Skip;
use crate::print::{out_as_is, outln};
use crate::screen::Screen;
use crate::table::{Table, number, text};

pub(super) fn run(args: &Skip) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let request = match (&args.at, &args.reason) {
        (Some(id), Some(reason)) => Request::Skip { id: id.clone(), reason: reason.clone() },
        _ => Request::Snapshot,
    };
    super::ask(&graph, &request, |answer| {
        match answer {
            Answer::Snapshot(snapshot) => show_lanes(&snapshot),
            Answer::Skipped => outln!("skipped; it is a dead letter with the code `skipped`"),
            _ => {}
        }
        ControlFlow::Continue(())
    })
}

fn show_lanes(snapshot: &Snapshot) {
    let mut table = Table::new(vec![text("lane"), number("next position"), number("lag")]);
    for node in &snapshot.nodes {
        for LaneSnapshot { log, partition, next, lag } in &node.lanes {
            let known = |number: &Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            table.row([format!("{}/{log}/{partition}", node.id), known(next), known(lag)]);
        }
    }
    out_as_is(&table.render(Screen::out()));
    for (node, trouble) in &snapshot.troubles {
        outln!("\n{node}: {}", line(trouble));
    }
}
