//! `weir doctor`: asks every peer of a graph what would go wrong, and changes nothing.

use std::sync::Arc;

use tokio::task::JoinSet;
use weir::component::{Finding, ProbeContext, Verdict};
use weir::config::{Graph, NodeConfig};
use weir::graph::probe_folders;
use weir::terminal::line;

use crate::Exit;
use crate::args::{Doctor, OutputFormat};
use crate::print::{dataln, errln, out_as_is};
use crate::screen::{Screen, Style};

/// The time for one node's probe, in times of the limit of one question; a probe has its own limits, and this is for those
/// that a client library does not keep.
const MOST_QUESTIONS: u32 = 20;

pub(super) fn run(args: &Doctor) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("cannot start the runtime: {error}");
            return Exit::Failed;
        }
    };
    let mut findings = vec![("data_dir".to_owned(), probe_folders(&graph))];
    findings.extend(runtime.block_on(probe_all(Arc::new(graph), ProbeContext::new(args.timeout.0))));
    // Threads of client libraries may still wait for peers that are gone.
    runtime.shutdown_background();
    let all = || findings.iter().flat_map(|(node, found)| found.iter().map(move |finding| (node, finding)));
    match args.format {
        OutputFormat::Json => {
            let entries: Vec<_> = all()
                .map(|(node, Finding { verdict, message, remedy })| {
                    serde_json::json!({ "node": node, "verdict": verdict.name(), "message": message, "remedy": remedy })
                })
                .collect();
            dataln!("{:#}", serde_json::Value::from(entries));
        }
        OutputFormat::Text => {
            let screen = Screen::out();
            for (node, finding) in all() {
                out_as_is(&format!("{}\n", shown(node, finding, screen)));
            }
        }
    }
    if all().any(|(_, finding)| finding.verdict == Verdict::Failed) { Exit::Failed } else { Exit::Ok }
}

/// A finding as text: on a terminal the remedy has a line of its own.
fn shown(node: &str, Finding { verdict, message, remedy }: &Finding, screen: Screen) -> String {
    const INDENT: usize = 9;
    let style = match verdict {
        Verdict::Ok => Style::Good,
        Verdict::Warning => Style::Doubtful,
        Verdict::Failed => Style::Bad,
    };
    let word = verdict.name();
    let verdict = format!("{}{:pad$}", screen.paint(style, word), "", pad = INDENT - word.len());
    match remedy {
        Some(remedy) if screen.is_terminal() => format!(
            "{verdict}{}\n{:INDENT$}{}",
            screen.wrap(&format!("{node}: {message}"), INDENT),
            "",
            screen.wrap(&format!("-> {remedy}"), INDENT + 3)
        ),
        Some(remedy) => format!("{verdict}{}", line(&format!("{node}: {message}; {remedy}"))),
        None => format!("{verdict}{}", screen.wrap(&format!("{node}: {message}"), INDENT)),
    }
}

/// Asks all nodes at once; the answers are in the order of the graph.
async fn probe_all(graph: Arc<Graph>, context: ProbeContext) -> Vec<(String, Vec<Finding>)> {
    let mut probes = JoinSet::new();
    for number in 0..graph.nodes.len() {
        let graph = graph.clone();
        probes.spawn(async move {
            let node = &graph.nodes[number];
            let probe = async {
                match &node.config {
                    NodeConfig::Source(config) => config.probe(&context).await,
                    NodeConfig::Sink(config) => config.probe(&context).await,
                    NodeConfig::Transform(_) => Vec::new(),
                }
            };
            let limit = context.limit * MOST_QUESTIONS;
            let findings = tokio::time::timeout(limit, probe).await.unwrap_or_else(|_| {
                let text = format!("the probe did not end within {limit:?}");
                vec![Finding::failed(text, "ask for less at once, or give it more time: --timeout")]
            });
            (number, node.id.clone(), findings)
        });
    }
    let mut all = probes.join_all().await;
    all.sort_by_key(|(number, _, _)| *number);
    all.into_iter().map(|(_, node, findings)| (node, findings)).collect()
}
