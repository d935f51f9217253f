//! The `event_filter` transform, and the shared kit.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};
use weir::component::{BuildContext, Output, Transform, TransformConfig, conformance};
use weir::delivery::{Outcome, Receipt};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_kubernetes as _;

fn config(options: Value) -> Box<dyn TransformConfig> {
    let mut node = json!({"type": "event_filter"});
    node.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(node).unwrap()
}

fn raw(text: impl Into<String>) -> Body {
    Body::Raw(text.into().into(), Codec::Json)
}

fn event(reason: &str, kind: &str, event_type: &str) -> Value {
    json!({
        "metadata": {"name": "e"},
        "involvedObject": {"kind": kind, "namespace": "n", "name": "x"},
        "reason": reason,
        "type": event_type,
        "lastTimestamp": "2026-01-01T00:00:00Z"
    })
}

/// The texts that pass, of records at one hour after 2026 began.
fn passing(options: Value, bodies: &[Body]) -> Vec<String> {
    let (context, _rejected) = BuildContext::detached("events");
    let mut batch = Batch {
        origin: Arc::new(OriginId { node: "in".into(), log: "logs".into(), partition: 0, kind: OriginKind::Kafka }),
        receipt: Receipt::detached(),
        watermark: Timestamp(0),
        events: (0..)
            .zip(bodies)
            .map(|(at, body)| Event::new(body.clone(), Position(at), Timestamp(1_767_229_200_000)))
            .collect(),
    };
    let mut output = Output::default();
    let Transform::Stateless(mut process) = config(options).build(&context).unwrap() else { panic!("it has no state") };
    process(&mut batch, &mut output);
    assert!(output.rejected.is_empty(), "{:?}", output.rejected);
    let text = |event: Event| match event.body {
        Body::Raw(bytes, Codec::Json | Codec::Edited) => String::from_utf8(bytes.to_vec()).unwrap(),
        Body::Parsed(value) => serde_json::to_string(&value).unwrap(),
        other => panic!("{other:?}"),
    };
    let passed = std::mem::take(&mut batch.events).into_iter().map(text).collect();
    batch.receipt.resolve(Outcome::Filtered);
    passed
}

