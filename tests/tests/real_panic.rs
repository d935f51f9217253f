//! A transform that panics: the row becomes a dead letter, and its neighbours pass. Graph and component run inside the
//! test, as none of weir's own components can be made to panic.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use weir::Result;
use weir::component::{BuildContext, Output, Transform, TransformConfig};
use weir::config::{self, LoadRequest};
use weir::event::{Batch, Body, Event, Verdict};
use weir::graph::{Plan, RunOptions};
use weir_cli as _;
use weir_tests::broker::{client, servers};
use weir_tests::letters::dead_letters;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, until};

/// Passes everything, and panics on an event whose body holds the word `panic`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Panicking {
    /// Where the code stands that panics.
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// Where it decides on one event.
    Decide,
    /// Where it has the whole batch in hand.
    Batch,
}

weir::register_transform!("panicking", Panicking, "{type: panicking, inputs: [in], place: batch}");

#[typetag::deserialize(name = "panicking")]
impl TransformConfig for Panicking {
    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let place = self.place;
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            if place == Place::Batch {
                batch.events.iter().for_each(panic_if_asked);
            }
            output.rejected = batch.decide(|event| {
                panic_if_asked(event);
                Verdict::Pass
            });
        }))
    }
}

fn panic_if_asked(event: &Event) {
    if let Body::Raw(bytes, _) = &event.body {
        assert!(!bytes.windows(5).any(|word| word == b"panic"), "the event asked for it");
    }
}

#[test]
fn a_row_that_makes_a_transform_panic_is_a_dead_letter_and_its_neighbours_pass() {
    const RECORDS: u64 = 5000;
    const POISON: [u64; 4] = [0, 1000, 1001, RECORDS - 1];
    let input = Topic::create("panic-in", 1, &[]);
    let (decided, whole) = (Topic::create("panic-decide", 1, &[]), Topic::create("panic-batch", 1, &[]));
    let (servers, name, decided_name, whole_name) = (servers(), &input.name, &decided.name, &whole.name);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.yaml");
    let data_dir = dir.path().join("data");
    let graph = format!(
        r#"name: panic
data_dir: {}
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: ["{name}"], group_id: {name}, start: earliest}}
transforms:
  decide: {{type: panicking, inputs: [in], place: decide}}
  batch: {{type: panicking, inputs: [in], place: batch}}
sinks:
  decided: {{type: kafka, inputs: [decide], bootstrap_servers: "{servers}", topic: {decided_name}, linger: 1ms}}
  whole: {{type: kafka, inputs: [batch], bootstrap_servers: "{servers}", topic: {whole_name}, linger: 1ms}}
"#,
        data_dir.display()
    );
    std::fs::write(&file, graph).unwrap();
    let value = |n: u64| match POISON.contains(&n) {
        true => format!(r#"{{"n":{n},"then":"panic"}}"#).into_bytes(),
        false => format!(r#"{{"n":{n}}}"#).into_bytes(),
    };
    let producer: BaseProducer = client(&input.servers).create().unwrap();
    for n in 0..RECORDS {
        producer.send(BaseRecord::<(), _>::to(name).partition(0).payload(&value(n))).map_err(|(why, _)| why).unwrap();
    }
    producer.flush(PATIENCE).unwrap();

    let loaded = config::load(&LoadRequest { paths: std::slice::from_ref(&file), set: &[], env: &|_| None });
    let graph = loaded.graph.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (stop, stopping) = watch::channel(false);
    let running = runtime.spawn(weir::graph::run(Plan::new(graph), RunOptions::default(), stopping, |_| {}));
    let group = Group::of(&input);
    until("everything to be committed", PATIENCE, || input.is_read_by(&group));
    stop.send_replace(true);
    let report = runtime.block_on(running).unwrap().unwrap();

    assert!(report.clean && report.broken.is_empty(), "{report:?}");
    for (node, books) in &report.books {
        assert_eq!(books.in_flight(), 0, "the books of {node} balance: {books:?}");
    }
    // A letter written before the batch failed for another event is written again.
    let letters: BTreeSet<_> = dead_letters(&data_dir, "panic").into_iter().collect();
    let expected = ["batch", "decide"]
        .into_iter()
        .flat_map(|node| POISON.map(|n| (node.to_owned(), n, "panic".to_owned(), Some(value(n)))));
    assert_eq!(letters, expected.collect());
    for output in [&decided, &whole] {
        // A later batch may have been delivered before the failed one came again: the last occurrences are in order.
        let mut values = output.values().remove(0);
        let all = values.len();
        values.reverse();
        let mut seen = BTreeSet::new();
        values.retain(|value| seen.insert(value.clone()));
        values.reverse();
        let neighbours: Vec<_> = (0..RECORDS).filter(|n| !POISON.contains(n)).map(|n| Some(value(n))).collect();
        assert!(values == neighbours, "all neighbours pass, in order");
        println!("panic: {} neighbours passed into {}, {} of them again", seen.len(), output.name, all - seen.len());
    }
}
