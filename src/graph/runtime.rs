//! Runs a graph: builds its nodes, gives every origin a lane, and brings all of it to an orderly end.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::dead_letters::Writer;
use super::driver::{Driver, Shared, Stop};
use super::lane::Lane;
use super::plan::{Plan, origin_name};
use super::route::{Node, Outgoing, errors_batch};
use crate::component::{BuildContext, LaneEnd, Lanes, OpenLane, Sink, Source, Trouble};
use crate::config::{NodeConfig, Port};
use crate::delivery::{BookTotals, MemoryBudget, Outcome, RejectedBatch, Rejects};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Batch;
use crate::state::{Clock, DirStorage, Storage, SystemClock};

/// How a graph is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End when the bounded sources end; the same input gives the same output.
    pub once: bool,
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
}

/// A running graph as telemetry sees it.
#[derive(Clone)]
pub struct Status {
    nodes: Arc<Vec<Arc<Node>>>,
    dead_letters: Trouble,
    memory: MemoryBudget,
    lanes: watch::Receiver<usize>,
    stopping: watch::Receiver<bool>,
}

impl Status {
    /// The books of every node.
    pub fn books(&self) -> Vec<(String, BookTotals)> {
        self.nodes.iter().map(|node| (node.id.to_string(), node.books.totals())).collect()
    }

    /// What keeps the graph from being ready: `node: why`, one line a node. Empty: ready.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> =
            self.nodes.iter().filter_map(|node| Some(format!("{}: {}", node.id, node.trouble.get()?))).collect();
        troubles.extend(self.dead_letters.get());
        if *self.stopping.borrow() {
            troubles.push("the graph is stopping".to_owned());
        }
        troubles
    }

    /// Events that the sources' logs still hold for us, as of the last reads, of the sources that know.
    pub fn lags(&self) -> Vec<(String, u64)> {
        let lag = |node: &Arc<Node>| {
            let lag = *node.lag.lock().unwrap_or_else(PoisonError::into_inner);
            Some((node.id.to_string(), lag?))
        };
        self.nodes.iter().filter_map(lag).collect()
    }

    /// Memory of batches in flight: used and allowed bytes.
    pub fn memory(&self) -> (u64, u64) {
        (self.memory.used(), self.memory.total())
    }

    /// Lanes running.
    pub fn lanes(&self) -> usize {
        *self.lanes.borrow()
    }
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
    let writer = Writer::open(letters_dir.clone(), plan.graph.dead_letters.max_size, trouble.clone(), clock.clone())
        .map_err(|error| io_error("open dead letters", &letters_dir, error))?;
    let (dead_letters, letters) = mpsc::channel(64);
    let writing = tokio::spawn(writer.run(letters));

    let drain = plan.graph.drain;
    let mut builder = Builder { plan: Arc::new(plan), clock: clock.clone(), dir, once: options.once };
    let (sinks, rejected) = builder.sinks().await?;
    let nodes: Vec<Arc<Node>> = builder.plan.nodes.iter().map(|node| node.node.clone()).collect();
    let memory = MemoryBudget::new(builder.plan.graph.memory);
    let shared = Arc::new(Shared {
        sinks,
        nodes: nodes.clone(),
        dead_letters,
        memory: memory.clone(),
        clock,
        drain,
        once: options.once,
    });
    let ports: JoinSet<()> = builder.errors_ports(rejected, &shared)?;
    let sources = builder.sources().await?;

    let (lanes_now, lanes_seen) = watch::channel(0);
    let (stopping, stopping_seen) = watch::channel(false);
    let status =
        Status { nodes: Arc::new(nodes), dead_letters: trouble, memory, lanes: lanes_seen, stopping: stopping_seen };
    started(status.clone());

    let stopping = Arc::new(stopping);
    let asked = tokio::spawn(pass_on(stop, stopping.clone()));
    let hopeless = tokio::spawn(given_up(shared.nodes.clone(), stopping.clone()));
    let running = Running { builder, shared: shared.clone(), stopping, drain, lanes_now };
    let (mut clean, mut broken) = running.run(sources).await;
    asked.abort();
    hopeless.abort();
    if let Ok(why) = hopeless.await {
        clean = false;
        broken.push(why);
    }
    finish(shared, ports, writing, drain.min(FINISH), clean && options.once && broken.is_empty()).await?;
    Ok(Report { books: status.books(), clean, broken })
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

