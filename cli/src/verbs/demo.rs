//! `weir demo`: a whole system in one process, with librdkafka's own mock broker in place of Kafka.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use weir::config::{self, LoadRequest};
use weir::error::{Error, ErrorKind, Result};
use weir::graph::{Report, RunOptions, Status};

use crate::Exit;
use crate::args::Demo;
use crate::print::{errln, outln};

/// The graph behind the demo is an example like any other.
const GRAPH: &str = include_str!("../../../config-examples/key-events/graph.yaml");
const PARTITIONS: i32 = 3;

pub(super) fn run(args: &Demo) -> Exit {
    let result = match &args.eject {
        Some(dir) => eject(dir).map(|()| Exit::Ok),
        None => play(args),
    };
    result.unwrap_or_else(|error| {
        errln!("the demo cannot go on: {error}");
        Exit::Failed
    })
}

fn eject(dir: &Path) -> Result<()> {
    super::init::write_graph(dir, GRAPH)?;
    outln!(
        "       KAFKA_BOOTSTRAP_SERVERS=localhost:9092 weir run {}    (your own Kafka, with the topics logs and key-events)",
        dir.join("graph.yaml").display()
    );
    Ok(())
}

fn play(args: &Demo) -> Result<Exit> {
    let failed = |error: rdkafka::error::KafkaError| {
        Error::new(ErrorKind::Internal, "start the embedded broker", "librdkafka refused").caused_by(error)
    };
    // It goes with the process: the clients that are still closing would complain that their broker is away.
    let broker = ManuallyDrop::new(MockCluster::new(1).map_err(failed)?);
    for topic in ["logs", "key-events"] {
        broker.create_topic(topic, PARTITIONS, 1).map_err(failed)?;
    }
    let servers = broker.bootstrap_servers();
    let dir = TempDir::new()?;
    let graph_file = dir.0.join("graph.yaml");
    std::fs::write(&graph_file, GRAPH).map_err(|error| {
        Error::new(ErrorKind::Io, "write the graph", "no room in the temporary folder").caused_by(error)
    })?;
    let set = [
        format!("data_dir={}", dir.0.join("data").display()),
        format!("sources.cluster.count={}", args.events),
        format!("sources.cluster.rate={}", args.rate),
    ];
    let env = |name: &str| (name == "KAFKA_BOOTSTRAP_SERVERS").then(|| servers.clone());
    let loaded = config::load(&LoadRequest { paths: &[graph_file], set: &set, env: &env });
    let Ok(graph) = super::graph_or_exit(loaded) else { return Ok(Exit::BadConfig) };

    outln!("A cluster of our own making logs {} lines a second into the Kafka topic `logs`:", args.rate);
    outln!("container logs, and Kubernetes events in two shapes. weir reads the topic, keeps the");
    outln!("events that matter, writes them to the topic `key-events`, and shows them here:\n");
    crate::logging::start_quiet();
    let started = Instant::now();
    let events = args.events;
    let report = super::run::run_graph(graph, RunOptions::default(), |status, stop| {
        // The topic has no end, so the demo decides when it has seen everything.
        tokio::spawn(async move {
            while !is_done(&status, events) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stop.send_replace(true);
        });
    })?;
    closing(&report, events, started.elapsed());
    Ok(if report.clean { Exit::Ok } else { Exit::Failed })
}

fn is_done(status: &Status, events: u64) -> bool {
    let books = status.books();
    let of = |id: &str| books.iter().find(|(node, _)| node == id).map(|(_, totals)| *totals).unwrap_or_default();
    let logs = of("logs");
    logs.received >= events && books.iter().all(|(_, totals)| totals.in_flight() == 0)
}

fn closing(report: &Report, events: u64, took: Duration) {
    let of = |id: &str| report.books.iter().find(|(node, _)| node == id).map(|(_, totals)| *totals).unwrap_or_default();
    let (found, key) = (of("events"), of("key_topic"));
    outln!(
        "\n{events} lines in {:.1} s: {} were events, {} of them mattered and are in `key-events`.",
        took.as_secs_f64(),
        found.passed,
        key.passed
    );
    outln!("Every line is accounted for:\n");
    outln!(
        "  {:<12} {:>9} {:>9} {:>9} {:>14} {:>10}",
        "node",
        "received",
        "passed",
        "filtered",
        "dead letters",
        "in flight"
    );
    for (node, books) in &report.books {
        let in_flight = books.in_flight();
        outln!(
            "  {node:<12} {:>9} {:>9} {:>9} {:>14} {in_flight:>10}",
            books.received,
            books.passed,
            books.filtered,
            books.dead_lettered
        );
    }
    let weir = if is_on_path() { "" } else { ", with the folder of this program on your PATH" };
    outln!("\nWhat to try next{weir}:");
    outln!("  weir demo --eject my-first-graph       the graph behind this, to change");
    outln!("  weir explain my-first-graph            what it will do, before it does it");
    outln!("  KAFKA_BOOTSTRAP_SERVERS=localhost:9092 weir run my-first-graph    the same on your own Kafka");
}

/// Whether the shell finds this very program by its name.
fn is_on_path() -> bool {
    let (Ok(this), Some(path)) = (std::env::current_exe(), std::env::var_os("PATH")) else { return false };
    std::env::split_paths(&path).any(|dir| dir.join("weir").canonicalize().is_ok_and(|found| found == this))
}

/// A folder that goes when the demo ends.
struct TempDir(std::path::PathBuf);

impl TempDir {
    fn new() -> Result<TempDir> {
        let dir = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| {
            Error::new(ErrorKind::Io, "make a folder", "the file system refused")
                .with("path", dir.display())
                .caused_by(error)
        })?;
        Ok(TempDir(dir))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed is in the folder for temporary things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
