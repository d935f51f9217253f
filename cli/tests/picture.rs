//! The pictures that `weir graph --format svg` draws.
//!
//! `WEIR_BLESS=1 cargo test --release --workspace --test picture` draws the reviewed ones anew.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// The picture of a graph, and that it is the same when it is drawn again.
fn svg(graph: &Path) -> String {
    let draw = || {
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(["graph", "--format", "svg"]).arg(graph).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = draw();
    assert_eq!(first, draw(), "{}: every run draws another picture", graph.display());
    first
}

/// The graph on a page whose name this is.
fn graph_of(page: &str, name: &str) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    let begins = format!("```yaml\nname: {name}\n");
    let (_, rest) = text.split_once(&begins).unwrap_or_else(|| panic!("{page} has no graph {name}"));
    format!("name: {name}\n{}", rest.split("```").next().unwrap())
}

#[test]
fn the_picture_of_the_documentation_is_that_of_its_graph() {
    let dir = tempfile::tempdir().unwrap();
    let graph = dir.path().join("graph.yaml");
    std::fs::write(&graph, graph_of("../docs/concepts.md", "small")).unwrap();
    let drawn = svg(&graph);
    let golden = Path::new("../docs/small.svg");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(golden, &drawn).unwrap();
    }
    let there = std::fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(drawn, there, "WEIR_BLESS=1 draws {} anew", golden.display());
}

#[test]
fn every_example_is_drawn_whole_as_xml_that_asks_for_nothing() {
    let mut drawn = 0;
    for example in std::fs::read_dir("../config-examples").unwrap() {
        let path = example.unwrap().path();
        let svg = svg(&path);
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}:\n{svg}"));
        let named = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
        let with_class = |class: &str| {
            let has = |node: &roxmltree::Node| {
                node.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class))
            };
            document.descendants().filter(has).count()
        };
        let mermaid = Command::new(env!("CARGO_BIN_EXE_weir")).arg("graph").arg(&path).output().unwrap();
        let mermaid = String::from_utf8(mermaid.stdout).unwrap();
        let edges = mermaid.lines().filter(|line| line.contains("-->")).count();
        let nodes = mermaid.lines().filter(|line| line.contains("<br/>")).count();
        assert_eq!((with_class("node"), with_class("edge")), (nodes, edges), "{}:\n{svg}", path.display());
        assert_eq!(with_class("port"), mermaid.matches("-->|").count(), "{}", path.display());
        assert_eq!(named("image") + named("script") + named("a"), 0);
        assert!(!svg.replace("http://www.w3.org/2000/svg", "").contains("://"), "{svg}");
        drawn += 1;
    }
    assert!(drawn >= 10, "only {drawn} examples were found");
}

#[test]
fn a_large_graph_is_drawn() {
    let mut graph = "sources:\n  in: {type: stdin}\ntransforms:\n".to_owned();
    let mut sinks = "sinks:\n".to_owned();
    for number in 0..150 {
        let input = if number == 0 { "in".to_owned() } else { format!("t{}", (number - 1) / 2) };
        graph += &format!("  t{number}: {{type: filter, inputs: [{input}], condition: .n == {number}}}\n");
        sinks += &format!("  s{number}: {{type: blackhole, inputs: [t{number}, t{number}.errors]}}\n");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.yaml");
    std::fs::write(&path, graph + &sinks).unwrap();
    let svg = svg(&path);
    let document = roxmltree::Document::parse(&svg).unwrap();
    let shapes =
        document.descendants().filter(|node| node.attribute("class").is_some_and(|class| class.starts_with("node")));
    assert_eq!(shapes.count(), 301);
}
