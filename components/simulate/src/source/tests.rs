//! Tests of the `generate` source.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::sync::Mutex;

use serde_json::json;

use super::*;

const LIMIT: ReadLimit = ReadLimit { events: 100, bytes: 1 << 20 };

/// Time goes on only when somebody waits for it.
#[derive(Default)]
struct TestClock(Arc<Mutex<Duration>>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn uptime(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let uptime = self.0.clone();
        Box::pin(async move { *uptime.lock().unwrap() += span })
    }
}

fn config(mut options: serde_json::Value) -> Box<dyn SourceConfig> {
    options["type"] = json!("generate");
    serde_json::from_value(options).unwrap()
}

/// The origin the source opens, and the clock it waits by.
async fn open(options: serde_json::Value) -> (Box<dyn Origin>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let (mut context, _rejected) = BuildContext::detached("made");
    context.clock = clock.clone();
    let source = config(options).build(&context).await.unwrap();
    let (lanes, mut opened) = Lanes::detached();
    let running = tokio::spawn(source.run(lanes));
    let lane = opened.next().await.unwrap();
    lane.end.clean();
    running.await.unwrap().unwrap();
    (lane.origin, clock)
}

async fn read(origin: &mut Box<dyn Origin>, limit: ReadLimit) -> Vec<(u64, i64, Bytes)> {
    let Read::Events(events) = origin.read(limit).await.unwrap() else { return Vec::new() };
    assert!(!events.is_empty());
    let parts = |event: Event| match event.body {
        Body::Raw(bytes, Codec::Json) => (event.position.0, event.time.0, bytes),
        other => panic!("not raw JSON: {other:?}"),
    };
    events.into_iter().map(parts).collect()
}

#[tokio::test]
async fn two_runs_and_a_second_reading_give_the_same_bytes() {
    let (mut one, _) = open(json!({"seed": 7, "count": 250})).await;
    let (mut other, _) = open(json!({"seed": 7, "count": 250})).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(read(&mut one, LIMIT).await);
    }
    assert!(matches!(one.read(LIMIT).await.unwrap(), Read::End));
    assert_eq!(all.iter().map(|event| event.0).collect::<Vec<_>>(), (0..250).collect::<Vec<_>>());
    assert_eq!((all[0].1, all[3].1), (START_MILLIS, START_MILLIS + 30));

    let small = ReadLimit { events: 33, ..LIMIT };
    assert_eq!(read(&mut other, small).await, all[..33]);
    other.commit(Position(33)).await.unwrap();
    other.seek(Position(200)).await.unwrap();
    assert_eq!(other.lag(), Some(50));
    assert_eq!(read(&mut other, LIMIT).await, all[200..]);
    other.seek(Position(5)).await.unwrap();
    assert_eq!(read(&mut other, LIMIT).await, all[5..105]);
}

#[tokio::test]
async fn a_read_keeps_to_its_bytes() {
    let (mut origin, _) = open(json!({})).await;
    let some = read(&mut origin, ReadLimit { bytes: 3000, ..LIMIT }).await;
    assert!(some.len() > 1 && some.iter().map(|event| event.2.len()).sum::<usize>() <= 3000);
    let one = read(&mut origin, ReadLimit { bytes: 1, ..LIMIT }).await;
    assert_eq!((one.len(), one[0].0), (1, some.len() as u64));
}

#[tokio::test]
async fn a_rate_lets_the_first_go_at_once_and_then_waits() {
    let (mut origin, clock) = open(json!({"rate": 10})).await;
    assert_eq!(read(&mut origin, LIMIT).await.len(), 1);
    assert_eq!(clock.uptime(), Duration::ZERO);
    assert_eq!(read(&mut origin, LIMIT).await.len(), 1);
    assert_eq!(clock.uptime(), Duration::from_millis(100));
    clock.sleep(Duration::from_secs(2)).await;
    assert_eq!(read(&mut origin, LIMIT).await.len(), 20);
    // What is read again does not wait, and what was not read before still does.
    origin.seek(Position(0)).await.unwrap();
    assert_eq!(read(&mut origin, LIMIT).await.len(), 22);
    assert_eq!(clock.uptime(), Duration::from_millis(2100));
    assert_eq!(read(&mut origin, LIMIT).await.len(), 1);
    assert_eq!(clock.uptime(), Duration::from_millis(2200));
}

#[tokio::test]
async fn a_read_that_is_dropped_while_waiting_loses_nothing() {
    let (mut context, _rejected) = BuildContext::detached("made");
    context.clock = Arc::new(weir::state::SystemClock::default());
    let source = config(json!({"rate": 20})).build(&context).await.unwrap();
    let (lanes, mut opened) = Lanes::detached();
    let running = tokio::spawn(source.run(lanes));
    let mut lane = opened.next().await.unwrap();
    assert_eq!(read(&mut lane.origin, LIMIT).await[0].0, 0);
    tokio::select! {
        biased;
        _ = lane.origin.read(LIMIT) => panic!("the second event is not due"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(read(&mut lane.origin, LIMIT).await[0].0, 1);
    drop(lane.end);
    running.await.unwrap().unwrap();
}

#[test]
fn options_are_checked() {
    assert!(config(json!({"count": 1})).is_deterministic());
    assert!(!config(json!({})).is_deterministic());
    let mut problems = Problems::default();
    config(json!({"start_time": "2026-02-03T04:05:06+01:00"})).check(&mut problems);
    assert!(problems.is_empty());
    config(json!({"start_time": "yesterday"})).check(&mut problems);
    assert_eq!(problems.into_vec()[0].path, ["start_time"]);
    for wrong in [json!({"rate": 0}), json!({"kind": "metrics"}), json!({"speed": 1})] {
        let mut options = wrong;
        options["type"] = json!("generate");
        assert!(serde_json::from_value::<Box<dyn SourceConfig>>(options).is_err());
    }
}
