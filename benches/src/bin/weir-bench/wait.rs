//! Watches a topic's end offsets.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{Broker, Result};

const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct Wait {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    records: u64,
    /// Seconds after which to give up.
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

impl Wait {
    pub(crate) fn run(self, broker: &Broker) -> Result {
        let consumer: BaseConsumer = broker.config().create()?;
        let partitions = partitions(&consumer, &self.topic)?;
        let started = Instant::now();
        let mut out = std::io::stdout().lock();
        loop {
            let records: i64 = end_offsets(&consumer, &self.topic, &partitions)?.into_iter().map(|(_, end)| end).sum();
            writeln!(out, "{} {records}", started.elapsed().as_millis())?;
            out.flush()?;
            if records.cast_unsigned() >= self.records {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(self.limit) {
                return Err(format!("{} of {} records after {} s", records, self.records, self.limit).into());
            }
            // nothing is subscribed, so this only passes the time
            consumer.poll(Duration::from_millis(100));
        }
    }
}

/// The numbers of a topic's partitions.
pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions: Vec<i32> =
        metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
    if partitions.is_empty() { Err(format!("topic {topic} does not exist").into()) } else { Ok(partitions) }
}

/// Each partition's next offset. A topic that is a moment old has no leaders yet, so an error is asked again for a while.
pub(crate) fn end_offsets(consumer: &BaseConsumer, topic: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>> {
    let started = Instant::now();
    loop {
        match ask_end_offsets(consumer, topic, partitions) {
            Err(_) if started.elapsed() < TIMEOUT => drop(consumer.poll(Duration::from_millis(100))),
            answer => return answer,
        }
    }
}

/// All partitions in one request.
fn ask_end_offsets(consumer: &BaseConsumer, topic: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>> {
    let mut query = TopicPartitionList::new();
    for &partition in partitions {
        // in place of a time: the end
        query.add_partition_offset(topic, partition, Offset::End)?;
    }
    let answer = consumer.offsets_for_times(query, TIMEOUT)?;
    answer
        .elements()
        .iter()
        .map(|element| {
            element.error()?;
            match element.offset() {
                Offset::Offset(end) => Ok((element.partition(), end)),
                other => Err(format!("partition {} answered {other:?}", element.partition()).into()),
            }
        })
        .collect()
}
