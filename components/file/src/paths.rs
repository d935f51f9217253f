//! From paths and patterns to the files they mean: each found once, whatever its names, and with a name that is its own.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use weir::files;

/// As in a shell, `*` fits no name that begins with a dot.
const AS_SHELLS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A file to read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub path: PathBuf,
    pub is_fifo: bool,
    /// It fits a pattern, so that nobody misses it when it goes.
    pub by_pattern: bool,
}

/// What the paths mean.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub files: Vec<Listed>,
    /// Places that could not be looked into.
    pub unread: Vec<(PathBuf, io::Error)>,
    /// Other names of files that are listed, and which those are.
    pub again: Vec<PathBuf>,
    /// Patterns that no file fits.
    pub fruitless: Vec<Fruitless>,
}

/// A pattern that no file fits, and the folders that fit it.
#[derive(Debug)]
pub(crate) struct Fruitless {
    pub pattern: PathBuf,
    pub folders: Vec<PathBuf>,
}

/// The pattern of the files below what a pattern fits that ends with `**` and so fits folders alone.
pub(crate) fn files_below(pattern: &Path) -> Option<String> {
    pattern.to_str().filter(|_| pattern.ends_with("**")).map(files_in)
}

/// The pattern of the files in the folders that a pattern fits.
pub(crate) fn files_in(pattern: &str) -> String {
    format!("{}/*", pattern.trim_end_matches('/'))
}

/// The path, if it stands for several files.
pub(crate) fn pattern_of(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| path.contains('*'))
}

/// What is wrong with a pattern, if anything.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), glob::PatternError> {
    pattern.split('/').try_for_each(|part| Pattern::new(part).map(drop))
}

/// The files that are meant, in the order of the paths; those of a pattern sorted. `with_fifos`: named pipes, too.
pub(crate) fn list(paths: &[PathBuf], with_fifos: bool) -> Listing {
    let mut listing = Listing::default();
    let mut seen = HashSet::new();
    for path in paths {
        let found = match pattern_of(path) {
            Some(pattern) => {
                let (files, folders) = Walk::of(pattern, &mut listing.unread).sorted(with_fifos);
                if files.is_empty() {
                    listing.fruitless.push(Fruitless { pattern: path.clone(), folders });
                }
                files
            }
            None => {
                let metadata = path.metadata().ok();
                let is_fifo = metadata.as_ref().is_some_and(|metadata| metadata.file_type().is_fifo());
                let listed = Listed { path: path.clone(), is_fifo: with_fifos && is_fifo, by_pattern: false };
                vec![(listed, metadata.map(|metadata| place(&metadata)))]
            }
        };
        for (file, place) in found {
            // What is not there is told apart by its path; opening it tells the rest.
            let is_new = match place {
                Some(place) => seen.insert((Some(place), None)),
                None => seen.insert((None, Some(file.path.clone()))),
            };
            if is_new {
                listing.files.push(file);
            } else {
                listing.again.push(file.path);
            }
        }
    }
    listing
}

/// Whether a file is one that is read.
pub(crate) fn readable(path: &Path, with_fifos: bool) -> io::Result<()> {
    let metadata = path.metadata()?;
    if with_fifos && metadata.file_type().is_fifo() { Ok(()) } else { files::regular(&metadata) }
}

/// What to do about a file that cannot be opened.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; correct `paths`, or put it there",
        io::ErrorKind::IsADirectory => "this is a folder; name the files in it, as in FOLDER/*",
        io::ErrorKind::InvalidInput => {
            "only regular files are read, and named pipes with `fifo: true`; correct `paths`"
        }
        _ => "it cannot be opened; check the path and its rights",
    }
}

/// The path as text, different for every path. One that is no UTF-8 has `\xhh` for each byte that is none, and `\\` for a
/// backslash; so has one that holds `\x` already.
pub(crate) fn name_of(path: &Path) -> String {
    if let Some(text) = path.to_str().filter(|text| !text.contains("\\x")) {
        return text.to_owned();
    }
    let mut name = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        name.push_str(&chunk.valid().replace('\\', "\\\\"));
        chunk.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02x}")));
    }
    name
}

/// Where a file is, whatever it is called.
type Place = (u64, u64);

fn place(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

enum Step {
    Literal(PathBuf),
    Fits(Pattern),
    /// `**`: folders of any depth.
    AnyDepth,
}

/// Walks the folders that a pattern leads through. Symbolic links come last, so that what they lead to keeps the name it
/// has without them; no folder is entered twice at the same step, so that a loop ends.
struct Walk<'a> {
    steps: Vec<Step>,
    /// Folders to look into, and at which step.
    todo: Vec<(PathBuf, usize)>,
    links: Vec<(PathBuf, usize)>,
    entered: HashSet<(usize, Place)>,
    /// What fits, and whether only links lead there.
    found: Vec<(bool, PathBuf)>,
    unread: &'a mut Vec<(PathBuf, io::Error)>,
}

