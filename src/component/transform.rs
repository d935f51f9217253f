//! Transforms: plain functions over batches.

use std::fmt::Debug;
use std::time::Duration;

use vrl::value::Value;

use super::{BuildContext, Problems};
use crate::error::Result;
use crate::event::{Batch, Event, OriginId, Rejected, Timestamp, Verdict};
use crate::state::StatePart;

/// A transform's options.
#[typetag::deserialize(tag = "type")]
pub trait TransformConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express.
    fn check(&self, _problems: &mut Problems) {}

    /// What it keeps state by.
    fn keeps_state(&self) -> KeepsState {
        KeepsState::Not
    }

    /// The event time it waits by.
    fn event_time(&self) -> EventTime {
        EventTime::Unused
    }

    /// Whether what it does depends on the time that the source knows.
    fn takes_time_of_source(&self) -> bool {
        self.event_time() == EventTime::OfEvent
    }

    /// How much older than the latest an event may be. Its results are no older than the watermark it is told less this.
    fn lateness(&self) -> Duration {
        Duration::ZERO
    }

    /// How far its event time may run ahead of the wall clock; zero: without a bound. `None`: as the graph says.
    fn max_ahead(&self) -> Option<Duration> {
        None
    }

    /// How often it is told the [processing time](Times::now) at least, also while nothing comes. `None`: it waits for none.
    fn ticks(&self) -> Option<Duration> {
        None
    }

    /// Whether events leave it as they came, so that what is said of their fields in front of it holds behind it, too.
    fn keeps_events(&self) -> bool {
        false
    }

    /// What its state means, from the options that give it its meaning: the state of another meaning is not taken up.
    fn state_identity(&self) -> String {
        String::new()
    }

    /// Names of its outputs, where it has several: `[split.crash]` among a node's inputs reads output `crash` of `split`.
    /// Empty: it has one, read by the node's id alone. (`errors` is there in any case.)
    fn ports(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether what passes can be read by its id alone although other outputs have names. Those are then beside the way:
    /// what nobody reads of them is no oversight.
    fn has_main_port(&self) -> bool {
        self.ports().is_empty()
    }

    /// For `weir explain`: what it reads of an event, and what it changes. One line.
    fn explain(&self) -> String {
        String::new()
    }

    /// Makes the transform of one lane. Called once a lane, so a Kafka partition has its own; and once for each state
    /// partition.
    fn build(&self, context: &BuildContext) -> Result<Transform>;
}

/// Where a transform puts what does not stay in the batch.
#[derive(Debug, Default)]
pub struct Output {
    /// Events for the `errors` port.
    pub rejected: Vec<Rejected>,
    pub(crate) named: Vec<NamedOutput>,
    /// Events sent to named ports, each counted once.
    pub(crate) sent: usize,
    /// Events that came too late, and that nobody reads.
    pub(crate) unread_late: u64,
    /// Events that came of none alone, such as the result of a window, in order.
    pub made: Vec<Event>,
}

/// What goes to a named port.
#[derive(Debug)]
pub(crate) struct NamedOutput {
    pub events: Vec<Event>,
    /// Whether anybody reads it.
    pub is_read: bool,
}

impl Output {
    pub(crate) fn with_ports(is_read: impl Iterator<Item = bool>) -> Output {
        let named = is_read.map(|is_read| NamedOutput { events: Vec::new(), is_read }).collect();
        Output { named, ..Output::default() }
    }

    /// Sends an event that came too late to a named port. Where nobody reads that, it is counted, and the log warns of it.
    pub fn send_late(&mut self, event: Event, port: usize) {
        let is_read = self.named.get(port).is_some_and(|named| named.is_read);
        self.unread_late += u64::from(!is_read);
        self.send(event, [port]);
    }

