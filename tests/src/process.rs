//! The `weir` binary as a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use weir::state::{DirStorage, Storage};

use crate::wait::{PATIENCE, found, until};

/// The binary: `WEIR_BIN`, or what the workspace builds into the target folder of this test.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let given = std::env::var_os("WEIR_BIN").map(PathBuf::from);
    let path = given.unwrap_or_else(|| BUILT.get_or_init(build).clone());
    assert!(path.is_file(), "there is no weir binary at {}", path.display());
    path
}

/// A single test builds no binary of another crate, and one that was left by an earlier build would test the past.
/// Without the whole workspace other features would be resolved, and everything compiled anew.
fn build() -> PathBuf {
    // target/release/deps/real_kill-0123456789abcdef
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--workspace", "--bin", "weir", "--offline", "--quiet"]);
    // What cargo says of this package is not true of others: build scripts that watch it would run anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", &target);
    let status = cargo.status().unwrap();
    assert!(status.success(), "cannot build the weir binary: {status}; set WEIR_BIN to use another");
    target.join("release/weir")
}

/// A graph, and a folder with the data of those who run it.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    graph: PathBuf,
}

impl Home {
    /// With this graph.
    pub fn new(graph: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("weir-real-").tempdir().unwrap();
        let file = dir.path().join("graph.yaml");
        std::fs::write(&file, graph).unwrap();
        Home { dir, graph: file }
    }

    /// With one of the graphs in config-examples, as it stands there.
    pub fn example(name: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("weir-real-").tempdir().unwrap();
        Home { dir, graph: Path::new(env!("CARGO_MANIFEST_DIR")).join("../config-examples").join(name) }
    }

    /// Starts a weir with the data folder `instance`, and options of its own as `--set` takes them.
    pub fn start(&self, instance: &str, set: &[&str]) -> Weir {
        self.start_with(instance, set, &[], Stdio::inherit())
    }

    /// Starts one with these variables in its environment.
    pub fn start_with_env(&self, instance: &str, env: &[(&str, String)]) -> Weir {
        self.spawn(instance, &[], &[], env, Stdio::inherit())
    }

    /// The same with further arguments of `weir run`, and another standard output.
    pub fn start_with(&self, instance: &str, set: &[&str], args: &[&str], stdout: Stdio) -> Weir {
        self.spawn(instance, set, args, &[], stdout)
    }

    fn spawn(&self, instance: &str, set: &[&str], args: &[&str], env: &[(&str, String)], stdout: Stdio) -> Weir {
        let log = self.dir.path().join(format!("{instance}-{:08x}.log", rand::random::<u32>()));
        let mut command = Command::new(binary());
        command.envs(env.iter().map(|(name, value)| (*name, value)));
        command.arg("run").arg(&self.graph).args(args).current_dir(self.dir.path());
        command.arg("--set").arg(format!("data_dir={}", self.data_dir(instance).display()));
        for set in set.iter().chain(&["telemetry.listen=127.0.0.1:0"]) {
            command.arg("--set").arg(set);
        }
        command.stdin(Stdio::null()).stdout(stdout).stderr(File::create(&log).unwrap());
        Weir { child: command.spawn().unwrap(), log, instance: instance.to_owned() }
    }

    /// A file of the folder, which is also where weir is started.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a file source has committed of a file, in bytes.
    pub fn file_position(&self, instance: &str, graph: &str, source: &str, file: &str) -> u64 {
        let storage = DirStorage::open(self.data_dir(instance).join(graph).join(source)).unwrap();
        storage.load(file).unwrap().map_or(0, |mark| u64::from_le_bytes(mark[..8].try_into().unwrap()))
    }

    /// The data folder of an instance.
    pub fn data_dir(&self, instance: &str) -> PathBuf {
        self.path(instance)
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

    /// SIGKILL, if it has not ended by itself; tells whether it was killed.
    pub fn kill_unless_ended(&mut self) -> bool {
        // Nothing happens to a process that has ended and was not waited for.
        self.child.kill().unwrap();
        self.child.wait().unwrap().code().is_none()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {name} {pid}: {sent}");
    }

    /// The reading end of its standard output, where that is a pipe.
    pub fn stdout(&mut self) -> &mut ChildStdout {
        self.child.stdout.as_mut().unwrap()
    }

    /// Reads no more from its standard output.
    pub fn close_stdout(&mut self) {
        drop(self.child.stdout.take());
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

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.status("VmRSS:").unwrap()
    }

    /// The most resident memory it had so far, in bytes; `None`: it has ended.
    pub fn peak_rss(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    }

    /// Waits until it has started: signals are listened to from then on.
    pub fn until_running(&self) {
        until("weir to run", PATIENCE, || self.log().contains("running"));
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its telemetry listens, as it has logged.
    pub fn address(&self) -> String {
        found("the address of telemetry in the log", PATIENCE, || {
            let log = self.log();
            let (_, rest) = log.split_once("telemetry=")?;
            Some(rest.split_whitespace().next()?.to_owned()).filter(|_| rest.contains('\n'))
        })
    }

    /// GET of its telemetry: the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
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
