//! The source's client context: keeps rebalances for the control thread, turns errors into troubles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::client::{Logs, note_error};
use crate::troubles::{Subject, Troubles};

/// An answer that is too large comes again sooner: librdkafka connects again after 10 s at most, and tells of the same
/// failure every 30 s.
const OVERSIZE_OVER: Duration = Duration::from_secs(60);

/// How long brokers may take over one question, and the pause between two looks at what may have changed.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// A member of a consumer group.
pub(crate) type GroupConsumer = BaseConsumer<SourceClient>;

/// What the group wants of us.
#[derive(Debug)]
pub(crate) enum Rebalance {
    /// These partitions are ours from now on.
    Assign(TopicPartitionList),
    /// These are to be given back.
    Revoke(TopicPartitionList),
}

/// Called by librdkafka on the control thread, while that polls.
#[derive(Debug)]
pub(crate) struct SourceClient {
    pub troubles: Troubles,
    pub logs: Logs,
    rebalances: Mutex<VecDeque<Rebalance>>,
    fatal: Mutex<Option<String>>,
    /// When an answer last was larger than we take.
    oversize: Mutex<Option<Instant>>,
    closing: AtomicBool,
}

impl SourceClient {
    pub fn new(troubles: Troubles) -> SourceClient {
        SourceClient {
            troubles,
            logs: Logs::default(),
            rebalances: Mutex::default(),
            fatal: Mutex::default(),
            oversize: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// What the group asked for since the last call. The group waits for the answer, which is
    /// [`assign`] or [`unassign`].
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether no answer was too large for so long that none will be.
    pub fn is_oversize_over(&self) -> bool {
        let last = *self.oversize.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() > OVERSIZE_OVER)
    }

    /// Reading begins elsewhere: whether an answer is too large will show anew.
    pub fn forget_oversize(&self) {
        *self.oversize.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on rebalances are answered at once, as there are no lanes any more.
    pub fn closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// What made the client unusable, such as another member with our `group_instance_id`.
    pub fn fatal(&self) -> Option<String> {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Enters that the client is not usable any more.
    pub fn set_fatal(&self, text: String) {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }
}

impl ClientContext for SourceClient {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.logs.write(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::TopicAuthorizationFailed) => {
                // `Subscribed topic not available: metrics: Broker: Unknown topic or partition`
                let topic = reason.split(": ").nth(1).unwrap_or_default().to_owned();
                self.troubles.set(Subject::Topic(topic), reason.to_owned());
            }
            // librdkafka drops the connection, and soon asks for the same once more; nothing else tells.
            Some(Code::BadMessage) if reason.contains("receive.message.max.bytes") => {
                *self.oversize.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                let text = "a record is larger than max_record_size and cannot be read; raise it, or step over the record (weir skip)";
                self.troubles.set(Subject::RecordSize, text.to_owned());
            }
            Some(Code::Fatal | Code::FencedInstanceId) => self.set_fatal(reason.to_owned()),
            _ => note_error(&self.troubles, &self.logs, &error, reason),
        }
    }
}

impl ConsumerContext for SourceClient {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assignment = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            if !is_assignment {
                unassign(consumer, list);
            }
            return;
        }
        let rebalance = if is_assignment { Rebalance::Assign(list.clone()) } else { Rebalance::Revoke(list.clone()) };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => self.logs.write(RDKafkaLogLevel::Warning, "COMMIT", &error.to_string()),
        }
    }
}

/// Answers the group: the partitions are taken on.
pub(crate) fn assign(consumer: &GroupConsumer, list: &TopicPartitionList) {
    let answer = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    };
    if let Err(error) = answer {
        tracing::warn!(%error, "kafka assignment is refused");
    }
}

/// Answers the group: the partitions are given back.
pub(crate) fn unassign(consumer: &GroupConsumer, list: &TopicPartitionList) {
    let answer = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    if let Err(error) = answer {
        tracing::warn!(%error, "kafka revocation is refused");
    }
}
