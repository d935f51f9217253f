//! The verbs for those who run graphs: pictures, dead letters, completions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use serde_json::Value;
use weir_tests::command::weir;
use weir_tests::process::Home;

const GRAPH: &str = r#"name: small
data_dir: data
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  split: {type: route, inputs: [in], routes: {odd: .n == 1}}
  edit: {type: remap, inputs: [split.default], source: '.n = to_int!(.n)'}
sinks:
  odd: {type: blackhole, inputs: [split.odd]}
  out: {type: file, inputs: [edit], path: out.ndjson}
  bad: {type: blackhole, inputs: [out.errors]}
"#;

fn home() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("graph.yaml"), GRAPH).unwrap();
    dir
}

#[test]
fn a_graph_is_drawn_with_every_node_edge_and_port() {
    let dir = home();
    let mermaid = weir(dir.path(), &["graph", "graph.yaml"]).exits(0).out;
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    let dot = weir(dir.path(), &["graph", "--format", "dot", "graph.yaml"]).exits(0).out;
    assert!(dot.starts_with("digraph \"small\" {\n") && dot.ends_with("}\n"), "{dot}");
    let edges = |text: &str, arrow: &str| text.lines().filter(|line| line.contains(arrow)).count();
    assert_eq!((edges(&mermaid, "--"), edges(&dot, "->")), (5, 5));
    for label in ["|odd|", "|default|", "|errors|"] {
        assert!(mermaid.contains(label), "{mermaid}");
    }
    assert!(dot.contains("[label=\"default\"]"), "{dot}");
}

#[test]
fn dead_letters_are_counted_shown_and_exported() {
    let dir = home();
    let list = |more: &[&str]| weir(dir.path(), &[&["dlq", "list", "graph.yaml"], more].concat()).exits(0).out;
    assert!(list(&[]).starts_with("no dead letters"));
    let lines = "{\"n\":\"2\"}\nnot json\n{\"n\":\"x\"}\n{\"n\":\"3\"}\n\u{fc}\n";
    std::fs::write(dir.path().join("in.ndjson"), lines).unwrap();
    let _ = weir(dir.path(), &["run", "--once", "graph.yaml"]).exits(0);

    let groups: Vec<Value> =
        list(&["--format", "json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let brief: Vec<_> = groups.iter().map(|group| (&group["node"], &group["code"], &group["count"])).collect();
    let (edit, split) = (Value::from("edit"), Value::from("split"));
    let (vrl, json) = (Value::from("vrl_error"), Value::from("invalid_json"));
    assert_eq!(brief, [(&edit, &vrl, &Value::from(1)), (&split, &json, &Value::from(2))]);
    assert!(list(&[]).contains("invalid_json"));
    assert_eq!(list(&["--node", "edit"]).lines().count(), 2);

    let show = weir(dir.path(), &["dlq", "show", "--code", "invalid_json", "--limit", "1", "graph.yaml"]).exits(0).out;
    assert!(show.contains("json: not json") && show.contains("1 more"), "{show}");

    let export = weir(dir.path(), &["dlq", "export", "graph.yaml"]).exits(0).out;
    let bodies: Vec<String> = export
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(bodies, ["not json", "\u{fc}", "{\"n\":\"x\"}"]);
}

#[test]
fn every_shell_has_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = weir(dir.path(), &["completions", shell]).exits(0).out;
        assert!(script.contains("validate") && script.contains("dlq"), "{shell}: {script}");
    }
    let _ = weir(dir.path(), &["completions", "tcsh"]).exits(2);
}

#[test]
fn health_is_asked_without_a_shell_or_curl() {
    let home = Home::new("sources: {in: {type: generate, rate: 10}}\nsinks: {out: {type: blackhole, inputs: [in]}}\n");
    let running = home.start("weir", &[]);
    let set = format!("telemetry.listen={}", running.address());
    let dir = home.path("");
    let ask = |more: &[&str]| weir(&dir, &[&["health", "graph.yaml", "--set", set.as_str()], more].concat());
    assert_eq!(ask(&[]).exits(0).out, "ok\n");
    assert_eq!(ask(&["--ready"]).exits(0).out, "ready\n");
    running.stop(Duration::from_secs(10));
    assert!(ask(&[]).exits(1).err.contains("no answer"));
    assert!(weir(&dir, &["health", "graph.yaml"]).exits(78).err.contains("telemetry"));
}

#[test]
fn every_template_begins_a_graph_that_passes_its_own_tests() {
    let dir = tempfile::tempdir().unwrap();
    let list = weir(dir.path(), &["init"]).exits(2).err;
    let names: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(names.len() >= 10, "{list}");
    for name in names {
        let _ = weir(dir.path(), &["init", name, "--dir", name]).exits(0);
        let tested = weir(dir.path(), &["test", name]).exits(0).out;
        assert!(tested.contains("ok"), "{name}: {tested}");
    }
    assert!(weir(dir.path(), &["init", "route", "--dir", "route"]).exits(1).err.contains("there already"));
    assert!(weir(dir.path(), &["init", "no-such"]).exits(2).err.contains("name one of these"));
}

#[test]
fn the_reference_of_a_binary_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = weir(dir.path(), &["list", "--format", "markdown"]).exits(0).out;
    for part in
        ["\n# The source `kafka`\n", "\n# The sink `file`\n", "- **`sasl.mechanism`**", "- **`dead_letters.max_size`**"]
    {
        assert!(text.contains(part), "{part}");
    }
}
