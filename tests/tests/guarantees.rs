//! Every promise of `docs/guarantees.md` names the tests that hold it, and those tests are there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use weir_tests::pages::{Page, root};

/// Every test function of the project, with the files that have one of the name.
fn tests(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let mut is_test = false;
            for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim_start) {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test") || line == "proptest! {";
                if let (true, Some((_, behind))) = (is_test, line.split_once("fn ")) {
                    let name = behind.split(['(', '<']).next().unwrap_or_default();
                    found.entry(name.to_owned()).or_default().push(file.clone());
                    is_test = false;
                }
            }
        }
    }
}

fn all_tests() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for folder in ["src", "components", "cli", "tests/src", "tests/tests", "benches/src"] {
        tests(&root().join(folder), &mut found);
    }
    found
}

/// The words in code marks that are names of tests, and those that are files.
fn quoted(text: &str) -> (Vec<&str>, Vec<&str>) {
    let words = || text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    };
    (words().filter(is_name).collect(), words().filter(|word| word.ends_with(".rs")).collect())
}

#[test]
fn every_promise_names_the_tests_that_hold_it() {
    let tests = all_tests();
    let prose = Page::of("docs/guarantees.md").prose();
    let mut promises = 0;
    for section in prose.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        if title == "What is not promised" {
            continue;
        }
        promises += 1;
        assert!(section.contains("\n*"), "{title}: the promise stands in italics");
        let (_, held) = section.split_once("Held by").unwrap_or_else(|| panic!("{title}: who holds it?"));
        let (names, files) = quoted(held);
        assert!(!names.is_empty(), "{title}: which tests?");
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains_key(**name)).collect();
        assert!(missing.is_empty(), "{title}: there is no test {missing:?}");
        for file in files {
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let is_kit = file == "src/component/conformance.rs";
            let is_held = |name: &&&str| text.contains(&format!("fn {name}("));
            assert!(is_kit || names.iter().any(|name| is_held(&name)), "{title}: {file} holds none of {names:?}");
        }
    }
    assert!(promises >= 8, "only {promises} promises were found: is the search right?");
}

#[test]
fn the_invariants_of_the_architecture_name_tests_that_are_there() {
    let tests = all_tests();
    let page = Page::of("docs/architecture.md");
    let (_, section) = page.text.split_once("\n## Invariants\n").unwrap();
    let (names, _) = quoted(section.split("\n## ").next().unwrap());
    let missing: Vec<_> = names.iter().filter(|name| !tests.contains_key(**name)).collect();
    assert!(missing.is_empty(), "there is no test {missing:?}");
    assert!(names.len() >= 15, "only {names:?} were found: is the search right?");
}

#[test]
fn every_rule_of_remote_write_names_the_tests_that_hold_it() {
    let tests = all_tests();
    let prose = Page::of("docs/remote-write.md").prose();
    let is_rule = |line: &&str| line.starts_with("| 1.0") || line.starts_with("| 2.0");
    let rules: Vec<&str> = prose.lines().filter(is_rule).collect();
    for rule in &rules {
        let (_, held) = rule.trim_end_matches([' ', '|']).rsplit_once('|').unwrap();
        let (names, _) = quoted(held);
        assert!(!names.is_empty(), "who holds {rule}?");
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains_key(**name)).collect();
        assert!(missing.is_empty(), "there is no test {missing:?}");
    }
    assert!(rules.len() >= 25, "only {} rules were found: is the search right?", rules.len());
}
