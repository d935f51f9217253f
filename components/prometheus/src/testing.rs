//! What the tests of all formats share.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use vrl::value::Value;
use weir::event::{CodecError, Decoder, Encoder};

use crate::codec::{Format, PointCodec};
use crate::histogram::{Buckets, Counts, Histogram, ResetHint, Side, Stretch};
use crate::point::{Exemplar, Labels, Measured, Metadata, NAN, Point, STALE};

/// What nodes see of a line, as JSON.
pub(crate) fn decoded(format: impl Format, line: &str) -> serde_json::Value {
    let value = PointCodec(format).decode(&line.to_owned().into()).unwrap_or_else(|error| panic!("{line}: {error}"));
    serde_json::to_value(value).unwrap()
}

pub(crate) fn refused(format: impl Format, line: &str) -> CodecError {
    PointCodec(format).decode(&line.to_owned().into()).expect_err(line)
}

/// Holds what the decoder says of lines that it refuses: each has this code, and a text that holds the reason.
pub(crate) fn assert_refused<F: Format>(format: impl Fn() -> F, code: &str, lines: &[(&str, &str)]) {
    for (line, why) in lines {
        let error = refused(format(), line);
        assert!(error.code == code && error.message.contains(why), "{line}: {error:?}");
    }
}

/// Holds that a point which was written is read again; in these formats all that is no number is one `NaN`.
pub(crate) fn assert_reads_back(format: &impl Format, record: Vec<u8>, point: &Point) {
    let mut read = Point::try_from(&format.read(&record.into()).unwrap()).unwrap();
    if let (Measured::Value(written), Measured::Value(value)) = (&point.measured, &mut read.measured)
        && written.is_nan()
    {
        assert!(value.is_nan(), "{value}");
        *value = *written;
    }
    assert_eq!(read, *point);
}

pub(crate) fn encoded(format: impl Format, event: serde_json::Value) -> String {
    let mut out = Vec::new();
    PointCodec(format).encode(&Value::from(event), "", &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn texts() -> &'static str {
    "[a-z \"\\\\\n{},=é]{0,6}"
}

fn numbers() -> impl Strategy<Value = f64> + Clone {
    let bits = prop_oneof![
        any::<u64>(),
        Just(STALE),
        Just(NAN),
        Just((-0.0_f64).to_bits()),
        Just(f64::INFINITY.to_bits()),
        any::<i32>().prop_map(|n| f64::from(n).to_bits())
    ];
    bits.prop_map(f64::from_bits)
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,5}|[a-z./ ]{1,4}", texts(), 0..4)
}

/// What milliseconds say; 0 would say that there is none.
fn times() -> impl Strategy<Value = DateTime<Utc>> {
    let millis =
        prop_oneof![-2_000_000_000_000_i64..4_000_000_000_000, -8_334_601_228_800_000_i64..8_210_266_876_799_999];
    millis.prop_filter_map("a time", |millis| DateTime::from_timestamp_millis(millis).filter(|_| millis != 0))
}

/// Any point with a value: with names and texts that need quotes, and values that are no numbers.
pub(crate) fn points() -> impl Strategy<Value = Point> {
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}|[a-z./ \"]{1,5}";
    let millis = prop::option::of(-2_000_000_000_000_i64..4_000_000_000_000);
    (name, labels(), millis, numbers(), any::<bool>()).prop_map(|(name, labels, millis, value, is_incremental)| {
        let timestamp = millis.and_then(DateTime::from_timestamp_millis);
        Point { is_incremental, ..Point::new(name, labels, timestamp, value) }
    })
}

fn side<B: std::fmt::Debug>(buckets: impl Strategy<Value = B>) -> impl Strategy<Value = Side<B>> {
    let span = (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Stretch { offset, length });
    (prop::collection::vec(span, 0..3), prop::collection::vec(buckets, 0..4))
        .prop_map(|(spans, buckets)| Side { spans, buckets })
}

/// Any histogram, also such whose numbers do not agree: they go through as they are.
pub(crate) fn histograms() -> impl Strategy<Value = Histogram> {
    let whole = (any::<u64>(), any::<u64>(), side(any::<i64>()), side(any::<i64>())).prop_map(
        |(count, zero_count, negative, positive)| Counts::Int(Buckets { count, zero_count, negative, positive }),
    );
    let float =
        (numbers(), numbers(), side(numbers()), side(numbers())).prop_map(|(count, zero_count, negative, positive)| {
            Counts::Float(Buckets { count, zero_count, negative, positive })
        });
    let hints = prop::sample::select(vec![ResetHint::Unknown, ResetHint::Yes, ResetHint::No, ResetHint::Gauge]);
    let counts = prop_oneof![whole, float];
    (counts, numbers(), any::<i32>(), numbers(), hints, prop::collection::vec(numbers(), 0..3)).prop_map(
        |(counts, sum, schema, zero_threshold, reset_hint, custom_values)| Histogram {
            counts,
            sum,
            schema,
            zero_threshold,
            reset_hint,
            custom_values,
        },
    )
}

/// Any point of any kind.
pub(crate) fn rich_points() -> impl Strategy<Value = Point> {
    let exemplar = (labels(), numbers(), prop::option::of(times())).prop_map(|(labels, value, timestamp)| Exemplar {
        labels,
        value,
        timestamp,
    });
    let kind = prop::sample::select(vec!["", "counter", "gauge", "gaugehistogram", "stateset", "9"]);
    let metadata = (kind, texts(), texts()).prop_map(|(kind, help, unit)| Metadata { kind: kind.into(), help, unit });
    let histogram = histograms().prop_map(|histogram| Measured::Histogram(Box::new(histogram)));
    let measured = prop_oneof![numbers().prop_map(Measured::Value), histogram, Just(Measured::Nothing)];
    let exemplars = prop::collection::vec(exemplar, 0..3);
    let rest = (prop::option::of(times()), measured, exemplars, metadata, prop::option::of(times()));
    (points(), rest).prop_filter_map(
        "says something",
        |(point, (timestamp, measured, exemplars, metadata, created))| {
            let says = measured != Measured::Nothing || !exemplars.is_empty() || !metadata.is_empty();
            says.then_some(Point { timestamp, measured, exemplars, metadata, created, ..point })
        },
    )
}
