//! The guide `docs/write-a-component.md`, followed to the letter: its files are written, built and run, and what comes
//! out is compared with what it says.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A code block that bears a file name.
struct Block {
    /// Shown to be written, or to be the outcome.
    is_output: bool,
    file: String,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text: String = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        let named = info.split_once(" file=").map(|(_, file)| (false, file));
        let named = named.or_else(|| info.split_once(" output=").map(|(_, file)| (true, file)));
        blocks.extend(named.map(|(is_output, file)| Block { is_output, file: file.to_owned(), text }));
    }
    blocks
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder this test was built in: `<target>/release/deps/guide-...`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// The manifest as a workspace of its own. Crates of the registry are taken as they are in the target folder, for which
/// lock file and profile have to be ours; our own crates are compiled once more, and quickly rather than well.
fn as_a_workspace(manifest: &str) -> String {
    let ours = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, profile) = ours.split_once("[profile.release]\n").unwrap();
    let profile = profile.split("\n\n").next().unwrap();
    let own = ours.lines().filter_map(|line| line.split_once(" = { path = ")).map(|(name, _)| name);
    let quick: String = own.map(|name| format!("\n[profile.release.package.{name}]\nopt-level = 0\n")).collect();
    let manifest = manifest.replace("\"../weir", &format!("\"{}", root().display()));
    format!("{manifest}\n[workspace]\n\n[profile.release]\n{profile}\n{quick}")
}

fn run(what: &str, command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}:\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn the_guide_builds_and_gives_what_it_says() {
    let guide = std::fs::read_to_string(root().join("docs/write-a-component.md")).unwrap();
    let dir = target().join("guide");
    let _none_yet = std::fs::remove_dir_all(&dir);
    for folder in ["src", "tests"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let (outputs, files): (Vec<Block>, Vec<Block>) = blocks(&guide).into_iter().partition(|block| block.is_output);
    for Block { file, text, .. } in &files {
        let text = if file == "Cargo.toml" { as_a_workspace(text) } else { text.clone() };
        std::fs::write(dir.join(file), text).unwrap();
    }
    std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();

    for verb in ["build", "test"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([verb, "--release", "--offline"]).current_dir(&dir).env("CARGO_TARGET_DIR", target());
        run(verb, &mut cargo);
    }
    let weir = target().join("release/weir-custom");
    let ask = |args: &[&str]| run(args[0], Command::new(&weir).args(args).current_dir(&dir));
    let list = String::from_utf8(ask(&["list"]).stdout).unwrap();
    assert!(list.contains("size_limit") && list.contains("kafka"), "{list}");
    ask(&["test", "graph.yaml"]);
    ask(&["run", "--once", "graph.yaml"]);
    assert_eq!(outputs.len(), 2);
    for Block { file, text, .. } in &outputs {
        assert_eq!(&std::fs::read_to_string(dir.join(file)).unwrap(), text, "{file}");
    }
}
