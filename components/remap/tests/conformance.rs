//! The shared kit.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use weir::component::{TransformConfig, conformance};
use weir::event::{Body, Codec};
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

#[test]
fn a_limit_looks_inside_nothing() {
    let bodies: Vec<Body> = (0..20).map(|n| Body::Raw(format!("{n} {{").into(), Codec::Json)).collect();
    conformance::transform(&*config(json!({ "type": "limit", "count": 7 })), &bodies, None);
}
