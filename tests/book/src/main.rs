//! Builds the book of the documentation into `target/book`. A warning of mdBook fails, and so does a link within the
//! book that leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use mdbook_driver::MDBook;
use tracing::Level;

/// What mdBook warns of while it works.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .init();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let book = MDBook::load(&root)?;
    book.build()?;
    let folder = root.join(&book.config.build.build_dir);
    let dead = dead_links(&folder)?;
    eprint!("{}", log.text());
    dead.iter().for_each(|link| eprintln!("dead link: {link}"));
    Ok(match log.text().is_empty() && dead.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Links within the book to files or anchors that are not there, with the pages they are on.
fn dead_links(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut pages = BTreeMap::new();
    html_pages(folder, &mut pages)?;
    let ids: BTreeMap<&PathBuf, BTreeSet<&str>> =
        pages.iter().map(|(path, html)| (path, attributes(html, "id").collect())).collect();
    let mut dead = Vec::new();
    let mut followed = 0;
    for (page, html) in &pages {
        // What is shown for a page that does not exist links from the root of a server.
        let Some(parent) = page.parent().filter(|_| !page.ends_with("404.html")) else { continue };
        let links = attributes(html, "href").chain(attributes(html, "src"));
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("data:")) {
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { page.clone() } else { target(parent, file) };
            let has_anchor = anchor.is_empty() || ids.get(&path).is_some_and(|ids| ids.contains(anchor));
            if !path.exists() || !has_anchor {
                dead.push(format!("{}: {link}", page.strip_prefix(folder)?.display()));
            }
        }
    }
    println!("{} pages, {followed} links, {}", pages.len(), folder.join("index.html").display());
    if followed < 500 {
        return Err(format!("only {followed} links were found: is the search right?").into());
    }
    Ok(dead)
}

/// The values of an attribute in a page that mdBook wrote.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let before = format!(" {name}=\"");
    let starts: Vec<usize> = html.match_indices(&before).map(|(at, _)| at + before.len()).collect();
    starts.into_iter().filter_map(move |at| html[at..].split('"').next())
}

/// The HTML pages below a folder by their paths.
fn html_pages(folder: &Path, found: &mut BTreeMap<PathBuf, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            html_pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let html = std::fs::read_to_string(&path)?;
            found.insert(path, html);
        }
    }
    Ok(())
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
