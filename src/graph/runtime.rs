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
use super::epochs::Epochs;
use super::exchange::{Content, Exchange, InputId, Message};
use super::keeper::{EndOfTime, Keeper, run_shard};
use super::lane::Lane;
use super::member::Member;
use super::plan::{Entry, Mode, Plan, Shards, origin_name};
use super::route::{Node, Outgoing, Route, errors_batch};
use super::shard::Shard;
use super::status::Status;
use crate::component::{BuildContext, KeepsState, LaneEnd, Lanes, OpenLane, Opening, Sink, Source, Trouble};
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
    let ways = Ways::of(&builder);
    let shared = Arc::new(Shared {
        sinks,
        nodes: nodes.clone(),
        dead_letters,
        memory: memory.clone(),
        clock,
        exchanges: ways.exchanges,
        idle_timeout: builder.plan.graph.idle_timeout,
        drain,
        once: mode == Mode::Once,
    });
    let state = builder.state()?;
    let epochs = Arc::new(Epochs::new(ways.receivers.iter().map(|(_, receivers)| receivers.len()).sum()));
    let shards = builder.run_shards(ways.receivers, &shared, &epochs, state.as_deref())?;
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
    let (unopened, unopened_seen) = watch::channel(feeds.len());
    let keeper = Keeper {
        epochs: epochs.clone(),
        shared: shared.clone(),
        exchanges: shared.exchanges.clone(),
        state: state.clone(),
        every: builder.plan.graph.checkpoint_every,
        unopened: unopened_seen,
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
    /// The epochs of what is remembered behind it; none: those of the graph.
    epochs: Option<Arc<Epochs>>,
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
                    epochs: None,
                });
            }
        }
        Ok(feeds)
    }

    /// Whether sources are read one after the other, so that the output depends on nothing but the input.
    fn is_in_order(&self) -> bool {
        let is_deterministic = |config: &NodeConfig| match config {
            NodeConfig::Source(config) => config.is_deterministic(),
            _ => true,
        };
        self.mode == Mode::Once && self.plan.graph.nodes.iter().all(|node| is_deterministic(&node.config))
    }

    /// How many state partitions a node has whose events come by several partitions.
    fn shards(&self) -> usize {
        if self.is_in_order() { 1 } else { self.plan.graph.state_partitions }
    }

    /// Starts the state partitions of every exchange; they end when this is dropped.
    fn run_shards(
        &self,
        receivers: Vec<(usize, Vec<mpsc::Receiver<Message>>)>,
        shared: &Arc<Shared>,
        epochs: &Arc<Epochs>,
        state: Option<&GraphState>,
    ) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        let mut ready = Vec::new();
        for (node, receivers) in receivers {
            for (number, messages) in receivers.into_iter().enumerate() {
                let route = self.route(Entry::Shard(node), Some(self.shards()))?;
                let id = self.plan.nodes[node].node.id.clone();
                ready.push((node, messages, Shard::new(id, number, route.poisoned_by(&epochs.poison), epochs.input())));
            }
        }
        // A state partition reads from all of every node in front of it that has some.
        let feeding: Vec<(InputId, Vec<usize>)> =
            ready.iter().map(|(_, _, shard)| (shard.input, shard.exchanges().collect())).collect();
        for (node, messages, mut shard) in ready {
            for (input, _) in feeding.iter().filter(|(_, nodes)| nodes.contains(&node)) {
                shard.open(*input, None);
            }
            if let Some(state) = state {
                shard.restore(state)?;
            }
            run_shard(&mut tasks, shard, messages, shared.clone(), epochs.clone());
        }
        Ok(tasks)
    }

    /// The durable state of the graph, if a node has any and the sources are read.
    fn state(&self) -> Result<Option<Arc<GraphState>>> {
        let graph = &self.plan.graph;
        let remembering: Vec<(&str, String)> = (0..graph.nodes.len()).filter_map(|node| self.remembers(node)).collect();
        if remembering.is_empty() || self.mode == Mode::Retry {
            return Ok(None);
        }
        let state = GraphState::open(&graph.state_dir())?;
        for (node, identity) in remembering {
            state.identify(node, &identity, graph.reset_state)?;
        }
        Ok(Some(Arc::new(state)))
    }

    /// A node with state, and what that means.
    fn remembers(&self, number: usize) -> Option<(&str, String)> {
        let node = &self.plan.graph.nodes[number];
        let NodeConfig::Transform(config) = &node.config else { return None };
        if config.keeps_state() == KeepsState::Not {
            return None;
        }
        let place = match self.plan.has_exchange(number) {
            true => format!("{} state partitions", self.shards()),
            false => "the lanes it reads".to_owned(),
        };
        Some((&node.id, format!("{} with {}, in {place}", node.component, config.state_identity())))
    }

    /// The route of one lane.
    fn route(&self, entry: Entry, shards: Shards) -> Result<Route> {
        let clock = self.clock.clone();
        let storage: Arc<dyn Storage> = Arc::new(crate::state::MemoryStorage::default());
        let (rejects, _unused) = Rejects::channel();
        self.plan.route(entry, shards, &|number| {
            self.plan.context(number, rejects.clone(), clock.clone(), storage.clone(), self.mode)
        })
    }

    /// One task a sink takes what it rejects to whoever listens, or to the dead letters.
    fn errors_ports(&mut self, ports: Vec<RejectedPort>, shared: &Arc<Shared>) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (number, mut rejected) in ports {
            let node = self.plan.nodes[number].node.clone();
            let connected = self.plan.nodes[number].readers_of(Port::Errors).next().is_some();
            let mut route = self.route(Entry::Behind(number, Port::Errors), None)?;
            let shared = shared.clone();
            tasks.spawn(async move {
                let mut outgoing = Vec::new();
                while let Some(batch) = rejected.recv().await {
                    node.see_rejected(&batch);
                    if connected {
                        let count = batch.rejected.len();
                        node.books.passed(count);
                        node.books.emitted(count);
                        for batch in one_by_one(errors_batch(&node.id, batch)) {
                            route.process_alone(batch, &mut outgoing);
                        }
                    } else {
                        outgoing.push(Outgoing::DeadLetters { node: node.clone(), batch });
                    }
                    shared.send(&mut outgoing, Default::default()).await;
                }
            });
        }
        Ok(tasks)
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

