//! The shared kit.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use bytes::Bytes;
use common::{config, free_address};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::component::async_trait;
use weir::component::conformance::{self, PushAnswer, PushClient, PushRequest};
use weir_filebeat::lumberjack::encode::batch;

/// A connection for each window.
struct Sender(SocketAddr);

struct Begun {
    stream: TcpStream,
    rest: Vec<u8>,
    count: u32,
}

#[async_trait]
impl PushClient for Sender {
    /// Large ones: the log is full soon.
    fn events(&self, number: u64) -> Vec<Bytes> {
        (0..4).map(|event| format!("{{\"n\":{},\"pad\":\"{:->4000}\"}}", 4 * number + event, "").into()).collect()
    }

    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>> {
        let mut stream = TcpStream::connect(self.0).await.ok()?;
        let window = batch(events.iter().map(|event| &event[..]), None);
        let (half, rest) = window.split_at(window.len() / 2);
        stream.write_all(half).await.ok()?;
        let count = u32::try_from(events.len()).unwrap();
        Some(Box::new(Begun { stream, rest: rest.to_vec(), count }))
    }
}

#[async_trait]
impl PushRequest for Begun {
    async fn end(mut self: Box<Self>) -> PushAnswer {
        // One that is refused early need not be sent to its end.
        let _ = self.stream.write_all(&self.rest).await;
        let mut frame = [0; 6];
        match self.stream.read_exact(&mut frame).await {
            Ok(_) if frame[2..] == self.count.to_be_bytes() => PushAnswer::Taken,
            // That it waits for room is all that it says; who goes now has it sent to nobody.
            Ok(_) => PushAnswer::Refused,
            // Closed, which is all that a refusal can be.
            Err(_) => PushAnswer::Refused,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_acknowledges_is_read_and_what_it_does_not_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config =
        config(address, json!({"max_frame_size": "64KiB", "max_decompressed_size": "1MiB", "max_size": "2MiB"}));
    let too_much = [Bytes::from("{\"number\":-1}"), Bytes::from(vec![b'7'; 70_000])];
    conformance::push_source(&*config, dir.path(), &Sender(address), &too_much).await;
}
