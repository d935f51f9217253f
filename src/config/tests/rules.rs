//! Rules over all goldens, and what a golden cannot show.

use std::fs::{self, File};
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::components::{KafkaSource, Start};
use super::{SECRET, env, first_text, folder, goldens, load_golden, load_text};
use crate::component::{Kind, Severity, components};
use crate::config::{Graph, LoadRequest, Loaded, NodeConfig, Port, TestBody, load, render_json, render_text, schema};

/// Codes whose problem is one name among others: the others must be there.
const NAMES: [&str; 6] =
    ["unknown_field", "unknown_type", "unknown_input", "unknown_port", "unknown_node", "self_input"];

#[test]
fn every_error_has_a_place_a_cause_what_is_allowed_and_a_remedy() {
    let mut errors = 0;
    for (name, path) in goldens() {
        let loaded = load_golden(&path);
        let printed = render_text(&loaded, false);
        let json = render_json(&loaded);
        assert_eq!(json.as_array().unwrap().len(), loaded.diagnostics.len());
        for (problem, json) in loaded.diagnostics.iter().zip(json.as_array().unwrap()) {
            let told = format!("{name}: {problem:?}");
            let (line, column) = (json["line"].as_u64().expect(&told), json["column"].as_u64().expect(&told));
            assert!(line >= 1 && column >= 1, "{told}");
            let file = json["file"].as_str().expect(&told);
            assert!(printed.contains(&format!("--> {file}:{line}:{column}")), "{told}");
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{told}");
            assert!(!problem.message.starts_with(char::is_uppercase), "{told}");
            let help = problem.help.as_deref().unwrap_or_default();
            assert!(help.len() > 10, "no remedy: {told}");
            if NAMES.contains(&problem.code.as_str()) {
                let is_there =
                    |name: &String| help.contains(name) || problem.label.iter().any(|label| label.contains(name));
                assert!(problem.allowed.iter().any(is_there), "nothing that is allowed: {told}");
            }
            errors += usize::from(problem.severity == Severity::Error);
        }
        let is_refused = loaded.diagnostics.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(loaded.graph.is_none(), is_refused, "{name}");
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn five_faults_are_five_problems() {
    let loaded = load_golden(&folder().join("five_faults.yaml"));
    assert_eq!(loaded.diagnostics.len(), 5);
}

#[test]
fn what_comes_from_outside_is_in_no_message() {
    for (name, path) in goldens() {
        let loaded = load_golden(&path);
        let printed = render_text(&loaded, true) + &render_json(&loaded).to_string();
        for secret in [SECRET, "hunter2", "123456"] {
            assert!(!printed.contains(secret), "{name} tells {secret}");
        }
    }
}

fn load_path(path: PathBuf) -> Loaded {
    load(&LoadRequest { paths: &[path], set: &[], env: &env })
}

fn codes(loaded: &Loaded) -> Vec<&str> {
    loaded.diagnostics.iter().map(|problem| problem.code.as_str()).collect()
}

#[test]
fn files_that_cannot_be_a_graph_are_one_problem_each() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.yaml");
    File::create(&large).unwrap().set_len(100 << 20).unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let cases = [
        (large, "larger than the 1 MiB"),
        (PathBuf::from("/dev/zero"), "larger than the 1 MiB"),
        (dir.path().join("absent.yaml"), "cannot read it"),
        (folder, "no YAML files"),
    ];
    for (path, text) in cases {
        let loaded = load_path(path.clone());
        assert_eq!(codes(&loaded), ["unreadable_file"], "{}", path.display());
        assert!(loaded.diagnostics[0].message.contains(text), "{:?}", loaded.diagnostics);
        // What was read of it is not kept.
        assert!(loaded.sources.iter().all(|source| source.text.is_empty()));
        assert!(render_text(&loaded, false).contains(&format!("--> {}:1:1", path.display())));
    }
}

#[test]
fn a_folder_is_its_yaml_files_by_name_and_nothing_below() {
    let dir = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(folder().join("good.yaml")).unwrap();
    let (settings, nodes) = good.split_at(good.find("sources:").unwrap());
    fs::write(dir.path().join("a.yml"), nodes).unwrap();
    fs::write(dir.path().join("b.yaml"), settings).unwrap();
    fs::write(dir.path().join("notes.txt"), "not: [yaml").unwrap();
    fs::create_dir(dir.path().join("below.yaml")).unwrap();
    let loaded = load_path(dir.path().to_owned());
    assert!(loaded.diagnostics.is_empty(), "{}", render_text(&loaded, false));
    let names: Vec<String> =
        loaded.sources.iter().map(|source| source.name.replace(dir.path().to_str().unwrap(), "")).collect();
    assert_eq!(names, ["/a.yml", "/b.yaml"]);
}

fn graph(loaded: Loaded) -> Graph {
    assert!(loaded.diagnostics.is_empty(), "{}", render_text(&loaded, false));
    loaded.graph.unwrap()
}

#[test]
fn a_good_file_is_the_graph_it_says() {
    let graph = graph(load_golden(&folder().join("good.yaml")));
    assert_eq!((graph.name.as_str(), graph.memory, graph.drain.as_secs()), ("firing", 64 << 20, 30));
    assert_eq!(graph.telemetry.unwrap().port(), 9598);
    assert_eq!(graph.dead_letters.max_size, 1 << 30);
    let node = |id: &str| graph.nodes.iter().position(|node| node.id == id).unwrap();
    let inputs = |id: &str| -> Vec<(usize, Port)> {
        graph.nodes[node(id)].inputs.iter().map(|input| (input.node, input.port)).collect()
    };
    assert_eq!(inputs("keep"), [(node("f"), Port::Main), (node("k"), Port::Main)]);
    assert_eq!(inputs("bad"), [(node("keep"), Port::Errors), (node("o"), Port::Errors)]);
    assert!(graph.nodes.iter().enumerate().all(|(number, node)| node.inputs.iter().all(|input| input.node < number)));
    assert_eq!((graph.nodes[node("o")].kind, graph.nodes[node("o")].component.as_str()), (Kind::Sink, "file"));
    // What was put in: a text stays one, a number is one, and --set reaches into lists.
    let shown = format!("{:?}", graph.nodes[node("k")].config);
    let expected = [
        "bootstrap_servers: \"localhost:9092\"",
        "group_id: \"123456\"",
        "password: \"123456\"",
        "rate: Some(50)",
        "fetch_size: Some(ByteSize(2097152))",
        "session_timeout: Some(Span(90s))",
        "start: Earliest",
    ];
    expected.iter().for_each(|part| assert!(shown.contains(part), "{part} is not in {shown}"));
    assert!(format!("{:?}", graph.nodes[node("f")].config).contains("other.ndjson"));
    assert!(format!("{:?}", graph.nodes[node("o")].config).contains("append: true"));
    assert!(matches!(graph.nodes[node("keep")].config, NodeConfig::Transform(_)));
    let feed = &graph.tests[0].feed[0].1;
    assert_eq!(feed[0], TestBody::Text("{\"a\":1}".to_owned()));
    assert_eq!(feed[1], TestBody::Json(serde_json::json!({"reason": "BackOff"})));
    assert_eq!(graph.tests[1].feed[0].1.len(), 2);
}

const SMALL: &str = "sources:\n  f: {type: file, paths: [no]}\nsinks:\n  o: {type: file, inputs: [f], path: out}\n";

#[test]
fn texts_are_those_of_yaml_1_2() {
    for (written, read) in
        [("no", "no"), ("off", "off"), ("'1'", "1"), ("!!str 5", "5"), ("a#b", "a#b"), ("1.2.3", "1.2.3")]
    {
        let loaded = load_text(&SMALL.replace("[no]", &format!("[{written}]")), &[]);
        let shown = format!("{:?}", graph(loaded).nodes[0].config);
        assert!(shown.contains(&format!("[\"{read}\"]")), "{written}: {shown}");
    }
}

#[test]
fn marks_and_line_ends_of_other_systems_move_no_place() {
    let text = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
    graph(load_text(&text, &[]));
    let loaded = load_text(&text.replace("path:", "pth:"), &[]);
    assert_eq!(codes(&loaded), ["unknown_field"]);
    let json = render_json(&loaded);
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(4), Some(32)));
    let loaded = load_text(&text.replace("sources", "source"), &[]);
    assert_eq!(render_json(&loaded)[0]["column"], 1);
}

