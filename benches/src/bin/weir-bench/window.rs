//! The work of `window.py`: records with a key and a time, and what their windows come to.

use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::{Broker, Result, create_topic};

const PARTITIONS: i32 = 4;
/// 2026-03-01T00:00:00Z.
const BEGIN: u64 = 1_772_323_200;
/// The key of the records that end all windows.
const END: &str = "end";

/// Fill a topic with records of these keys, over four minutes of event time; behind them one in each partition that ends
/// all windows.
#[derive(Args)]
pub(crate) struct WindowLoad {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    records: u64,
    #[arg(long)]
    keys: u64,
}

impl WindowLoad {
    pub(crate) fn run(self, broker: &Broker) -> Result {
        create_topic(broker, &self.topic, PARTITIONS)?;
        let producer: BaseProducer =
            broker.config().set("linger.ms", "50").set("queue.buffering.max.messages", "500000").create()?;
        let send = |partition: i32, value: &str| -> Result {
            let mut record = BaseRecord::<(), str>::to(&self.topic).partition(partition).payload(value);
            while let Err((error, again)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            Ok(())
        };
        for number in 0..self.records {
            let (time, key) = (BEGIN + number * 240 / self.records, number * 2_654_435_761 % self.keys);
            let value = format!(
                r#"{{"ts":{time},"key":"key-{key:07}","bytes":{},"path":"/api/v1/cart/items","status":200,"agent":"curl/8.5.0 (x86_64)","zone":"eu-central-1a"}}"#,
                number % 5000
            );
            send((number % PARTITIONS as u64) as i32, &value)?;
        }
        if self.records > 0 {
            for partition in 0..PARTITIONS {
                send(partition, &format!(r#"{{"ts":{},"key":"{END}","bytes":0}}"#, BEGIN + 3600))?;
            }
        }
        Ok(producer.flush(Duration::from_secs(600))?)
    }
}

/// Print how many results there are, over how many records, and the sum of all, as JSON.
#[derive(Args)]
pub(crate) struct WindowVerify {
    #[arg(long)]
    topic: String,
}

impl WindowVerify {
    pub(crate) fn run(self, broker: &Broker) -> Result {
        let reader: BaseConsumer =
            broker.config().set("group.id", "window-verify").set("enable.partition.eof", "true").create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
        }
        reader.assign(&list)?;
        let (mut left, mut results, mut n, mut total) = (PARTITIONS, 0u64, 0u64, 0u64);
        let mut latest = Instant::now();
        while left > 0 {
            let Some(polled) = reader.poll(Duration::from_secs(1)) else {
                match latest.elapsed() < Duration::from_secs(60) {
                    true => continue,
                    false => return Err("no record within a minute".into()),
                }
            };
            latest = Instant::now();
            match polled {
                Ok(message) => {
                    let value: Value = serde_json::from_slice(message.payload().ok_or("a record without a value")?)?;
                    if value["key"] != END {
                        results += 1;
                        n += value["n"].as_u64().ok_or("a result without n")?;
                        total += value["total"].as_u64().ok_or("a result without total")?;
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => left -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        println!(r#"{{"results":{results},"n":{n},"total":{total}}}"#);
        Ok(())
    }
}
