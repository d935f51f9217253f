//! The `limit` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, KeepsState, Output, Row, Stateful, Times, Transform, TransformConfig};
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::state::{KeyedState, StateLimits, StatePart};

/// Passes the first `count` events of each partition and filters the rest, to try a graph on a part of a stream. The
/// count survives restarts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Events that pass per partition (Kafka partition, file).
    count: u64,
}

weir::register_transform!("limit", Limit, "{type: limit, inputs: [in], count: 100}");

#[typetag::deserialize(name = "limit")]
impl TransformConfig for Limit {
    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByLane
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        format!("the first {} events of each lane pass, over all restarts", self.count)
    }

    fn build(&self, _: &BuildContext) -> weir::Result<Transform> {
        let passed = KeyedState::new(StateLimits::in_memory(1));
        Ok(Transform::stateful(Counter { count: self.count, passed }))
    }
}

struct Counter {
    count: u64,
    /// How many have passed.
    passed: KeyedState<(), u64>,
}

impl Stateful for Counter {
    fn look(&mut self, _: &Event, _: &OriginId) -> Result<Row, Verdict> {
        Ok(Row::default())
    }

    fn process(&mut self, _: &mut Event, _: Row, _: Times, _: &mut Output) -> Verdict {
        if let Some(passed) = self.passed.get_mut(&()) {
            if *passed >= self.count {
                return Verdict::Filter;
            }
            *passed += 1;
            return Verdict::Pass;
        }
        if self.count == 0 {
            return Verdict::Filter;
        }
        self.passed.insert((), 1, Timestamp::MAX);
        Verdict::Pass
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("passed", &mut self.passed)]
    }
}