/// Batches that may wait in front of a state partition.
const WAITING: usize = 64;

/// The ways into state partitions, and their other ends, by number of the node.
struct Ways {
    exchanges: Vec<Exchange>,
    receivers: Vec<(usize, Vec<mpsc::Receiver<Message>>)>,
}

impl Ways {
    fn of(builder: &Builder) -> Ways {
        let mut ways = Ways { exchanges: Vec::new(), receivers: Vec::new() };
        if builder.mode == Mode::Retry {
            return ways;
        }
        for node in (0..builder.plan.nodes.len()).filter(|node| builder.plan.has_exchange(*node)) {
            let (shards, receivers) = (0..builder.shards()).map(|_| mpsc::channel(WAITING)).unzip();
            ways.exchanges.push(Exchange { node, shards });
            ways.receivers.push((node, receivers));
        }
        ways
    }
}

/// The sources and lanes at work.
struct Running {
    builder: Builder,
    shared: Arc<Shared>,
    /// Asked from outside, or because a source broke: a graph with a dead path does not look alive.
    stopping: Arc<watch::Sender<bool>>,
    drain: Duration,
    lanes_now: watch::Sender<usize>,
    /// Where lanes that remember find their last checkpoint, if there is one.
    state: Option<Arc<GraphState>>,
    epochs: Arc<Epochs>,
    /// Sources that have not opened all their lanes.
    unopened: watch::Sender<usize>,
    /// Dead letters are being tried again.
    retrying: Arc<AtomicBool>,
}

/// Dead letters to be tried again while the graph runs, and where the result is awaited.
pub(crate) type RetryRequest = (LetterChoice, oneshot::Sender<Result<Retried>>);

impl Running {
    /// Runs the sources to their end: together, or one after the other where the output depends on it.
    async fn run(self: &Arc<Self>, feeds: Vec<Feed>, mut retries: mpsc::Receiver<RetryRequest>) -> (bool, Vec<String>) {
        let in_order = self.builder.is_in_order();
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
        if clean && broken.is_empty() && !*self.stopping.borrow() {
            clean = self.end_of_time().await;
        }
        (clean && broken.is_empty(), broken)
    }

