//! What the sink must know of a topic before it writes there: that it is there, and that it takes records as the sink
//! makes them. A topic that is missing is created, where the sink may.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::client::RawValue;
use crate::delivery::Reports;
use crate::destinations::{Destinations, Fit, Refused, denied, missing};
use crate::record::no_name;
use crate::troubles::Subject;

/// Settings for creating a missing topic.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicCreation {
    /// Number of partitions. Default: the broker's default.
    pub(crate) partitions: Option<i32>,
    /// Replication factor. Default: the broker's default.
    pub(crate) replication_factor: Option<i32>,
    /// Topic settings by Kafka's names, such as `retention.ms`. Default: none.
    #[serde(default)]
    pub(crate) config: BTreeMap<String, RawValue>,
}

impl TopicCreation {
    /// The settings as texts.
    fn settings(&self) -> Vec<(&str, String)> {
        self.config.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect()
    }

    /// Asks for the topic. `validate_only`: for an answer, and nothing else.
    pub(crate) async fn create<C: ClientContext>(
        &self,
        admin: &AdminClient<C>,
        topic: &str,
        limit: Duration,
        validate_only: bool,
    ) -> Result<(), KafkaError> {
        let settings = self.settings();
        let replicas = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let mut new = NewTopic::new(topic, self.partitions.unwrap_or(-1), replicas);
        for (name, value) in &settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
        let results = admin.create_topics([&new], &options.validate_only(validate_only)).await?;
        match results.into_iter().next() {
            Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
            _ => Ok(()),
        }
    }

    /// What an existing topic has otherwise, as `partitions 1, not 3`.
    pub(crate) fn differences(&self, partitions: i32, replicas: i32, found: &ConfigResource) -> Vec<String> {
        let number = |name: &str, has: i32, asked: Option<i32>| {
            asked.filter(|asked| *asked != has).map(|asked| format!("{name} {has}, not {asked}"))
        };
        let mut differences: Vec<String> = number("partitions", partitions, self.partitions).into_iter().collect();
        differences.extend(number("replication_factor", replicas, self.replication_factor));
        for (name, asked) in self.settings() {
            let has = found.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("unknown");
            if has != asked {
                differences.push(format!("{name} {has}, not {asked}"));
            }
        }
        differences
    }
}

/// Whether a `cleanup.policy` asks every record for a key.
pub(crate) fn is_compacted(policy: &str) -> bool {
    policy.split(',').any(|part| part.trim() == "compact")
}

/// What is wrong with a compacted topic and a sink that sets no key.
pub(crate) fn needs_key(topic: &str) -> String {
    format!(
        "topic {topic:?} is compacted and the sink sets no key; set key: with what tells its records apart, \
         key: '{{{{ %kafka.key }}}}' to pass on the keys that events came with, or use another topic"
    )
}

/// What is wrong when a missing topic could not be created.
pub(crate) fn not_created(topic: &str, code: Code) -> String {
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            format!("topic {topic:?} does not exist, and we may not create it; grant Create on it, or create it")
        }
        code => format!("topic {topic:?} does not exist, and creating it is refused: {code}; correct create_topic"),
    }
}

/// Whether brokers take this as the name of a topic.
pub(crate) fn is_name(topic: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&topic.len()) && topic.bytes().all(is_legal) && topic != "." && topic != ".."
}

/// The settings of a topic.
pub(crate) async fn settings<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
    limit: Duration,
) -> Result<ConfigResource, KafkaError> {
    let options = AdminOptions::new().request_timeout(Some(limit));
    let results = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await?;
    match results.into_iter().next() {
        Some(Ok(found)) => Ok(found),
        Some(Err(code)) => Err(KafkaError::AdminOp(code)),
        None => Err(KafkaError::AdminOp(Code::UnknownTopicOrPartition)),
    }
}

/// How long brokers may take over one question.
const ANSWER: Duration = Duration::from_secs(5);
/// And over that for a topic's settings, without which it goes as well.
const SETTINGS: Duration = Duration::from_secs(2);

/// What came of asking for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Records may go there.
    Fit,
    /// They are to be rejected.
    Refused(Refused),
    /// Ask again later.
    NotYet,
}

/// Asks the brokers for the topics a sink writes to.
pub(crate) struct Topics {
    config: ClientConfig,
    creation: Option<TopicCreation>,
    sets_key: bool,
    reports: Arc<Reports>,
    /// One asks at a time, so that a topic is asked for once.
    asking: tokio::sync::Mutex<()>,
    /// Made when it is first needed.
    admin: Mutex<Option<Arc<AdminClient<Quiet>>>>,
}

/// The client that asks; that brokers are away is told by the producer.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "asking for a topic");
    }
}

impl Topics {
    /// `config` is that of the producer.
    pub fn new(
        config: &ClientConfig,
        creation: Option<TopicCreation>,
        sets_key: bool,
        reports: Arc<Reports>,
    ) -> Arc<Topics> {
        let (config, asking, admin) = (config.clone(), tokio::sync::Mutex::default(), Mutex::default());
        Arc::new(Topics { config, creation, sets_key, reports, asking, admin })
    }

    /// What is known of all topics.
    pub fn destinations(&self) -> &Destinations {
        &self.reports.destinations
    }

