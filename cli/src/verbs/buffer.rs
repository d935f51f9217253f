//! `weir buffer`: what the logs of a graph hold, those of push sources and the buffers before sinks.

use weir::graph::{KeptLog, inspect_logs};

use crate::Exit;
use crate::args::{Buffer, BufferVerb, OutputFormat};
use crate::print::{dataln, errln, out_as_is, outln};
use crate::screen::Screen;
use crate::table::{Table, number, text};

pub(super) fn run(args: &Buffer) -> Exit {
    let (BufferVerb::Inspect { graph, node, .. }
    | BufferVerb::Check { graph, node }
    | BufferVerb::Dump { graph, node, .. }) = &args.verb;
    let graph = match super::graph_or_exit(super::load(graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let mut left = match args.verb {
        BufferVerb::Dump { limit, .. } => limit.unwrap_or(u64::MAX),
        _ => 0,
    };
    let print = |record| {
        if left > 0 {
            left -= 1;
            dataln!("{record}");
        }
    };
    let logs = match inspect_logs(&graph, node.as_deref(), print) {
        Ok(logs) => logs,
        Err(error) => {
            errln!("{error}");
            return Exit::Failed;
        }
    };
    match &args.verb {
        BufferVerb::Inspect { format: OutputFormat::Json, .. } => {
            // Plain structs with texts and numbers.
            logs.iter().for_each(|log| dataln!("{}", serde_json::to_string(log).unwrap_or_default()));
        }
        BufferVerb::Inspect { .. } => show(&logs),
        BufferVerb::Check { .. } | BufferVerb::Dump { .. } => {}
    }
    judge(&logs, matches!(args.verb, BufferVerb::Check { .. }))
}

fn show(logs: &[KeptLog]) {
    let mut table = Table::new(vec![
        text("node"),
        text("log"),
        number("records"),
        number("waiting"),
        number("bytes"),
        number("first").spare(2),
        number("last").spare(2),
        number("position").spare(1),
        number("damage"),
    ]);
    let place = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for KeptLog { node, log, content } in logs {
        table.row([
            node.to_string(),
            log.to_string(),
            content.records.to_string(),
            content.waiting.to_string(),
            content.bytes.to_string(),
            place(content.first),
            place(content.last),
            place(content.position),
            content.damage.len().to_string(),
        ]);
    }
    out_as_is(&table.render(Screen::out()));
}

/// Whether all of it can be read; says so to whoever asked.
fn judge(logs: &[KeptLog], say: bool) -> Exit {
    let mut damaged = false;
    for KeptLog { node, content, .. } in logs {
        for damage in &content.damage {
            damaged = true;
            errln!("{node}: {damage}");
        }
    }
    if damaged {
        errln!("weir steps over it, counts what is lost, and keeps a copy beside the log; nothing is to be done");
        return Exit::Failed;
    }
    if say {
        let records: u64 = logs.iter().map(|log| log.content.records).sum();
        outln!("logs: {}, records: {records}; all of them can be read", logs.len());
    }
    Exit::Ok
}
