//! The `remap` transform.

use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::event::{Batch, Body, Codec, Verdict};
use weir::script::{Flow, Problem, Script};
use weir::{Error, Result};

/// Changes events with a VRL program. Events for which the program fails are rejected unchanged; `abort` filters them.
/// Tombstones pass unchanged.
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
            output.rejected = batch.decide(|event| {
                if event.is_tombstone() {
                    return Verdict::Pass;
                }
                let before = (!script.is_whole() && !may_have_fields(&event.body)).then(|| event.body.clone());
                match script.run(event, &origin) {
                    // VRL puts an object in the place of what has no fields, when a program writes one.
                    Ok(Flow::Keep) => match before.filter(|_| may_have_fields(&event.body)) {
                        Some(before) => {
                            event.body = before;
                            let message = "the event is no object, and has no fields to write".to_owned();
                            Verdict::Reject { code: "not_an_object", message }
                        }
                        None => Verdict::Pass,
                    },
                    Ok(Flow::Drop) => Verdict::Filter,
                    Err(failure) => failure.into(),
                }
            });
        }))
    }
}

/// Whether an event is an object, or nothing that could be lost.
fn may_have_fields(body: &Body) -> bool {
    match body {
        Body::Raw(doc, Codec::Json | Codec::Edited) => {
            matches!(doc.trim_ascii_start().first(), Some(b'{' | b'n') | None)
        }
        Body::Raw(..) => true,
        Body::Parsed(value) => matches!(value, Value::Object(_) | Value::Null),
    }
}
