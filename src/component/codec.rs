//! `decoding:` and `encoding:` of sources and sinks: a word, or a map with the codec's options.
//!
//! Three codecs are built in. Any other is a config struct that implements [`DecodingConfig`] or [`EncodingConfig`] and
//! is registered by `register_decoding!` or `register_encoding!`, as components are.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value as Json, json};

use super::{Problem, Problems};
use crate::error::Result;
use crate::event::{Codec, Decoder, Encoder, Encoding};

/// How a source or sink divides what it reads or writes into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// By newlines.
    Lines,
    /// It has records of its own, which may hold any bytes.
    Messages,
}

/// The options of a codec for sources.
#[typetag::deserialize(tag = "codec")]
pub trait DecodingConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express, and a stream the codec cannot be used in.
    fn check(&self, _stream: Stream, _problems: &mut Problems) {}

    /// Makes the decoder. It reaches no peer.
    fn build(&self) -> Result<Arc<dyn Decoder>>;
}

/// The options of a codec for sinks.
#[typetag::deserialize(tag = "codec")]
pub trait EncodingConfig: Debug + Send + Sync {
    /// Reports every problem of the options that their types cannot express, and a stream the codec cannot be used in.
    fn check(&self, _stream: Stream, _problems: &mut Problems) {}

    /// Makes the encoder. It reaches no peer.
    fn build(&self) -> Result<Arc<dyn Encoder>>;
}

/// What the program knows of a codec without building one.
#[derive(Debug)]
pub struct CodecRecord {
    /// Whether it decodes; it encodes otherwise.
    pub decodes: bool,
    /// Its name in YAML.
    pub name: &'static str,
    /// The JSON Schema of its options, without `codec`; its description is the reference text.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

inventory::collect!(CodecRecord);

/// Registers a codec for sources: `register_decoding!("name", ConfigStruct)`.
#[macro_export]
macro_rules! register_decoding {
    ($name:literal, $config:ty) => {
        $crate::register_codec!(true, $name, $config);
    };
}

/// Registers a codec for sinks: `register_encoding!("name", ConfigStruct)`.
#[macro_export]
macro_rules! register_encoding {
    ($name:literal, $config:ty) => {
        $crate::register_codec!(false, $name, $config);
    };
}

/// Shared by the two above.
#[doc(hidden)]
#[macro_export]
macro_rules! register_codec {
    ($decodes:literal, $name:literal, $config:ty) => {
        $crate::__private::inventory::submit! {
            $crate::component::CodecRecord {
                decodes: $decodes,
                name: $name,
                schema: <$config as $crate::__private::schemars::JsonSchema>::json_schema,
            }
        }
    };
}

const BUILT_IN: [(&str, &str, &str); 3] = [
    (
        "json",
        "One JSON document a record; checked when a node first looks inside.",
        "One JSON document. A JSON event that nobody changed leaves byte for byte as it came; text becomes `{\"message\": \"...\"}`.",
    ),
    (
        "text",
        "UTF-8 text; nodes see it as `.message`.",
        "The text itself: of an event with fields, its field `message`. Must be UTF-8.",
    ),
    (
        "raw",
        "Any bytes; nodes see them as `.message`.",
        "The bytes as they came, whatever they are; of an event that was changed, its field `message`.",
    ),
];

/// Name and first paragraph of every codec of this binary, by name.
pub fn codecs(decodes: bool) -> Vec<(&'static str, String)> {
    let built_in =
        BUILT_IN.iter().map(|(name, decoding, encoding)| (*name, if decodes { *decoding } else { *encoding }));
    let mut all: Vec<(&str, String)> = built_in.map(|(name, text)| (name, text.to_owned())).collect();
    for record in inventory::iter::<CodecRecord>().filter(|record| record.decodes == decodes) {
        let schema = (record.schema)(&mut SchemaGenerator::default());
        let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
        all.push((record.name, text.split("\n\n").next().unwrap_or_default().replace('\n', " ")));
    }
    all.sort_unstable();
    all
}

/// A word, or a map for each codec.
fn schema(generator: &mut SchemaGenerator, decodes: bool) -> Schema {
    let codecs = codecs(decodes);
    let words: Vec<Json> = codecs.iter().map(|(name, text)| json!({ "const": name, "description": text })).collect();
    let mut choices = vec![json!({ "oneOf": words })];
    for (name, text) in &codecs {
        let record = inventory::iter::<CodecRecord>().find(|record| record.decodes == decodes && record.name == *name);
        let mut options = match record {
            Some(record) => (record.schema)(generator).to_value(),
            None => json!({ "type": "object", "description": text, "additionalProperties": false }),
        };
        if let Some(options) = options.as_object_mut() {
            let own = options.remove("properties").and_then(|own| own.as_object().cloned()).unwrap_or_default();
            let mut properties = Map::from_iter([("codec".to_owned(), json!({ "const": name }))]);
            properties.extend(own);
            options.insert("properties".to_owned(), properties.into());
            options.insert("required".to_owned(), json!(["codec"]));
        }
        choices.push(options);
    }
    Schema::from(Map::from_iter([("anyOf".to_owned(), Json::from(choices))]))
}

/// The codec's name, and the map it stands in.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(String, Json), D::Error> {
    let written = Json::deserialize(deserializer)?;
    let map = match written {
        Json::String(name) => json!({ "codec": name }),
        map => map,
    };
    let name =
        map.get("codec").and_then(Json::as_str).ok_or_else(|| D::Error::custom("expected the name of a codec"))?;
    Ok((name.to_owned(), map))
}

