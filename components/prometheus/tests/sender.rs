//! The sink `prometheus_remote_write` against a peer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir::component::{BuildContext, Problems, SinkConfig, conformance};
use weir::delivery::{Outcome, Receipt, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_prometheus::remote_write::{decoder, decompress};

/// A status, headers, and a text.
type Says = (u16, Vec<(&'static str, &'static str)>, &'static str);

/// A peer that gives these answers in turn, then 204.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    answers: VecDeque<Says>,
    seen: Vec<(HeaderMap, Vec<Value>, Instant)>,
    bodies: Vec<Bytes>,
}

impl Peer {
    fn new(answers: &[Says]) -> Peer {
        let peer = Peer::default();
        peer.log().answers.extend(answers.iter().cloned());
        peer
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    /// What came in each request: name and value of each point.
    fn points(&self) -> Vec<Vec<String>> {
        let name = |event: &Value| format!("{}={}", event["name"].as_str().unwrap(), event["value"]);
        self.log().seen.iter().map(|(_, events, _)| events.iter().map(name).collect()).collect()
    }

    fn serve(&self, listener: TcpListener) {
        let answer = async |State(peer): State<Peer>, headers: HeaderMap, body: Bytes| {
            let body = decompress(&body, 1 << 20).unwrap();
            let parts = decoder().split(&body).unwrap_or_else(|| vec![body.clone()]);
            let read = |part| serde_json::to_value(decoder().decode(part).unwrap()).unwrap();
            let mut log = peer.log();
            log.bodies.push(body);
            log.seen.push((headers, parts.iter().map(read).collect(), Instant::now()));
            let (status, names, text) = log.answers.pop_front().unwrap_or((204, vec![], ""));
            let mut headers = HeaderMap::new();
            for (name, value) in names {
                headers.insert(name, value.parse().unwrap());
            }
            (StatusCode::from_u16(status).unwrap(), headers, text)
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    }

    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/api/v1/write?token=SECRET", listener.local_addr().unwrap());
        self.serve(listener);
        address
    }
}

fn config(endpoint: &str, more: &Value) -> Box<dyn SinkConfig> {
    let mut all = json!({"type": "prometheus_remote_write", "endpoint": endpoint, "batch": {"timeout_secs": 0.01, "max_events": 3}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: Box<dyn SinkConfig> = serde_json::from_value(all).unwrap();
    assert!(!format!("{config:?}").contains("SECRET"), "its address is not shown");
    config
}

fn point(name: &str, value: usize) -> Value {
    json!({"name": name, "labels": {"job": "a"}, "value": value, "timestamp": 1_700_000_000_000_i64 + value as i64, "type": "gauge"})
}

/// Sends events in one batch; gives how it ended, and what was rejected.
async fn send(endpoint: &str, more: Value, events: &[Value]) -> (Outcome, Vec<(String, &'static str, String)>) {
    let (context, mut rejected) = BuildContext::detached("sender");
    let sink = config(endpoint, &more).build(&context).await.unwrap();
    let settlements = Arc::new(Settlements::default());
    let event = |(at, body): (usize, &Value)| {
        Event::new(Body::Raw(body.to_string().into(), Codec::Json), Position(at as u64), Timestamp(1))
    };
    let batch = Batch {
        origin: Arc::new(OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other }),
        receipt: Receipt::new(0, settlements.clone(), None),
        watermark: Timestamp(1),
        events: events.iter().enumerate().map(event).collect(),
    };
    sink.write(batch).await;
    sink.flush().await;
    let mut all = Vec::new();
    while let Ok(batch) = rejected.try_recv() {
        let name = |event: &Event| serde_json::from_slice::<Value>(&event.body.to_bytes()).unwrap()["name"].to_string();
        all.extend(batch.rejected.into_iter().map(|one| (name(&one.event), one.code, one.message)));
        batch.receipt.resolve(Outcome::DeadLettered);
    }
    (settlements.take()[0].outcome, all)
}

#[tokio::test]
async fn points_are_sent_in_order_and_again_until_they_are_taken() {
    for version in [1, 2] {
        let written = ("x-prometheus-remote-write-samples-written", "3");
        let peer = Peer::new(&[(500, vec![], "later"), (204, vec![written], ""), (204, vec![written], "")]);
        let events: Vec<Value> = (0..5).map(|at| point("up", at)).collect();
        let more = json!({"version": version, "headers": {"X-Scope-OrgID": "team"},
            "auth": {"strategy": "basic", "username": "u", "password": "p"}});
        assert_eq!(send(&peer.listen().await, more, &events).await, (Outcome::Delivered, vec![]));
        let first = ["up=0.0", "up=1.0", "up=2.0"];
        assert_eq!(peer.points(), [&first[..], &first, &["up=3.0", "up=4.0"]]);
        let log = peer.log();
        let (headers, events, _) = &log.seen[0];
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!((header("content-encoding"), header("x-scope-orgid")), ("snappy".to_owned(), "team".to_owned()));
        assert_eq!(header("authorization"), "Basic dTpw");
        assert!(header("user-agent").starts_with("weir/"), "{headers:?}");
        let (content_type, said, kind) = match version {
            1 => ("application/x-protobuf", "0.1.0", &Value::Null),
            _ => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0", &json!("gauge")),
        };
        assert_eq!(header("content-type"), content_type);
        assert_eq!((header("x-prometheus-remote-write-version"), &events[0]["type"]), (said.to_owned(), kind));
        assert_eq!(events[2]["timestamp"], "2023-11-14T22:13:20.002Z");
    }
}

#[tokio::test]
async fn what_is_sent_has_its_labels_in_order_and_none_of_them_is_empty() {
    for version in [1, 2] {
        let peer = Peer::new(&[(204, vec![("x-prometheus-remote-write-samples-written", "2")], "")]);
        let labels = json!({"b": "same", "a": "same", "_": "", "Z": "c"});
        let event = |at: i64| json!({"name": "up", "labels": labels, "value": at, "timestamp": at, "type": "gauge", "help": "same"});
        let sent = send(&peer.listen().await, json!({"version": version}), &[event(1), event(2)]).await;
        assert_eq!(sent, (Outcome::Delivered, vec![]));
        let body = peer.log().bodies[0].clone();
        // A text stands once in a table of symbols that begins with the empty one, and in each series of 1.0.
        let texts: &[(&str, usize)] = match version {
            1 => &[("up", 2), ("same", 4), ("a", 2), ("Z", 2)],
            _ => &[("up", 1), ("same", 1), ("a", 1), ("Z", 1)],
        };
        for (text, count) in texts {
            let framed = [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            let found = body.windows(framed.len()).filter(|window| *window == framed).count();
            assert_eq!(found, *count, "{text} in version {version}");
        }
        assert_eq!(body.starts_with(&[0x22, 0x00]), version == 2);
        let at = |text: &str| body.windows(text.len()).position(|window| window == text.as_bytes());
        assert!(at("Z") < at("__name__") && at("__name__") < at("\u{1}a") && at("\u{1}a") < at("\u{1}b"), "{body:?}");
        assert_eq!(peer.log().seen[0].1[0]["labels"], json!({"Z": "c", "a": "same", "b": "same"}));
    }
}

#[test]
fn headers_that_the_protocol_has_are_not_for_others_to_set() {
    for (name, is_free) in [("User-Agent", false), ("content-type", false), ("X-Scope-OrgID", true)] {
        let mut problems = Problems::default();
        config("http://peer", &json!({"headers": {name: "x"}})).check(&mut problems);
        let found: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.message).collect();
        assert_eq!(found.is_empty(), is_free, "{name}: {found:?}");
        assert!(is_free || found == ["is a header of the protocol itself"], "{found:?}");
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_rejected_with_the_peer_s_words_and_nothing_else_is() {
    let peer = Peer::new(&[(400, vec![], "out of order sample")]);
    let mut events: Vec<Value> = (0..4).map(|at| point(&format!("m{at}"), at)).collect();
    events.insert(1, json!({"name": "histogram"}));
    let (outcome, rejected) = send(&peer.listen().await, json!({}), &events).await;
    assert_eq!(outcome, Outcome::DeadLettered);
    let codes: Vec<_> = rejected.iter().map(|(name, code, _)| (name.as_str(), *code)).collect();
    let refused = "remote_write_refused";
    assert_eq!(codes, [("\"histogram\"", "no_point"), ("\"m0\"", refused), ("\"m1\"", refused), ("\"m2\"", refused)]);
    let (_, _, why) = &rejected[1];
    assert!(why.contains("HTTP 400 Bad Request: out of order sample") && !why.contains("SECRET"), "{why}");
    assert_eq!(peer.points()[1], ["m3=3.0"]);
}

#[tokio::test]
async fn a_peer_of_version_2_says_what_it_wrote() {
    let some = vec![("x-prometheus-remote-write-samples-written", "2")];
    let peer = Peer::new(&[(400, some, "m1: no"), (200, vec![], "")]);
    let events: Vec<Value> = (0..4).map(|at| point(&format!("m{at}"), at)).collect();
    let (_, rejected) = send(&peer.listen().await, json!({"version": 2}), &events).await;
    assert_eq!(rejected.len(), 4, "{rejected:?}");
    assert!(rejected[0].2.contains("m1: no (the peer says that it wrote 2 of 3 points; not which)"), "{rejected:?}");
    assert!(rejected[3].2.contains("it wrote none of 1 points; it may know remote write 1.0 alone"), "{rejected:?}");
}

#[tokio::test]
async fn a_peer_that_asks_to_wait_is_waited_for() {
    let peer = Peer::new(&[(429, vec![("retry-after", "2")], "slow down")]);
    assert_eq!(send(&peer.listen().await, json!({}), &[point("up", 1)]).await, (Outcome::Delivered, vec![]));
    let log = peer.log();
    let waited = log.seen[1].2 - log.seen[0].2;
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
}

#[tokio::test]
async fn a_peer_that_is_not_there_yet_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (context, _rejected) = BuildContext::detached("sender");
    let sink = config(&format!("http://{address}"), &json!({})).build(&context).await.unwrap();
    let settlements = Arc::new(Settlements::default());
    let batch = Batch {
        origin: Arc::new(OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other }),
        receipt: Receipt::new(0, settlements.clone(), None),
        watermark: Timestamp(1),
        events: vec![Event::new(Body::Raw(point("up", 1).to_string().into(), Codec::Json), Position(0), Timestamp(1))],
    };
    sink.write(batch).await;
    while context.trouble.get().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(settlements.take().is_empty());
    let peer = Peer::default();
    peer.serve(TcpListener::bind(address).await.unwrap());
    sink.flush().await;
    assert_eq!((peer.points(), settlements.take().len()), (vec![vec!["up=1.0".to_owned()]], 1));
    assert_eq!(context.trouble.get(), None);
}

#[tokio::test]
async fn it_is_a_sink_as_all_are() {
    let peer = Peer::default();
    let config = config(&peer.listen().await, &json!({"batch": {"timeout_secs": 0.01}}));
    let body = |event: Value| Body::Raw(event.to_string().into(), Codec::Json);
    let good: Vec<Body> = (0..10).map(|at| body(point("up", at))).collect();
    conformance::sink(&*config, &good, Some(body(json!({"name": "up"})))).await;
}
