//! The sink `alertmanager` against peers that fail in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use weir::component::{BuildContext, ProbeContext, Sink, SinkConfig, Verdict};
use weir::delivery::{Outcome, Receipt, RejectedBatch, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_alerts as _;

const PATIENCE: Duration = Duration::from_secs(30);

/// An Alertmanager that gives these answers in turn, then 200; it refuses alerts with a label `bad`.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    answers: VecDeque<u16>,
    /// The alerts of each request that was taken.
    taken: Vec<Vec<Value>>,
    requests: usize,
}

impl Peer {
    fn answering(answers: impl IntoIterator<Item = u16>) -> Peer {
        let peer = Peer::default();
        peer.log().answers.extend(answers);
        peer
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    async fn serve(&self, listener: TcpListener) {
        let answer = async |State(peer): State<Peer>, uri: Uri, body: String| {
            assert_eq!(uri.path(), "/api/v2/alerts");
            let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
            let mut log = peer.log();
            log.requests += 1;
            let is_bad = alerts.iter().any(|alert| !alert["labels"]["bad"].is_null());
            let status = log.answers.pop_front().unwrap_or(if is_bad { 400 } else { 200 });
            if status == 200 {
                log.taken.push(alerts);
            }
            (StatusCode::from_u16(status).unwrap(), if status == 400 { "bad label" } else { "" })
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    }

    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        self.serve(listener).await;
        address
    }

    /// What it was told of an alert: when it ends, if that is long past, or nothing.
    fn known(&self) -> BTreeMap<String, Vec<Value>> {
        let mut known: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for alert in self.log().taken.iter().flatten() {
            known.entry(alert["labels"]["alertname"].as_str().unwrap().to_owned()).or_default().push(alert.clone());
        }
        known
    }
}

fn config(options: Value) -> Box<dyn SinkConfig> {
    let mut all = json!({"type": "alertmanager"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

async fn sink(options: Value) -> (Arc<dyn Sink>, BuildContext, Receiver<RejectedBatch>) {
    let (context, rejected) = BuildContext::detached("am");
    (config(options).build(&context).await.unwrap(), context, rejected)
}

fn alert(name: &str, state: &str, starts_at: &str) -> Value {
    json!({"state": state, "labels": {"alertname": name, "summary": "disk almost full"}, "value": 1.0,
        "starts_at": starts_at, "ends_at": if state == "resolved" { json!("2026-03-01T10:00:00Z") } else { Value::Null }})
}

/// Hands a batch over; gives what tells how it ends.
async fn write(sink: &Arc<dyn Sink>, events: &[Value]) -> Arc<Settlements> {
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
    settlements
}

fn outcomes(settlements: &Settlements) -> Vec<Outcome> {
    settlements.take().into_iter().map(|settled| settled.outcome).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain waited for {what}"));
}

#[tokio::test]
async fn alertmanager_is_told_as_prometheus_tells_it() {
    let peer = Peer::default();
    let options = json!({
        "endpoints": [peer.listen().await], "annotations": {"text": "{{ .labels.summary }}!"},
        "generator_url": "http://p/{{ .labels.alertname }}",
    });
    let (sink, context, _rejected) = sink(options).await;
    let before = context.clock.now().0;
    let settled =
        write(&sink, &[alert("A", "firing", "2026-03-01T09:00:00.5Z"), alert("B", "resolved", "2026-03-01T09:00:00Z")])
            .await;
    sink.flush().await;
    assert_eq!(outcomes(&settled), [Outcome::Delivered]);
    let known = peer.known();
    let firing = &known["A"][0];
    let ends_at = chrono::DateTime::parse_from_rfc3339(firing["endsAt"].as_str().unwrap()).unwrap().timestamp_millis();
    assert!((240_000..300_000).contains(&(ends_at - before)), "four times resend_delay from now on: {firing}");
    assert_eq!(firing["labels"], json!({"alertname": "A", "summary": "disk almost full"}));
    assert_eq!(firing["annotations"], json!({"text": "disk almost full!"}));
    assert_eq!(
        (&firing["startsAt"], &firing["generatorURL"]),
        (&json!("2026-03-01T09:00:00.500Z"), &json!("http://p/A"))
    );
    assert_eq!(known["B"][0]["endsAt"], "2026-03-01T10:00:00Z");
}

#[tokio::test]
async fn it_waits_for_a_peer_that_is_not_there_or_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (sink, context, _rejected) = sink(json!({"endpoints": [format!("http://{address}")]})).await;
    let settled = write(&sink, &[alert("A", "firing", "2026-03-01T09:00:00Z")]).await;
    until("the sink to say why it waits", || context.trouble.get().is_some_and(|why| why.contains("refused"))).await;
    assert!(outcomes(&settled).is_empty());
    let peer = Peer::answering([503, 500, 429, 404]);
    peer.serve(TcpListener::bind(address).await.unwrap()).await;
    sink.flush().await;
    assert_eq!((outcomes(&settled), context.trouble.get()), (vec![Outcome::Delivered], None));
    let requests = peer.log().requests;
    assert_eq!((requests, peer.known()["A"].len()), (5, 1));
}

#[tokio::test]
async fn each_peer_is_told_and_one_that_takes_it_is_enough() {
    let (good, bad) = (Peer::default(), Peer::answering(std::iter::repeat_n(500, 1000)));
    let endpoints = [bad.listen().await, good.listen().await];
    let (sink, context, _rejected) = sink(json!({"endpoints": endpoints, "resend_delay": "100ms"})).await;
    let settled = write(&sink, &[alert("A", "firing", "2026-03-01T09:00:00Z")]).await;
    sink.flush().await;
    assert_eq!((outcomes(&settled), context.trouble.get()), (vec![Outcome::Delivered], None));
    let asked = bad.log().requests;
    assert!(good.known().contains_key("A") && asked > 0);
    // It hears of it when it is well again.
    bad.log().answers.clear();
    until("the other to be told", || bad.known().contains_key("A")).await;
}

#[tokio::test]
async fn of_a_request_that_is_refused_the_alert_to_blame_is_rejected() {
    let peer = Peer::default();
    let (sink, context, mut rejected) = sink(json!({"endpoints": [peer.listen().await], "resend_delay": "50ms"})).await;
    let mut bad = alert("B", "firing", "2026-03-01T09:00:00Z");
    bad["labels"]["bad"] = json!("yes");
    let no_alert = json!({"state": "firing"});
    let good = |name| alert(name, "firing", "2026-03-01T09:00:00Z");
    let settled = write(&sink, &[good("A"), bad, no_alert, good("C")]).await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        let batch = tokio::time::timeout(PATIENCE, rejected.recv()).await.unwrap().unwrap();
        codes
            .extend(batch.rejected.iter().map(|one| (one.code, one.event.position, one.message.contains("bad label"))));
        batch.receipt.resolve(Outcome::DeadLettered);
    }
    assert_eq!(codes, [("no_alert", Position(2), false), ("alert_refused", Position(1), true)]);
    sink.flush().await;
    assert_eq!(outcomes(&settled), [Outcome::DeadLettered]);
    assert_eq!(context.books.totals().passed, 2);
    until("the others to be told again", || peer.known().get("A").is_some_and(|told| told.len() > 2)).await;
    assert_eq!(peer.known().keys().collect::<Vec<_>>(), ["A", "C"]);
}

#[tokio::test]
async fn what_fires_is_told_again_until_it_is_resolved_also_by_the_next_process() {
    let peer = Peer::default();
    let options = json!({"endpoints": [peer.listen().await], "resend_delay": "30ms"});
    let (first, context, _rejected) = sink(options.clone()).await;
    write(&first, &[alert("A", "firing", "2026-03-01T09:00:00Z")]).await;
    until("it to be told again", || peer.known().get("A").is_some_and(|told| told.len() >= 3)).await;
    drop(first);

    // Nothing comes to the next process, and it tells of it all the same.
    peer.log().taken.clear();
    let second = config(options).build(&context).await.unwrap();
    until("it to be told by another process", || peer.known().get("A").is_some_and(|told| told.len() >= 3)).await;
    // What was read before the crash comes again, and changes nothing.
    write(&second, &[alert("A", "resolved", "2026-03-01T08:00:00Z"), alert("A", "firing", "2026-03-01T09:00:00Z")])
        .await;
    second.flush().await;
    let is_over = |told: &Value| told["endsAt"] == "2026-03-01T10:00:00Z";
    assert!(!peer.known()["A"].iter().any(is_over), "an end of long ago is not told of one that fires now");

    write(&second, &[alert("A", "resolved", "2026-03-01T09:00:00Z")]).await;
    second.flush().await;
    until("its end to be told", || peer.known()["A"].iter().filter(|told| is_over(told)).count() >= 2).await;
    let known = peer.known();
    let end = known["A"].iter().position(is_over).unwrap();
    assert!(known["A"][end..].iter().all(is_over), "behind its end it does not fire again");
}

#[tokio::test]
async fn what_fires_is_told_again_while_one_batch_follows_the_other() {
    let peer = Peer::default();
    let options = json!({"endpoints": [peer.listen().await], "resend_delay": "10ms", "resolve_timeout": "1h"});
    let (sink, _context, _rejected) = sink(options).await;
    let events = [alert("A", "firing", "2026-03-01T09:00:00Z")];
    let flood = async {
        while peer.known().get("A").map_or(0, Vec::len) < 4 {
            // What is known is no news, so that only the time brings a request about.
            write(&sink, &events).await;
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("it is told again");
}

#[tokio::test]
async fn without_resending_it_is_told_when_it_comes() {
    let peer = Peer::default();
    let options =
        json!({"endpoints": [peer.listen().await], "resend": false, "resend_delay": "1ms", "resolve_timeout": "10m"});
    let (sink, context, _rejected) = sink(options).await;
    for _ in 0..2 {
        write(&sink, &[alert("A", "firing", "2026-03-01T09:00:00Z")]).await;
        sink.flush().await;
    }
    assert_eq!(peer.known()["A"].len(), 2);
    assert_eq!(context.storage.load("alerts").unwrap(), None);
}

#[tokio::test]
async fn a_doctor_is_told_whether_each_of_them_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/prefix/api/v2/status", axum::routing::get(async || "{}"));
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let endpoints = [format!("{good}/prefix"), good, "http://127.0.0.1:1".to_owned()];
    let findings = config(json!({"endpoints": endpoints})).probe(&ProbeContext::new(PATIENCE)).await;
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Ok, Verdict::Failed, Verdict::Failed], "{findings:?}");
    assert!(findings[1].message.contains("404") && findings[2].message.contains("refused"), "{findings:?}");
}
