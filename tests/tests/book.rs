//! The book holds every page, and links between files of the project lead somewhere. `tests/book` builds it.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use weir_tests::pages::{markdown_below, pages, root};

#[test]
fn every_page_stands_in_the_summary() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let lost: Vec<PathBuf> = markdown_below(&docs)
        .into_iter()
        .map(|path| path.strip_prefix(&docs).unwrap().to_owned())
        .filter(|path| !path.ends_with("SUMMARY.md") && !summary.contains(&format!("]({})", path.display())))
        .collect();
    assert!(lost.is_empty(), "not in docs/SUMMARY.md: {lost:?}");
}

#[test]
fn links_between_the_files_of_the_project_lead_somewhere() {
    let mut dead = Vec::new();
    let mut followed = 0;
    for page in pages() {
        let prose = page.prose();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            followed += 1;
            let file = link.split('#').next().unwrap_or_default();
            if !root().join(&page.file).parent().unwrap().join(file).exists() {
                dead.push(format!("{}: {link}", page.file));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
    assert!(followed >= 80, "only {followed} links were found: is the search right?");
}

/// Phrases that users had to read twice, and what to write instead.
const NOT: &[(&str, &str)] = &[
    ("anew", "again"),
    ("for good", "permanently"),
    ("whoever", "name the subject"),
    ("nobody in particular", "none"),
    ("is sent events", "receives events"),
    ("is sent points", "receives points"),
    ("are sent events", "receives events"),
    ("is told", "learns, receives, or is informed"),
    ("are told", "learn, receive, or are informed"),
    ("is done with", "has finished"),
    ("be done with", "finish"),
    ("lets go of", "releases, or drops"),
    ("let go of", "released, or dropped"),
    ("the books", "event counts"),
    ("stands there", "is there"),
    ("makes up", "generates"),
];

#[test]
fn pages_are_written_in_plain_words() {
    // Of decisions of long ago; the next rework of the runtime rewrites it.
    let is_read = |file: &str| file != "docs/architecture.md" && !file.ends_with("CHANGELOG.md");
    let mut found = Vec::new();
    for page in pages().into_iter().filter(|page| is_read(&page.file)) {
        for (number, line) in page.prose().lines().enumerate() {
            // Names of tests and options are not prose.
            let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            let words = format!(" {} ", line.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '\'', " "));
            for (phrase, better) in NOT.iter().filter(|(phrase, _)| words.contains(&format!(" {phrase} "))) {
                found.push(format!("{}:{}: \"{phrase}\": write {better}: {}", page.file, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}
