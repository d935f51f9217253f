//! The book of the documentation builds without a warning, holds every page, and no link in it leads nowhere.
//!
//! It is left in `target/book`, for `just docs` to show.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mdbook_driver::MDBook;
use tracing::Level;
use weir_tests::pages::{markdown_below, pages, root};

/// What mdBook has to say while it works.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Builds the book; gives the folder it is in and the warnings there were.
fn build() -> (PathBuf, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The folder this test was built in: `<target>/release/deps/book-...`.
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("book");
    let built = tracing::subscriber::with_default(subscriber, || {
        let mut book = MDBook::load(root())?;
        book.config.build.build_dir = target.clone();
        book.build()
    });
    built.unwrap_or_else(|error| panic!("{error:#}"));
    let warnings = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (target, warnings)
}

/// The values of an attribute in a page.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let before = format!(" {name}=\"");
    html.split(&before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The HTML pages of the book by their paths.
fn html_pages(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            html_pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let html = std::fs::read_to_string(&path).unwrap();
            found.insert(path, html);
        }
    }
}

/// The file a link leads to, seen from the folder of a page.
fn target(folder: &Path, link: &str) -> PathBuf {
    let mut path = folder.to_owned();
    for step in link.split('/') {
        match step {
            "." | "" => {}
            ".." => drop(path.pop()),
            step => path.push(step),
        }
    }
    path
}

#[test]
fn the_book_builds_without_a_warning_and_no_link_leads_nowhere() {
    let (folder, warnings) = build();
    assert_eq!(warnings, "");
    let mut html = BTreeMap::new();
    html_pages(&folder, &mut html);
    let ids: BTreeMap<&PathBuf, BTreeSet<&str>> =
        html.iter().map(|(path, text)| (path, attributes(text, "id").into_iter().collect())).collect();
    let mut dead = Vec::new();
    let mut followed = 0;
    for (page, text) in &html {
        // What stands for the page that was not found has links from the root of a server.
        if page.ends_with("404.html") {
            continue;
        }
        for link in attributes(text, "href").into_iter().chain(attributes(text, "src")) {
            if link.contains("://") || link.starts_with("data:") || link.starts_with("javascript:") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { page.clone() } else { target(page.parent().unwrap(), file) };
            let has_anchor = anchor.is_empty() || ids.get(&path).is_some_and(|ids| ids.contains(anchor));
            if !path.exists() || !has_anchor {
                dead.push(format!("{}: {link}", page.strip_prefix(&folder).unwrap().display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
    assert!(followed > 500, "only {followed} links were found: is the search right?");
}

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
    for page in pages() {
        let prose = page.prose();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            if !target(root().join(&page.file).parent().unwrap(), file).exists() {
                dead.push(format!("{}: {link}", page.file));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}
