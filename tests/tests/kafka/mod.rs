//! A broker, and the binary under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(240);
const CALL: Duration = Duration::from_secs(20);

/// Waits for a condition, not for a time.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A real broker.
#[derive(Clone)]
pub struct Cluster {
    pub servers: String,
}

impl Cluster {
    pub fn from_env() -> Cluster {
        let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS");
        Cluster {
            servers: servers
                .expect("KAFKA_BOOTSTRAP_SERVERS is not set: scripts/test real starts a broker and sets it"),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// A new topic with a name of its own.
    pub fn topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let name = format!("{name}-{}", since.as_nanos());
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert!(made[0].is_ok(), "{made:?}");
        name
    }

    fn producer(&self) -> ThreadedProducer<DefaultProducerContext> {
        self.config().set("enable.idempotence", "true").set("linger.ms", "20").create().unwrap()
    }

    pub fn produce(&self, topic: &str, partition: i32, records: Vec<Option<Vec<u8>>>) {
        let producer = self.producer();
        for value in &records {
            let record = BaseRecord::<(), Vec<u8>>::to(topic).partition(partition);
            let record = match value {
                Some(value) => record.payload(value),
                None => record,
            };
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(CALL).unwrap();
    }

    /// Spreads the records of all partitions evenly over `span`.
    pub fn produce_paced(
        &self,
        topic: &str,
        partitions: i32,
        per_partition: u64,
        span: Duration,
        record: impl Fn(i32, u64) -> String,
    ) {
        let producer = self.producer();
        let started = Instant::now();
        for seq in 0..per_partition {
            let due = span.mul_f64(seq as f64 / per_partition as f64);
            if let Some(early) = due.checked_sub(started.elapsed()).filter(|early| early.as_millis() > 5) {
                std::thread::sleep(early);
            }
            for partition in 0..partitions {
                let value = record(partition, seq);
                let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&value);
                while let Err((error, back)) = producer.send(record) {
                    assert_eq!(
                        error.rdkafka_error_code(),
                        Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                        "{error}"
                    );
                    std::thread::sleep(Duration::from_millis(10));
                    record = back;
                }
            }
        }
        producer.flush(CALL).unwrap();
    }

    fn reader(&self) -> BaseConsumer {
        let mut config = self.config();
        config.set("group.id", "reads-back").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.create().unwrap()
    }

    /// Records in the topic.
    pub fn end(&self, topic: &str) -> u64 {
        let reader = self.reader();
        let metadata = reader.fetch_metadata(Some(topic), CALL).unwrap();
        let partitions = metadata.topics()[0].partitions();
        partitions.iter().map(|at| reader.fetch_watermarks(topic, at.id(), CALL).unwrap().1 as u64).sum()
    }

    /// All there is in the topic now, in order within each partition.
    pub fn read(&self, topic: &str) -> Vec<(i32, Vec<u8>)> {
        let reader = self.reader();
        let metadata = reader.fetch_metadata(Some(topic), CALL).unwrap();
        let mut list = TopicPartitionList::new();
        let mut open = 0;
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
            open += 1;
        }
        reader.assign(&list).unwrap();
        let mut records = Vec::new();
        while open > 0 {
            match reader.poll(CALL).expect("the broker answers") {
                Ok(message) => records.push((message.partition(), message.payload().unwrap_or_default().to_vec())),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    }

    /// The group's committed offsets; the group is called as the topic. 0 where there is none.
    pub fn committed(&self, topic: &str, partitions: i32) -> BTreeMap<i32, u64> {
        let reader: BaseConsumer = self.config().set("group.id", topic).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = reader.committed_offsets(list, CALL).unwrap();
        let offset = |offset| match offset {
            Offset::Offset(offset) => offset as u64,
            _ => 0,
        };
        committed.elements().iter().map(|at| (at.partition(), offset(at.offset()))).collect()
    }
}

/// The binary under test.
pub struct Weir(Child);

impl Weir {
    /// Runs a graph; its data stays in `dir`.
    pub fn start(dir: &Path, yaml: &str) -> Weir {
        let graph = dir.join("graph.yaml");
        std::fs::write(&graph, yaml).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(dir.join("weir.log")).unwrap();
        let child = Command::new(binary())
            .arg("run")
            .arg(&graph)
            .args(["--set", &format!("data_dir={}", dir.join("data").display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Weir(child.expect("weir starts"))
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM; gives the exit code.
    pub fn stop(self) -> i32 {
        let sent = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(sent.success());
        self.wait()
    }

    /// Waits for the end; gives the exit code.
    pub fn wait(mut self) -> i32 {
        let mut code = None;
        until("weir ends", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|code| code.code()).unwrap_or(-1)
    }
}

/// The binary of the same build as this test: `target/release/weir` beside `target/release/deps`.
fn binary() -> PathBuf {
    let path = std::env::var_os("WEIR_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.join("weir")
    });
    assert!(path.exists(), "{} is missing: cargo build --release -p weir-cli", path.display());
    path
}
