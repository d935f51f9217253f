//! Where the events of a key come together: which nodes have an exchange in front of them, and by what clock they work.

use crate::component::{EventTime, KeepsState, Severity};
use crate::config::{Graph, Node, NodeConfig};

/// What is known of how events reach a node.
#[derive(Debug, Clone, Default)]
struct Stream {
    /// Whether they come by one lane or state partition only.
    is_one: bool,
    /// Where they come by several: expressions of which equal values come by the same one.
    keyed_by: Option<Vec<String>>,
    /// The exchanges in front of which event time was found out for them, if that was not in their own lane.
    timed_at: Vec<usize>,
    /// Whether their fields may have changed since.
    is_changed: bool,
    /// A source that does not know when they happened.
    timeless: Option<usize>,
}

/// How the state partitions of a node are fed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keying {
    /// Whether an exchange stands in front of it.
    pub has_exchange: bool,
    /// The time of a node further down, found out at this exchange.
    pub time_of: Option<String>,
}

/// Why a graph's keyed nodes cannot be fed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyingProblem {
    pub node: usize,
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
    pub help: String,
}

/// The keying of every node, in the order of the graph's.
pub(crate) fn keying(graph: &Graph) -> (Vec<Keying>, Vec<KeyingProblem>) {
    let mut all: Vec<Keying> = vec![Keying::default(); graph.nodes.len()];
    let mut problems = Vec::new();
    let mut behind: Vec<Stream> = Vec::with_capacity(graph.nodes.len());
    // What each exchange finds out the time for: the first node that said so, and how.
    let mut clocks: Vec<Option<(usize, EventTime)>> = vec![None; graph.nodes.len()];
    for (number, node) in graph.nodes.iter().enumerate() {
        let config = match &node.config {
            NodeConfig::Source(config) => {
                let keyed_by = Some(node.keyed_by.clone()).filter(|by| !by.is_empty());
                let timeless = (!config.knows_time()).then_some(number);
                behind.push(Stream { is_one: config.has_one_lane(), keyed_by, timeless, ..Stream::default() });
                continue;
            }
            NodeConfig::Sink(_) => {
                behind.push(Stream::default());
                continue;
            }
            NodeConfig::Transform(config) => config,
        };
        let stream = joined(node, graph, &behind);
        let time = config.event_time();
        if time != EventTime::Unused {
            for &at in &stream.timed_at {
                match &clocks[at] {
                    _ if stream.is_changed && matches!(time, EventTime::By(_)) => {
                        problems.push(changed(graph, number, at));
                    }
                    Some((other, clock)) if *clock != time => problems.push(two_clocks(graph, number, *other, at)),
                    Some(_) => {}
                    None => {
                        if let EventTime::By(time) = &time {
                            all[at].time_of = Some(time.clone());
                        }
                        clocks[at] = Some((number, time.clone()));
                    }
                }
            }
        }
        if config.takes_time_of_source()
            && let Some(source) = stream.timeless
        {
            problems.push(timeless(graph, number, source));
        }
        let keeps_events = config.keeps_events();
        let timeless = stream.timeless.filter(|_| keeps_events || time == EventTime::Unused);
        let KeepsState::ByKey(key) = config.keeps_state() else {
            let (is_one, timed_at) = (stream.is_one, stream.timed_at);
            let keyed_by = stream.keyed_by.filter(|_| keeps_events);
            let is_changed = stream.is_changed || !keeps_events;
            behind.push(Stream { is_one, keyed_by, timed_at, is_changed, timeless });
            continue;
        };
        let is_together =
            stream.is_one || stream.keyed_by.as_ref().is_some_and(|by| by.iter().all(|by| key.contains(by)));
        all[number].has_exchange = !is_together;
        let timed_at = match (is_together, keeps_events) {
            // Results come by the clock of the node that made them.
            (_, false) => Vec::new(),
            (false, true) if stream.timed_at.is_empty() => vec![number],
            _ => stream.timed_at,
        };
        behind.push(Stream {
            is_one: stream.is_one,
            keyed_by: if is_together { stream.keyed_by } else { Some(key) }.filter(|_| keeps_events),
            timed_at,
            is_changed: stream.is_changed && keeps_events,
            timeless,
        });
    }
    (all, problems)
}

/// The streams of all that a node reads, as one.
fn joined(node: &Node, graph: &Graph, behind: &[Stream]) -> Stream {
    // Behind the `errors` port of a sink everything is taken one by one, in one place.
    let read = node.inputs.iter().map(|input| input.node);
    let mut inputs: Vec<usize> =
        read.filter(|input| !matches!(graph.nodes[*input].config, NodeConfig::Sink(_))).collect();
    inputs.dedup();
    let mut streams = inputs.iter().map(|input| &behind[*input]);
    let Some(mut joined) = streams.next().cloned() else { return Stream { is_one: true, ..Stream::default() } };
    for stream in streams {
        // They may come by the same lane; that is not worth finding out.
        (joined.is_one, joined.keyed_by) = (false, None);
        joined.timed_at.extend(&stream.timed_at);
        joined.is_changed |= stream.is_changed;
        joined.timeless = joined.timeless.or(stream.timeless);
    }
    joined.timed_at.sort_unstable();
    joined.timed_at.dedup();
    joined
}

fn changed(graph: &Graph, number: usize, at: usize) -> KeyingProblem {
    let (node, exchange) = (&graph.nodes[number].id, &graph.nodes[at].id);
    KeyingProblem {
        node: number,
        severity: Severity::Error,
        code: "time_unknown",
        message: format!(
            "the `time` of `{node}` is not known in front of `{exchange}`, where the partitions come together: a node \
             between them may change it"
        ),
        help: format!("put what changes events in front of `{exchange}`, or `{node}` in front of it"),
    }
}

fn timeless(graph: &Graph, number: usize, source: usize) -> KeyingProblem {
    let (node, source) = (&graph.nodes[number], &graph.nodes[source]);
    KeyingProblem {
        node: number,
        severity: Severity::Warning,
        code: "no_event_time",
        message: format!(
            "`{}` works by event time, and events of the {} source `{}` all happen at one moment",
            node.id, source.component, source.id
        ),
        help: "say where events tell their time, such as `time: .timestamp`".to_owned(),
    }
}

fn two_clocks(graph: &Graph, number: usize, other: usize, at: usize) -> KeyingProblem {
    let id = |number: usize| &graph.nodes[number].id;
    KeyingProblem {
        node: number,
        severity: Severity::Error,
        code: "time_unknown",
        message: format!(
            "`{}` and `{}` work by different times, and both read from `{}`, where the partitions come together by one",
            id(number),
            id(other),
            id(at)
        ),
        help: format!("give both the same `time`, or have `{}` read from in front of `{}`", id(number), id(at)),
    }
}