#[test]
fn the_json_of_a_problem_is_flat_and_stable() {
    let loaded = load_text(&SMALL.replace("path:", "pth:"), &[]);
    let expected = serde_json::json!([{
        "file": "graph.yaml", "line": 4, "column": 32, "end_line": 4, "end_column": 35,
        "severity": "error", "code": "unknown_field",
        "message": "node `o` (file sink) has no option `pth`",
        "label": "did you mean `path`?",
        "help": "write `path`, or remove it; allowed here: `type`, `inputs`, `buffer`, `path`, `encoding`, `append`",
        "allowed": ["type", "inputs", "buffer", "path", "encoding", "append"],
        "related": [],
    }]);
    assert_eq!(render_json(&loaded), expected);
}

#[test]
fn files_give_secrets_without_their_last_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let text = SMALL.replace("[no]", &format!("[\"${{file:{}}}\"]", secret.display()));
    for content in ["p w\n", "p w\r\n", "p w"] {
        fs::write(&secret, content).unwrap();
        let shown = format!("{:?}", graph(load_text(&text, &[])).nodes[0].config);
        assert!(shown.contains("[\"p w\"]"), "{content:?}: {shown}");
    }
    for content in [vec![b'x'; (64 << 10) + 1], vec![0xff]] {
        fs::write(&secret, content).unwrap();
        assert_eq!(codes(&load_text(&text, &[])), ["missing_file"]);
    }
}

#[test]
fn the_name_of_a_file_becomes_a_name_of_a_graph() {
    let dir = tempfile::tempdir().unwrap();
    for (file, name) in
        [("my graph.yaml", "my-graph"), ("1.yaml", "graph-1"), ("..yaml", "graph--"), ("a.b.yaml", "a-b")]
    {
        let path = dir.path().join(file);
        fs::write(&path, SMALL).unwrap();
        assert_eq!(graph(load_path(path)).name, name);
    }
}

