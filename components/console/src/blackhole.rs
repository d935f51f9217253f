//! The `blackhole` sink.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Sink, SinkConfig, async_trait};
use weir::delivery::{Books, Outcome};
use weir::event::Batch;

/// Takes every event and delivers it nowhere.
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
