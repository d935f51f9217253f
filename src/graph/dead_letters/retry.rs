//! Dead letters as a source: each goes once more into the node that rejected it, as the event it was there.
//!
//! One lane a node reads the log from its beginning to where it ended when the retry began, so that a letter that is
//! rejected again is a new letter and not tried twice. What is settled is marked beside the log; a retry that was cut
//! off goes on with the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::letter::{Records, read_waiting};
use super::{DeadLetter, LetterChoice, RECORD_BYTES};
use crate::component::{Again, Lanes, Origin, Read, ReadLimit, Source};
use crate::config::{Graph, NodeConfig};
use crate::delivery::SettledRecords;
use crate::delivery::log::{Folder, LogReader};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Codec, Event, OriginId, OriginKind, Position};
use crate::graph::DEAD_LETTERS;
use crate::graph::runtime::{folder_error, io_error, lock_stopped};
use crate::script::hash;

/// What a retry came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Letters that were tried again.
    pub tried: u64,
    /// Those of them that are settled: delivered, filtered, or dead letters anew.
    pub settled: u64,
    /// Letters that were written about the same events meanwhile.
    pub rejected: u64,
    /// Older letters about the same event at the same node, which the latest one stands for.
    pub repeated: u64,
    /// Letters that were chosen and could not be tried, by reason.
    pub left: BTreeMap<String, u64>,
    /// Letters of other graphs in the same log, by graph. They are not touched.
    #[serde(default)]
    pub elsewhere: BTreeMap<String, u64>,
    /// Letters of this graph that are not settled, the new ones among them.
    pub waiting: u64,
    /// What broke on the way.
    pub broken: Vec<String>,
}

impl Retried {
    /// Whether of what was chosen nothing is left or rejected again.
    pub fn is_complete(&self) -> bool {
        self.tried == self.settled && self.rejected == 0 && self.left.is_empty() && self.broken.is_empty()
    }
}

/// A retry: the letters that are chosen, by the node they go into.
pub(crate) struct Retry {
    graph: String,
    dir: PathBuf,
    marks: Arc<Mutex<Marks>>,
    /// The events of the letters that are tried, by the hash of their ids.
    tried: HashSet<u64>,
    /// How many letters that are.
    count: u64,
    /// Older letters of the same events at the same nodes, which are marked already.
    repeated: u64,
    left: BTreeMap<String, u64>,
    /// The first record that is not there yet.
    until: u64,
    sources: Vec<(usize, LettersSource)>,
}

struct Marks {
    records: SettledRecords,
    count: u64,
}

impl Retry {
    /// Looks through the log for what is chosen.
    pub fn open(graph: &Graph, choice: &LetterChoice) -> io::Result<Retry> {
        let dir = graph.dead_letters_dir();
        let mut records = SettledRecords::open(&dir)?;
        let codecs = codecs(graph);
        let (mut left, mut until) = (BTreeMap::new(), 0);
        let mut waiting: HashMap<u128, Waiting> = HashMap::new();
        let mut repeated = Vec::new();
        let mut log = Records::open(&dir)?;
        while let Some(record) = log.next(&records) {
            let record = match record {
                Ok(record) => record,
                Err(damage) => {
                    tracing::error!(%damage, "the log of dead letters is damaged");
                    *left.entry("the log is damaged there".to_owned()).or_default() += damage.records.max(1);
                    continue;
                }
            };
            until = record.number + 1;
            if records.contains(record.number) {
                continue;
            }
            match serde_json::from_slice(&record.payload) {
                Ok(letter) => {
                    let letter: DeadLetter = letter;
                    if letter.other_graph(&graph.name).is_some() {
                        continue;
                    }
                    let letter = letter.of_graph(&graph.name);
                    let node = choice.takes(&letter).then(|| node_of(graph, &letter, &codecs));
                    let this = Waiting { number: record.number, event: hash([letter.id.as_bytes()]), node };
                    repeated.extend(waiting.insert(letter.fingerprint(), this).map(|older| older.number));
                }
                Err(_) => *left.entry("the letter is no JSON document of ours".to_owned()).or_default() += 1,
            }
        }
        let (mut nodes, mut tried, mut count) = (BTreeSet::new(), HashSet::new(), 0);
        for Waiting { event, node, .. } in waiting.into_values() {
            match node {
                Some(Ok(number)) => {
                    nodes.insert(number);
                    tried.insert(event);
                    count += 1;
                }
                Some(Err(why)) => *left.entry(why).or_default() += 1,
                None => {}
            }
        }
        repeated.sort_unstable();
        records.mark(&repeated)?;
        let repeated = repeated.len() as u64;
        let marks = Arc::new(Mutex::new(Marks { records, count: 0 }));
        let source = |number: usize| {
            let (node, choice) = (graph.nodes[number].id.clone(), choice.clone());
            let id = OriginId { node: DEAD_LETTERS.into(), log: node.clone(), partition: 0, kind: OriginKind::Other };
            let reader = LogReader::open(&dir, RECORD_BYTES, 0)?;
            let letters = LettersOrigin {
                id: Arc::new(id),
                graph: graph.name.clone(),
                dir: dir.clone(),
                node,
                choice,
                until,
                codecs: codecs.clone(),
                reader,
                held: None,
                handed: VecDeque::new(),
                marks: marks.clone(),
            };
            Ok((number, LettersSource(letters)))
        };
        let sources = nodes.into_iter().map(source).collect::<io::Result<_>>()?;
        Ok(Retry { graph: graph.name.clone(), dir: dir.clone(), marks, tried, count, repeated, left, until, sources })
    }