impl<'a> Walk<'a> {
    /// All that fits the pattern by its name.
    fn of(pattern: &str, unread: &'a mut Vec<(PathBuf, io::Error)>) -> Walk<'a> {
        let mut start = PathBuf::new();
        let mut steps = Vec::new();
        for component in Path::new(pattern).components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) if name == "**" => steps.push(Step::AnyDepth),
                Component::Normal(name) if name.as_bytes().iter().any(|byte| b"*?[".contains(byte)) => {
                    // Each was checked; an empty one fits nothing.
                    steps.push(Step::Fits(Pattern::new(&name.to_string_lossy()).unwrap_or_default()));
                }
                other if steps.is_empty() => start.push(other),
                other => steps.push(Step::Literal(other.as_os_str().into())),
            }
        }
        let todo = vec![(start, 0)];
        let mut walk = Walk { steps, todo, links: Vec::new(), entered: HashSet::new(), found: Vec::new(), unread };
        let mut is_behind_link = false;
        loop {
            while let Some((path, step)) = walk.todo.pop() {
                walk.look(path, step, is_behind_link);
            }
            // What was found without links is known: what comes now is behind one.
            let Some(next) = walk.links.pop() else { return walk };
            walk.todo.push(next);
            is_behind_link = true;
        }
    }

    fn look(&mut self, path: PathBuf, step: usize, is_behind_link: bool) {
        match self.steps.get(step) {
            None => self.found.push((is_behind_link, path)),
            Some(Step::Literal(name)) => self.todo.push((path.join(name), step + 1)),
            Some(Step::Fits(_)) => {
                for name in self.entries(&path) {
                    if let Some(Step::Fits(pattern)) = self.steps.get(step)
                        && pattern.matches_with(&name.to_string_lossy(), AS_SHELLS)
                    {
                        let found = path.join(name);
                        let is_link = found.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
                        if is_link { &mut self.links } else { &mut self.todo }.push((found, step + 1));
                    }
                }
            }
            Some(Step::AnyDepth) => self.descend(path, step),
        }
    }

    /// Into a folder and those in it.
    fn descend(&mut self, path: PathBuf, step: usize) {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let Some(metadata) = self.known(&path, here.metadata()) else { return };
        if !metadata.is_dir() || !self.entered.insert((step, place(&metadata))) {
            return;
        }
        for name in self.entries(&path) {
            let inner = path.join(&name);
            match self.known(&inner, inner.symlink_metadata()) {
                Some(metadata) if name.as_os_str().as_bytes().first() == Some(&b'.') || metadata.is_file() => {}
                Some(metadata) if metadata.is_symlink() => self.links.push((inner, step)),
                Some(metadata) if metadata.is_dir() => self.todo.push((inner, step)),
                _ => {}
            }
        }
        // No folder of those in between.
        self.todo.push((path, step + 1));
    }

    /// The names in a folder.
    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let names = |entries: fs::ReadDir| entries.map(|entry| Ok(entry?.file_name().into())).collect();
        self.known(folder, fs::read_dir(here).and_then(names)).unwrap_or_default()
    }

    /// What was found out. That something is gone, or no folder, or leads nowhere, is no problem.
    fn known<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        let is_nothing = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || files::is_loop(error)
        };
        match result {
            Ok(known) => Some(known),
            Err(error) if is_nothing(&error) => None,
            Err(error) => {
                self.unread.push((path.to_owned(), error));
                None
            }
        }
    }

    /// The files among what was found, each by its first name; by one that leads over no link where there is such.
    /// And the folders.
    fn sorted(mut self, with_fifos: bool) -> (Vec<(Listed, Option<Place>)>, Vec<PathBuf>) {
        let (mut files, mut folders, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let mut found = std::mem::take(&mut self.found);
        found.sort();
        for (_, path) in found {
            let Some(metadata) = self.known(&path, path.metadata()) else { continue };
            let is_fifo = metadata.file_type().is_fifo();
            if metadata.is_file() || (is_fifo && with_fifos) {
                let place = place(&metadata);
                if seen.insert(place) {
                    files.push((Listed { path, is_fifo, by_pattern: true }, Some(place)));
                }
            } else if metadata.is_dir() {
                folders.push(path);
            }
        }
        files.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        (files, folders)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn listed(dir: &Path, patterns: &[&str]) -> Vec<String> {
        let paths: Vec<_> = patterns.iter().map(|pattern| dir.join(pattern)).collect();
        let listing = list(&paths, false);
        assert!(listing.unread.is_empty(), "{:?}", listing.unread);
        let inside = |file: Listed| name_of(file.path.strip_prefix(dir).unwrap());
        listing.files.into_iter().map(inside).collect()
    }

    #[test]
    fn patterns_mean_what_they_mean_in_a_shell() {
        let dir = tree(&["a.log", "b.txt", ".h.log", "x/a.log", "x/y/c.log", "x/.h/d.log", "z/[a].log"]);
        for (pattern, expected) in [
            ("*.log", &["a.log"][..]),
            (".*.log", &[".h.log"]),
            ("*/a.*", &["x/a.log"]),
            ("**/*.log", &["a.log", "x/a.log", "x/y/c.log", "z/[a].log"]),
            ("x/**/*.log", &["x/a.log", "x/y/c.log"]),
            ("**/y/?.log*", &["x/y/c.log"]),
            ("[!a]*", &["b.txt"]),
            ("z/[[]a].*", &["z/[a].log"]),
            ("a.log/*", &[]),
            ("none/*", &[]),
            ("*", &["a.log", "b.txt"]),
            ("**", &[]),
        ] {
            assert_eq!(listed(dir.path(), &[pattern]), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_only_folders_fit_is_known_with_what_to_write_instead() {
        let dir = tree(&["in/a/x.log", "in/b/y.log", "in/z.log"]);
        let path = |pattern: &str| dir.path().join(pattern);
        let listing = list(&[path("in/*.log"), path("in/**"), path("i*"), path("none/*")], false);
        assert_eq!(listing.files.len(), 1);
        let found = listing.fruitless.iter().map(|found| (found.pattern.clone(), found.folders.len()));
        assert_eq!(found.collect::<Vec<_>>(), [(path("in/**"), 3), (path("i*"), 1), (path("none/*"), 0)]);
        assert_eq!(files_below(Path::new("in/**")).as_deref(), Some("in/**/*"));
        assert_eq!(files_below(Path::new("**")).as_deref(), Some("**/*"));
        for fine in ["in/**/*", "in/*", "in/a**"] {
            assert_eq!(files_below(Path::new(fine)), None);
        }
        assert_eq!(listed(dir.path(), &["in/**/*"]).len(), 3);
    }

    #[test]
    fn loops_links_and_overlapping_patterns_give_each_file_once_by_its_own_name() {
        let dir = tree(&["r/a.log", "r/in/b.log"]);
        let root = dir.path();
        symlink(root.join("r"), root.join("r/in/loop")).unwrap();
        symlink(".", root.join("r/here")).unwrap();
        symlink("self.log", root.join("r/self.log")).unwrap();
        symlink(root.join("r/in"), root.join("r/0-link")).unwrap();
        symlink(root.join("r/a.log"), root.join("r/0.log")).unwrap();
        fs::hard_link(root.join("r/a.log"), root.join("r/z.log")).unwrap();
        assert_eq!(listed(root, &["r/**/*.log"]), ["r/a.log", "r/in/b.log"]);
        assert_eq!(listed(root, &["r/0.log", "r/a.log", "r/**/*"]), ["r/0.log", "r/in/b.log"], "what is written first");
        symlink(root.join("gone"), root.join("r/dangling.log")).unwrap();
        assert_eq!(listed(root, &["r/*.log"]), ["r/a.log"]);
    }

    #[test]
    fn names_are_bytes_and_each_has_a_text_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let names: [&[u8]; 5] = [b"a\xff.log", b"a\xfe.log", b"a\\xff.log", b"new\nline.log", b"\xff.log"];
        for name in names {
            fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        let mut found = listed(dir.path(), &["*.log"]);
        found.sort();
        assert_eq!(found, ["\\xff.log", "a\\\\xff.log", "a\\xfe.log", "a\\xff.log", "new\nline.log"]);
        assert_eq!(listed(dir.path(), &["a*.log"]).len(), 3);
    }

    #[test]
    fn only_files_fit_a_pattern_and_fifos_where_they_are_asked_for() {
        let dir = tree(&["a", "folder/x"]);
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(listed(dir.path(), &["*"]), ["a"]);
        let listing = list(&[dir.path().join("*")], true);
        let found: Vec<_> = listing.files.iter().map(|file| file.is_fifo).collect();
        assert_eq!(found, [false, true]);
    }
}
