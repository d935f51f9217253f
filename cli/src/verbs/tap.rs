//! `weir tap`: events as they leave a node.

use std::ops::ControlFlow;

use weir::admin::{Answer, Request, Sight, TapRequest};
use weir::terminal::line;

use crate::Exit;
use crate::args::{OutputFormat, Tap};
use crate::print::{dataln, errln, outln};

pub(super) fn run(args: &Tap) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let Tap { output, filter, rate, redact, .. } = args;
    let (output, filter, redact) = (output.clone(), filter.clone(), redact.clone());
    let request = Request::Tap(TapRequest { output, filter, rate: *rate, redact });
    let mut shown = 0;
    let exit = super::ask(&graph, &request, |answer| {
        match answer {
            Answer::Sight(sight) => {
                show(&sight, args.format);
                shown += 1;
            }
            // Beside the events, so that they can be piped on.
            Answer::Missed(missed) => errln!("({missed} more passed; --rate raises how many are looked at)"),
            _ => {}
        }
        if args.limit == Some(shown) { ControlFlow::Break(Exit::Ok) } else { ControlFlow::Continue(()) }
    });
    if exit == Exit::Ok && args.limit.is_none_or(|limit| limit > shown) {
        errln!("(the graph has ended the tap: it stops, or nothing was read for too long)");
    }
    exit
}

fn show(sight: &Sight, format: OutputFormat) {
    if format == OutputFormat::Json {
        return dataln!("{}", serde_json::to_string(sight).unwrap_or_default());
    }
    let Sight { id, time, key, headers, error, event } = sight;
    let mut more = String::new();
    if let Some(key) = key {
        more += &format!(" key={key}");
    }
    for (name, value) in headers {
        more += &format!(" {name}={value}");
    }
    outln!("{time} {}", line(&format!("{id}{more}")));
    if let Some(error) = error {
        outln!("  rejected: {}", line(error));
    }
    match event {
        serde_json::Value::String(text) => outln!("  {}", line(text)),
        document => outln!("  {document}"),
    }
}