    /// The sources, each with the number of the node that its events go into; once.
    pub fn take_sources(&mut self) -> Vec<(usize, LettersSource)> {
        std::mem::take(&mut self.sources)
    }

    /// What it came to, once all lanes have ended. Files of which every letter is settled go.
    pub fn finish(self, broken: Vec<String>) -> io::Result<Retried> {
        let (mut waiting, mut elsewhere) = (0, BTreeMap::new());
        let count = |letter: DeadLetter| match letter.other_graph(&self.graph) {
            Some(graph) => *elsewhere.entry(graph.to_owned()).or_default() += 1,
            None => waiting += 1,
        };
        super::read_dead_letters(&self.dir, count, |damage| tracing::warn!(damage, "dead letters"))?;
        let mut rejected = 0;
        for record in LogReader::open(&self.dir, RECORD_BYTES, self.until)?.flatten() {
            let letter = serde_json::from_slice::<DeadLetter>(&record.payload);
            let letter = letter.ok().filter(|letter| letter.other_graph(&self.graph).is_none());
            rejected += u64::from(letter.is_some_and(|letter| self.tried.contains(&hash([letter.id.as_bytes()]))));
        }
        let mut marks = lock(&self.marks);
        marks.records.remove_finished()?;
        let Retry { count: tried, repeated, left, .. } = self;
        Ok(Retried { tried, settled: marks.count, rejected, repeated, left, elsewhere, waiting, broken })
    }
}

/// A letter that waits.
struct Waiting {
    number: u64,
    /// The hash of its event's id.
    event: u64,
    /// The node it goes into, or why it cannot; none: it is not chosen.
    node: Option<Result<usize, String>>,
}

/// Takes letters of a graph that does not run out of its log; gives of how many events. Those of other graphs stay.
pub fn purge_dead_letters(graph: &Graph, choice: &LetterChoice) -> Result<u64> {
    let _lock = lock_stopped(graph)?;
    let dir = graph.dead_letters_dir();
    let _letters_lock = Folder::locked(&dir).map_err(|error| folder_error("purge dead letters", &dir, error))?;
    let purge = || -> io::Result<u64> {
        let mut records = SettledRecords::open(&dir)?;
        let (mut chosen, mut events) = (Vec::new(), HashSet::new());
        let take = |number, letter: DeadLetter| {
            if choice.takes(&letter) && letter.other_graph(&graph.name).is_none() {
                chosen.push(number);
                events.insert(letter.fingerprint());
            }
        };
        read_waiting(&dir, &records, take, |_| {})?;
        records.mark(&chosen)?;
        records.remove_finished()?;
        Ok(events.len() as u64)
    };
    purge().map_err(|error| io_error("purge dead letters", &dir, error))
}

/// How each source's records are read.
pub(in crate::graph) fn codecs(graph: &Graph) -> Arc<BTreeMap<String, Codec>> {
    let codec = |node: &crate::config::Node| match &node.config {
        NodeConfig::Source(config) => Some((node.id.clone(), config.codec().ok()?)),
        _ => None,
    };
    Arc::new(graph.nodes.iter().filter_map(codec).collect())
}