    /// Sends an event to named ports, by their numbers in [`TransformConfig::ports`]. It counts as filtered when nobody
    /// reads any of them.
    pub fn send(&mut self, event: Event, ports: impl IntoIterator<Item = usize>) {
        let mut last: Option<usize> = None;
        for port in ports {
            if self.named.get(port).is_some_and(|named| named.is_read)
                && let Some(before) = last.replace(port)
            {
                self.named[before].events.push(event.clone());
            }
        }
        if let Some(last) = last {
            self.named[last].events.push(event);
            self.sent += 1;
        }
    }
}

/// What a transform without memory does to a batch.
pub type Process = Box<dyn FnMut(&mut Batch, &mut Output) + Send>;

/// A transform at work, for one lane.
pub enum Transform {
    /// Decides on each batch from nothing but the batch.
    Stateless(Process),
    /// Remembers.
    Stateful(Box<dyn Stateful>),
}

impl Transform {
    /// A transform without memory.
    pub fn stateless(process: impl FnMut(&mut Batch, &mut Output) + Send + 'static) -> Transform {
        Transform::Stateless(Box::new(process))
    }

    /// A transform with memory.
    pub fn stateful(transform: impl Stateful + 'static) -> Transform {
        Transform::Stateful(Box::new(transform))
    }
}

/// What a transform keeps state by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepsState {
    /// It has none.
    Not,
    /// It decides on the events of each lane by themselves.
    ByLane,
    /// It decides on the events of each key by themselves, whatever lane they come by: these VRL expressions together are
    /// the key. None: all events have the same.
    ByKey(Vec<String>),
}

/// The event time that a transform waits by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTime {
    /// It waits for none.
    Unused,
    /// [`Event::time`], as the source knows it.
    OfEvent,
    /// What this VRL expression says.
    By(String),
}

/// How far time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Event time: no event older than this less [`TransformConfig::lateness`] was to come. [`Timestamp::MAX`]: nothing
    /// more is to come.
    pub watermark: Timestamp,
    /// Processing time, by the machine's clock, which goes on whether anything comes or not; with bounded sources it is the
    /// latest event time, so that a run can be repeated. [`Timestamp::MIN`] where no [`TransformConfig::ticks`] asks for it.
    pub now: Timestamp,
    /// Whether every partition was read to its end and has been silent for the graph's `idle_timeout`: nothing that would
    /// come in between is on its way.
    pub is_silent: bool,
}

impl Times {
    /// Before anything came.
    pub const BEGINNING: Times = Times { watermark: Timestamp::MIN, now: Timestamp::MIN, is_silent: false };
}

/// What a transform that remembers has to know of an event, found out in the lane the event came by.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Events of one key meet the same state, in order.
    pub key: Vec<u8>,
    /// The event time it works by.
    pub time: Timestamp,
    /// What else it wants to know.
    pub values: Vec<Value>,
    /// The time is further ahead of the wall clock than `max_ahead`, and must move no clock. The graph finds that out.
    pub is_ahead: bool,
    /// The event is none of its own, and counts as filtered; it only says what time it is.
    pub is_time_only: bool,
}

impl Row {
    /// Of an event that only says what time it is.
    pub fn only_time(time: Timestamp) -> Row {
        Row { time, is_time_only: true, ..Row::default() }
    }
}

/// A transform that remembers. The graph takes back, writes and brings back what it names in [`state`](Self::state), and
/// brings the events of a key together: an author writes nothing for that.
pub trait Stateful: Send {
    /// What it has to know of an event before it looks at its state. It must say the same of the same event each time, and
    /// may be asked in another lane than decides.
    fn look(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict>;

    /// Decides on an event.
    fn process(&mut self, event: &mut Event, row: Row, times: Times, output: &mut Output) -> Verdict;

    /// Time has come to `times`, and what is due by then is to happen now. Gives whether that was all: one that puts out
    /// much does so in parts, and is asked again at once. A timer is an entry of a [`crate::state::KeyedState`] that is
    /// never told the time: it [is due](crate::state::KeyedState::pop_due) when it expires, and survives as all state does.
    fn advance(&mut self, _times: Times, _output: &mut Output) -> bool {
        true
    }

    /// Everything it remembers, each under a name that stays from version to version: see
    /// [`crate::state::KeyedState`].
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)>;
}
