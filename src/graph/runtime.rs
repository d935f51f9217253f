//! Runs a graph: builds its nodes, gives every origin a lane, and brings all of it to an orderly end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::buffer::{self, Ends, Phase};
use super::builder::{Builder, Ways};
use super::dead_letters::retry::Retried;
use super::dead_letters::{LetterChoice, Writer};
use super::epochs::Epochs;
use super::keeper::Keeper;
use super::plan::{Mode, Plan};
use super::route::Node;
use super::running::Running;
use super::shared::Shared;
use super::status::Status;
use crate::component::{Sink, Trouble, push};
use crate::config::Graph;
use crate::delivery::{BookTotals, MemoryBudget};
use crate::error::{Error, ErrorKind, Result};
use crate::folder_lock::{FolderId, FolderLock};
use crate::private;
use crate::state::{Clock, GraphState, SystemClock};

/// How a graph is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End when the bounded sources end; the same input gives the same output.
    pub once: bool,
    /// Do not read the sources: try these dead letters again, and end.
    pub retry: Option<LetterChoice>,
}

impl RunOptions {
    fn mode(&self) -> Mode {
        match (&self.retry, self.once) {
            (Some(_), _) => Mode::Retry,
            (None, true) => Mode::Once,
            (None, false) => Mode::Live,
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The books of every node, in topological order.
    pub books: Vec<(String, BookTotals)>,
    /// Whether everything that was read is settled and committed.
    pub clean: bool,
    /// What broke, source by source.
    pub broken: Vec<String>,
    /// What became of the dead letters that were to be tried again.
    pub retried: Option<Retried>,
}

/// Runs the graph until its sources end or `stop` turns true; then drains for at most the graph's limit.
///
/// `started` is told of the running graph once every node is built.
pub async fn run(
    plan: Plan,
    options: RunOptions,
    stop: watch::Receiver<bool>,
    started: impl FnOnce(Status),
) -> Result<Report> {
    run_by(Arc::new(SystemClock::default()), plan, options, stop, started).await
}

/// Runs the graph as [`run`] does, by a clock of the caller's.
pub async fn run_by(
    clock: Arc<dyn Clock>,
    plan: Plan,
    options: RunOptions,
    stop: watch::Receiver<bool>,
    started: impl FnOnce(Status),
) -> Result<Report> {
    let dir = plan.graph.dir();
    let _lock = lock_data_dir(&dir)?;
    let (trouble, graph_trouble) = (Trouble::default(), Trouble::default());
    let letters_dir = plan.graph.dead_letters_dir();
    let state_dir = plan.graph.state_dir();
    let retrying = Arc::new(AtomicBool::new(false));
    let writer = Writer::open(&plan.graph, retrying.clone(), trouble.clone(), clock.clone())
        .map_err(|error| folder_error("open dead letters", &letters_dir, error))?;
    let (dead_letters, letters) = mpsc::channel(64);
    let writing = tokio::spawn(writer.run(letters));

    let drain = plan.graph.drain;
    let mode = options.mode();
    let mut builder = Builder { plan: Arc::new(plan), clock: clock.clone(), dir, mode };
    let (phase, phase_seen) = watch::channel(Phase::Running);
    let ends = Ends { phase: phase_seen, stop: stop.clone() };
    // First: a sink may begin its output anew, and should not for a source that cannot read.
    let feeds = if mode == Mode::Retry { Vec::new() } else { builder.sources().await? };
    let (sinks, rejected) = builder.sinks(&ends).await?;
    let nodes: Vec<Arc<Node>> = builder.plan.nodes.iter().map(|node| node.node.clone()).collect();
    let memory = MemoryBudget::new(builder.plan.graph.memory);
    crate::script::set_max_value(builder.plan.graph.max_value);
    let ways = Ways::of(&builder);
    let shared = Arc::new(Shared {
        sinks,
        nodes: nodes.clone(),
        dead_letters,
        memory: memory.clone(),
        clock,
        exchanges: ways.exchanges,
        idle_timeout: builder.plan.graph.idle_timeout,
        ticks: builder.plan.ticks(),
        drain,
        once: mode == Mode::Once,
    });
    let state = builder.state()?;
    let folders = folders_of(&builder.plan.graph);
    let watching = tokio::spawn(watch_folders(folders, graph_trouble.clone(), shared.clock.clone()));
    let epochs = Arc::new(Epochs::new(ways.receivers.iter().map(|(_, receivers)| receivers.len()).sum()));
    let shards = builder.run_shards(ways.receivers, &shared, &epochs, state.as_deref())?;
    let ports: JoinSet<()> = builder.errors_ports(rejected, &shared)?;

    let (lanes_now, lanes_seen) = watch::channel(0);
    let (stopping, stopping_seen) = watch::channel(false);
    let (retry, retries) = mpsc::channel(1);
    let status = Status {
        plan: builder.plan.clone(),
        started: Instant::now(),
        dead_letters: trouble,
        graph: graph_trouble,
        memory,
        lanes: lanes_seen,
        stopping: stopping_seen,
        retry,
    };
    started(status.clone());

    let stopping = Arc::new(stopping);
    let asked = tokio::spawn(pass_on(stop, stopping.clone()));
    let hopeless = tokio::spawn(given_up(shared.nodes.clone(), stopping.clone()));
    let (unopened, unopened_seen) = watch::channel(feeds.len());
    let (all_opened, all_opened_seen) = watch::channel(false);
    let keeper = Keeper {
        epochs: epochs.clone(),
        shared: shared.clone(),
        exchanges: shared.exchanges.clone(),
        state: state.clone(),
        every: builder.plan.graph.checkpoint_every,
        unopened: unopened_seen,
        all_opened,
    };
    let keeping = tokio::spawn(keeper.run());
    let running = Arc::new(Running {
        builder,
        shared: shared.clone(),
        stopping,
        drain,
        lanes_now,
        state,
        epochs,
        unopened,
        all_opened: all_opened_seen,
        retrying,
    });
    let (mut clean, mut broken, mut retried) = (true, Vec::new(), None);
    match options.retry {
        None => (clean, broken) = running.run(feeds, retries).await,
        Some(choice) => retried = Some(running.retry(&choice).await?),
    }
    // What they hold must not keep the dead letters' writer waiting for more.
    drop(running);
    keeping.abort();
    drop(shards);
    let _aborted = keeping.await;
    asked.abort();
    watching.abort();
    hopeless.abort();
    if let Ok(why) = hopeless.await {
        clean = false;
        broken.push(why);
    }
    let complete = clean && mode == Mode::Once && broken.is_empty();
    // What came to its end is delivered, however long what is in buffers takes.
    let has_ended = clean && broken.is_empty() && !*ends.stop.borrow();
    phase.send_replace(if has_ended { Phase::Ended } else { Phase::Stopped });
    let limit = if has_ended { Duration::MAX } else { drain.min(FINISH) };
    finish(shared, ports, writing, limit, complete).await?;
    // What could not be stored at the end is known only now.
    for node in nodes {
        let why = node.trouble.last_word().map(|why| format!("{}: {why}", node.id));
        if let Some(why) = why.filter(|why| !broken.contains(why)) {
            clean = false;
            broken.push(why);
        }
    }
    if complete && state_dir.exists() {
        // The next run begins anew.
        std::fs::remove_dir_all(&state_dir).map_err(|error| io_error("remove the state", &state_dir, error))?;
    }
    Ok(Report { books: status.books(), clean, broken, retried })
}

/// Resolves once the watched value is true, or can no longer change.
pub(super) async fn turned_true(watched: &mut watch::Receiver<bool>) {
    let _ = watched.wait_for(|value| *value).await;
}

/// Turns the request from outside into the graph's own "stopping".
async fn pass_on(mut stop: watch::Receiver<bool>, stopping: Arc<watch::Sender<bool>>) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        stopping.send_replace(true);
    }
}