/// Only one process may use a data folder. The lock is the open file's and goes with the process.
fn lock_data_dir(dir: &std::path::Path) -> Result<std::fs::File> {
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

fn io_error(operation: &'static str, path: &std::path::Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, operation, "the file system refused").with("path", path.display()).caused_by(error)
}

type RejectedPort = (usize, mpsc::Receiver<RejectedBatch>);

/// Builds the nodes of a plan.
struct Builder {
    plan: Arc<Plan>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    once: bool,
}

impl Builder {
    fn context(&self, number: usize, rejects: Rejects) -> Result<BuildContext> {
        let dir = self.dir.join(&*self.plan.nodes[number].node.id);
        let storage: Arc<dyn Storage> =
            Arc::new(DirStorage::open(&dir).map_err(|error| io_error("open the node's folder", &dir, error))?);
        Ok(self.plan.context(number, rejects, self.clock.clone(), storage, self.once))
    }

    /// The sinks by node number, and the receiving ends of their `errors` ports.
    async fn sinks(&self) -> Result<(Vec<Option<Arc<dyn Sink>>>, Vec<RejectedPort>)> {
        let mut sinks: Vec<Option<Arc<dyn Sink>>> = self.plan.nodes.iter().map(|_| None).collect();
        let mut ports = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Sink(_))) {
            let (rejects, rejected) = Rejects::channel();
            if let NodeConfig::Sink(config) = &self.plan.graph.nodes[number].config {
                let sink = config.build(&self.context(number, rejects)?).await;
                sinks[number] = Some(sink.map_err(|error| error.with("node", &self.plan.graph.nodes[number].id))?);
            }
            ports.push((number, rejected));
        }
        Ok((sinks, ports))
    }

    async fn sources(&self) -> Result<Vec<(usize, Box<dyn Source>)>> {
        let mut sources = Vec::new();
        for number in self.plan.numbers(|config| matches!(config, NodeConfig::Source(_))) {
            if let NodeConfig::Source(config) = &self.plan.graph.nodes[number].config {
                // Sources have no `errors` port: what they cannot read is passed on as it is.
                let (rejects, _nobody) = Rejects::channel();
                let source = config.build(&self.context(number, rejects)?).await;
                sources.push((number, source.map_err(|error| error.with("node", &self.plan.graph.nodes[number].id))?));
            }
        }
        Ok(sources)
    }

    /// The route behind a source, or behind a sink's `errors` port.
    fn route(&self, from: usize, port: Port) -> Result<super::route::Route> {
        let clock = self.clock.clone();
        let storage: Arc<dyn Storage> = Arc::new(crate::state::MemoryStorage::default());
        let (rejects, _unused) = Rejects::channel();
        self.plan.route(from, port, &|number| {
            self.plan.context(number, rejects.clone(), clock.clone(), storage.clone(), self.once)
        })
    }

    /// One task a sink takes what it rejects to whoever listens, or to the dead letters.
    fn errors_ports(&mut self, ports: Vec<RejectedPort>, shared: &Arc<Shared>) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (number, mut rejected) in ports {
            let node = self.plan.nodes[number].node.clone();
            let connected = self.plan.nodes[number].readers_of(Port::Errors).next().is_some();
            let mut route = self.route(number, Port::Errors)?;
            let shared = shared.clone();
            tasks.spawn(async move {
                let mut outgoing = Vec::new();
                let mut epoch = 0;
                while let Some(batch) = rejected.recv().await {
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
}

impl Running {
    /// Runs the sources to their end: together, or one after the other where the output depends on it.
    async fn run(self, sources: Vec<(usize, Box<dyn Source>)>) -> (bool, Vec<String>) {
        let this = Arc::new(self);
        let is_deterministic = |number: usize| match &this.builder.plan.graph.nodes[number].config {
            NodeConfig::Source(config) => config.is_deterministic(),
            _ => false,
        };
        let in_order = this.shared.once && sources.iter().all(|(number, _)| is_deterministic(*number));
        crate::script::set_deterministic(in_order);
        let mut clean = true;
        let mut broken = Vec::new();
        let mut note = |result: Result<bool, String>| match result {
            Ok(settled) => clean &= settled,
            Err(why) => {
                tracing::error!(why, "a source broke: the graph stops");
                this.stopping.send_replace(true);
                broken.push(why);
            }
        };
        let mut together = JoinSet::new();
        for (number, source) in sources {
            if in_order {
                note(this.clone().run_source(number, source).await);
            } else {
                together.spawn(this.clone().run_source(number, source));
            }
        }
        while let Some(result) = together.join_next().await {
            note(result.unwrap_or_else(|panic| Err(format!("a source panicked: {panic}"))));
        }
        (clean && broken.is_empty(), broken)
    }

    /// Runs one source and its lanes. `Ok(true)`: everything it read is settled and committed.
    async fn run_source(self: Arc<Self>, number: usize, source: Box<dyn Source>) -> Result<bool, String> {
        let id = self.builder.plan.graph.nodes[number].id.clone();
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
                        .start_lane(number, lane, &mut lanes, &graph_stop_seen)
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
        number: usize,
        open: OpenLane,
        lanes: &mut JoinSet<LaneEnd>,
        graph_stop: &watch::Receiver<Option<Duration>>,
    ) -> Result<()> {
        let OpenLane { origin, stop, ended } = open;
        let source = self.builder.plan.nodes[number].node.clone();
        let lane = Lane::new(origin.id(), source, self.builder.route(number, Port::Main)?);
        let stop = Stop { source: stop, graph: graph_stop.clone() };
        let name = origin_name(lane.origin());
        let driver = Driver::new(lane, origin, self.shared.clone(), stop);
        self.lanes_now.send_modify(|lanes| *lanes += 1);
        lanes.spawn(async move {
            let end = match tokio::spawn(driver.run()).await {
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
