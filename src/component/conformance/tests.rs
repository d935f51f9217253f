//! The kit can fail: each of these components breaks one rule.
#![allow(clippy::unwrap_used)]
mod clocks;
mod letters;

use async_trait::async_trait;

use super::*;
use crate::component::{
    BuildContext, Lanes, Origin, Read, ReadLimit, Sink, SinkConfig, Source, SourceConfig, Transform, TransformConfig,
};
use crate::delivery::{Outcome, RejectedBatch};
use crate::error::Result;
use crate::event::{Codec, Rejected, Verdict};

fn good() -> Vec<Body> {
    (0..10).map(|n| Body::Raw(n.to_string().into(), Codec::Json)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Reorders,
    LosesAtSeek,
    IgnoresLimit,
}

#[derive(Debug)]
struct Numbers(Fault);

struct Log {
    fault: Fault,
    next: u64,
}

#[typetag::deserialize(name = "conformance_numbers")]
#[async_trait]
impl SourceConfig for Numbers {
    async fn build(&self, _: &BuildContext) -> Result<Box<dyn Source>> {
        Ok(Box::new(Log { fault: self.0, next: 0 }))
    }
}

impl<'de> serde::Deserialize<'de> for Numbers {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Ok(Numbers(Fault::None))
    }
}

#[async_trait]
impl Source for Log {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.open(self).await?.ended().await.map(drop)
    }
}

#[async_trait]
impl Origin for Log {
    fn id(&self) -> Arc<OriginId> {
        origin()
    }
    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        let most = if self.fault == Fault::IgnoresLimit { 50 } else { limit.events as u64 };
        let end = (self.next + most).min(50);
        let event = |n: u64| {
            let n = if self.fault == Fault::Reorders { n ^ 1 } else { n };
            Event::new(Body::Raw(n.to_string().into(), Codec::Json), Position(n), Timestamp(0))
        };
        let events: Vec<Event> = (self.next..end).map(event).collect();
        self.next = end;
        Ok(if events.is_empty() { Read::End } else { Read::Events(events) })
    }
    async fn commit(&mut self, _: Position) -> Result<()> {
        Ok(())
    }
    async fn seek(&mut self, position: Position) -> Result<()> {
        self.next = position.0 + u64::from(self.fault == Fault::LosesAtSeek);
        Ok(())
    }
}

#[tokio::test]
async fn a_right_source_passes() {
    source(&Numbers(Fault::None), 50).await;
}

#[tokio::test]
#[should_panic(expected = "positions")]
async fn a_source_that_reorders_fails() {
    source(&Numbers(Fault::Reorders), 50).await;
}

#[tokio::test]
#[should_panic(expected = "after a seek the same events come again")]
async fn a_source_that_loses_at_a_seek_fails() {
    source(&Numbers(Fault::LosesAtSeek), 50).await;
}

#[tokio::test]
#[should_panic(expected = "a read keeps to its limit")]
async fn a_source_that_ignores_limits_fails() {
    source(&Numbers(Fault::IgnoresLimit), 50).await;
}

#[tokio::test]
#[should_panic(expected = "every event is read once")]
async fn a_source_that_ends_early_fails() {
    source(&Numbers(Fault::None), 51).await;
}

/// Breaks a rule, or none.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
enum Careless {
    Not,
    ForgetsABatch,
    DeliversWhatItRejects,
    KeepsWhatItDoesNotDeliver,
    DeliversWhatItNeverCounted,
}

struct CarelessSink {
    fault: Careless,
    context: BuildContext,
    is_second: bool,
}

#[typetag::deserialize(name = "conformance_careless")]
#[async_trait]
impl SinkConfig for Careless {
    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        let is_second = context.storage.load("built").unwrap().is_some();
        context.storage.store("built", b"").unwrap();
        Ok(Arc::new(CarelessSink { fault: *self, context: context.clone(), is_second }))
    }
}

#[async_trait]
impl Sink for CarelessSink {
    async fn write(&self, batch: Batch) {
        let CarelessSink { fault, context, is_second } = self;
        if *fault == Careless::ForgetsABatch && batch.events.iter().any(|event| event.position.0 == 70) {
            return;
        }
        if *fault == Careless::KeepsWhatItDoesNotDeliver && *is_second {
            return std::mem::forget(batch);
        }
        let Batch { origin, receipt, events, .. } = batch;
        let is_poison = |event: &Event| matches!(&event.body, Body::Raw(bytes, _) if bytes == "{{{");
        let (poison, good): (Vec<_>, Vec<_>) = events.into_iter().partition(is_poison);
        if *fault != Careless::DeliversWhatItNeverCounted || !*is_second {
            context.books.passed(good.len());
        }
        let reject = |event| Rejected { event, code: "poison", message: String::new() };
        let rejected: Vec<_> = poison.into_iter().map(reject).collect();
        if !rejected.is_empty() {
            let share = match fault {
                Careless::DeliversWhatItRejects => Receipt::detached(),
                _ => receipt.clone(),
            };
            context.rejects.reject(RejectedBatch { origin, receipt: share, rejected }).await;
        }
        receipt.resolve(Outcome::Delivered);
    }
    async fn flush(&self) {}
}

fn poison() -> Option<Body> {
    Some(Body::Raw("{{{".into(), Codec::Json))
}

#[tokio::test]
async fn a_right_sink_passes() {
    sink(&Careless::Not, &good(), poison()).await;
}

#[tokio::test]
#[should_panic(expected = "a batch is not settled while a rejected event of it is on its way")]
async fn a_sink_that_delivers_what_it_rejects_fails() {
    sink(&Careless::DeliversWhatItRejects, &good(), poison()).await;
}

#[tokio::test]
#[should_panic(expected = "a sink that is dropped leaves no batch open")]
async fn a_sink_that_keeps_batches_after_its_end_fails() {
    sink(&Careless::KeepsWhatItDoesNotDeliver, &good(), None).await;
}

#[tokio::test]
#[should_panic(expected = "a dropped sink says delivered")]
async fn a_sink_that_delivers_without_counting_fails() {
    sink(&Careless::DeliversWhatItNeverCounted, &good(), None).await;
}

#[tokio::test]
#[should_panic(expected = "a healthy sink delivers")]
async fn a_sink_that_forgets_a_batch_fails() {
    sink(&Careless::ForgetsABatch, &good(), None).await;
}

#[derive(Debug, serde::Deserialize)]
struct Reverses;

#[typetag::deserialize(name = "conformance_reverses")]
impl TransformConfig for Reverses {
    fn build(&self, _: &BuildContext) -> Result<Transform> {
        Ok(Transform::stateless(|batch, _| batch.events.reverse()))
    }
}

#[test]
#[should_panic(expected = "events keep their order")]
fn a_transform_that_reverses_fails() {
    transform(&Reverses, &good(), None);
}

#[derive(Debug, serde::Deserialize)]
struct Swallows;

#[typetag::deserialize(name = "conformance_swallows")]
impl TransformConfig for Swallows {
    fn build(&self, _: &BuildContext) -> Result<Transform> {
        Ok(Transform::stateless(|batch, _| {
            batch.decide(|event| if event.body.size() > 1 { Verdict::Filter } else { Verdict::Pass });
        }))
    }
}

#[test]
#[should_panic(expected = "the poison event alone is rejected")]
fn a_transform_that_swallows_poison_fails() {
    transform(&Swallows, &good(), Some(Body::Raw("{{{".into(), Codec::Json)));
}
