//! `prometheus_kafka_adapter`: the JSON that prometheus-kafka-adapter writes for a sample.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::event::{CodecError, json, rfc3339};

use crate::codec::{Format, absolute, number_text, register};
use crate::point::{Point, text};

const METRIC: &str = "__name__";

/// JSON of prometheus-kafka-adapter: `{"name": ..., "timestamp": ..., "value": "1", "labels": {"__name__": ...}}`.
///
/// Events are points; their labels do not include `__name__`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusKafkaAdapterDecoding {}

/// JSON of prometheus-kafka-adapter: `{"name": ..., "timestamp": ..., "value": "1", "labels": {"__name__": ...}}`.
///
/// Points without a timestamp and native histograms are rejected. A stale marker is written as `NaN`, as the adapter
/// does. Exemplars, metadata and creation times are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusKafkaAdapterEncoding {}

register!(Adapter, "prometheus_kafka_adapter", PrometheusKafkaAdapterDecoding, PrometheusKafkaAdapterEncoding);

#[derive(Debug)]
struct Adapter;

impl Format for Adapter {
    const NAME: &'static str = "prometheus_kafka_adapter";

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        let mut value = json::parse(record)?;
        let invalid = |what: &str| CodecError::new("invalid_prometheus_kafka_adapter", what);
        let fields = value.as_object_mut().ok_or_else(|| invalid("the document is no object"))?;
        let name = fields.get_mut("labels").and_then(Value::as_object_mut).and_then(|labels| labels.remove(METRIC));
        if let Some(name) = name {
            fields.entry("name".into()).or_insert(name);
        }
        if fields.get("timestamp").and_then(text).is_none() {
            return Err(invalid("it has no text `timestamp`"));
        }
        Point::try_from(&value).map(Value::from).map_err(|error| invalid(&error.message))
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        absolute(point, Self::NAME)?;
        let timestamp = point.timestamp.ok_or_else(|| {
            CodecError::new("no_timestamp", "the point has no `timestamp`, and this format cannot do without")
        })?;
        let value = point.value(Self::NAME)?;
        let mut sample = Value::from(Point::new(point.name.clone(), point.labels.clone(), None, value));
        if let Some(fields) = sample.as_object_mut() {
            fields.insert("timestamp".into(), rfc3339(&timestamp)?.into());
            fields.insert("value".into(), number_text(value).into());
            if let Some(labels) = fields.get_mut("labels").and_then(Value::as_object_mut) {
                labels.insert(METRIC.into(), point.name.clone().into());
            }
        }
        json::write(&sample, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{assert_reads_back, decoded, encoded, points, refused};

    #[test]
    fn samples_of_the_adapter_are_read_and_written() {
        let line = r#"{"labels":{"__name__":"up","job":"a \"b\""},"name":"up","timestamp":"2022-08-02T14:12:43Z","value":"0"}"#;
        let point = decoded(Adapter, line);
        assert_eq!(
            point,
            json!({"name": "up", "labels": {"job": "a \"b\""}, "timestamp": "2022-08-02T14:12:43Z", "value": 0.0})
        );
        assert_eq!(encoded(Adapter, point), line);
        assert_eq!(decoded(Adapter, &line.replace("\"0\"", "\"+Inf\""))["value"], "+Inf");
        assert_eq!(decoded(Adapter, &line.replace("\"0\"", "\"NaN\""))["value"], "NaN");
        assert_eq!(decoded(Adapter, &line.replace(r#""name":"up","#, ""))["name"], "up");
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        for (line, code) in [
            ("{", "invalid_json"),
            ("[]", "invalid_prometheus_kafka_adapter"),
            (r#"{"name":"up","value":"0","labels":{}}"#, "invalid_prometheus_kafka_adapter"),
            (r#"{"name":"up","timestamp":"2022-08-02T14:12:43Z","value":"x"}"#, "invalid_prometheus_kafka_adapter"),
            (r#"{"name":"up","timestamp":"now","value":"0"}"#, "invalid_prometheus_kafka_adapter"),
        ] {
            assert_eq!(refused(Adapter, line).code, code, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(point in points()) {
            let mut out = Vec::new();
            match Adapter.write(&point, &mut out) {
                Err(error) => prop_assert!(point.is_incremental || point.timestamp.is_none(), "{error}"),
                Ok(()) => {
                    assert_reads_back(&Adapter, out, &point);
                }
            }
        }
    }
}
