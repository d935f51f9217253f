//! A real Prometheus that sends what it scrapes on by remote write, and what it says it has scraped.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::samples::{Samples, Series};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/prometheus");

/// The jobs that it scrapes.
pub const JOBS: [&str; 2] = ["prometheus", "node"];

/// A Prometheus of a test's own; it stops when this is dropped, also when the test has failed.
#[derive(Debug)]
pub struct Prometheus {
    dir: TempDir,
    version: &'static str,
    /// More of its environment than its version.
    settings: Vec<(&'static str, String)>,
}

impl Prometheus {
    /// Starts one of this version, 2 or 3, that sends to `url`; returns when it is ready.
    pub fn start(version: &'static str, url: &str) -> Prometheus {
        Prometheus::start_with(version, url, "")
    }

    /// The same with more options for where it sends to, as lines of YAML.
    pub fn start_with(version: &'static str, url: &str, options: &str) -> Prometheus {
        Prometheus::launch(version, url, vec![("REMOTE_WRITE", options.to_owned())])
    }

    /// One that evaluates these rules, a file's text, as often as it scrapes.
    pub fn start_with_rules(version: &'static str, url: &str, rules: &str) -> Prometheus {
        Prometheus::launch(version, url, vec![("RULES", rules.to_owned())])
    }

    fn launch(version: &'static str, url: &str, settings: Vec<(&'static str, String)>) -> Prometheus {
        let dir = tempfile::Builder::new().prefix("weir-prometheus-").tempdir().unwrap();
        let prometheus = Prometheus { dir, version, settings };
        let port = prometheus.call(&["free-port"]);
        let path = prometheus.dir.path().to_str().unwrap();
        std::fs::create_dir(prometheus.dir.path().join("textfile")).unwrap();
        prometheus.call(&["start", port.trim(), path, url]);
        prometheus
    }

    /// Has the node exporter show these lines of text, or none.
    pub fn show(&self, lines: Option<&str>) {
        let file = self.dir.path().join("textfile/test.prom");
        match lines {
            Some(lines) => {
                let part = file.with_extension("part");
                std::fs::write(&part, lines).unwrap();
                std::fs::rename(part, file).unwrap();
            }
            None => std::fs::remove_file(file).unwrap(),
        }
    }

    /// Shuts it down, once it has sent what it has.
    pub fn stop(&self) {
        self.call(&["stop", self.path()]);
    }

    /// Every sample it holds up to a time, in milliseconds.
    pub fn samples(&self, until: i64) -> Samples {
        let dump = self.call(&["dump", self.path(), "0", &until.to_string()]);
        let mut samples = Samples::default();
        for line in dump.lines().filter(|line| !line.is_empty()) {
            let (series, millis, value) = sample(line);
            samples.insert(series, millis, value);
        }
        samples
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("prometheus.log")).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn call(&self, args: &[&str]) -> String {
        let mut command = Command::new(Path::new(SCRIPT));
        command
            .args(args)
            .env("PROMETHEUS_VERSION", self.version)
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .stderr(std::process::Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that is gone already needs no stop; a panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

/// `{__name__="up", job="node"} 1 1700000000000`.
fn sample(line: &str) -> (Series, i64, f64) {
    let parts = || {
        let (rest, time) = line.rsplit_once(' ')?;
        let (rest, value) = rest.rsplit_once(' ')?;
        let inner = rest.strip_prefix('{')?.strip_suffix('}')?;
        Some((labels(inner)?, time.parse().ok()?, value.parse().ok()?))
    };
    parts().unwrap_or_else(|| panic!("promtool printed a line that is no sample: {line}"))
}

/// `name="value", ...`, with values quoted as in Go, and as in JSON but for what no exporter shows.
fn labels(mut text: &str) -> Option<Series> {
    let mut labels = Series::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let value = values.next()?.ok()?;
        text = rest[values.byte_offset()..].trim_start_matches([',', ' ']);
        labels.insert(name.to_owned(), value);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_promtool_is_read() {
        let (labels, time, value) =
            sample(r#"{__name__="a", path="C:\\x \"y\", z=\"1\"", empty=""} +Inf 1700000000123"#);
        let expected = [("__name__", "a"), ("path", "C:\\x \"y\", z=\"1\""), ("empty", "")];
        assert_eq!(labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!((time, value), (1_700_000_000_123, f64::INFINITY));
        assert!(sample("{} NaN -1").2.is_nan());
    }
}
