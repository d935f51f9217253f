//! Runs a graph: builds its nodes, gives every origin a lane, and brings all of it to an orderly end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::buffer::{Buffered, Ends, Phase};
use super::dead_letters::retry::{self, Retried, Retry};
use super::dead_letters::{DEAD_LETTERS, LetterChoice, Writer};
use super::driver::{Driver, Shared, Stop};
use super::lane::Lane;
use super::plan::{Entry, Mode, Plan, origin_name};
use super::route::{Node, Outgoing, errors_batch};
use super::status::Status;
use crate::component::{BuildContext, LaneEnd, Lanes, OpenLane, Sink, Source, Trouble};
use crate::config::{NodeConfig, Port};
use crate::delivery::{BookTotals, MemoryBudget, Outcome, RejectedBatch, Rejects};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Batch;
use crate::state::{Clock, DirStorage, GraphState, Storage, SystemClock};

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
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let dir = plan.graph.dir();
    let _lock = lock_data_dir(&dir)?;
    let trouble = Trouble::default();
    let letters_dir = plan.graph.dead_letters_dir();
    let state_dir = plan.graph.state_dir();
    let retrying = Arc::new(AtomicBool::new(false));
    let max_size = plan.graph.dead_letters.max_size;
    let writer = Writer::open(letters_dir.clone(), max_size, retrying.clone(), trouble.clone(), clock.clone())
        .map_err(|error| io_error("open dead letters", &letters_dir, error))?;
    let (dead_letters, letters) = mpsc::channel(64);
    let writing = tokio::spawn(writer.run(letters));

    let drain = plan.graph.drain;
    let mode = options.mode();
    let mut builder = Builder { plan: Arc::new(plan), clock: clock.clone(), dir, mode };
    let (phase, phase_seen) = watch::channel(Phase::Running);
    let ends = Ends { phase: phase_seen, stop: stop.clone() };
    let (sinks, rejected) = builder.sinks(&ends).await?;
    let nodes: Vec<Arc<Node>> = builder.plan.nodes.iter().map(|node| node.node.clone()).collect();
    let memory = MemoryBudget::new(builder.plan.graph.memory);
    let shared = Arc::new(Shared {
        sinks,
        nodes: nodes.clone(),
        dead_letters,
        memory: memory.clone(),
        clock,
        checkpoint_every: builder.plan.graph.checkpoint_every,
        drain,
        once: mode == Mode::Once,
    });
    let state = builder.state()?;
    let ports: JoinSet<()> = builder.errors_ports(rejected, &shared)?;
    let feeds = if mode == Mode::Retry { Vec::new() } else { builder.sources().await? };

    let (lanes_now, lanes_seen) = watch::channel(0);
    let (stopping, stopping_seen) = watch::channel(false);
    let (retry, retries) = mpsc::channel(1);
    let status = Status {
        plan: builder.plan.clone(),
        started: Instant::now(),
        dead_letters: trouble,
        memory,
        lanes: lanes_seen,
        stopping: stopping_seen,
        retry,
    };
    started(status.clone());

    let stopping = Arc::new(stopping);
    let asked = tokio::spawn(pass_on(stop, stopping.clone()));
    let hopeless = tokio::spawn(given_up(shared.nodes.clone(), stopping.clone()));
    let running = Arc::new(Running { builder, shared: shared.clone(), stopping, drain, lanes_now, state, retrying });
    let (mut clean, mut broken, mut retried) = (true, Vec::new(), None);
    match options.retry {
        None => (clean, broken) = running.run(feeds, retries).await,
        Some(choice) => retried = Some(running.retry(&choice).await?),
    }
    // What it holds must not keep the dead letters' writer waiting for more.
    drop(running);
    asked.abort();
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
    if complete && state_dir.exists() {
        // The next run begins anew.
        std::fs::remove_dir_all(&state_dir).map_err(|error| io_error("remove the state", &state_dir, error))?;
    }
    Ok(Report { books: status.books(), clean, broken, retried })
}

/// Resolves once the watched value is true, or can no longer change.
async fn turned_true(watched: &mut watch::Receiver<bool>) {
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
    let flush = async {
        for sink in &sinks {
            sink.flush().await;
        }
    };
    let _late = tokio::time::timeout(limit, flush).await;
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
pub fn with_state<T>(graph: &crate::config::Graph, look: impl FnOnce(&GraphState) -> Result<T>) -> Result<Option<T>> {
    let dir = graph.state_dir();
    if !dir.exists() {
        return Ok(None);
    }
    let _lock = lock_data_dir(&graph.dir())?;
    look(&GraphState::open(&dir)?).map(Some)
}

/// Only one process may use a data folder. The lock is the open file's and goes with the process.
pub(super) fn lock_data_dir(dir: &std::path::Path) -> Result<std::fs::File> {
    let fail = |error| io_error("open the data folder", dir, error);
    std::fs::create_dir_all(dir).map_err(fail)?;
    let file = std::fs::File::create(dir.join("lock")).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Config,
            "open the data folder",
            "another weir uses it; give this one its own with `--set data_dir=PATH`",
        )
        .with("path", dir.display())),
        Err(std::fs::TryLockError::Error(error)) => Err(fail(error)),
    }
}

