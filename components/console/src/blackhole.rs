//! The `blackhole` sink.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Sink, SinkConfig, async_trait};
use weir::delivery::{Books, Outcome};
use weir::event::Batch;

/// Accepts and discards all events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blackhole {}

weir::register_sink!("blackhole", Blackhole, "{type: blackhole, inputs: [in]}");

#[typetag::deserialize(name = "blackhole")]
#[async_trait]
impl SinkConfig for Blackhole {
    fn explain(&self) -> String {
        "delivered at once, to nowhere".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(Nowhere { books: context.books.clone() }))
    }
}

struct Nowhere {
    books: Arc<Books>,
}

#[async_trait]
impl Sink for Nowhere {
    async fn write(&self, batch: Batch) {
        self.books.passed(batch.events.len());
        batch.receipt.resolve(Outcome::Delivered);
    }

    async fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use weir::delivery::{Receipt, Settled, Settlements};
    use weir::event::{Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};

    use super::*;

    #[tokio::test]
    async fn everything_is_delivered_at_once() {
        let (context, _rejected) = BuildContext::detached("none");
        let sink = Blackhole {}.build(&context).await.unwrap();
        let settlements = Arc::new(Settlements::default());
        let body = Body::Raw(Bytes::from_static(b"not json"), Codec::Json);
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let batch = Batch {
            origin: Arc::new(origin),
            receipt: Receipt::new(3, settlements.clone(), None),
            watermark: Timestamp::MIN,
            events: vec![Event::new(body, Position(0), Timestamp(0)); 5],
        };
        sink.write(batch).await;
        assert_eq!(settlements.take(), [Settled { batch: 3, outcome: Outcome::Delivered }]);
        assert_eq!(context.books.totals().passed, 5);
    }
}