    /// All sources have come to their end: everything that still waits for time in state partitions is due.
    async fn end_of_time(self: &Arc<Self>) -> bool {
        if self.shared.exchanges.is_empty() {
            return true;
        }
        let node = Arc::new(Node { id: "end".into(), ..Node::default() });
        let feed = Feed { source: Box::new(EndOfTime), node, entry: Entry::Everywhere, epochs: None };
        match self.clone().run_feed(feed).await {
            Ok(is_clean) => is_clean,
            Err(why) => {
                tracing::error!(why, "what was left could not be ended");
                false
            }
        }
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
        // What is remembered of them nobody needs afterwards.
        let epochs = Arc::new(Epochs::new(0));
        let keeper = Keeper {
            epochs: epochs.clone(),
            shared: self.shared.clone(),
            exchanges: Vec::new(),
            state: None,
            every: self.builder.plan.graph.checkpoint_every,
            unopened: watch::channel(0).1,
        };
        let keeping = tokio::spawn(keeper.run());
        let mut lanes = JoinSet::new();
        for (number, source) in retry.take_sources() {
            let feed = Feed {
                source: Box::new(source),
                node: node.clone(),
                entry: Entry::At(number),
                epochs: Some(epochs.clone()),
            };
            lanes.spawn(self.clone().run_feed(feed));
        }
        let broken = lanes.join_all().await.into_iter().filter_map(Result::err).collect();
        keeping.abort();
        tokio::task::block_in_place(|| retry.finish(broken))
    }

    /// Runs one source and its lanes. `Ok(true)`: everything it read is settled and committed.
    async fn run_feed(self: Arc<Self>, feed: Feed) -> Result<bool, String> {
        let Feed { source, node, entry, epochs } = feed;
        let id = node.id.clone();
        let (open, mut opened) = mpsc::channel::<Opening>(16);
        let mut is_unopened = matches!(entry, Entry::Behind(..));
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
                    Some(opening) => {
                        let is_all = opening.is_all;
                        self.start_lanes(&node, entry, epochs.as_ref(), opening.lanes, &mut lanes, &graph_stop_seen)
                            .await
                            .map_err(|error| format!("{id}: {error}"))?;
                        if is_all && std::mem::take(&mut is_unopened) {
                            self.unopened.send_modify(|sources| *sources -= 1);
                        }
                    }
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
        if is_unopened {
            self.unopened.send_modify(|sources| *sources -= 1);
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

    /// Starts lanes; none of them reads before state partitions know of all.
    async fn start_lanes(
        &self,
        node: &Arc<Node>,
        entry: Entry,
        epochs: Option<&Arc<Epochs>>,
        opened: Vec<OpenLane>,
        lanes: &mut JoinSet<LaneEnd>,
        graph_stop: &watch::Receiver<Option<Duration>>,
    ) -> Result<()> {
        let mut ready = Vec::new();
        for OpenLane { origin, stop, ended } in opened {
            let shards = epochs.is_none().then(|| self.builder.shards());
            let state = self.state.as_deref().filter(|_| matches!(entry, Entry::Behind(..)));
            let epochs = epochs.unwrap_or(&self.epochs);
            let route = self.builder.route(entry, shards)?.poisoned_by(&epochs.poison);
            let mut lane = Lane::new(origin.id(), node.clone(), route);
            let (mut resume, mut member) = (None, None);
            if lane.is_member() {
                if let Some(state) = state {
                    resume = tokio::task::block_in_place(|| lane.restore(state))?;
                }
                let joined = Member::join(epochs.clone(), resume.as_ref());
                let mut tell = Vec::new();
                lane.tell_shards(&mut tell, || Content::Open(origin.id()));
                self.shared.send(&mut tell, (joined.input, joined.tag)).await;
                member = Some(joined);
            }
            let stop = Stop { source: stop, graph: graph_stop.clone() };
            ready.push((Driver::new(lane, origin, self.shared.clone(), stop, member), resume, ended));
        }
        for (driver, resume, ended) in ready {
            let name = origin_name(driver.lane.origin());
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
        }
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