pub(super) fn io_error(operation: &'static str, path: &std::path::Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, operation, "the file system refused").with("path", path.display()).caused_by(error)
}

type RejectedPort = (usize, mpsc::Receiver<RejectedBatch>);

/// Builds the nodes of a plan.
struct Builder {
    plan: Arc<Plan>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    mode: Mode,
}

/// What feeds lanes: a source, or the dead letters of a node.
struct Feed {
    source: Box<dyn Source>,
    /// Keeps the books of what is read.
    node: Arc<Node>,
    /// Where its events enter the graph.
    entry: Entry,
    /// Whether two runs over the same input read the same.
    is_deterministic: bool,
}

impl Builder {
    fn context(&self, number: usize, rejects: Rejects) -> Result<BuildContext> {
        let dir = self.dir.join(&*self.plan.nodes[number].node.id);
        let storage: Arc<dyn Storage> =
            Arc::new(DirStorage::open(&dir).map_err(|error| io_error("open the node's folder", &dir, error))?);
        Ok(self.plan.context(number, rejects, self.clock.clone(), storage, self.mode))
    }

    /// The sinks by node number, and the receiving ends of their `errors` ports.
    async fn sinks(&self, ends: &Ends) -> Result<(Vec<Option<Arc<dyn Sink>>>, Vec<RejectedPort>)> {
        let mut sinks: Vec<Option<Arc<dyn Sink>>> = self.plan.nodes.iter().map(|_| None).collect();
        let mut ports = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Sink(_))) {
            let (rejects, rejected) = Rejects::channel();
            if let NodeConfig::Sink(config) = &self.plan.graph.nodes[number].config {
                let (graph, context) = (&self.plan.graph, self.context(number, rejects)?);
                let sink = config.build(&context).await;
                let sink = sink.map_err(|error| error.with("node", &graph.nodes[number].id))?;
                sinks[number] = Some(match &graph.nodes[number].buffer {
                    Some(buffer) => {
                        Arc::new(Buffered::start(sink, buffer, context, retry::codecs(graph), ends.clone())?)
                    }
                    None => sink,
                });
            }
            ports.push((number, rejected));
        }
        Ok((sinks, ports))
    }

    async fn sources(&self) -> Result<Vec<Feed>> {
        let mut feeds = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Source(_))) {
            if let NodeConfig::Source(config) = &self.plan.graph.nodes[number].config {
                // Sources have no `errors` port: what they cannot read is passed on as it is.
                let (rejects, _nobody) = Rejects::channel();
                let source = config.build(&self.context(number, rejects)?).await;
                feeds.push(Feed {
                    source: source.map_err(|error| error.with("node", &self.plan.graph.nodes[number].id))?,
                    node: self.plan.nodes[number].node.clone(),
                    entry: Entry::Behind(number, Port::Main),
                    is_deterministic: config.is_deterministic(),
                });
            }
        }
        Ok(feeds)
    }

    /// The durable state of the graph, if a node has any and the sources are read.
    fn state(&self) -> Result<Option<Arc<GraphState>>> {
        let graph = &self.plan.graph;
        let remembering: Vec<(&str, String)> = graph.nodes.iter().filter_map(remembers).collect();
        if remembering.is_empty() || self.mode == Mode::Retry {
            return Ok(None);
        }
        let state = GraphState::open(&graph.state_dir())?;
        for (node, identity) in remembering {
            state.identify(node, &identity, graph.reset_state)?;
        }
        Ok(Some(Arc::new(state)))
    }

    /// The route of one lane.
    fn route(&self, entry: Entry) -> Result<super::route::Route> {
        let clock = self.clock.clone();
        let storage: Arc<dyn Storage> = Arc::new(crate::state::MemoryStorage::default());
        let (rejects, _unused) = Rejects::channel();
        self.plan.route(entry, &|number| {
            self.plan.context(number, rejects.clone(), clock.clone(), storage.clone(), self.mode)
        })
    }

    /// One task a sink takes what it rejects to whoever listens, or to the dead letters.
    fn errors_ports(&mut self, ports: Vec<RejectedPort>, shared: &Arc<Shared>) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (number, mut rejected) in ports {
            let node = self.plan.nodes[number].node.clone();
            let connected = self.plan.nodes[number].readers_of(Port::Errors).next().is_some();
            let mut route = self.route(Entry::Behind(number, Port::Errors))?;
            let shared = shared.clone();
            tasks.spawn(async move {
                let mut outgoing = Vec::new();
                let mut epoch = 0;
                while let Some(batch) = rejected.recv().await {
                    node.see_rejected(&batch);
                    if connected {
                        let count = batch.rejected.len();
                        node.books.passed(count);
                        node.books.emitted(count);
                        for batch in one_by_one(errors_batch(&node.id, batch)) {
                            epoch += 1;
                            route.process_alone(batch, epoch, &mut outgoing);
                        }
                    } else {
                        outgoing.push(Outgoing::DeadLetters { node: node.clone(), batch });
                    }
                    shared.send(&mut outgoing).await;
                }
            });
        }
        Ok(tasks)
    }
}

