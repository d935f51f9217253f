//! What a person reads who made a mistake: one golden file a mistake, reviewed like code.
//!
//! `WEIR_BLESS=1 cargo test -p weir-cli --test config_golden` writes them anew.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use weir::config::{self, LoadRequest, Loaded, Severity};
use weir_cli as _;

const SECRET: &str = "correct-horse-battery";

fn load(path: &Path) -> Loaded {
    let env = |name: &str| (name == "PASSWORD").then(|| SECRET.to_owned());
    config::load(&LoadRequest { paths: &[path.to_owned()], set: &[], env: &env })
}

fn goldens() -> Vec<PathBuf> {
    let inputs = std::fs::read_dir("tests/golden").unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> =
        inputs.filter(|path| path.extension().is_none_or(|extension| extension == "yaml")).collect();
    inputs.sort();
    assert!(inputs.len() >= 20, "{inputs:?}");
    inputs
}

#[test]
fn every_mistake_reads_as_reviewed() {
    let mut wrong = Vec::new();
    for path in goldens() {
        let text = config::render_text(&load(&path), false);
        let golden = path.with_extension("txt");
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&golden, &text).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_error_has_place_cause_and_remedy_and_no_secret() {
    for path in goldens() {
        let loaded = load(&path);
        assert!(!loaded.diagnostics.is_empty(), "{}: nothing is said", path.display());
        let is_refused = loaded.diagnostics.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(loaded.graph.is_none(), is_refused, "{}", path.display());
        for problem in &loaded.diagnostics {
            let what = format!("{}: {problem:?}", path.display());
            let place = problem.place.as_ref().unwrap_or_else(|| panic!("no place: {what}"));
            assert!(place.span.end <= loaded.sources[place.source].text.len() + 1, "{what}");
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "no cause: {what}");
            assert!(problem.help.as_ref().is_some_and(|help| help.len() > 10), "no remedy: {what}");
        }
        let json = config::render_json(&loaded).to_string();
        let text = config::render_text(&loaded, true) + &json;
        assert!(!text.contains(SECRET), "{}: a secret is shown", path.display());
    }
}

#[test]
fn names_that_are_nearly_right_are_answered_with_the_right_one() {
    for (file, meant) in [
        ("unknown_field", "did you mean `decoding`?"),
        ("other_products_name", "did you mean `bootstrap_servers`?"),
        ("unknown_type", "did you mean `kafka`?"),
        ("unknown_input", "did you mean `events`?"),
        ("bad_settings", "did you mean `transforms`?"),
        ("bad_test", "did you mean `in`?"),
    ] {
        let text = config::render_text(&load(Path::new(&format!("tests/golden/{file}.yaml"))), false);
        assert!(text.contains(meant), "{file}: {text}");
    }
}

#[test]
fn five_faults_are_five_errors() {
    let loaded = load(Path::new("tests/golden/five_faults.yaml"));
    let errors = loaded.diagnostics.iter().filter(|problem| problem.severity == Severity::Error).count();
    assert_eq!(errors, 5, "{}", config::render_text(&loaded, false));
}

#[test]
fn a_hundred_megabytes_are_refused_without_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.yaml");
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let loaded = load(&path);
    let problem = &loaded.diagnostics[0];
    assert!(loaded.graph.is_none() && problem.message.contains("larger than the 1 MiB"), "{problem:?}");
    assert!(problem.help.as_ref().is_some_and(|help| help.contains("split")), "{problem:?}");
    assert!(loaded.sources.iter().all(|source| source.text.is_empty()), "its text was kept");
}

