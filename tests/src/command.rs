//! The `weir` binary as a command: arguments and input in, exit code and output out.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::process::binary;
use crate::wait::{PATIENCE, moment};

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// Itself, if it ended with this code.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn exits(self, code: i32) -> Done {
        assert_eq!(self.code, code, "standard output:\n{}\nstandard error:\n{}", self.out, self.err);
        self
    }

    /// Standard output as a JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}", self.out))
    }

    /// Standard error, of which every line has to be a JSON object.
    pub fn logs(&self) -> Vec<Value> {
        log_lines(&self.err)
    }
}

/// The lines of a log in JSON.
pub fn log_lines(log: &str) -> Vec<Value> {
    let line = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        other => panic!("no JSON object: {other:?}: {line}"),
    };
    log.lines().map(line).collect()
}

/// Runs `weir` in a folder, with nothing on standard input.
pub fn weir(dir: &Path, args: &[&str]) -> Done {
    weir_with(dir, args, &[], b"")
}

/// Runs `weir` in a folder, with more variables in the environment, and with these bytes in a pipe to it.
pub fn weir_with(dir: &Path, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Done {
    let outputs = tempfile::tempdir().unwrap();
    let (out, err) = (outputs.path().join("out"), outputs.path().join("err"));
    let mut command = Command::new(binary());
    command.args(args).envs(env.iter().copied()).current_dir(dir).stdin(Stdio::piped());
    let mut child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = std::thread::scope(|scope| {
        scope.spawn(move || match stdin.write_all(input) {
            // A verb that does not read may end first.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        });
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status,
                // The thread would wait for it, too.
                None if Instant::now() > deadline => child.kill().unwrap(),
                None => moment(),
            }
        }
    });
    let text = |path: &Path| String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    let code = status.code().unwrap_or_else(|| panic!("weir {} ended with {status}\n{}", args.join(" "), text(&err)));
    Done { code, out: text(&out), err: text(&err) }
}
