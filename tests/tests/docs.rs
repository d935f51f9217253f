//! Every graph that the documentation shows is one that weir takes.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use weir::config::{self, LoadRequest};
use weir_cli as _;

/// The pages that show graphs.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let entries = |dir: &str| std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let mut pages = vec![root.join("README.md")];
    pages.extend(entries("docs").filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages.extend(entries("components").map(|path| path.join("README.md")).filter(|path| path.exists()));
    pages.sort();
    pages
}

/// The YAML blocks of a page that are whole graphs, with the line each begins at.
fn graphs(page: &str) -> Vec<(usize, String)> {
    let mut graphs = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if !line.starts_with("```yaml") {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let has = |section: &str| block.contains(&section);
        if has("sources:") && has("sinks:") {
            graphs.push((number + 1, block.join("\n")));
        }
    }
    graphs
}

#[test]
fn every_graph_in_the_documentation_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.yaml");
    // The guide's own transform is known to the guide's own binary alone; tests/guide.rs runs it.
    let is_the_guides = |graph: &str| graph.contains("type: size_limit");
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages() {
        for (line, graph) in graphs(&std::fs::read_to_string(&page).unwrap()) {
            if is_the_guides(&graph) {
                continue;
            }
            found += 1;
            std::fs::write(&file, graph).unwrap();
            let env = |_: &str| Some("value".to_owned());
            let loaded = config::load(&LoadRequest { paths: std::slice::from_ref(&file), set: &[], env: &env });
            if loaded.graph.is_none() {
                wrong.push(format!("{}:{line}\n{}", page.display(), config::render_text(&loaded, false)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 3, "only {found} graphs were found: is the search right?");
}
