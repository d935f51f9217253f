//! `docs/errors.md` explains every code there is, and none that there is not.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use weir_tests::pages::{Page, root};

/// Where a code stands: behind which words, and as which argument.
const CALLS: [(&str, usize); 12] = [
    ("Diagnostic::error(", 0),
    ("Diagnostic::warning(", 0),
    ("problems.error(", 1),
    ("problems.warning(", 1),
    ("Problem::report(", 2),
    ("CodecError::new(", 0),
    ("Scan::new(", 1),
    ("Failure::new(", 0),
    ("Refusal::Reject(", 0),
    ("Refusal::new(", 0),
    ("reject(", 0),
    ("raw_problem(", 1),
];

/// What stands as codes do where codes are passed on, and is none: options.
const NO_CODES: [&str; 2] = ["enabled_events", "replication_factor"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Tests and their kits make codes up.
        if path.is_dir() && !["tests", "golden", "conformance", "simulator"].contains(&name) {
            sources(&path, found);
        } else if name.ends_with(".rs") && !["tests.rs", "simulator.rs", "conformance.rs"].contains(&name) {
            found.push(path);
        }
    }
}

/// The arguments of a call, up to its closing bracket.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut is_text, mut is_escaped) = (0, 0, false, false);
    let mut found = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(text[start..at].trim());
                return found;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The word that a literal holds, with or without a conversion behind it.
fn word(literal: &str) -> Option<&str> {
    let inside = literal.strip_prefix('"')?.split('"').next()?;
    let is_in_words = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_word = !inside.is_empty() && inside.bytes().all(is_in_words);
    is_word.then_some(inside)
}

/// First items of tuples that are words: how a code travels beside its text.
fn beside_a_text(text: &str) -> impl Iterator<Item = &str> {
    let is_call =
        |at: usize| text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || "_!>".contains(before));
    text.match_indices("(\"").filter(move |(at, _)| !is_call(*at)).filter_map(|(at, _)| {
        let first = *arguments(&text[at + 1..]).first()?;
        word(first).filter(|word| word.contains('_') && text[at + 1 + first.len()..].trim_start().starts_with(','))
    })
}

/// Every code with a file it stands in.
fn codes() -> BTreeMap<String, PathBuf> {
    let root = root();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for family in std::fs::read_dir(root.join("components")).unwrap() {
        sources(&family.unwrap().path().join("src"), &mut files);
    }
    let mut codes = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let mut passes_on = false;
        let mut add = |code: &str| codes.insert(code.to_owned(), file.clone());
        for (call, number) in CALLS {
            for (at, _) in text.match_indices(call) {
                match arguments(&text[at + call.len()..]).get(number).and_then(|argument| word(argument)) {
                    Some(code) => drop(add(code)),
                    None => passes_on = true,
                }
            }
        }
        for (at, _) in text.match_indices("code: ") {
            let value = text[at + 6..].split([',', ' ', '}', '\n']).next().unwrap_or_default();
            match word(value) {
                Some(code) => drop(add(code)),
                None => passes_on = true,
            }
        }
        if passes_on {
            beside_a_text(text).filter(|word| !NO_CODES.contains(word)).for_each(|code| drop(add(code)));
        }
    }
    codes
}

#[test]
fn every_code_is_explained_and_none_is_made_up() {
    let page = Page::of("docs/errors.md");
    let told: BTreeSet<&str> = page.text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let codes = codes();
    let missing: Vec<_> = codes.iter().filter(|(code, _)| !told.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks: {missing:#?}");
    let made_up: Vec<_> = told.iter().filter(|code| !codes.contains_key(**code)).collect();
    assert!(made_up.is_empty(), "no source has these codes: {made_up:?}");
    assert!(codes.len() >= 50, "only {} codes were found: is the search right?", codes.len());
}

#[test]
fn every_code_has_a_cause_and_a_remedy() {
    let prose = Page::of("docs/errors.md").prose();
    for section in prose.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().unwrap();
        let paragraphs = section.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).count();
        assert!(paragraphs >= 3, "a heading, a cause and a remedy: {section}");
    }
}

#[test]
fn the_search_finds_codes_where_they_are_written() {
    assert_eq!(arguments("\"a, b)\", x(1, 2), [3]) + 4"), ["\"a, b)\"", "x(1, 2)", "[3]"]);
    let text = r#"Err(("bad_thing", "text")) ("min_items") x.with("name", y)"#;
    assert_eq!(beside_a_text(text).collect::<Vec<_>>(), ["bad_thing"]);
}
