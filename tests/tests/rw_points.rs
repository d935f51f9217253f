//! What is sent to the source `prometheus_remote_write` comes out bit for bit, of every kind there is, also after a kill, and
//! program and nodes see all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Stdio;

use weir_tests::process::Home;
use weir_tests::push::{Sender, free_address};
use weir_tests::remote_write::{Message, V1, V2, labels, post, request_2, sample, snappy, written};
use weir_tests::rw_kinds::{doubles, span};
use weir_tests::wait::{PATIENCE, found, until};

const GRAPH: &str = r#"name: rw
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0"}
transforms:
  named: {type: filter, inputs: [in], condition: "is_string(.name)"}
sinks:
  out: {type: file, inputs: [named], path: out.ndjson, encoding: points_json}
"#;

/// Sends requests to a source that is killed, and started again, before and behind the last of them; gives what comes out.
fn passed(requests: &[(&str, Message, [Option<u64>; 3])]) -> String {
    let home = Home::new(GRAPH);
    let address = free_address();
    let start = |set: &[&str]| {
        let listen = format!("sources.in.listen={address}");
        let weir = home.start_with("weir", &[&[&*listen], set].concat(), &[], Stdio::null());
        (weir, found("the source to listen", PATIENCE, || Sender::connect(address).ok()))
    };
    let (weir, mut sender) = start(&[]);
    for (version, body, counts) in requests {
        let answer = post(&mut sender, version, &snappy(&body.0)).unwrap();
        assert_eq!((answer.status, written(&answer)), (204, *counts), "{answer:?}");
    }
    weir.kill();
    let (weir, _) = start(&[]);
    // With what was sent last all is there.
    until("everything to come out", PATIENCE, || {
        std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default().contains("the_end")
    });
    weir.stop(PATIENCE);
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    // The kill may have had some of it written twice.
    let mut lines: Vec<&str> = Vec::new();
    for line in out.lines() {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Bits of values, and how they are written.
const VALUES: [(u64, &str); 12] = [
    (0x3ff0_0000_0000_0000, "1.0"),
    (0, "0.0"),
    (0x8000_0000_0000_0000, "-0.0"),
    (1, "5e-324"),
    (0x3fb9_9999_9999_999a, "0.1"),
    (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
    (0x7ff0_0000_0000_0000, "\"+Inf\""),
    (0xfff0_0000_0000_0000, "\"-Inf\""),
    // A series has ended; no number; and other bits that are none, of which nothing is known.
    (0x7ff0_0000_0000_0002, "\"stale\""),
    (0x7ff8_0000_0000_0001, "\"NaN\""),
    (0x7ff0_0000_0000_0001, "\"NaN:7ff0000000000001\""),
    (0xfff8_0000_dead_beef, "\"NaN:fff80000deadbeef\""),
];

#[test]
fn every_bit_of_a_value_comes_out_as_it_was_sent_by_either_version() {
    let end = labels(Message::new(), &[("__name__", "the_end")]).bytes(2, sample(0, 1));
    let first =
        labels(Message::new(), &[("__name__", "of_1"), ("le", "+Inf"), ("text", "a \"b\" {c}, d\\\n\u{1f98e}")])
            .each(VALUES.iter().enumerate(), |series, (at, (bits, _))| series.bytes(2, sample(*bits, at as i64 - 3)));
    let second = Message::new()
        .packed(1, &[1, 2, 3, 4])
        .each(VALUES.iter().enumerate(), |series, (at, (bits, _))| series.bytes(2, sample(*bits, at as i64 - 3)));
    let symbols = ["__name__", "of_2", "text", "a \"b\" {c}, d\\\n\u{1f98e}"];
    let count = Some(VALUES.len() as u64);
    let out = passed(&[
        (V1, Message::new().bytes(1, &first), [None; 3]),
        (V2, request_2(&symbols, [second]), [count, Some(0), Some(0)]),
        (V1, Message::new().bytes(1, end), [None; 3]),
    ]);
    let text = r#"a \"b\" {c}, d\\\n"#.to_owned() + "\u{1f98e}";
    let mut expected = Vec::new();
    for (name, le) in [("of_1", "\"le\":\"+Inf\","), ("of_2", "")] {
        for (at, (_, value)) in VALUES.iter().enumerate() {
            expected.push(format!(
                "{{\"labels\":{{{le}\"text\":\"{text}\"}},\"name\":\"{name}\",\"timestamp\":{},\"value\":{value}}}",
                at as i64 - 3
            ));
        }
    }
    expected.push("{\"labels\":{},\"name\":\"the_end\",\"timestamp\":1,\"value\":0.0}".to_owned());
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

/// Whole counts, floats, and buckets of one's own; and what they are as JSON.
fn histograms() -> [(Message, &'static str); 3] {
    let whole = Message::new()
        .int(1, 10)
        .double(3, 18.5_f64.to_bits())
        .sint(4, 3)
        .double(5, 1e-128_f64.to_bits())
        .int(6, 2)
        .bytes(8, span(-2, 1))
        .packed_sint(9, &[3])
        .bytes(11, span(0, 2))
        .bytes(11, span(1, 1))
        .packed_sint(12, &[1, 1, 0])
        .int(14, 2)
        .int(15, 1_700_000_000_001);
    let float = Message::new()
        .double(2, 4.5_f64.to_bits())
        .double(3, 0x7ff0_0000_0000_0002)
        .sint(4, -9)
        .double(7, 0.5_f64.to_bits())
        .bytes(11, span(-3, 2))
        .bytes(13, doubles(&[1.5, 2.5]))
        .int(14, 3)
        .int(15, 1_700_000_000_002);
    let custom = Message::new()
        .int(1, 3)
        .double(3, 1.0_f64.to_bits())
        .sint(4, -53)
        .bytes(11, span(0, 2))
        .packed_sint(12, &[1, 1])
        .int(15, 1_700_000_000_003)
        .bytes(16, doubles(&[0.5, 2.5]));
    [
        (
            whole,
            r#"{"count":10,"negative_deltas":[3],"negative_spans":[{"length":1,"offset":-2}],"positive_deltas":[1,1,0],"positive_spans":[{"length":2,"offset":0},{"length":1,"offset":1}],"reset_hint":"no","schema":3,"sum":18.5,"zero_count":2,"zero_threshold":1e-128}"#,
        ),
        (
            float,
            r#"{"count":4.5,"positive_counts":[1.5,2.5],"positive_spans":[{"length":2,"offset":-3}],"reset_hint":"gauge","schema":-9,"sum":"stale","zero_count":0.5}"#,
        ),
        (
            custom,
            r#"{"count":3,"custom_values":[0.5,2.5],"positive_deltas":[1,1],"positive_spans":[{"length":2,"offset":0}],"schema":-53,"sum":1.0}"#,
        ),
    ]
}

#[test]
fn histograms_exemplars_metadata_and_times_of_creation_come_out_as_they_were_sent_by_either_version() {
    let stamp = 1_700_000_000_000;
    let exemplar_1 = labels(Message::new(), &[("trace_id", "abc")]).double(2, 7.5_f64.to_bits()).int(3, stamp);
    let mut first = Message::new();
    for (histogram, _) in histograms() {
        first = first.bytes(1, labels(Message::new(), &[("__name__", "h")]).bytes(4, histogram));
    }
    let counted = labels(Message::new(), &[("__name__", "c")])
        .bytes(2, sample(1.0_f64.to_bits(), stamp))
        .bytes(2, sample(2.0_f64.to_bits(), stamp + 1))
        .bytes(3, &exemplar_1);
    first = first.bytes(1, counted);
    // Of 1.0 metadata stands by itself.
    first = first.bytes(3, Message::new().int(1, 1).bytes(2, "c").bytes(4, "what is counted").bytes(5, "seconds"));

    let symbols = ["__name__", "h", "c", "trace_id", "abc", "what is counted", "seconds", "b"];
    let exemplar_2 = Message::new().packed(1, &[4, 5]).double(2, 7.5_f64.to_bits()).int(3, stamp);
    let metadata = Message::new().int(1, 1).int(3, 6).int(4, 7);
    let mut all: Vec<Message> =
        histograms().into_iter().map(|(histogram, _)| Message::new().packed(1, &[1, 2]).bytes(3, histogram)).collect();
    all.push(
        Message::new()
            .packed(1, &[1, 3])
            .bytes(2, sample(1.0_f64.to_bits(), stamp))
            .bytes(2, sample(2.0_f64.to_bits(), stamp + 1))
            .bytes(4, &exemplar_2)
            .bytes(5, &metadata)
            .int(6, stamp - 1000),
    );
    // From release candidate 4 on a time of creation is that of a sample.
    all.push(Message::new().packed(1, &[1, 8]).bytes(2, sample(3.0_f64.to_bits(), stamp).int(3, stamp - 2000)));
    let end = Message::new().bytes(1, labels(Message::new(), &[("__name__", "the_end")]).bytes(2, sample(0, 1)));
    let out = passed(&[
        (V1, first, [None; 3]),
        (V2, request_2(&symbols, all), [Some(3), Some(3), Some(1)]),
        (V1, end, [None; 3]),
    ]);
    let lines: Vec<&str> = out.lines().collect();
    for (histogram, expected) in histograms().into_iter().enumerate().map(|(at, (_, text))| (at, text)) {
        let line = format!(
            "{{\"histogram\":{expected},\"labels\":{{}},\"name\":\"h\",\"timestamp\":{}}}",
            stamp + 1 + histogram as i64
        );
        // What both versions sent is the same.
        assert!(lines.contains(&&*line), "{line}\n{out}");
    }
    let exemplar = format!(r#""exemplars":[{{"labels":{{"trace_id":"abc"}},"timestamp":{stamp},"value":7.5}}]"#);
    let known = r#""type":"counter","unit":"seconds""#;
    for line in [
        format!(r#"{{"labels":{{}},"name":"c","timestamp":{stamp},"value":1.0}}"#),
        format!(r#"{{{exemplar},"labels":{{}},"name":"c","timestamp":{},"value":2.0}}"#, stamp + 1),
        format!(r#"{{"help":"what is counted","name":"c",{known}}}"#),
        format!(
            r#"{{"created_timestamp":{},"help":"what is counted","labels":{{}},"name":"c","timestamp":{stamp},{known},"value":1.0}}"#,
            stamp - 1000
        ),
        format!(
            r#"{{"created_timestamp":{},{exemplar},"help":"what is counted","labels":{{}},"name":"c","timestamp":{},{known},"value":2.0}}"#,
            stamp - 1000,
            stamp + 1
        ),
        format!(r#"{{"created_timestamp":{},"labels":{{}},"name":"b","timestamp":{stamp},"value":3.0}}"#, stamp - 2000),
    ] {
        assert!(lines.contains(&&*line), "{line}\n{out}");
    }
    // Histograms of both versions are the same lines.
    assert_eq!(lines.len(), 3 + 3 + 3 + 1, "{out}");
}
