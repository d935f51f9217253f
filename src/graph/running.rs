//! The sources and lanes at work, from their start to their end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::builder::{Builder, Feed};
use super::dead_letters::retry::{Retried, Retry};
use super::dead_letters::{DEAD_LETTERS, LetterChoice};
use super::driver::{Driver, Stop};
use super::epochs::Epochs;
use super::exchange::Content;
use super::keeper::{EndOfTime, Keeper};
use super::lane::Lane;
use super::member::Member;
use super::plan::{Entry, origin_name};
use super::route::Node;
use super::runtime::{io_error, turned_true};
use super::shared::Shared;
use crate::component::{LaneEnd, Lanes, OpenLane, Opening};
use crate::error::{Error, ErrorKind, Result};
use crate::state::GraphState;

/// The sources and lanes at work.
pub(super) struct Running {
    pub builder: Builder,
    pub shared: Arc<Shared>,
    /// Asked from outside, or because a source broke: a graph with a dead path does not look alive.
    pub stopping: Arc<watch::Sender<bool>>,
    pub drain: Duration,
    pub lanes_now: watch::Sender<usize>,
    /// Where lanes that remember find their last checkpoint, if there is one.
    pub state: Option<Arc<GraphState>>,
    pub epochs: Arc<Epochs>,
    /// Sources that have not opened all their lanes.
    pub unopened: watch::Sender<usize>,
    /// Whether state partitions have been sent that there are none of these left.
    pub all_opened: watch::Receiver<bool>,
    /// Dead letters are being tried again.
    pub retrying: Arc<AtomicBool>,
}

/// Dead letters to be tried again while the graph runs, and where the result is awaited.
pub(crate) type RetryRequest = (LetterChoice, oneshot::Sender<Result<Retried>>);

impl Running {
    /// Runs the sources to their end: together, or one after the other where the output depends on it.
    pub async fn run(
        self: &Arc<Self>,
        feeds: Vec<Feed>,
        mut retries: mpsc::Receiver<RetryRequest>,
    ) -> (bool, Vec<String>) {
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
        // The end of time must come behind it: until then state partitions wait for lanes that may still open.
        turned_true(&mut self.all_opened.clone()).await;
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
    pub async fn retry(self: &Arc<Self>, choice: &LetterChoice) -> Result<Retried> {
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
            all_opened: watch::channel(false).0,
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
                let (input, tag) = (epochs.input(), epochs.signal().borrow().tag);
                let mut tell = Vec::new();
                lane.tell_shards(&mut tell, || Content::Open(origin.id()));
                self.shared.send(&mut tell, (input, tag)).await;
                member = Some(Member::join(epochs.clone(), input, resume.as_ref()));
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
