//! Points of metrics over real files: from format to format, and records that hold several.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use serde_json::Value;
use weir_tests::command::{weir, weir_with};
use weir_tests::process::Home;

/// As Vector writes them: with blanks in labels, names in quotes, and values of every kind.
const VECTOR: &str = r#"2022-08-02T14:12:43Z ALERTS{alertname="DiskFull",alertstate="firing",severity="critical",summary="disk almost full"} = 1
2022-08-02T14:12:43.123Z "node:cpu:rate5m"{cluster="a",path="C:\\x \"y\""} = 0.010692756633701114
2022-08-02T14:12:44Z request_duration_seconds_bucket{le="+Inf"} = inf
2022-08-02T14:12:44Z up{} = NaN
"#;

fn passed(from: &str, to: &str, input: &str) -> String {
    let graph = format!(
        "name: points\nsources: {{in: {{type: stdin, decoding: {from}}}}}\n\
         transforms: {{seen: {{type: filter, inputs: [in], condition: 'is_string(.name)'}}}}\n\
         sinks: {{out: {{type: console, inputs: [seen], encoding: {to}}}}}\n"
    );
    let home = Home::new(&graph);
    weir_with(&home.path(""), &["run", "--once", "graph.yaml"], &[], input.as_bytes()).exits(0).out
}

#[test]
fn points_go_from_format_to_format_and_come_back_byte_for_byte() {
    let mut text = VECTOR.to_owned();
    let formats = ["vector_text", "points_json", "exposition", "prometheus_kafka_adapter", "vector_text"];
    for pair in formats.windows(2) {
        text = passed(pair[0], pair[1], &text);
        assert_eq!(text.lines().count(), 4, "{pair:?}: {text}");
    }
    assert_eq!(text, VECTOR);
    // Infinity and NaN it has no way to write.
    let without: String = VECTOR.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(passed("influx", "vector_text", &passed("vector_text", "influx", &without)), without);
}

const HOSTS: &str = r"name: hosts
sources: {in: {type: stdin, decoding: influx}}
transforms:
  check: {type: remap, inputs: [in], source: 'if .name == FAULT { .n = to_int!(.labels.host) }'}
sinks: {out: {type: file, inputs: [check], path: out.ndjson, encoding: points_json}}
";

#[test]
fn of_a_record_with_several_points_one_that_fails_costs_itself_alone() {
    let home = Home::new(&HOSTS.replace("FAULT", "\"cpu_user\""));
    let lines: String = (0..1000).map(|at| format!("cpu,host=a idle=1,user=2i,state=\"on\" {at}000000\n")).collect();
    let _ran = weir_with(&home.path(""), &["run", "--once", "graph.yaml"], &[], lines.as_bytes()).exits(0);
    let values = |name: &str| -> Vec<Value> {
        let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
        let points = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        points.filter(|point| point["name"] == name).map(|point| point["timestamp"].clone()).collect()
    };
    let expected: Vec<Value> = (0..1000).map(Value::from).collect();
    assert_eq!((values("cpu_idle"), values("cpu_user")), (expected.clone(), vec![]));

    let letters = weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out;
    assert_eq!(letters.lines().count(), 1000, "each by itself: {letters}");
    assert!(letters.contains("cpu,host=a user=2i 999000000") && !letters.contains("idle"), "{letters}");

    std::fs::write(home.path("graph.yaml"), HOSTS.replace("FAULT", "\"none\"")).unwrap();
    let _retried = weir(&home.path(""), &["dlq", "retry", "graph.yaml"]).exits(0);
    assert_eq!((values("cpu_idle"), values("cpu_user")), (expected.clone(), expected));
}
