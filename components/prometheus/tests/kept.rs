//! Holds the table in `docs/codecs.md` of what each format keeps of a point.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Value as Json, json};
use weir::component::{DecodingConfig, EncodingConfig};
use weir::event::{Decoder, Encoder};
use weir_prometheus::{Exemplar, Labels, Measured, Metadata, NAN, Point, STALE};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/codecs.md");

/// A codec, and how the table calls it.
struct Format {
    name: String,
    encoder: Arc<dyn Encoder>,
    decoder: Arc<dyn Decoder>,
}

fn formats() -> Vec<Format> {
    let format = |name: String, codec: &str, options: Json| {
        let mut encoding = json!({"codec": codec});
        encoding.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let encoder: Box<dyn EncodingConfig> = serde_json::from_value(encoding).unwrap();
        let decoder: Box<dyn DecodingConfig> = serde_json::from_value(json!({"codec": codec})).unwrap();
        Format { name, encoder: encoder.build().unwrap(), decoder: decoder.build().unwrap() }
    };
    let plain = |codec: &'static str| format(format!("`{codec}`"), codec, json!({}));
    vec![
        plain("points_json"),
        format("`remote_write` 2".to_owned(), "remote_write", json!({"version": 2})),
        format("`remote_write` 1".to_owned(), "remote_write", json!({"version": 1})),
        plain("vector_text"),
        plain("prometheus_kafka_adapter"),
        plain("exposition"),
        plain("influx"),
    ]
}

/// What a row of the table speaks of, as points that have it.
fn rows() -> Vec<(&'static str, Vec<Point>)> {
    let labels = Labels::from([("job".to_owned(), "a \"b\"".to_owned())]);
    let at = DateTime::from_timestamp_millis(1_700_000_000_123);
    let with = |value: f64| Point::new("up".to_owned(), labels.clone(), at, value);
    let exemplar =
        Exemplar { labels: Labels::from([("trace_id".to_owned(), "c".to_owned())]), value: 0.5, timestamp: at };
    let metadata =
        |help: &str, unit: &str| Metadata { kind: "counter".to_owned(), help: help.to_owned(), unit: unit.to_owned() };
    let known = metadata("What it is.", "seconds");
    let nothing = Point { measured: Measured::Nothing, timestamp: None, ..with(0.0) };
    let histogram = Measured::Histogram(Box::default());
    vec![
        ("a number, also -0.0", vec![with(0.1), with(-0.0), with(5e-324)]),
        ("an infinite value", vec![with(f64::INFINITY), with(f64::NEG_INFINITY)]),
        (
            "the bits of what is no number",
            [STALE, NAN, 0x7ff0_0000_0000_0001].map(|bits| with(f64::from_bits(bits))).into(),
        ),
        ("a time in milliseconds", vec![with(1.0)]),
        ("that there is no time", vec![Point { timestamp: None, ..with(1.0) }]),
        ("that a value is added to the one before", vec![Point { is_incremental: true, ..with(1.0) }]),
        ("exemplars beside a value", vec![Point { exemplars: vec![exemplar.clone()], ..with(1.0) }]),
        ("type, help and unit beside a value", vec![Point { metadata: known.clone(), ..with(1.0) }]),
        ("a time of creation", vec![Point { created: at, ..with(1.0) }]),
        ("a native histogram", vec![Point { measured: histogram, ..with(1.0) }]),
        ("exemplars alone", vec![Point { exemplars: vec![exemplar], ..nothing.clone() }]),
        ("type, help or unit alone", vec![Point { metadata: metadata("", ""), labels: Labels::new(), ..nothing }]),
    ]
}

/// What becomes of a point: `kept`, `left out`, or `refused`.
fn fate(format: &Format, point: &Point) -> &'static str {
    let mut out = Vec::new();
    if format.encoder.encode(&point.clone().into(), "", &mut out).is_err() {
        return "refused";
    }
    let read = format.decoder.decode(&out.into()).ok().and_then(|value| Point::try_from(&value).ok());
    if read.as_ref() == Some(point) { "kept" } else { "left out" }
}

#[test]
fn the_table_says_what_each_format_keeps() {
    let formats = formats();
    let mut expected = String::new();
    for (row, points) in rows() {
        write!(expected, "| {row} |").unwrap();
        for format in &formats {
            let fates: Vec<&str> = points.iter().map(|point| fate(format, point)).collect();
            let worst = ["refused", "left out", "kept"].into_iter().find(|fate| fates.contains(fate)).unwrap();
            write!(expected, " {worst} |").unwrap();
        }
        expected.push('\n');
    }
    let head: Vec<String> = formats.iter().map(|format| format!(" {} |", format.name)).collect();
    let head = format!("| of a point |{}\n", head.concat());
    let page = std::fs::read_to_string(PAGE).unwrap();
    assert!(page.contains(&head), "docs/codecs.md has no table that begins with\n{head}");
    assert!(page.contains(&expected), "docs/codecs.md has no table with these rows:\n{expected}");
}
