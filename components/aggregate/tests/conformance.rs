//! `aggregate` does what every transform must do, and what its options say.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use serde_json::{Value, json};
use weir::component::{Problems, TransformConfig, conformance};
use weir::event::{Body, Codec};
use weir_aggregate as _;

fn config(options: Value) -> Box<dyn TransformConfig> {
    serde_json::from_value(options).unwrap()
}

fn raw(text: String) -> Body {
    Body::Raw(text.into(), Codec::Json)
}

/// Events whose time goes on, but for some that come late, among them some too late.
fn bodies() -> Vec<Body> {
    let body = |at: i64| {
        let late = if at % 7 == 0 { 25 } else { at % 3 };
        raw(format!(r#"{{"ts":{},"host":"h{}","bytes":{}}}"#, 1_772_323_200 + at * 4 - late, at % 3, at * at % 101))
    };
    (0..40).map(body).collect()
}

#[test]
fn it_goes_on_after_a_restart_at_any_event() {
    let compute = json!({
        "n": "count", "total": {"sum": ".bytes"}, "low": {"min": ".bytes"}, "high": {"max": ".bytes"},
        "mean": {"mean": ".bytes"}, "spread": {"stddev": ".bytes"}, "p50": {"quantile": [".bytes", 0.5]},
        "kinds": {"distinct": ".bytes"}
    });
    for (window, lateness) in [
        (json!({"tumbling": "20s"}), "0s"),
        (json!({"tumbling": "20s"}), "30s"),
        (json!({"sliding": "1m", "every": "15s"}), "10s"),
    ] {
        let options = json!({
            "type": "aggregate", "time": ".ts", "lateness": lateness, "window": window, "group_by": [".host"],
            "compute": compute
        });
        let poison = raw(r#"{"ts":"yesterday","host":"h1","bytes":1}"#.to_owned());
        conformance::transform(&*config(options.clone()), &bodies(), Some(poison));
        let poison = raw(r#"{"ts":1772323300,"host":"h1","bytes":"many"}"#.to_owned());
        conformance::transform(&*config(options), &bodies(), Some(poison));
    }
}

#[test]
fn options_that_make_no_sense_are_told() {
    let options = json!({
        "type": "aggregate", "time": ".ts ==", "window": {"sliding": "1m"}, "group_by": ["upcase(.host)", ".a.n"],
        "compute": {"n": "count", "p": {"quantile": [".x", 99]}}, "early": "0s"
    });
    let mut problems = Problems::default();
    config(options).check(&mut problems);
    let found: Vec<String> =
        problems.into_vec().into_iter().map(|p| format!("{} {}", p.path.join("."), p.code)).collect();
    for expected in [
        "time invalid_time",
        "window bad_value",
        "group_by.0 missing_value",
        "compute.n duplicate",
        "compute.p out_of_range",
        "early out_of_range",
    ] {
        assert!(found.iter().any(|found| found == expected), "{expected} is not among {found:?}");
    }
}
