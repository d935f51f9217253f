//! Event time where not everything goes on: sources that are silent, and events that come from the future or too late.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use weir::config::{LoadRequest, load};
use weir::event::Timestamp;
use weir::graph::{Plan, RunOptions};
use weir::state::{Clock, SystemClock};
use weir_cli as _;
use weir_tests::command::weir as weir_says;
use weir_tests::process::{Home, Weir};
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{PATIENCE, found, until};

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// So many times faster goes the clock of a graph that waits by its default settings.
const SPEED: u32 = 60;

/// The machine's clock, only faster.
struct FastClock {
    started: Instant,
    at: i64,
}

impl FastClock {
    fn new() -> FastClock {
        FastClock { started: Instant::now(), at: SystemClock::default().now().0 }
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.at + i64::try_from(self.uptime().as_millis()).unwrap())
    }
    fn uptime(&self) -> Duration {
        self.started.elapsed() * SPEED
    }
    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span / SPEED))
    }
}

/// A graph that runs in this process by a fast clock.
struct Running {
    home: Home,
    clock: Arc<FastClock>,
    stop: watch::Sender<bool>,
    end: tokio::task::JoinHandle<weir::Result<weir::graph::Report>>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start(graph: &str) -> Running {
        let home = Home::new(graph);
        let (path, clock) = (home.path("graph.yaml"), Arc::new(FastClock::new()));
        let set = [
            format!("sinks.out.path={}", home.path("out.ndjson").display()),
            format!("data_dir={}", home.data_dir("weir").display()),
        ];
        let loaded = load(&LoadRequest { paths: &[path], set: &set, env: &|_| None });
        let plan = Plan::new(loaded.graph.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (stop, stopping) = watch::channel(false);
        let by = clock.clone();
        let end =
            runtime.spawn(async move { weir::graph::run_by(by, plan, RunOptions::default(), stopping, |_| {}).await });
        Running { home, clock, stop, end, runtime }
    }

    fn results(&self) -> Vec<Value> {
        lines(&self.home.path("out.ndjson"))
    }

    fn stop(self) {
        self.stop.send(true).unwrap();
        assert!(self.runtime.block_on(self.end).unwrap().unwrap().clean, "it ends as it should");
    }
}

fn lines(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sender(address: SocketAddr) -> Sender {
    found("the source to listen", PATIENCE, || Sender::connect(address).ok())
}

fn post(sender: &mut Sender, event: &Value) {
    let answer = sender.post(&["Content-Type: application/x-ndjson"], format!("{event}\n").as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn two_sources() -> (String, SocketAddr, SocketAddr) {
    let (loud, quiet) = (free_address(), free_address());
    let graph = format!(
        "name: silent\nsources:\n  loud: {{type: http, listen: \"{loud}\", path: /events}}\n  quiet: {{type: http, listen: \
         \"{quiet}\", path: /events}}\ntransforms:\n  second: {{type: aggregate, inputs: [loud, quiet], time: .ts, window: \
         {{tumbling: 1s}}, compute: {{n: count}}}}\nsinks:\n  out: {{type: file, inputs: [second], path: OUT}}\n"
    );
    (graph, loud, quiet)
}

#[test]
fn windows_do_not_wait_for_a_source_that_never_says_anything() {
    let (graph, loud, _) = two_sources();
    let running = Running::start(&graph);
    let mut loud = sender(loud);
    until("a window", PATIENCE, || {
        post(&mut loud, &json!({"ts": running.clock.now().0}));
        !running.results().is_empty()
    });
    running.stop();
}

#[test]
fn what_is_over_comes_out_though_every_source_has_become_silent() {
    let (graph, loud, quiet) = two_sources();
    let running = Running::start(&graph);
    let start = running.clock.now().0 / 1000 * 1000;
    post(&mut sender(quiet), &json!({"ts": start}));
    let mut loud = sender(loud);
    for seconds in 0..3 {
        post(&mut loud, &json!({"ts": start + seconds * 1000}));
    }
    until("both windows that are over", PATIENCE, || running.results().len() == 2);
    let counts: Vec<i64> = running.results().iter().map(|result| result["n"].as_i64().unwrap()).collect();
    assert_eq!(counts, [2, 1]);
    running.stop();
}

fn alerts(settings: &str) -> (String, SocketAddr) {
    let address = free_address();
    let graph = format!(
        "name: alerts\n{settings}\nsources:\n  in: {{type: http, listen: \"{address}\", path: /events}}\ntransforms:\n  firing: \
         {{type: alert_firing, inputs: [in], emit: changes, lateness: 30s}}\nsinks:\n  out: {{type: file, inputs: [firing], \
         path: OUT}}\n"
    );
    (graph, address)
}

fn sample(name: &str, time: i64, value: &Value) -> Value {
    let labels = json!({"alertname": "DiskFull", "alertstate": "firing"});
    json!({"name": name, "labels": labels, "timestamp": time, "value": value})
}

fn states(results: &[Value]) -> Vec<(String, Value)> {
    results.iter().map(|alert| (alert["state"].as_str().unwrap().to_owned(), alert["ends_at"].clone())).collect()
}

#[test]
fn an_alert_that_waits_is_told_though_samples_pause() {
    let (graph, address) = alerts("");
    let running = Running::start(&graph);
    let (mut sender, start) = (sender(address), running.clock.now().0);
    post(&mut sender, &sample("ALERTS", start, &json!(1)));
    until("the alert", PATIENCE, || running.results().len() == 1);
    post(&mut sender, &sample("ALERTS", start + 1000, &json!(1)));
    post(&mut sender, &sample("ALERTS", start + 2000, &json!("stale")));
    until("its end", PATIENCE, || running.results().len() == 2);
    let end = Timestamp(start + 2000).to_rfc3339();
    assert_eq!(states(&running.results()), [("firing".to_owned(), Value::Null), ("resolved".to_owned(), json!(end))]);
    running.stop();
}

#[test]
fn other_series_of_a_source_let_the_time_of_alerts_go_on() {
    // Long enough that nothing comes of silence.
    let (graph, address) = alerts("idle_timeout: 1d");
    let running = Running::start(&graph);
    let (mut sender, start) = (sender(address), running.clock.now().0);
    post(&mut sender, &sample("ALERTS", start, &json!(1)));
    post(&mut sender, &sample("ALERTS", start + 20_000, &json!("stale")));
    post(&mut sender, &sample("up", start + 60_000, &json!(1)));
    until("the alert and its end", PATIENCE, || running.results().len() == 2);
    let end = Timestamp(start + 20_000).to_rfc3339();
    assert_eq!(states(&running.results()), [("firing".to_owned(), Value::Null), ("resolved".to_owned(), json!(end))]);
    running.stop();
}

/// Windows of a minute, and one event of a key every half a minute.
fn minutes() -> (Home, SocketAddr) {
    let address = free_address();
    let home = Home::new(&format!(
        "name: minutes\nsources:\n  in: {{type: http, listen: \"{address}\", path: /events}}\ntransforms:\n  minute: {{type: \
         aggregate, inputs: [in], time: .ts, window: {{tumbling: 1m}}, compute: {{n: count}}}}\n  once: {{type: dedupe, \
         inputs: [in], key: .key, time: .ts, within: 30s}}\n  rate: {{type: throttle, inputs: [in], key: .key, time: .ts, \
         threshold: 1, window: 30s}}\nsinks:\n  minutes: {{type: file, inputs: [minute], path: minutes.ndjson}}\n  passed: \
         {{type: file, inputs: [once], path: once.ndjson}}\n  free: {{type: file, inputs: [rate], path: rate.ndjson}}\n"
    ));
    (home, address)
}

/// The beginning of a minute some time ago.
fn some_time_ago() -> i64 {
    (SystemClock::default().now().0 / MINUTE - 30) * MINUTE
}

fn event(time: i64) -> Value {
    json!({"key": "k", "ts": time})
}

/// The minutes, counted from the first, of which a window with one event has come.
fn counted(home: &Home, start: i64) -> Vec<i64> {
    let minute = |window: &Value| {
        let begin = chrono::DateTime::parse_from_rfc3339(window["window_start"].as_str().unwrap()).unwrap();
        (begin.timestamp_millis() - start) / MINUTE
    };
    let results = lines(&home.path("minutes.ndjson"));
    let whole = results.iter().filter(|window| window["n"] == 1);
    let mut minutes: Vec<i64> = whole.map(minute).filter(|minute| *minute < 60).collect();
    minutes.sort_unstable();
    minutes
}

fn passed(home: &Home, start: i64, file: &str) -> Vec<i64> {
    lines(&home.path(file)).iter().map(|event| (event["ts"].as_i64().unwrap() - start) / MINUTE).collect()
}

fn stop(weir: Weir) {
    weir.stop(PATIENCE);
}

#[test]
fn an_event_from_the_future_makes_no_other_late_and_is_warned_about() {
    let (home, address) = minutes();
    let start = some_time_ago();
    let weir = home.start(".weir", &[]);
    let mut to = sender(address);
    for minute in 0..13 {
        post(&mut to, &event(start + minute * MINUTE));
        if minute == 2 {
            post(&mut to, &event(start + DAY));
        }
    }
    until("twelve minutes", PATIENCE, || counted(&home, start).len() == 12);
    assert_eq!(counted(&home, start), Vec::from_iter(0..12));
    // The key goes on; the event of tomorrow comes right behind one of its key.
    until("all that pass", PATIENCE, || passed(&home, start, "once.ndjson").len() >= 13);
    until("all that are free", PATIENCE, || passed(&home, start, "rate.ndjson").len() >= 13);
    assert_eq!(passed(&home, start, "once.ndjson"), Vec::from_iter(0..13));
    assert_eq!(passed(&home, start, "rate.ndjson"), Vec::from_iter(0..13));
    for node in ["minute", "once", "rate"] {
        assert_eq!(weir.metric(&format!("weir_ahead_events_total{{node=\"{node}\"}}")), Some(1), "{node}");
    }
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("`max_ahead`") && line.contains("minute")).unwrap();
    assert!(line.contains("milliseconds") && line.contains("events=1"), "{line}");
    stop(weir);

    // So it is behind a restart.
    let weir = home.start(".weir", &[]);
    let mut to = sender(address);
    for minute in 13..16 {
        post(&mut to, &event(start + minute * MINUTE));
    }
    until("fifteen minutes", PATIENCE, || counted(&home, start).len() == 15);
    stop(weir);
}

#[test]
fn late_events_that_nobody_reads_are_counted_and_warned_about() {
    let (home, address) = minutes();
    let start = some_time_ago();
    let weir = home.start(".weir", &[]);
    let mut to = sender(address);
    for minute in [0, 5, 1, 2] {
        post(&mut to, &event(start + minute * MINUTE));
    }
    until("two late events", PATIENCE, || weir.metric("weir_late_events_total{node=\"minute\"}") == Some(2));
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("too late")).unwrap();
    assert!(line.contains("minute") && line.contains("events=") && line.contains("`lateness`"), "{line}");
    stop(weir);
}

#[test]
fn state_that_an_earlier_run_let_run_ahead_of_the_clock_is_good_again() {
    let (home, address) = minutes();
    let start = some_time_ago();
    // As it was before there was a maximum.
    let weir = home.start(".weir", &["max_ahead=0s"]);
    let mut to = sender(address);
    for time in [start, start + DAY] {
        post(&mut to, &event(time));
    }
    until("the first minute", PATIENCE, || counted(&home, start) == [0]);
    until("both to pass", PATIENCE, || passed(&home, start, "once.ndjson").len() == 2);
    stop(weir);

    let weir = home.start(".weir", &[]);
    let mut to = sender(address);
    for minute in 1..4 {
        post(&mut to, &event(start + minute * MINUTE));
    }
    until("the next minutes", PATIENCE, || counted(&home, start) == [0, 1, 2]);
    let is_there = |file| passed(&home, start, file).ends_with(&[1, 2, 3]);
    until("its key to go on", PATIENCE, || is_there("once.ndjson") && is_there("rate.ndjson"));
    stop(weir);
}

/// Two keys an hour apart, each with an event every ten seconds.
fn hour_apart() -> Vec<String> {
    let event = |at: i64, key: &str, behind: i64| {
        format!(r#"{{"key":"{key}","ts":{},"at":{at}}}"#, 1_772_359_200_000 + at * 1000 - behind) + "\n"
    };
    (0..36).flat_map(|number| [event(number * 10, "now", 0), event(number * 10, "behind", 60 * MINUTE)]).collect()
}

/// The seconds at which events of a key passed.
fn passed_of(home: &Home, file: &str, key: &str) -> Vec<i64> {
    let events = lines(&home.path(file)).into_iter().filter(|event| event["key"] == key);
    events.map(|event| event["at"].as_i64().unwrap()).collect()
}

#[test]
fn a_key_that_lags_an_hour_behind_passes_as_often_as_any_other_over_restarts() {
    let home = Home::new(
        "name: apart\nsources:\n  in: {type: file, paths: [in.ndjson]}\ntransforms:\n  once: {type: dedupe, inputs: [in], key: \
         .key, time: .ts, within: 30s}\n  rate: {type: throttle, inputs: [in], key: .key, time: .ts, threshold: 1, window: \
         30s}\nsinks:\n  passed: {type: file, inputs: [once], path: once.ndjson}\n  free: {type: file, inputs: [rate], path: \
         rate.ndjson}\n",
    );
    let mut input = String::new();
    // Each run goes on where the one before ended.
    for part in hour_apart().chunks(25) {
        input.extend(part.iter().map(String::as_str));
        std::fs::write(home.path("in.ndjson"), &input).unwrap();
        let _ = weir_says(&home.path(""), &["run", "graph.yaml"]).exits(0);
    }
    let expected: Vec<i64> = (0..12).map(|span| span * 30).collect();
    for file in ["once.ndjson", "rate.ndjson"] {
        for key in ["now", "behind"] {
            assert_eq!(passed_of(&home, file, key), expected, "{key} in {file}");
        }
    }
}

#[test]
fn the_last_event_of_a_span_passes_of_a_key_that_lags_an_hour_behind() {
    let home = Home::new(
        "name: apart\nsources:\n  in: {type: file, paths: [in.ndjson]}\ntransforms:\n  last: {type: dedupe, inputs: [in], key: \
         .key, time: .ts, within: 30s, keep: last}\nsinks:\n  out: {type: file, inputs: [last], path: last.ndjson}\n",
    );
    std::fs::write(home.path("in.ndjson"), hour_apart().concat()).unwrap();
    let _ = weir_says(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    let expected: Vec<i64> = (0..12).map(|span| span * 30 + 20).collect();
    for key in ["now", "behind"] {
        assert_eq!(passed_of(&home, "last.ndjson", key), expected, "{key}");
    }
}
