//! Runs docs/tutorial.md as a reader would: its files are written, its commands typed, and what they print compared.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use weir_tests::process::binary;

/// What a reader does.
#[derive(Debug)]
enum Step {
    /// Saves a file: its name and content.
    Save(String, String),
    /// Types a command and sees lines; `...` stands for any lines, and inside a line for any part of it.
    Type { command: String, shown: Vec<String>, line: usize },
}

/// The steps of a page: a block behind `<!-- file: NAME -->` is a file, a block `console` holds commands behind `$ `.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut file = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) {
            file = Some(name.to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            if let Some(name) = file.take() {
                let content = block.iter().map(|(_, line)| format!("{line}\n")).collect();
                steps.push(Step::Save(name, content));
            } else if language == "console" {
                commands(&block, &mut steps);
            } else {
                panic!("line {}: a block that is neither a file nor a console would not be tested", number + 1);
            }
        }
    }
    steps
}

fn commands(block: &[(usize, &str)], steps: &mut Vec<Step>) {
    for (number, line) in block {
        match line.strip_prefix("$ ") {
            Some(command) => {
                steps.push(Step::Type { command: command.to_owned(), shown: Vec::new(), line: number + 1 });
            }
            None => match steps.last_mut() {
                Some(Step::Type { shown, .. }) => shown.push((*line).to_owned()),
                _ => panic!("line {}: output before the first command", number + 1),
            },
        }
    }
}

/// Whether the printed lines are the shown ones.
fn is_as_shown(printed: &[&str], shown: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
    if first == "..." {
        return (0..=printed.len()).any(|at| is_as_shown(&printed[at..], rest));
    }
    printed.first().is_some_and(|line| fits(line.trim_end(), first)) && is_as_shown(&printed[1..], rest)
}

fn fits(line: &str, shown: &str) -> bool {
    match shown.split_once("...") {
        None => line == shown,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(&rest[at..], after))
        }),
    }
}

#[test]
fn every_command_of_the_tutorial_prints_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/tutorial.md");
    let steps = steps(&std::fs::read_to_string(page).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let weir = binary();
    let path = format!("{}:{}", weir.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut typed = 0;
    for step in steps {
        match step {
            Step::Save(name, content) => std::fs::write(dir.path().join(name), content).unwrap(),
            Step::Type { command, shown, line } => {
                typed += 1;
                let script = format!("exec 2>&1\n{command}");
                let done =
                    Command::new("bash").args(["-c", &script]).current_dir(dir.path()).env("PATH", &path).output();
                let printed = String::from_utf8(done.unwrap().stdout).unwrap();
                let lines: Vec<&str> = printed.lines().collect();
                assert!(
                    is_as_shown(&lines, &shown),
                    "docs/tutorial.md:{line}: $ {command}\nprinted:\n{printed}\nshown:\n{}",
                    shown.join("\n")
                );
            }
        }
    }
    assert!(typed >= 10, "only {typed} commands were found: is the search right?");
}
