//! The JSON Schema of a whole graph file, for editors.

use serde_json::{Map, Value as Json, json};

use super::buffer::BufferConfig;
use super::settings::{Settings, TestConfig};
use crate::component::{Component, Kind, components};

/// JSON Schema (2020-12) of a graph file with every component of this binary.
pub fn schema() -> Json {
    let mut defs = Map::new();
    let mut root = take(schemars::schema_for!(Settings).as_value(), "settings", &mut defs);
    let tests = take(schemars::schema_for!(Vec<TestConfig>).as_value(), "tests", &mut defs);
    let mut sections = Map::new();
    for kind in [Kind::Source, Kind::Transform, Kind::Sink] {
        let nodes: Vec<Json> = components()
            .into_iter()
            .filter(|component| component.kind == kind)
            .map(|component| node(component, &mut defs))
            .collect();
        sections.insert(
            kind.section().to_owned(),
            json!({ "type": ["object", "null"], "additionalProperties": { "oneOf": nodes } }),
        );
    }
    sections.insert("tests".to_owned(), json!({ "anyOf": [tests, { "type": "null" }] }));
    if let Some(properties) = root.get_mut("properties").and_then(Json::as_object_mut) {
        properties.extend(sections);
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".to_owned(), "A weir graph".into());
        root.insert("$defs".to_owned(), Json::Object(defs));
    }
    root
}

/// A node: the options of the component, its `type`, and `inputs` or `keyed_by`.
fn node(component: &Component, defs: &mut Map<String, Json>) -> Json {
    let prefix = format!("{}_{}", component.kind.name(), component.name);
    let mut schema = take((component.schema)().as_value(), &prefix, defs);
    let Some(object) = schema.as_object_mut() else { return schema };
    let mut own = Map::new();
    own.insert("type".to_owned(), json!({ "const": component.name, "description": component.summary() }));
    if component.kind != Kind::Source {
        let text = "Ids of the nodes it reads; `id.port` is one of several outputs, `id.errors` what a node rejected.";
        own.insert(
            "inputs".to_owned(),
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "description": text }),
        );
    }
    let required: Vec<Json> = own.keys().map(|name| name.as_str().into()).collect();
    if component.kind == Kind::Source {
        let text = "VRL expressions, such as `.host`: the promise that events for which all of them have the same values \
                    always come by the same partition. Nodes whose key holds all of them then need no exchange. Default: \
                    none.";
        own.insert(
            "keyed_by".to_owned(),
            json!({ "type": "array", "items": { "type": "string" }, "description": text }),
        );
    }
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(own);
        if component.kind == Kind::Sink {
            let buffer = take(schemars::schema_for!(BufferConfig).as_value(), "buffer", defs);
            // A sink may have an option of that name, which is no map.
            let both = match properties.remove("buffer") {
                Some(own) => json!({ "description": own.get("description"), "anyOf": [own, buffer] }),
                None => buffer,
            };
            properties.insert("buffer".to_owned(), both);
        }
    }
    let all = object.entry("required").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.extend(required);
    }
    object.insert("additionalProperties".to_owned(), false.into());
    schema
}

/// Moves a schema's definitions into the common ones under a prefix, and lets `${...}` stand for any number
/// or truth value.
fn take(schema: &Json, prefix: &str, defs: &mut Map<String, Json>) -> Json {
    let mut schema = schema.clone();
    let own = schema.as_object_mut().and_then(|object| object.remove("$defs"));
    for (name, mut definition) in own.and_then(|own| own.as_object().cloned()).unwrap_or_default() {
        rewrite(&mut definition, prefix);
        defs.insert(format!("{prefix}_{name}"), definition);
    }
    rewrite(&mut schema, prefix);
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
    }
    schema
}

fn rewrite(schema: &mut Json, prefix: &str) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|item| rewrite(item, prefix)),
        Json::Object(object) => {
            if let Some(Json::String(reference)) = object.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", &format!("#/$defs/{prefix}_"));
            }
            object.values_mut().for_each(|value| rewrite(value, prefix));
            if !takes_text(object) {
                let plain = Json::Object(std::mem::take(object));
                let description = plain.get("description").cloned();
                *schema = json!({ "anyOf": [plain, { "type": "string", "pattern": "^\\$\\{.+\\}$" }] });
                if let (Some(description), Some(object)) = (description, schema.as_object_mut()) {
                    object.insert("description".to_owned(), description);
                }
            }
        }
        _ => {}
    }
}

/// Whether `${VAR}` fits a schema as it is. It does not fit numbers, truth values and enums; lists and maps
/// cannot come from a variable.
fn takes_text(schema: &Map<String, Json>) -> bool {
    let is_other = |name: &str| matches!(name, "integer" | "number" | "boolean");
    // `type: {...}` is an option of that name, not a type.
    let is_enum = schema.get("enum").is_some_and(Json::is_array)
        || schema
            .get("oneOf")
            .and_then(Json::as_array)
            .is_some_and(|all| all.iter().all(|one| one.get("const").is_some()));
    match schema.get("type") {
        _ if is_enum => false,
        Some(Json::String(name)) => !is_other(name),
        Some(Json::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Json::as_str).collect();
            names.contains(&"string") || !names.iter().any(|name| is_other(name))
        }
        _ => true,
    }
}
