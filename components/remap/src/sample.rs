//! The `sample` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::event::{Batch, Event, OriginId, Verdict};
use weir::script::{Condition, Expression, Problem, hash};
use weir::{Error, Result};

use crate::look::key_of;

/// Keeps about one in `rate` events, or all events of about one in `rate` keys; others are filtered.
///
/// The choice depends on a hash of the key, or of the event's position: it is the same in every run, on every machine
/// and after a replay. Tombstones are always kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Sampling rate: `10` keeps one in ten.
    #[schemars(range(min = 1))]
    rate: u64,
    /// VRL expression for the key, such as `.trace_id`: all events of a key are kept, or none. Events whose key is null
    /// are sampled individually. Default: none, events are sampled individually.
    key: Option<String>,
    /// VRL condition for events that are always kept. Default: none.
    exclude: Option<String>,
}

weir::register_transform!(
    "sample",
    Sample,
    r#"{type: sample, inputs: [in], rate: 10, key: .trace_id, exclude: '.level == "error"'}"#
);

#[typetag::deserialize(name = "sample")]
impl TransformConfig for Sample {
    fn check(&self, problems: &mut Problems) {
        if let Some(key) = &self.key {
            Problem::report(Expression::compile(key), "key", "invalid_key", problems);
        }
        if let Some(exclude) = &self.exclude {
            Problem::report(Condition::compile(exclude), "exclude", "invalid_condition", problems);
        }
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        format!("keeps one in {}, the same ones in every run", self.rate)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let key = self.key.as_ref().map(|key| Expression::compile(key).map_err(|_| Error::unchecked("key")));
        let mut key = key.transpose()?.map(|(key, _)| key);
        let exclude =
            self.exclude.as_ref().map(|source| Condition::compile(source).map_err(|_| Error::unchecked("exclude")));
        let mut exclude = exclude.transpose()?.map(|(condition, _)| condition);
        let rate = self.rate.max(1);
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            let origin = batch.origin.clone();
            output.rejected = batch.decide(|event| {
                if event.is_tombstone() {
                    return Verdict::Pass;
                }
                match exclude.as_mut().map(|exclude| exclude.holds(event, &origin)) {
                    Some(Ok(true)) => return Verdict::Pass,
                    Some(Err(failure)) => return failure.into(),
                    Some(Ok(false)) | None => {}
                }
                let hash = match key.as_mut().map(|key| key_of(key, event, &origin)) {
                    Some(Ok(Some(key))) => mixed(hash([&key])),
                    Some(Err(rejected)) => return rejected,
                    Some(Ok(None)) | None => hash_of(event, &origin),
                };
                if hash % rate == 0 { Verdict::Pass } else { Verdict::Filter }
            });
        }))
    }
}

/// Of where an event came from.
fn hash_of(event: &Event, origin: &OriginId) -> u64 {
    let (partition, position) = (origin.partition.to_le_bytes(), event.position.0.to_le_bytes());
    mixed(hash([origin.log.as_bytes(), &partition, &position, &event.ordinal.0.to_le_bytes()]))
}

/// The finaliser of SplitMix64: FNV alone leaves its low bits too alike for a remainder.
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
