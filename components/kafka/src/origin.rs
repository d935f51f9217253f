//! One assigned partition as an origin: messages in, events out; commits and seeks back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;
use vrl::value::Value;
use weir::component::{Origin, Read, ReadLimit, async_trait};
use weir::error::{Error, ErrorKind, Result};
use weir::event::{Body, Codec, Event, Meta, OriginId, Position, Timestamp};

use crate::batch_consume::{Message, PartitionQueue};
use crate::consumer::{GroupConsumer, SourceClient};
use crate::control::{Options, Place};
use crate::source::Tombstones;
use crate::starts::Astray;
use crate::troubles::Subject;

/// How long one question to a broker may take before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause before asking again.
const AGAIN: Duration = Duration::from_millis(200);

/// An assigned partition, shared by its lane (through the origin) and the control thread. When the partition
/// is taken from us the control thread takes the queue out, and the lane sees the end of its origin.
pub(crate) struct Partition {
    pub topic: String,
    pub partition: i32,
    queue: Mutex<Option<PartitionQueue<SourceClient>>>,
    /// Everything below is settled; -1 until something is.
    settled: AtomicI64,
    /// The metadata of its commits.
    note: Option<String>,
    /// Why nothing more can be read at its place.
    astray: Mutex<Option<Astray>>,
}

impl Partition {
    pub fn new((topic, partition): &Place, queue: PartitionQueue<SourceClient>, note: Option<String>) -> Partition {
        let (topic, partition, queue) = (topic.clone(), *partition, Mutex::new(Some(queue)));
        Partition { topic, partition, queue, settled: AtomicI64::new(-1), note, astray: Mutex::default() }
    }

    /// Ends reading and committing for good.
    pub fn close(&self) {
        // The queue is dropped outside the lock's statement on purpose: it wakes a waiting reader.
        let queue = self.queue().take();
        drop(queue);
    }

    /// The offset to commit, if anything is settled.
    pub fn settled(&self) -> Option<i64> {
        Some(self.settled.load(Ordering::Acquire)).filter(|&offset| offset >= 0)
    }

    /// Why its lane reads no more although the partition is ours: its next record is gone.
    pub fn astray(&self) -> Option<Astray> {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_astray(&self) -> bool {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn queue(&self) -> MutexGuard<'_, Option<PartitionQueue<SourceClient>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consumer(&self) -> Option<Arc<GroupConsumer>> {
        self.queue().as_ref().map(|queue| queue.consumer().clone())
    }

    /// Where reading begins: behind what the group has committed, else at the beginning of the log, as with
    /// `start: latest` the group commits before it reads.
    fn begin(&self, consumer: &GroupConsumer) -> Option<i64> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, self.partition);
        let committed = consumer.committed_offsets(list, ANSWER).ok()?;
        match committed.elements().first()?.offset() {
            Offset::Offset(offset) => Some(offset),
            Offset::Invalid => consumer.fetch_watermarks(&self.topic, self.partition, ANSWER).ok().map(|(low, _)| low),
            _ => None,
        }
    }

    fn subject(&self) -> Subject {
        Subject::Partition(self.topic.clone(), self.partition)
    }

    fn at(&self, position: Position) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = i64::try_from(position.0).map_err(|_| internal("the position is no offset"))?;
        self.add_to(&mut list, offset).map_err(internal)?;
        Ok(list)
    }

    /// Adds the partition at an offset to a list, as its commits have it.
    pub fn add_to(&self, list: &mut TopicPartitionList, offset: i64) -> KafkaResult<()> {
        let mut element = list.add_partition(&self.topic, self.partition);
        if let Some(note) = &self.note {
            element.set_metadata(note);
        }
        element.set_offset(Offset::Offset(offset))
    }
}

/// The lane's side of a partition.
pub(crate) struct KafkaOrigin {
    id: Arc<OriginId>,
    partition: Arc<Partition>,
    codec: Codec,
    tombstones: Tombstones,
    /// The next offset to come, once one is known.
    next: Option<i64>,
    /// Whether it was put elsewhere than it had come to: what is remembered of its place counts no more.
    has_jumped: bool,
    /// `stop: at_end`: where the log ended when the lane began.
    end: End,
    /// The question where that is, while a broker is to answer it: whoever stops waiting goes on with the same question.
    asked: Option<JoinHandle<KafkaResult<(i64, i64)>>>,
    /// Running mean of a record's size, to fetch about as many as the limit of bytes allows.
    record_size: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Never,
    Unknown,
    Before(i64),
}

/// What one look into the queue gave.
enum Taken {
    Events(Vec<Event>),
    /// Nothing now.
    Nothing,
    /// The partition is not ours any more.
    Closed,
}

impl KafkaOrigin {
    /// `next` is the offset that it was assigned at, where that is known.
    pub fn new(
        id: OriginId,
        partition: Arc<Partition>,
        options: &Options,
        next: Option<i64>,
        has_jumped: bool,
    ) -> KafkaOrigin {
        KafkaOrigin {
            id: Arc::new(id),
            partition,
            codec: options.codec.clone(),
            tombstones: options.tombstones,
            next,
            has_jumped,
            end: if options.at_end { End::Unknown } else { End::Never },
            asked: None,
            record_size: 1024,
        }
    }

