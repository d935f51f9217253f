//! `weir doctor`: what can be learned of brokers, topics, rights and groups without changing any of them.
//!
//! Rights are asked for by requests that brokers check for the right and then refuse for another reason: a commit for a
//! partition that is not there, a record that is larger than the topic takes, a creation that is only validated.

mod broker;
mod ear;

use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use weir::component::Finding;

use self::broker::{connect, greet};
use self::ear::Ear;
use crate::topics::{TopicCreation, is_compacted, needs_key, not_created, settings};

/// Addresses of a cluster that are tried, and partitions that are looked at.
const MANY: usize = 32;
/// A topic that takes larger records is not asked for the right to write: too much would be sent for nothing.
const LARGEST_QUESTION: usize = 16 << 20;
/// Clocks that differ by less are called the same.
const SAME_TIME: i64 = 2_000;
/// One wait for an answer, between two looks at what went wrong meanwhile.
const SLICE: Duration = Duration::from_millis(300);

/// A source's or a sink's way to its brokers.
pub(crate) struct Peer {
    /// As the component at work has it.
    pub config: ClientConfig,
    pub servers: String,
    /// The user, for commands that grant rights.
    pub user: Option<String>,
    pub tls: bool,
    pub limit: Duration,
}

/// What a source asks for.
pub(crate) struct Reading {
    pub topics: Vec<String>,
    pub group: String,
    pub max_record: u64,
}

/// What a sink asks for.
pub(crate) struct Writing {
    /// `None`: another for each event.
    pub topic: Option<String>,
    pub creation: Option<TopicCreation>,
    pub sets_key: bool,
    pub max_message: u64,
}