    /// Asks the brokers for a topic, and creates it where that was wanted.
    pub async fn learn(self: &Arc<Self>, topic: &str) -> Known {
        let _one_at_a_time = self.asking.lock().await;
        if self.destinations().fit(topic).is_some() {
            return Known::Fit;
        }
        if let Some(why) = self.destinations().refusal(topic).filter(|_| self.destinations().by_event) {
            return Known::Refused(why);
        }
        let (topics, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || topics.ask(&topic)).await.unwrap_or(Known::NotYet)
    }

    fn ask(&self, topic: &str) -> Known {
        let destinations = self.destinations();
        let subject = Subject::Topic(topic.to_owned());
        match self.look(topic) {
            Ok(fit) => {
                destinations.is_fit(topic, fit);
                self.reports.troubles.clear(|open| *open == subject);
                Known::Fit
            }
            Err(Some(why)) if destinations.by_event => {
                destinations.refuse(topic, why.clone());
                Known::Refused(why)
            }
            Err(Some(why)) => {
                self.reports.troubles.set(subject, why.message);
                Known::NotYet
            }
            Err(None) => Known::NotYet,
        }
    }

    fn admin(&self) -> Option<Arc<AdminClient<Quiet>>> {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        if admin.is_none() {
            *admin = self.config.create_with_context(Quiet).map(Arc::new).ok();
        }
        admin.clone()
    }

    /// `Err(None)`: no answer; the producer's own troubles say why.
    fn look(&self, topic: &str) -> Result<Fit, Option<Refused>> {
        let admin = self.admin().ok_or(None)?;
        let no_answer = |error: KafkaError| {
            tracing::debug!(topic, %error, "nothing is known of the topic");
            None
        };
        let metadata = admin.inner().fetch_metadata(Some(topic), ANSWER).map_err(no_answer)?;
        let found = metadata.topics().first();
        let is_new = match found.and_then(|found| found.error()).map(Code::from) {
            // the leader may be away for a moment
            None | Some(Code::LeaderNotAvailable) => false,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                self.create(&admin, topic)?;
                true
            }
            Some(Code::TopicAuthorizationFailed) => return Err(Some(denied(topic))),
            Some(Code::InvalidTopic) => {
                return Err(Some(Refused { code: "invalid_topic", message: no_name(topic) }));
            }
            Some(_) => return Err(None),
        };
        if self.sets_key && (is_new || self.creation.is_none()) {
            return Ok(Fit { needs_key: false });
        }
        let settings = match Handle::current().block_on(settings(&admin, topic, SETTINGS)) {
            Ok(settings) => settings,
            // Not granted, or brokers that do not know the question or never answer it, though they told of the topic. A
            // record without a key that a compacted topic then refuses is rejected by itself.
            Err(KafkaError::AdminOp(
                code @ (Code::TopicAuthorizationFailed
                | Code::UnsupportedFeature
                | Code::UnsupportedVersion
                | Code::OperationTimedOut
                | Code::RequestTimedOut),
            )) => {
                tracing::info!(topic, %code, "cannot see whether the topic is compacted (DescribeConfigs)");
                return Ok(Fit { needs_key: false });
            }
            Err(error) => {
                tracing::debug!(topic, %error, "the settings of the topic are not known");
                return Err(None);
            }
        };
        let policy = settings.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        let needs_key = !self.sets_key && is_compacted(policy);
        if needs_key && !self.destinations().by_event {
            return Err(Some(Refused { code: "invalid_record", message: self::needs_key(topic) }));
        }
        if let (Some(creation), Some(found), false) = (&self.creation, found, is_new) {
            let partitions = found.partitions();
            let replicas = partitions.first().map_or(0, |partition| partition.replicas().len());
            let differences = creation.differences(partitions.len() as i32, replicas as i32, &settings).join("; ");
            if !differences.is_empty() {
                tracing::warn!(topic, differences, "the topic exists and differs from create_topic; it stays as it is");
            }
        }
        Ok(Fit { needs_key })
    }

    /// Creates a missing topic, where the sink may.
    fn create(&self, admin: &AdminClient<Quiet>, topic: &str) -> Result<(), Option<Refused>> {
        let Some(creation) = &self.creation else {
            // The brokers create none by themselves, so a list of those there are speaks for every name.
            if self.destinations().by_event
                && let Ok(all) = admin.inner().fetch_metadata(None, ANSWER)
            {
                let is_missing = |code| matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic);
                let there = all.topics().iter().filter(|found| !found.error().map(Code::from).is_some_and(is_missing));
                self.destinations().list(there.map(|found| found.name().to_owned()).collect());
            }
            return Err(Some(missing(topic)));
        };
        match Handle::current().block_on(creation.create(admin, topic, ANSWER, false)) {
            Ok(()) => {
                tracing::info!(topic, "created the topic");
                Ok(())
            }
            Err(KafkaError::AdminOp(code)) if code != Code::TopicAlreadyExists => {
                Err(Some(Refused { code: "topic_not_created", message: not_created(topic, code) }))
            }
            // No answer, or somebody else was faster.
            Err(_) => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_brokers_take_is_a_name() {
        for name in ["a", "logs-1.x_Y", &"x".repeat(249)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_policy_that_compacts_among_others_compacts() {
        assert_eq!(["delete", "compact", "delete, compact", "compacted"].map(is_compacted), [false, true, true, false]);
    }
}
