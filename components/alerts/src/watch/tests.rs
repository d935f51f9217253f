use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use serde_json::{Value as Json, json};
use weir::event::{Codec, OriginKind};
use weir::state::StateLimits;

use super::*;

const MINUTE: i64 = 60_000;
/// A day in 2026.
const BEGIN: i64 = 1_772_323_200_000;

/// A transform, and the times it is told.
struct Bench {
    watch: Watch,
    times: Times,
    rejected: Vec<&'static str>,
}

impl Bench {
    fn new(emit: Emit) -> Bench {
        let limits = StateLimits::in_memory(3);
        let watch = Watch {
            reader: Reader::new().unwrap(),
            emit,
            resolve_after: 11 * MINUTE,
            cluster_labels: vec!["cluster".to_owned(), "clusterID".to_owned()],
            max_alerts: 3,
            alerts: KeyedState::new(limits),
            silent: KeyedState::new(limits),
            line: Line::new(None, 3),
            began: None,
            released: Timestamp::MIN,
        };
        Bench { watch, times: Times::BEGINNING, rejected: Vec::new() }
    }

    /// One in which samples wait for those of other partitions.
    fn in_order(emit: Emit, lateness: Duration) -> Bench {
        let mut bench = Bench::new(emit);
        bench.watch.line = Line::new(Some(lateness), 100);
        bench
    }

    /// A point comes; gives what is told: the state, the alert's name, and the minutes of its begin and end.
    fn point(&mut self, point: Json) -> Vec<String> {
        self.point_at(point, |watermark, time| watermark.max(time))
    }

    /// The same; `watermark` says how far event time is, by how far it was and the point's.
    fn point_at(&mut self, point: Json, watermark: impl Fn(Timestamp, Timestamp) -> Timestamp) -> Vec<String> {
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let body = Body::Raw(point.to_string().into(), Codec::Json);
        let mut event = Event::new(body, Position(0), Timestamp(0));
        let mut output = Output::default();
        match self.watch.look(&event, &origin) {
            Ok(row) if row.is_time_only => self.times.watermark = watermark(self.times.watermark, row.time),
            Ok(mut row) => {
                row.is_ahead = self.times.now != Timestamp::MIN && row.time.0 > self.times.now.0 + 10 * MINUTE;
                if !row.is_ahead {
                    self.times.watermark = watermark(self.times.watermark, row.time);
                }
                if let Verdict::Reject { code, .. } = self.watch.process(&mut event, row, self.times, &mut output) {
                    self.rejected.push(code);
                }
            }
            Err(Verdict::Reject { code, .. }) => self.rejected.push(code),
            Err(_) => {}
        }
        told(&output)
    }

    /// A sample of `ALERTS`, so many minutes from the begin.
    fn sample(&mut self, name: &str, state: &str, minute: i64, value: Json) -> Vec<String> {
        let labels = json!({"alertname": name, "alertstate": state});
        self.point(json!({"name": "ALERTS", "labels": labels, "value": value, "timestamp": BEGIN + minute * MINUTE}))
    }

    fn fires(&mut self, name: &str, minute: i64) -> Vec<String> {
        self.sample(name, "firing", minute, json!(1))
    }

    /// The clock stands at this minute, and nothing came.
    fn clock(&mut self, minute: i64) -> Vec<String> {
        self.times.now = Timestamp(BEGIN + minute * MINUTE);
        let mut output = Output::default();
        while !self.watch.advance(self.times, &mut output) {}
        told(&output)
    }

    /// Every partition is silent.
    fn silence(&mut self) -> Vec<String> {
        let mut output = Output::default();
        while !self.watch.advance(Times { is_silent: true, ..self.times }, &mut output) {}
        told(&output)
    }
}

fn value(event: &Event) -> Json {
    serde_json::from_slice(&event.body.to_bytes()).unwrap()
}

fn told(output: &Output) -> Vec<String> {
    let minute = |time: &Json| {
        let time = chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        (time.timestamp_millis() - BEGIN) / MINUTE
    };
    let text = |event: &Event| {
        let value = value(event);
        let (state, name) = (value["state"].as_str().unwrap(), value["labels"]["alertname"].as_str().unwrap());
        let end = if value["ends_at"].is_null() { String::new() } else { format!("-{}", minute(&value["ends_at"])) };
        format!("{state} {name} {}{end}", minute(&value["starts_at"]))
    };
    output.made.iter().map(text).collect()
}

