//! Topics of a test: made with a name of their own, filled, read back, and deleted at the end.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::broker::{client, servers};
use crate::records::seq_of;
use crate::wait::{PATIENCE, found};

const ANSWER: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(1);

/// A topic that goes when this does.
pub struct Topic {
    /// Its name; also good for a group.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The brokers it is on.
    pub servers: String,
    reader: BaseConsumer,
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

impl Topic {
    /// A new topic on the brokers all share, its name `purpose` and something unique.
    pub fn create(purpose: &str, partitions: i32, config: &[(&str, &str)]) -> Topic {
        Topic::create_at(&servers(), purpose, partitions, config)
    }

    /// The same on other brokers.
    pub fn create_at(servers: &str, purpose: &str, partitions: i32, config: &[(&str, &str)]) -> Topic {
        let name = format!("{purpose}-{:016x}", rand::random::<u64>());
        let admin: AdminClient<DefaultClientContext> = client(servers).create().unwrap();
        let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let made = wait_for(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert!(made[0].is_ok(), "{made:?}");
        Topic::named(servers, &name, partitions)
    }

    /// One that somebody else makes, with this name and so many partitions.
    pub fn named(servers: &str, name: &str, partitions: i32) -> Topic {
        let reader = client(servers)
            .set("group.id", format!("reader-of-{name}"))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create()
            .unwrap();
        Topic { name: name.to_owned(), partitions, servers: servers.to_owned(), reader }
    }

    /// Writes values, by turns into every partition; returns when brokers have them.
    pub fn write<'a>(&self, values: impl IntoIterator<Item = &'a str>) {
        let producer: BaseProducer = client(&self.servers).create().unwrap();
        for (partition, value) in (0..self.partitions).cycle().zip(values) {
            let mut record = BaseRecord::<(), str>::to(&self.name).partition(partition).payload(value);
            while let Err((error, again)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(Code::QueueFull), "{error}");
                producer.poll(LOOK);
                record = again;
            }
        }
        producer.flush(PATIENCE).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
    }

    /// A setting, by Kafka's name.
    pub fn setting(&self, name: &str) -> String {
        let admin: AdminClient<DefaultClientContext> = client(&self.servers).create().unwrap();
        let asked = [ResourceSpecifier::Topic(&self.name)];
        let found = wait_for(admin.describe_configs(&asked, &AdminOptions::new())).unwrap().remove(0).unwrap();
        found.get(name).unwrap().value.clone().unwrap()
    }

    /// Changes a setting, by Kafka's name.
    pub fn set(&self, name: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = client(&self.servers).create().unwrap();
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(name, value);
        let changed = wait_for(admin.alter_configs([&change], &AdminOptions::new())).unwrap();
        assert!(changed[0].is_ok(), "{changed:?}");
    }

    /// The values of all partitions as text, sorted.
    pub fn texts(&self) -> Vec<String> {
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
        let mut texts: Vec<String> = self.values().into_iter().flatten().map(text).collect();
        texts.sort();
        texts
    }

    /// Where each partition ends now.
    pub fn ends(&self) -> Vec<u64> {
        let end = |partition| answer(|| self.reader.fetch_watermarks(&self.name, partition, ANSWER)).1 as u64;
        (0..self.partitions).map(end).collect()
    }

    /// Records in all partitions.
    pub fn len(&self) -> u64 {
        self.ends().iter().sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything it holds now, by partition, in order.
    pub fn values(&self) -> Vec<Vec<Option<Vec<u8>>>> {
        let mut all = vec![Vec::new(); self.partitions as usize];
        self.read(|partition, value| all[partition as usize].push(value.map(<[u8]>::to_vec)));
        all
    }

    /// The numbers of [`records`](crate::records) it holds now, by partition, in order.
    ///
    /// # Panics
    /// When something else is in it.
    pub fn seqs(&self) -> Vec<Vec<u64>> {
        let mut all = vec![Vec::new(); self.partitions as usize];
        self.read(|partition, value| {
            let seq = value.and_then(|value| seq_of(partition, value));
            all[partition as usize].push(seq.unwrap_or_else(|| panic!("not a record of ours in {}", self.name)));
        });
        all
    }

    fn read(&self, mut each: impl FnMut(i32, Option<&[u8]>)) {
        let mut open: Vec<bool> = self.ends().iter().map(|end| *end > 0).collect();
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(&self.name, partition, Offset::Beginning).unwrap();
        }
        self.reader.assign(&list).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while open.contains(&true) {
            assert!(Instant::now() < deadline, "reading {} takes longer than {PATIENCE:?}", self.name);
            match self.reader.poll(LOOK) {
                None => {}
                // An outage that was over long ago is still told to whoever polls for the first time since.
                Some(Err(KafkaError::MessageConsumption(Code::AllBrokersDown | Code::BrokerTransportFailure))) => {}
                Some(Ok(message)) => each(message.partition(), message.payload()),
                Some(Err(KafkaError::PartitionEOF(partition))) => open[partition as usize] = false,
                other => panic!("reading {}: {other:?}", self.name),
            }
        }
        self.reader.unassign().unwrap();
    }

