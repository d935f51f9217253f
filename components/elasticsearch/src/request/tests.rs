#![allow(clippy::unwrap_used)]
use serde_json::{Value as Json, json};
use vrl::value::Value;
use weir::event::{Meta, OriginKind};

use super::*;

const NOON: Timestamp = Timestamp(1_772_366_400_000); // 2026-03-01T12:00:00Z

fn sources<'a>() -> Sources<'a> {
    Sources {
        index: "logs",
        time: None,
        action: "index",
        id: Some("{{ .id }}"),
        version: None,
        routing: None,
        pipeline: None,
        require_alias: false,
        stamp: false,
    }
}

fn origin() -> OriginId {
    OriginId { node: "in".to_owned(), log: "log".to_owned(), partition: 0, kind: OriginKind::Kafka }
}

fn json(body: &'static str) -> Event {
    Event::new(Body::Raw(body.as_bytes().into(), Codec::Json), Position(7), NOON)
}

fn write(sources: Sources<'_>, event: &Event) -> Result<String, Refusal> {
    let mut writer = Writer::compile(sources, &mut Problems::default()).unwrap();
    let mut out = b"before\n".to_vec();
    let written = writer.write(event, &origin(), &mut out);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("before\n").unwrap().to_owned();
    match written {
        Ok(_) => Ok(text),
        Err(refusal) => {
            assert_eq!(text, "", "of what is refused nothing is left");
            Err(refusal)
        }
    }
}