#[test]
fn changes_are_told_once_each() {
    let mut bench = Bench::new(Emit::Changes);
    let nothing: [&str; 0] = [];
    assert_eq!(bench.sample("A", "pending", 0, json!(1)), nothing);
    assert_eq!(bench.sample("A", "pending", 5, json!("stale")), nothing);
    assert_eq!(bench.fires("A", 5), ["firing A 5"]);
    assert_eq!(bench.fires("A", 10), nothing);
    assert_eq!(bench.fires("A", 10), nothing, "a sample that is sent twice");
    assert_eq!(bench.fires("B", 11), ["firing B 11"]);
    assert_eq!(bench.sample("A", "firing", 12, json!("stale")), ["resolved A 5-12"]);
    assert_eq!(bench.sample("A", "firing", 12, json!("stale")), nothing);
    assert_eq!(bench.fires("A", 10), nothing, "it comes late, and is over");
    assert_eq!(bench.fires("A", 13), ["firing A 13"]);
    assert_eq!(bench.sample("A", "pending", 14, json!(1)), ["resolved A 13-14"]);
    assert_eq!(bench.sample("B", "firing", 15, json!("NaN")), ["resolved B 11-15"], "as Vector's text has it");
}

#[test]
fn of_what_fires_every_sample_is_told_and_nothing_else() {
    let mut active = Bench::new(Emit::Active);
    let mut all = Bench::new(Emit::All);
    for bench in [&mut active, &mut all] {
        assert_eq!(bench.fires("A", 0), ["firing A 0"]);
        assert_eq!(bench.fires("A", 5), ["firing A 0"]);
        assert!(bench.fires("A", 5).is_empty(), "the same sample again");
        assert!(bench.sample("A", "pending", 1, json!(1)).is_empty(), "it comes late");
    }
    assert!(active.sample("A", "firing", 7, json!("stale")).is_empty());
    assert_eq!(all.sample("A", "firing", 7, json!("stale")), ["resolved A 0-7"]);
}

#[test]
fn who_is_silent_is_over_by_the_time_of_the_others() {
    let mut bench = Bench::new(Emit::Changes);
    assert_eq!(bench.fires("A", 0), ["firing A 0"]);
    assert_eq!(bench.fires("B", 10), ["firing B 10"]);
    assert_eq!(bench.fires("A", 10), [""; 0], "one may be lost of those that come every five minutes");
    assert_eq!(bench.fires("B", 20), [""; 0]);
    assert_eq!(bench.fires("B", 21), ["resolved A 0-21"]);
    assert_eq!(bench.fires("A", 22), ["firing A 22"]);
    // Also where the time of the stream did not show it, as of a cluster whose clock is behind.
    assert_eq!(bench.fires("B", 30), [""; 0]);
    assert_eq!(bench.fires("C", -200), ["firing C -200"]);
    assert_eq!(bench.fires("C", -195), [""; 0], "it is as late as before");
    assert_eq!(bench.fires("C", -180), ["resolved C -200--184", "firing C -180"]);
    assert_eq!(bench.sample("C", "firing", -100, json!("stale")), ["resolved C -180--169"], "it was over before");
}

#[test]
fn who_is_silent_is_over_by_the_clock() {
    let mut bench = Bench::new(Emit::Changes);
    let nothing: [&str; 0] = [];
    assert_eq!(bench.clock(100), nothing);
    assert_eq!(bench.fires("A", 0), ["firing A 0"]);
    assert_eq!(bench.clock(105), nothing);
    assert_eq!(bench.fires("A", 5), nothing);
    assert_eq!(bench.clock(115), nothing);
    assert_eq!(bench.clock(116), ["resolved A 0-16"]);
    assert_eq!(bench.clock(1000), nothing, "once");
    assert_eq!(bench.fires("A", 20), ["firing A 20"]);

    // A process that was away for hours has not heard what was said meanwhile.
    bench.watch.began = None;
    assert_eq!(bench.clock(2000), nothing);
    assert_eq!(bench.clock(2010), nothing);
    assert_eq!(bench.fires("A", 25), nothing);
    assert_eq!(bench.clock(2020), nothing);
    assert_eq!(bench.clock(2021), ["resolved A 20-36"]);
}

