//! Points through requests and back, and requests that somebody has damaged.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use vrl::value::Value;
use weir::event::{CodecError, Encoder};

use super::codec::RemoteWrite;
use super::record::{self, open, split};
use super::*;
use crate::codec::PointCodec;
use crate::point::{Measured, Metadata, Point};
use crate::testing::rich_points;

fn codec(version: Version, is_compressed: bool) -> PointCodec<RemoteWrite> {
    PointCodec(RemoteWrite { version, is_compressed, is_free: false })
}

/// What of a point a request can say; none: it refuses the point.
fn sayable(version: Version, mut point: Point) -> Option<Point> {
    if point.is_incremental {
        return None;
    }
    if point.measured == Measured::Nothing {
        point.timestamp = None;
    } else {
        point.timestamp?;
    }
    if version == Version::V1 {
        point.created = None;
        if point.measured == Measured::Nothing && point.exemplars.is_empty() {
            point.labels.clear();
        } else {
            point.metadata = Metadata::default();
        }
    }
    Some(point)
}

fn written(version: Version, point: &Point) -> Option<Bytes> {
    let mut out = Vec::new();
    codec(version, false).encode(&point.clone().into(), "", &mut out).ok().map(|()| out.into())
}

/// What nodes see of a record.
pub(super) fn read(record: &Bytes) -> Result<Value, CodecError> {
    let mut value = Value::Null;
    record::read_into(record, None, &mut value).map(|()| value)
}

fn events(record: &Bytes) -> Vec<Value> {
    let parts = split(record).unwrap_or_else(|| vec![record.clone()]);
    parts.iter().map(|part| read(part).unwrap()).collect()
}

/// The parts of a series, as a message writes them, in the order of the bytes.
struct SeriesV2<'a> {
    references: &'a [u64],
    samples: &'a [(f64, i64, i64)],
    exemplars: &'a [(&'a [u64], f64, i64)],
    created: i64,
}

fn series_v2(out: &mut Vec<u8>, series: &SeriesV2<'_>) {
    put::message(out, 5, |out| {
        put::packed(out, 1, series.references, put::varint);
        for (value, timestamp, start) in series.samples {
            put::message(out, 2, |out| {
                put::double(out, 1, *value);
                put::int(out, 2, *timestamp);
                put::int(out, 3, *start);
            });
        }
        for (references, value, timestamp) in series.exemplars {
            put::message(out, 4, |out| {
                put::packed(out, 1, references, put::varint);
                put::double(out, 2, *value);
                put::int(out, 3, *timestamp);
            });
        }
        put::message(out, 5, |out| {
            put::number(out, 1, 1);
            put::number(out, 3, 5);
        });
        put::int(out, 6, series.created);
    });
}

/// A request of 1.0 with every kind of point.
pub(super) fn request_v1() -> Vec<u8> {
    let mut body = Vec::new();
    put::message(&mut body, 1, |out| {
        for (name, value) in [("__name__", "requests_total"), ("job", "a"), ("text", "a \"b\"\u{1f98e}")] {
            put::message(out, 1, |out| {
                put::text(out, 1, name.as_bytes());
                put::text(out, 2, value.as_bytes());
            });
        }
        for (value, timestamp) in [(1.0, 1000), (f64::from_bits(crate::STALE), 2000)] {
            put::message(out, 2, |out| {
                put::double(out, 1, value);
                put::int(out, 2, timestamp);
            });
        }
        put::message(out, 3, |out| {
            put::message(out, 1, |out| {
                put::text(out, 1, b"trace_id");
                put::text(out, 2, b"abc");
            });
            put::double(out, 2, 0.5);
            put::int(out, 3, 900);
        });
    });
    put::message(&mut body, 1, |out| {
        put::message(out, 1, |out| {
            put::text(out, 1, b"__name__");
            put::text(out, 2, b"latency");
        });
        put::message(out, 4, |out| {
            put::always(out, 1, 10);
            put::double(out, 3, 18.5);
            put::always(out, 6, 2);
            put::message(out, 8, |out| put::number(out, 2, 1));
            put::packed(out, 9, &[3], |out, delta| put::varint(out, put::zigzag(delta)));
            put::message(out, 11, |out| put::number(out, 2, 2));
            put::packed(out, 12, &[2, 1], |out, delta| put::varint(out, put::zigzag(delta)));
            put::int(out, 15, 3000);
        });
    });
    put::message(&mut body, 3, |out| {
        put::number(out, 1, 1);
        put::text(out, 2, b"requests_total");
        put::text(out, 4, b"All requests.");
    });
    body
}

