//! A server that fails in every way it can, thousands of times: in the end it has what it was sent, and nothing came again
//! after its own 2xx.
//!
//! `WEIR_CAMPAIGN=full` is ten times as much, `WEIR_CAMPAIGN_SEED` repeats a run's choices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use weir::component::{BuildContext, SinkConfig};
use weir::delivery::{Outcome, Receipt, RejectedBatch, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir::state::{Clock, SystemClock};
use weir_elasticsearch as _;

#[allow(dead_code, missing_docs, reason = "a kit for several tests")]
#[path = "../../../tests/src/bulk.rs"]
mod bulk;
#[allow(dead_code, missing_docs, reason = "a kit for several tests")]
#[path = "../../../tests/src/campaign.rs"]
mod campaign;

use bulk::{BulkServer, Item, Play};
use campaign::Campaign;

/// A clock on which waiting takes a thousandth of its time, so that pauses of half a minute fit into a test.
struct Hasty(SystemClock);

const HASTE: u32 = 1000;

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        self.0.uptime() * HASTE
    }

    fn sleep(&self, span: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.sleep(span / HASTE)
    }
}

/// A server that does what is right two times in three, and otherwise fails in one of its ways.
fn moody(mut random: StdRng) -> BulkServer {
    BulkServer::play(move |items| misfortune(&mut random, items))
}

fn misfortune(random: &mut StdRng, items: &[Item]) -> Play {
    let is_single = items.len() == 1;
    match random.random_range(0..36) {
        0 => some(random, items, &[429]),
        1 => some(random, items, &[503, 500]),
        2 | 3 => some(random, items, &[429, 503]),
        4 => Play::Status(429),
        5 => Play::LaterBy(429, random.random_range(0..3)),
        6 => Play::Status(*[500, 502, 503, 504].choose(random).unwrap()),
        7 => Play::Status(*[401, 403, 404, 408].choose(random).unwrap()),
        // Alone it would be refused for good: these are the server's limit, and a neighbour that spoils the request.
        8 if !is_single => Play::Status(413),
        9 if !is_single => Play::Status(400),
        10 => Play::Cut(false),
        11 => Play::Cut(true),
        12 => Play::Half,
        13 => Play::Short,
        14 => Play::After(Duration::from_millis(random.random_range(1..20)), Box::new(Play::Right)),
        _ => Play::Right,
    }
}

fn some(random: &mut StdRng, items: &[Item], statuses: &[u16]) -> Play {
    let mut one = || if random.random_bool(0.3) { *statuses.choose(random).unwrap() } else { 0 };
    Play::Items(items.iter().map(|_| one()).collect())
}

/// What the documents of a run are like.
struct Run {
    options: Value,
    /// Documents have ids out of so many; none: each has its own.
    keys: Option<u32>,
    /// A document adds its field to what is there.
    merges: bool,
}

/// The document number `n`, of these keys.
fn document(run: &Run, n: u32) -> Value {
    match run.keys {
        // Scattered, so that neighbours sometimes share one.
        Some(keys) => {
            let key = n.wrapping_mul(2_654_435_761) % keys;
            json!({"key": key, "n": n, (format!("f{}", n % 5)): n, "poison": is_poison(n)})
        }
        None => json!({"key": n, "n": n, "padding": "x".repeat((n % 50) as usize), "poison": is_poison(n)}),
    }
}

/// Whether the server refuses it, each time.
fn is_poison(n: u32) -> bool {
    n % 50 == 17
}

/// What the server has to have, by key, of the documents that were not refused.
fn expected(run: &Run, count: u32) -> BTreeMap<String, Value> {
    let mut store: BTreeMap<String, Value> = BTreeMap::new();
    for n in (0..count).filter(|n| !is_poison(*n)) {
        let document = document(run, n);
        let place = store.entry(document["key"].to_string()).or_insert_with(|| json!({}));
        match run.merges {
            true => place.as_object_mut().unwrap().extend(document.as_object().unwrap().clone()),
            false => *place = document,
        }
    }
    store
}