/// Stops the graph when a node says that it will never work again; gives the node's word.
async fn given_up(nodes: Vec<Arc<Node>>, stopping: Arc<watch::Sender<bool>>) -> String {
    let mut waiting: JoinSet<String> = JoinSet::new();
    for node in nodes {
        waiting.spawn(async move { format!("{}: {}", node.id, node.trouble.given_up().await) });
    }
    match waiting.join_next().await {
        Some(Ok(why)) => {
            tracing::error!(why, "a node gave up: the graph stops");
            stopping.send_replace(true);
            why
        }
        // A graph has nodes, and nothing in the task panics.
        _ => std::future::pending().await,
    }
}

/// When the lanes have ended everything is settled or given up; what is left to do takes no longer.
const FINISH: Duration = Duration::from_secs(2);

/// Flushes and ends the sinks, then the writer of dead letters, within the limit.
async fn finish(
    shared: Arc<Shared>,
    mut ports: JoinSet<()>,
    writing: tokio::task::JoinHandle<()>,
    limit: Duration,
    complete: bool,
) -> Result<()> {
    let sinks: Vec<Arc<dyn Sink>> = shared.sinks.iter().flatten().cloned().collect();
    // Together: one that hangs takes no time from the others.
    let mut flushing: JoinSet<()> = JoinSet::new();
    for sink in &sinks {
        let sink = sink.clone();
        flushing.spawn(async move { sink.flush().await });
    }
    let _late = tokio::time::timeout(limit, async { while flushing.join_next().await.is_some() {} }).await;
    flushing.shutdown().await;
    if complete {
        for sink in &sinks {
            sink.complete().await?;
        }
    }
    // Everything is settled or given up; the ports and the writer end when their senders are gone.
    ports.abort_all();
    while ports.join_next().await.is_some() {}
    drop(sinks);
    drop(shared);
    let _late = tokio::time::timeout(limit, writing).await;
    Ok(())
}