#[test]
fn a_variable_in_quotes_stays_a_text_and_an_empty_one_takes_its_default() {
    // Written in blocks, for a plain `${...}` cannot stand in flow.
    let text = "sources:\n  f:\n    type: file\n    paths:\n      - ${DIGITS}\n      - \"a$${b}${EMPTY:-c}\"\nsinks:\n  o: {type: file, inputs: [f], path: out}\n";
    let shown = format!("{:?}", graph(load_text(text, &[])).nodes[0].config);
    assert!(shown.contains(r#"["123456", "a${b}c"]"#), "{shown}");
}

/// The golden, as an editor sees it.
fn as_json(text: &str) -> Json {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_schema_for_editors_takes_what_the_loader_takes() {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let told = |graph: &Json| validator.iter_errors(graph).map(|error| error.to_string()).collect::<Vec<_>>();
    for (name, path) in goldens().into_iter().filter(|(name, _)| name.starts_with("good")) {
        let graph = as_json(&first_text(&path));
        assert!(validator.is_valid(&graph), "{name}: {:?}", told(&graph));
    }
    for component in components() {
        let node = as_json(component.example);
        let graph = serde_json::json!({ component.kind.section(): { "n": node } });
        assert!(validator.is_valid(&graph), "{}: {:?}", component.name, told(&graph));
    }
    for name in ["unknown_field", "unknown_type", "missing_field", "wrong_type", "bad_tests"] {
        let graph = as_json(&first_text(&folder().join(format!("{name}.yaml"))));
        assert!(!validator.is_valid(&graph), "{name}");
    }
    // A variable may stand for a number, a truth value and a choice.
    let kafka = |option: &str, value: Json| {
        let mut node = as_json(components().iter().find(|one| one.name == "kafka").unwrap().example);
        node[option] = value;
        validator.is_valid(&serde_json::json!({ "sources": { "n": node } }))
    };
    for option in ["rate", "start", "fetch_size", "session_timeout"] {
        assert!(kafka(option, "${VAR:-1}".into()), "{option}");
    }
    assert!(kafka("tls", serde_json::json!({ "ca": "x", "verify": "${VAR}" })));
    assert!(!kafka("rate", "fast".into()));
    assert!(!kafka("start", "never".into()));
}

#[test]
fn examples_of_components_pass_the_loader() {
    for component in components() {
        let source = "{type: file, paths: [x]}";
        let text = match component.kind {
            Kind::Source => {
                format!("sources:\n  in: {}\nsinks:\n  o: {{type: file, inputs: [in], path: x}}\n", component.example)
            }
            Kind::Transform => format!(
                "sources:\n  in: {source}\ntransforms:\n  t: {}\nsinks:\n  o: {{type: file, inputs: [t], path: x}}\n",
                component.example
            ),
            Kind::Sink => format!("sources:\n  in: {source}\nsinks:\n  o: {}\n", component.example),
        };
        graph(load_text(&text, &[]));
    }
}

#[test]
fn serde_sees_what_the_test_components_say() {
    let config: KafkaSource = serde_json::from_value(serde_json::json!({
        "bootstrap_servers": "h", "topics": ["t"], "group_id": "g"
    }))
    .unwrap();
    assert_eq!(config.start, Start::Latest);
}

/// A piece of YAML that is more likely than chance to mean something.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "sources",
        "sinks",
        "transforms",
        "tests",
        ": ",
        "\n",
        "  ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "type",
        "file",
        "kafka",
        "inputs",
        "f",
        "o",
        "${",
        "${SECRET}",
        "${NONE}",
        "}",
        "$",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "#",
        "\t",
        "\r\n",
        "ä",
        "\u{feff}",
        "condition",
        "'.a == '",
        "paths",
        "1",
        "1e999",
        "~",
        "? ",
        "!!str ",
        "---\n",
        "\\",
    ];
    prop_oneof![4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_too_strange(pieces in proptest::collection::vec(piece(), 0..60)) {
        let loaded = load_text(&pieces.concat(), &[]);
        render_json(&loaded);
        render_text(&loaded, true);
        prop_assert!(loaded.graph.is_some() || !loaded.diagnostics.is_empty());
    }

    #[test]
    fn no_change_to_a_good_graph_is_too_strange(at in 0usize..1200, len in 0usize..20, piece in piece()) {
        let mut text = fs::read_to_string(folder().join("good.yaml")).unwrap();
        let at = text.floor_char_boundary(at.min(text.len()));
        let end = text.floor_char_boundary((at + len).min(text.len()));
        text.replace_range(at..end, &piece);
        let loaded = load_text(&text, &[&format!("sources.{piece}={piece}")]);
        render_json(&loaded);
        let printed = render_text(&loaded, false);
        prop_assert!(!printed.contains(SECRET));
        prop_assert!(loaded.graph.is_some() || !loaded.diagnostics.is_empty());
    }
}
