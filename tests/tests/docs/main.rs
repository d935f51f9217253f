//! Every code block of the documentation is one that works: graphs are checked and their tests run, command lines are
//! taken apart, and what is of another language has a test of its own.
#![allow(clippy::unwrap_used)]

mod commands;

use std::path::Path;

use weir::config::{self, LoadRequest, Loaded};
use weir::graph::{Plan, run_tests};
use weir_cli as _;
use weir_tests::pages::{Block, Page, pages};

/// Of this page `tests/tests/tutorial.rs` runs every block.
const TUTORIAL: &str = "docs/tutorial.md";
/// Of this one `tests/tests/guide.rs` builds the blocks that have the name of a file.
const GUIDE: &str = "docs/write-a-component.md";

/// What is said of a graph when nodes around it are left out.
const FRAGMENT: [&str; 3] = ["unknown_input", "unused_node", "unused_port"];

#[test]
fn every_code_block_works() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages().iter().filter(|page| page.file != TUTORIAL) {
        for block in page.blocks() {
            found += 1;
            if let Err(why) = check(page, &block) {
                wrong.push(format!("{}:{} ({}): {why}", page.file, block.line, block.info));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(found >= 40, "only {found} blocks were found: is the search right?");
}

#[test]
fn what_is_wrong_is_found() {
    let page = Page { file: String::new(), text: "```yaml\nname: good\nsources: {}\nsinks: {}\n```\n".to_owned() };
    let fails = |info: &str, text: &str| {
        let block = Block { line: 1, info: info.to_owned(), text: text.to_owned() };
        check(&page, &block).expect_err(text)
    };
    assert!(fails("yaml", "sources:\n  in: {type: stdni}\n").contains("unknown_type"));
    assert!(
        fails("yaml", "sources:\n  in: {type: stdin}\nsinks:\n  out: {type: console, inputs: [on]}\n").contains("on")
    );
    assert!(fails("yaml error=cycle", "sources:\n  in: {type: stdni}\n").contains("cycle"));
    assert!(fails("python", "print()\n").contains("not checked"));
    assert!(fails("sh", "weir validte good.yaml\n").contains("validte"));
    assert!(fails("sh", "weir validate bad.yaml\n").contains("bad.yaml"));
    assert!(fails("sh", "scripts/no-such\n").contains("scripts/no-such"));
    assert!(fails("json", "{]\n").contains("line 1"));
}

fn check(page: &Page, block: &Block) -> Result<(), String> {
    match block.language() {
        // A picture, or what a program prints.
        "text" => Ok(()),
        // Of the other product, shown to be compared.
        "yaml" if block.is("theirs") => {
            serde_saphyr::from_str::<serde_json::Value>(&block.text).map(drop).map_err(|error| error.to_string())
        }
        _ if block.is("theirs") => Ok(()),
        _ if page.file == GUIDE && (block.value("file").is_some() || block.value("output").is_some()) => Ok(()),
        "yaml" => match (block.value("error"), block.value("letter")) {
            (Some(code), _) => has_error(&block.text, code),
            (_, Some(code)) => has_letter(&block.text, code),
            _ => is_valid(&block.text),
        },
        "sh" => commands::check(page, &block.text),
        "json" => serde_json::from_str::<serde_json::Value>(&block.text).map(drop).map_err(|error| error.to_string()),
        _ => Err("a block of this language is not checked; see tests/tests/docs.rs for those that are".to_owned()),
    }
}

fn load(graph: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.yaml");
    std::fs::write(&file, graph).unwrap();
    // Files that a graph includes are there on the reader's machine.
    let env = |name: &str| (!name.starts_with("NOT_SET")).then(|| "value:1".to_owned());
    config::load(&LoadRequest { paths: &[file], set: &[], env: &env })
}

fn is_valid(text: &str) -> Result<(), String> {
    let has = |section: &str| text.lines().any(|line| line.starts_with(section));
    let loaded = load(text);
    let is_whole = has("sources:") && has("sinks:");
    match &loaded.graph {
        Some(_) => passes(loaded).map(drop),
        None if is_whole => Err(config::render_text(&loaded, false)),
        None => {
            let is_other = |problem: &&config::Diagnostic| {
                let lacks_sections = problem.code == "missing_field" && problem.message.starts_with("the graph");
                !lacks_sections && !FRAGMENT.contains(&problem.code.as_str())
            };
            match loaded.diagnostics.iter().find(is_other) {
                Some(problem) => Err(format!("{}: {}", problem.code, problem.message)),
                None => Ok(()),
            }
        }
    }
}

/// Runs the graph's own tests.
fn passes(loaded: Loaded) -> Result<Plan, String> {
    let text = config::render_text(&loaded, false);
    let plan = Plan::new(loaded.graph.ok_or(text)?);
    let outcomes = run_tests(&plan).map_err(|error| error.to_string())?;
    let differences: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.differences).collect();
    if differences.is_empty() { Ok(plan) } else { Err(differences.join("\n")) }
}

/// The check of the graph reports this code.
fn has_error(text: &str, code: &str) -> Result<(), String> {
    let loaded = load(text);
    match loaded.diagnostics.iter().any(|problem| problem.code == code) {
        true => Ok(()),
        false => Err(format!("is not refused with {code}:\n{}", config::render_text(&loaded, false))),
    }
}

/// In the graph's own test an event becomes a dead letter with this code.
fn has_letter(text: &str, code: &str) -> Result<(), String> {
    let mut plan = passes(load(text))?;
    for test in &mut plan.graph.tests {
        test.expect.retain(|(sink, _)| sink != "dead_letters");
    }
    let outcomes = run_tests(&plan).map_err(|error| error.to_string())?;
    let told = format!("rejected an event: {code}: ");
    let differences: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.differences).collect();
    match differences.iter().any(|difference| difference.contains(&told)) {
        true => Ok(()),
        false => Err(format!("no event is rejected with {code}: {}", differences.join("\n"))),
    }
}

/// Whether a file of the project is there.
fn is_there(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path).exists()
}
