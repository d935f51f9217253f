//! `config-examples/scaling-signal` as it stands there, with a real load: a worker that compresses noise is measured by a node
//! exporter and a Prometheus, and the signal rises while it works and falls when it stops.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::process::{Home, Weir};
use weir_tests::prometheus::Prometheus;
use weir_tests::push::{Sender, free_address};
use weir_tests::topic::Topic;
use weir_tests::wait::{PATIENCE, moment};

const STOP: Duration = Duration::from_secs(20);
/// A worker may use a fifth of a core.
const RULES: &str = r"groups:
  - name: usage
    rules:
      - record: cpu_usage_percent
        expr: sum by (deployment) (rate(worker_cpu_seconds_total[4s])) / 0.2 * 100
      - record: memory_usage_percent
        expr: sum by (deployment) (worker_resident_bytes) / 100e6 * 100
";
/// From Prometheus to the topic that the example reads.
const FRONT: &str = r#"name: front
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0"}
transforms:
  usage: {type: filter, inputs: [in], condition: '.name == "cpu_usage_percent" || .name == "memory_usage_percent"'}
sinks:
  out: {type: kafka, inputs: [usage], bootstrap_servers: "${KAFKA_BOOTSTRAP_SERVERS}", topic: metrics, encoding: vector_text}
"#;

/// A deployment whose one process works, or does not.
struct Worker {
    deployment: &'static str,
    shell: Option<Child>,
    cpu_of_others: f64,
}

impl Worker {
    fn new(deployment: &'static str) -> Worker {
        Worker { deployment, shell: None, cpu_of_others: 0.0 }
    }

    /// Runs a command in a process group of its own.
    fn works(&mut self, command: &str) {
        let child = Command::new("setsid").args(["sh", "-c", command]).stdout(Stdio::null()).spawn().unwrap();
        self.shell = Some(child);
    }

    fn rests(&mut self) {
        self.cpu_of_others += self.usage().0;
        if let Some(mut shell) = self.shell.take() {
            let _ = Command::new("kill").args(["-9", "--", &format!("-{}", shell.id())]).status();
            shell.wait().unwrap();
        }
    }

    /// Seconds of CPU and bytes of memory of its processes.
    fn usage(&self) -> (f64, u64) {
        let Some(shell) = &self.shell else { return (0.0, 0) };
        let (mut ticks, mut pages) = (0, 0);
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            let number = |at: usize| fields[at].parse::<u64>().unwrap_or(0);
            if number(3) == u64::from(shell.id()) {
                ticks += number(11) + number(12);
                pages += number(21);
            }
        }
        // of a hundredth of a second, and of 4 KiB
        (ticks as f64 / 100.0, pages * 4096)
    }

    fn metrics(&self) -> String {
        let (cpu, memory) = self.usage();
        let (cpu, labels) = (cpu + self.cpu_of_others, format!("{{deployment=\"{}\"}}", self.deployment));
        format!("worker_cpu_seconds_total{labels} {cpu}\nworker_resident_bytes{labels} {memory}\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.rests();
    }
}

/// Everything there is.
struct Cluster {
    workers: [Worker; 2],
    prometheus: Prometheus,
    weir: Weir,
    signals: Topic,
    page: std::net::SocketAddr,
}

impl Cluster {
    /// What was told so far, in order: the deployment and its signal.
    fn told(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let read = |value: Option<Vec<u8>>| {
            let signal: Value = serde_json::from_slice(&value.unwrap()).unwrap();
            (text(&signal["deployment"]), text(&signal["signal"]))
        };
        self.signals.values().into_iter().flatten().map(read).collect()
    }

    /// What the page says of a deployment.
    fn shown(&self, deployment: &str) -> Option<String> {
        let mut sender = Sender::connect(self.page).ok()?;
        sender.send(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").ok()?;
        let text = sender.answer().ok()?.body;
        let name = format!("scaling_signal{{deployment=\"{deployment}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map(|rest| rest[..1].to_owned())
    }

    /// Goes on measuring until a deployment's signal is told last, and shown.
    fn until(&mut self, deployment: &str, signal: &str) {
        let deadline = Instant::now() + 2 * PATIENCE;
        let shown = if signal == "on" { "1" } else { "0" };
        loop {
            let metrics: String = self.workers.iter().map(Worker::metrics).collect();
            self.prometheus.show(Some(&metrics));
            self.weir.assert_running();
            let told = self.told();
            let last = told.iter().rfind(|(of, _)| of == deployment).map(|(_, signal)| signal.as_str());
            if last.is_none_or(|last| last == signal) && self.shown(deployment).as_deref() == Some(shown) {
                return;
            }
            assert!(Instant::now() < deadline, "{deployment} is not {signal}: {told:?}");
            moment();
        }
    }
}

#[test]
fn the_signal_follows_a_real_load() {
    let (metrics, signals) = (Topic::create("metrics", 1, &[]), Topic::create("signals", 1, &[]));
    let (home, page) = (Home::example("scaling-signal"), free_address());
    let front = Home::new(FRONT);
    let receiver = free_address();
    let to = [format!("sources.in.listen={receiver}"), format!("sinks.out.topic={}", metrics.name)];
    let mut front_weir = front.start("front", &to.each_ref().map(String::as_str));
    front_weir.assert_running();
    let settings = [
        format!("sources.metrics.topics.0={}", metrics.name),
        format!("sources.metrics.group_id={}", metrics.name),
        format!("sinks.topic.topic={}", signals.name),
        format!("sinks.page.listen={page}"),
        "transforms.minute.window.tumbling=3s".to_owned(),
        "transforms.minute.lateness=1s".to_owned(),
    ];
    let weir = home.start("signal", &settings.each_ref().map(String::as_str));
    let prometheus = Prometheus::start_with_rules("2", &format!("http://{receiver}/"), RULES);
    let workers = [Worker::new("worker"), Worker::new("cache")];
    let mut cluster = Cluster { workers, prometheus, weir, signals, page };

    cluster.until("worker", "off");
    cluster.workers[0].works("dd if=/dev/urandom bs=64k 2>/dev/null | bzip2 -9");
    cluster.until("worker", "on");
    // By memory alone, of one that keeps 60 MB and does nothing with it.
    cluster.workers[1].works("(head -c 60000000 /dev/zero; sleep 600) | tail -n 1");
    cluster.until("cache", "on");
    cluster.workers[0].rests();
    cluster.until("worker", "off");
    cluster.workers[1].rests();
    cluster.until("cache", "off");

    let told = cluster.told();
    for deployment in ["worker", "cache"] {
        let signals: Vec<&str> = told.iter().filter(|(of, _)| of == deployment).map(|(_, signal)| &**signal).collect();
        let turns = signals.iter().enumerate().all(|(at, signal)| *signal == ["on", "off"][at % 2]);
        assert!(turns && signals.last() == Some(&"off"), "{deployment}: {signals:?}");
    }
    println!("scaling: {told:?}");
    cluster.weir.stop(STOP);
    front_weir.stop(STOP);
}
