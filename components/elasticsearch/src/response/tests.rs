#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::action::{Action, Chooser, Rules, Verdict, verdict};
use crate::request::Refusal;

fn items(all: Value) -> Vec<u8> {
    json!({"took": 30, "errors": true, "items": all}).to_string().into_bytes()
}

/// As servers answer without `filter_path`, and with.
#[test]
fn each_item_has_its_word_in_order() {
    let answer = items(json!([
        {"index": {"_index": "l", "_id": "1", "_version": 1, "result": "created",
            "_shards": {"total": 2, "successful": 1, "failed": 0}, "status": 201, "_seq_no": 0, "_primary_term": 1}},
        {"index": {"status": 400, "error": {
            "type": "document_parsing_exception",
            "reason": "[1:6] failed to parse field [n] of type [long]",
            "caused_by": {"type": "illegal_argument_exception", "reason": "For input string: \"a\nb\""}}}},
        {"create": {"status": 409, "error": "version conflict"}},
        {"delete": {"status": 404}},
    ]));
    let said = parse(&answer, 4).unwrap();
    let texts: Vec<String> = said.iter().map(Said::text).collect();
    let parsing =
        "HTTP 400 document_parsing_exception: [1:6] failed to parse field [n] of type [long]: For input string: \"ab\"";
    assert_eq!(texts, ["HTTP 201", parsing, "HTTP 409 : version conflict", "HTTP 404"]);
    assert!(said[1].reason_begins("[1:6] failed") && !said[2].reason_begins("[1:6]"));
}

#[test]
fn an_answer_that_is_not_whole_or_not_to_this_request_is_none() {
    let whole = items(json!([{"index": {"status": 201}}, {"index": {"status": 201}}]));
    assert_eq!(parse(&whole, 2).unwrap().len(), 2);
    for end in 0..whole.len() {
        assert!(parse(&whole[..end], 2).is_err(), "cut at {end}");
    }
    assert!(parse(&whole, 1).unwrap_err().contains("more items"));
    assert!(parse(&whole, 3).unwrap_err().contains("2 of 3"));
    for no_answer in
        ["", "[]", "null", "{}", "<html>", r#"{"items":{}}"#, r#"{"items":[{}]}"#, r#"{"items":[{"index":{}}]}"#]
    {
        assert!(parse(no_answer.as_bytes(), 1).is_err(), "{no_answer}");
    }
    let twice = [&whole[..], b" {}"].concat();
    assert!(parse(&twice, 2).is_err(), "something behind it");
}

#[test]
fn a_reason_has_a_bounded_length() {
    let error = json!({"type": "t", "reason": "\u{e4}".repeat(100_000)});
    let said = parse(&items(json!([{"index": {"status": 400, "error": error}}])), 1).unwrap();
    assert!(said[0].text().len() < SHOWN + 20);
    let mut deep = json!("at the bottom");
    for level in 0..50 {
        deep = json!({"type": "t", "reason": format!("level {level}"), "caused_by": deep});
    }
    let said = parse(&items(json!([{"index": {"status": 500, "error": deep}}])), 1).unwrap();
    assert_eq!(said[0].text(), "HTTP 500 t: level 49: level 48: level 47: level 46");
}

const ACTIONS: [Action; 5] = [Action::Index, Action::Create, Action::Update, Action::Upsert, Action::Delete];

/// By the graph, by time, by the event.
const CHOOSERS: [Chooser; 3] = [Chooser::Graph, Chooser::Time, Chooser::Event];

fn rules(chooser: Chooser) -> Rules {
    Rules { chooser, ..Rules::default() }
}

fn end(action: Action, rules: Rules, said: &Said) -> &'static str {
    match verdict(action, rules, said) {
        Verdict::Delivered => "delivered",
        Verdict::Again(_) => "again",
        Verdict::Blocked(_) => "blocked",
        Verdict::Refused(Refusal { code, .. }) => code,
    }
}

