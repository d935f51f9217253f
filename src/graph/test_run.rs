//! Runs a graph's own `tests:`: real transforms, with the feed in place of the sources and lists in place of
//! the sinks.

use std::fmt::Write;
use std::sync::Arc;

use super::dead_letters::DEAD_LETTERS;
use super::lane::{Lane, ProcessingTime};
use super::plan::{Entry, Mode, Plan};
use super::prepare::admitted;
use super::route::{Node, Outgoing};
use crate::config::{NodeConfig, Port, Test, TestBody};
use crate::delivery::Rejects;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Body, Codec, Encoding, Event, OriginId, OriginKind, Position, Timestamp, readable};
use crate::state::{MemoryStorage, SystemClock};
use crate::terminal::line;

/// How one test ended.
#[derive(Debug)]
pub struct TestOutcome {
    /// The test's name.
    pub name: String,
    /// What was not as expected, ready to print; empty: passed.
    pub differences: Vec<String>,
}

/// Runs every test of the plan's graph.
pub fn run_tests(plan: &Plan) -> Result<Vec<TestOutcome>> {
    crate::script::set_max_value(plan.graph.max_value);
    plan.graph.tests.iter().map(|test| run_test(plan, test)).collect()
}

fn run_test(plan: &Plan, test: &Test) -> Result<TestOutcome> {
    let mut arrived: Vec<(usize, Body)> = Vec::new();
    let mut letters: Vec<(Arc<Node>, String, Body)> = Vec::new();
    for (source, bodies) in &test.feed {
        for item in feed(plan, source, bodies)? {
            match item {
                Outgoing::Sink { sink, batch } => {
                    arrived.extend(batch.events.into_iter().map(|event| (sink, event.body)));
                }
                // In a test every lane has its own.
                Outgoing::Shard { .. } => {}
                Outgoing::DeadLetters { node, batch } => letters.extend(batch.rejected.into_iter().map(|rejected| {
                    (node.clone(), format!("{}: {}", rejected.code, rejected.message), rejected.event.body)
                })),
            }
        }
    }
    let mut differences = Vec::new();
    for (sink, expected) in &test.expect {
        if sink == DEAD_LETTERS {
            let got: Vec<&Body> = letters.iter().map(|(_, _, body)| body).collect();
            differences.extend(difference(sink, expected, &got));
            continue;
        }
        let got: Vec<&Body> =
            arrived.iter().filter(|(at, _)| plan.graph.nodes[*at].id == *sink).map(|(_, body)| body).collect();
        differences.extend(difference(sink, expected, &got));
    }
    if !test.expect.iter().any(|(sink, _)| sink == DEAD_LETTERS) {
        for (node, why, body) in &letters {
            differences.push(format!("node `{}` rejected an event: {}\n    {}", node.id, line(why), line(&show(body))));
        }
    }
    Ok(TestOutcome { name: test.name.clone(), differences })
}

/// Takes the bodies through a fresh lane of the source.
fn feed(plan: &Plan, source: &str, bodies: &[TestBody]) -> Result<Vec<Outgoing>> {
    let mut out = Vec::new();
    let Some((number, config)) = plan.graph.nodes.iter().enumerate().find_map(|(number, node)| match &node.config {
        NodeConfig::Source(config) if node.id == source => Some((number, config)),
        _ => None,
    }) else {
        return Ok(out);
    };
    let (rejects, _unused) = Rejects::channel();
    let route = plan.route(Entry::Behind(number, Port::Main), None, &|number| {
        let (clock, storage) = (Arc::new(SystemClock::default()), Arc::new(MemoryStorage::default()));
        plan.context(number, rejects.clone(), clock, storage, Mode::Once)
    })?;
    let origin = OriginId { node: source.to_owned(), log: "test".to_owned(), partition: 0, kind: OriginKind::Other };
    let mut lane = Lane::new(Arc::new(origin), plan.nodes[number].node.clone(), route);
    lane.be_careful();
    lane.set_processing_time(ProcessingTime::OfData);
    let mut codec = config.codec()?;
    // One event a batch: a panic then costs its own event, as it does in a running graph.
    for (at, body) in bodies.iter().enumerate() {
        if let (TestBody::Text(header), Some(decoder)) = (body, codec.decoder().filter(|codec| codec.wants_header())) {
            let decoder = decoder.with_header(header.as_bytes());
            let failed = |error| Error::new(ErrorKind::Rejected, "read the header of the test's feed", error);
            codec = Codec::Other(decoder.map_err(|error| failed(error.message))?);
            continue;
        }
        let body = match body {
            TestBody::Text(text) => Body::Raw(text.clone().into(), codec.clone()),
            TestBody::Json(value) => Body::Raw(value.to_string().into(), Codec::Json),
        };
        lane.process(admitted(vec![Event::new(body, Position(at as u64), Timestamp(0))]), None, &mut out);
        while lane.go_on(&mut out) {}
    }
    lane.end(Position(bodies.len() as u64), &mut out);
    while lane.go_on(&mut out) {}
    Ok(out)
}

/// The first lines in which expected and got differ, as a diff; `None` when they are equal.
fn difference(sink: &str, expected: &[TestBody], got: &[&Body]) -> Option<String> {
    let is_same = |expected: &TestBody, got: &Body| match expected {
        TestBody::Text(text) => show(got) == *text,
        TestBody::Json(value) => as_json(got).as_ref() == Some(value),
    };
    if expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| is_same(expected, got)) {
        return None;
    }
    let mut text = match got.len() == expected.len() {
        true => format!("`{sink}` got {} events as expected, but with other content", got.len()),
        false => format!("`{sink}` got {} events, expected {}", got.len(), expected.len()),
    };
    let shared = expected.iter().zip(got).take_while(|(expected, got)| is_same(expected, got)).count();
    if shared > 0 {
        let _ = write!(text, "\n    the first {shared} are as expected");
    }
    for expected in &expected[shared..] {
        let shown = match expected {
            TestBody::Text(line) => line.clone(),
            TestBody::Json(value) => value.to_string(),
        };
        let _ = write!(text, "\n  - {}", line(&shown));
    }
    for got in &got[shared..] {
        let _ = write!(text, "\n  + {}", line(&show(got)));
    }
    Some(text)
}

fn as_json(body: &Body) -> Option<serde_json::Value> {
    match body {
        Body::Raw(bytes, Codec::Json | Codec::Edited) => serde_json::from_slice(bytes).ok(),
        body => {
            let mut document = Vec::new();
            Encoding::Json.encode(body, "", &mut document).ok()?;
            serde_json::from_slice(&document).ok()
        }
    }
}

fn show(body: &Body) -> String {
    readable(&body.to_bytes()).into_owned()
}
