//! What every sink must do.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;

use super::{batch, in_time};
use crate::component::{BuildContext, Sink, SinkConfig};
use crate::delivery::{Outcome, Receipt, RejectedBatch, Settlements};
use crate::event::{Body, Position};

/// Checks a sink with bodies it can deliver, and one that it must reject, if there is such a thing.
///
/// - many batches at once are each settled exactly once, as delivered, and counted;
/// - `flush` returns only when everything taken is settled;
/// - what it rejects goes to the `errors` port with its share of the receipt; its neighbours are delivered;
/// - when it is dropped with batches under way, each of them is settled all the same: as delivered where it is
///   counted so, and otherwise as failed. The config must build a second time, as after a restart.
pub async fn sink(config: &dyn SinkConfig, good: &[Body], poison: Option<Body>) {
    let (context, mut rejected) = BuildContext::detached("conformance");
    let sink = match config.build(&context).await {
        Ok(sink) => sink,
        Err(error) => panic!("a sink must build without reaching its peer: {error}"),
    };
    let settlements = Arc::new(Settlements::default());
    const BATCHES: u64 = 200;
    let writes = (0..BATCHES).map(|number| {
        let receipt = Receipt::new(number, settlements.clone(), None);
        let (sink, batch) = (sink.clone(), batch(good, number * good.len() as u64, receipt));
        tokio::spawn(async move { sink.write(batch).await })
    });
    for write in writes.collect::<Vec<_>>() {
        if let Err(panic) = in_time("a sink takes batches", write).await {
            panic!("the sink panicked: {panic}");
        }
    }
    in_time("a flush returns", sink.flush()).await;
    let mut settled = settlements.take();
    settled.sort_by_key(|settled| settled.batch);
    let numbers: Vec<u64> = settled.iter().map(|settled| settled.batch).collect();
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "after a flush every batch is settled, once");
    let delivered = settled.iter().all(|settled| settled.outcome == Outcome::Delivered);
    assert!(delivered, "a healthy sink delivers: {settled:?}");
    let passed = BATCHES * good.len() as u64;
    assert_eq!(context.books.totals().passed, passed, "delivered events are counted as passed");

    match poison {
        Some(poison) => check_rejects(sink, &context, &mut rejected, good, poison).await,
        None => drop(sink),
    }
    check_drop(config, good, &context).await;
}

/// Nothing is left open by a sink that goes with batches under way, and nothing is delivered but in its books.
async fn check_drop(config: &dyn SinkConfig, good: &[Body], before: &BuildContext) {
    let (mut context, _rejected) = BuildContext::detached("conformance");
    context.storage = before.storage.clone();
    let sink = match config.build(&context).await {
        Ok(sink) => sink,
        Err(error) => panic!("a sink builds again after a restart: {error}"),
    };
    let settlements = Arc::new(Settlements::default());
    const BATCHES: u64 = 20;
    for number in 0..BATCHES {
        let batch = batch(good, number * good.len() as u64, Receipt::new(number, settlements.clone(), None));
        let mut write = sink.write(batch);
        // Begun once, and called off where it had to wait.
        let _begun = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
    }
    drop(sink);
    let mut settled = Vec::new();
    let all = async {
        while settled.len() < BATCHES as usize {
            settled.extend(settlements.take());
            if settled.len() < BATCHES as usize {
                settlements.changed().await;
            }
        }
    };
    in_time("a sink that is dropped leaves no batch open", all).await;
    let mut numbers: Vec<u64> = settled.iter().map(|settled| settled.batch).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "every batch is settled once");
    let delivered = settled.iter().filter(|settled| settled.outcome == Outcome::Delivered).count();
    let passed = context.books.totals().passed;
    assert!(
        delivered as u64 * good.len() as u64 <= passed,
        "a dropped sink says delivered of {delivered} batches, and its books of {passed} events"
    );
}

/// An event that cannot be delivered goes to the `errors` port; its neighbours do not mind.
async fn check_rejects(
    sink: Arc<dyn Sink>,
    context: &BuildContext,
    rejected: &mut mpsc::Receiver<RejectedBatch>,
    good: &[Body],
    poison: Body,
) {
    let settlements = Arc::new(Settlements::default());
    let passed = context.books.totals().passed;
    const NUMBER: u64 = 0;
    let mut bodies = good.to_vec();
    bodies.insert(good.len() / 2, poison);
    sink.write(batch(&bodies, 0, Receipt::new(NUMBER, settlements.clone(), None))).await;
    let flush = tokio::spawn({
        let sink = sink.clone();
        async move { sink.flush().await }
    });
    let Some(port) = in_time("a rejected event reaches the errors port", rejected.recv()).await else {
        panic!("the errors port was closed");
    };
    assert_eq!(port.rejected.len(), 1, "only the event that cannot be delivered is rejected");
    assert_eq!(port.rejected[0].event.position, Position(good.len() as u64 / 2), "the right one is rejected");
    let early = settlements.take();
    assert!(early.is_empty(), "a batch is not settled while a rejected event of it is on its way: {early:?}");
    port.receipt.resolve(Outcome::DeadLettered);
    if in_time("a flush returns", flush).await.is_err() {
        panic!("the sink panicked in a flush");
    }
    let ended = settlements.take();
    let outcome = ended.first().map(|settled| settled.outcome);
    assert_eq!(outcome, Some(Outcome::DeadLettered), "rejected is never delivered");
    assert_eq!(context.books.totals().passed, passed + good.len() as u64, "the neighbours are delivered");
}