#[test]
fn the_end_of_a_file_is_no_silence() {
    let mut bench = Bench::new(Emit::Changes);
    assert_eq!(bench.fires("A", 0), ["firing A 0"]);
    let mut output = Output::default();
    let end = Times { watermark: Timestamp::MAX, now: Timestamp::MAX, is_silent: false };
    assert!(bench.watch.advance(end, &mut output) && output.made.is_empty());
}

#[test]
fn an_alert_begins_when_its_condition_began_to_hold() {
    let mut bench = Bench::new(Emit::Changes);
    let since = |bench: &mut Bench, minute: i64, since: i64| {
        let value = (BEGIN + since * MINUTE) / 1000;
        let labels = json!({"alertname": "A"});
        bench.point(
            json!({"name": "ALERTS_FOR_STATE", "labels": labels, "value": value, "timestamp": BEGIN + minute * MINUTE}),
        )
    };
    assert!(since(&mut bench, 1, 1).is_empty());
    assert!(since(&mut bench, 6, 1).is_empty());
    assert_eq!(bench.fires("A", 6), ["firing A 1"]);
    assert!(since(&mut bench, 6, 1).is_empty());
    assert_eq!(bench.sample("A", "firing", 7, json!("stale")), ["resolved A 1-7"]);
    // What held before it was over does not hold for the next time.
    assert!(since(&mut bench, 7, 1).is_empty());
    assert_eq!(bench.fires("A", 8), ["firing A 8"]);
}

#[test]
fn an_event_has_all_labels_and_the_first_cluster_there_is() {
    let mut bench = Bench::new(Emit::Active);
    let mut told = |labels: Json| {
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let point = json!({"name": "ALERTS", "labels": labels, "value": 1, "timestamp": "2022-08-02T14:12:43Z"});
        let mut event = Event::new(Body::Raw(point.to_string().into(), Codec::Json), Position(0), Timestamp(0));
        let row = bench.watch.look(&event, &origin).unwrap_or_else(|verdict| panic!("{verdict:?}"));
        let mut output = Output::default();
        bench.watch.process(&mut event, row, Times::BEGINNING, &mut output);
        output.made.remove(0)
    };
    let event = told(
        json!({"alertname": "DiskFull", "alertstate": "firing", "summary": "disk almost full", "clusterID": "5882"}),
    );
    let labels = json!({"alertname": "DiskFull", "summary": "disk almost full", "clusterID": "5882"});
    let expected = json!({
        "state": "firing", "labels": labels, "value": 1.0, "starts_at": "2022-08-02T14:12:43Z", "ends_at": null,
        "cluster": "5882"
    });
    assert_eq!(value(&event), expected);
    assert_eq!(event.time, Timestamp(1_659_449_563_000));
    let other = told(json!({"alertname": "DiskFull", "alertstate": "firing", "cluster": "a", "clusterID": "5882"}));
    assert_eq!(value(&other)["cluster"], "a");
    assert_ne!(event.key(), other.key(), "alerts of two clusters are two");
    assert_eq!(value(&told(json!({"alertname": "A", "alertstate": "firing"})))["cluster"], Json::Null);
}

#[test]
fn there_is_room_for_so_many_and_those_that_fire_stay() {
    let mut bench = Bench::new(Emit::Changes);
    for name in ["A", "B", "C"] {
        assert_eq!(bench.fires(name, 0).len(), 1);
    }
    assert!(bench.fires("D", 1).is_empty());
    assert_eq!(bench.rejected, ["too_many_alerts"]);
    assert_eq!(bench.sample("A", "firing", 2, json!(0)), ["resolved A 0-2"]);
    assert_eq!(bench.sample("B", "firing", 10, json!(1)), [""; 0]);
    // What is over is remembered for a while, and then makes room.
    assert_eq!(bench.fires("B", 20), ["resolved C 0-11"]);
    assert_eq!(bench.fires("B", 30), [""; 0]);
    assert_eq!(bench.fires("D", 32), ["firing D 32"]);
}

