//! `event_filter` over a cluster's mixed logs, byte for byte as an independent program says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Command;

use weir_tests::command::weir;

#[test]
fn a_broken_copy_of_the_example_is_refused_with_line_and_reason() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config-examples/streaming-events/graph.yaml");
    let graph = std::fs::read_to_string(example).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (right, wrong, reason) in [
        ("presets: [scaling,", "presets: [scalling,", "scalling"),
        ("inputs: [logs]", "inputs: [log]", "did you mean `logs`?"),
        ("start: latest", "start: newest", "newest"),
        ("uid || \"none\" }}", "uid || }}", "is not expected here"),
    ] {
        assert!(graph.contains(right), "{right} is not in the example");
        std::fs::write(dir.path().join("graph.yaml"), graph.replacen(right, wrong, 1)).unwrap();
        let line = graph.lines().position(|line| line.contains(right)).unwrap() + 1;
        let done = weir(dir.path(), &["validate", "graph.yaml"]).exits(78);
        assert!(
            done.err.contains(&format!("graph.yaml:{line}:")) && done.err.contains(reason),
            "{wrong}: {}",
            done.err
        );
    }
}

const COUNT: &str = "100000";

#[test]
fn exactly_the_events_that_were_asked_for_come_out_with_their_tags() {
    let dir = tempfile::tempdir().unwrap();
    let here = env!("CARGO_MANIFEST_DIR");
    let (script, readme) = (format!("{here}/tests/events.py"), format!("{here}/../components/kubernetes/README.md"));
    let presets = ["scaling", "node_pressure", "upgrade", "image"];
    let mut oracle = Command::new("python3");
    oracle.args([script.as_str(), COUNT, readme.as_str(), "in.ndjson", "expected.ndjson"]).args(presets);
    let written = oracle.current_dir(dir.path()).status().expect("python3 runs (apt-get install python3)");
    assert!(written.success(), "{written}");
    let graph = format!(
        "sources: {{in: {{type: file, paths: [in.ndjson]}}}}\n\
         transforms: {{keep: {{type: event_filter, inputs: [in], presets: [{}]}}}}\n\
         sinks: {{out: {{type: file, inputs: [keep], path: out.ndjson}}}}\n",
        presets.join(", ")
    );
    std::fs::write(dir.path().join("graph.yaml"), graph).unwrap();
    let _ = weir(dir.path(), &["run", "--once", "graph.yaml"]).exits(0);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (seen, expected) = (read("out.ndjson"), read("expected.ndjson"));
    let differs = seen.lines().zip(expected.lines()).find(|(seen, expected)| seen != expected);
    assert_eq!(differs, None, "seen and expected");
    assert!(seen == expected && expected.lines().count() > 1000, "{} and {} bytes", seen.len(), expected.len());
}
