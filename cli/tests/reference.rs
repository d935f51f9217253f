//! The pages in `docs/reference` and `docs/components` say what this version has, and the book lists them all.
//!
//! `WEIR_BLESS=1 cargo test --release -p weir-cli --test reference` writes them anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use weir_cli::reference::pages;

const DOCS: &str = "../docs";

/// The READMEs of the families of components: the name of each folder with the title.
fn families() -> BTreeMap<String, String> {
    let title = |text: String| text.lines().find_map(|line| line.strip_prefix("# ")).unwrap().to_owned();
    let folders = std::fs::read_dir("../components").unwrap().map(|folder| folder.unwrap());
    let name = |folder: &std::fs::DirEntry| folder.file_name().into_string().unwrap();
    folders
        .filter_map(|folder| {
            Some((name(&folder), title(std::fs::read_to_string(folder.path().join("README.md")).ok()?)))
        })
        .collect()
}

/// What the pages have to be, by their paths in `docs`, and the lines that list them in its `SUMMARY.md`.
fn expected() -> (BTreeMap<String, String>, Vec<String>) {
    let (mut files, mut lines) = (BTreeMap::new(), Vec::new());
    let families = families();
    for mut page in pages() {
        let indent = if page.file == "index.md" { "" } else { "  " };
        let kind = page.file.split_once('-').map_or(String::new(), |(kind, _)| format!(" ({kind})"));
        lines.push(format!("{indent}- [{}{kind}](reference/{})", page.title, page.file));
        let family = page.package.and_then(|package| families.get_key_value(package.strip_prefix("weir-")?));
        if let Some((family, title)) = family {
            page.text += &format!("\nWhat it promises, and its limits: [{title}](../components/{family}.md).\n");
        }
        files.insert(format!("reference/{}", page.file), page.text);
    }
    for (family, title) in families {
        lines.push(format!("  - [Promises and limits: {title}](components/{family}.md)"));
        let include = format!("{{{{#include ../../components/{family}/README.md}}}}\n");
        files.insert(format!("components/{family}.md"), include);
    }
    (files, lines)
}

/// The summary with these lines in place of those that list pages of the reference.
fn summary_with(summary: &str, lines: &[String]) -> String {
    let is_listed = |line: &str| line.contains("](reference/") || line.contains("](components/");
    let (before, rest): (Vec<&str>, Vec<&str>) = {
        let all: Vec<&str> = summary.lines().collect();
        let first = all.iter().position(|line| is_listed(line)).unwrap_or(all.len());
        (all[..first].to_vec(), all[first..].iter().filter(|line| !is_listed(line)).copied().collect())
    };
    let lines = lines.iter().map(String::as_str);
    before.into_iter().chain(lines).chain(rest).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_reference_is_up_to_date() {
    let docs = Path::new(DOCS);
    let (files, lines) = expected();
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let wanted = summary_with(&summary, &lines);
    let there: Vec<String> = ["reference", "components"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(docs.join(folder)).into_iter().flatten().map(move |file| (folder, file)))
        .map(|(folder, file)| format!("{folder}/{}", file.unwrap().file_name().to_str().unwrap()))
        .collect();
    let stale = there.iter().filter(|file| !files.contains_key(*file));
    if std::env::var_os("WEIR_BLESS").is_some() {
        stale.for_each(|file| std::fs::remove_file(docs.join(file)).unwrap());
        for (file, text) in files {
            let path = docs.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::write(docs.join("SUMMARY.md"), wanted).unwrap();
        return;
    }
    let is_other =
        |(file, text): &(&String, &String)| std::fs::read_to_string(docs.join(file)).ok().as_ref() != Some(text);
    let changed: Vec<&String> = files.iter().filter(is_other).map(|(file, _)| file).chain(stale).collect();
    assert!(changed.is_empty() && wanted == summary, "run this test with WEIR_BLESS=1; not up to date: {changed:?}");
}

#[test]
fn every_option_says_what_it_is_for() {
    let lacking: Vec<String> = pages()
        .iter()
        .flat_map(|page| {
            let lines: Vec<&str> = page.text.lines().collect();
            let is_bare =
                |two: &[&str]| two[0].starts_with("- **`") && two[1].trim().is_empty() && two[2].trim().is_empty();
            let bare: Vec<String> =
                lines.windows(3).filter(|three| is_bare(three)).map(|three| three[0].to_owned()).collect();
            bare.into_iter().map(move |line| format!("{}: {line}", page.file))
        })
        .collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
    for path in ["tls.ca", "auth.strategy", "decoding.codec"] {
        assert!(pages().iter().any(|page| page.text.contains(&format!("- **`{path}`**"))), "`{path}` is not listed");
    }
}

#[test]
fn no_page_is_wider_than_a_line_of_text() {
    // a table of options is cut off in a narrow window; a list is not
    assert!(!pages().iter().any(|page| page.text.contains("| option |")), "options are listed, not put into tables");
}
