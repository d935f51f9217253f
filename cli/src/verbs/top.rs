//! `weir top`: a running graph at a glance.

use std::ops::ControlFlow;
use std::time::Duration;

use weir::admin::{Answer, Request};
use weir::graph::{NodeSnapshot, Process, Snapshot};
use weir::terminal::line;

use crate::Exit;
use crate::args::{OutputFormat, Top};
use crate::print::{clear, dataln, outln};

pub(super) fn run(args: &Top) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let mut before: Option<Snapshot> = None;
    let mut looks = 0;
    loop {
        let mut now = None;
        let asked = super::ask(&graph, &Request::Snapshot, |answer| {
            if let Answer::Snapshot(snapshot) = answer {
                now = Some(snapshot);
            }
            ControlFlow::Continue(())
        });
        let Some(now) = now else { return asked };
        match args.format {
            OutputFormat::Json => dataln!("{}", serde_json::to_string(&now).unwrap_or_default()),
            OutputFormat::Text => {
                // The next look stands where this one did.
                clear();
                outln!("{}", page(&now, before.as_ref()));
            }
        }
        before = Some(now);
        looks += 1;
        if args.count == Some(looks) {
            return Exit::Ok;
        }
        pause(args.interval);
    }
}

/// A look as text; rates are of the time since the look before, or since the start.
fn page(now: &Snapshot, before: Option<&Snapshot>) -> String {
    // Another process has begun anew.
    let before = before.filter(|before| before.uptime_millis <= now.uptime_millis);
    let millis = now.uptime_millis - before.map_or(0, |before| before.uptime_millis);
    let per_second = |count: u64| count as f64 * 1000.0 / (millis.max(1)) as f64;
    let Snapshot { graph, uptime_millis, lanes, memory_used, memory_limit, process, troubles, nodes } = now;
    let mut page = format!(
        "{graph}  up {}  lanes {lanes}  in flight {} of {}",
        span(uptime_millis / 1000),
        bytes(*memory_used),
        bytes(*memory_limit)
    );
    if let Some(Process { resident_bytes, cpu_millis }) = process {
        let used = cpu_millis - before.and_then(|before| before.process).map_or(0, |process| process.cpu_millis);
        page += &format!("  memory {}  cpu {:.0} %", bytes(*resident_bytes), per_second(used) / 10.0);
    }
    page += if troubles.is_empty() { "  ready\n\n" } else { "  NOT READY\n\n" };
    page += &format!(
        "{:<20} {:<18} {:>10} {:>10} {:>10} {:>9} {:>11} {:>11} {:>11} {:>8} {:>7}\n",
        "node", "type", "in/s", "out/s", "lag", "in flight", "received", "passed", "filtered", "dead", "failed"
    );
    for (at, NodeSnapshot { id, component, books, lag, .. }) in nodes.iter().enumerate() {
        let old = before.and_then(|before| before.nodes.get(at)).filter(|old| old.id == *id);
        let old = old.map(|node| node.books).unwrap_or_default();
        page += &format!(
            "{id:<20} {component:<18} {:>10} {:>10} {:>10} {:>9} {:>11} {:>11} {:>11} {:>8} {:>7}\n",
            count(per_second(books.received - old.received)),
            count(per_second(books.emitted.max(books.passed) - old.emitted.max(old.passed))),
            lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            books.in_flight(),
            books.received,
            books.passed,
            books.filtered + books.absorbed,
            books.dead_lettered,
            books.failed,
        );
    }
    for (node, trouble) in troubles {
        page += &format!("\n{node}: {}", line(trouble));
    }
    page
}

fn count(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1_000_000.0 => format!("{:.2}M", rate / 1_000_000.0),
        rate if rate >= 10_000.0 => format!("{:.1}k", rate / 1000.0),
        rate => format!("{rate:.0}"),
    }
}

fn bytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[expect(clippy::disallowed_methods, reason = "a person is looking, and there is no runtime")]
fn pause(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