/// A node with state, and what that means.
fn remembers(node: &crate::config::Node) -> Option<(&str, String)> {
    match &node.config {
        NodeConfig::Transform(config) if config.is_stateful() => {
            Some((&node.id, format!("{} with {}", node.component, config.state_identity())))
        }
        _ => None,
    }
}

/// The events of a batch as batches of one: a panic then costs its own event.
fn one_by_one(batch: Batch) -> Vec<Batch> {
    let Batch { origin, receipt, watermark, events } = batch;
    let one = |event| Batch { origin: origin.clone(), receipt: receipt.clone(), watermark, events: vec![event] };
    let batches = events.into_iter().map(one).collect();
    receipt.resolve(Outcome::Filtered);
    batches
}

/// The sources and lanes at work.
struct Running {
    builder: Builder,
    shared: Arc<Shared>,
    /// Asked from outside, or because a source broke: a graph with a dead path does not look alive.
    stopping: Arc<watch::Sender<bool>>,
    drain: Duration,
    lanes_now: watch::Sender<usize>,
    /// Where lanes that remember write their checkpoints, if there are any.
    state: Option<Arc<GraphState>>,
    /// Dead letters are being tried again.
    retrying: Arc<AtomicBool>,
}

/// Dead letters to be tried again while the graph runs, and where the result is awaited.
pub(crate) type RetryRequest = (LetterChoice, oneshot::Sender<Result<Retried>>);

impl Running {
    /// Runs the sources to their end: together, or one after the other where the output depends on it.
    async fn run(self: &Arc<Self>, feeds: Vec<Feed>, mut retries: mpsc::Receiver<RetryRequest>) -> (bool, Vec<String>) {
        let in_order = self.shared.once && feeds.iter().all(|feed| feed.is_deterministic);
        crate::script::set_deterministic(in_order);
        let mut clean = true;
        let mut broken = Vec::new();
        let mut note = |result: Result<bool, String>| match result {
            Ok(settled) => clean &= settled,
            Err(why) => {
                tracing::error!(why, "a source broke: the graph stops");
                self.stopping.send_replace(true);
                broken.push(why);
            }
        };
        let mut together = JoinSet::new();
        for feed in feeds {
            if in_order {
                note(self.clone().run_feed(feed).await);
            } else {
                together.spawn(self.clone().run_feed(feed));
            }
        }
        let mut retrying = JoinSet::new();
        loop {
            tokio::select! {
                ended = together.join_next() => match ended {
                    Some(result) => note(result.unwrap_or_else(|panic| Err(format!("a source panicked: {panic}")))),
                    None => break,
                },
                Some((choice, answer)) = retries.recv() => {
                    let this = self.clone();
                    // Whoever asked may be gone; the letters are marked all the same.
                    retrying.spawn(async move { drop(answer.send(this.retry(&choice).await)) });
                }
            }
        }
        retrying.join_all().await;
        (clean && broken.is_empty(), broken)
    }