#[test]
fn both_shapes_pass_byte_for_byte_and_what_quotes_an_event_does_not() {
    let router = r#"{"verb":"ADDED", "event" : { "reason":"Pulled","involvedObject":{"kind":"Pod"} ,"count":1.0}}"#;
    let collector = r#"{"message":"m","kubernetes":{"namespace_name":"anywhere","event":{"involvedObject":{"kind":"Pod"},"verb":"ADDED","reason":"Pulled"}}}"#;
    let escaped = r#"{"\u0065vent":{"reason":"Pulled","regarding":{"kind":"Pod"}}}"#;
    let bodies = [
        raw(router),
        raw(collector),
        raw(escaped),
        raw(
            r#"{"message":"{\"event\":{\"reason\":\"Pulled\",\"involvedObject\":{}}}","kubernetes":{"container_name":"kube-eventrouter","namespace_name":"openshift-logging"}}"#,
        ),
        raw(r#"{"event":"Pulled"}"#),
        raw(r#"{"event":{"reason":"Pulled"}}"#),
        raw(r#"{"event":{"reason":1,"involvedObject":{}}}"#),
        raw(r#"{"audit":{"event":{"reason":"Pulled","involvedObject":{"kind":"Pod"}}}}"#),
        raw("[1]"),
        Body::Raw("event".into(), Codec::Text),
    ];
    assert_eq!(passing(json!({"tag": ""}), &bodies), [router, collector, escaped]);
}

#[test]
fn presets_go_by_reason_object_and_type_and_are_named_in_the_record() {
    let record = |event: Value| raw(json!({"verb": "ADDED", "event": event}).to_string());
    let bodies = [
        record(event("BackOff", "Pod", "Warning")),
        record(event("BackOff", "Pod", "Normal")),
        record(event("Failed", "Pod", "Warning")),
        record(event("FailedScheduling", "Pod", "Warning")),
        record(event("NodeNotReady", "Node", "Normal")),
        record(event("Anything", "Pod", "Normal")),
    ];
    let tags = |options: Value| -> Vec<(String, Value)> {
        let read = |text: String| {
            let record: Value = serde_json::from_str(&text).unwrap();
            (record["event"]["reason"].as_str().unwrap().to_owned(), record["presets"].clone())
        };
        passing(options, &bodies).into_iter().map(read).collect()
    };
    let of = |reason: &str, presets: Value| (reason.to_owned(), presets);
    assert_eq!(
        tags(json!({"presets": ["crash", "image"]})),
        [of("BackOff", json!(["crash"])), of("BackOff", json!(["image"])), of("Failed", json!(["crash", "image"])),]
    );
    assert_eq!(
        tags(json!({"presets": ["scheduling"], "condition": ".involvedObject.kind == \"Node\""})),
        [of("FailedScheduling", json!(["scheduling"])), of("NodeNotReady", Value::Null)]
    );
    assert_eq!(tags(json!({})).len(), 6);
    assert_eq!(tags(json!({}))[4], of("NodeNotReady", json!(["node_pressure"])));
}

#[test]
fn a_record_that_was_taken_apart_is_the_same() {
    let parsed = |value: Value| Body::Parsed(serde_json::from_value(value).unwrap());
    let bodies = [
        parsed(json!({"kubernetes": {"event": event("NodeReady", "Node", "Normal")}})),
        parsed(json!({"kubernetes": {"pod_name": "p"}})),
    ];
    let passed = passing(json!({"presets": ["node_pressure"], "tag": "why"}), &bodies);
    let record: Value = serde_json::from_str(&passed[0]).unwrap();
    assert_eq!((passed.len(), &record["why"]), (1, &json!(["node_pressure"])));
}

#[test]
fn what_happened_long_before_its_record_may_be_left_out() {
    let mut old = event("BackOff", "Pod", "Warning");
    let young = event("BackOff", "Pod", "Warning");
    old["lastTimestamp"] = json!("2025-12-31T22:59:00Z");
    let bodies = [&old, &young].map(|event| raw(json!({ "event": event }).to_string()));
    assert_eq!(passing(json!({"max_age": "2h", "tag": ""}), &bodies).len(), 1);
    assert_eq!(passing(json!({"max_age": "3h", "tag": ""}), &bodies).len(), 2);
}

#[test]
fn an_event_is_as_old_as_the_newest_of_its_times_by_either_api() {
    let (old, young, unset) = ("2025-12-31T20:00:00Z", "2026-01-01T00:30:00.5+00:00", "0001-01-01T00:00:00Z");
    let core = |fields: Value| {
        let mut event = event("BackOff", "Pod", "Warning");
        event["lastTimestamp"] = Value::Null;
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        event
    };
    let newer = |fields: Value| {
        let mut event = json!({"reason": "BackOff", "type": "Warning", "regarding": {"kind": "Pod"}, "note": "n"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        event
    };
    let cases = [
        (core(json!({"firstTimestamp": old, "lastTimestamp": young})), true),
        (core(json!({"firstTimestamp": young, "lastTimestamp": null, "eventTime": null})), true),
        (core(json!({"lastTimestamp": old, "eventTime": young})), true),
        (core(json!({"eventTime": old, "series": {"count": 7, "lastObservedTime": young}})), true),
        (core(json!({"lastTimestamp": old, "metadata": {"creationTimestamp": young}})), true),
        (core(json!({"firstTimestamp": old, "metadata": {"creationTimestamp": old}, "series": null})), false),
        (core(json!({"lastTimestamp": unset, "eventTime": unset, "metadata": {"creationTimestamp": old}})), false),
        (core(json!({"lastTimestamp": unset, "firstTimestamp": unset})), true),
        (newer(json!({"eventTime": old, "series": {"lastObservedTime": young}})), true),
        (newer(json!({"eventTime": unset, "deprecatedFirstTimestamp": old, "deprecatedLastTimestamp": young})), true),
        (newer(json!({"eventTime": null, "deprecatedLastTimestamp": old})), false),
        (
            newer(
                json!({"eventTime": old, "deprecatedLastTimestamp": unset, "metadata": {"creationTimestamp": young}}),
            ),
            true,
        ),
        (newer(json!({"eventTime": old, "series": {"lastObservedTime": old}})), false),
    ];
    for (event, is_young) in cases {
        let passed = passing(json!({"max_age": "2h", "tag": ""}), &[raw(json!({ "event": event }).to_string())]);
        assert_eq!(!passed.is_empty(), is_young, "{event}");
    }
}

#[test]
fn it_keeps_to_the_shared_rules() {
    let record = |n: usize| json!({"n": n, "event": event(["BackOff", "Pulled"][n % 2], "Pod", "Warning")}).to_string();
    let bodies: Vec<Body> = (0..20).map(|n| raw(record(n))).collect();
    for options in [json!({}), json!({"presets": ["crash"], "condition": ".type == \"Normal\""})] {
        for poison in ["{", "", "{} {}", "{\"event\":{\"reason\":\"\\ud800\"}}"] {
            conformance::transform(&*config(options.clone()), &bodies, Some(raw(poison)));
        }
    }
}
