//! What is to be done with a document, and what an answer means then; pure.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::response::Said;

/// What is done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Written, whether it was there or not.
    Index,
    /// Written where it was not there.
    Create,
    /// The fields of one that is there are changed.
    Update,
    /// The same; one that is not there is written.
    Upsert,
    /// Removed.
    Delete,
}

impl Action {
    /// By its name in options.
    pub fn named(name: &str) -> Option<Action> {
        Some(match name {
            "index" => Action::Index,
            "create" => Action::Create,
            "update" => Action::Update,
            "upsert" => Action::Upsert,
            "delete" => Action::Delete,
            _ => return None,
        })
    }

    /// Its name in a request.
    pub fn verb(self) -> &'static str {
        match self {
            Action::Index => "index",
            Action::Create => "create",
            Action::Update | Action::Upsert => "update",
            Action::Delete => "delete",
        }
    }

    /// Whether nothing of the document that was there before is left by it.
    pub fn replaces(self) -> bool {
        matches!(self, Action::Index | Action::Delete)
    }

    /// Whether it needs a document that is there.
    pub fn needs_id(self) -> bool {
        matches!(self, Action::Update | Action::Upsert | Action::Delete)
    }
}

/// How the server compares versions that come from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionType {
    /// A document is written when its version is higher than the one that is there.
    External,
    /// The same, and also when they are equal.
    ExternalGte,
}

impl VersionType {
    /// Its name in a request.
    pub(crate) fn name(self) -> &'static str {
        match self {
            VersionType::External => "external",
            VersionType::ExternalGte => "external_gte",
        }
    }
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server has it, or has a newer one.
    Delivered,
    /// It is to be sent again; why.
    Again(String),
    /// Sent again, it would be refused again.
    Refused {
        /// The class of error.
        code: &'static str,
        /// Why, for people.
        message: String,
    },
}

/// What tells how answers are to be read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// Documents have versions from outside: who comes late finds a newer one there.
    pub is_versioned: bool,
    /// The index is named by the graph alone: one that is missing, or may not be written, is no fault of an event.
    pub is_index_fixed: bool,
}

/// What the server's word on one item means.
pub(crate) fn verdict(action: Action, rules: Rules, said: &Said) -> Verdict {
    let reject = |code| Verdict::Refused { code, message: said.text() };
    let is_index_missing = said.kind() == "index_not_found_exception";
    match said.status {
        200..=299 => Verdict::Delivered,
        404 if action == Action::Delete => Verdict::Delivered,
        404 if is_index_missing && rules.is_index_fixed => Verdict::Again(said.text()),
        404 if is_index_missing => reject("index_not_found"),
        404 => reject("document_missing"),
        409 if action == Action::Create || rules.is_versioned => Verdict::Delivered,
        // Somebody else wrote it between the server's look and its change.
        409 if matches!(action, Action::Update | Action::Upsert) => Verdict::Again(said.text()),
        // The right to write, and blocks by an administrator: waiting helps, and nothing is lost.
        401 | 403 => Verdict::Again(said.text()),
        408 | 425 | 429 | 500.. => Verdict::Again(said.text()),
        _ if said.is_about_the_mapping() => reject("mapping_failed"),
        _ => reject("elasticsearch_refused"),
    }
}