    /// Takes dead letters through the graph once more.
    async fn retry(self: &Arc<Self>, choice: &LetterChoice) -> Result<Retried> {
        if self.retrying.swap(true, Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Config,
                "retry dead letters",
                "another retry is under way; wait for its end",
            ));
        }
        let result = self.retry_alone(choice).await;
        self.retrying.store(false, Ordering::Relaxed);
        let dir = self.builder.plan.graph.dead_letters_dir();
        result.map_err(|error| io_error("retry dead letters", &dir, error))
    }

    async fn retry_alone(self: &Arc<Self>, choice: &LetterChoice) -> io::Result<Retried> {
        let mut retry = tokio::task::block_in_place(|| Retry::open(&self.builder.plan.graph, choice))?;
        let node = Arc::new(Node { id: DEAD_LETTERS.into(), ..Node::default() });
        let mut lanes = JoinSet::new();
        for (number, source) in retry.take_sources() {
            let feed = Feed {
                source: Box::new(source),
                node: node.clone(),
                entry: Entry::At(number),
                is_deterministic: false,
            };
            lanes.spawn(self.clone().run_feed(feed));
        }
        let broken = lanes.join_all().await.into_iter().filter_map(Result::err).collect();
        tokio::task::block_in_place(|| retry.finish(broken))
    }

    /// Runs one source and its lanes. `Ok(true)`: everything it read is settled and committed.
    async fn run_feed(self: Arc<Self>, feed: Feed) -> Result<bool, String> {
        let Feed { source, node, entry, .. } = feed;
        let id = node.id.clone();
        let (open, mut opened) = mpsc::channel::<OpenLane>(16);
        let (graph_stop, graph_stop_seen) = watch::channel(None);
        let mut source = tokio::spawn(source.run(Lanes { open, stopping: self.stopping.subscribe() }));
        let mut lanes: JoinSet<LaneEnd> = JoinSet::new();
        let mut stop = self.stopping.subscribe();
        let mut stopping = *stop.borrow();
        let mut clean = true;
        let mut may_open = true;
        let mut source_result = None;
        if stopping {
            let _ = graph_stop.send(Some(self.drain));
        }
        // Over when the source has returned, no lane can be asked for any more, and all lanes have ended.
        loop {
            if !may_open && lanes.is_empty() {
                break;
            }
            tokio::select! {
                asked = opened.recv(), if may_open => match asked {
                    Some(lane) => self
                        .start_lane(&node, entry, lane, &mut lanes, &graph_stop_seen)
                        .map_err(|error| format!("{id}: {error}"))?,
                    None => may_open = false,
                },
                ended = lanes.join_next(), if !lanes.is_empty() => self.lane_ended(&id, ended, stopping, &mut clean),
                result = &mut source, if source_result.is_none() => source_result = Some(result),
                () = turned_true(&mut stop), if !stopping => {
                    stopping = true;
                    let _ = graph_stop.send(Some(self.drain));
                }
            }
        }
        let source_result = match source_result {
            Some(result) => result,
            None => source.await,
        };
        match source_result {
            Ok(Ok(())) => Ok(clean),
            Ok(Err(error)) => Err(format!("{id}: {error}")),
            Err(panic) => Err(format!("{id}: the source panicked: {panic}")),
        }
    }

    fn start_lane(
        &self,
        node: &Arc<Node>,
        entry: Entry,
        open: OpenLane,
        lanes: &mut JoinSet<LaneEnd>,
        graph_stop: &watch::Receiver<Option<Duration>>,
    ) -> Result<()> {
        let OpenLane { origin, stop, ended } = open;
        let mut lane = Lane::new(origin.id(), node.clone(), self.builder.route(entry)?);
        let resume = match (&self.state, entry) {
            (Some(state), Entry::Behind(..)) => tokio::task::block_in_place(|| lane.restore(state))?,
            _ => None,
        };
        let stop = Stop { source: stop, graph: graph_stop.clone() };
        let name = origin_name(lane.origin());
        let driver = Driver::new(lane, origin, self.shared.clone(), stop);
        self.lanes_now.send_modify(|lanes| *lanes += 1);
        lanes.spawn(async move {
            let end = match tokio::spawn(driver.run(resume)).await {
                Ok(end) => end,
                Err(panic) => LaneEnd::Broken(format!("{name}: the lane panicked: {panic}")),
            };
            // The source may have let go of the handle.
            let _ = ended.send(Some(end.clone()));
            end
        });
        Ok(())
    }

    fn lane_ended(
        &self,
        id: &str,
        ended: Option<Result<LaneEnd, tokio::task::JoinError>>,
        stopping: bool,
        clean: &mut bool,
    ) {
        self.lanes_now.send_modify(|lanes| *lanes = lanes.saturating_sub(1));
        match ended {
            Some(Ok(LaneEnd::Clean)) => {}
            // Its source took it back, as when a partition is lost: the rest is for whoever reads it next, perhaps us.
            Some(Ok(LaneEnd::Unsettled)) if !stopping => {}
            Some(Ok(LaneEnd::Broken(why))) => {
                tracing::error!(node = id, why, "a lane broke");
                *clean = false;
            }
            _ => *clean = false,
        }
    }
}
