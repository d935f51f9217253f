//! What a person sees on a terminal: `docs/terminal.md` shows it, and this test holds the page true.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;

use weir_tests::process::Home;
use weir_tests::screen::weir_on_terminal;

const GRAPH: &str = r#"name: levels
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  problems: {type: filter, inputs: [in], condition: '.level == "error"'}
sinks:
  out: {type: file, inputs: [problems], path: out.ndjson}
tests:
  - name: errors pass
    feed: {in: ['{"level":"error"}', '{"level":"info"}']}
    expect: {out: [{level: error}]}
  - name: infos pass
    feed: {in: ['{"level":"info"}']}
    expect: {out: [{level: info}]}
"#;

/// The commands, in the order of the page.
const COMMANDS: &[(&str, &[&str])] = &[
    ("weir doctor graph.yaml", &["doctor", "graph.yaml"]),
    ("weir test graph.yaml", &["test", "graph.yaml"]),
    ("weir run --once graph.yaml", &["run", "--once", "graph.yaml"]),
    ("weir dlq list graph.yaml", &["dlq", "list", "graph.yaml"]),
    ("weir demo --events 60 --rate 600", &["demo", "--events", "60", "--rate", "600"]),
];

fn home() -> Home {
    let home = Home::new(GRAPH);
    let mut lines = String::new();
    for number in 0..2000 {
        let level = if number % 20 == 0 { "error" } else { "info" };
        writeln!(lines, r#"{{"level":"{level}","number":{number}}}"#).unwrap();
    }
    lines.push_str("not JSON\n");
    std::fs::write(home.path("in.ndjson"), lines).unwrap();
    home
}

/// What differs from run to run, made the same.
fn steady(screen: &str) -> String {
    let mut out = String::new();
    let mut lines: Vec<&str> = screen.lines().collect();
    // Events of several partitions come in any order.
    for events in lines.chunk_by_mut(|one, other| one.starts_with("2026-01-01T") == other.starts_with("2026-01-01T")) {
        if events[0].starts_with("2026-01-01T") {
            events.sort_unstable();
        }
    }
    for line in lines {
        // Progress is shown and removed again on one line.
        let line = line.rsplit("\r\u{1b}[K").next().unwrap_or_default();
        let words: Vec<String> = line.split(' ').map(steady_word).collect();
        writeln!(out, "{}", words.join(" ").replace('\u{1b}', "␛").trim_end()).unwrap();
    }
    out
}

fn steady_word(word: &str) -> String {
    let plain: String = word.chars().filter(|c| !c.is_control()).collect();
    let digits = |text: &str| text.chars().any(|c| c.is_ascii_digit());
    let is_time = digits(&plain) && plain.matches(':').count() == 2 && plain.contains('.');
    if is_time { word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() } else { word.to_owned() }
}

fn page() -> String {
    let mut page = String::from(
        "# On a terminal\n\nThe commands print plain lines unless they write to a terminal. On a terminal, text fits its width, and colour shows what needs \
         attention. `NO_COLOR=1` turns colour off. In the screens with colour, `␛` is the escape character.\n\nThe graph of these screens reads a file with 2000 \
         JSON documents and a line that is not JSON:\n\n",
    );
    writeln!(page, "```text\n{GRAPH}```").unwrap();
    for (columns, has_colour) in [(80, false), (120, false), (80, true), (120, true)] {
        let home = home();
        let with = if has_colour { "with colour" } else { "without colour" };
        writeln!(page, "\n## {columns} columns, {with}").unwrap();
        for (typed, args) in COMMANDS {
            let screen = weir_on_terminal(&home.path(""), columns, has_colour, args);
            let mut screen = steady(&screen);
            for changes in [" s\n", " s: "] {
                screen = without_number(&screen, changes);
            }
            writeln!(page, "\n```text\n$ {typed}\n{}```", screen.trim_start_matches('\n')).unwrap();
        }
    }
    page
}

/// The text with `N` in the place of the number in front of `unit`.
fn without_number(text: &str, unit: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split(unit).peekable();
    while let Some(part) = parts.next() {
        match parts.peek() {
            Some(_) => out.extend([part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'), "N", unit]),
            None => out.push_str(part),
        }
    }
    out
}

#[test]
fn the_page_shows_what_a_terminal_shows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/terminal.md");
    let page = page();
    let there = std::fs::read_to_string(path).unwrap_or_default();
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    } else if let Some((line, (seen, documented))) =
        page.lines().zip(there.lines()).enumerate().find(|(_, (seen, documented))| seen != documented)
    {
        panic!("docs/terminal.md:{}\nshows {documented}\nnow   {seen}\nWEIR_BLESS=1 writes the page again", line + 1);
    }
    let narrow = page.split("## 120").next().unwrap().split("## 80").nth(1).unwrap();
    // What the demo's own graph prints, and the log, may be longer.
    let own = narrow
        .split("$ weir demo")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.contains(" WARN ") && !line.contains(" INFO "));
    own.for_each(|line| assert!(line.chars().count() <= 80, "{line}"));
}
