//! The part of `/metrics` that the recorder cannot hold: histograms counted elsewhere, and counters with fractions.
//!
//! Format: Prometheus text exposition 0.0.4. Label values are node ids, which are words of letters, digits, `_` and `-`.

use std::fmt::Write;

use crate::delivery::LATENCY_BOUNDS;
use crate::graph::{NodeSnapshot, Process};

/// Renders the latency of every node and the CPU time of the process.
pub(super) fn render(nodes: &[NodeSnapshot], process: Option<&Process>) -> String {
    let mut page = String::new();
    header(
        &mut page,
        "weir_node_batch_duration_seconds",
        "histogram",
        "Time per batch: of a source until it is settled, of a transform until it is processed, of a sink until it is delivered",
    );
    for NodeSnapshot { id, latency, .. } in nodes {
        let name = "weir_node_batch_duration_seconds";
        let mut below = 0;
        let bounds = LATENCY_BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&latency.buckets) {
            below += count;
            line(&mut page, format_args!("{name}_bucket{{node=\"{id}\",le=\"{bound}\"}} {below}"));
        }
        line(&mut page, format_args!("{name}_sum{{node=\"{id}\"}} {}", latency.micros as f64 / 1e6));
        line(&mut page, format_args!("{name}_count{{node=\"{id}\"}} {below}"));
    }
    if let Some(process) = process {
        let seconds = process.cpu_millis as f64 / 1e3;
        header(&mut page, "process_cpu_seconds_total", "counter", "User and system time of the process");
        line(&mut page, format_args!("process_cpu_seconds_total {seconds}"));
    }
    page
}

fn header(page: &mut String, name: &str, kind: &str, help: &str) {
    line(page, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(page: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{line}");
}
