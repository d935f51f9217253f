//! The `limit` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Output, Stateful, Transform, TransformConfig};
use weir::event::{Batch, Timestamp, Verdict};
use weir::state::{KeyedState, StateLimits, StatePart};

/// Lets the first `count` events of each lane pass and no more: a look at the beginning of a stream, or a guard for a
/// first try. The others count as filtered. A restart goes on counting.
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
        format!("the first {} events of each lane pass, over all restarts", self.count)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let passed = KeyedState::new(StateLimits { max_keys: 1 });
        Ok(Transform::stateful(Counter { count: self.count, passed }))
    }
}

struct Counter {
    count: u64,
    /// How many have passed.
    passed: KeyedState<(), u64>,
}

impl Stateful for Counter {
    fn process(&mut self, batch: &mut Batch, output: &mut Output) {
        let before = self.passed.get(&()).copied().unwrap_or(0);
        let mut passed = before;
        output.rejected = batch.decide(|_| {
            if passed >= self.count {
                return Verdict::Filter;
            }
            passed += 1;
            Verdict::Pass
        });
        if passed > before {
            self.passed.insert((), passed, Timestamp(i64::MAX));
        }
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("passed", &mut self.passed)]
    }
}
