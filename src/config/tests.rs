//! The loader, by what it prints: `golden/NAME.yaml` (or a folder of that name) and `golden/NAME.txt` beside it.
//!
//! A line `# set: path=value` in a golden's first file is an argument `--set`. `WEIR_BLESS=1` writes the
//! expected texts anew; they are reviewed like code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod components;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use super::{LoadRequest, Loaded, load, render_text};

/// Stands in the environment of every test, and in nothing that is printed.
const SECRET: &str = "hunter2-and-more";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "SECRET" => SECRET,
        "SECRET_CONDITION" => "hunter2(.a) == 1",
        "DIGITS" => "123456",
        "RATE" => "50",
        "EMPTY" => "",
        "SECRET_FILE_NAME" => "hunter2.ndjson",
        _ => return None,
    };
    Some(value.to_owned())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden")
}

/// Every golden: its name and its file or folder.
fn goldens() -> Vec<(String, PathBuf)> {
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_graph = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml");
    let mut all: Vec<(String, PathBuf)> =
        paths.filter(is_graph).map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect();
    all.sort();
    all
}

fn first_text(path: &Path) -> String {
    let mut file = path.to_owned();
    if path.is_dir() {
        let mut files: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        file = files.swap_remove(0);
    }
    String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
}

fn load_golden(path: &Path) -> Loaded {
    let set: Vec<String> =
        first_text(path).lines().filter_map(|line| line.strip_prefix("# set: ")).map(str::to_owned).collect();
    let mut loaded = load(&LoadRequest { paths: &[path.to_owned()], set: &set, env: &env });
    let prefix = format!("{}/", folder().display());
    loaded.sources.iter_mut().for_each(|source| source.name = source.name.replace(&prefix, ""));
    loaded
}

/// Loads a graph from a text.
fn load_text(text: &str, set: &[&str]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.yaml");
    fs::write(&file, text).unwrap();
    let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
    let mut loaded = load(&LoadRequest { paths: &[file], set: &set, env: &env });
    loaded.sources[0].name = "graph.yaml".to_owned();
    loaded
}

#[test]
fn goldens_print_what_is_expected() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut different = Vec::new();
    for (name, path) in goldens() {
        let loaded = load_golden(&path);
        let mut printed = render_text(&loaded, false);
        if let Some(graph) = &loaded.graph {
            let ids: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
            printed += &format!("graph {}: {}\n", graph.name, ids.join(", "));
        }
        let file = folder().join(format!("{name}.txt"));
        if bless {
            fs::write(&file, &printed).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected != printed {
            different.push(format!("--- {name}\n{printed}"));
        }
    }
    assert!(different.is_empty(), "not as expected:\n{}", different.join("\n"));
}
