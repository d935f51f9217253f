//! The directories of a graph: who may write there, and whether there is room. For `weir doctor`; changes nothing.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::runtime::in_use;
use crate::component::Finding;
use crate::config::Graph;

/// Less free space than this is a warning.
const LITTLE: u64 = 256 << 20;

/// Checks the data directory and the dead letters' directory of a graph.
pub fn probe_folders(graph: &Graph) -> Vec<Finding> {
    if graph.dir().is_dir() && in_use(graph).is_some() {
        return vec![Finding::ok(format!("{} is in use: the graph is running", graph.dir().display()))];
    }
    let mut findings = vec![probe(&graph.dir(), "data_dir")];
    let letters = graph.dead_letters_dir();
    if !letters.starts_with(graph.dir()) {
        findings.push(probe(&letters, "dead_letters.path"));
    }
    findings
}

fn probe(dir: &Path, option: &str) -> Finding {
    let shown = dir.display();
    let there = existing(dir);
    let at = there.display();
    let elsewhere = format!("choose another directory with `{option}`");
    if !there.is_dir() {
        return Finding::failed(format!("{shown} cannot be created: {at} is not a directory"), elsewhere);
    }
    if let Err(error) = access(&there, Access::WRITE_OK | Access::EXEC_OK) {
        let error = std::io::Error::from(error);
        let help = format!("give the user that runs weir write permission for {at}, or {elsewhere}");
        return Finding::failed(format!("{shown} cannot be written: {at}: {error}"), help);
    }
    let verb = if there == dir { "can be written" } else { "does not exist yet and can be created" };
    match statvfs(&there).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)) {
        Ok(free) if free < LITTLE => Finding::warning(
            format!("{shown} {verb}, but only {} MiB are free there", free >> 20),
            format!("make room, or {elsewhere}"),
        ),
        Ok(_) | Err(_) => Finding::ok(format!("{shown} {verb}")),
    }
}

/// The directory, or the nearest one above it that exists.
fn existing(dir: &Path) -> PathBuf {
    let mut at = if dir.is_absolute() { dir.to_owned() } else { Path::new(".").join(dir) };
    while at.symlink_metadata().is_err() && at.pop() {}
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Verdict;

    #[test]
    fn a_directory_that_cannot_be_made_is_found_with_a_remedy_and_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        let found = probe(&deep, "data_dir");
        assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
        assert!(found.message.contains("does not exist yet and can be created"), "{found:?}");
        assert!(!root.path().join("a").exists());
        std::fs::write(root.path().join("a"), "").unwrap();
        let found = probe(&deep, "data_dir");
        assert_eq!(found.verdict, Verdict::Failed);
        assert!(found.message.contains("a is not a directory"), "{found:?}");
        assert!(found.remedy.unwrap().contains("`data_dir`"));
        // Not even root has room there.
        let found = probe(Path::new("/proc/weir"), "data_dir");
        assert_ne!(found.verdict, Verdict::Ok, "{found:?}");
        assert!(probe(root.path(), "data_dir").message.contains("can be written"));
    }
}
