//! The `limit` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Output, Stateful, Transform, TransformConfig};
use weir::event::{Batch, Timestamp, Verdict};

/// Lets the first `count` events of each lane pass and no more: a look at the beginning of a stream, or a guard for a
/// first try. The others count as filtered. Counts in memory: a restart begins anew.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Events of each lane (each Kafka partition, each file) that pass.
    count: u64,
}

weir::register_transform!("limit", Limit, "{type: limit, inputs: [in], count: 100}");

#[typetag::deserialize(name = "limit")]
impl TransformConfig for Limit {
    fn is_stateful(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        format!("the first {} events of each lane pass; a restart counts anew", self.count)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        Ok(Transform::stateful(Counter { left: self.count, settled: self.count, epochs: Vec::new() }))
    }
}

struct Counter {
    left: u64,
    /// What was left when the last committed epoch ended.
    settled: u64,
    /// What was left when each open epoch began.
    epochs: Vec<(u64, u64)>,
}

impl Stateful for Counter {
    fn process(&mut self, batch: &mut Batch, output: &mut Output) {
        output.rejected = batch.decide(|_| match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Verdict::Pass
            }
            None => Verdict::Filter,
        });
    }

    fn watermark(&mut self, _: Timestamp) {}

    fn begin(&mut self, epoch: u64) {
        self.epochs.push((epoch, self.left));
    }

    fn commit(&mut self, epoch: u64) {
        self.epochs.retain(|(open, _)| *open > epoch);
        self.settled = self.epochs.first().map_or(self.left, |(_, left)| *left);
    }

    fn abort(&mut self) {
        self.epochs.clear();
        self.left = self.settled;
    }
}