#[test]
fn samples_wait_for_earlier_ones_of_other_partitions() {
    let mut bench = Bench::in_order(Emit::Changes, Duration::ZERO);
    let nothing: [&str; 0] = [];
    let point = |name: &str, state: &str, minute: i64, value: Json| {
        let labels = json!({"alertname": name, "alertstate": state});
        json!({"name": "ALERTS", "labels": labels, "value": value, "timestamp": BEGIN + minute * MINUTE})
    };
    // The end comes first, and the other partition is behind.
    let behind = |minute: i64| move |_, _| Timestamp(BEGIN + minute * MINUTE);
    assert_eq!(bench.point_at(point("A", "firing", 9, json!("stale")), behind(0)), nothing);
    assert_eq!(bench.point_at(point("A", "firing", 3, json!(1)), behind(3)), nothing, "others of minute 3 may come");
    assert_eq!(bench.point_at(point("B", "pending", 8, json!(1)), behind(8)), ["firing A 3"]);
    assert_eq!(bench.point_at(point("B", "pending", 10, json!(1)), behind(10)), ["resolved A 3-9"]);
    // What comes behind the watermark all the same counts at once.
    assert_eq!(bench.point_at(point("B", "firing", 4, json!(1)), behind(10)), ["firing B 4"]);
    // Nothing waits for ever.
    assert_eq!(bench.point_at(point("C", "firing", 20, json!(1)), behind(10)), nothing);
    let mut output = Output::default();
    while !bench
        .watch
        .advance(Times { watermark: Timestamp::MAX, now: Timestamp::MAX, ..Times::BEGINNING }, &mut output)
    {}
    assert_eq!(told(&output), ["resolved B 4-10", "firing C 20"]);
}

#[test]
fn what_waits_counts_once_all_partitions_are_silent() {
    let mut bench = Bench::in_order(Emit::Changes, Duration::from_secs(1800));
    let nothing: [&str; 0] = [];
    assert_eq!(bench.clock(0), nothing);
    assert_eq!(bench.fires("A", 0), nothing);
    assert_eq!(bench.silence(), ["firing A 0"]);
    assert_eq!(bench.silence(), nothing);
    // An end that came is the end, not `resolve_after` behind the last sample that counted.
    assert_eq!(bench.fires("A", 3), nothing);
    assert_eq!(bench.sample("A", "firing", 7, json!("stale")), nothing);
    assert_eq!(bench.silence(), ["resolved A 0-7"]);
}

#[test]
fn silence_is_counted_from_the_last_sample_that_came() {
    let mut bench = Bench::in_order(Emit::Changes, Duration::from_secs(120));
    let nothing: [&str; 0] = [];
    assert_eq!(bench.clock(0), nothing);
    assert_eq!(bench.clock(100), nothing);
    assert_eq!(bench.fires("A", 0), nothing);
    assert_eq!(bench.fires("A", 5), ["firing A 0"], "the second waits");
    // Nobody says that all is silent, as where another partition cannot be read.
    assert_eq!(bench.clock(110), nothing);
    assert_eq!(bench.clock(111), ["resolved A 0-16"], "by its last sample, though that waited");
    // Counted late, it is silent since it came.
    assert_eq!(bench.clock(200), nothing);
    assert_eq!(bench.fires("A", 30), nothing);
    assert_eq!(bench.clock(205), nothing);
    assert_eq!(bench.silence(), ["firing A 30"]);
    assert_eq!(bench.clock(210), nothing);
    assert_eq!(bench.clock(211), ["resolved A 30-41"]);
    // What only waits is not forgotten either.
    assert_eq!(bench.clock(300), nothing);
    assert_eq!(bench.fires("B", 40), nothing);
    assert_eq!(bench.clock(311), ["firing B 40", "resolved B 40-51"]);
}

#[test]
fn a_sample_from_the_future_silences_no_alert() {
    for mut bench in [Bench::new(Emit::Changes), Bench::in_order(Emit::Changes, Duration::from_secs(60))] {
        let nothing: [&str; 0] = [];
        assert_eq!(bench.clock(0), nothing);
        let mut told = bench.fires("A", 0);
        told.extend(bench.fires("A", 1440));
        for minute in 1..4 {
            told.extend(bench.clock(minute));
            told.extend(bench.fires("A", minute));
        }
        told.extend(bench.sample("A", "firing", 4, json!("stale")));
        told.extend(bench.silence());
        assert_eq!(told, ["firing A 0", "resolved A 0-4"]);
        // The first sample of an alert counts at the moment it comes.
        let mut told = bench.fires("B", 1440);
        told.extend(bench.silence());
        assert_eq!(told, ["firing B 4"]);
    }
}

#[test]
fn an_alert_has_its_place_from_its_first_sample_on() {
    let mut bench = Bench::in_order(Emit::Changes, Duration::from_secs(3600));
    for name in ["A", "B", "C"] {
        assert!(bench.fires(name, 0).is_empty());
    }
    assert!(bench.fires("D", 1).is_empty());
    assert_eq!(bench.rejected, ["too_many_alerts"]);
    assert_eq!(bench.fires("A", 61), ["firing A 0", "firing B 0", "firing C 0"]);
}

