//! `config-examples/streaming-events` as it stands there, on a real Kafka: exactly the events come out, from now on or
//! from what there is, and none is lost when weir is stopped or killed.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use weir_tests::process::{Home, Weir};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, until};

const PARTITIONS: i32 = 3;
const STOP: Duration = Duration::from_secs(20);

/// The example with topics of its own.
struct Example {
    home: Home,
    logs: Topic,
    key_events: Topic,
}

impl Example {
    fn new() -> Example {
        let (logs, key_events) = (Topic::create("logs", PARTITIONS, &[]), Topic::create("key-events", PARTITIONS, &[]));
        Example { home: Home::example("streaming-events"), logs, key_events }
    }

    /// Starts weir; its screen goes to the end of a file.
    fn start(&self, key_events: &Topic, group: &str, set: &[&str], args: &[&str]) -> Weir {
        let topics = [
            format!("sources.logs.topics.0={}", self.logs.name),
            format!("sources.logs.group_id={group}"),
            format!("sinks.key_topic.topic={}", key_events.name),
        ];
        let set: Vec<&str> = topics.iter().map(String::as_str).chain(set.iter().copied()).collect();
        let screen =
            File::options().create(true).append(true).open(self.home.path(&format!("{group}.screen"))).unwrap();
        self.home.start_with(group, &set, args, Stdio::from(screen))
    }

    /// The same, with the topic's name for the group, until it has all partitions.
    fn start_live(&self) -> Weir {
        let weir = self.start(&self.key_events, &self.logs.name, &[], &[]);
        until("the assignment", PATIENCE, || weir.metric("weir_lanes") == Some(PARTITIONS as u64));
        weir
    }

    /// What came to the screen, sorted.
    fn screen(&self, group: &str) -> Vec<String> {
        sorted(&std::fs::read_to_string(self.home.path(&format!("{group}.screen"))).unwrap())
    }
}

fn sorted(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Mixed logs, and what belongs into the key events' topic, both from the program that shares nothing with weir.
fn mixed_logs(dir: &Path, count: usize) -> (String, Vec<String>) {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut oracle = Command::new("python3");
    oracle.arg(format!("{here}/tests/events.py")).arg(count.to_string());
    oracle.arg(format!("{here}/../components/kubernetes/README.md")).args(["in.ndjson", "expected.ndjson"]);
    oracle.args(["scaling", "node_pressure", "upgrade"]);
    let written = oracle.current_dir(dir).status().expect("python3 runs (apt-get install python3)");
    assert!(written.success(), "{written}");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    (read("in.ndjson"), sorted(&read("expected.ndjson")))
}

/// Whether a line of these logs is an event, by its place in the document; a quoted one is a string.
fn is_event(line: &str) -> bool {
    let document: serde_json::Value = serde_json::from_str(line).unwrap();
    document["event"].is_object() || document["kubernetes"]["event"].is_object()
}

#[test]
fn exactly_the_events_come_out_live_and_at_rest() {
    let example = Example::new();
    let (logs, key_events) = mixed_logs(example.home.path("").as_path(), 20_000);
    let events = sorted(&logs.lines().filter(|line| is_event(line)).collect::<Vec<_>>().join("\n"));
    assert!(events.len() > 4000 && key_events.len() > 300, "{} and {}", events.len(), key_events.len());

    let weir = example.start_live();
    example.logs.write(logs.lines());
    let group = Group::of(&example.logs);
    until("everything to be committed", PATIENCE, || example.logs.is_read_by(&group));
    weir.assert_balance(&["logs", "events", "key_events", "screen", "key_topic"]);
    weir.stop(STOP);
    assert!(
        example.screen(&example.logs.name) == events,
        "the screen shows all events and nothing else, byte for byte"
    );
    assert!(example.key_events.texts() == key_events, "the topic holds the key events with their tags");

    let at_rest = Topic::create("key-events-at-rest", PARTITIONS, &[]);
    let set = ["sources.logs.start=earliest", "sources.logs.stop=at_end"];
    let status = example.start(&at_rest, "at-rest", &set, &["--once"]).wait(PATIENCE);
    assert!(status.success(), "{status}");
    assert!(example.screen("at-rest") == events && at_rest.texts() == key_events, "the same at rest as live");
    println!(
        "streaming-events: {} logs, {} events on the screen, {} key events in the topic, the same live and at rest",
        logs.lines().count(),
        events.len(),
        key_events.len()
    );
}

#[test]
fn only_what_comes_after_the_first_start_is_read_and_none_of_it_is_lost() {
    let example = Example::new();
    let group = Group::of(&example.logs);
    let event = |number: usize| {
        format!(
            r#"{{"verb":"ADDED","event":{{"reason":"NodeNotReady","type":"Normal","involvedObject":{{"kind":"Node","uid":"{number}"}}}}}}"#
        )
    };
    let lines = |numbers: std::ops::Range<usize>| sorted(&numbers.map(event).collect::<Vec<_>>().join("\n"));
    let write = |numbers| example.logs.write(lines(numbers).iter().map(String::as_str));
    let screen = || example.screen(&example.logs.name);

    write(0..100);
    let weir = example.start_live();
    write(100..110);
    until("the first ten to be committed", PATIENCE, || example.logs.is_read_by(&group));
    assert_eq!(screen(), lines(100..110), "none of those from before the first start");
    weir.stop(STOP);

    write(110..120);
    let weir = example.start_live();
    until("what came while it was stopped", PATIENCE, || example.logs.is_read_by(&group));
    assert_eq!(screen(), lines(100..120), "a stop costs nothing and repeats nothing");

    write(120..130);
    weir.kill();
    write(130..140);
    let weir = example.start_live();
    until("what came while it was dead", PATIENCE, || example.logs.is_read_by(&group));
    weir.stop(STOP);
    let mut seen = screen();
    let shown = seen.len();
    seen.dedup();
    assert_eq!(seen, lines(100..140), "a crash loses nothing");
    let mut tagged = example.key_events.texts();
    tagged.dedup();
    assert_eq!(tagged.len(), 40, "nor on the way to the topic");
    println!(
        "streaming-events: 100 events before the start ignored, 40 since, {} seen again after a crash",
        shown - 40
    );
}
