//! The `dedupe` transform.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Output, Problems, Stateful, Transform, TransformConfig};
use weir::config::Span;
use weir::event::{Batch, Event, OriginId, Timestamp, Verdict};
use weir::script::{Expression, Problem};
use weir::state::{KeyedState, StateLimits, StatePart};
use weir::{Error, Result};

/// Drops events whose key was seen within a span of event time. Remembers over a restart, each lane on its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// VRL expression for the key, such as `.metadata.uid`. Events for which it is null pass.
    key: String,
    /// How long a key is remembered after its event, in event time. Default: `10m`.
    #[serde(default = "default_within")]
    within: Span,
    /// Keys remembered at most in a lane; the one that would be forgotten first makes room. Default: 1000000.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
}

fn default_within() -> Span {
    Span(Duration::from_secs(600))
}

pub(crate) fn default_max_keys() -> usize {
    1_000_000
}

weir::register_transform!("dedupe", Dedupe, "{type: dedupe, inputs: [in], key: .metadata.uid, within: 10m}");

#[typetag::deserialize(name = "dedupe")]
impl TransformConfig for Dedupe {
    fn check(&self, problems: &mut Problems) {
        Problem::report(Expression::compile(&self.key), "key", "invalid_key", problems);
    }

    fn is_stateful(&self) -> bool {
        true
    }

    fn state_identity(&self) -> String {
        format!("key {}", self.key)
    }

    fn explain(&self) -> String {
        format!("remembers up to {} keys, also over a restart", self.max_keys)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let (key, _) = Expression::compile(&self.key).map_err(|_| Error::unchecked("key"))?;
        let within = i64::try_from(self.within.0.as_millis()).unwrap_or(i64::MAX);
        let seen = KeyedState::new(StateLimits { max_keys: self.max_keys });
        Ok(Transform::stateful(Seen { key, within, seen }))
    }
}

/// The key of an event: its value as JSON, so that `1` and `"1"` are two; none when it is null.
pub(crate) fn key_of(
    key: &mut Expression,
    event: &Event,
    origin: &OriginId,
) -> std::result::Result<Option<Vec<u8>>, Verdict> {
    match key.value(event, origin) {
        Ok(value) if value.is_null() => Ok(None),
        Ok(value) => {
            let mut bytes = Vec::new();
            weir::event::json::write(&value, &mut bytes);
            Ok(Some(bytes))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The keys a lane has seen.
struct Seen {
    key: Expression,
    within: i64,
    seen: KeyedState<Vec<u8>, ()>,
}

impl Stateful for Seen {
    fn process(&mut self, batch: &mut Batch, output: &mut Output) {
        let Seen { key, within, seen } = self;
        let origin = batch.origin.clone();
        output.rejected = batch.decide(|event| {
            let key = match key_of(key, event, &origin) {
                Ok(Some(key)) => key,
                Ok(None) => return Verdict::Pass,
                Err(rejected) => return rejected,
            };
            seen.at(event.time);
            let expires = Timestamp(event.time.0.saturating_add(*within));
            if seen.insert_new(key, (), expires) { Verdict::Pass } else { Verdict::Filter }
        });
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("seen", &mut self.seen)]
    }
}