proptest! {
    /// By whatever partitions samples come, and whichever of these is ahead: each alert does what it does in order.
    #[test]
    fn partitions_change_nothing_where_samples_wait(
        samples in vec((0..3_usize, 0..4_i64, 0..4_usize, 0..3_usize), 0..60),
        picks in vec(0..3_usize, 200),
    ) {
        let mut minute = 0;
        let mut partitions = [const { Vec::new() }; 3];
        let mut in_order = Bench::in_order(Emit::All, Duration::ZERO);
        let mut expected = Vec::new();
        for (alert, step, what, partition) in samples {
            minute += step;
            let (state, value) = [("firing", json!(1)), ("firing", json!(1)), ("firing", json!("stale")), ("pending", json!(1))][what].clone();
            let name = ["A", "B", "C"][alert];
            let labels = json!({"alertname": name, "alertstate": state});
            let point = json!({"name": "ALERTS", "labels": labels, "value": value, "timestamp": BEGIN + minute * MINUTE});
            expected.extend(in_order.point(point.clone()));
            partitions[partition].push((minute, point));
        }
        let mut bench = Bench::in_order(Emit::All, Duration::ZERO);
        let mut found = Vec::new();
        let mut read = [0; 3];
        let mut picks = picks.into_iter().cycle();
        loop {
            let open: Vec<usize> = (0..3).filter(|at| read[*at] < partitions[*at].len()).collect();
            let Some(at) = picks.next().and_then(|pick| open.get(pick % open.len().max(1)).copied()) else { break };
            let point = partitions[at][read[at]].1.clone();
            read[at] += 1;
            // A partition whose last sample was before this one is not waited for.
            let reached = |other: usize| match read[other] {
                all if all == partitions[other].len() && other != at => i64::MAX,
                0 => i64::MIN,
                read => BEGIN + partitions[other][read - 1].0 * MINUTE,
            };
            let least = (0..3).map(reached).min().unwrap();
            found.extend(bench.point_at(point, |_, _| Timestamp(least)));
        }
        for (bench, told_last) in [(&mut in_order, &mut expected), (&mut bench, &mut found)] {
            let mut output = Output::default();
            while !bench.watch.advance(Times { watermark: Timestamp::MAX, now: Timestamp::MAX, ..Times::BEGINNING }, &mut output) {}
            told_last.extend(told(&output));
        }
        prop_assert_eq!(expected, found);
    }

    /// Whatever comes, each alert fires and is over in turn; and samples that are sent twice change nothing.
    #[test]
    fn changes_of_an_alert_take_turns(samples in vec((0..3_usize, 0..8_i64, 0..4_usize), 0..60)) {
        let (mut once, mut twice, mut all) = (Bench::new(Emit::Changes), Bench::new(Emit::Changes), Bench::new(Emit::All));
        let (mut minute, mut changes, mut again, mut every) = (0, Vec::new(), Vec::new(), Vec::new());
        for (alert, step, what) in samples {
            minute += step;
            let (state, value) = [("firing", json!(1)), ("firing", json!(1)), ("firing", json!("stale")), ("pending", json!(1))][what].clone();
            let name = ["A", "B", "C"][alert];
            changes.extend(once.sample(name, state, minute, value.clone()));
            every.extend(all.sample(name, state, minute, value.clone()));
            for _ in 0..2 {
                again.extend(twice.sample(name, state, minute, value.clone()));
            }
        }
        prop_assert_eq!(&changes, &again);
        for name in ["A", "B", "C"] {
            let of = |told: &[String]| -> Vec<String> { told.iter().filter(|line| line.split(' ').nth(1) == Some(name)).cloned().collect() };
            let told = of(&changes);
            for (at, line) in told.iter().enumerate() {
                prop_assert_eq!(line.starts_with("resolved"), at % 2 == 1, "{:?}", told);
            }
            for pair in told.chunks_exact(2) {
                let (begin, end) = (pair[0].rsplit(' ').next().unwrap(), pair[1].rsplit(' ').next().unwrap());
                prop_assert!(end.starts_with(&format!("{begin}-")), "the same begin: {:?}", pair);
            }
            // All samples of what fires tell the same begins and ends.
            let mut every = of(&every);
            every.dedup();
            prop_assert_eq!(every, told);
        }
    }
}
