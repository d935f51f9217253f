//! The `remap` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::event::{Batch, Verdict};
use weir::script::{Flow, Problem, Script};
use weir::{Error, Result};

/// Changes events with a VRL program. An event the program fails on is rejected as it was; `abort` filters it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remap {
    /// VRL program, such as `.team = "a"`.
    source: String,
}

weir::register_transform!("remap", Remap, r#"{type: remap, inputs: [in], source: '.team = "a"'}"#);

#[typetag::deserialize(name = "remap")]
impl TransformConfig for Remap {
    fn check(&self, problems: &mut Problems) {
        Problem::report(Script::compile(&self.source), "source", "invalid_program", problems);
    }

    fn explain(&self) -> String {
        Script::compile(&self.source).map(|(script, _)| script.explain()).unwrap_or_default()
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let (mut script, _) = Script::compile(&self.source).map_err(|_| Error::unchecked("source"))?;
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            let origin = batch.origin.clone();
            output.rejected = batch.decide(|event| match script.run(event, &origin) {
                Ok(Flow::Keep) => Verdict::Pass,
                Ok(Flow::Drop) => Verdict::Filter,
                Err(failure) => failure.into(),
            });
        }))
    }
}