    fn has_ended(&self) -> bool {
        matches!((self.end, self.next), (End::Before(end), Some(next)) if next >= end)
    }

    /// Looks where the log ends. Waits for brokers that cannot be reached.
    async fn note_end(&mut self) {
        while let Some(consumer) = self.partition.consumer() {
            let partition = self.partition.clone();
            let ask = move || consumer.fetch_watermarks(&partition.topic, partition.partition, ANSWER);
            let answer = self.asked.get_or_insert_with(|| tokio::task::spawn_blocking(ask)).await;
            self.asked = None;
            match answer {
                Ok(Ok((low, high))) => {
                    self.end = End::Before(high);
                    if low == high {
                        self.next = Some(high);
                    }
                    return;
                }
                Ok(Err(error)) => self.trouble(format!("the end of the log is unknown: {error}")),
                Err(_panic_or_shutdown) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn trouble(&self, what: String) {
        if let Some(consumer) = self.partition.consumer() {
            let Partition { topic, partition, .. } = &*self.partition;
            let text = format!("partition {partition} of topic {topic:?}: {what}");
            consumer.context().troubles.set(self.partition.subject(), text);
        }
    }

    /// Turns what is in the queue into events, without waiting.
    fn take(&mut self, limit: ReadLimit) -> Taken {
        let partition = self.partition.clone();
        let mut guard = partition.queue();
        let Some(queue) = guard.as_mut() else { return Taken::Closed };
        loop {
            if queue.messages().is_empty() {
                queue.fetch((limit.bytes / self.record_size).clamp(1, limit.events.max(1)));
            }
            let Some(first) = queue.messages().first() else { return Taken::Nothing };
            if let Some(code) = first.error() {
                if code == RDKafkaErrorCode::AutoOffsetReset {
                    let astray = Astray { wanted: self.next, why: first.error_text() };
                    *partition.astray.lock().unwrap_or_else(PoisonError::into_inner) = Some(astray);
                    queue.discard(1);
                    return Taken::Nothing;
                }
                self.note_error(queue, code);
                queue.discard(1);
                if self.has_ended() {
                    return Taken::Nothing;
                }
                continue;
            }
            let count = self.fitting(queue.messages(), limit);
            let events = self.events(&queue.messages()[..count]);
            queue.discard(count);
            if self.has_ended() {
                queue.discard(queue.messages().len());
            }
            let troubles = &queue.consumer().context().troubles;
            if troubles.any() {
                let subject = partition.subject();
                troubles.clear(|open| *open == subject || *open == Subject::Connection);
            }
            if !events.is_empty() {
                return Taken::Events(events);
            }
            if self.has_ended() {
                return Taken::Nothing;
            }
        }
    }

    /// How many of the messages, from the first, are records and fit the limit; at least one.
    fn fitting(&mut self, messages: &[Message], limit: ReadLimit) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for message in messages.iter().take(limit.events.max(1)) {
            let size = size_of::<Event>() + message.payload().map_or(0, <[u8]>::len);
            if message.error().is_some() || (count > 0 && bytes + size > limit.bytes) {
                break;
            }
            count += 1;
            bytes += size;
        }
        self.record_size = (self.record_size + bytes / count.max(1)).div_ceil(2);
        count
    }

    /// Copies the records into one buffer that all events share: librdkafka may free its own at once.
    fn events(&mut self, messages: &[Message]) -> Vec<Event> {
        let size = |message: &Message| message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len);
        let mut buffer = BytesMut::with_capacity(messages.iter().map(size).sum());
        for message in messages {
            buffer.put_slice(message.payload().unwrap_or_default());
            buffer.put_slice(message.key().unwrap_or_default());
        }
        let buffer = buffer.freeze();
        let mut events = Vec::with_capacity(messages.len());
        let mut start = 0;
        let mut slice = |bytes: &[u8]| {
            let slice = buffer.slice(start..start + bytes.len());
            start += bytes.len();
            slice
        };
        for message in messages {
            let offset = message.offset();
            if matches!(self.end, End::Before(end) if offset >= end) {
                self.next = Some(offset);
                break;
            }
            let body = match message.payload() {
                Some(payload) => Body::Raw(slice(payload), self.codec.clone()),
                None => Body::Parsed(Value::Null),
            };
            let is_null = self.tombstones == Tombstones::AsNull && message.payload().is_none();
            let key = message.key().map(&mut slice);
            let position = Position(u64::try_from(offset).unwrap_or_default());
            // A record without timestamp (message format 0) is as old as can be.
            let mut event = Event::new(body, position, Timestamp(message.timestamp().unwrap_or_default()));
            let headers = headers(message);
            if key.is_some() || !headers.is_empty() || is_null {
                event.meta = Some(Box::new(Meta { key, headers, is_null, ..Meta::default() }));
            }
            self.next = Some(offset + 1);
            events.push(event);
        }
        events
    }

    fn note_error(&mut self, queue: &PartitionQueue<SourceClient>, code: RDKafkaErrorCode) {
        let Some(message) = queue.messages().first() else { return };
        if code == RDKafkaErrorCode::PartitionEOF {
            self.next = Some(message.offset());
            return;
        }
        let Partition { topic, partition, .. } = &*self.partition;
        let text = format!("partition {partition} of topic {topic:?} cannot be read: {}", message.error_text());
        queue.consumer().context().troubles.set(self.partition.subject(), text);
    }
}

fn headers(message: &Message) -> Vec<(String, Option<Bytes>)> {
    let mut headers = Vec::new();
    message.for_each_header(|name, value| headers.push((name.to_owned(), value.map(Bytes::copy_from_slice))));
    headers
}

fn internal(what: impl ToString) -> Error {
    Error::new(ErrorKind::Internal, "kafka source", what.to_string())
}

#[async_trait]
impl Origin for KafkaOrigin {
    fn id(&self) -> Arc<OriginId> {
        self.id.clone()
    }

