use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::rich_points;

#[test]
fn nodes_see_a_point_and_may_change_it() {
    let mut value = Value::from(
        json!({"name": "up", "labels": {"job": "a", "n": 1}, "value": 1, "timestamp": 1_700_000_000_123_i64}),
    );
    let point = Point::try_from(&value).unwrap();
    assert_eq!(point.labels, Labels::from([("job".into(), "a".into()), ("n".into(), "1".into())]));
    assert_eq!(point.timestamp.unwrap().timestamp_millis(), 1_700_000_000_123);
    value = point.clone().into();
    assert_eq!(Point::try_from(&value).unwrap(), point);
    for (wrong, why) in [
        (json!("up"), "it is no object"),
        (json!({"value": 1}), "it has no text `name`"),
        (json!({"name": "", "value": 1}), "it has no text `name`"),
        (json!({"name": "up"}), "it has no number `value`"),
        (json!({"name": "up", "exemplars": [], "help": ""}), "it has no number `value`"),
        (json!({"name": "up", "value": "NaN:3ff0000000000000"}), "it has no number `value`"),
        (json!({"name": "up", "value": 1, "labels": []}), "its `labels` are no object"),
        (json!({"name": "up", "value": 1, "labels": {"a": [1]}}), "its label `a` is no text"),
        (json!({"name": "up", "value": 1, "timestamp": "soon"}), "its `timestamp` is no time"),
        (json!({"name": "up", "value": 1, "created_timestamp": []}), "its `created_timestamp` is no time"),
        (json!({"name": "up", "value": 1, "kind": "other"}), "its `kind` is neither"),
        (json!({"name": "up", "value": 1, "type": 1}), "its `type` is no text"),
        (json!({"name": "up", "exemplars": 1}), "its `exemplars` are no array"),
        (json!({"name": "up", "exemplars": [1]}), "an exemplar is no object"),
        (json!({"name": "up", "exemplars": [{}]}), "an exemplar has no number `value`"),
        (json!({"name": "up", "exemplars": [{"value": 1, "labels": 1}]}), "an exemplar's `labels` are no object"),
        (json!({"name": "up", "value": 1, "histogram": {}}), "it has both a `value` and a `histogram`"),
        (json!({"name": "up", "histogram": 1}), "its `histogram` is no object"),
        (json!({"name": "up", "histogram": {"schema": 1}}), "its `histogram` has no number `sum`"),
        (json!({"name": "up", "histogram": {"sum": 1}}), "its `histogram` has no whole number `schema`"),
        (json!({"name": "up", "histogram": {"sum": 1, "schema": 0, "reset_hint": "maybe"}}), "none of `yes`"),
        (
            json!({"name": "up", "histogram": {"sum": 1, "schema": 0, "positive_deltas": [1.5]}}),
            "positive_deltas` is no",
        ),
        (
            json!({"name": "up", "histogram": {"sum": 1, "schema": 0, "positive_deltas": [1], "count": 1.5}}),
            "both whole counts and floats",
        ),
        (
            json!({"name": "up", "histogram": {"sum": 1, "schema": 0, "positive_spans": [{"offset": 1, "length": -1}]}}),
            "positive_spans` is no",
        ),
    ] {
        let error = Point::try_from(&Value::from(wrong)).unwrap_err();
        assert!(error.code == "no_point" && error.message.contains(why), "{error:?}");
    }
}

#[test]
fn a_histogram_is_whole_or_of_floats_by_its_counts() {
    for (histogram, is_float) in [
        (json!({"sum": 1, "schema": 0, "count": 3}), false),
        (json!({"sum": 1, "schema": 0, "count": "18446744073709551615"}), false),
        (json!({"sum": 1, "schema": 0}), false),
        (json!({"sum": 1, "schema": 0, "count": 3.0}), true),
        (json!({"sum": 1, "schema": 0, "count": "stale"}), true),
        (json!({"sum": 1, "schema": 0, "count": 3, "zero_count": 0.5}), true),
        (json!({"sum": 1, "schema": 0, "count": 3, "positive_counts": [1, 2.5]}), true),
    ] {
        let read = Histogram::try_from(&Value::from(histogram.clone())).unwrap();
        assert_eq!(matches!(read.counts, crate::Counts::Float(_)), is_float, "{histogram}");
    }
}

proptest! {
    #[test]
    fn every_bit_of_a_value_stays(bits in prop_oneof![any::<u64>(), Just(STALE), Just(NAN), Just(1 << 63), (0..1_u64 << 51).prop_map(|low| low | 0x7ff0 << 48)]) {
        let value = f64::from_bits(bits);
        prop_assert_eq!(number_of(&value_of(value)).unwrap().to_bits(), bits);
    }

    #[test]
    fn every_point_is_the_same_after_nodes_have_seen_it(point in rich_points()) {
        prop_assert_eq!(Point::try_from(&Value::from(point.clone())).unwrap(), point);
    }
}
