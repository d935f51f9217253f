//! Which events are the same, and which are not.

use serde_json::{Value, json};

use super::*;

fn known(event: &Value) -> Known {
    let compact = of(&Bytes::from(event.to_string())).unwrap();
    let pretty = of(&Bytes::from(serde_json::to_string_pretty(event).unwrap())).unwrap();
    assert_eq!(compact, pretty, "how it is written makes no difference: {event}");
    compact
}

fn identity(event: &Value) -> Option<u128> {
    known(event).identity
}

/// As Filebeat 7 writes it.
fn line() -> Value {
    json!({
        "@timestamp": "2026-01-02T03:04:05.678Z",
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": "7.17.28"},
        "agent": {"id": "6f2c", "ephemeral_id": "77aa", "hostname": "node-1", "name": "node-1", "version": "7.17.28"},
        "log": {"offset": 1234, "file": {"path": "/var/log/a.log"}},
        "message": "it \"failed\" \\ é",
        "host": {"name": "node-1"},
    })
}

/// The line with another value at this place; none: without one.
fn with(path: &str, value: Value) -> Value {
    let mut event = line();
    let (holder, name) = path.rsplit_once('/').unwrap();
    let holder = event.pointer_mut(holder).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => holder.remove(name),
        value => holder.insert(name.to_owned(), value),
    };
    event
}

#[test]
fn a_line_is_known_again_by_who_read_it_where_it_stood_and_what_it_says() {
    let this = identity(&line()).unwrap();
    let read_again = [
        with("/@timestamp", json!("2026-01-02T09:00:00.000Z")),
        with("/agent/ephemeral_id", json!("other")),
        with("/agent/version", json!("8.1.0")),
        with("/fields", json!({"service": "a"})),
        with("/@metadata/topic", json!("a")),
    ];
    for event in read_again {
        assert_eq!(identity(&event), Some(this), "{event}");
    }
    let other = [
        with("/agent/id", json!("7a")),
        with("/log/offset", json!(1235)),
        with("/log/file/path", json!("/var/log/b.log")),
        with("/log/file/inode", json!("99")),
        with("/log/file/device_id", json!("99")),
        with("/log/file/fingerprint", json!("99")),
        with("/message", json!("it failed")),
        with("/message", Value::Null),
    ];
    let mut all: Vec<u128> = other.iter().map(|event| identity(event).unwrap()).collect();
    all.push(this);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), other.len() + 1);
}

#[test]
fn escapes_and_names_that_come_twice_mean_what_json_says() {
    let text = r#"{"@timestamp":"x","agent":{"id":"no"},"agent":{"\u0069d":"6f2c"},"log":{"offset":1234,"file":{"path":"\/var\/log\/a.log"}},"message":"it \u0022failed\u0022 \u005c \u00e9"}"#;
    assert_eq!(of(&Bytes::from_static(text.as_bytes())).unwrap().identity, identity(&line()));
}

#[test]
fn older_filebeats_name_it_otherwise() {
    let six = json!({
        "@timestamp": "2026-01-02T03:04:05.678Z", "beat": {"hostname": "node-1", "name": "n", "version": "6.8.0"},
        "source": "/var/log/a.log", "offset": 77, "message": "m",
    });
    let this = identity(&six).unwrap();
    for (name, value) in
        [("offset", json!(78)), ("source", json!("/b")), ("message", json!("n")), ("beat", json!({"name": "x"}))]
    {
        let mut other = six.clone();
        other[name] = value;
        assert!(identity(&other).is_some_and(|identity| identity != this), "{other}");
    }
    // Where a processor has dropped `agent`, the host has read it.
    let by_host = identity(&with("/agent", Value::Null)).unwrap();
    assert_ne!(Some(by_host), identity(&line()));
    let mut nobody = with("/agent", Value::Null);
    nobody.as_object_mut().unwrap().remove("host");
    assert_eq!(identity(&nobody), None, "the same line of the same path may be another host's");
}

#[test]
fn who_names_a_document_is_taken_at_his_word() {
    let named = |id: &str| identity(&with("/@metadata/_id", json!(id))).unwrap();
    let mut elsewhere = with("/@metadata/_id", json!("a"));
    elsewhere["message"] = json!("another");
    assert_eq!(identity(&elsewhere), Some(named("a")));
    assert_ne!(named("a"), named("b"));
}

#[test]
fn what_is_no_line_is_known_by_all_of_it_if_that_is_safe() {
    let measured = json!({
        "@timestamp": "2026-01-02T03:04:05.678Z", "agent": {"id": "6f2c"}, "metricset": {"name": "cpu"}, "system": {"cpu": 0.25},
    });
    let this = identity(&measured).unwrap();
    let reordered = r#"{"system":{"cpu":0.25},"metricset":{"name":"cpu"},"agent":{"id":"6f2c"},"@timestamp":"2026-01-02T03:04:05.678Z"}"#;
    assert_eq!(of(&Bytes::from_static(reordered.as_bytes())).unwrap().identity, Some(this));
    for name in ["@timestamp", "agent"] {
        let mut part = measured.clone();
        part.as_object_mut().unwrap().remove(name);
        assert_eq!(identity(&part), None, "without {name}");
    }
    let mut said = measured.clone();
    said["message"] = json!("over the network");
    assert_eq!(identity(&said), None, "it may be said twice in a millisecond");
}

#[test]
fn the_time_is_that_of_the_event() {
    assert_eq!(known(&line()).time, Some(Timestamp(1_767_323_045_678)));
    assert_eq!(known(&with("/@timestamp", json!("yesterday"))).time, None);
    assert_eq!(known(&with("/@timestamp", Value::Null)).time, None);
}

#[test]
fn what_is_no_event_of_a_beat_tells_nothing() {
    for text in ["7", "[]", "{}", "null", r#"{"log":1,"agent":"a","@metadata":[],"message":{}}"#] {
        assert_eq!(of(&Bytes::from_static(text.as_bytes())), Ok(Known::default()), "{text}");
    }
    for text in ["", "{", "plain text"] {
        assert!(of(&Bytes::from_static(text.as_bytes())).is_err(), "{text}");
    }
}

/// Identities are written into other systems, so they have to stay what they are.
#[test]
fn identities_are_the_same_for_ever() {
    assert_eq!(
        identity(&line()).map(|bits| format!("{bits:032x}")).as_deref(),
        Some("19e75d96e55597f9dc7a88ea7cff1f4e")
    );
}