    /// By partition, what a group has committed; 0 where it has not.
    pub fn committed(&self, group: &Group) -> Vec<u64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.name, partition);
        }
        let found = answer(|| group.looker.committed_offsets(list.clone(), ANSWER));
        let offset = |partition| match found.find_partition(&self.name, partition).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => offset as u64,
            _ => 0,
        };
        (0..self.partitions).map(offset).collect()
    }

    /// Whether a group has committed everything there is; an unreachable broker counts as no.
    pub fn is_read_by(&self, group: &Group) -> bool {
        self.committed(group) == self.ends()
    }
}

/// Asks until there is an answer: a broker that is back from a restart has not its partitions and groups for a moment.
fn answer<T>(ask: impl Fn() -> KafkaResult<T>) -> T {
    use Code::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, LeaderNotAvailable, NotCoordinator, NotLeaderForPartition,
    };
    found("an answer of the broker", PATIENCE, || match ask() {
        Ok(answer) => Some(answer),
        Err(error) => match error.rdkafka_error_code() {
            Some(NotCoordinator | CoordinatorLoadInProgress | CoordinatorNotAvailable) => None,
            Some(NotLeaderForPartition | LeaderNotAvailable) => None,
            _ => panic!("{error}"),
        },
    })
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let Ok(admin) = client(&self.servers).create::<AdminClient<DefaultClientContext>>() {
            // What cannot be deleted stays behind in a broker for tests.
            let _ = wait_for(admin.delete_topics(&[&self.name], &AdminOptions::new()));
        }
    }
}

/// Looks at a group without being of it.
pub struct Group {
    name: String,
    looker: BaseConsumer,
}

impl Group {
    /// The group that reads a topic and has its name.
    pub fn of(topic: &Topic) -> Group {
        let name = topic.name.clone();
        let looker = client(&topic.servers).set("group.id", &name).set("enable.auto.commit", "false").create().unwrap();
        Group { name, looker }
    }

    /// The partitions its coordinator has given to the member with this `client.id`; of a group that reads one topic.
    ///
    /// # Panics
    /// When there is no such member, or the group is in the middle of a rebalance.
    pub fn partitions_of(&self, client_id: &str) -> Vec<i32> {
        let list = self.looker.fetch_group_list(Some(&self.name), ANSWER).unwrap();
        let group = &list.groups()[0];
        assert_eq!(group.state(), "Stable", "the group {}", self.name);
        let member = group.members().iter().find(|member| member.client_id() == client_id);
        let assignment = member.and_then(|member| member.assignment());
        partitions(assignment.unwrap_or_else(|| panic!("{} has no member {client_id}", self.name)))
    }
}

/// The partitions in an assignment of the consumer protocol: the version, then by topic its name and its partitions.
fn partitions(assignment: &[u8]) -> Vec<i32> {
    let number = |bytes: &[u8]| i32::from_be_bytes(bytes[..4].try_into().unwrap());
    let (topics, rest) = (number(&assignment[2..]), &assignment[6..]);
    assert!(topics <= 1, "one topic, or nothing assigned");
    if topics == 0 {
        return Vec::new();
    }
    let name = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let (count, numbers) = rest[2 + name..].split_at(4);
    numbers.chunks_exact(4).take(number(count) as usize).map(number).collect()
}
