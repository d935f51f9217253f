//! The `route` transform.

use std::ops::ControlFlow;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, Output, Problems, Transform, TransformConfig};
use weir::event::{Batch, Rejected};
use weir::script::{Condition, Conditions, Problem};
use weir::{Error, Result};

/// Where events go that no condition holds for.
const DEFAULT: &str = "default";

/// Sends events to named outputs by VRL conditions; other nodes read `id.name` in their `inputs`.
///
/// Events that match no condition go to the output `default`. Events for an output that no node reads are filtered.
/// Tombstones go to every output.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Conditions by output name, evaluated in this order.
    #[schemars(length(min = 1))]
    routes: IndexMap<String, String>,
    /// Which matching outputs receive an event: the `first`, or `all`. Default: `first`.
    #[serde(default, rename = "match")]
    matching: Match,
}

/// Which matching outputs receive an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The first match.
    #[default]
    First,
    /// Every match.
    All,
}

weir::register_transform!(
    "route",
    Route,
    r#"{type: route, inputs: [in], routes: {crash: '.reason == "BackOff"', node: '.kind == "Node"'}}"#
);

impl Route {
    fn conditions(&self) -> Result<Conditions> {
        let compile = |source: &String| Ok(Condition::compile(source).map_err(|_| Error::unchecked("routes"))?.0);
        Ok(Conditions::of(self.routes.values().map(compile).collect::<Result<_>>()?))
    }
}

#[typetag::deserialize(name = "route")]
impl TransformConfig for Route {
    fn check(&self, problems: &mut Problems) {
        if self.routes.is_empty() {
            problems.error("routes", "missing_value", "names no output", "add `name: condition`");
        }
        for (name, source) in &self.routes {
            let option = format!("routes.{name}");
            if name == DEFAULT {
                let message = "`default` is an output already: of what fits no route";
                problems.error(
                    &option,
                    "bad_value",
                    message,
                    "give this one another name, or leave it out and read `default`",
                );
            } else if name == "errors" {
                let message = "`errors` is an output already: of events that a node rejects";
                problems.error(&option, "bad_value", message, "give this one another name, such as `error`");
            }
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
            {
                let message = format!("`{name}` cannot be the name of an output");
                problems.error(&option, "bad_value", message, "use letters, digits, `-` and `_`");
            }
            Problem::report(Condition::compile(source), &option, "invalid_condition", problems);
        }
    }

    fn ports(&self) -> Vec<String> {
        self.routes.keys().map(String::as_str).chain([DEFAULT]).map(str::to_owned).collect()
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn explain(&self) -> String {
        self.conditions().map(|conditions| conditions.explain()).unwrap_or_default()
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let mut conditions = self.conditions()?;
        let (otherwise, matching) = (self.routes.len(), self.matching);
        let mut ports = Vec::with_capacity(otherwise);
        Ok(Transform::stateless(move |batch: &mut Batch, output: &mut Output| {
            for event in batch.events.drain(..) {
                if event.is_tombstone() {
                    // Any of the outputs may hold an earlier record of its key.
                    output.send(event, 0..=otherwise);
                    continue;
                }
                ports.clear();
                let looked = conditions.each(&event, &batch.origin, |port| {
                    ports.push(port);
                    if matching == Match::First { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                match looked {
                    Ok(()) if ports.is_empty() => output.send(event, [otherwise]),
                    Ok(()) => output.send(event, ports.iter().copied()),
                    Err(failure) => {
                        output.rejected.push(Rejected { event, code: failure.code, message: failure.message });
                    }
                }
            }
        }))
    }
}
