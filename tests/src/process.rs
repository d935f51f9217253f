//! The `weir` binary as a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::wait::{PATIENCE, found, until};

/// The binary: `WEIR_BIN`, or `weir` beside the test's own folder.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("WEIR_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        // target/release/deps/real_kill-0123456789abcdef
        test.parent().and_then(Path::parent).unwrap().join("weir")
    });
    let help = "build it with `cargo build --release -p weir-cli`, or set WEIR_BIN";
    assert!(path.is_file(), "there is no weir binary at {}: {help}", path.display());
    path
}

/// A folder with a graph and the data of those who run it.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// With this graph.
    pub fn new(graph: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("weir-real-").tempdir().unwrap();
        std::fs::write(dir.path().join("graph.yaml"), graph).unwrap();
        Home { dir }
    }

    /// Starts a weir with the data folder `instance`, and options of its own as `--set` takes them.
    pub fn start(&self, instance: &str, set: &[&str]) -> Weir {
        let log = self.dir.path().join(format!("{instance}-{:08x}.log", rand::random::<u32>()));
        let mut command = Command::new(binary());
        command.arg("run").arg(self.dir.path().join("graph.yaml"));
        command.arg("--set").arg(format!("data_dir={}", self.data_dir(instance).display()));
        for set in set.iter().chain(&["telemetry.listen=127.0.0.1:0"]) {
            command.arg("--set").arg(set);
        }
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Weir { child, log, instance: instance.to_owned() }
    }

    /// The data folder of an instance.
    pub fn data_dir(&self, instance: &str) -> PathBuf {
        self.dir.path().join(instance)
    }
}

/// A running weir; killed when dropped, and its log shown when the test failed.
#[derive(Debug)]
pub struct Weir {
    child: Child,
    log: PathBuf,
    instance: String,
}

impl Weir {
    /// SIGKILL; returns when it is gone.
    pub fn kill(mut self) {
        self.assert_running();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap();
        assert!(sent.success(), "kill -TERM {pid}: {sent}");
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        found("the end of weir", limit, || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and the end within `limit`, which must be clean. Tells how long it took.
    pub fn stop(mut self, limit: Duration) -> Duration {
        self.assert_running();
        let asked = Instant::now();
        self.terminate();
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}", self.instance);
        asked.elapsed()
    }

    /// Fails when it has ended.
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} has ended: {ended:?}", self.instance);
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// GET of its telemetry: the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let address = found("the address of telemetry in the log", PATIENCE, || {
            let log = self.log();
            let (_, rest) = log.split_once("telemetry=")?;
            Some(rest.split_whitespace().next()?.to_owned()).filter(|_| rest.contains('\n'))
        });
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// The value of a metric; `name` with its labels as they are printed.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let (_, body) = self.get("/metrics");
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse::<f64>().ok().map(|value| value as u64)
    }

    /// Events of a node by outcome.
    pub fn events(&self, node: &str, outcome: &str) -> u64 {
        self.metric(&format!("weir_node_events_total{{node=\"{node}\",outcome=\"{outcome}\"}}")).unwrap_or(0)
    }

    /// Fails unless everything the nodes received is accounted for and nothing is in flight.
    pub fn assert_balance(&self, nodes: &[&str]) {
        for node in nodes {
            let received = self.events(node, "received");
            let ends = ["passed", "filtered", "absorbed", "dead_lettered", "failed"];
            let ended: u64 = ends.iter().map(|outcome| self.events(node, outcome)).sum();
            assert_eq!(received, ended, "the books of {node} do not balance");
        }
    }

    /// Waits until it says so at `/ready`.
    pub fn until_ready(&self, limit: Duration) {
        until("/ready to be 200", limit, || self.get("/ready").0 == 200);
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the end of the log of {}\n{tail}\n---", self.instance);
        }
    }
}
