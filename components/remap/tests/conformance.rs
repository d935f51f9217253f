//! The shared kit.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::json;
use vrl::value::Value;
use weir::component::{BuildContext, Output, Transform, TransformConfig, conformance};
use weir::delivery::Receipt;
use weir::event::{Batch, Body, Codec, Event, Meta, OriginId, OriginKind, Position, Timestamp};
use weir_remap as _;

fn config(options: serde_json::Value) -> Box<dyn TransformConfig> {
    serde_json::from_value(options).unwrap()
}

#[test]
fn every_transform_over_events() {
    let bodies: Vec<Body> =
        (0..20).map(|n| Body::Raw(json!({ "n": n % 7, "s": "a\"b" }).to_string().into(), Codec::Json)).collect();
    for options in [
        json!({ "type": "filter", "condition": ".n == 3 || .s == \"a\"" }),
        json!({ "type": "filter", "condition": "is_integer(.n)" }),
        json!({ "type": "remap", "source": ".m = .n; del(.s)" }),
        json!({ "type": "remap", "source": ". = {\"all\": .}" }),
        json!({ "type": "dedupe", "key": ".n" }),
        json!({ "type": "dedupe", "key": ".n", "keep": "last" }),
        json!({ "type": "route", "routes": { "three": ".n == 3", "text": "is_string(.s)" } }),
        json!({ "type": "route", "routes": { "three": ".n == 3", "text": "is_string(.s)" }, "match": "all" }),
        json!({ "type": "throttle", "threshold": 2, "window": "1m", "key": ".n" }),
        json!({ "type": "sample", "rate": 3, "key": ".n", "exclude": ".n == 5" }),
    ] {
        for poison in ["{\"n\":1} garbage", "{", "\u{feff}{}", ""] {
            conformance::transform(&*config(options.clone()), &bodies, Some(Body::Raw(poison.into(), Codec::Json)));
        }
    }
}

/// Hands one tombstone, and an event that is `null`, to a transform; gives what passed of both.
fn after(options: serde_json::Value) -> [usize; 2] {
    [false, true].map(|is_null| {
        let (context, _rejected) = BuildContext::detached("node");
        let Ok(Transform::Stateless(mut process)) = config(options.clone()).build(&context) else {
            panic!("stateless")
        };
        let meta = Meta { key: Some("k".into()), is_null, ..Meta::default() };
        let mut event = Event::new(Body::Parsed(Value::Null), Position(0), Timestamp(1));
        event.meta = Some(Box::new(meta));
        let origin = OriginId { node: "in".into(), log: "t".into(), partition: 0, kind: OriginKind::Kafka };
        let (receipt, origin) = (Receipt::new(0, Arc::default(), None), Arc::new(origin));
        let mut batch = Batch { origin, receipt, watermark: Timestamp::MIN, events: vec![event] };
        process(&mut batch, &mut Output::default());
        batch.events.iter().filter(|event| event.is_tombstone()).count()
    })
}

#[test]
fn a_tombstone_passes_unchanged_and_null_is_looked_at() {
    assert_eq!(after(json!({ "type": "filter", "condition": ".n == 1" })), [1, 0]);
    assert_eq!(after(json!({ "type": "remap", "source": ".n = 1" })), [1, 0]);
    assert_eq!(after(json!({ "type": "remap", "source": "abort" })), [1, 0]);
    assert_eq!(after(json!({ "type": "sample", "rate": 1_000_000_000 })), [1, 0]);
}

#[test]
fn a_limit_looks_inside_nothing() {
    let bodies: Vec<Body> = (0..20).map(|n| Body::Raw(format!("{n} {{").into(), Codec::Json)).collect();
    conformance::transform(&*config(json!({ "type": "limit", "count": 7 })), &bodies, None);
}
