//! A point: one value of a metric at one time, and the event that nodes see of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use vrl::value::{KeyString, ObjectMap, Value};
use weir::event::CodecError;

/// The bits by which Prometheus says that a series has ended ("stale"; `model/value` of Prometheus).
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// The bits of a value that is no number and nothing else (the same place).
pub const NAN: u64 = 0x7ff8_0000_0000_0001;

/// Labels by name, without that of the metric.
pub type Labels = BTreeMap<String, String>;

/// One value of a metric at one time.
#[derive(Debug, Clone)]
pub struct Point {
    /// The metric's name.
    pub name: String,
    /// What tells its series from others of the same metric.
    pub labels: Labels,
    /// When it was measured; none: now, as far as anybody can say.
    pub timestamp: Option<DateTime<Utc>>,
    /// The value. What is no number keeps its bits.
    pub value: f64,
    /// Whether it is added to what was before, instead of taking its place.
    pub is_incremental: bool,
}

impl PartialEq for Point {
    fn eq(&self, other: &Point) -> bool {
        (&self.name, &self.labels, self.timestamp, self.is_incremental)
            == (&other.name, &other.labels, other.timestamp, other.is_incremental)
            && self.value.to_bits() == other.value.to_bits()
    }
}

impl From<Point> for Value {
    /// What nodes see: `name`, `labels`, `timestamp` where there is one, `value`, and `kind: incremental` where it is.
    fn from(point: Point) -> Value {
        let labels = point.labels.into_iter().map(|(name, value)| (KeyString::from(name), Value::from(value)));
        let mut fields = ObjectMap::from([
            ("name".into(), point.name.into()),
            ("labels".into(), Value::Object(labels.collect())),
            ("value".into(), value_of(point.value)),
        ]);
        if let Some(timestamp) = point.timestamp {
            fields.insert("timestamp".into(), Value::Timestamp(timestamp));
        }
        if point.is_incremental {
            fields.insert("kind".into(), "incremental".into());
        }
        Value::Object(fields)
    }
}

impl TryFrom<&Value> for Point {
    type Error = CodecError;

    /// The point that an event is, also where a node has made or changed it; the code of an error is `no_point`.
    fn try_from(value: &Value) -> Result<Point, CodecError> {
        let fields = value.as_object().ok_or_else(|| no_point("it is no object"))?;
        let name = fields.get("name").and_then(text).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| no_point("it has no text `name`"))?;
        let mut labels = Labels::new();
        match fields.get("labels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(all)) => {
                for (name, value) in all {
                    let value = label(value).ok_or_else(|| no_point(format!("its label `{name}` is no text")))?;
                    labels.insert(name.to_string(), value);
                }
            }
            Some(_) => return Err(no_point("its `labels` are no object")),
        }
        let value = fields.get("value").and_then(number_of).ok_or_else(|| no_point("it has no number `value`"))?;
        let timestamp = fields.get("timestamp").filter(|value| !value.is_null());
        let timestamp = timestamp.map(|value| time_of(value).ok_or_else(|| no_point("its `timestamp` is no time")));
        let is_incremental = match fields.get("kind").and_then(text).as_deref() {
            None | Some("absolute") => false,
            Some("incremental") => true,
            Some(_) => return Err(no_point("its `kind` is neither `absolute` nor `incremental`")),
        };
        Ok(Point { name, labels, timestamp: timestamp.transpose()?, value, is_incremental })
    }
}

fn no_point(why: impl std::fmt::Display) -> CodecError {
    CodecError::new("no_point", format!("the event is no point of a metric: {why}"))
}

/// The text that a value is.
pub(crate) fn text(value: &Value) -> Option<String> {
    let text = matches!(value, Value::Bytes(_) | Value::String(_)).then(|| value.coerce_to_bytes())?;
    Some(std::str::from_utf8(&text).ok()?.to_owned())
}

/// A label's value: what a node may have put there in place of a text is written as one.
fn label(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(_) | Value::String(_) => text(value),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(is) => Some(is.to_string()),
        _ => None,
    }
}

fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Timestamp(at) => Some(*at),
        Value::Integer(millis) => DateTime::from_timestamp_millis(*millis),
        Value::Bytes(_) | Value::String(_) => Some(DateTime::parse_from_rfc3339(&text(value)?).ok()?.to_utc()),
        _ => None,
    }
}

/// A value as nodes see it: what JSON has no number for is a text, so that nothing is lost of it.
pub(crate) fn value_of(value: f64) -> Value {
    match value.to_bits() {
        _ if value.is_finite() => Value::from_f64_or_zero(value),
        STALE => "stale".into(),
        NAN => "NaN".into(),
        bits if value.is_nan() => format!("NaN:{bits:016x}").into(),
        _ if value > 0.0 => "+Inf".into(),
        _ => "-Inf".into(),
    }
}

/// The other way round; texts that are numbers are read, too.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(number.into_inner()),
        #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
        Value::Integer(number) => Some(*number as f64),
        Value::Bytes(_) | Value::String(_) => number(&text(value)?),
        _ => None,
    }
}

/// A number as text: also `stale`, and `NaN:` with its bits in hex.
pub(crate) fn number(text: &str) -> Option<f64> {
    if let Some(bits) = text.strip_prefix("NaN:") {
        let number = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
        return Some(number).filter(|number| number.is_nan());
    }
    match text {
        "stale" => Some(f64::from_bits(STALE)),
        _ if text.eq_ignore_ascii_case("nan") => Some(f64::from_bits(NAN)),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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
            (json!({"name": "up", "value": "NaN:3ff0000000000000"}), "it has no number `value`"),
            (json!({"name": "up", "value": 1, "labels": []}), "its `labels` are no object"),
            (json!({"name": "up", "value": 1, "labels": {"a": [1]}}), "its label `a` is no text"),
            (json!({"name": "up", "value": 1, "timestamp": "soon"}), "its `timestamp` is no time"),
            (json!({"name": "up", "value": 1, "kind": "other"}), "its `kind` is neither"),
        ] {
            let error = Point::try_from(&Value::from(wrong)).unwrap_err();
            assert!(error.code == "no_point" && error.message.contains(why), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn every_bit_of_a_value_stays(bits in prop_oneof![any::<u64>(), Just(STALE), Just(NAN), (0..1_u64 << 51).prop_map(|low| low | 0x7ff0 << 48)]) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(number_of(&value_of(value)).unwrap().to_bits(), bits);
        }
    }
}
