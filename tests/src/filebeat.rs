//! A real Filebeat that sends the lines of a file on.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/filebeat");

/// A Filebeat of a test's own; it stops when this is dropped, also when the test has failed.
#[derive(Debug)]
pub struct Filebeat {
    dir: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Filebeat {
    /// One that is not started yet, with these variables for the script.
    pub fn new(env: Vec<(&'static str, String)>) -> Filebeat {
        Filebeat { dir: tempfile::Builder::new().prefix("weir-filebeat-").tempdir().unwrap(), env }
    }

    /// Starts it, sending to this address; returns when it runs. It goes on where it was.
    pub fn start(&self, to: &str) {
        let files = self.log_file();
        self.call(&["start", to, files.to_str().unwrap(), self.home().to_str().unwrap()]);
    }

    /// Shuts it down in order.
    pub fn stop(&self) {
        self.call(&["stop", self.home().to_str().unwrap()]);
    }

    /// Ends it without warning, as a crash would.
    pub fn kill(&self) {
        self.call(&["kill", self.home().to_str().unwrap()]);
    }

    /// Writes lines to the file it follows.
    pub fn write<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// How many events it counts as acknowledged since it was started.
    pub fn acknowledged(&self) -> u64 {
        let stats: Value = serde_json::from_str(&self.call(&["stats", self.home().to_str().unwrap()])).unwrap();
        stats["libbeat"]["output"]["events"]["acked"].as_u64().unwrap_or(0)
    }

    /// The file it follows.
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("service.log")
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn call(&self, args: &[&str]) -> String {
        let mut command = Command::new(Path::new(SCRIPT));
        command.args(args).envs(self.env.iter().cloned()).stderr(std::process::Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Filebeat {
    fn drop(&mut self) {
        // One that is gone already needs no stop; a panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.home()).status();
    }
}
