//! The shared kit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use serde_json::{Value, json};
use weir::component::{SinkConfig, conformance};
use weir::event::{Body, Codec};
use weir_elasticsearch as _;

#[allow(dead_code, missing_docs, reason = "a kit for several tests")]
#[path = "../../../tests/src/bulk.rs"]
mod bulk;

use bulk::{BulkServer, Play};

fn raw(body: Value) -> Body {
    Body::Raw(body.to_string().into(), Codec::Json)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_sink_must() {
    let documents: Vec<Body> = (0..25).map(|n| raw(json!({"n": n, "key": n % 7}))).collect();
    let server = BulkServer::start();
    for options in [
        json!({}),
        json!({"batch": {"max_events": 7}, "compression": "gzip", "request": {"concurrency": 3}}),
        json!({"id": "none", "index": "logs-%Y.%m.%d"}),
        json!({"id": "{{ .key }}", "action": "upsert", "batch": {"max_events": 40}}),
        json!({"data_stream": true}),
    ] {
        let mut all = json!({"type": "elasticsearch", "endpoints": [server.url()], "index": "logs"});
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let config: Box<dyn SinkConfig> = serde_json::from_value(all).unwrap();
        conformance::sink(&*config, &documents, Some(raw(json!([1])))).await;
        // This one the server refuses.
        conformance::sink(&*config, &documents, Some(raw(json!({"poison": true, "key": 99})))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_so_with_a_server_that_fails_now_and_then() {
    let documents: Vec<Body> = (0..10).map(|n| raw(json!({"n": n, "key": n % 3}))).collect();
    let mut number = 0;
    let server = BulkServer::play(move |items| {
        number += 1;
        match number % 10 {
            3 => Play::Items(items.iter().enumerate().map(|(at, _)| if at % 5 == 0 { 429 } else { 0 }).collect()),
            6 => Play::Half,
            _ => Play::Right,
        }
    });
    let options =
        json!({"type": "elasticsearch", "endpoints": [server.url()], "index": "logs", "batch": {"max_events": 500}});
    let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
    conformance::sink(&*config, &documents, Some(raw(json!("text")))).await;
}
