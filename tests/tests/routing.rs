//! Branches: what `route`, `throttle`, `sample` and `limit` let through in a running graph, and that its books balance.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use weir_tests::command::weir;

/// Events with the fields `n`, 0 to `count`, `kind` and `reason`.
fn input(dir: &Path, count: usize) {
    let mut lines = String::new();
    for n in 0..count {
        let kind = ["pod", "node", "job", "pod", "none"][n % 5];
        writeln!(lines, r#"{{"n":{n},"kind":"{kind}","reason":"r{}"}}"#, n % 3).unwrap();
    }
    std::fs::write(dir.join("in.ndjson"), lines).unwrap();
}

/// Runs the graph to its end; gives the numbers `n` in each file, and the books of each node as the log tells them.
fn run(dir: &Path, graph: &str) -> (BTreeMap<String, Vec<u64>>, BTreeMap<String, serde_json::Value>) {
    std::fs::write(dir.join("graph.yaml"), graph).unwrap();
    let done = weir(dir, &["run", "--once", "--log-format", "json", "graph.yaml"]).exits(0);
    let books = done.logs().into_iter().filter(|line| line["message"] == "event counts");
    let books = books.map(|line| (line["node"].as_str().unwrap().to_owned(), line)).collect();
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "out") {
            let text = std::fs::read_to_string(&path).unwrap();
            let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap();
            files.insert(name, text.lines().map(number).collect());
        }
    }
    (files, books)
}

fn assert_books(books: &BTreeMap<String, serde_json::Value>, node: &str, expected: [u64; 3]) {
    let of = |what: &str| books[node][what].as_u64().unwrap();
    assert_eq!([of("received"), of("passed"), of("filtered")], expected, "received, passed, filtered of {node}");
    assert_eq!(of("in_flight"), 0);
}

const SOURCE: &str = "sources:\n  in: {type: file, paths: [in.ndjson]}\n";

#[test]
fn an_event_leaves_by_the_first_route_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    input(dir.path(), 1000);
    let graph = format!(
        r#"{SOURCE}
transforms:
  split:
    type: route
    inputs: [in]
    routes:
      zero: .reason == "r0"
      pods: .kind == "pod"
      nodes: .kind == "node"
sinks:
  zero: {{type: file, inputs: [split.zero], path: zero.out}}
  pods: {{type: file, inputs: [split.pods], path: pods.out}}
  nodes: {{type: file, inputs: [split.nodes], path: nodes.out}}
"#
    );
    let (files, books) = run(dir.path(), &graph);
    let all = |holds: &dyn Fn(u64) -> bool| (0..1000).filter(|n| holds(*n)).collect::<Vec<u64>>();
    let is_pod = |n: u64| [0, 3].contains(&(n % 5));
    assert_eq!(files["zero"], all(&|n| n % 3 == 0));
    assert_eq!(files["pods"], all(&|n| n % 3 != 0 && is_pod(n)));
    assert_eq!(files["nodes"], all(&|n| n % 3 != 0 && n % 5 == 1));
    // Nobody reads `split.default`.
    let rest = all(&|n| n % 3 != 0 && !is_pod(n) && n % 5 != 1).len() as u64;
    assert_books(&books, "split", [1000, 1000 - rest, rest]);
}

#[test]
fn with_match_all_an_event_leaves_by_every_route_that_holds_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    input(dir.path(), 1000);
    let graph = format!(
        r#"{SOURCE}
transforms:
  split:
    type: route
    match: all
    inputs: [in]
    routes: {{zero: '.reason == "r0"', pods: '.kind == "pod"'}}
sinks:
  zero: {{type: file, inputs: [split.zero], path: zero.out}}
  pods: {{type: file, inputs: [split.pods], path: pods.out}}
  both: {{type: file, inputs: [split.pods, split.zero], path: both.out}}
"#
    );
    let (mut files, books) = run(dir.path(), &graph);
    let (zero, pods): (Vec<u64>, Vec<u64>) =
        ((0..1000).filter(|n| n % 3 == 0).collect(), (0..1000).filter(|n| n % 5 == 0 || n % 5 == 3).collect());
    let mut both: Vec<u64> = zero.iter().chain(&pods).copied().collect();
    both.sort_unstable();
    files.get_mut("both").unwrap().sort_unstable();
    assert_eq!((&files["zero"], &files["pods"], &files["both"]), (&zero, &pods, &both));
    let passed = (0..1000).filter(|n| n % 3 == 0 || n % 5 == 0 || n % 5 == 3).count() as u64;
    assert_books(&books, "split", [1000, passed, 1000 - passed]);
}

#[test]
fn a_failing_condition_rejects_the_event_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.ndjson"), "{\"n\":1}\n{\"n\":2} x\n{\"n\":3}\n").unwrap();
    let graph = format!(
        r#"{SOURCE}
transforms:
  split: {{type: route, inputs: [in], routes: {{odd: .n != 2}}}}
sinks:
  odd: {{type: file, inputs: [split.odd], path: odd.out}}
  bad: {{type: file, inputs: [split.errors], path: bad.text, encoding: raw}}
"#
    );
    let (files, books) = run(dir.path(), &graph);
    assert_eq!(files["odd"], [1, 3]);
    assert_eq!(std::fs::read_to_string(dir.path().join("bad.text")).unwrap(), "{\"n\":2} x\n");
    assert_books(&books, "split", [3, 3, 0]);
}

#[test]
fn a_sample_is_the_same_in_every_run_and_whole_by_key() {
    let dir = tempfile::tempdir().unwrap();
    input(dir.path(), 10_000);
    let graph = format!(
        r#"{SOURCE}
transforms:
  some: {{type: sample, inputs: [in], rate: 10, exclude: '.n == 4'}}
  reasons: {{type: sample, inputs: [in], rate: 2, key: .reason}}
  first: {{type: limit, inputs: [in], count: 25}}
sinks:
  to_some: {{type: file, inputs: [some], path: some.out}}
  to_reasons: {{type: file, inputs: [reasons], path: reasons.out}}
  to_first: {{type: file, inputs: [first], path: first.out}}
"#
    );
    let (files, _) = run(dir.path(), &graph);
    assert_eq!(run(dir.path(), &graph).0, files, "again the same");
    let kept = files["some"].len();
    assert!((850..1150).contains(&kept) && files["some"].contains(&4), "{kept} of 10,000");
    for reason in 0..3 {
        let kept = files["reasons"].iter().filter(|n| *n % 3 == reason).count();
        let all = (0..10_000u64).filter(|n| n % 3 == reason).count();
        assert!(kept == 0 || kept == all, "{kept} of {all}");
    }
    assert_eq!(files["first"], (0..25).collect::<Vec<_>>());
}

#[test]
fn a_throttle_paces_each_key_in_event_time() {
    let dir = tempfile::tempdir().unwrap();
    // Generated events stand 10 ms apart, these over 50 s: ten pass at once, then one at every sixth second.
    let graph = r#"
sources:
  in: {type: generate, count: 5000, seed: 3}
transforms:
  paced: {type: throttle, inputs: [in], threshold: 10, window: 1m}
sinks:
  out: {type: file, inputs: [paced], path: paced.json}
"#;
    let (_, books) = run(dir.path(), graph);
    assert_books(&books, "paced", [5000, 18, 4982]);
}
