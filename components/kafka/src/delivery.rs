//! What the brokers say to each record, and the thread that listens.
//!
//! With `message.timeout.ms: 0` librdkafka tries again by itself for as long as it takes; what is reported as an
//! error is decided here: given to the `errors` port, sent again alone, sent again later, or failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use tokio::runtime::Handle;
use weir::event::Encoding;

use crate::client::{Logs, note_error};
use crate::destinations::{Destinations, Refused, denied};
use crate::flights::{Flights, Row};
use crate::record::{Recorder, Refusal, no_name, no_partition};
use crate::topics::{Known, Topics};
use crate::troubles::{Subject, Troubles};

/// librdkafka's producer with our context.
pub(crate) type KafkaProducer = BaseProducer<SinkClient>;

/// Pause before a record is sent again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for a report; also how soon the end is seen.
const POLL: Duration = Duration::from_millis(100);
/// The same while records wait to be sent again.
const BUSY_POLL: Duration = Duration::from_millis(10);
/// Pause between two looks whether a trouble is over.
const LOOK: Duration = Duration::from_secs(1);

/// What the clients' callbacks write to.
pub(crate) struct Reports {
    pub flights: Flights,
    pub troubles: Troubles,
    pub destinations: Destinations,
    logs: Logs,
    again: Again,
}

/// What the writers and the listening thread share.
pub(crate) struct Common {
    pub reports: Arc<Reports>,
    pub stop: AtomicBool,
    producer: RwLock<Arc<KafkaProducer>>,
}

/// Records to send again.
#[derive(Debug, Default)]
struct Again(Mutex<Vec<(Row, How, Instant)>>);

/// How a record is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As before.
    Together,
    /// In a request of its own: its neighbours were refused together with it, and one of them is to blame.
    Alone,
}

impl Again {
    fn push(&self, row: Row, how: How, after: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((row, how, Instant::now() + after));
    }

    fn take_due(&self) -> Vec<(Row, How)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.extract_if(.., |(_, _, due)| *due <= now).map(|(row, how, _)| (row, how)).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The context of one librdkafka producer. Its methods are called by the thread that polls.
pub(crate) struct SinkClient {
    reports: Arc<Reports>,
    /// Whether it sends each record in a request of its own.
    alone: bool,
}

impl ClientContext for SinkClient {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.reports.logs.write(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) {
            note_error(&self.reports.troubles, &self.reports.logs, &error, reason);
        }
    }
}

impl ProducerContext for SinkClient {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let reports = &self.reports;
        let row = Row::from_opaque(opaque);
        match result {
            Ok(message) => {
                reports.flights.delivered(row);
                if reports.troubles.any() {
                    reports.troubles.clear(|open| match open {
                        Subject::Topic(topic) => topic == message.topic(),
                        Subject::Encoding => false,
                        _ => true,
                    });
                }
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                reports.refused(row, code, message.topic(), message.partition(), self.alone);
            }
        }
    }
}

impl Common {
    /// The first producer, and what its successors will share with it.
    pub fn new(
        config: &ClientConfig,
        flights: Flights,
        troubles: Troubles,
        destinations: Destinations,
    ) -> Result<Arc<Common>, KafkaError> {
        let (logs, again) = (Logs::default(), Again::default());
        let reports = Arc::new(Reports { flights, troubles, destinations, logs, again });
        let producer = RwLock::new(create(config, &reports, false)?);
        Ok(Arc::new(Common { reports, stop: AtomicBool::new(false), producer }))
    }

    /// The producer to use now; after a fatal error it is another.
    pub fn producer(&self) -> Arc<KafkaProducer> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Has the producer look for a topic that it holds to be missing.
pub(crate) fn see_topic(producer: &KafkaProducer, topic: &str) {
    if let Err(error) = producer.client().fetch_metadata(Some(topic), LOOK) {
        tracing::debug!(%error, topic, "the topic is not seen");
    }
}

impl Reports {
    fn reject(&self, row: Row, code: &'static str, message: String) {
        if let Some(batch) = self.flights.rejected(row.slot, &[(row.row, code, message)]) {
            self.flights.context().rejects.reject_blocking(batch);
        }
    }