/// The node a letter goes into, or why it cannot be tried again.
fn node_of(graph: &Graph, letter: &DeadLetter, codecs: &BTreeMap<String, Codec>) -> Result<usize, String> {
    let number = graph.nodes.iter().position(|node| node.id == letter.node);
    let number = number.ok_or_else(|| format!("the graph has no node `{}` any more", letter.node))?;
    if matches!(graph.nodes[number].config, NodeConfig::Source(_)) {
        return Err(format!("`{}` is a source: there is nothing before it", letter.node));
    }
    match letter.event(|source| codecs.get(source).cloned()) {
        Some(_) => Ok(number),
        None => Err("the event's body was not kept, or its codec is unknown".to_owned()),
    }
}

fn lock(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The letters of one node; opens one lane and ends with it.
pub(crate) struct LettersSource(LettersOrigin);

#[async_trait]
impl Source for LettersSource {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.run_one(Box::new(self.0)).await
    }
}

struct LettersOrigin {
    id: Arc<OriginId>,
    graph: String,
    dir: PathBuf,
    node: String,
    choice: LetterChoice,
    /// The first record that is not ours to read.
    until: u64,
    codecs: Arc<BTreeMap<String, Codec>>,
    reader: LogReader,
    /// Read already, and of another origin than those before it.
    held: Option<Letter>,
    /// Numbers of the letters that were handed out and are not settled.
    handed: VecDeque<u64>,
    marks: Arc<Mutex<Marks>>,
}

struct Letter {
    number: u64,
    origin: OriginId,
    event: Event,
}

impl LettersOrigin {
    /// The next letter that is ours.
    fn next(&mut self) -> Option<Letter> {
        if let Some(letter) = self.held.take() {
            return Some(letter);
        }
        loop {
            // Damage was counted when the retry was opened; the reader goes on behind it.
            let Ok(record) = self.reader.next()? else { continue };
            if record.number >= self.until {
                return None;
            }
            if lock(&self.marks).records.contains(record.number) {
                continue;
            }
            let Ok(letter) = serde_json::from_slice::<DeadLetter>(&record.payload) else { continue };
            let is_ours = letter.other_graph(&self.graph).is_none() && letter.node == self.node;
            if !is_ours || !self.choice.takes(&letter) {
                continue;
            }
            if let Some((origin, event)) = letter.event(|source| self.codecs.get(source).cloned()) {
                return Some(Letter { number: record.number, origin, event });
            }
        }
    }

    fn take(&mut self, limit: ReadLimit) -> Read {
        let Some(Letter { number: first, origin, event }) = self.next() else { return Read::End };
        let (mut last, mut size) = (first, event.size());
        let mut events = vec![event];
        self.handed.push_back(first);
        while events.len() < limit.events && size < limit.bytes {
            let Some(letter) = self.next() else { break };
            if letter.origin != origin {
                self.held = Some(letter);
                break;
            }
            last = letter.number;
            size += letter.event.size();
            self.handed.push_back(last);
            events.push(letter.event);
        }
        Read::Again(Again { origin: Arc::new(origin), first: Position(first), last: Position(last), events })
    }
}

#[async_trait]
impl Origin for LettersOrigin {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        Ok(tokio::task::block_in_place(|| self.take(limit)))
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        let settled = self.handed.partition_point(|number| *number < position.0);
        let numbers: Vec<u64> = self.handed.range(..settled).copied().collect();
        let mut marks = lock(&self.marks);
        tokio::task::block_in_place(|| marks.records.mark(&numbers)).map_err(|error| unusable(&self.dir, error))?;
        marks.count += numbers.len() as u64;
        self.handed.drain(..settled);
        Ok(())
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let kept = self.handed.partition_point(|number| *number < position.0);
        self.handed.truncate(kept);
        self.held = None;
        self.reader =
            LogReader::open(&self.dir, RECORD_BYTES, position.0).map_err(|error| unusable(&self.dir, error))?;
        Ok(())
    }
}

fn unusable(dir: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "retry dead letters", "the file system refused")
        .with("path", dir.display())
        .caused_by(error)
}
