//! What a sample says of an alert; pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vrl::value::Value;
use weir::component::Row;
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::script::Expression;

/// The metric of alerts that are pending or fire (Prometheus, `rules/alerting.go`).
const ALERTS: &[u8] = b"ALERTS";
/// The metric that says since when an alert's condition holds.
const FOR_STATE: &[u8] = b"ALERTS_FOR_STATE";
/// Extracts name, labels, time and value of an alert's point, and only the time of any other point.
const FIELDS: &str = r#"if .name == "ALERTS" || .name == "ALERTS_FOR_STATE" { [.name, .labels, .timestamp, .value] } else { .timestamp }"#;
/// The label that tells pending from firing.
const STATE: &str = "alertstate";

/// What a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Sample {
    /// The alert fires, with this value.
    Firing(f64),
    /// It does not fire any more.
    Ended,
    /// Its condition holds, but not for long enough.
    Pending,
    /// Its condition holds since then, in milliseconds since the epoch.
    Since(i64),
}

impl Sample {
    /// As a row of a transform has it.
    fn into_values(self) -> Vec<Value> {
        match self {
            Sample::Firing(value) => vec!["firing".into(), Value::from_f64_or_zero(value)],
            Sample::Ended => vec!["ended".into()],
            Sample::Pending => vec!["pending".into()],
            Sample::Since(since) => vec!["since".into(), since.into()],
        }
    }

    /// From a row.
    pub fn of(row: &Row) -> Option<Sample> {
        Some(match (row.values.first()?.to_str()?, row.values.get(1)) {
            ("firing", Some(Value::Float(value))) => Sample::Firing(value.into_inner()),
            ("ended", _) => Sample::Ended,
            ("pending", _) => Sample::Pending,
            ("since", Some(Value::Integer(since))) => Sample::Since(*since),
            _ => return None,
        })
    }
}

/// Reads points.
pub(crate) struct Reader(Expression);

impl Reader {
    /// None: VRL cannot be had.
    pub fn new() -> Option<Reader> {
        Expression::compile(FIELDS).ok().map(|(expression, _)| Reader(expression))
    }

    /// The row of a sample of an alert: its labels but for the state as key, its time, and what it says. Of any other point
    /// the time alone; `Filter`: it has none.
    pub fn read(&mut self, event: &Event, origin: &OriginId) -> Result<Row, Verdict> {
        let fields = match self.0.value(event, origin)? {
            Value::Array(fields) => fields,
            timestamp => return Timestamp::of(&timestamp).map(Row::only_time).ok_or(Verdict::Filter),
        };
        let [name, labels, timestamp, value] = &fields[..] else { return Err(Verdict::Filter) };
        let is_for_state = match name.as_bytes().map(|name| &name[..]) {
            Some(ALERTS) => false,
            Some(FOR_STATE) => true,
            _ => return Err(Verdict::Filter),
        };
        let mut labels = labels_of(labels, &self.0)?;
        let state = labels.remove(STATE);
        let number = number_of(value).ok_or_else(|| no_point("it has no number `value`"))?;
        let is_over = number.is_nan() || number == 0.0;
        let time = match timestamp {
            Value::Null => event.time,
            timestamp => Timestamp::of(timestamp)
                .filter(|time| time.is_rfc3339())
                .ok_or_else(|| no_point("its `timestamp` is no time of the years 0000 to 9999"))?,
        };
        let sample = match (is_for_state, state.as_deref(), is_over) {
            (true, _, false) => Sample::Since(millis(number).ok_or_else(|| no_point("its `value` is no time"))?),
            (false, Some("firing"), false) => Sample::Firing(number),
            (false, Some("firing"), true) => Sample::Ended,
            (false, Some("pending"), false) => Sample::Pending,
            _ => return Ok(Row::only_time(time)),
        };
        let key = serde_json::to_vec(&labels).map_err(|_| no_point("its `labels` cannot be written"))?;
        Ok(Row { key, time, values: sample.into_values(), ..Row::default() })
    }
}

fn no_point(why: impl std::fmt::Display) -> Verdict {
    Verdict::Reject { code: "no_point", message: format!("the event is no point of a metric: {why}") }
}

/// Labels; numbers and booleans that a node may have put there are texts.
fn labels_of(value: &Value, reader: &Expression) -> Result<BTreeMap<String, String>, Verdict> {
    let Value::Object(all) = value else {
        return if value.is_null() { Ok(BTreeMap::new()) } else { Err(no_point("its `labels` are no object")) };
    };
    let mut labels = BTreeMap::new();
    for (name, value) in all {
        let text = match value {
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(_) => {
                let mut digits = Vec::new();
                reader.write(value, &mut digits)?;
                String::from_utf8(digits).ok()
            }
            Value::Boolean(is) => Some(is.to_string()),
            value => value.to_str().map(str::to_owned),
        };
        labels.insert(name.to_string(), text.ok_or_else(|| no_point(format!("its label `{name}` is no text")))?);
    }
    Ok(labels)
}