    fn refused(&self, row: Row, code: RDKafkaErrorCode, topic: &str, partition: i32, was_alone: bool) {
        use RDKafkaErrorCode as Code;
        let reject = |code, message: String| self.reject(row, code, message);
        let again = |subject, text: String| {
            self.troubles.set(subject, text);
            self.again.push(row, How::Together, AGAIN);
        };
        let code = match code {
            Code::UnknownPartition if self.destinations.any_partition => Code::UnknownTopic,
            code => code,
        };
        match code {
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
                if !was_alone =>
            {
                self.again.push(row, How::Alone, Duration::ZERO);
            }
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
                reject("message_too_large", format!("topic {topic:?} takes no record of this size; raise its limit"));
            }
            Code::InvalidRecord => {
                let help = "is it compacted, and the record without key? set key";
                reject("invalid_record", format!("topic {topic:?} does not take the record: {help}"));
            }
            Code::InvalidTimestamp => {
                reject("invalid_timestamp", format!("topic {topic:?} does not take the record's timestamp"));
            }
            Code::PolicyViolation => reject("policy_violation", format!("topic {topic:?} refuses the record")),
            Code::UnknownPartition => reject("unknown_partition", no_partition(topic, Some(partition))),
            Code::InvalidTopic => reject("invalid_topic", no_name(topic)),
            Code::Fatal | Code::PurgeQueue | Code::PurgeInflight => self.flights.failed(row.slot, 1),
            Code::UnknownTopic | Code::UnknownTopicOrPartition if self.destinations.by_event => {
                // Whether it is gone shows when it is asked for anew.
                self.destinations.forget(topic);
                self.again.push(row, How::Together, Duration::ZERO);
            }
            Code::TopicAuthorizationFailed if self.destinations.by_event => {
                let Refused { code, message } = denied(topic);
                self.destinations.refuse(topic, Refused { code, message: message.clone() });
                reject(code, message);
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                let text = format!("topic {topic:?} does not exist; create it");
                again(Subject::Topic(topic.to_owned()), text);
            }
            Code::TopicAuthorizationFailed => {
                let text = format!("we may not write to topic {topic:?}; grant the right");
                again(Subject::Topic(topic.to_owned()), text);
            }
            other => again(Subject::Connection, format!("topic {topic:?} cannot be written: {other}")),
        }
    }
}

/// `alone`: each record in a request of its own.
fn create(config: &ClientConfig, reports: &Arc<Reports>, alone: bool) -> Result<Arc<KafkaProducer>, KafkaError> {
    let mut config = config.clone();
    if alone {
        config.set("batch.num.messages", "1").set("linger.ms", "0");
    }
    let context = SinkClient { reports: reports.clone(), alone };
    Ok(Arc::new(config.create_with_context(context)?))
}

/// The thread that takes the brokers' reports and sends again what has to be.
pub(crate) struct Listener {
    common: Arc<Common>,
    config: ClientConfig,
    recorder: Recorder,
    topics: Arc<Topics>,
    runtime: Handle,
    /// Made when a record first needs it.
    alone: Option<Arc<KafkaProducer>>,
    last_look: Instant,
}

impl Listener {
    /// Must be called within the runtime.
    pub fn new(common: Arc<Common>, config: ClientConfig, recorder: Recorder, topics: Arc<Topics>) -> Listener {
        let runtime = Handle::current();
        Listener { common, config, recorder, topics, runtime, alone: None, last_look: Instant::now() }
    }

    /// Runs until the sink is gone.
    pub fn run(mut self) {
        while !self.common.stop.load(Ordering::Relaxed) {
            let producer = self.common.producer();
            let alone_is_busy = self.alone.as_ref().is_some_and(|alone| alone.in_flight_count() > 0);
            let is_busy = alone_is_busy || !self.common.reports.again.is_empty();
            producer.poll(if is_busy { BUSY_POLL } else { POLL });
            if let Some(alone) = &self.alone {
                alone.poll(Duration::ZERO);
                if alone.client().fatal_error().is_some() {
                    self.alone = None;
                }
            }
            if let Some((_, why)) = producer.client().fatal_error() {
                self.replace(&producer, &why);
            }
            self.send_again();
            self.look_again();
        }
        // What is still in flight is purged with the clients, and so fails: it is read again.
    }