#[test]
fn the_verdicts_on_documents() {
    let versioned = Rules { is_versioned: true, ..rules(Chooser::Graph) };
    let fixed = rules(Chooser::Graph);
    let conflict = "version_conflict_engine_exception";
    for (action, rules, status, kind, expected) in [
        (Action::Index, fixed, 201, "", "delivered"),
        (Action::Index, fixed, 400, "document_parsing_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "mapper_parsing_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "strict_dynamic_mapping_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "illegal_argument_exception", "elasticsearch_refused"),
        (Action::Index, fixed, 400, "validation_exception", "elasticsearch_refused"),
        (Action::Create, fixed, 409, conflict, "delivered"),
        (Action::Create, fixed, 409, "", "delivered"),
        (Action::Create, fixed, 409, "index_shard_recovering_exception", "again"),
        (Action::Index, versioned, 409, conflict, "delivered"),
        (Action::Delete, versioned, 409, conflict, "delivered"),
        (Action::Index, fixed, 409, conflict, "elasticsearch_refused"),
        (Action::Update, fixed, 409, conflict, "again"),
        (Action::Upsert, fixed, 409, conflict, "again"),
        (Action::Delete, fixed, 404, "", "delivered"),
        (Action::Delete, fixed, 404, "index_not_found_exception", "delivered"),
        (Action::Delete, fixed, 404, "shard_not_found_exception", "again"),
        (Action::Update, fixed, 404, "document_missing_exception", "document_missing"),
        (Action::Update, fixed, 404, "shard_not_found_exception", "again"),
        (Action::Index, fixed, 413, "", "elasticsearch_refused"),
        (Action::Index, fixed, 302, "", "elasticsearch_refused"),
    ] {
        assert_eq!(end(action, rules, &Said::new(status, kind, "because")), expected, "{action:?} {status} {kind}");
    }
}

#[test]
fn an_index_or_a_cluster_that_takes_no_documents_is_waited_for_whatever_the_status() {
    const SHARDS: &str = "Validation Failed: 1: this action would add [2] shards, but this cluster currently has [10]/[10] \
        maximum normal shards open;";
    const TOTAL: &str = "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has [1]/[1] \
        maximum shards open;";
    const ALIAS: &str = "no write index is defined for alias [a]. The write index may be explicitly disabled";
    const BLOCK: &str = "index [a] blocked by: [FORBIDDEN/8/index write (api)];";
    const FLOOD: &str = "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has \
        read-only-allow-delete block];";
    const MASTER: &str = "blocked by: [SERVICE_UNAVAILABLE/2/no master];";
    const READ_ONLY: &str = "blocked by: [FORBIDDEN/6/cluster read-only (api)];";
    for (status, kind, reason, by_graph, by_time, by_event) in [
        (400, "validation_exception", SHARDS, "again", "blocked", "blocked"),
        (400, "validation_exception", TOTAL, "again", "blocked", "blocked"),
        (400, "index_closed_exception", "closed", "again", "blocked", "blocked"),
        (400, "illegal_argument_exception", ALIAS, "again", "blocked", "blocked"),
        (400, "illegal_argument_exception", "pipeline with id [p] does not exist", "again", "blocked", "blocked"),
        (400, "resource_already_exists_exception", "index [a] already exists", "again", "blocked", "blocked"),
        (
            400,
            "invalid_index_name_exception",
            "Invalid index name [A]",
            "again",
            "invalid_index_name",
            "invalid_index_name",
        ),
        (403, "cluster_block_exception", BLOCK, "again", "blocked", "blocked"),
        (429, "cluster_block_exception", FLOOD, "again", "blocked", "blocked"),
        (403, "index_create_block_exception", "blocked by: [FORBIDDEN/10/x];", "again", "blocked", "blocked"),
        (403, "cluster_block_exception", READ_ONLY, "again", "again", "again"),
        (503, "cluster_block_exception", MASTER, "again", "again", "again"),
        (404, "index_not_found_exception", "no such index [a]", "again", "blocked", "index_not_found"),
        (
            403,
            "security_exception",
            "action [indices:data/write/bulk[s]] is unauthorized",
            "again",
            "blocked",
            "blocked",
        ),
        (401, "security_exception", "unable to authenticate", "again", "again", "again"),
        (429, "es_rejected_execution_exception", "rejected", "again", "again", "again"),
        (429, "circuit_breaking_exception", "too large", "again", "again", "again"),
        (503, "unavailable_shards_exception", "[a][0] primary shard is not active", "again", "blocked", "blocked"),
        (503, "process_cluster_event_timeout_exception", "failed to process", "again", "again", "again"),
        (500, "", "", "again", "blocked", "blocked"),
    ] {
        let said = Said::new(status, kind, reason);
        let found = CHOOSERS.map(|chooser| end(Action::Index, rules(chooser), &said));
        assert_eq!(found, [by_graph, by_time, by_event], "{status} {kind} {reason}");
    }
    let chosen = Rules { is_pipeline_chosen: true, ..rules(Chooser::Graph) };
    let missing = Said::new(400, "illegal_argument_exception", "pipeline with id [p] does not exist");
    assert_eq!(end(Action::Index, chosen, &missing), "elasticsearch_refused");
}

proptest! {
    /// Whatever the statuses: one verdict for each item, 2xx is delivered, and what is to be sent again never was 2xx.
    #[test]
    fn every_item_has_one_end(
        statuses in prop::collection::vec((0usize..5, prop_oneof![200u16..206, 300u16..600]), 0..50),
        is_versioned in any::<bool>(),
    ) {
        let one = |(action, status): &(usize, u16)| json!({ (ACTIONS[*action].verb()): {"status": status} });
        let answer = items(statuses.iter().map(one).collect());
        let said = parse(&answer, statuses.len()).unwrap();
        prop_assert_eq!(said.len(), statuses.len());
        for ((action, status), said) in statuses.into_iter().zip(said) {
            prop_assert_eq!(status, said.status);
            let end = verdict(ACTIONS[action], Rules { is_versioned, ..rules(Chooser::Graph) }, &said);
            match status {
                200..=299 => prop_assert_eq!(end, Verdict::Delivered),
                429 | 500.. => prop_assert!(matches!(end, Verdict::Again(_))),
                400 => prop_assert!(matches!(end, Verdict::Refused(_)), "refused"),
                _ => {}
            }
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300), expected in 0usize..5) {
        let _either = parse(&bytes, expected);
        let answer = [b"{\"items\":[", &bytes[..], b"]}"].concat();
        let _either = parse(&answer, expected);
    }
}
