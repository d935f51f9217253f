//! `weir top`: a running graph at a glance.

use std::ops::ControlFlow;
use std::time::Duration;

use weir::admin::{Answer, Request};
use weir::delivery::LatencyTotals;
use weir::graph::{NodeSnapshot, Process, Snapshot};

use crate::Exit;
use crate::args::{OutputFormat, Top};
use crate::keys::Keys;
use crate::print::{clear, dataln, out_as_is};
use crate::screen::{Screen, Style};
use crate::table::{Table, number, short, text};

pub(super) fn run(args: &Top) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let keys = Keys::watch();
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
                let screen = Screen::out();
                // The next look stands where this one did.
                clear();
                out_as_is(&format!("{}\n", page(&now, before.as_ref(), screen)));
                if screen.is_terminal() && args.count.is_none() {
                    out_as_is(&format!("{}\n", screen.paint(Style::Faint, "q quits")));
                }
            }
        }
        before = Some(now);
        looks += 1;
        if args.count == Some(looks) || keys.wants_to_quit(Duration::from_secs_f64(args.interval)) {
            return Exit::Ok;
        }
    }
}

/// A look as text; rates are of the time since the look before, or since the start.
fn page(now: &Snapshot, before: Option<&Snapshot>, screen: Screen) -> String {
    // Another process has begun anew.
    let before = before.filter(|before| before.uptime_millis <= now.uptime_millis);
    let millis = now.uptime_millis - before.map_or(0, |before| before.uptime_millis);
    let per_second = |count: u64| count as f64 * 1000.0 / (millis.max(1)) as f64;
    let mut page = heading(now, before, &per_second, screen);
    let mut table = Table::new(vec![
        text("node"),
        text("type").spare(9),
        number("in/s"),
        number("out/s"),
        number("bytes/s"),
        number("p99"),
        number("lag"),
        number("in flight").spare(1),
        number("in state"),
        number("emitted"),
        number("filtered").spare(6),
        number("received").spare(8),
        number("passed").spare(7),
        number("dead"),
        number("failed").spare(2),
    ]);
    for (at, node) in now.nodes.iter().enumerate() {
        let old = before.and_then(|before| before.nodes.get(at)).filter(|old| old.id == node.id);
        table.styled(row(node, old, now.troubles.contains_key(&node.id), &per_second));
    }
    page += &table.render(screen);
    for (node, trouble) in &now.troubles {
        let indent = node.chars().count() + 2;
        page += &format!("\n{}  {}", screen.paint(Style::Bad, node), screen.wrap(trouble, indent));
    }
    if !now.troubles.is_empty() {
        page.push('\n');
    }
    page
}

/// The heading: the state of the process as a whole.
fn heading(now: &Snapshot, before: Option<&Snapshot>, per_second: &dyn Fn(u64) -> f64, screen: Screen) -> String {
    let Snapshot { graph, uptime_millis, lanes, memory_used, memory_limit, process, troubles, .. } = now;
    let mut facts = vec![
        format!("up {}", span(uptime_millis / 1000)),
        format!("lanes {lanes}"),
        format!("in flight {} of {}", bytes(*memory_used), bytes(*memory_limit)),
    ];
    if let Some(Process { resident_bytes, cpu_millis }) = process {
        let used = cpu_millis - before.and_then(|before| before.process).map_or(0, |process| process.cpu_millis);
        facts.push(format!("memory {}", bytes(*resident_bytes)));
        facts.push(format!("cpu {:.0} %", per_second(used) / 10.0));
    }
    let (state, style) = if troubles.is_empty() { ("ready", Style::Good) } else { ("NOT READY", Style::Bad) };
    let title = format!("{}  {}", screen.paint(Style::Heading, graph), screen.paint(style, state));
    format!("{title}\n{}\n\n", screen.wrap(&facts.join("  "), 0))
}