/// A point's value; what ends a series is no number.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(number.into_inner()),
        #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
        Value::Integer(number) => Some(*number as f64),
        value => match value.to_str()? {
            "stale" => Some(f64::NAN),
            text if text.starts_with("NaN:") => Some(f64::NAN),
            text => text.parse().ok(),
        },
    }
}

/// A time in seconds since the epoch, as milliseconds.
fn millis(number: f64) -> Option<i64> {
    (number.abs() < 1e12).then_some((number * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use weir::event::{Body, Codec, OriginKind, Position};

    use super::*;

    fn read(body: Json) -> Result<Row, Verdict> {
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let body = Body::Raw(body.to_string().into(), Codec::Json);
        Reader::new().unwrap().read(&Event::new(body, Position(0), Timestamp(5)), &origin)
    }

    fn said(name: &str, state: &str, value: Json) -> Option<Sample> {
        let labels = json!({"alertname": "A", "alertstate": state});
        let row = read(json!({"name": name, "labels": labels, "value": value})).ok();
        row.filter(|row| !row.is_time_only).and_then(|row| Sample::of(&row))
    }

    #[test]
    fn alerts_are_told_by_their_name_and_state() {
        assert_eq!(said("ALERTS", "firing", json!(1)), Some(Sample::Firing(1.0)));
        assert_eq!(said("ALERTS", "firing", json!("+Inf")), Some(Sample::Firing(f64::INFINITY)));
        for end in [json!("stale"), json!("NaN"), json!("NaN:7ff0000000000003"), json!(0)] {
            assert_eq!(said("ALERTS", "firing", end.clone()), Some(Sample::Ended), "{end}");
            assert_eq!(said("ALERTS", "pending", end), None);
        }
        assert_eq!(said("ALERTS", "pending", json!(1)), Some(Sample::Pending));
        assert_eq!(said("ALERTS_FOR_STATE", "", json!(1_700_000_000)), Some(Sample::Since(1_700_000_000_000)));
        // A name or a label that holds the word is none.
        for other in ["ALERTS_TOTAL", "MY_ALERTS", "alerts", "ALERTSx", "ALERTMANAGER_ALERTS"] {
            assert_eq!(said(other, "firing", json!(1)), None, "{other}");
        }
        assert_eq!(said("ALERTS", "inactive", json!(1)), None);
        assert!(matches!(read(json!({"log": "ALERTS alertstate=\"firing\""})), Err(Verdict::Filter)));
        assert!(matches!(read(json!({"name": "up", "timestamp": "soon"})), Err(Verdict::Filter)));
    }

    #[test]
    fn a_sample_of_another_series_only_says_what_time_it_is() {
        for (name, state) in [("up", "firing"), ("ALERTS", "inactive")] {
            let labels = json!({"alertstate": state});
            let row = read(json!({"name": name, "labels": labels, "value": 1, "timestamp": 7_000})).unwrap();
            assert!(row.is_time_only && row.time == Timestamp(7_000_000), "{name}: {row:?}");
        }
    }

    #[test]
    fn an_alert_s_key_are_its_labels_but_for_the_state() {
        let row = |labels: Json| {
            read(json!({"name": "ALERTS", "labels": labels, "value": 1, "timestamp": 1_700_000_000_123_i64}))
        };
        let firing = row(json!({"b": "x y", "alertstate": "firing", "a": 1})).unwrap();
        let pending = row(json!({"alertstate": "pending", "a": "1", "b": "x y"})).unwrap();
        assert_eq!(String::from_utf8(firing.key.clone()).unwrap(), r#"{"a":"1","b":"x y"}"#);
        assert_eq!((firing.key, firing.time), (pending.key, Timestamp(1_700_000_000_123)));
    }

    #[test]
    fn what_is_no_point_is_rejected_with_its_reason() {
        let labels = json!({"alertstate": "firing"});
        for (point, why) in [
            (json!({"name": "ALERTS", "labels": [1], "value": 1}), "`labels` are no object"),
            (json!({"name": "ALERTS", "labels": {"a": {}}, "value": 1}), "label `a` is no text"),
            (json!({"name": "ALERTS", "labels": labels}), "no number `value`"),
            (json!({"name": "ALERTS", "labels": labels, "value": "much"}), "no number `value`"),
            (json!({"name": "ALERTS", "labels": labels, "value": 1, "timestamp": "soon"}), "is no time"),
            (json!({"name": "ALERTS_FOR_STATE", "labels": labels, "value": 1e300}), "is no time"),
        ] {
            match read(point.clone()) {
                Err(Verdict::Reject { code: "no_point", message }) => assert!(message.contains(why), "{message}"),
                other => panic!("{point}: {other:?}"),
            }
        }
    }
}
