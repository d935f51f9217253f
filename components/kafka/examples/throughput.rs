//! CPU and memory of source and sink alone, against a real broker.
//!
//! `throughput fill TOPIC N` writes N records of about 459 bytes; `throughput read TOPIC N` reads them and drops
//! them; `throughput copy TOPIC N OUT` writes every fifth to OUT. `KAFKA_BOOTSTRAP_SERVERS` names the broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use weir::component::{BuildContext, DetachedLane, Lanes, Read, ReadLimit, Sink, SinkConfig, SourceConfig};
use weir::delivery::{Receipt, Settlements};
use weir::event::{Batch, Timestamp};
use weir_kafka::{KafkaSink, KafkaSource};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: ReadLimit = ReadLimit { events: 1024, bytes: 1 << 20 };

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").expect("KAFKA_BOOTSTRAP_SERVERS names the broker");
    let (topic, count) = (&arguments[2], arguments[3].parse().unwrap());
    match arguments[1].as_str() {
        "fill" => fill(&servers, topic, count),
        _ => run(&servers, topic, count, arguments.get(4)).await,
    }
}

fn fill(servers: &str, topic: &str, count: u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("linger.ms", "50").set("queue.buffering.max.messages", "0");
    config.set("sticky.partitioning.linger.ms", "0");
    let producer: BaseProducer = config.create().unwrap();
    for n in 0..count {
        let value = format!(r#"{{"n":{n},"reason":"BackOff","pad":"{}"}}"#, "x".repeat(410));
        while let Err((_full, _)) = producer.send(BaseRecord::<str, str>::to(topic).payload(&value)) {
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

async fn run(servers: &str, topic: &str, count: u64, out: Option<&String>) {
    let group = format!("throughput-{}", std::process::id());
    let config: KafkaSource = serde_json::from_value(json!({
        "bootstrap_servers": servers, "topics": [topic], "group_id": group, "start": "earliest" }))
    .unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let sink: Option<Arc<dyn Sink>> = match out {
        Some(out) => {
            let config = json!({ "bootstrap_servers": servers, "topic": out, "linger": "50ms" });
            let config: KafkaSink = serde_json::from_value(config).unwrap();
            Some(config.build(&context).await.unwrap())
        }
        None => None,
    };
    let (lanes, mut graph) = Lanes::detached();
    let source = config.build(&context).await.unwrap();
    tokio::spawn(async move { source.run(lanes).await.expect("the source runs") });
    let read = Arc::new(AtomicU64::new(0));
    let counted = read.clone();
    tokio::spawn(async move {
        while let Some(lane) = graph.next().await {
            let (read, sink) = (counted.clone(), sink.clone());
            tokio::spawn(async move {
                // Whole, as a dropped end says that the lane has ended.
                let DetachedLane { mut origin, end: _end } = lane;
                let settlements = Arc::new(Settlements::default());
                while let Ok(Read::Events(mut events)) = origin.read(LIMIT).await {
                    let next = events.last().unwrap().position.next();
                    read.fetch_add(events.len() as u64, Relaxed);
                    if let Some(sink) = &sink {
                        events.retain(|event| event.position.0 % 5 == 0);
                        let receipt = Receipt::new(next.0, settlements.clone(), None);
                        sink.write(Batch { origin: origin.id(), receipt, watermark: Timestamp::MIN, events }).await;
                        drop(settlements.take());
                    } else {
                        drop(events);
                    }
                    origin.commit(next).await.unwrap();
                }
            });
        }
    });
    while read.load(Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let early = read.load(Relaxed);
    while read.load(Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let events = (read.load(Relaxed) - early) as f64;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{:.2} us CPU per event, {:.0} events/s, {}", cpu * 1e6 / events, events / seconds, peak);
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time in ticks of 10 ms: proc_pid_stat(5), fields 14 and 15.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