async fn campaign(test: &str, run: &Run, full: u64) {
    let mut campaign = Campaign::of(test);
    let count = u32::try_from(campaign.count(full)).unwrap();
    let server = moody(StdRng::seed_from_u64(campaign.random.random()));
    let mut all = json!({"type": "elasticsearch", "endpoints": [server.url()], "index": "logs",
        "id": "{{ .key }}", "batch": {"max_events": 20, "timeout_secs": 1}});
    all.as_object_mut().unwrap().extend(run.options.as_object().unwrap().clone());
    let config: Box<dyn SinkConfig> = serde_json::from_value(all).unwrap();
    let (mut context, mut rejects) = BuildContext::detached("out");
    context.clock = Arc::new(Hasty(SystemClock::default()));
    let sink = config.build(&context).await.unwrap();

    let port = tokio::spawn(async move {
        let mut refused = Vec::new();
        while let Some(RejectedBatch { rejected, receipt, .. }) = rejects.recv().await {
            for one in rejected {
                assert_eq!(one.code, "mapping_failed", "{one:?}");
                refused.push(u32::try_from(one.event.position.0).unwrap());
            }
            receipt.resolve(Outcome::DeadLettered);
        }
        refused
    });
    let settlements = Arc::new(Settlements::default());
    let origin = Arc::new(OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other });
    let (mut n, mut batches) = (0, 0);
    while n < count {
        let end = count.min(n + campaign.random.random_range(1..100));
        let event = |n: u32| {
            let body = Body::Raw(document(run, n).to_string().into(), Codec::Json);
            Event::new(body, Position(n.into()), Timestamp(1))
        };
        let receipt = Receipt::new(batches, settlements.clone(), None);
        let events = (n..end).map(event).collect();
        sink.write(Batch { origin: origin.clone(), receipt, watermark: Timestamp(1), events }).await;
        (n, batches) = (end, batches + 1);
    }
    sink.flush().await;
    let passed = context.books.totals().passed;
    drop((sink, context));
    let mut refused = port.await.unwrap();
    refused.sort_unstable();

    let settled = settlements.take();
    assert_eq!(settled.len() as u64, batches, "every batch has ended, once");
    assert!(settled.iter().all(|one| one.outcome != Outcome::Failed), "nothing has failed");
    // A poison that a later document would have replaced in any case is not sent again, and so never refused.
    assert!(refused.iter().all(|n| is_poison(*n)), "what is right is not refused");
    assert_eq!(passed + refused.len() as u64, u64::from(count), "every document was delivered or refused");
    let seen = server.seen();
    assert_eq!(seen.again_after_success, Vec::<String>::new());
    let found: BTreeMap<String, Value> = seen
        .store
        .values()
        .map(|stored| serde_json::from_str::<Value>(&stored.line).unwrap())
        .map(|document| (document["key"].to_string(), document))
        .collect();
    let expected = expected(run, count);
    assert_eq!(found.len(), expected.len());
    let wrong: Vec<_> = expected.iter().filter(|(key, document)| found.get(*key) != Some(document)).take(5).collect();
    assert!(wrong.is_empty(), "the server has others than these: {wrong:#?}");
    println!(
        "{test}: {count} documents in {} requests, {} refused, {} at once at most",
        seen.requests,
        refused.len(),
        seen.most_at_once
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_their_own() {
    let run = Run { options: json!({"action": "create"}), keys: None, merges: false };
    campaign("documents_of_their_own", &run, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_replace_each_other() {
    let options = json!({"compression": "gzip", "request": {"concurrency": 6}});
    let run = Run { options, keys: Some(300), merges: false };
    campaign("documents_that_replace_each_other", &run, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_add_to_each_other() {
    let options = json!({"action": "upsert", "request": {"concurrency": 6}});
    let run = Run { options, keys: Some(2000), merges: true };
    campaign("documents_that_add_to_each_other", &run, 50_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_from_outside() {
    let run =
        Run { options: json!({"version": "{{ .n }}", "version_type": "external_gte"}), keys: Some(500), merges: false };
    campaign("versions_from_outside", &run, 50_000).await;
}
