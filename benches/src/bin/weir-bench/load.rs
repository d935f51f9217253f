//! Fills a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use weir_benches::digest::{Digest, Tally};
use weir_benches::events::{Events, Shape, remapped};

use crate::{Broker, Expectation, ExpectationFile, Result, create_topic};

#[derive(Args)]
pub(crate) struct Load {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    records: u64,
    #[arg(long, default_value_t = 10)]
    partitions: i32,
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How many of a thousand records are decoys.
    #[arg(long, default_value_t = 20)]
    decoys: u64,
    #[command(flatten)]
    expect: ExpectationFile,
}

/// Neighbours go to one partition in runs of this many, so that a batch is full early and every partition sees the same mix.
const RUN: u64 = 64;

struct CountDelivered(Arc<AtomicU64>);

impl ClientContext for CountDelivered {}

impl ProducerContext for CountDelivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Load {
    pub(crate) fn run(self, broker: &Broker) -> Result {
        create_topic(broker, &self.topic, self.partitions)?;

        let delivered = Arc::new(AtomicU64::new(0));
        let producer: BaseProducer<CountDelivered> = broker
            .config()
            .set("acks", "all")
            .set("enable.idempotence", "true") // a retry must not add a record
            .set("compression.type", "none")
            .set("linger.ms", "50")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(CountDelivered(Arc::clone(&delivered)))?;

        let events = Events { seed: self.seed, decoys_per_mille: self.decoys };
        let search = memchr::memmem::Finder::new(br#""reason":"BackOff""#);
        let (mut filter, mut remap, mut bytes_search) = (Tally::default(), Tally::default(), Tally::default());
        let (mut bytes, mut decoys) = (0, 0);
        let (mut json, mut changed) = (Vec::new(), Vec::new());
        for number in 0..self.records {
            json.clear();
            let meaning = events.write(number, &mut json);
            bytes += json.len() as u64;
            decoys += u64::from(meaning.shape != Shape::Plain);
            let found = search.find(&json).is_some();
            if meaning.kept || found {
                let digest = Digest::of(&json)?;
                if found {
                    bytes_search.add(digest);
                }
                if meaning.kept {
                    filter.add(digest);
                    remapped(&json, meaning, &mut changed);
                    remap.add(Digest::of(&changed)?);
                }
            }
            let partition = (number / RUN % self.partitions as u64) as i32;
            let mut record = BaseRecord::<(), [u8], ()>::to(&self.topic).partition(partition).payload(&json);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = refused;
                producer.poll(Duration::from_millis(20));
            }
            if number % 1000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(120))?;
        let delivered = delivered.load(Ordering::Relaxed);
        if delivered != self.records {
            return Err(format!("the broker took {delivered} of {} records", self.records).into());
        }

        let expectation = Expectation {
            seed: self.seed,
            decoys_per_mille: self.decoys,
            records: self.records,
            bytes,
            decoys,
            filter,
            remap,
            bytes_search,
        };
        std::fs::write(&self.expect.path, serde_json::to_vec_pretty(&expectation)?)?;
        println!(
            "{}: {} records of {} bytes on average, {decoys} of them decoys; JSON keeps {}, a byte search {}",
            self.topic,
            self.records,
            bytes / self.records.max(1),
            filter.count,
            bytes_search.count
        );
        Ok(())
    }
}
