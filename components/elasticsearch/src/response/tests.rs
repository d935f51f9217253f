#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::action::{Action, Rules, Verdict, verdict};

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
    assert!(said[1].is_about_the_mapping() && !said[2].is_about_the_mapping());
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

#[test]
fn the_verdicts() {
    let fixed = Rules { is_index_fixed: true, is_versioned: false };
    let versioned = Rules { is_index_fixed: true, is_versioned: true };
    let ends = |action, rules, status, kind: &str| match verdict(action, rules, &Said::new(status, kind)) {
        Verdict::Delivered => "delivered",
        Verdict::Again(_) => "again",
        Verdict::Refused { code, .. } => code,
    };
    let conflict = "version_conflict_engine_exception";
    let missing = "index_not_found_exception";
    for (action, rules, status, kind, expected) in [
        (Action::Index, fixed, 201, "", "delivered"),
        (Action::Index, fixed, 400, "document_parsing_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "mapper_parsing_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "strict_dynamic_mapping_exception", "mapping_failed"),
        (Action::Index, fixed, 400, "illegal_argument_exception", "elasticsearch_refused"),
        (Action::Create, fixed, 409, conflict, "delivered"),
        (Action::Index, versioned, 409, conflict, "delivered"),
        (Action::Delete, versioned, 409, conflict, "delivered"),
        (Action::Index, fixed, 409, conflict, "elasticsearch_refused"),
        (Action::Update, fixed, 409, conflict, "again"),
        (Action::Upsert, fixed, 409, conflict, "again"),
        (Action::Delete, fixed, 404, "", "delivered"),
        (Action::Delete, fixed, 404, missing, "delivered"),
        (Action::Update, fixed, 404, "document_missing_exception", "document_missing"),
        (Action::Index, fixed, 404, missing, "again"),
        (Action::Index, Rules::default(), 404, missing, "index_not_found"),
        (Action::Index, fixed, 403, "cluster_block_exception", "again"),
        (Action::Index, fixed, 401, "security_exception", "again"),
        (Action::Index, fixed, 429, "es_rejected_execution_exception", "again"),
        (Action::Index, fixed, 503, "unavailable_shards_exception", "again"),
        (Action::Index, fixed, 500, "", "again"),
        (Action::Index, fixed, 413, "", "elasticsearch_refused"),
        (Action::Index, fixed, 302, "", "elasticsearch_refused"),
    ] {
        assert_eq!(ends(action, rules, status, kind), expected, "{action:?} {status} {kind}");
    }
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
            let end = verdict(ACTIONS[action], Rules { is_versioned, is_index_fixed: true }, &said);
            match status {
                200..=299 => prop_assert_eq!(end, Verdict::Delivered),
                429 | 500.. => prop_assert!(matches!(end, Verdict::Again(_))),
                400 => prop_assert!(matches!(end, Verdict::Refused { .. }), "refused"),
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