pub(super) fn request_v2() -> Vec<u8> {
    let mut body = Vec::new();
    for symbol in ["", "__name__", "requests_total", "job", "a", "All requests.", "trace_id"] {
        put::bytes(&mut body, 4, symbol.as_bytes());
    }
    // Its labels are in another order than they should be.
    let samples = [(1.0, 1000, 0), (f64::from_bits(crate::STALE), 2000, 500)];
    let exemplars = [(&[6, 4][..], 0.5, 900), (&[6][..], 0.5, 900), (&[6, 99], 1.0, 0)];
    series_v2(
        &mut body,
        &SeriesV2 { references: &[3, 4, 1, 2], samples: &samples, exemplars: &exemplars, created: 400 },
    );
    series_v2(&mut body, &SeriesV2 { references: &[1, 2], samples: &[], exemplars: &[(&[6, 4], 2.0, 0)], created: 0 });
    series_v2(&mut body, &SeriesV2 { references: &[1, 99], samples: &samples[..1], exemplars: &[], created: 0 });
    body
}

#[test]
fn a_series_with_several_points_is_as_many_events_and_each_has_all_it_needs() {
    let parts = split(&request_v2().into()).unwrap();
    let events: Vec<_> =
        parts.iter().map(|part| read(part).map(|value| serde_json::to_value(value).unwrap())).collect();
    let labels = json!({"job": "a"});
    let first = json!({"name": "requests_total", "labels": labels, "type": "counter", "help": "All requests.",
        "timestamp": "1970-01-01T00:00:01Z", "created_timestamp": "1970-01-01T00:00:00.400Z", "value": 1.0});
    assert_eq!(events[0].as_ref().unwrap(), &first);
    let exemplar = json!({"labels": {"trace_id": "a"}, "value": 0.5, "timestamp": "1970-01-01T00:00:00.900Z"});
    // References that are no pairs, or lead nowhere, make none.
    let second = json!({"name": "requests_total", "labels": labels, "type": "counter", "help": "All requests.",
        "timestamp": "1970-01-01T00:00:02Z", "created_timestamp": "1970-01-01T00:00:00.500Z", "value": "stale",
        "exemplars": [exemplar]});
    assert_eq!(events[1].as_ref().unwrap(), &second);
    let alone = json!({"name": "requests_total", "labels": {}, "type": "counter", "help": "All requests.",
        "exemplars": [{"labels": {"trace_id": "a"}, "value": 2.0}]});
    assert_eq!(events[2].as_ref().unwrap(), &alone);
    let error = events[3].as_ref().unwrap_err();
    assert!(error.code == "invalid_remote_write" && error.message.contains("it refers to symbol"), "{error:?}");
    assert_eq!(events.len(), 4);
}

#[test]
fn metadata_of_version_1_is_an_event_of_its_own() {
    let mut body = Vec::new();
    put::message(&mut body, 3, |out| {
        put::number(out, 1, 2);
        put::text(out, 2, b"up");
        put::text(out, 4, b"It is.");
        put::text(out, 5, b"bits");
    });
    let body = Bytes::from(body);
    assert_eq!(split(&body), None);
    let event = serde_json::to_value(read(&body).unwrap()).unwrap();
    assert_eq!(event, json!({"name": "up", "type": "gauge", "help": "It is.", "unit": "bits"}));
}