/// The lines as JSON.
fn lines(sources: Sources<'_>, event: &Event) -> Vec<Json> {
    let text = write(sources, event).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_event_that_nobody_changed_goes_as_the_bytes_it_came_on_one_line() {
    let odd = r#"{ "id" : "a\"1", "n":1.50, "n":"\u0041" }"#;
    let text = write(sources(), &json(odd)).unwrap();
    assert_eq!(text, format!("{{\"index\":{{\"_index\":\"logs\",\"_id\":\"a\\\"1\"}}}}\n{odd}\n"));
    let pretty = "{\n  \"id\": 5,\n\t\"m\": [ 1 ]\n}\n";
    let text = write(sources(), &json(pretty)).unwrap();
    assert_eq!(text, "{\"index\":{\"_index\":\"logs\",\"_id\":\"5\"}}\n{  \"id\": 5,\t\"m\": [ 1 ]}\n");
}

#[test]
fn each_action_has_its_lines() {
    let event = json(r#"{"id":"1","a":2}"#);
    let of = |action| lines(Sources { action, ..sources() }, &event);
    let document = json!({"id": "1", "a": 2});
    assert_eq!(of("create"), [json!({"create": {"_index": "logs", "_id": "1"}}), document.clone()]);
    let head = json!({"update": {"_index": "logs", "_id": "1", "retry_on_conflict": 3}});
    assert_eq!(of("update"), [head.clone(), json!({"doc": document})]);
    assert_eq!(of("upsert"), [head, json!({"doc": document, "doc_as_upsert": true})]);
    assert_eq!(of("delete"), [json!({"delete": {"_index": "logs", "_id": "1"}})]);
    let by_event = r#"{{ if .a == 2 { "delete" } else { "index" } }}"#;
    assert_eq!(of(by_event), [json!({"delete": {"_index": "logs", "_id": "1"}})]);
    let refused = write(Sources { action: "{{ .id }}", ..sources() }, &event).unwrap_err();
    assert_eq!(refused.code, "invalid_action");
}

#[test]
fn a_tombstone_deletes_the_document_of_its_key_and_is_refused_where_no_key_names_one() {
    let mut event = Event::new(Body::Parsed(Value::Null), Position(0), NOON);
    event.meta = Some(Box::new(Meta { key: Some("k".into()), ..Meta::default() }));
    let options = |action| Sources { action, id: Some("{{ %kafka.key }}"), ..sources() };
    let by_event = r#"{{ if is_null(.) { "delete" } else { "index" } }}"#;
    for action in ["index", "create", "upsert", "{{ .action }}", by_event] {
        let deletion = lines(options(action), &event);
        assert_eq!(deletion, [json!({"delete": {"_index": "logs", "_id": "k"}})], "{action}");
    }
    let refused = |sources, event: &Event| write(sources, event).unwrap_err().code;
    for id in [None, Some("none"), Some("{{ .id }}"), Some("one")] {
        assert_eq!(refused(Sources { id, ..sources() }, &event), "tombstone", "{id:?}");
    }
    let asked_for = lines(Sources { action: by_event, id: Some("one"), ..sources() }, &event);
    assert_eq!(asked_for, [json!({"delete": {"_index": "logs", "_id": "one"}})]);
    let by_field = Sources { index: "{{ .kind }}", ..options("index") };
    assert_eq!(refused(by_field, &event), "template_error", "a tombstone has no field to name an index");
    event.meta.as_mut().unwrap().is_null = true;
    assert_eq!(refused(options("index"), &event), "no_object");
    assert_eq!(lines(options(by_event), &event)[0], json!({"delete": {"_index": "logs", "_id": "k"}}));
}

#[test]
fn what_goes_beside_the_action() {
    let event = json(r#"{"id":"1","v":41,"r":"shard a","p":"geo"}"#);
    let all = Sources {
        version: Some(("{{ .v }}", Some(VersionType::ExternalGte))),
        routing: Some("{{ .r }}"),
        pipeline: Some("{{ .p }}"),
        require_alias: true,
        ..sources()
    };
    let head = json!({"_index": "logs", "routing": "shard a", "_id": "1", "version": 41, "version_type": "external_gte",
        "pipeline": "geo", "require_alias": true});
    assert_eq!(lines(all, &event)[0]["index"], head);
    for version in ["{{ .r }}", "-1", "1.5", "99999999999999999999"] {
        let refused = write(Sources { version: Some((version, None)), ..sources() }, &event).unwrap_err();
        assert_eq!(refused.code, "invalid_version", "{version}");
    }
}

#[test]
fn ids_are_the_event_s_the_graph_s_or_the_server_s() {
    let event = json(r#"{"id":"","x":1}"#);
    let token = event.token(&origin());
    let head = |id| lines(Sources { id, ..sources() }, &event)[0]["index"].clone();
    assert_eq!(head(None), json!({"_index": "logs", "_id": token}));
    assert_eq!(head(Some("none")), json!({"_index": "logs"}));
    assert_eq!(head(Some("x{{ .x }}")), json!({"_index": "logs", "_id": "x1"}));
    let long = "x".repeat(513);
    let code = |id, action| write(Sources { id: Some(id), action, ..sources() }, &event).unwrap_err().code;
    assert_eq!(code("{{ .id }}", "index"), "invalid_id", "an empty one");
    assert_eq!(code(&long, "index"), "invalid_id");
    assert_eq!(code("none", "{{ \"update\" }}"), "invalid_id");
    assert_eq!(code("{{ .nothing }}", "index"), "template_error");
}

#[test]
fn only_ids_of_the_graph_are_keys() {
    let event = json(r#"{"id":"1","r":"a"}"#);
    let key = |id, routing, index| {
        let sources = Sources { id, routing, index, ..sources() };
        let mut writer = Writer::compile(sources, &mut Problems::default()).unwrap();
        writer.write(&event, &origin(), &mut Vec::new()).unwrap().key
    };
    assert_eq!((key(None, None, "l"), key(Some("none"), None, "l")), (None, None));
    let keys = [
        key(Some("1"), None, "l"),
        key(Some("1"), Some("{{ .r }}"), "l"),
        key(Some("1"), None, "m"),
        key(Some("2"), None, "l"),
    ];
    assert!(keys.iter().enumerate().all(|(at, key)| key.is_some() && !keys[..at].contains(key)), "{keys:?}");
}

#[test]
fn the_index_follows_the_time_of_the_event_or_one_of_its_fields() {
    let at = |index, time, event: &Event| {
        lines(Sources { index, time, ..sources() }, event)[0]["index"]["_index"].as_str().unwrap().to_owned()
    };
    let event = json(r#"{"id":"1","at":"2026-02-28T23:59:59.999Z","s":"shop","unix":0,"wrong":"x"}"#);
    assert_eq!(at("logs-%Y.%m.%d", None, &event), "logs-2026.03.01");
    assert_eq!(at("logs-%Y.%m.%d", Some(".at"), &event), "logs-2026.02.28");
    assert_eq!(at("{{ .s }}-%Y.%m", Some(".at"), &event), "shop-2026.02");
    assert_eq!(at("{{ .s }}-%H", None, &event), "shop-12");
    assert_eq!(at("l-%Y", Some(".unix"), &event), "l-1970");
    let refused = write(Sources { index: "l-%Y", time: Some(".wrong"), ..sources() }, &event).unwrap_err();
    assert_eq!(refused.code, "invalid_time");
    let refused = write(Sources { index: "{{ to_string(.empty) ?? \"\" }}", ..sources() }, &event).unwrap_err();
    assert_eq!(refused.code, "template_failed");
}

#[test]
fn a_remembered_hour_is_no_other_hour() {
    for (pattern, format) in
        [("d-%Y.%m.%d", "d-%Y.%m.%d"), ("m-%d.%H.%M", "m-%d.%H.%M"), ("s-%S%3f", "s-%S%3f"), ("h-%I%p", "h-%I%p")]
    {
        let mut writer = Writer::compile(Sources { index: pattern, ..sources() }, &mut Problems::default()).unwrap();
        for step in 0..500_i64 {
            // Forth and back, over ends of hours and days, and before 1970.
            let time = Timestamp((step * 977_777).rem_euclid(200_000_000) - 100_000_000);
            let expected = chrono_text(time, format);
            assert_eq!(writer.index_at(time), Some(expected), "{pattern} {time:?}");
        }
    }
}

/// What a template without memory makes of it.
fn chrono_text(time: Timestamp, format: &str) -> String {
    let (mut template, _) = Template::compile_with_time(format).unwrap();
    template.render(&Event::new(Body::Raw(Bytes::new(), Codec::Raw), Position(0), time), &origin()).unwrap()
}

#[test]
fn what_is_no_json_object_is_refused() {
    let code =
        |body: Body| write(Sources { id: None, ..sources() }, &Event::new(body, Position(0), NOON)).unwrap_err().code;
    let raw = |text: &'static str| Body::Raw(text.as_bytes().into(), Codec::Json);
    for text in ["[1]", "5", "\"x\"", "null", " true "] {
        assert_eq!(code(raw(text)), "no_object", "{text}");
    }
    for text in ["", "{", "{\"a\":1}}", "{\"a\":1} {\"delete\":{}}", "{\"a\":\"x\ny\"}", "{'a':1}"] {
        assert_eq!(code(raw(text)), "invalid_json", "{text}");
    }
    assert_eq!(code(Body::Parsed(Value::from(5))), "no_object");
    assert_eq!(code(Body::Raw((&b"\xff"[..]).into(), Codec::Text)), "invalid_utf8");
}

#[test]
fn a_text_is_the_field_message() {
    let event = Event::new(Body::Raw("say \"hi\"\nand more".into(), Codec::Text), Position(0), NOON);
    let all = lines(Sources { id: None, ..sources() }, &event);
    assert_eq!(all[1], json!({"message": "say \"hi\"\nand more"}));
}

#[test]
fn a_data_stream_s_documents_have_a_time() {
    let stamped = |body: &'static str| {
        let text = write(Sources { stamp: true, action: "create", id: None, ..sources() }, &json(body)).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(stamped(r#" {"a":1}"#), r#" {"@timestamp":"2026-03-01T12:00:00Z","a":1}"#);
    assert_eq!(stamped("{ }"), r#"{"@timestamp":"2026-03-01T12:00:00Z" }"#);
    let own = r#"{"a":1,"@timestamp":"2020-01-01T00:00:00Z"}"#;
    assert_eq!(stamped(own), own);
    assert_eq!(stamped(r#"{"x":{"@timestamp":1}}"#), r#"{"@timestamp":"2026-03-01T12:00:00Z","x":{"@timestamp":1}}"#);
    let text = Event::new(Body::Raw("hi".into(), Codec::Text), Position(0), NOON);
    let all = lines(Sources { stamp: true, id: None, ..sources() }, &text);
    assert_eq!(all[1], json!({"@timestamp": "2026-03-01T12:00:00Z", "message": "hi"}));
    let other = lines(
        Sources { stamp: true, time: Some(".at"), id: None, ..sources() },
        &json(r#"{"at":"2026-01-01T00:00:00Z"}"#),
    );
    assert_eq!(other[1]["@timestamp"], json!("2026-01-01T00:00:00Z"));
}
