//! `weir run`

use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir::admin;
use weir::config::{Graph, Span};
use weir::error::{ErrorKind, Result};
use weir::graph::{Plan, Report, RunOptions, Status, in_use};
use weir::telemetry::Endpoint;

use crate::args::Run;
use crate::{Exit, logging};

pub(super) fn run(args: &Run) -> Exit {
    logging::start(args.log_format);
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let started = Instant::now();
    let name = graph.name.clone();
    let result = run_graph(graph, RunOptions { once: args.once, retry: None }, |_, _| {});
    logging::tell_withheld();
    match result {
        Ok(report) => {
            summarise(&name, &report, started);
            if report.clean { Exit::Ok } else { Exit::Failed }
        }
        Err(error) => {
            tracing::error!(graph = name, %error, "cannot run");
            if error.kind() == ErrorKind::Config { Exit::BadConfig } else { Exit::Failed }
        }
    }
}

/// Runs the graph until it ends, SIGTERM or SIGINT. A second signal leaves at once. `watch` is given the
/// running graph, and the means to stop it.
pub(super) fn run_graph(
    graph: Graph,
    options: RunOptions,
    watch: impl FnOnce(Status, watch::Sender<bool>),
) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| weir::Error::new(ErrorKind::Internal, "start", "cannot start the runtime").caused_by(error))?;
    let result = runtime.block_on(async {
        let endpoint = match graph.telemetry {
            // That it runs already says more than that its port is taken.
            Some(address) => Some(Endpoint::bind(address).await.map_err(|error| in_use(&graph).unwrap_or(error))?),
            None => None,
        };
        let (stop, stopping) = watch::channel(false);
        match Signals::listen() {
            Ok(signals) => drop(tokio::spawn(signals.stop(stop.clone(), Span(graph.drain)))),
            Err(error) => tracing::warn!(%error, "cannot listen for signals: SIGTERM will not drain"),
        }
        let (name, dir) = (graph.name.clone(), graph.dir());
        let mut has_socket = false;
        let report = weir::graph::run(Plan::new(graph), options, stopping, |status| {
            let address = endpoint.as_ref().and_then(Endpoint::address).map(tracing::field::display);
            tracing::info!(graph = name, telemetry = address, "running");
            if let Some(endpoint) = endpoint {
                tokio::spawn(endpoint.serve(status.clone()));
            }
            match admin::Server::bind(&dir) {
                Ok(server) => {
                    has_socket = true;
                    tokio::spawn(server.serve(status.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no admin socket: `weir top` and `weir tap` cannot see this graph")
                }
            }
            watch(status, stop);
        })
        .await;
        if has_socket {
            admin::remove_socket(&dir);
        }
        report
    });
    // Threads of client libraries may still wait for peers that are gone.
    runtime.shutdown_background();
    result
}

/// Listened to from the moment this exists: a signal that comes while the graph starts is not missed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    async fn stop(mut self, stop: watch::Sender<bool>, drain: Span) {
        let first = self.next().await;
        tracing::info!(
            signal = first,
            "stopping: what is in flight is settled first, for at most {drain}; a second signal leaves at once"
        );
        stop.send_replace(true);
        let second = self.next().await;
        tracing::warn!(signal = second, "leaving at once");
        #[expect(clippy::disallowed_methods, reason = "leaving without the drain is what was asked for")]
        std::process::exit(Exit::Failed as i32);
    }
}

fn summarise(name: &str, report: &Report, started: Instant) {
    for (node, books) in &report.books {
        tracing::info!(
            node,
            received = books.received,
            passed = books.passed,
            filtered = books.filtered,
            absorbed = books.absorbed,
            dead_lettered = books.dead_lettered,
            failed = books.failed,
            in_flight = books.in_flight(),
            "books"
        );
    }
    for why in &report.broken {
        tracing::error!(why, "broken");
    }
    tracing::info!(graph = name, clean = report.clean, seconds = started.elapsed().as_secs_f64(), "ended");
}
