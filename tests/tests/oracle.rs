//! What weir makes of a file of decoys, byte for byte as an independent program says, and the same in every run.
//!
//! The decoys are events whose bytes and whose meaning disagree: the phrase nested, in a string, escaped, with blanks,
//! behind a name that comes twice. `oracle.py` writes them, and says what is right.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use weir_tests::command::weir;

const COUNT: usize = 200_000;
/// A program that writes every event anew takes its time.
const FEW: usize = 50_000;

/// Name of the work, as the oracle knows it, over how many events, and the transform that does it here.
const WORK: [(&str, usize, &str); 3] = [
    ("filter", COUNT, r#"{type: filter, inputs: [in], condition: '.reason == "BackOff"'}"#),
    ("add", COUNT, r#"{type: remap, inputs: [in], source: '.cluster = "test"; .node = .source.host'}"#),
    (
        "merge",
        FEW,
        r#"{type: remap, inputs: [in], source: '. = merge(object!(.), {"cluster": "test", "B": [1, {"z": 1, "a": 2}], "reason": "new"})'}"#,
    ),
];

fn oracle(dir: &Path, args: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
    let output = Command::new("python3").arg(script).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs python3 (apt-get install python3): {error}"));
    assert!(output.status.success(), "oracle.py {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The name of the file with so many events.
fn input(events: usize) -> String {
    format!("in-{events}.ndjson")
}

fn graph(name: &str, input: &str, transform: &str, output: &str) -> String {
    format!(
        "name: {name}\n\
         sources:\n  in: {{type: file, paths: [{input}]}}\n\
         transforms:\n  work: {transform}\n\
         sinks:\n  out: {{type: file, inputs: [work], path: {output}}}\n"
    )
}

/// Fails with the first line that differs.
fn assert_same(what: &str, seen: &[u8], expected: &[u8]) {
    if seen == expected {
        return;
    }
    let split = |bytes| <[u8]>::split(bytes, |byte| *byte == b'\n').map(String::from_utf8_lossy);
    let differs = split(seen).zip(split(expected)).enumerate().find(|(_, (seen, expected))| seen != expected);
    match differs {
        Some((at, (seen, expected))) => panic!("{what}: line {}\nseen     {seen}\nexpected {expected}", at + 1),
        None => panic!("{what}: {} instead of {} bytes", seen.len(), expected.len()),
    }
}

#[test]
fn weir_agrees_with_the_oracle_and_with_itself() {
    let dir = tempfile::tempdir().unwrap();
    for count in [COUNT, FEW] {
        oracle(dir.path(), &["generate", &count.to_string(), &input(count)]);
    }
    let read = |name: String| std::fs::read(dir.path().join(name)).unwrap();
    std::thread::scope(|scope| {
        let dir = dir.path();
        scope.spawn(move || {
            for (name, count, _) in WORK {
                oracle(dir, &[name, &input(count), &format!("{name}.expected")]);
            }
        });
        for (name, count, transform) in WORK {
            for run in ["first", "second"] {
                let file = format!("{name}.{run}.yaml");
                // Folders of their own: no run knows of another.
                let text = graph(&format!("{name}-{run}"), &input(count), transform, &format!("{name}.{run}"));
                std::fs::write(dir.join(&file), text).unwrap();
                let done = weir(dir, &["run", "--once", &file]).exits(0);
                assert!(!done.err.contains("dead letter"), "{}", done.err);
            }
        }
    });
    for (name, ..) in WORK {
        let (first, second) = (read(format!("{name}.first")), read(format!("{name}.second")));
        assert_same(&format!("{name}, second run"), &second, &first);
        assert_same(&format!("{name} and its oracle"), &first, &read(format!("{name}.expected")));
    }
    let lines = |name: &str| read(name.to_owned()).iter().filter(|byte| **byte == b'\n').count();
    assert_eq!((lines("add.first"), lines("merge.first")), (COUNT, FEW));
    println!("oracle: {COUNT} events, {} of them kept by the filter", lines("filter.first"));
}
