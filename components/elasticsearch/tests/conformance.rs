//! The shared kit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir::component::{BuildContext, SinkConfig, conformance};
use weir::delivery::{Receipt, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_elasticsearch as _;

#[allow(dead_code, missing_docs, reason = "a kit for several tests")]
#[path = "../../../tests/src/bulk.rs"]
mod bulk;

use bulk::{BulkServer, Play, Refusal};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_for_an_index_that_refuses_documents_and_what_comes_behind_it_does_not() {
    let refusal = Refusal {
        index: "logs-a".to_owned(),
        status: 403,
        kind: "cluster_block_exception",
        reason: "index [logs-a] blocked by: [FORBIDDEN/8/index write (api)];".to_owned(),
    };
    let server = BulkServer::play(move |_| Play::Refuse(refusal.clone()));
    let options = json!({"type": "elasticsearch", "endpoints": [server.url()], "index": "logs-{{ .app }}", "index_wait": "1h",
        "batch": {"timeout_secs": 0.01}});
    let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
    let (context, _rejects) = BuildContext::detached("out");
    let sink = config.build(&context).await.unwrap();
    let settlements = Arc::new(Settlements::default());
    let write = async |number: u64, app: &str| {
        let origin = Arc::new(OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other });
        let events = vec![Event::new(raw(json!({"app": app})), Position(number), Timestamp(1))];
        let receipt = Receipt::new(number, settlements.clone(), None);
        sink.write(Batch { origin, receipt, watermark: Timestamp(1), events }).await;
    };
    let limit = Duration::from_secs(60);
    let until_it_has = async |count: usize| {
        let all = async {
            while server.count() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(limit, all).await.expect("the server gets them");
    };
    write(0, "a").await;
    let flush = tokio::spawn({
        let sink = sink.clone();
        async move { sink.flush().await }
    });
    write(1, "b").await;
    until_it_has(1).await;
    write(2, "b").await;
    until_it_has(2).await;
    assert!(!flush.is_finished(), "what it waits for has not ended");
    server.follow(|_| Play::Right);
    tokio::time::timeout(limit, flush).await.expect("it returns").unwrap();
    until_it_has(3).await;
}
