//! The pages of the documentation, and the code blocks on them.

use std::path::{Path, PathBuf};

/// The folder of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page in Markdown: those of the book, and the READMEs beside the code.
pub fn pages() -> Vec<Page> {
    let root = root();
    let mut files =
        vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("benches/pipelines/README.md")];
    files.extend(markdown_below(&root.join("docs")));
    files.extend(markdown_below(&root.join("components")));
    files.sort();
    files.into_iter().map(|path| Page::read(&root, &path)).collect()
}

/// Every `.md` file in a folder and those below.
pub fn markdown_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(markdown_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its path in the project.
    pub file: String,
    /// What it says.
    pub text: String,
}

/// A fenced block of code.
#[derive(Debug)]
pub struct Block {
    /// Line of its fence, from 1.
    pub line: usize,
    /// The language and what else stands behind the fence.
    pub info: String,
    /// What it holds.
    pub text: String,
}

impl Page {
    fn read(root: &Path, path: &Path) -> Page {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        Page { file, text: std::fs::read_to_string(path).unwrap() }
    }

    /// One page by its path in the project.
    pub fn of(file: &str) -> Page {
        Page::read(&root(), &root().join(file))
    }

    /// Its blocks of code.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else { continue };
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { line: number + 1, info: info.trim().to_owned(), text });
        }
        blocks
    }

    /// Its text without what stands in blocks of code.
    pub fn prose(&self) -> String {
        let mut is_code = false;
        let is_prose = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        };
        self.text.lines().filter(is_prose).flat_map(|line| [line, "\n"]).collect()
    }
}

impl Block {
    /// The language: the first word behind the fence.
    pub fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    /// Whether one of the words behind the language is this one.
    pub fn is(&self, word: &str) -> bool {
        self.info.split_whitespace().skip(1).any(|other| other == word)
    }

    /// What stands behind `name=` after the language.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut words = self.info.split_whitespace().skip(1);
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}