#[test]
fn substitution_and_set_reach_every_kind_of_value() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("group");
    std::fs::write(&secret, "from-a-file\n").unwrap();
    let path = dir.path().join("g.yaml");
    let text = format!(
        "sources:\n  in:\n    type: generate\n    count: ${{COUNT}}\n    rate: 5\nsinks:\n  out:\n    type: kafka\n    inputs: [in]\n    bootstrap_servers: ${{HOSTS:-h:1}}\n    topic: t\n    librdkafka_options: {{client.rack: \"a-${{file:{}}}-$${{x}}\"}}\n",
        secret.display()
    );
    std::fs::write(&path, text).unwrap();
    let env = |name: &str| (name == "COUNT").then(|| "12".to_owned());
    let set = ["sources.in.rate=77".to_owned(), "name=other".to_owned(), "drain=5s".to_owned()];
    let loaded = config::load(&LoadRequest { paths: &[path], set: &set, env: &env });
    let graph = loaded.graph.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let nodes = format!("{:?}", graph.nodes);
    for expected in ["Some(77)", "Some(12)", "a-from-a-file-${x}", "h:1"] {
        assert!(nodes.contains(expected), "{expected} in {nodes}");
    }
    assert_eq!((graph.name.as_str(), graph.drain.as_secs()), ("other", 5));
}

#[test]
fn every_component_s_example_validates_by_the_check_and_by_the_schema() {
    let schema = jsonschema::validator_for(&config::schema()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for component in weir::component::components() {
        let path = dir.path().join(format!("{}-{}.yaml", component.kind.name(), component.name));
        let section = component.kind.section();
        // Examples are one line or a block: a block goes below its id.
        let example = match component.example.trim_end().contains('\n') {
            true => component.example.lines().map(|line| format!("\n    {line}")).collect::<String>(),
            false => component.example.to_owned(),
        };
        let text = match section {
            "sources" => {
                format!("sources:\n  in: {}\nsinks:\n  out: {{type: blackhole, inputs: [in]}}\n", example)
            }
            "transforms" => {
                // Every transform but this one has a single output.
                let output = if component.name == "route" { "t.default" } else { "t" };
                format!(
                    "sources:\n  in: {{type: stdin}}\ntransforms:\n  t: {example}\nsinks:\n  out: {{type: blackhole, inputs: [{output}]}}\n"
                )
            }
            _ => format!("sources:\n  in: {{type: stdin}}\nsinks:\n  out: {}\n", example),
        };
        std::fs::write(&path, &text).unwrap();
        let loaded = load(&path);
        assert!(loaded.graph.is_some(), "{text}\n{}", config::render_text(&loaded, false));
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{text}\n{errors:?}");
    }
}

#[test]
fn examples_and_good_goldens_validate_against_the_editor_s_schema() {
    let schema = jsonschema::validator_for(&config::schema()).unwrap();
    let mut files: Vec<PathBuf> = vec!["tests/golden/unused_node.yaml".into()];
    for example in std::fs::read_dir("../config-examples").unwrap() {
        let example = example.unwrap().path();
        let inside = std::fs::read_dir(&example).into_iter().flatten().map(|file| file.unwrap().path());
        files.extend(inside.chain([example]).filter(|file| file.extension().is_some_and(|e| e == "yaml")));
    }
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let value: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
    }
}

#[test]
fn the_binary_has_exactly_these_components() {
    let names: Vec<String> =
        weir::component::components().iter().map(|c| format!("{} {}", c.kind.name(), c.name)).collect();
    let expected = [
        "source file",
        "source filebeat",
        "source generate",
        "source http",
        "source kafka",
        "source prometheus_remote_write",
        "source stdin",
        "transform aggregate",
        "transform alert_firing",
        "transform dead_letter",
        "transform dedupe",
        "transform event_filter",
        "transform filter",
        "transform hysteresis",
        "transform limit",
        "transform remap",
        "transform route",
        "transform sample",
        "transform throttle",
        "sink alertmanager",
        "sink blackhole",
        "sink console",
        "sink elasticsearch",
        "sink file",
        "sink kafka",
        "sink prometheus_exporter",
        "sink prometheus_remote_write",
        "sink webhook",
    ];
    assert_eq!(names, expected);
}
