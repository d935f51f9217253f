//! `weir demo`: a whole system in one process, with librdkafka's own mock broker in place of Kafka.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use weir::config::{self, LoadRequest};
use weir::error::{Error, ErrorKind, Result};
use weir::graph::{Report, RunOptions, Status};

use crate::args::{Demo, DemoName};
use crate::print::{errln, out_as_is, outln};
use crate::screen::Screen;
use crate::{Exit, counts};

/// A demo; the graph behind it is an example like any other.
struct Scene {
    name: &'static str,
    graph: &'static str,
    topics: [&'static str; 2],
    /// The source that makes events up.
    maker: &'static str,
    /// The source that reads them from the broker, and the two nodes behind it that the end tells of.
    reader: &'static str,
    found: &'static str,
    written: &'static str,
    /// What is to be seen, before it begins; and what the two nodes did.
    begins: &'static str,
    ends: fn(found: u64, written: u64) -> String,
}

const EVENTS: Scene = Scene {
    name: "events",
    graph: include_str!("../../../config-examples/key-events/graph.yaml"),
    topics: ["logs", "key-events"],
    maker: "cluster",
    reader: "logs",
    found: "events",
    written: "key_topic",
    begins: "A cluster of our own making logs {rate} lines a second into the Kafka topic `logs`:\n\
             container logs, and Kubernetes events in two shapes. weir reads the topic, keeps the\n\
             events that matter, writes them to the topic `key-events`, and shows them here:\n",
    ends: |found, written| format!("{found} were events, {written} of them mattered and are in `key-events`"),
};

const ALERTS: Scene = Scene {
    name: "alerts",
    graph: include_str!("../../../config-examples/alerts-demo/graph.yaml"),
    topics: ["metrics", "alerts"],
    maker: "clusters",
    reader: "metrics",
    found: "firing",
    written: "alert_topic",
    begins: "Three clusters of our own making send {rate} metrics a second into the Kafka topic `metrics`,\n\
             as Vector writes them. weir reads the topic, finds out which alerts fire, writes every\n\
             change once to the topic `alerts`, and shows it here:\n",
    ends: |found, written| {
        format!("{found} were of alerts that fire or end, {written} changed something and are in `alerts`")
    },
};

const PARTITIONS: i32 = 3;

fn scene(args: &Demo) -> &'static Scene {
    match args.name {
        DemoName::Events => &EVENTS,
        DemoName::Alerts => &ALERTS,
    }
}

pub(super) fn run(args: &Demo) -> Exit {
    let result = match &args.eject {
        Some(dir) => eject(scene(args), dir).map(|()| Exit::Ok),
        None => play(scene(args), args),
    };
    result.unwrap_or_else(|error| {
        errln!("the demo cannot go on: {error}");
        Exit::Failed
    })
}

fn eject(scene: &Scene, dir: &Path) -> Result<()> {
    super::init::write_graph(dir, scene.graph)?;
    let [from, to] = scene.topics;
    outln!(
        "       KAFKA_BOOTSTRAP_SERVERS=localhost:9092 weir run {}    (your own Kafka, with the topics {from} and {to})",
        dir.join("graph.yaml").display()
    );
    Ok(())
}

fn play(scene: &'static Scene, args: &Demo) -> Result<Exit> {
    let failed = |error: rdkafka::error::KafkaError| {
        Error::new(ErrorKind::Internal, "start the embedded broker", "librdkafka refused").caused_by(error)
    };
    // It goes with the process: the clients that are still closing would complain that their broker is away.
    let broker = ManuallyDrop::new(MockCluster::new(1).map_err(failed)?);
    for topic in scene.topics {
        broker.create_topic(topic, PARTITIONS, 1).map_err(failed)?;
    }
    let servers = broker.bootstrap_servers();
    let dir = TempDir::new()?;
    let graph_file = dir.0.join("graph.yaml");
    std::fs::write(&graph_file, scene.graph).map_err(|error| {
        Error::new(ErrorKind::Io, "write the graph", "no room in the temporary folder").caused_by(error)
    })?;
    let set = [
        format!("data_dir={}", dir.0.join("data").display()),
        format!("sources.{}.count={}", scene.maker, args.events),
        format!("sources.{}.rate={}", scene.maker, args.rate),
    ];
    let env = |name: &str| (name == "KAFKA_BOOTSTRAP_SERVERS").then(|| servers.clone());
    let loaded = config::load(&LoadRequest { paths: &[graph_file], set: &set, env: &env });
    let Ok(graph) = super::graph_or_exit(loaded) else { return Ok(Exit::BadConfig) };

    outln!("{}", scene.begins.replace("{rate}", &args.rate.to_string()));
    crate::logging::start_quiet();
    let started = Instant::now();
    let events = args.events;
    let report = super::run::run_graph(graph, RunOptions::default(), |status, stop| {
        // The topic has no end, so the demo decides when it has seen everything.
        tokio::spawn(async move {
            while !is_done(scene, &status, events) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stop.send_replace(true);
        });
    })?;
    closing(scene, &report, events, started.elapsed());
    Ok(if report.clean { Exit::Ok } else { Exit::Failed })
}

fn is_done(scene: &Scene, status: &Status, events: u64) -> bool {
    let books = status.books();
    let of = |id: &str| books.iter().find(|(node, _)| node == id).map(|(_, totals)| *totals).unwrap_or_default();
    of(scene.reader).received >= events && books.iter().all(|(_, totals)| totals.in_flight() == 0)
}

fn closing(scene: &Scene, report: &Report, events: u64, took: Duration) {
    let of = |id: &str| report.books.iter().find(|(node, _)| node == id).map(|(_, totals)| *totals).unwrap_or_default();
    let found = of(scene.found);
    let ends = (scene.ends)(found.passed + found.absorbed, of(scene.written).passed);
    outln!("\n{events} lines in {:.1} s: {ends}.", took.as_secs_f64());
    outln!("Every line is accounted for:\n");
    out_as_is(&counts::table(&report.books, Screen::out()));
    let weir = if is_on_path() { "" } else { ", with the folder of this program on your PATH" };
    outln!("\nWhat to try next{weir}:");
    let Scene { name, .. } = scene;
    outln!("  weir demo {name} --eject my-first-graph    the graph behind this, to change");
    outln!("  weir explain my-first-graph               what it will do, before it does it");
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