impl Peer {
    /// Everything about a source.
    pub async fn probe_reading(self, reading: Reading) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.brokers(&mut findings).await {
            let rest = move || self.reading(&reading);
            findings.extend(blocking(rest).await);
        }
        findings
    }

    /// Everything about a sink.
    pub async fn probe_writing(self, writing: Writing) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.brokers(&mut findings).await {
            let rest = move || self.writing(&writing);
            findings.extend(blocking(rest).await);
        }
        findings
    }

    // --- brokers ---

    /// Every address, by steps; tells whether a broker answers.
    async fn brokers(&self, findings: &mut Vec<Finding>) -> bool {
        let mut advertised = Vec::new();
        let mut tried = Vec::new();
        for server in self.servers.split(',').map(str::trim).filter(|server| !server.is_empty()).take(MANY) {
            let finding = match connect(server, self.limit).await {
                Err(finding) => finding,
                Ok(()) => {
                    let config = self.with(&[("bootstrap.servers", server)]);
                    let (limit, tls, named) = (self.limit, self.tls, server.to_owned());
                    match tokio::task::spawn_blocking(move || greet(&config, &named, tls, limit)).await {
                        Ok(Ok(all)) => {
                            let count = all.len();
                            let (plural, how) = (if count == 1 { "" } else { "s" }, self.how());
                            advertised.extend(all);
                            let text = format!("broker {server} resolves, connects and answers{how}");
                            Finding::ok(format!("{text}; {count} broker{plural} in the cluster"))
                        }
                        Ok(Err(finding)) => finding,
                        Err(panic) => {
                            Finding::failed(format!("broker {server}: the probe failed: {panic}"), "report it")
                        }
                    }
                }
            };
            findings.push(finding);
            tried.push(server.to_owned());
        }
        let answers = !advertised.is_empty();
        advertised.sort();
        advertised.dedup();
        for broker in advertised.iter().filter(|broker| !tried.contains(broker)).take(MANY) {
            if let Err(Finding { message, .. }) = connect(broker, self.limit).await {
                let help = "correct the broker's advertised.listeners, or the names this machine knows";
                findings.push(Finding::failed(format!("{message} (the cluster advertises it)"), help));
            }
        }
        answers
    }

    /// How brokers were talked to.
    fn how(&self) -> String {
        let tls = if self.tls { " over TLS" } else { "" };
        let user = self.user.as_ref().map(|user| format!(" as user {user:?}")).unwrap_or_default();
        format!("{tls}{user}")
    }

    fn with(&self, options: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.config.clone();
        config.set("allow.auto.create.topics", "false");
        for (name, value) in options {
            config.set(*name, *value);
        }
        config
    }

    /// A command that grants a right.
    fn grant(&self, operation: &str, what: &str, name: &str) -> String {
        let user = match (&self.user, self.tls) {
            (Some(user), _) => user.as_str(),
            (None, true) => "CN=...",
            (None, false) => "ANONYMOUS",
        };
        let servers = &self.servers;
        format!(
            "grant it: kafka-acls --bootstrap-server {servers} --add --allow-principal {} --operation {operation} {what} {}",
            quoted(&format!("User:{user}")),
            quoted(name)
        )
    }

    // --- topics ---

    /// Looks a topic up; `None` when there is nothing more to ask about it.
    fn topic(
        &self,
        client: &BaseProducer<Ear>,
        topic: &str,
        operation: &str,
        missing: impl FnOnce() -> Finding,
        findings: &mut Vec<Finding>,
    ) -> Option<i32> {
        let metadata = match client.client().fetch_metadata(Some(topic), self.limit) {
            Ok(metadata) => metadata,
            Err(error) => {
                let why = client.context().last().unwrap_or_else(|| error.to_string());
                findings.push(Finding::failed(format!("topic {topic:?}: no answer: {why}"), "are the brokers well?"));
                return None;
            }
        };
        let found = metadata.topics().first()?;
        match found.error().map(Code::from) {
            None | Some(Code::LeaderNotAvailable) => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                findings.push(missing());
                return None;
            }
            Some(Code::TopicAuthorizationFailed) => {
                let text = format!("topic {topic:?}: we may not even see it");
                findings.push(Finding::failed(text, self.grant(operation, "--topic", topic)));
                return None;
            }
            Some(other) => {
                findings.push(Finding::failed(format!("topic {topic:?}: {other}"), "correct the name"));
                return None;
            }
        }
        let partitions = found.partitions();
        let headless: Vec<_> = partitions.iter().filter(|partition| partition.leader() < 0).map(|p| p.id()).collect();
        if headless.is_empty() {
            let plural = if partitions.len() == 1 { "" } else { "s" };
            findings.push(Finding::ok(format!("topic {topic:?} exists, {} partition{plural}", partitions.len())));
        } else {
            let text = format!("topic {topic:?}: partitions {} have no leader", listed(&headless));
            findings.push(Finding::failed(text, "bring the brokers back that have their copies"));
        }
        Some(partitions.len() as i32)
    }

    /// The topic's `cleanup.policy` and `max.message.bytes`, where we may see them.
    fn settings(&self, topic: &str, findings: &mut Vec<Finding>) -> Option<(String, u64)> {
        let failed =
            |why: String| Finding::warning(format!("topic {topic:?}: its settings cannot be read: {why}"), "try again");
        let admin: AdminClient<Ear> = match self.with(&[]).create_with_context(Ear::default()) {
            Ok(admin) => admin,
            Err(error) => {
                findings.push(failed(error.to_string()));
                return None;
            }
        };
        match Handle::current().block_on(settings(&admin, topic, self.limit)) {
            Ok(settings) => {
                let text = |name: &str| settings.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
                Some((text("cleanup.policy"), text("max.message.bytes").parse().ok()?))
            }
            Err(KafkaError::AdminOp(Code::TopicAuthorizationFailed)) => {
                let text =
                    format!("topic {topic:?}: we may not see its settings, so sizes and compaction are not checked");
                findings.push(Finding::warning(text, self.grant("DescribeConfigs", "--topic", topic)));
                None
            }
            Err(error) => {
                findings.push(failed(error.to_string()));
                None
            }
        }
    }

    // --- sinks ---

    fn writing(&self, writing: &Writing) -> Vec<Finding> {
        let Some(topic) = &writing.topic else {
            let text = "the topic is another for each event, so none is checked";
            return vec![Finding::warning(text, "to check one: --set sinks.ID.topic=NAME")];
        };
        let mut findings = Vec::new();
        let client = match self.client() {
            Ok(client) => client,
            Err(finding) => return vec![finding],
        };
        let missing = || self.missing(topic, writing.creation.as_ref());
        if self.topic(&client, topic, "Write", missing, &mut findings).is_none() {
            return findings;
        }
        let Some((policy, largest)) = self.settings(topic, &mut findings) else {
            let text =
                format!("topic {topic:?}: whether we may write is not checked, as its largest size is not known");
            findings.push(Finding::warning(text, self.grant("Write", "--topic", topic)));
            return findings;
        };
        if is_compacted(&policy) && !writing.sets_key {
            findings.push(Finding::failed(needs_key(topic), "weir run waits until one of both is changed"));
        }
        findings.push(if largest < writing.max_message {
            let text =
                format!("topic {topic:?} takes at most {largest} bytes, max_message_size is {}", writing.max_message);
            let help = format!("set max_message_size: {largest}, or raise the topic's max.message.bytes");
            Finding::warning(text, help)
        } else {
            Finding::ok(format!("topic {topic:?} takes records of max_message_size ({} bytes)", writing.max_message))
        });
        findings.push(self.may_write(topic, largest));
        findings
    }

    fn missing(&self, topic: &str, creation: Option<&TopicCreation>) -> Finding {
        let Some(creation) = creation else {
            let help = format!("{}, or set create_topic", self.creation_command(topic));
            return Finding::failed(format!("topic {topic:?} does not exist"), help);
        };
        let admin: AdminClient<Ear> = match self.with(&[]).create_with_context(Ear::default()) {
            Ok(admin) => admin,
            Err(error) => return Finding::failed(format!("topic {topic:?}: {error}"), "correct the options"),
        };
        match Handle::current().block_on(creation.create(&admin, topic, self.limit, true)) {
            Ok(()) => Finding::ok(format!("topic {topic:?} does not exist; we may create it, and will when we start")),
            Err(KafkaError::AdminOp(code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => {
                Finding::failed(not_created(topic, code), self.grant("Create", "--topic", topic))
            }
            Err(KafkaError::AdminOp(code)) => Finding::failed(not_created(topic, code), self.creation_command(topic)),
            Err(error) => Finding::failed(format!("topic {topic:?}: no answer: {error}"), "are the brokers well?"),
        }
    }

    fn creation_command(&self, topic: &str) -> String {
        format!("create it: kafka-topics --bootstrap-server {} --create --topic {}", self.servers, quoted(topic))
    }

    /// Sends a record that is larger than the topic takes: brokers look for the right first.
    fn may_write(&self, topic: &str, largest: u64) -> Finding {
        let size = usize::try_from(largest).unwrap_or(usize::MAX).saturating_add(64 << 10);
        if size > LARGEST_QUESTION {
            let text = format!(
                "topic {topic:?}: whether we may write is not checked: only a record of {size} bytes would tell"
            );
            return Finding::warning(text, self.grant("Write", "--topic", topic));
        }
        let config = self.with(&[
            ("enable.idempotence", "false"),
            ("compression.codec", "none"),
            ("linger.ms", "0"),
            ("message.timeout.ms", &self.limit.as_millis().clamp(100, 900_000).to_string()),
            ("message.max.bytes", &(size + (1 << 20)).to_string()),
            ("queue.buffering.max.kbytes", &(size / 512 + 4096).to_string()),
        ]);
        let unknown = |why: String| {
            Finding::warning(format!("topic {topic:?}: whether we may write is not known: {why}"), "try again")
        };
        let producer: BaseProducer<Ear> = match config.create_with_context(Ear::default()) {
            Ok(producer) => producer,
            Err(error) => return unknown(error.to_string()),
        };
        let value = vec![0; size];
        if let Err((error, _)) = producer.send(BaseRecord::<str, [u8]>::to(topic).key("weir doctor").payload(&value)) {
            return unknown(error.to_string());
        }
        let deadline = Instant::now() + self.limit + SLICE;
        while producer.context().answer().is_none() && Instant::now() < deadline {
            producer.poll(SLICE / 10);
        }
        match producer.context().answer().and_then(Result::err) {
            Some(Code::MessageSizeTooLarge) => Finding::ok(format!("topic {topic:?}: we may write to it")),
            Some(Code::TopicAuthorizationFailed) => {
                let text = format!("topic {topic:?}: we may not write to it");
                Finding::failed(text, self.grant("Write", "--topic", topic))
            }
            Some(other) => unknown(other.to_string()),
            None => unknown("no answer".to_owned()),
        }
    }

    // --- sources ---

    fn reading(&self, reading: &Reading) -> Vec<Finding> {
        let mut findings = Vec::new();
        let client = match self.client() {
            Ok(client) => client,
            Err(finding) => return vec![finding],
        };
        let config = self.with(&[("enable.auto.commit", "false"), ("enable.partition.eof", "true")]);
        let consumer = || -> Result<BaseConsumer<Ear>, Finding> {
            let made = config.create_with_context(Ear::default());
            made.map_err(|error| Finding::failed(format!("no client can be made: {error}"), "correct the options"))
        };
        // One client for each question: a commit behind a question about commits gets no answer from librdkafka.
        let is_seen = consumer().map(|consumer| self.group(&consumer, reading, &mut findings));
        let member = match (is_seen, consumer()) {
            (Ok(true), Ok(member)) => member,
            (Ok(false), _) => return findings,
            (Err(finding), _) | (_, Err(finding)) => return vec![finding],
        };
        for topic in &reading.topics {
            if topic.starts_with('^') {
                let text = format!("topics that match {topic} are not checked");
                findings.push(Finding::warning(text, "to check one: --set sources.ID.topics.0=NAME"));
                continue;
            }
            let missing = || Finding::failed(format!("topic {topic:?} does not exist"), self.creation_command(topic));
            let Some(partitions) = self.topic(&client, topic, "Read", missing, &mut findings) else { continue };
            if !self.may_read(&member, topic, &reading.group, &mut findings) {
                continue;
            }
            if let Some((_, largest)) = self.settings(topic, &mut findings)
                && largest > reading.max_record
            {
                let text = format!("topic {topic:?} takes {largest} bytes, max_record_size is {}", reading.max_record);
                findings.push(Finding::warning(text, format!("set max_record_size: {largest}")));
            }
            self.position(&member, topic, partitions, &reading.group, &mut findings);
            findings.push(self.clock(&member, topic, partitions));
        }
        findings
    }

    /// The group and its members; tells whether there is more to ask about it.
    fn group(&self, member: &BaseConsumer<Ear>, reading: &Reading, findings: &mut Vec<Finding>) -> bool {
        let group = &reading.group;
        // Where we may not see the group, librdkafka looks for its coordinator for ever, and a commit would wait for that.
        // A question about what is committed has an end.
        let mut list = TopicPartitionList::new();
        list.add_partition(reading.topics.first().map_or("weir-doctor", String::as_str), 0);
        if let Err(error) = member.committed_offsets(list, self.limit) {
            let why = match error.rdkafka_error_code() {
                Some(Code::GroupAuthorizationFailed) => "we may not join it".to_owned(),
                _ => format!("no broker tells where it is kept ({error}); most likely we may not see it"),
            };
            findings.push(Finding::failed(format!("group {group:?}: {why}"), self.grant("Read", "--group", group)));
            return false;
        }
        let Ok(list) = member.fetch_group_list(Some(group), self.limit) else { return true };
        let Some(found) = list.groups().first() else { return true };
        let (members, protocol) = (found.members().len(), found.protocol());
        // Without the right to see it the list is as good as empty; the right itself is asked for with each topic.
        if members > 0 && !protocol.is_empty() && protocol != "cooperative-sticky" {
            let text = format!(
                "group {group:?}: its {members} members share partitions by {protocol}, weir by cooperative-sticky"
            );
            findings.push(Finding::failed(text, "stop them, or use another group_id"));
        } else if members > 0 {
            findings.push(Finding::ok(format!("group {group:?}: {}, members: {members}", found.state())));
        }
        true
    }

    /// Commits for a partition that is not there: brokers look for both rights first.
    fn may_read(&self, member: &BaseConsumer<Ear>, topic: &str, group: &str, findings: &mut Vec<Finding>) -> bool {
        let mut list = TopicPartitionList::new();
        if list.add_partition_offset(topic, i32::MAX, Offset::Offset(0)).is_err() {
            return false;
        }
        // The group may be seen, so its coordinator is known, and the answer comes.
        let answer = member.commit(&list, CommitMode::Sync).err().and_then(|error| error.rdkafka_error_code());
        let finding = match answer {
            Some(Code::UnknownTopicOrPartition) => {
                Finding::ok(format!("topic {topic:?}: we may read it as group {group:?}"))
            }
            Some(Code::GroupAuthorizationFailed) => {
                Finding::failed(format!("group {group:?}: we may not join it"), self.grant("Read", "--group", group))
            }
            Some(Code::TopicAuthorizationFailed) => {
                Finding::failed(format!("topic {topic:?}: we may not read it"), self.grant("Read", "--topic", topic))
            }
            other => {
                let why = other.map_or_else(|| "no answer".to_owned(), |code| code.to_string());
                let text = format!("topic {topic:?}: whether we may read it as group {group:?} is not known: {why}");
                Finding::warning(text, "try again")
            }
        };
        let may = finding.verdict == weir::component::Verdict::Ok;
        findings.push(finding);
        may
    }

    /// Where the group stands, and whether what it would read next is still there.
    fn position(
        &self,
        member: &BaseConsumer<Ear>,
        topic: &str,
        partitions: i32,
        group: &str,
        findings: &mut Vec<Finding>,
    ) {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions.min(MANY as i32) {
            list.add_partition(topic, partition);
        }
        let Ok(committed) = member.committed_offsets(list, self.limit) else { return };
        let (mut behind, mut gone, mut known) = (0, Vec::new(), 0);
        for found in committed.elements() {
            let Offset::Offset(offset) = found.offset() else { continue };
            let Ok((first, end)) = member.fetch_watermarks(topic, found.partition(), self.limit) else { return };
            known += 1;
            behind += end.saturating_sub(offset.max(first));
            if offset < first {
                gone.push(found.partition());
            }
        }
        findings.push(if !gone.is_empty() {
            let text = format!(
                "group {group:?}: what it would read next of {topic:?} is gone in partitions {}",
                listed(&gone)
            );
            Finding::warning(text, "keep records for longer than weir may be down (retention.ms)")
        } else if known == 0 {
            Finding::ok(format!("group {group:?} has not read {topic:?} yet, so it begins where `start` says"))
        } else {
            Finding::ok(format!("group {group:?} is {behind} records behind in {topic:?}"))
        });
    }

    /// Brokers do not tell the time; but a newest record from the future shows that a clock is off.
    fn clock(&self, member: &BaseConsumer<Ear>, topic: &str, partitions: i32) -> Finding {
        let unknown = |what: String| {
            Finding::ok(format!("clocks: not compared, as brokers tell the time only to those who write; {what}"))
        };
        let mut list = TopicPartitionList::new();
        let looked_at = partitions.min(MANY as i32);
        for partition in 0..looked_at {
            if list.add_partition_offset(topic, partition, Offset::OffsetTail(1)).is_err() {
                return unknown("the topic cannot be read".to_owned());
            }
        }
        if let Err(error) = member.assign(&list) {
            return unknown(error.to_string());
        }
        let deadline = Instant::now() + self.limit;
        let (mut open, mut newest) = (looked_at, None);
        while open > 0 && Instant::now() < deadline {
            match member.poll(SLICE) {
                Some(Ok(message)) => newest = newest.max(time_of(message.timestamp())),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(_)) | None => {}
            }
        }
        // The probe ends either way.
        let _ = member.unassign();
        let Some((newest, is_broker_s)) = newest else { return unknown(format!("no record of {topic:?} to look at")) };
        let ahead = newest - now();
        if ahead > SAME_TIME {
            let whose = if is_broker_s { "the brokers' clock" } else { "the clock of whoever wrote it" };
            let text = format!(
                "clocks: the newest record of {topic:?} is {} s from the future: {whose} is ahead of this machine's",
                ahead / 1000
            );
            return Finding::warning(text, "set both by NTP");
        }
        unknown(format!("the newest record of {topic:?} is not from the future"))
    }

    fn client(&self) -> Result<BaseProducer<Ear>, Finding> {
        let made = self.with(&[]).create_with_context(Ear::default());
        made.map_err(|error| Finding::failed(format!("no client can be made: {error}"), "correct the options"))
    }
}

/// Milliseconds since 1970, and whether the broker's clock gave them.
fn time_of(timestamp: Timestamp) -> Option<(i64, bool)> {
    match timestamp {
        Timestamp::NotAvailable => None,
        Timestamp::CreateTime(time) => Some((time, false)),
        Timestamp::LogAppendTime(time) => Some((time, true)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine's clock is what is looked at")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn blocking(work: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Vec<Finding> {
    let failed = |panic| vec![Finding::failed(format!("the probe failed: {panic}"), "report it")];
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Numbers of partitions, for people.
fn listed(partitions: &[i32]) -> String {
    partitions.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}
