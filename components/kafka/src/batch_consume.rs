//! The one unsafe spot of the crate: a partition's own queue, read many messages at a time.
//!
//! rdkafka's safe `PartitionQueue::poll` costs one event, one `Arc` and two lock rounds a message; on 459-byte
//! records that is more than everything else the source does. `rd_kafka_consume_batch_queue` takes a
//! whole batch with one call. Everything that touches a raw pointer is in this file; what leaves it are borrowed slices.
//!
//! Invariants: a [`Message`] never leaves its [`PartitionQueue`]; the queue holds its consumer, so that librdkafka's
//! handle outlives queue and messages; the wake-up callback is switched off before the `Notify` it uses goes away.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

/// A message, still in librdkafka's memory; given back on drop.
#[repr(transparent)]
pub(crate) struct Message(NonNull<ffi::rd_kafka_message_t>);

// SAFETY: librdkafka's messages belong to whoever took them, on whatever thread.
unsafe impl Send for Message {}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `rd_kafka_consume_batch_queue` and is destroyed once, here.
        unsafe { ffi::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl Message {
    fn raw(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: valid from the consume call until drop.
        unsafe { self.0.as_ref() }
    }

    /// Why this is no record, if it is none.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let err = self.raw().err;
        (err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| err.into())
    }

    /// The text that goes with [`Message::error`].
    pub fn error_text(&self) -> String {
        // SAFETY: returns a static text or the message's own payload, which librdkafka ends with a zero byte.
        let text = unsafe { ffi::rd_kafka_message_errstr(self.0.as_ptr()) };
        // SAFETY: as above; null only for messages without error.
        if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
    }

    /// The record's offset; of an end-of-partition message the next offset to come.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The record's value; `None` for a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: pointer and length describe memory the message owns.
        unsafe { bytes_at(raw.payload, raw.len) }
    }

    /// The record's key.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: pointer and length describe memory the message owns.
        unsafe { bytes_at(raw.key, raw.key_len) }
    }

    /// Milliseconds since the epoch; `None` where the record has no timestamp.
    pub fn timestamp(&self) -> Option<i64> {
        // SAFETY: the type of timestamp is not asked for.
        let time = unsafe { ffi::rd_kafka_message_timestamp(self.0.as_ptr(), ptr::null_mut()) };
        (time >= 0).then_some(time)
    }

    /// Calls `each` with every header, in order.
    pub fn for_each_header(&self, mut each: impl FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: on success `headers` belongs to the message.
        let found = unsafe { ffi::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: all four pointers are valid; an index past the end gives an error.
            let got =
                unsafe { ffi::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
            if got != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: on success the name is a C string and the value `size` bytes, both owned by the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes_at(value, size)) };
            each(&name.to_string_lossy(), value);
        }
    }
}

/// SAFETY: a pointer that is not null must be good for `len` bytes for as long as `'a`.
unsafe fn bytes_at<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: see above.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), len) })
}

/// The queue of one assigned partition, split from the consumer's.
pub(crate) struct PartitionQueue<C: ConsumerContext> {
    /// Taken and not yet used. Before `consumer`, so that it is dropped first.
    messages: Vec<Message>,
    queue: NonNull<ffi::rd_kafka_queue_t>,
    arrived: Arc<Notify>,
    consumer: Arc<BaseConsumer<C>>,
    topic: CString,
    partition: i32,
}

// SAFETY: librdkafka's queues may be used from any thread; the rest is `Send` by itself.
unsafe impl<C: ConsumerContext> Send for PartitionQueue<C> {}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Takes the partition's messages out of the consumer's queue. Call it *before* the partition is assigned:
    /// then none of its messages ever gets into the consumer's queue.
    pub fn split(consumer: &Arc<BaseConsumer<C>>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the handle is alive, the topic a C string; the result is ours to destroy.
        let queue = unsafe { NonNull::new(ffi::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition)) }?;
        let arrived = Arc::new(Notify::new());
        // SAFETY: the queue is ours. The opaque pointer stays valid until `drop` has switched the callback off,
        // which waits for a running one, as both happen under the queue's lock.
        unsafe {
            ffi::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            let opaque = Arc::as_ptr(&arrived).cast_mut().cast();
            ffi::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), opaque);
        }
        Some(PartitionQueue { messages: Vec::new(), queue, arrived, consumer: consumer.clone(), topic, partition })
    }

    /// Takes up to `limit` messages that are there, without waiting.
    pub fn fetch(&mut self, limit: usize) {
        self.messages.reserve(limit);
        let free = self.messages.spare_capacity_mut();
        let room = free.len().min(limit);
        // SAFETY: `Message` has the layout of a pointer; librdkafka writes `taken <= room` of them, none null.
        unsafe {
            let taken = ffi::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, free.as_mut_ptr().cast(), room);
            let taken = usize::try_from(taken).unwrap_or(0).min(room);
            self.messages.set_len(self.messages.len() + taken);
        }
    }

    /// What was fetched and not yet discarded.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Gives the first `n` messages back to librdkafka.
    pub fn discard(&mut self, n: usize) {
        self.messages.drain(..n);
    }

    /// Resolves when messages came into the empty queue. One arrival is remembered, so asking after
    /// a fetch that found nothing misses none.
    pub fn arrived(&self) -> Arc<Notify> {
        self.arrived.clone()
    }

    /// The partition's consumer.
    pub fn consumer(&self) -> &Arc<BaseConsumer<C>> {
        &self.consumer
    }

    /// The end of the log as of the last fetch answer.
    pub fn high_watermark(&self) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: handle and topic are valid, the results are plain numbers.
        let found = unsafe {
            let client = self.consumer.client().native_ptr();
            let topic = self.topic.as_ptr();
            ffi::rd_kafka_get_watermark_offsets(client, topic, self.partition, &raw mut low, &raw mut high)
        };
        (found == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and is not used again; after the first call no callback runs any more.
        unsafe {
            ffi::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
        // A reader that waits shall see that the queue is gone.
        self.arrived.notify_one();
    }
}

/// Called by librdkafka's threads, under the queue's lock, when the empty queue got a message: must not call
/// back into librdkafka.
unsafe extern "C" fn wake(_: *mut ffi::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Notify` given in `split`, alive until the callback is switched off.
    let arrived = unsafe { &*opaque.cast::<Notify>() };
    arrived.notify_one();
}