    async fn read(&mut self, limit: ReadLimit) -> Result<Read> {
        if self.end == End::Unknown {
            self.note_end().await;
        }
        loop {
            if self.has_ended() {
                return Ok(Read::End);
            }
            if self.partition.is_astray() {
                // The control thread stops the lane, and opens another where reading goes on.
                std::future::pending::<()>().await;
            }
            let arrived = self.partition.queue().as_ref().map(PartitionQueue::arrived);
            match (self.take(limit), arrived) {
                (Taken::Events(events), _) => return Ok(Read::Events(events)),
                (Taken::Closed, _) | (_, None) => return Ok(Read::End),
                // An arrival between the look and this wait is remembered; a dropped wait hands it on.
                (Taken::Nothing, Some(arrived)) if !self.has_ended() => arrived.notified().await,
                (Taken::Nothing, Some(_)) => {}
            }
        }
    }

    async fn commit(&mut self, position: Position) -> Result<()> {
        let list = self.partition.at(position)?;
        let guard = self.partition.queue();
        let Some(queue) = guard.as_ref() else { return Ok(()) };
        let offset = i64::try_from(position.0).unwrap_or(i64::MAX);
        self.partition.settled.store(offset, Ordering::Release);
        match queue.consumer().store_offsets(&list) {
            // The partition is being taken from us; whoever gets it reads again from the last commit.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) | Ok(()) => Ok(()),
            Err(error) => Err(internal(error)),
        }
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let offset = i64::try_from(position.0).unwrap_or(i64::MAX);
        loop {
            let Some(consumer) = self.partition.consumer() else { return Ok(()) };
            if self.partition.is_astray() {
                return Ok(());
            }
            consumer.context().forget_oversize();
            let list = self.partition.at(position)?;
            // librdkafka numbers its fetches: with the call, everything fetched before, in its queue or on the
            // way, is outdated and dropped when it is taken out. What we took out already we drop ourselves.
            let seek = move || match consumer.seek_partitions(list, ANSWER) {
                Ok(list) => list.elements().iter().find_map(|element| element.error().err()).map_or(Ok(()), Err),
                Err(error) => Err(error),
            };
            let sought = tokio::task::spawn_blocking(seek).await.map_err(internal)?;
            if let Some(queue) = self.partition.queue().as_mut() {
                queue.discard(queue.messages().len());
            }
            self.next = Some(offset);
            match sought {
                Ok(()) => return Ok(()),
                // Just assigned: librdkafka does not fetch yet.
                Err(error) => tracing::debug!(%error, topic = %self.partition.topic, "seek is tried again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn resume(&mut self, position: Position, _: &[u8]) -> Result<()> {
        if self.has_jumped {
            return Ok(());
        }
        match self.position().await {
            Some(at) if at == position => Ok(()),
            Some(at) if at > position => {
                // A checkpoint comes before its commit, so this commit is another's.
                let (node, partition) = (&*self.id.node, self.id.partition);
                tracing::warn!(
                    node,
                    topic = self.id.log,
                    partition,
                    remembered = position.0,
                    committed = at.0,
                    "another member has read on since this one had the partition: what is remembered lacks those events"
                );
                Ok(())
            }
            // The group is behind: the crash came between a checkpoint and its commit, which is made up for now. There may
            // be nothing more to read that another commit would come from.
            _ => {
                self.seek(position).await?;
                self.commit(position).await
            }
        }
    }

    async fn position(&mut self) -> Option<Position> {
        if self.next.is_none() {
            let consumer = self.partition.consumer()?;
            let partition = self.partition.clone();
            let ask = move || partition.begin(&consumer);
            self.next = tokio::task::spawn_blocking(ask).await.ok()?;
        }
        self.next.and_then(|next| u64::try_from(next).ok()).map(Position)
    }

    fn lag(&self) -> Option<u64> {
        let high = self.partition.queue().as_ref()?.high_watermark()?;
        u64::try_from(high - self.next?).ok()
    }
}
