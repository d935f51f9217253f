//! The logs of a graph that does not run: what push sources and buffers hold.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value as Json, json};

use super::{buffer, runtime};
use crate::component::{Kind, push};
use crate::config::Graph;
use crate::delivery::{JournalContent, inspect_journal, log::Record};
use crate::error::Result;

/// A log that a node keeps.
#[derive(Debug, serde::Serialize)]
pub struct KeptLog {
    /// The node.
    pub node: String,
    /// `push-log` of a source, `buffer` of a sink.
    pub log: &'static str,
    /// What is in it.
    #[serde(flatten)]
    pub content: JournalContent,
}

/// Reads the logs of a graph that does not run, those of one node or all; hands out what waits in them, a JSON object a
/// record.
pub fn inspect_logs(graph: &Graph, node: Option<&str>, mut each: impl FnMut(Json)) -> Result<Vec<KeptLog>> {
    let _lock = runtime::lock_stopped(graph)?;
    let mut logs = Vec::new();
    for of in graph.nodes.iter().filter(|of| node.is_none_or(|node| of.id == node)) {
        let log = match of.kind {
            Kind::Source => push::FOLDER,
            Kind::Transform => continue,
            Kind::Sink => buffer::FOLDER,
        };
        let dir = graph.dir().join(&of.id).join(log);
        if !dir.exists() {
            continue;
        }
        let content = inspect_journal(&dir, |record| {
            let mut object = json!({ "node": of.id, "log": log, "number": record.number });
            let shown = match of.kind {
                Kind::Source => pushed(&record),
                _ => serde_json::from_slice(&record.payload).unwrap_or_default(),
            };
            if let (Some(object), Json::Object(shown)) = (object.as_object_mut(), shown) {
                object.extend(shown.into_iter().filter(|(name, _)| name != "node"));
            }
            each(object);
        })
        .map_err(|error| runtime::io_error("read a log", &dir, error))?;
        logs.push(KeptLog { node: of.id.clone(), log, content });
    }
    Ok(logs)
}

fn pushed(record: &Record) -> Json {
    let (received, body) = push::parts(&record.payload);
    match std::str::from_utf8(body) {
        Ok(text) => json!({ "received": received.0, "body": text }),
        Err(_) => json!({ "received": received.0, "body_base64": BASE64_STANDARD.encode(body) }),
    }
}