#[test]
fn what_is_no_point_of_a_request_is_refused() {
    let point = |more: serde_json::Value| {
        let mut event = json!({"name": "up", "labels": {"a": "b"}, "timestamp": 1, "value": 1});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        codec(Version::V2, false).encode(&Value::from(event), "", &mut Vec::new()).map_err(|error| error.code)
    };
    assert_eq!(point(json!({})), Ok(()));
    assert_eq!(point(json!({"type": "untyped"})), Ok(()));
    assert_eq!(point(json!({"timestamp": null})), Err("no_timestamp"));
    assert_eq!(point(json!({"kind": "incremental"})), Err("unsupported_value"));
    assert_eq!(point(json!({"type": "number"})), Err("unsupported_value"));
    assert_eq!(point(json!({"labels": {"__name__": "down"}})), Err("unsupported_value"));
    assert_eq!(point(json!({"labels": {"": "b"}})), Err("unsupported_value"));
    assert_eq!(point(json!({"value": null})), Err("no_point"));

    for (record, why) in [
        (&b""[..], "it has no series"),
        (b"\x0a\x00\x22\x00", "it mixes the fields"),
        (b"\x0a\x00\x08\x01", "a field has the wrong type"),
        (b"\x08\x01", "it is neither a request nor a snappy block"),
        (b"\x0a\x00", "it has no name"),
        (b"\x22\x00", "it has no series"),
        (b"{\"name\":\"up\"}", "it is neither"),
    ] {
        let error = read(&Bytes::from_static(record)).unwrap_err();
        assert!(error.code == "invalid_remote_write" && error.message.contains(why), "{record:?}: {error:?}");
    }
}

#[test]
fn a_record_is_kept_unless_it_is_to_look_otherwise() {
    let free = PointCodec(RemoteWrite { version: Version::V2, is_compressed: false, is_free: true });
    assert!(free.keeps(&free) && !codec(Version::V2, false).keeps(&free));
}

#[test]
fn a_request_that_breaks_off_anywhere_does_no_harm() {
    let body = request_v2();
    for end in 0..body.len() {
        let cut = Bytes::copy_from_slice(&body[..end]);
        let _either = (admit(Version::V2, &cut, &Limits::default()), read(&cut));
        for part in split(&cut).unwrap_or_default() {
            let _either = read(&part);
        }
    }
}

#[test]
fn repeats_without_end_are_no_memory_without_end() {
    // A series, a sample and a symbol of two bytes each, as often as a large request has room.
    let many = |prefix: &[u8], repeated: &[u8]| {
        let mut body = prefix.to_vec();
        (0..8 << 20).for_each(|_| body.extend_from_slice(repeated));
        Bytes::from(body)
    };
    for body in
        [many(b"", b"\x0a\x00"), many(b"\x0a\x80\x80\x80\x08", b"\x12\x00"), many(b"\x0a\x80\x80\x80\x08", b"\x0a\x00")]
    {
        let admitted = admit(Version::V1, &body, &Limits::default());
        match admitted {
            Err(refusal) => assert!(matches!(refusal, Refusal::TooLarge(_)), "{refusal}"),
            Ok(admitted) => {
                assert!(admitted.record.is_none() && admitted.refused.unwrap().contains("labels, at most 256"))
            }
        }
        assert!(split(&body).is_none_or(|parts| parts.len() == 1));
    }
    let symbols = admit(Version::V2, &many(b"", b"\x22\x00"), &Limits::default());
    assert!(matches!(symbols, Err(Refusal::TooLarge(_))));
    // A histogram of as many buckets: it costs as much as it says, and no more.
    let mut body = Vec::new();
    put::message(&mut body, 1, |out| {
        put::message(out, 1, |out| {
            put::bytes(out, 1, b"__name__");
            put::bytes(out, 2, b"h");
        });
        put::message(out, 4, |out| put::bytes(out, 12, &vec![2; 4 << 20]));
    });
    let refused = admit(Version::V1, &body.into(), &Limits::default()).unwrap().refused.unwrap();
    assert!(refused.contains("more than 16384 buckets"), "{refused}");
}

/// Damage: bytes that become others, go, or come in addition.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 0..4)
}

