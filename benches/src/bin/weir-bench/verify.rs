//! Reads what a program wrote and compares it with what it had to write.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use weir_benches::digest::{Digest, Tally};
use weir_benches::events::remapped;

use crate::wait::{end_offsets, partitions};
use crate::{Broker, Expectation, ExpectationFile, Result, Work};

#[derive(Args)]
pub(crate) struct Verify {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    work: Work,
    #[command(flatten)]
    expect: ExpectationFile,
}

impl Verify {
    pub(crate) fn run(self, broker: &Broker) -> Result {
        let expectation: Expectation = serde_json::from_slice(&std::fs::read(&self.expect.path)?)?;
        let (written, tally) = self.read(broker)?;
        let expected = expectation.of(self.work);
        if tally == expected {
            println!("{}: {} records, all as expected", self.topic, tally.count);
            return Ok(());
        }
        Err(self.differences(&expectation, &written).into())
    }

    fn read(&self, broker: &Broker) -> Result<(Vec<Digest>, Tally)> {
        let consumer: BaseConsumer = broker
            .config()
            .set("group.id", "weir-bench-verify") // the client wants one; nothing is committed
            .set("enable.auto.commit", "false")
            .set("queued.max.messages.kbytes", "65536")
            .create()?;
        let ends = end_offsets(&consumer, &self.topic, &partitions(&consumer, &self.topic)?)?;
        let mut assignment = TopicPartitionList::new();
        let mut unread: HashMap<i32, i64> = HashMap::new();
        for (partition, end) in ends {
            if end > 0 {
                assignment.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
                unread.insert(partition, end);
            }
        }
        consumer.assign(&assignment)?;

        let (mut written, mut tally) = (Vec::new(), Tally::default());
        while !unread.is_empty() {
            let record = consumer.poll(Duration::from_secs(30)).ok_or("the topic gave nothing for 30 s")??;
            let payload = record.payload().unwrap_or_default();
            let digest = Digest::of(payload)
                .map_err(|error| format!("{}: not JSON: {error}: {}", self.topic, String::from_utf8_lossy(payload)))?;
            tally.add(digest);
            written.push(digest);
            if unread.get(&record.partition()) == Some(&(record.offset() + 1)) {
                unread.remove(&record.partition());
            }
        }
        Ok((written, tally))
    }

    /// Makes the records again, to say which are missing, repeated or foreign.
    fn differences(&self, expectation: &Expectation, written: &[Digest]) -> String {
        let mut balance: HashMap<Digest, i64> = HashMap::with_capacity(written.len());
        for digest in written {
            *balance.entry(*digest).or_default() += 1;
        }
        let search = memchr::memmem::Finder::new(br#""reason":"BackOff""#);
        let (mut json, mut changed) = (Vec::new(), Vec::new());
        let (mut missing, mut repeated, mut examples) = (0, 0, Vec::new());
        for number in 0..expectation.records {
            json.clear();
            let meaning = expectation.events().write(number, &mut json);
            let wanted = match self.work {
                Work::BytesSearch => search.find(&json).is_some(),
                Work::Filter | Work::Remap => meaning.kept,
            };
            if !wanted {
                continue;
            }
            if matches!(self.work, Work::Remap) {
                remapped(&json, meaning, &mut changed);
                std::mem::swap(&mut json, &mut changed);
            }
            let Ok(digest) = Digest::of(&json) else { continue };
            match balance.remove(&digest) {
                None => {
                    missing += 1;
                    if examples.len() < 3 {
                        examples.push(format!("missing, {:?}: {}", meaning.shape, String::from_utf8_lossy(&json)));
                    }
                }
                Some(times) => repeated += times - 1,
            }
        }
        let foreign: i64 = balance.values().sum();
        let summary = format!(
            "{}: {} records where {} were expected: {missing} missing, {repeated} repeated, {foreign} that should not be there",
            self.topic,
            written.len(),
            expectation.of(self.work).count
        );
        examples.insert(0, summary);
        examples.join("\n  ")
    }
}
