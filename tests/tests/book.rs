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
