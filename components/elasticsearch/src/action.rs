//! What is to be done with a document, and what an answer means then; pure.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::request::Refusal;
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

/// How the server compares external versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionType {
    /// Write the document if its version is higher than the stored one.
    External,
    /// Write the document if its version is higher than or equal to the stored one.
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
    /// The index that the event chose does not take documents; the event waits for it, up to a limit.
    Blocked(Refusal),
    /// Sent again, it would be refused again.
    Refused(Refusal),
}

/// Who chooses the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Chooser {
    /// The graph: an index that is missing, or may not be written, is no fault of an event.
    Graph,
    /// The event, by its time.
    Time,
    /// The event, by what it says.
    #[default]
    Event,
}

/// What tells how answers are to be read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// Documents have versions from outside: who comes late finds a newer one there.
    pub is_versioned: bool,
    /// Who chooses the index.
    pub chooser: Chooser,
    /// The event chooses the pipeline.
    pub is_pipeline_chosen: bool,
}

/// What an error says about, and so who can put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The cluster as a whole: waiting helps.
    Cluster,
    /// One index as it is now: waiting helps, and other indices are not concerned.
    Index,
    /// The ingest pipeline that was named: the same, unless the event names it.
    Pipeline,
    /// There is no such index, alias or data stream, and it is not made.
    MissingIndex,
    /// No index can have that name.
    Name,
    /// The fields of the document.
    Mapping,
    /// The document.
    Document,
}

/// An error by its type and how its reason begins, behind "Validation Failed: 1: "; what it is about.
///
/// Types are the names of the server's classes in snake case, without `Elasticsearch` or `OpenSearch` in front
/// (`ElasticsearchException.getExceptionName`). Each line names the class that makes the reason. The README has the same table.
const KNOWN: [(&str, &str, About); 23] = [
    // ClusterBlockException.buildMessageForIndexBlocks: write, read-only, read-only-allow-delete (429), metadata
    ("cluster_block_exception", "index [", About::Index),
    // ClusterBlockException.buildMessageForGlobalBlocks: no master, not recovered, cluster read-only
    ("cluster_block_exception", "", About::Cluster),
    // OpenSearch IndexCreateBlockException: cluster.blocks.create_index
    ("index_create_block_exception", "", About::Index),
    // ShardLimitValidator.errorMessageFrom, as 400: cluster.max_shards_per_node
    ("validation_exception", "this action would add [", About::Index),
    // IndexClosedException, as 400: POST /INDEX/_close
    ("index_closed_exception", "", About::Index),
    // IndexNameExpressionResolver.concreteIndices, as 400: an alias of several indices without is_write_index
    ("illegal_argument_exception", "no write index is defined for alias [", About::Index),
    // IngestService.resolvePipelines and executePipelines, as 400
    ("illegal_argument_exception", "pipeline with id [", About::Pipeline),
    // MetadataCreateIndexService.validateIndexName, as 400: somebody else makes the index at this moment
    ("resource_already_exists_exception", "", About::Index),
    // MetadataCreateIndexService.validateIndexOrAliasName, as 400
    ("invalid_index_name_exception", "", About::Name),
    // IndexNotFoundException, as 404: action.auto_create_index, require_alias
    ("index_not_found_exception", "", About::MissingIndex),
    // ReplicationOperation: the primary shard is not assigned, or too few copies are active
    ("unavailable_shards_exception", "", About::Index),
    ("no_shard_available_action_exception", "", About::Index),
    ("shard_not_found_exception", "", About::Index),
    ("illegal_index_shard_state_exception", "", About::Index),
    ("index_shard_not_started_exception", "", About::Index),
    ("index_shard_recovering_exception", "", About::Index),
    ("index_shard_closed_exception", "", About::Index),
    ("shard_not_in_primary_mode_exception", "", About::Index),
    // DocumentParsingException, MapperParsingException, StrictDynamicMappingException
    ("document_parsing_exception", "", About::Mapping),
    ("mapper_parsing_exception", "", About::Mapping),
    ("strict_dynamic_mapping_exception", "", About::Mapping),
    // UpdateHelper, as 404
    ("document_missing_exception", "", About::Document),
    // VersionConflictEngineException, as 409
    ("version_conflict_engine_exception", "", About::Document),
];

/// What an error is about. What the table does not know is told by its status: 401 and 403 come from rights, 408, 425, 429, 503
/// and 504 from load, another 5xx from one shard; anything else from the document.
fn about(said: &Said) -> About {
    let known = KNOWN.iter().find(|(kind, start, _)| said.kind() == *kind && said.reason_begins(start));
    match (known, said.status) {
        (Some((_, _, about)), _) => *about,
        (None, 401 | 408 | 425 | 429 | 502..=504) => About::Cluster,
        (None, 403 | 500..) => About::Index,
        // A class that is not in the table: about a shard, an endpoint, a policy; never about a document.
        (None, 404 | 409) if !said.kind().is_empty() => About::Index,
        _ => About::Document,
    }
}

/// Whether the server has more to do than it can.
pub(crate) fn is_push_back(said: &Said) -> bool {
    matches!(said.status, 429 | 503) && about(said) == About::Cluster
}

/// What the server's word on one item means.
pub(crate) fn verdict(action: Action, rules: Rules, said: &Said) -> Verdict {
    let refused = |code| Refusal { code, message: said.text() };
    let reject = |code| Verdict::Refused(refused(code));
    let again = || Verdict::Again(said.text());
    let wait_or_reject = |code| match rules.chooser {
        Chooser::Graph => again(),
        Chooser::Time | Chooser::Event => Verdict::Blocked(refused(code)),
    };
    if (200..300).contains(&said.status) {
        return Verdict::Delivered;
    }
    match (about(said), said.status) {
        (About::Document | About::MissingIndex, 404) if action == Action::Delete => Verdict::Delivered,
        (About::Document, 409) if action == Action::Create || rules.is_versioned => Verdict::Delivered,
        // Somebody else wrote it between the server's look and its change.
        (About::Document, 409) if matches!(action, Action::Update | Action::Upsert) => again(),
        (About::Document, 404) => reject("document_missing"),
        (About::Document, _) => reject("elasticsearch_refused"),
        (About::Mapping, _) => reject("mapping_failed"),
        (About::Cluster, _) => again(),
        (About::Index, _) => wait_or_reject("index_unavailable"),
        (About::Pipeline, _) if rules.is_pipeline_chosen => reject("elasticsearch_refused"),
        (About::Pipeline, _) => wait_or_reject("index_unavailable"),
        (About::MissingIndex, _) if rules.chooser == Chooser::Event => reject("index_not_found"),
        (About::MissingIndex, _) => wait_or_reject("index_not_found"),
        (About::Name, _) if rules.chooser == Chooser::Graph => again(),
        (About::Name, _) => reject("invalid_index_name"),
    }
}
