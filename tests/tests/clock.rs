//! A transform that waits for the clock hears what time it is though nothing comes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, KeepsState, Output, Row, Stateful, Times, Transform, TransformConfig};
use weir::config::{LoadRequest, load};
use weir::event::{Body, Codec, Event, OriginId, Position, Timestamp, Verdict};
use weir::graph::{Plan, RunOptions};
use weir::state::{KeyedState, StateLimits, StatePart};
use weir_cli as _;
use weir_tests::process::Home;
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{PATIENCE, found, until};

/// Tells which events were followed by none like them for a while.
#[derive(Debug, Deserialize, JsonSchema)]
struct Silence {}

weir::register_transform!("silence", Silence, "{type: silence, inputs: [in]}");

#[typetag::deserialize(name = "silence")]
impl TransformConfig for Silence {
    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByKey(vec![".".to_owned()])
    }
    fn ticks(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
    fn build(&self, _: &BuildContext) -> weir::Result<Transform> {
        Ok(Transform::stateful(Silences(KeyedState::new(StateLimits::in_memory(100)))))
    }
}

struct Silences(KeyedState<Vec<u8>, u64>);

impl Stateful for Silences {
    fn look(&mut self, event: &Event, _: &OriginId) -> Result<Row, Verdict> {
        Ok(Row { key: event.body.to_bytes().to_vec(), ..Row::default() })
    }
    fn process(&mut self, _: &mut Event, row: Row, times: Times, _: &mut Output) -> Verdict {
        let count = self.0.get(&row.key).copied().unwrap_or_default();
        self.0.insert(row.key, count + 1, Timestamp(times.now.0 + 500));
        Verdict::Absorb
    }
    fn advance(&mut self, times: Times, output: &mut Output) -> bool {
        while let Some((key, count)) = self.0.pop_due(times.now) {
            let body = format!("{{\"silent\":{},\"behind\":{count}}}", String::from_utf8(key).unwrap());
            output.made.push(Event::new(Body::Raw(body.into(), Codec::Json), Position(0), times.now));
        }
        true
    }
    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("counts", &mut self.0)]
    }
}

#[test]
fn timers_go_off_though_nothing_comes_any_more() {
    let address = free_address();
    let home = Home::new(&format!(
        "name: quiet\nsources: {{in: {{type: http, listen: \"{address}\", path: /events}}}}\n\
         transforms: {{silence: {{type: silence, inputs: [in]}}}}\n\
         sinks: {{out: {{type: file, inputs: [silence], path: OUT}}}}\n"
    ));
    let (graph, out) = (home.path("graph.yaml"), home.path("out.ndjson"));
    let (set, data) =
        (format!("sinks.out.path={}", out.display()), format!("data_dir={}", home.data_dir("weir").display()));
    let loaded = load(&LoadRequest { paths: &[graph], set: &[set, data], env: &|_| None });
    let plan = Plan::new(loaded.graph.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let running = runtime.spawn(async { weir::graph::run(plan, RunOptions::default(), stopping, |_| {}).await });

    let mut sender = found("the source to listen", PATIENCE, || Sender::connect(address).ok());
    for body in ["{\"a\":1}\n{\"b\":2}\n", "{\"a\":1}\n"] {
        let answer = sender.post(&["Content-Type: application/x-ndjson"], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    until("both to be told silent", PATIENCE, || lines().len() >= 2);
    assert_eq!(lines(), ["{\"silent\":{\"a\":1},\"behind\":2}", "{\"silent\":{\"b\":2},\"behind\":1}"]);
    stop.send(true).unwrap();
    assert!(runtime.block_on(running).unwrap().unwrap().clean, "it ends as it should");
}