fn damaged(mut body: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Bytes {
    for (at, how, byte) in damage {
        if body.is_empty() {
            break;
        }
        let at = at.index(body.len());
        match how {
            0 => body[at] = *byte,
            1 => drop(body.remove(at)),
            2 => body.insert(at, *byte),
            _ => body.truncate(at),
        }
    }
    body.into()
}

/// Whatever is taken of a request can be taken apart, and each part be read; and nothing more is in it.
pub(super) fn assert_taken_is_read(version: Version, body: &Bytes) {
    let Ok(taken) = admit(version, body, &Limits::default()) else { return };
    let Some(record) = taken.record else { return };
    let events = events(&record);
    let has = |field: &str| events.iter().filter(|event| event.as_object().unwrap().contains_key(field)).count();
    let exemplars = events.iter().filter_map(|event| event.as_object()?.get("exemplars")?.as_array());
    let exemplars: usize = exemplars.map(<[Value]>::len).sum();
    assert_eq!((has("value"), has("histogram"), exemplars), (taken.samples, taken.histograms, taken.exemplars));
}

proptest! {
    #[test]
    fn every_point_comes_back(point in rich_points(), compressed in any::<bool>(), one in any::<bool>()) {
        let version = if one { Version::V1 } else { Version::V2 };
        let mut out = Vec::new();
        let result = codec(version, compressed).encode(&point.clone().into(), "", &mut out);
        match sayable(version, point) {
            None => prop_assert!(result.is_err()),
            Some(point) => {
                result.unwrap();
                let record = Bytes::from(out);
                let opened = open(&record, |body, outline| Ok((outline.version, *body == record)));
                prop_assert_eq!(opened, Ok((version, !compressed)));
                prop_assert_eq!(split(&record), None, "it is one event");
                let value = read(&record).unwrap();
                prop_assert_eq!(&Point::try_from(&value).unwrap(), &point);
                if point.measured != Measured::Nothing {
                    prop_assert_eq!(value, Value::from(point));
                }
            }
        }
    }

    #[test]
    fn nothing_of_a_point_shows_in_the_next_and_what_nobody_wants_is_not_there(
        points in prop::collection::vec(rich_points(), 1..6), one in any::<bool>()
    ) {
        let version = if one { Version::V1 } else { Version::V2 };
        let (mut all, mut some) = (Value::Null, Value::Null);
        let wanted = ["labels", "type"].map(str::to_owned);
        for record in points.iter().filter_map(|point| written(version, point)) {
            let alone = read(&record).unwrap();
            // Also such as have the labels of the one before.
            for _ in 0..2 {
                record::read_into(&record, None, &mut all).unwrap();
                prop_assert_eq!(&all, &alone);
                record::read_into(&record, Some(&wanted), &mut some).unwrap();
                let mut expected = alone.as_object().unwrap().clone();
                expected.retain(|name, _| wanted.contains(&name.to_string()));
                prop_assert_eq!(&some, &Value::Object(expected));
            }
        }
    }

    #[test]
    fn requests_of_version_1_are_parts_that_stay_where_they_are(points in prop::collection::vec(rich_points(), 0..5)) {
        let sayable: Vec<Point> = points.into_iter().filter_map(|point| sayable(Version::V1, point)).collect();
        let records: Vec<Bytes> = sayable.iter().map(|point| written(Version::V1, point).unwrap()).collect();
        let body = Bytes::from(records.concat());
        if records.len() != 1 {
            prop_assert_eq!(split(&body).unwrap_or_default(), records);
        }
        if !body.is_empty() {
            let read: Vec<Point> = events(&body).iter().map(|event| Point::try_from(event).unwrap()).collect();
            prop_assert_eq!(read, sayable);
        }
        let block = Bytes::from(snap::raw::Encoder::new().compress_vec(&body).unwrap());
        prop_assert_eq!(split(&block).is_some(), !body.is_empty() && split(&body).is_some());
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        points in prop::collection::vec(rich_points(), 1..4), damage in damage(), one in any::<bool>()
    ) {
        let version = if one { Version::V1 } else { Version::V2 };
        let mut body = Vec::new();
        if one {
            points.iter().filter_map(|point| written(version, point)).for_each(|record| body.extend_from_slice(&record));
        } else {
            body = request_v2();
            body.extend_from_slice(&points.iter().find_map(|point| written(version, point)).unwrap_or_default());
        }
        let body = damaged(body, &damage);
        assert_taken_is_read(version, &body);
        for part in split(&body).unwrap_or_else(|| vec![body]) {
            let _either = read(&part);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), limit in 0..4096_usize) {
        if let Ok(out) = decompress(&body, limit) {
            prop_assert!(out.len() <= limit);
        }
        let body = Bytes::from(body);
        for version in [Version::V1, Version::V2] {
            assert_taken_is_read(version, &body);
        }
        let _either = (read(&body), split(&body));
    }
}
