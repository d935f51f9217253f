//! The shared kit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir::component::{Problems, SinkConfig, TransformConfig, conformance};
use weir::event::{Body, Codec};
use weir_alerts as _;

fn raw(body: Value) -> Body {
    Body::Raw(body.to_string().into(), Codec::Json)
}

/// Samples of three alerts in every state, with the series between them that make no alert.
fn samples() -> Vec<Body> {
    let sample = |at: usize| {
        let (name, value) = match at % 11 {
            3 => ("ALERTS", json!("stale")),
            5 => ("ALERTS", json!(0)),
            7 => ("up", json!(1)),
            9 => ("ALERTS_FOR_STATE", json!(1_772_323_200 + at)),
            _ => ("ALERTS", json!(1)),
        };
        let state = if at % 7 == 6 { "pending" } else { "firing" };
        let labels = json!({"alertname": format!("A{}", at % 3), "alertstate": state, "cluster": "c", "why": "disk almost full"});
        raw(
            json!({"name": name, "labels": labels, "value": value, "timestamp": 1_772_323_200_000_i64 + at as i64 * 30_000}),
        )
    };
    (0..40).map(sample).collect()
}

#[test]
fn alert_firing_goes_on_after_a_restart_at_any_event() {
    for emit in ["active", "changes", "all"] {
        for (resolve_after, lateness) in
            [("1s", None), ("2m", None), ("11m", None), ("2m", Some("0s")), ("11m", Some("1m"))]
        {
            let mut options = json!({"type": "alert_firing", "emit": emit, "resolve_after": resolve_after});
            if let Some(lateness) = lateness {
                options["lateness"] = lateness.into();
            }
            let config: Box<dyn TransformConfig> = serde_json::from_value(options).unwrap();
            let poison = raw(json!({"name": "ALERTS", "labels": {"alertstate": "firing"}, "value": "much"}));
            conformance::transform(&*config, &samples(), Some(poison));
        }
    }
}

#[test]
fn a_signal_goes_on_after_a_restart_at_any_event() {
    let loads = [10, 45, 35, 41, 38, 29, 20, 39, 40, 39, 60, 31, 30, 12];
    let body = |at: usize| raw(json!({"cpu": loads[at % loads.len()], "host": at % 3, "seq": at}));
    let bodies: Vec<Body> = (0..60).map(body).collect();
    for (key, emit) in [(json!(".host"), "changes"), (Value::Null, "changes"), (json!(".host"), "all")] {
        let (on, off) = ("(.cpu >= 40) ?? false", "(.cpu < 30) ?? false");
        let options = json!({"type": "hysteresis", "on": on, "off": off, "key": key, "emit": emit});
        let config: Box<dyn TransformConfig> = serde_json::from_value(options).unwrap();
        conformance::transform(&*config, &bodies, Some(Body::Raw("{".into(), Codec::Json)));
    }
}

/// A peer that takes what it is sent.
async fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(async || StatusCode::OK);
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    address
}

fn alerts() -> Vec<Body> {
    let alert = |at: usize| {
        let state = if at % 4 == 3 { "resolved" } else { "firing" };
        raw(json!({"state": state, "labels": {"alertname": format!("A{}", at % 5)}, "value": 1.0,
            "starts_at": "2026-03-01T00:00:00Z", "ends_at": null}))
    };
    (0..10).map(alert).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_do_what_every_sink_must() {
    let url = listen().await;
    for options in [
        json!({"type": "alertmanager", "endpoints": [url]}),
        json!({"type": "alertmanager", "endpoints": [url, "http://127.0.0.1:1"], "resend": false, "batch_size": 2}),
        json!({"type": "webhook", "url": url, "group_wait": "1ms"}),
    ] {
        let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
        conformance::sink(&*config, &alerts(), Some(raw(json!({"state": "unknown"})))).await;
    }
    let options =
        json!({"type": "webhook", "url": url, "body": "{{ .labels.alertname }}", "content_type": "text/plain"});
    let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
    conformance::sink(&*config, &alerts(), Some(raw(json!({"labels": {}})))).await;
}

#[test]
fn options_that_make_no_sense_are_told() {
    let codes = |options: Value| -> Vec<String> {
        let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        problems.into_vec().into_iter().map(|problem| format!("{} {}", problem.path.join("."), problem.code)).collect()
    };
    let options = json!({
        "type": "alertmanager", "endpoints": ["am:9093"], "resolve_timeout": "30s", "annotations": {"a": "{{ .b"},
    });
    let expected = ["endpoints bad_value", "annotations.a invalid_template", "resolve_timeout out_of_range"];
    assert_eq!(codes(options), expected);
    let options = json!({"type": "alertmanager", "endpoints": [], "resend_delay": "0s"});
    assert!(codes(options.clone()).contains(&"endpoints missing_value".to_owned()));
    assert!(codes(options).contains(&"resend_delay out_of_range".to_owned()));
    let options = json!({"type": "webhook", "url": "http://a", "payload": "alertmanager", "body": "x"});
    assert_eq!(codes(options), ["body invalid_option"]);
    let options = json!({"type": "webhook", "url": "http://a", "payload": "body", "headers": {"a b": "c"}});
    assert_eq!(codes(options), ["body missing_value", "headers.a b bad_value"]);
}
