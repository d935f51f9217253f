//! What the tests of all formats share.

use chrono::DateTime;
use proptest::prelude::*;
use vrl::value::Value;
use weir::event::{CodecError, Decoder, Encoder};

use crate::codec::{Format, PointCodec};
use crate::point::{NAN, Point, STALE};

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
    if point.value.is_nan() {
        assert!(read.value.is_nan(), "{read:?}");
        read.value = point.value;
    }
    assert_eq!(read, *point);
}

pub(crate) fn encoded(format: impl Format, event: serde_json::Value) -> String {
    let mut out = Vec::new();
    PointCodec(format).encode(&Value::from(event), "", &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Any point: with names and texts that need quotes, and values that are no numbers.
pub(crate) fn points() -> impl Strategy<Value = Point> {
    let text = "[a-z \"\\\\\n{},=é]{0,6}";
    let bits = prop_oneof![any::<u64>(), Just(STALE), Just(NAN), any::<i32>().prop_map(|n| f64::from(n).to_bits())];
    let labels = prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,5}|[a-z./ ]{1,4}", text, 0..4);
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}|[a-z./ \"]{1,5}";
    let millis = prop::option::of(-2_000_000_000_000_i64..4_000_000_000_000);
    (name, labels, millis, bits, any::<bool>()).prop_map(|(name, labels, millis, bits, is_incremental)| Point {
        name,
        labels,
        timestamp: millis.and_then(DateTime::from_timestamp_millis),
        value: f64::from_bits(bits),
        is_incremental,
    })
}
