//! The conformance kit: what every component must do, as tests for its author to call.
//!
//! Each function panics with the rule that was broken. A component passes when they all return:
//!
//! ```no_run
//! # use weir::component::{SourceConfig, conformance};
//! # async fn test(config: Box<dyn SourceConfig>) {
//! conformance::source(&*config, 100).await;
//! # }
//! ```

mod push;
mod sink;
mod source;
mod time;
mod transform;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use push::{PushAnswer, PushClient, PushRequest, push_source};
pub use sink::sink;
pub use source::source;
pub use transform::transform;

use crate::delivery::Receipt;
use crate::event::{Batch, Body, Event, OriginId, OriginKind, Position, Timestamp};

/// Nothing a component does in a test takes longer. Shorter where the kit itself is tested, with a component that
/// never comes to its end.
const DEADLINE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });

async fn in_time<T>(rule: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {rule}"),
    }
}

fn origin() -> Arc<OriginId> {
    Arc::new(OriginId { node: "in".to_owned(), log: "test".to_owned(), partition: 0, kind: OriginKind::Other })
}

fn batch(bodies: &[Body], first: u64, receipt: Receipt) -> Batch {
    let event = |(at, body): (usize, &Body)| Event::new(body.clone(), Position(first + at as u64), Timestamp(1));
    Batch { origin: origin(), receipt, watermark: Timestamp(1), events: bodies.iter().enumerate().map(event).collect() }
}

#[cfg(test)]
mod tests;