/// Adds problems of a codec to those of the node that has it as `option`.
fn report(option: &str, found: Problems, problems: &mut Problems) {
    for problem in found.into_vec() {
        let path = [option.to_owned()].into_iter().chain(problem.path).collect();
        problems.push(Problem { path, ..problem });
    }
}

macro_rules! option {
    ($(#[$text:meta])* $option:ident, $config:ident, $built:ident, $name:literal, $decodes:literal) => {
        $(#[$text])*
        #[derive(Debug, Clone, Default)]
        pub enum $option {
            /// One JSON document a record.
            #[default]
            Json,
            /// UTF-8 text.
            Text,
            /// Any bytes.
            Raw,
            /// A registered codec.
            Other(Arc<dyn $config>),
        }

        impl $option {
            /// Reports every problem of the codec's options, with their place in the node's.
            pub fn check(&self, stream: Stream, problems: &mut Problems) {
                if let $option::Other(config) = self {
                    let mut found = Problems::default();
                    config.check(stream, &mut found);
                    report($name, found, problems);
                }
            }

            /// Makes what works at run time. It reaches no peer.
            pub fn build(&self) -> Result<$built> {
                Ok(match self {
                    $option::Json => $built::Json,
                    $option::Text => $built::Text,
                    $option::Raw => $built::Raw,
                    $option::Other(config) => $built::Other(config.build()?),
                })
            }
        }

        impl<'de> Deserialize<'de> for $option {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (name, map) = named(deserializer)?;
                Ok(match name.as_str() {
                    "json" => $option::Json,
                    "text" => $option::Text,
                    "raw" => $option::Raw,
                    _ => $option::Other(Arc::from(
                        serde_json::from_value::<Box<dyn $config>>(map).map_err(D::Error::custom)?,
                    )),
                })
            }
        }

        impl JsonSchema for $option {
            fn schema_name() -> Cow<'static, str> {
                stringify!($option).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                schema(generator, $decodes)
            }
        }
    };
}

option!(
    /// The option `decoding` of a source: what the bytes of its records are.
    DecodingOption, DecodingConfig, Codec, "decoding", true
);
option!(
    /// The option `encoding` of a sink: what its records look like.
    EncodingOption, EncodingConfig, Encoding, "encoding", false
);