    fn replace(&mut self, dead: &KafkaProducer, why: &str) {
        self.common.reports.troubles.set(Subject::Client, format!("the producer has failed and is replaced: {why}"));
        match create(&self.config, &self.common.reports, false) {
            Ok(fresh) => {
                *self.common.producer.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                self.common.reports.troubles.clear(|open| *open == Subject::Client);
            }
            Err(error) => self.common.reports.logs.write(RDKafkaLogLevel::Error, "CREATE", &error.to_string()),
        }
        // Whatever killed it shall not make us spin; meanwhile the dead one reports what it held.
        dead.poll(AGAIN);
    }

    fn send_again(&mut self) {
        for (row, how) in self.common.reports.again.take_due() {
            let Some(flight) = self.common.reports.flights.flight(row) else { continue };
            let producer = match how {
                How::Together => Some(self.common.producer()),
                How::Alone => self.alone(),
            };
            // What was known of its topic may not be so any more.
            self.recorder.last_topic.clear();
            let sent = match &producer {
                Some(producer) => self.recorder.send(producer, &self.topics, &flight, row),
                None => Err(Refusal::Full),
            };
            match sent {
                Ok(()) => self.common.reports.flights.context().books.bytes(self.recorder.take_bytes()),
                Err(Refusal::Full | Refusal::Dead) => self.common.reports.again.push(row, how, BUSY_POLL),
                // Its topic was known when it was sent first; a topic with the time of day in it is another by now.
                Err(Refusal::Unknown(topic)) => match self.runtime.block_on(self.topics.learn(&topic)) {
                    Known::Refused(Refused { code, message }) => self.common.reports.reject(row, code, message),
                    Known::Fit | Known::NotYet => {
                        if let Some(producer) = &producer {
                            see_topic(producer, &topic);
                        }
                        self.common.reports.again.push(row, how, AGAIN);
                    }
                },
                Err(Refusal::Unprepared(topic)) => {
                    if let Encoding::Other(encoder) = self.recorder.encoding.clone() {
                        // Whether it came to anything shows when the record is encoded again.
                        self.runtime.spawn(async move { encoder.prepare(&topic).await });
                    }
                    self.common.reports.again.push(row, how, AGAIN);
                }
                Err(Refusal::Later(subject, text)) => {
                    self.common.reports.troubles.set(subject, text);
                    self.common.reports.again.push(row, how, AGAIN);
                }
                Err(Refusal::Reject(code, message)) => self.common.reports.reject(row, code, message),
            }
        }
    }

    fn alone(&mut self) -> Option<Arc<KafkaProducer>> {
        if self.alone.is_none() {
            match create(&self.config, &self.common.reports, true) {
                Ok(alone) => self.alone = Some(alone),
                Err(error) => self.common.reports.logs.write(RDKafkaLogLevel::Error, "CREATE", &error.to_string()),
            }
        }
        self.alone.clone()
    }

    /// Asks the brokers, while there is a trouble, whether it is over: without records to send nothing else tells.
    fn look_again(&mut self) {
        let troubles = &self.common.reports.troubles;
        if !troubles.any() || self.last_look.elapsed() < LOOK {
            return;
        }
        self.last_look = Instant::now();
        let producer = self.common.producer();
        let topics = troubles.topics();
        if topics.is_empty() {
            // Any topic's name will do; an answer is an answer.
            if producer.client().fetch_metadata(self.recorder.topic.constant(), LOOK).is_ok() {
                troubles.clear(|open| *open == Subject::Connection);
            }
            return;
        }
        for topic in topics {
            let Ok(metadata) = producer.client().fetch_metadata(Some(&topic), LOOK) else { return };
            troubles.clear(|open| *open == Subject::Connection);
            // One that was never fit may have more wrong with it than that it is missing.
            let is_known = self.common.reports.destinations.fit(&topic).is_some();
            if is_known && metadata.topics().iter().all(|found| found.error().is_none()) {
                troubles.clear(|open| *open == Subject::Topic(topic.clone()));
            }
        }
    }
}
