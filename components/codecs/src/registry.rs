//! The client of a schema registry: Confluent's REST interface, and what was learned by it.
//!
//! A schema's id never changes its meaning, so what an id is stays known; an id that nobody knows is asked for again
//! after a while. Errors are temporary: whoever asks waits and asks again.

mod http;
mod options;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use weir::{Error, ErrorKind, Result};

pub(crate) use http::Http;
use http::{Answer, segment};
pub use options::{RegistryTls, SchemaRegistry};

use crate::schema::{Format, Schema, SchemaText};

/// Schemas that are remembered; the oldest go first.
const SCHEMAS: usize = 1000;
/// How long an id that the registry does not know is not asked for again.
const UNKNOWN: Duration = Duration::from_secs(30);
/// Schemas that one schema may refer to, in all.
const REFERENCES: usize = 100;

/// What an id stands for.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    Schema(Arc<Schema>),
    /// Why records with this id cannot be read: a code, and the text for people.
    Unusable(&'static str, String),
}

/// A schema registry, seen through one format.
#[derive(Debug)]
pub(crate) struct Registry {
    http: Http,
    format: Format,
    known: Mutex<HashMap<u32, (Known, Instant)>>,
    /// One question at a time: all lanes ask for the same few ids.
    asking: tokio::sync::Mutex<()>,
}

/// A schema as the registry gives it.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    id: u32,
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

impl Registry {
    pub fn new(http: Http, format: Format) -> Registry {
        Registry { http, format, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn remembered(&self, id: u32) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, since) = known.get(&id)?;
        match found {
            Known::Unusable("unknown_schema", _) if since.elapsed() > UNKNOWN => None,
            found => Some(found.clone()),
        }
    }

    fn remember(&self, id: u32, found: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SCHEMAS
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| *id)
        {
            known.remove(&oldest);
        }
        known.insert(id, (found, Instant::now()));
    }

    /// What an id stands for. An error is temporary.
    pub async fn by_id(&self, id: u32) -> Result<Known> {
        if let Some(found) = self.remembered(id) {
            return Ok(found);
        }
        let _turn = self.asking.lock().await;
        if let Some(found) = self.remembered(id) {
            return Ok(found);
        }
        let found = match self.http.get(&format!("/schemas/ids/{id}")).await? {
            Answer::Found(body) => self.compiled(&entry(&body)?).await?,
            Answer::NotFound => Known::Unusable("unknown_schema", format!("the schema registry has no schema {id}")),
        };
        self.remember(id, found.clone());
        Ok(found)
    }

    /// The newest schema of a subject, and its id.
    pub async fn latest(&self, subject: &str) -> Result<(u32, Arc<Schema>)> {
        match self.http.get(&format!("/subjects/{}/versions/latest", segment(subject))).await? {
            Answer::Found(body) => {
                let entry = entry(&body)?;
                match self.compiled(&entry).await? {
                    Known::Schema(schema) => Ok((entry.id, schema)),
                    Known::Unusable(_, why) => Err(unusable(subject, &why)),
                }
            }
            Answer::NotFound => Err(unusable(subject, "it has no schema; register one")),
        }
    }

    /// The id of our own schema under a subject; puts it there if `register` says so.
    pub async fn id_of(&self, subject: &str, schema: &SchemaText, register: bool) -> Result<u32> {
        let versions = if register { "/versions" } else { "" };
        let path = format!("/subjects/{}{versions}", segment(subject));
        let body = json!({ "schema": schema.text, "schemaType": self.format.name() });
        match self.http.post(&path, &body).await? {
            Answer::Found(body) => {
                let id = body.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| strange("an answer has no id"))
            }
            Answer::NotFound => {
                Err(unusable(subject, "our schema is not among its versions; register it or set auto_register: true"))
            }
        }
    }

    async fn compiled(&self, entry: &Entry) -> Result<Known> {
        let written = entry.schema_type.as_deref().unwrap_or(Format::Avro.name());
        if written != self.format.name() {
            let why = format!("the schema is {written}, not {}", self.format.name());
            return Ok(Known::Unusable("unusable_schema", why));
        }
        let references = match self.references(&entry.references).await? {
            Ok(references) => references,
            Err(why) => return Ok(Known::Unusable("unusable_schema", why)),
        };
        let text = SchemaText { text: entry.schema.clone(), references };
        Ok(match Schema::compile(self.format, &text, None) {
            Ok(schema) => Known::Schema(Arc::new(schema)),
            Err(why) => Known::Unusable("unusable_schema", why),
        })
    }

    /// The schemas that others refer to, by name, those first that others need.
    async fn references(&self, wanted: &[Reference]) -> Result<Result<Vec<(String, String)>, String>> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut open: Vec<Reference> = wanted.to_vec();
        while let Some(reference) = open.pop() {
            if found.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            if found.len() == REFERENCES {
                return Ok(Err(format!("the schema refers to more than {REFERENCES} others")));
            }
            let path = format!("/subjects/{}/versions/{}", segment(&reference.subject), reference.version);
            match self.http.get(&path).await? {
                Answer::Found(body) => {
                    let entry = entry(&body)?;
                    found.push((reference.name, entry.schema));
                    open.extend(entry.references);
                }
                Answer::NotFound => {
                    let Reference { name, subject, version } = reference;
                    return Ok(Err(format!(
                        "the schema refers to {name}, and there is no version {version} of {subject}"
                    )));
                }
            }
        }
        found.reverse();
        Ok(Ok(found))
    }
}

fn entry(body: &Json) -> Result<Entry> {
    Entry::deserialize(body).map_err(|error| strange("an answer is no schema").caused_by(error))
}

fn strange(what: &str) -> Error {
    Error::temporary(
        ErrorKind::Unavailable,
        "ask the schema registry",
        format!("{what}; is the url that of a registry?"),
    )
}

/// A subject that someone may put right.
fn unusable(subject: &str, why: &str) -> Error {
    Error::temporary(ErrorKind::Unavailable, "ask the schema registry", why).with("subject", subject)
}