/// Hands the state of a graph that does not run to `look`; `None` when it has none.
pub fn with_state<T>(graph: &Graph, look: impl FnOnce(&GraphState) -> Result<T>) -> Result<Option<T>> {
    let dir = graph.state_dir();
    if !dir.exists() {
        return Ok(None);
    }
    let _lock = lock_stopped(graph)?;
    look(&GraphState::open(&dir)?).map(Some)
}

/// Keeps a graph from running while its folder is read or changed from outside.
pub(super) fn lock_stopped(graph: &Graph) -> Result<FolderLock> {
    lock_data_dir(&graph.dir()).map_err(|error| match error.kind() {
        ErrorKind::Config => {
            let what = "a graph runs on it; stop it first, or watch it with `weir top` and `weir tap`";
            Error::new(ErrorKind::Config, "open the data folder", what).with("path", graph.dir().display())
        }
        _ => error,
    })
}

/// Why a graph cannot run now, if another process runs it.
pub fn in_use(graph: &Graph) -> Option<Error> {
    // The refusal of a lock has no cause below it.
    lock_data_dir(&graph.dir())
        .err()
        .filter(|error| error.kind() == ErrorKind::Config && std::error::Error::source(error).is_none())
}

/// Only one process may use a graph's data folder.
pub(super) fn lock_data_dir(dir: &Path) -> Result<FolderLock> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::Interrupted => io_error("open the data directory", dir, error),
        _ => {
            let what = "cannot create or open the directory; make it writable for the user that runs weir, or choose another \
                        with `--set data_dir=PATH`";
            Error::new(ErrorKind::Config, "open the data directory", what).with("path", dir.display()).caused_by(error)
        }
    };
    private::own_folder(dir).map_err(fail)?;
    FolderLock::take(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = "another weir uses it; give this one its own with `--set data_dir=PATH`";
            Error::new(ErrorKind::Config, "open the data directory", what).with("path", dir.display())
        }
        _ => fail(error),
    })
}

/// The folders that a graph writes to, as far as they are there.
fn folders_of(graph: &Graph) -> Vec<FolderId> {
    let dir = graph.dir();
    let logs = [push::FOLDER, buffer::FOLDER];
    let logs = graph.nodes.iter().flat_map(|node| logs.map(|log| dir.join(&node.id).join(log)));
    let all = [dir.clone(), graph.dead_letters_dir(), graph.state_dir()].into_iter().chain(logs);
    all.filter_map(|folder| FolderId::of(&folder).ok()).collect()
}

/// Says when a folder is not the one at its path any more: what is written to it then is lost, also while nothing is.
async fn watch_folders(folders: Vec<FolderId>, trouble: Trouble, clock: Arc<dyn Clock>) {
    loop {
        match folders.iter().try_for_each(FolderId::check) {
            Ok(()) => trouble.clear(),
            Err(error) => {
                if trouble.get().is_none() {
                    tracing::error!(%error, "a folder of the graph is gone");
                }
                trouble.set(error.to_string());
            }
        }
        clock.sleep(FOLDERS_CHECK).await;
    }
}

/// How often the folders are looked for.
const FOLDERS_CHECK: Duration = Duration::from_secs(1);

/// An error of opening a folder for writing: that another graph or process has it is a matter of the configuration.
pub(crate) fn folder_error(operation: &'static str, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => Error::new(ErrorKind::Config, operation, error.to_string()),
        _ => io_error(operation, path, error),
    }
}

pub(super) fn io_error(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, operation, "the file system refused").with("path", path.display()).caused_by(error)
}
