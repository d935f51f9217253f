//! `points_json`: points as nodes see them, as JSON.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{ObjectMap, Value};
use weir::event::{CodecError, json};

use crate::codec::{Format, exact_json, register};
use crate::point::Point;

/// Points as JSON: `{"name": "up", "labels": {"job": "api"}, "timestamp": 1700000000000, "value": 1}`.
///
/// The timestamp is in milliseconds, or RFC 3339 text. Values that are not JSON numbers are texts: `NaN`, `+Inf`,
/// `-Inf`, `stale`, or `NaN:` with the bits in hexadecimal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointsJsonDecoding {}

/// Points as JSON, without loss: `{"name": "up", "labels": {"job": "api"}, "timestamp": 1700000000000, "value": 1}`.
///
/// The timestamp is in milliseconds; one with more digits is RFC 3339 text. Native histograms, exemplars, metadata and
/// creation times are included.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointsJsonEncoding {}

register!(PointsJson, "points_json", PointsJsonDecoding, PointsJsonEncoding);

#[derive(Debug)]
struct PointsJson;

impl Format for PointsJson {
    const NAME: &'static str = "points_json";

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        Ok(Point::try_from(&exact_json(record)?)?.into())
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut value = Value::from(point.clone());
        if let Some(fields) = value.as_object_mut() {
            in_millis(fields);
            let exemplars = fields.get_mut("exemplars").and_then(Value::as_array_mut);
            for exemplar in exemplars.into_iter().flatten() {
                if let Some(fields) = exemplar.as_object_mut() {
                    in_millis(fields);
                }
            }
        }
        json::write(&value, out)
    }
}

/// Times as milliseconds, where those say them.
fn in_millis(fields: &mut ObjectMap) {
    for name in ["timestamp", "created_timestamp"] {
        if let Some(Value::Timestamp(at)) = fields.get(name)
            && at.timestamp_subsec_nanos() % 1_000_000 == 0
        {
            let millis = at.timestamp_millis();
            fields.insert(name.into(), Value::Integer(millis));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use weir::event::{Body, Codec, Encoding, Event, Position, Timestamp};

    use crate::testing::{decoded, encoded, refused, rich_points};

    #[test]
    fn labels_keep_the_digits_of_numbers() {
        let line = r#"{"name":"up","labels":{"id":18446744073709551615,"x":0.1000000000000000055},"value":1}"#;
        let point = decoded(PointsJson, line);
        assert_eq!(point["labels"], json!({"id": "18446744073709551615", "x": "0.1000000000000000055"}));
        let event = Event::new(Body::Raw(line.into(), Codec::Edited), Position(0), Timestamp(0));
        let labels = crate::exporter::point(&event).unwrap().labels;
        assert_eq!(labels["id"], "18446744073709551615");
        let (mut key, mut out) = (Vec::new(), Vec::new());
        let encoding = Encoding::Other(std::sync::Arc::new(crate::codec::PointCodec(PointsJson)));
        encoding.encode_with_subject(&event.body, "", &mut out, &mut key).unwrap();
        assert_eq!(key, br#"up{id="18446744073709551615",x="0.1000000000000000055"}"#);
    }

    #[test]
    fn points_are_read_and_written() {
        let line = r#"{"labels":{"job":"a"},"name":"up","timestamp":1700000000123,"value":"stale"}"#;
        let point = decoded(PointsJson, line);
        assert_eq!(point["timestamp"], "2023-11-14T22:13:20.123Z");
        assert_eq!(encoded(PointsJson, point), line);
        assert_eq!(
            decoded(PointsJson, r#"{"name":"up","value":2}"#),
            json!({"name": "up", "labels": {}, "value": 2.0})
        );
        assert_eq!(refused(PointsJson, "{}").code, "no_point");
        assert_eq!(refused(PointsJson, "{").code, "invalid_json");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(point in rich_points()) {
            let mut out = Vec::new();
            PointsJson.write(&point, &mut out).unwrap();
            prop_assert_eq!(Point::try_from(&PointsJson.read(&out.into()).unwrap()).unwrap(), point);
        }
    }
}