/// The cells of a node.
fn row(
    node: &NodeSnapshot,
    old: Option<&NodeSnapshot>,
    has_trouble: bool,
    per_second: &dyn Fn(u64) -> f64,
) -> Vec<(String, Style)> {
    let NodeSnapshot { id, component, books, bytes, latency, lag, .. } = node;
    let before = old.map(|old| old.books).unwrap_or_default();
    let rate = |now: u64, before: u64| short(per_second(now.saturating_sub(before)));
    let count = |count: u64| short(count as f64);
    let plain = |text: String| (text, Style::Plain);
    let bad = |number: u64| (count(number), if number > 0 { Style::Bad } else { Style::Plain });
    vec![
        (id.clone(), if has_trouble { Style::Bad } else { Style::Plain }),
        plain(component.clone()),
        plain(rate(books.received, before.received)),
        plain(rate(books.emitted.max(books.passed), before.emitted.max(before.passed))),
        plain(if *bytes == 0 { "-".to_owned() } else { rate(*bytes, old.map_or(0, |old| old.bytes)) }),
        plain(percentile(&old.map_or_else(|| latency.clone(), |old| latency.since(&old.latency)))),
        plain(lag.map_or_else(|| "-".to_owned(), count)),
        plain(count(books.in_flight())),
        plain(count(books.absorbed)),
        plain(count(books.emitted)),
        plain(count(books.filtered)),
        plain(count(books.received)),
        plain(count(books.passed)),
        bad(books.dead_lettered),
        bad(books.failed),
    ]
}

/// Within which time 99 of 100 batches were done.
fn percentile(latency: &LatencyTotals) -> String {
    match latency.quantile(0.99) {
        None => "-".to_owned(),
        Some(seconds) if seconds.is_infinite() => ">1m".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{}ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds}s"),
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

#[cfg(test)]
mod tests {
    use weir::component::Kind;
    use weir::delivery::{BookTotals, Latency};

    use super::*;

    fn look(seconds: u64, troubles: &[(&str, &str)]) -> Snapshot {
        let latency = Latency::default();
        latency.record(Duration::from_millis(4));
        let node = |id: &str, kind: Kind, component: &str, lag: Option<u64>| NodeSnapshot {
            id: id.to_owned(),
            kind,
            component: component.to_owned(),
            books: BookTotals {
                received: 12_000 * seconds,
                passed: 11_000 * seconds,
                filtered: 990 * seconds,
                dead_lettered: 10 * seconds,
                emitted: 11_000 * seconds,
                ..BookTotals::default()
            },
            bytes: if kind == Kind::Transform { 0 } else { 4_800_000 * seconds },
            latency: latency.totals(),
            lag,
            lanes: Vec::new(),
        };
        Snapshot {
            graph: "firing-alerts".to_owned(),
            uptime_millis: seconds * 1000,
            lanes: 12,
            memory_used: 12 << 20,
            memory_limit: 64 << 20,
            process: Some(Process { resident_bytes: 90 << 20, cpu_millis: 400 * seconds }),
            troubles: troubles.iter().map(|(node, why)| ((*node).to_owned(), (*why).to_owned())).collect(),
            nodes: vec![
                node("metrics", Kind::Source, "kafka", Some(1_234_567)),
                node("firing", Kind::Transform, "alert_firing", None),
                node("alert_topic", Kind::Sink, "kafka", None),
            ],
        }
    }

    fn at(width: Option<usize>, troubles: &[(&str, &str)]) -> String {
        page(&look(120, troubles), Some(&look(110, &[])), Screen { width, has_colour: false })
    }

    #[test]
    fn a_page_fits_eighty_columns_and_keeps_what_matters() {
        let page = at(Some(80), &[("alert_topic", "localhost:9092 cannot be reached: connection refused; start it")]);
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        for heading in ["in/s", "out/s", "bytes/s", "p99", "lag", "in state", "emitted", "dead"] {
            assert!(page.contains(heading), "{heading}:\n{page}");
        }
        assert!(page.contains("firing-alerts  NOT READY") && page.contains("\nalert_topic  localhost:9092"), "{page}");
        assert!(page.contains("12.0k") && page.contains("4.80M") && page.contains("1.23M"), "{page}");
    }

    #[test]
    fn a_wide_page_shows_all_of_it() {
        let page = at(Some(160), &[]);
        assert!(
            page.contains("firing-alerts  ready") && page.contains("alert_firing") && page.contains("received"),
            "{page}"
        );
    }
}
