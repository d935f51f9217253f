//! `weir run`

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use weir::admin;
use weir::component::Kind;
use weir::config::{Graph, Span};
use weir::error::{ErrorKind, Result};
use weir::graph::{Plan, Report, RunOptions, Status, in_use};
use weir::telemetry::Endpoint;

use crate::args::{LogFormat, Run};
use crate::print::{err_as_is, errln, progress};
use crate::screen::{Screen, Style};
use crate::table::{grouped, short};
use crate::{Exit, counts, logging};

pub(super) fn run(args: &Run) -> Exit {
    logging::start(args.log_format);
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let started = Instant::now();
    let name = graph.name.clone();
    // A terminal gets a table at the end, other outputs get log lines for programs.
    let screen = Some(Screen::err()).filter(|screen| screen.is_terminal() && args.log_format == LogFormat::Text);
    let prints = graph.nodes.iter().any(|node| node.component == "console");
    let shows_progress = args.once && screen.is_some() && !prints;
    let result = run_graph(graph, RunOptions { once: args.once, retry: None }, |status, _| {
        if shows_progress {
            tokio::spawn(show_progress(status));
        }
    });
    progress("");
    logging::tell_withheld();
    match result {
        Ok(report) => {
            match screen {
                Some(screen) => show_end(&name, &report, started, args, screen),
                None => log_end(&name, &report, started),
            }
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

/// Signals this soon after the first are the same request.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Listened to from the moment this exists: a signal that comes while the graph starts is not missed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Takes a signal that has come already.
    fn pending(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        self.terminate.poll_recv(&mut context).is_ready() || self.interrupt.poll_recv(&mut context).is_ready()
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
            "stopping: events in flight are delivered first, for at most {drain}; a second signal stops at once"
        );
        stop.send_replace(true);
        // A shell and a supervisor may both pass the same signal on.
        tokio::time::sleep(SAME_SIGNAL).await;
        while self.pending() {}
        let second = self.next().await;
        tracing::warn!(signal = second, "stopping at once: events in flight are read again by the next run");
        #[expect(clippy::disallowed_methods, reason = "leaving without the drain is what was asked for")]
        std::process::exit(Exit::Failed as i32);
    }
}

/// Keeps a line at the bottom of the terminal that says how far a bounded run is.
async fn show_progress(status: Status) {
    const EVERY: Duration = Duration::from_millis(250);
    let mut before = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = status.snapshot();
        let sources = || now.nodes.iter().filter(|node| node.kind == Kind::Source);
        let read: u64 = sources().map(|node| node.books.received).sum();
        let lag = sources().filter_map(|node| node.lag).reduce(|sum, lag| sum + lag);
        let rate = short((read - before) as f64 / EVERY.as_secs_f64());
        let left = lag.map_or_else(String::new, |lag| format!(", {} left", grouped(lag)));
        progress(&format!("{} events read, {rate} a second{left}", grouped(read)));
        before = read;
    }
}

/// Prints what became of the events, for a person.
fn show_end(name: &str, report: &Report, started: Instant, args: &Run, screen: Screen) {
    let (word, style) = if report.clean { ("ended", Style::Good) } else { ("ended with errors", Style::Bad) };
    let seconds = started.elapsed().as_secs_f64();
    err_as_is(&format!(
        "\n{} {} after {seconds:.1} s\n\n{}",
        screen.paint(Style::Heading, name),
        screen.paint(style, word),
        counts::table(&report.books, screen)
    ));
    for why in &report.broken {
        err_as_is(&format!("\n{} {}\n", screen.paint(Style::Bad, "error:"), screen.wrap(why, 7)));
    }
    let letters = counts::dead_letters(&report.books);
    if letters > 0 {
        let graph = args.graph.typed();
        let what = if letters == 1 { "event became a dead letter" } else { "events became dead letters" };
        errln!("\n{} {what}; inspect with: weir dlq show {graph}", grouped(letters));
    }
}

/// The same for programs: one line of the log for each node.
fn log_end(name: &str, report: &Report, started: Instant) {
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
            "event counts"
        );
    }
    for why in &report.broken {
        tracing::error!(why, "broken");
    }
    tracing::info!(graph = name, clean = report.clean, seconds = started.elapsed().as_secs_f64(), "ended");
}
