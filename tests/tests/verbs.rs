//! Every verb of the `weir` binary as it is typed, and the exit codes that scripts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir::terminal::{HOSTILE, hostile_in};
use weir_tests::command::{weir, weir_with};
use weir_tests::process::Home;
use weir_tests::wait::{PATIENCE, until};

const GOOD: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BAD_CONFIG: i32 = 78;

const GRAPH: &str = r#"name: small
sources:
  in: {type: stdin}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason == "BackOff"'}
sinks:
  out: {type: console, inputs: [keep]}
tests:
  - name: back-offs pass
    feed: {in: [{reason: BackOff}, {reason: Pulled}]}
    expect: {out: [{reason: BackOff}]}
"#;

/// Three mistakes, on lines 3, 5 and 7.
const FAULTY: &str = r#"name: faulty
sources:
  in: {type: stdin, decodin: json}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason =='}
sinks:
  out: {type: console, inputs: [kept]}
"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn assert_width(text: &str, columns: usize) {
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > columns).collect();
    assert!(long.is_empty(), "wider than {columns} columns: {long:#?}");
}

#[test]
fn help_fits_a_terminal_and_names_every_verb() {
    let here = Path::new(".");
    for columns in ["80", "90", "100"] {
        let env = [("COLUMNS", columns)];
        let help = weir_with(here, &["--help"], &env, b"").exits(GOOD).out;
        assert!(help.lines().count() <= 32, "{help}");
        assert_width(&help, columns.parse().unwrap());
        for verb in ["run", "validate", "test", "explain", "list", "schema", "demo"] {
            assert!(help.contains(&format!("\n  {verb} ")), "{verb} is not in:\n{help}");
            let help = weir_with(here, &[verb, "--help"], &env, b"").exits(GOOD).out;
            assert!(help.contains(&format!("Usage: weir {verb}")), "{help}");
            assert_width(&help, columns.parse().unwrap());
        }
    }
    let version = weir(here, &["--version"]).exits(GOOD).out;
    assert_eq!(version.trim(), concat!("weir ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let here = Path::new(".");
    for (args, says) in [
        (&[][..], "Usage: weir"),
        (&["rum", "a.yaml"], "run"),
        (&["run"], "<FILE>"),
        (&["validate"], "<FILE>"),
        (&["test"], "<FILE>"),
        (&["explain"], "<FILE>"),
        (&["run", "a.yaml", "--onze"], "--once"),
        (&["run", "a.yaml", "--set"], "--set"),
        (&["run", "a.yaml", "--log-format", "xml"], "json"),
        (&["validate", "a.yaml", "--format", "xml"], "json"),
        (&["list", "a.yaml"], "a.yaml"),
        (&["schema", "a.yaml"], "a.yaml"),
        (&["demo", "--rate", "fast"], "--rate"),
    ] {
        let done = weir(here, args).exits(USAGE);
        assert!(done.err.contains(says), "{args:?} does not say {says:?}: {}", done.err);
        assert_eq!(done.out, "", "{args:?}: what is piped on must not be a usage text");
    }
}

#[test]
fn a_good_graph_passes_every_verb_that_takes_one() {
    let dir = folder(&[("small.yaml", GRAPH)]);
    let ask = |args: &[&str]| weir(dir.path(), args).exits(GOOD);
    assert!(ask(&["validate", "small.yaml"]).out.starts_with("small: 3 nodes, ok"));
    assert_eq!(ask(&["validate", "small.yaml", "--format", "json"]).json(), Value::Array(Vec::new()));
    assert_eq!(ask(&["test", "small.yaml"]).out, "ok     back-offs pass\n1 passed, 0 failed\n");
    let plan = ask(&["explain", "small.yaml"]).out;
    for part in ["graph small: 3 nodes", "source in (stdin)", "-> keep (filter", "-> out (console", "acknowledged"] {
        assert!(plan.contains(part), "{part:?} is not in:\n{plan}");
    }
    assert!(!dir.path().join(".weir").exists(), "none of these verbs leaves anything behind");
}

/// `levels` diamonds one behind the other: events have `2^levels` ways through it, which nobody has the time to walk.
fn diamonds(levels: usize) -> String {
    let mut transforms = String::new();
    let mut reads = "in".to_owned();
    for level in 0..levels {
        for side in ["a", "b"] {
            transforms += &format!("  {side}{level}: {{type: filter, inputs: [{reads}], condition: 'true'}}\n");
        }
        reads = format!("a{level}, b{level}");
    }
    format!(
        "name: diamonds\nsources:\n  in: {{type: stdin}}\ntransforms:\n{transforms}  \
         last: {{type: aggregate, inputs: [{reads}], window: {{tumbling: 1s}}, group_by: [.key], \
         compute: {{n: count}}}}\nsinks:\n  out: {{type: console, inputs: [last]}}\n"
    )
}

#[test]
fn a_graph_of_many_diamonds_is_walked_once_by_every_verb() {
    let dir = folder(&[("diamonds.yaml", &diamonds(30))]);
    let ask = |args: &[&str]| weir(dir.path(), args).exits(GOOD).out;
    assert!(ask(&["validate", "diamonds.yaml"]).starts_with("diamonds: 63 nodes, ok"));
    let plan = ask(&["explain", "diamonds.yaml"]);
    // Four edges between levels, two into the first and two out of the last, and the sink's.
    let edges = 4 * 29 + 2 + 2 + 1;
    assert_eq!(plan.lines().filter(|line| line.contains("-> ")).count(), edges, "{plan}");
    assert_eq!(plan.matches("-> out").count(), 1, "{plan}");
    assert!(plan.contains("-> a1: see above"), "{plan}");
    assert!(plan.contains("delivered by out,"), "{plan}");
    for format in ["mermaid", "dot", "svg"] {
        assert!(ask(&["graph", "diamonds.yaml", "--format", format]).contains("b29"), "{format}");
    }
    ask(&["doctor", "diamonds.yaml"]);
    let around = diamonds(30).replace("[in]", "[in, last]");
    std::fs::write(dir.path().join("around.yaml"), around).unwrap();
    assert!(weir(dir.path(), &["validate", "around.yaml"]).exits(BAD_CONFIG).err.contains("cycle"));
}

#[test]
fn files_and_folders_together_are_one_graph() {
    let (start, end) = GRAPH.split_once("sinks:").unwrap();
    let end = format!("sinks:{end}");
    let dir = folder(&[("a.yaml", start), ("b.yaml", &end), ("notes.txt", "no graph")]);
    for args in [&["validate", "a.yaml", "b.yaml"][..], &["validate", "."]] {
        assert!(weir(dir.path(), args).exits(GOOD).out.starts_with("small: 3 nodes, ok"));
    }
    let _ = weir(dir.path(), &["validate", "a.yaml"]).exits(BAD_CONFIG);
}

#[test]
fn a_bad_graph_exits_with_78_and_every_mistake_has_its_line() {
    let dir = folder(&[("faulty.yaml", FAULTY)]);
    for verb in ["validate", "run", "test", "explain"] {
        let done = weir(dir.path(), &[verb, "faulty.yaml"]).exits(BAD_CONFIG);
        assert_eq!(done.out, "", "{verb}: problems go to standard error");
        for line in [3, 5, 7] {
            assert!(done.err.contains(&format!("faulty.yaml:{line}:")), "{verb}, line {line}: {}", done.err);
        }
        assert!(done.err.contains("3 errors found"), "{verb}: {}", done.err);
    }
    assert!(!dir.path().join(".weir").exists(), "a run that was refused leaves nothing behind");
}

#[test]
fn a_program_that_is_nested_too_deep_is_an_error_with_its_line() {
    let deep = format!("{}true", "!".repeat(30_000));
    for (was, with) in [
        (r#"condition: '.reason == "BackOff"'"#, format!("condition: '{deep}'")),
        (
            "{type: console, inputs: [keep]}",
            format!("{{type: kafka, inputs: [keep], bootstrap_servers: b:1, topic: '{{{{ {deep} }}}}'}}"),
        ),
    ] {
        let dir = folder(&[("deep.yaml", &GRAPH.replace(was, &with))]);
        for verb in ["validate", "run", "explain"] {
            let done = weir(dir.path(), &[verb, "deep.yaml"]).exits(BAD_CONFIG);
            assert!(done.err.contains("more than 128 brackets"), "{verb}: {}", &done.err[..done.err.len().min(2_000)]);
        }
    }
}

#[test]
fn a_program_whose_types_explode_is_an_error_with_its_line() {
    let exploding = format!("x = [1]; {} length(x) == 1", "x = [x, x, x, x]; ".repeat(30));
    let condition = format!("condition: '{exploding}'");
    let dir = folder(&[("large.yaml", &GRAPH.replace(r#"condition: '.reason == "BackOff"'"#, &condition))]);
    for verb in ["validate", "run", "explain"] {
        let done = weir(dir.path(), &[verb, "large.yaml"]).exits(BAD_CONFIG);
        assert!(done.err.contains("too many fields and items"), "{verb}: {}", &done.err[..done.err.len().min(2_000)]);
    }
}

#[test]
fn problems_in_json_have_all_a_program_needs() {
    let dir = folder(&[("faulty.yaml", FAULTY)]);
    let done = weir(dir.path(), &["validate", "faulty.yaml", "--format", "json"]).exits(BAD_CONFIG);
    assert_eq!(done.err, "", "nothing but the document is printed");
    let problems = done.json();
    let problems = problems.as_array().unwrap();
    let lines: Vec<u64> = problems.iter().map(|problem| problem["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 5, 7]);
    for problem in problems {
        assert_eq!((&problem["file"], &problem["severity"]), (&"faulty.yaml".into(), &"error".into()));
        for field in ["code", "message", "help"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
        }
        assert!(problem["column"].as_u64() <= problem["end_column"].as_u64(), "{problem}");
    }
    assert!(problems[0]["allowed"].as_array().unwrap().contains(&"decoding".into()), "{}", problems[0]);

    for args in [&["validate", "none.yaml", "--format", "json"][..], &["validate", "--format", "json", "none.yaml"]] {
        let missing = weir(dir.path(), args).exits(BAD_CONFIG).json();
        assert_eq!(missing[0]["code"], "unreadable_file");
    }
}

#[test]
fn set_is_checked_like_the_file() {
    let dir = folder(&[("small.yaml", GRAPH)]);
    let ask = |set: &str| weir(dir.path(), &["validate", "small.yaml", "--set", set, "--format", "json"]);
    assert_eq!(ask("sinks.out.encoding=text").exits(GOOD).json(), Value::Array(Vec::new()));
    for (set, code) in [
        ("sinks.out.encoding=xml", "bad_value"),
        ("sinks.out.encodin=json", "unknown_field"),
        ("transforms.keep.condition=.a ==", "invalid_condition"),
        ("no equals sign", "bad_set"),
    ] {
        let problems = ask(set).exits(BAD_CONFIG).json();
        assert_eq!((&problems[0]["file"], &problems[0]["code"]), (&"--set".into(), &code.into()), "{set}: {problems}");
    }
}

#[test]
fn a_failing_test_of_the_graph_exits_with_1_and_shows_the_difference() {
    let wrong = GRAPH.replace("expect: {out: [{reason: BackOff}]}", "expect: {out: [{reason: Pulled}]}");
    let dir = folder(&[("small.yaml", &wrong)]);
    let done = weir(dir.path(), &["test", "small.yaml"]).exits(FAILED);
    assert!(done.out.contains("FAILED back-offs pass"), "{}", done.out);
    assert!(done.out.contains("Pulled") && done.out.contains("BackOff"), "{}", done.out);
    assert!(done.out.ends_with("0 passed, 1 failed\n"), "{}", done.out);
}

/// A graph of which every event is a dead letter whose reason is the event, with a test that fails, and a warning.
const HOSTILE_GRAPH: &str = r#"name: hostile
sources:
  in: {type: stdin, decoding: text}
transforms:
  bad: {type: remap, inputs: [in], source: 'assert!(false, string!(.message))'}
sinks:
  out: {type: blackhole, inputs: [bad]}
tests:
  - name: "forged \e[2J\x9b2J\b"
    feed: {in: ["forged \e]0;x\a \u202e \x7f"]}
    expect: {out: [{a: "\x9b"}]}
"#;

#[test]
fn text_from_outside_does_nothing_to_a_terminal_by_any_verb() {
    let hostile = HOSTILE.replace('\n', " ");
    let dir = folder(&[("graph.yaml", HOSTILE_GRAPH)]);
    let run = weir_with(dir.path(), &["run", "graph.yaml"], &[], format!("{hostile}\n").as_bytes());
    let mut seen = vec![("run", run)];
    let faulty = "name: \"a\\e[2J forged\"\nsources:\n  \"in\\e]0;x\\a forged\": {type: \"std\\x9bin\", \"decod\\u202eing\": json}\n\
                  sinks:\n  out: {type: console, inputs: [\"\\e[2J forged\"]} # \u{202e}2J forged\n";
    std::fs::write(dir.path().join("faulty.yaml"), faulty).unwrap();
    for args in [
        &["dlq", "list", "graph.yaml"][..],
        &["dlq", "show", "graph.yaml"],
        &["dlq", "retry", "graph.yaml"],
        &["test", "graph.yaml"],
        &["validate", "faulty.yaml"],
        &["run", "faulty.yaml"],
        &["explain", "graph.yaml"],
        &["doctor", "graph.yaml"],
        &["buffer", "inspect", "graph.yaml"],
        &["state", "inspect", "graph.yaml"],
        &["init", "--template", "a\u{1b}[2J forged"],
    ] {
        seen.push((args[0], weir(dir.path(), args)));
    }
    for (verb, done) in &seen {
        let text = format!("{}{}", done.out, done.err);
        assert_eq!(hostile_in(&text), "", "weir {verb}:\n{text:?}");
    }
    let text = |at: usize| format!("{}{}", seen[at].1.out, seen[at].1.err);
    for at in [1, 2, 4, 5] {
        assert!(text(at).contains("forged") && text(at).contains("\\u001b["), "{}", text(at));
    }
    // A program gets what it was, and no line of its own begins within it.
    let letters = weir(dir.path(), &["dlq", "export", "graph.yaml"]).exits(GOOD).out;
    let letter: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert!(letter["message"].as_str().unwrap().contains(&hostile), "{letter}");
}

/// A graph with a peer at this address, by each option that takes one.
fn with_address(address: &str) -> Vec<(&'static str, String)> {
    let sink = |options: &str| {
        format!("name: a\nsources:\n  in: {{type: generate}}\nsinks:\n  out:\n    inputs: [in]\n{options}")
    };
    let address = serde_json::to_string(address).unwrap();
    vec![
        ("webhook", sink(&format!("    type: webhook\n    url: {address}\n"))),
        ("alertmanager", sink(&format!("    type: alertmanager\n    endpoints: [{address}]\n"))),
        ("remote write", sink(&format!("    type: prometheus_remote_write\n    endpoint: {address}\n"))),
        ("elasticsearch", sink(&format!("    type: elasticsearch\n    endpoints: [{address}]\n    index: a\n"))),
        (
            "registry",
            format!(
                "name: a\nsources:\n  in:\n    type: kafka\n    bootstrap_servers: a:1\n    topics: [a]\n    group_id: a\n    \
                 decoding: {{codec: avro, schema_registry: {{url: {address}}}}}\nsinks:\n  out: {{type: blackhole, inputs: [in]}}\n"
            ),
        ),
    ]
}

#[test]
fn an_address_that_is_no_uri_is_refused_when_a_graph_is_checked() {
    for (option, graph) in with_address("http://peer.example:9093/p/%D0%B0") {
        let dir = folder(&[("graph.yaml", &graph)]);
        let done = weir(dir.path(), &["validate", "graph.yaml"]);
        assert_eq!(done.code, GOOD, "{option}: {}", done.err);
    }
    for wrong in
        ["peer:9093", "ftp://peer", "http://a b", "http://peer:99999", "http://u:p@peer", "http://peer/\u{430}"]
    {
        for (option, graph) in with_address(wrong) {
            let dir = folder(&[("graph.yaml", &graph)]);
            let done = weir(dir.path(), &["validate", "graph.yaml"]);
            assert_eq!(done.code, BAD_CONFIG, "{option} {wrong}: {}", done.err);
            assert!(
                done.err.contains("help: ") && done.err.contains("--> graph.yaml:"),
                "{option} {wrong}: {}",
                done.err
            );
        }
    }
}

#[test]
fn list_and_schema_know_the_same_components_and_codecs() {
    let here = Path::new(".");
    let text = weir(here, &["list"]).exits(GOOD).out;
    let list = weir(here, &["list", "--format", "json"]).exits(GOOD).json();
    let schema = weir(here, &["schema"]).exits(GOOD).json();
    assert!(schema.get("$schema").is_some() && schema.get("properties").is_some());
    let schema = schema.to_string();
    let components = list.as_array().unwrap();
    assert_eq!(text.lines().count(), components.len());
    for component in components {
        let part = |name: &str| component[name].as_str().unwrap();
        let (kind, name) = (part("kind"), part("name"));
        let line = text.lines().find(|line| line.split_whitespace().take(2).eq([kind, name]));
        assert!(line.is_some_and(|line| line.ends_with(part("summary"))), "{kind} {name}:\n{text}");
        assert!(schema.contains(&format!("\"{name}\"")), "{kind} {name} is not in the schema");
        let shown = match kind {
            "decoding" | "encoding" => format!("{kind}: {name}"),
            _ => format!("type: {name}"),
        };
        assert!(part("example").contains(&shown), "{component}");
    }
}

#[test]
fn list_names_what_was_meant_and_prints_each_option_once() {
    let here = Path::new(".");
    let says = |name: &str| weir(here, &["list", name]).exits(2).err;
    assert!(says("dedup").contains("there is no component `dedup`; did you mean `dedupe`?"));
    assert!(says("jsno").contains("did you mean `json`?"));
    assert!(says("json").contains("`json` is a codec, not a component: write it for `decoding` or `encoding`"));
    assert!(says("cri").contains("write it for `decoding` of a node; `weir list file` prints its options"));
    for name in ["file", "kafka", "http", "console"] {
        let text = weir(here, &["list", name]).exits(GOOD).out;
        for page in text.split("\n# ") {
            // An option that two codecs have is there once, unless it means something else for each.
            let options: Vec<&str> = page.split("\n- **").skip(1).collect();
            let unique: std::collections::BTreeSet<&&str> = options.iter().collect();
            assert_eq!(unique.len(), options.len(), "{page}");
            let urls = page.matches("schema_registry.url`**").count();
            assert!(urls <= 1, "{page}");
        }
    }
    let text = weir(here, &["list", "file"]).exits(GOOD).out;
    assert!(text.contains("With `codec: avro` or `codec: protobuf`."), "{text}");
}

#[test]
fn the_ejected_demo_is_a_graph_to_go_on_with() {
    let dir = folder(&[]);
    let done = weir(dir.path(), &["demo", "--eject", "new/folder"]).exits(GOOD);
    assert!(done.out.contains("weir validate new/folder/graph.yaml"), "{}", done.out);
    for args in [&["validate", "new/folder/graph.yaml"][..], &["validate", "new/folder"], &["explain", "new/folder"]] {
        let _ = weir(dir.path(), args).exits(GOOD);
    }
    let tests = weir(dir.path(), &["test", "new/folder"]).exits(GOOD).out;
    assert!(tests.ends_with(" passed, 0 failed\n") && !tests.contains("\n0 passed"), "{tests}");

    let graph = dir.path().join("new/folder/graph.yaml");
    std::fs::write(&graph, "mine").unwrap();
    let again = weir(dir.path(), &["demo", "--eject", "new/folder"]).exits(FAILED);
    assert!(again.err.contains("there already"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&graph).unwrap(), "mine", "nobody's work is overwritten");
}

#[test]
fn the_demo_runs_through_and_accounts_for_every_line() {
    let dir = folder(&[]);
    let done = weir(dir.path(), &["demo", "--events", "200", "--rate", "2000"]).exits(GOOD);
    assert!(done.out.contains("\n200 lines in "), "{}", done.out);
    for node in ["cluster", "logs", "events", "topic"] {
        let line = done.out.lines().find_map(|line| line.strip_prefix(&format!("  {node} "))).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [received, passed, filtered, in_state, _emitted, dead_letters] = numbers[..] else { panic!("{line}") };
        assert_eq!(received, 200, "{line}");
        assert_eq!(passed + filtered + in_state + dead_letters, received, "{line}");
    }
    assert_eq!(done.err, "", "nothing to worry about is said");
}

#[test]
fn the_demo_of_alerts_tells_every_change_once() {
    let dir = folder(&[]);
    let done = weir(dir.path(), &["demo", "alerts", "--events", "600", "--rate", "6000"]).exits(GOOD);
    assert!(done.out.contains("\n600 lines in "), "{}", done.out);
    let told: Vec<&str> =
        done.out.lines().filter(|line| line.contains("  firing  ") || line.contains("  resolved  ")).collect();
    let distinct: std::collections::BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(distinct.len(), told.len(), "{told:#?}");
    // Three alerts in three clusters, each some three times in fifty minutes, and one in each that always fires.
    let of = |word: &str| told.iter().filter(|line| line.contains(word)).count();
    assert_eq!(of("Watchdog"), 3, "{told:#?}");
    assert!(of("  resolved  ") >= 24 && of("  firing  ") >= 24, "{told:#?}");
    assert!(told.iter().any(|line| line.ends_with("  DiskFull  east  disk almost full")), "{told:#?}");
    assert_eq!(done.err, "", "nothing to worry about is said");
}

/// The exit code, and what comes out of the stream that does not go to `file`.
fn with_output_to(dir: &Path, args: &[&str], file: &str, is_error: bool) -> (i32, String) {
    let file = || Stdio::from(std::fs::OpenOptions::new().write(true).open(file).unwrap());
    let mut command = Command::new(weir_tests::process::binary());
    command.args(args).current_dir(dir).stdin(Stdio::null());
    let command = if is_error { command.stderr(file()) } else { command.stdout(file()) };
    let output = command.output().unwrap();
    let other = if is_error { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(other).unwrap())
}

#[test]
fn a_full_disk_or_a_reader_that_has_gone_is_no_panic() {
    let dir = folder(&[("small.yaml", GRAPH), ("faulty.yaml", FAULTY)]);
    let verbs = [
        &["validate", "small.yaml"][..],
        &["validate", "small.yaml", "--format", "json"],
        &["test", "small.yaml"],
        &["explain", "small.yaml"],
        &["list"],
        &["schema"],
        &["demo", "--eject", "new"],
    ];
    for args in verbs {
        let (code, err) = with_output_to(dir.path(), args, "/dev/full", false);
        assert_eq!(code, FAILED, "{args:?}: what it was asked for is lost: {err}");
        assert!(err.starts_with("cannot write to standard output") && !err.contains("panicked"), "{args:?}: {err}");
    }
    for (args, code) in [(&["validate", "faulty.yaml"][..], BAD_CONFIG), (&["run", "small.yaml"], GOOD)] {
        assert_eq!(with_output_to(dir.path(), args, "/dev/full", true), (code, String::new()), "{args:?}");
    }

    let mut schema = Command::new(weir_tests::process::binary());
    let mut schema = schema.arg("schema").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(schema.stdout.take());
    let output = schema.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(GOOD), String::new()));
}

/// Options that sound like addresses and are none that weir connects to by a path: why they may be plain texts.
const NO_URLS: [(&str, &str); 5] = [
    ("bootstrap_servers", "hosts and ports alone"),
    ("external_url", "stands in what is sent"),
    ("generator_url", "stands in what is sent"),
    ("verify_hostname", "a switch"),
    ("listen", "an IP address and a port"),
];

/// Calls `see` with each option in a schema, by its name.
fn each_option<'a>(schema: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match schema {
        Value::Object(map) => {
            let properties = map.get("properties").and_then(Value::as_object);
            properties.into_iter().flatten().for_each(|(name, option)| see(name, option));
            map.values().for_each(|inner| each_option(inner, see));
        }
        Value::Array(all) => all.iter().for_each(|inner| each_option(inner, see)),
        _ => {}
    }
}

#[test]
fn of_an_option_that_is_an_address_scheme_host_and_port_are_all_that_is_ever_shown() {
    let schema = weir(Path::new("."), &["schema"]).exits(GOOD).json();
    let mut urls = 0;
    each_option(&schema, &mut |name, option| {
        let sounds =
            ["url", "uri", "endpoint", "address", "proxy", "server", "host"].iter().any(|word| name.contains(word));
        let is_url = option.to_string().contains("\"format\":\"url\"");
        urls += usize::from(is_url);
        let is_known = NO_URLS.iter().any(|(known, _)| *known == name);
        assert!(!sounds || is_url || is_known, "{name} sounds like an address and is not of the type Url: {option}");
    });
    assert!(urls >= 5, "elasticsearch, alertmanager, webhook, remote write, the schema registry: {urls}");

    // Nobody listens there: every sink says why it waits.
    let url = "http://127.0.0.1:1/S3CRETPATH?token=S3CRETQUERY";
    let home = Home::new(&format!(
        "name: secret\nsources:\n  in: {{type: file, paths: [in.ndjson], decoding: json}}\n  points: {{type: file, paths: \
         [points.ndjson], decoding: points_json}}\nsinks:\n  \
         documents: {{type: elasticsearch, inputs: [in], endpoints: [\"{url}\"], index: logs, batch: {{timeout_secs: 0}}}}\n  \
         alerts: {{type: alertmanager, inputs: [in], endpoints: [\"{url}\"], auth: {{strategy: bearer, token: x}}}}\n  \
         hook: {{type: webhook, inputs: [in], url: \"{url}\", body: x}}\n  \
         points_out: {{type: prometheus_remote_write, inputs: [points], endpoint: \"{url}\", batch: {{timeout_secs: 0}}}}\n"
    ));
    let alert = r#"{"labels":{"alertname":"a"},"state":"firing","starts_at":"2026-03-01T12:00:00Z"}"#;
    std::fs::write(home.path("in.ndjson"), format!("{alert}\n")).unwrap();
    std::fs::write(home.path("points.ndjson"), "{\"name\":\"up\",\"value\":1,\"timestamp\":1}\n").unwrap();
    let mut told = String::new();
    for verb in ["validate", "explain", "doctor"] {
        let done = weir(&home.path(""), &[verb, "graph.yaml"]);
        told.extend([done.out, done.err]);
    }
    assert!(told.contains("password_in_clear") && told.contains("http://127.0.0.1:1"), "they tell of it: {told}");
    let process = home.start("weir", &[]);
    until("every sink to say why it waits", PATIENCE, || {
        let (_, ready) = process.get("/ready");
        ["documents", "alerts", "hook", "points_out"].iter().all(|sink| ready.contains(sink))
    });
    told.extend([process.get("/ready").1, process.get("/metrics").1, process.log()]);
    process.kill();
    let shown: Vec<&str> = told.lines().filter(|line| line.contains("S3CRET")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}
