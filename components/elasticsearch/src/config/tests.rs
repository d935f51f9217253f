#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn config(more: Value) -> Elasticsearch {
    let mut all = json!({"endpoints": ["http://es:9200"], "index": "logs"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// Each problem as `option code`.
fn problems(more: Value) -> Vec<String> {
    let mut problems = Problems::default();
    config(more).check(&mut problems);
    problems.into_vec().into_iter().map(|problem| format!("{} {}", problem.path.join("."), problem.code)).collect()
}

#[test]
fn options_that_make_sense_are_fine() {
    for options in [
        json!({}),
        json!({"index": "l-%Y.%m.%d", "time": ".at", "id": "none", "compression": "gzip"}),
        json!({"index": "<logs-{now/d}>"}),
        json!({"index": "{{ .service }}", "action": "{{ .op }}", "id": "{{ .id }}", "routing": "{{ .tenant }}"}),
        json!({"data_stream": true, "action": "create", "pipeline": "p"}),
        json!({"action": "update", "id": "{{ .id }}", "request": {"concurrency": 4}}),
        json!({"version": "{{ .v }}", "version_type": "external_gte", "id": "{{ .id }}", "request": {"concurrency": "adaptive"}}),
        json!({"template": {"name": "logs", "body": {"index_patterns": ["logs-*"]}}}),
    ] {
        assert_eq!(problems(options.clone()), Vec::<String>::new(), "{options}");
    }
}

#[test]
fn every_contradiction_is_told() {
    for (options, expected) in [
        (json!({"endpoints": []}), vec!["endpoints missing_value"]),
        (json!({"endpoints": ["es:9200"]}), vec!["endpoints bad_value"]),
        (json!({"index": " "}), vec!["index missing_value"]),
        (json!({"index": "{{ .a"}), vec!["index invalid_template"]),
        (json!({"index": "Logs"}), vec!["index bad_value"]),
        (json!({"index": "logs-%A"}), vec!["index bad_value"]),
        (json!({"index": "logs/a"}), vec!["index bad_value"]),
        (json!({"index": "_logs"}), vec!["index bad_value"]),
        (json!({"action": "replace"}), vec!["action bad_value"]),
        (json!({"data_stream": true, "action": "index"}), vec!["action invalid_option"]),
        (json!({"data_stream": true, "version": "1"}), vec!["version invalid_option"]),
        (json!({"action": "delete"}), vec!["id missing_value"]),
        (json!({"action": "update"}), vec!["id missing_value"]),
        (json!({"action": "upsert", "id": "none"}), vec!["id missing_value"]),
        (json!({"version": "{{ .v }}", "id": "none"}), vec!["version invalid_option"]),
        (json!({"version": "{{ .v }}", "action": "upsert"}), vec!["version invalid_option"]),
        (json!({"version_type": "external"}), vec!["version_type missing_value"]),
        (json!({"pipeline": "p", "action": "delete", "id": "1"}), vec!["pipeline invalid_option"]),
        (json!({"time": ".at +", "index": "l-%Y"}), vec!["time invalid_time"]),
        (json!({"batch": {"max_events": 0}}), vec!["batch.max_events out_of_range"]),
        (
            json!({"batch": {"max_bytes": "1GiB", "timeout_secs": -1.0}}),
            vec!["batch.max_bytes out_of_range", "batch.timeout_secs out_of_range"],
        ),
        (json!({"request": {"concurrency": 0}}), vec!["request.concurrency out_of_range"]),
        (
            json!({"request": {"max": 1000, "timeout": "0s"}}),
            vec!["request.timeout out_of_range", "request.max out_of_range"],
        ),
        (json!({"auth": {"strategy": "basic", "username": "u", "password": "p"}}), vec!["endpoints password_in_clear"]),
        (
            json!({"endpoints": ["https://es"], "auth": {"strategy": "api_key", "key": "id:secret"}}),
            vec!["auth.key bad_value"],
        ),
        (json!({"endpoints": ["https://es"], "auth": {"strategy": "bearer", "token": "a\nb"}}), vec!["auth bad_value"]),
        (
            json!({"tls": {"cert_file": "c", "verify_certificate": false}}),
            vec!["tls bad_value", "tls.verify_certificate unverified_peer"],
        ),
        (json!({"template": {"name": "A b"}}), vec!["template.name bad_value", "template missing_value"]),
        (json!({"template": {"name": "a", "body": {}, "file": "f"}}), vec!["template.file invalid_option"]),
        (json!({"template": {"name": "a", "body": {"template": {}}}}), vec!["template.body missing_value"]),
    ] {
        assert_eq!(problems(options.clone()), expected, "{options}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let options = json!({
        "endpoints": ["https://es:9200/TOKEN"],
        "auth": {"strategy": "api_key", "key": "SECRET"},
    });
    let shown = format!("{:?}", config(options));
    assert!(shown.contains("https://es:9200") && !shown.contains("TOKEN") && !shown.contains("SECRET"), "{shown}");
}
