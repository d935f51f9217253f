//! Which components this binary has.
//!
//! Registration is `#[typetag::deserialize(name = "...")]` on the config's impl, for building it from
//! YAML, plus one [`Component`] record by `register_source!`, `register_transform!` or `register_sink!`,
//! for the checks, the docs and the editor schema.

use schemars::Schema;
use serde::{Deserialize, Serialize};

/// What a component is in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Brings events in.
    Source,
    /// Decides on events or changes them.
    Transform,
    /// Puts events where people look.
    Sink,
}

impl Kind {
    /// `source`, `transform`, `sink`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Transform => "transform",
            Kind::Sink => "sink",
        }
    }

    /// The section of the YAML such nodes stand in.
    pub fn section(self) -> &'static str {
        match self {
            Kind::Source => "sources",
            Kind::Transform => "transforms",
            Kind::Sink => "sinks",
        }
    }
}

/// What the program knows of a component without building one.
#[derive(Debug)]
pub struct Component {
    /// Source, transform or sink.
    pub kind: Kind,
    /// The `type:` in YAML.
    pub name: &'static str,
    /// The crate it comes from.
    pub package: &'static str,
    /// The JSON Schema of the options, without `type` and `inputs`; its description is the reference text.
    pub schema: fn() -> Schema,
    /// A complete node in YAML, as it would stand under its id, `type:` included.
    pub example: &'static str,
}

inventory::collect!(Component);

impl Component {
    /// The first paragraph of the config struct's doc comment.
    pub fn summary(&self) -> String {
        let schema = (self.schema)();
        let text = schema.get("description").and_then(|text| text.as_str()).unwrap_or_default();
        text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
    }
}

/// Every component of this binary, by kind and name.
pub fn components() -> Vec<&'static Component> {
    let mut all: Vec<_> = inventory::iter::<Component>().collect();
    all.sort_by_key(|component| (component.kind, component.name));
    all
}

/// Registers a source: `register_source!("name", ConfigStruct, "example YAML")`.
#[macro_export]
macro_rules! register_source {
    ($name:literal, $config:ty, $example:expr) => {
        $crate::register_component!(Source, $name, $config, $example);
    };
}

/// Registers a transform: `register_transform!("name", ConfigStruct, "example YAML")`.
#[macro_export]
macro_rules! register_transform {
    ($name:literal, $config:ty, $example:expr) => {
        $crate::register_component!(Transform, $name, $config, $example);
    };
}

/// Registers a sink: `register_sink!("name", ConfigStruct, "example YAML")`.
#[macro_export]
macro_rules! register_sink {
    ($name:literal, $config:ty, $example:expr) => {
        $crate::register_component!(Sink, $name, $config, $example);
    };
}

/// Shared by the three above.
#[doc(hidden)]
#[macro_export]
macro_rules! register_component {
    ($kind:ident, $name:literal, $config:ty, $example:expr) => {
        $crate::__private::inventory::submit! {
            $crate::component::Component {
                kind: $crate::component::Kind::$kind,
                name: $name,
                package: env!("CARGO_PKG_NAME"),
                schema: || $crate::__private::schemars::schema_for!($config),
                example: $example,
            }
        }
    };
}
