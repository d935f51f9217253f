//! The sink `webhook` against a peer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir::component::{BuildContext, ProbeContext, SinkConfig, Verdict};
use weir::delivery::{Outcome, Receipt, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_alerts as _;

/// A peer that gives these answers in turn, then 200.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    answers: VecDeque<u16>,
    seen: Vec<(HeaderMap, String)>,
}

impl Peer {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook/SECRET", listener.local_addr().unwrap());
        let answer = async |State(peer): State<Peer>, headers: HeaderMap, body: String| {
            let mut log = peer.log();
            log.seen.push((headers, body));
            StatusCode::from_u16(log.answers.pop_front().unwrap_or(200)).unwrap()
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        address
    }
}

#[tokio::test]
async fn a_peer_that_only_knows_post_is_no_fault_for_doctor() {
    let peer = Peer::default();
    let url = peer.listen().await;
    let config: Box<dyn SinkConfig> = serde_json::from_value(json!({"type": "webhook", "url": url})).unwrap();
    for (status, level, says) in [
        (200, Verdict::Ok, "answers"),
        (405, Verdict::Ok, "answers, and takes no HEAD: whether it takes events is only known once one is sent"),
        (501, Verdict::Ok, "answers, and takes no HEAD"),
        (401, Verdict::Failed, "check auth"),
        (404, Verdict::Failed, "check the address"),
        (503, Verdict::Failed, "HTTP 503"),
    ] {
        peer.log().answers.push_back(status);
        let findings = config.probe(&ProbeContext::new(std::time::Duration::from_secs(60))).await;
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert!(finding.verdict == level && finding.message.contains(says), "{status}: {finding:?}");
    }
}

/// Posts events in one batch; gives how it ended, and the codes of what was rejected.
async fn post(options: Value, events: &[Value]) -> (Outcome, Vec<(&'static str, String)>) {
    let mut all = json!({"type": "webhook", "group_wait": "1ms"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: Box<dyn SinkConfig> = serde_json::from_value(all).unwrap();
    assert!(!format!("{config:?}").contains("SECRET"), "its address is not shown");
    let (context, mut rejected) = BuildContext::detached("pager");
    let sink = config.build(&context).await.unwrap();
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
    let mut codes = Vec::new();
    while let Ok(batch) = rejected.try_recv() {
        codes.extend(batch.rejected.into_iter().map(|one| (one.code, one.message)));
        batch.receipt.resolve(Outcome::DeadLettered);
    }
    (settlements.take()[0].outcome, codes)
}

fn alert(name: &str, node: &str, state: &str) -> Value {
    json!({"state": state, "labels": {"alertname": name, "node": node}, "value": 1.0,
        "starts_at": "2026-03-01T09:00:00Z", "ends_at": "2026-03-01T10:00:00Z"})
}

#[tokio::test]
async fn alerts_of_a_group_are_one_request() {
    let peer = Peer::default();
    let options = json!({"url": peer.listen().await, "auth": {"strategy": "bearer", "token": "t"}, "receiver": "team"});
    let events = [alert("A", "1", "firing"), alert("B", "1", "resolved"), alert("A", "2", "resolved")];
    assert_eq!(post(options, &events).await, (Outcome::Delivered, vec![]));
    let log = peer.log();
    let bodies: Vec<Value> = log.seen.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    let shape =
        |body: &Value| (body["groupLabels"].clone(), body["status"].clone(), body["alerts"].as_array().unwrap().len());
    assert_eq!(shape(&bodies[0]), (json!({"alertname": "A"}), json!("firing"), 2));
    assert_eq!(shape(&bodies[1]), (json!({"alertname": "B"}), json!("resolved"), 1));
    assert_eq!((bodies.len(), &bodies[0]["receiver"], &bodies[0]["version"]), (2, &json!("team"), &json!("4")));
    assert_eq!(log.seen[0].0["authorization"], "Bearer t");
    assert_eq!(log.seen[0].0["content-type"], "application/json");
}

#[tokio::test]
async fn an_alert_that_ends_within_group_wait_is_posted_once_and_links_keep_their_percent_signs() {
    let peer = Peer::default();
    let options = json!({
        "url": peer.listen().await, "receiver": "team-X.mails", "generator_url": "http://p/%D0%B0?n={{ .labels.node }}%20",
        "annotations": {"summary": "100%"},
    });
    let events = [alert("A", "1", "firing"), alert("A", "1", "resolved")];
    assert_eq!(post(options, &events).await, (Outcome::Delivered, vec![]));
    let log = peer.log();
    assert_eq!(log.seen.len(), 1);
    let body: Value = serde_json::from_str(&log.seen[0].1).unwrap();
    let one = &body["alerts"][0];
    assert_eq!((body["alerts"].as_array().unwrap().len(), &one["status"]), (1, &json!("resolved")));
    assert_eq!((&body["status"], &body["routeLabels"]), (&json!("resolved"), &json!({})));
    assert_eq!(body["notification_reason"], "all alerts resolved");
    assert_eq!(body["receiver"], r"team-X\.mails");
    assert_eq!(
        (&one["generatorURL"], &one["annotations"]["summary"]),
        (&json!("http://p/%D0%B0?n=1%20"), &json!("100%"))
    );
}

#[tokio::test]
async fn any_event_can_be_a_text_of_one_s_own() {
    let peer = Peer::default();
    peer.log().answers.extend([500, 200, 422]);
    let options = json!({
        "url": peer.listen().await, "body": "{\"text\": {{ encode_json(.m) }}}", "content_type": "text/plain",
        "headers": {"X-Key": "k"},
    });
    let events = [json!({"m": "a \"b\""}), json!({"m": "c"}), json!({"m": "d"})];
    let (outcome, codes) = post(options, &events).await;
    let texts: Vec<String> = peer.log().seen.iter().map(|(_, body)| body.clone()).collect();
    let [a, c, d] = ["a \\\"b\\\"", "c", "d"].map(|text| format!("{{\"text\": \"{text}\"}}"));
    assert_eq!(texts, [a.clone(), a, c, d], "in order, and again what was not taken");
    assert_eq!((outcome, codes.len(), codes[0].0), (Outcome::DeadLettered, 1, "webhook_refused"));
    assert!(codes[0].1.contains("422") && !codes[0].1.contains("SECRET"), "{codes:?}");
    let (headers, _) = peer.log().seen[0].clone();
    assert_eq!((&headers["content-type"], &headers["x-key"]), (&"text/plain".parse().unwrap(), &"k".parse().unwrap()));
}
