//! Fills a topic: as fast as it goes, or at a steady rate while the test goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::broker::client;
use crate::records::record;
use crate::topic::Topic;
use crate::wait::moment;

struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer at work.
pub struct Feed {
    delivered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    running: JoinHandle<u64>,
}

impl Feed {
    /// Writes records 0, 1, 2 … to every partition, `each` of them at most, `rate` a second over all partitions.
    pub fn start(topic: &Topic, each: u64, rate: Option<u64>) -> Feed {
        let (delivered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let producer: BaseProducer<Count> = client(&topic.servers)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "10")
            .set("queue.buffering.max.messages", "100000")
            .create_with_context(Count(delivered.clone()))
            .unwrap();
        let (name, partitions, stopped) = (topic.name.clone(), topic.partitions, stop.clone());
        let running = std::thread::spawn(move || write(&producer, &name, partitions, each, rate, &stopped));
        Feed { delivered, stop, running }
    }

    /// Records that brokers have.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Writes no more than is begun, and says how many each partition got.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the end, and says how many each partition got.
    pub fn finish(self) -> u64 {
        self.running.join().unwrap()
    }
}

fn write(
    producer: &BaseProducer<Count>,
    topic: &str,
    partitions: i32,
    each: u64,
    rate: Option<u64>,
    stopped: &AtomicBool,
) -> u64 {
    let began = Instant::now();
    let mut seq = 0;
    while seq < each && !stopped.load(Ordering::Relaxed) {
        while rate.is_some_and(|rate| seq * partitions as u64 > (began.elapsed().as_secs_f64() * rate as f64) as u64) {
            producer.poll(Duration::ZERO);
            moment();
        }
        for partition in 0..partitions {
            let value = record(partition, seq);
            let mut sent = BaseRecord::<(), [u8], ()>::to(topic).partition(partition).payload(&value);
            while let Err((error, again)) = producer.send(sent) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                producer.poll(Duration::from_millis(10));
                sent = again;
            }
        }
        if seq % 100 == 0 {
            producer.poll(Duration::ZERO);
        }
        seq += 1;
    }
    producer.flush(Duration::from_secs(180)).unwrap();
    seq
}
