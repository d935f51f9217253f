//! The `filter` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::event::{Batch, Verdict};
use weir::script::{Condition, Problem};
use weir::{Error, Result};

/// Passes events that match a VRL condition; others are filtered. Tombstones pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// VRL expression that returns true or false, such as `.level == "error"`.
    condition: String,
}

weir::register_transform!("filter", Filter, r#"{type: filter, inputs: [in], condition: '.reason == "BackOff"'}"#);

#[typetag::deserialize(name = "filter")]
impl TransformConfig for Filter {
    fn check(&self, problems: &mut Problems) {
        Problem::report(Condition::compile(&self.condition), "condition", "invalid_condition", problems);
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        Condition::compile(&self.condition).map(|(condition, _)| condition.explain()).unwrap_or_default()
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let (mut condition, _) = Condition::compile(&self.condition).map_err(|_| Error::unchecked("condition"))?;
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            let origin = batch.origin.clone();
            output.rejected = batch.decide(|event| {
                if event.is_tombstone() {
                    return Verdict::Pass;
                }
                match condition.holds(event, &origin) {
                    Ok(true) => Verdict::Pass,
                    Ok(false) => Verdict::Filter,
                    Err(failure) => failure.into(),
                }
            });
        }))
    }
}
