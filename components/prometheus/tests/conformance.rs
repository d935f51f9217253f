//! The shared kit: the source as one that is sent requests of remote write.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::component::conformance::{self, PushAnswer, PushClient, PushRequest};
use weir::component::{SourceConfig, async_trait};
use weir_prometheus as _;

/// A request for each connection.
struct Client(SocketAddr);

struct Begun {
    stream: TcpStream,
    rest: Vec<u8>,
}

/// A field that holds bytes, of fewer than 16384.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let length = [length.to_le_bytes()[0] | 0x80, u8::try_from(length >> 7).unwrap()];
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A request of 1.0 with one series, and one point of it.
fn request(value: f64, pad: &str) -> Bytes {
    let label = |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let sample = [&[0x09][..], &value.to_le_bytes(), &[0x10, 1]].concat();
    let series = [label("__name__", "number"), label("pad", pad), field(2, &sample)].concat();
    field(1, &series).into()
}

#[async_trait]
impl PushClient for Client {
    /// A request is one record, and becomes its points behind the source.
    fn events(&self, number: u64) -> Vec<Bytes> {
        vec![request(number as f64, &"-".repeat(1600))]
    }

    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>> {
        let mut stream = TcpStream::connect(self.0).await.ok()?;
        let body = snap::raw::Encoder::new().compress_vec(&events.concat()).unwrap();
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: weir\r\nContent-Type: application/x-protobuf\r\n\
             Content-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let (half, rest) = body.split_at(body.len() / 2);
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(half).await.ok()?;
        Some(Box::new(Begun { stream, rest: rest.to_vec() }))
    }
}

#[async_trait]
impl PushRequest for Begun {
    async fn end(mut self: Box<Self>) -> PushAnswer {
        // A request that is refused early need not be sent to its end.
        let _ = self.stream.write_all(&self.rest).await;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => line.push(byte),
                Err(_) => return PushAnswer::Nothing,
            }
        }
        match line.strip_prefix(b"HTTP/1.1 ").and_then(|line| line.get(..3)) {
            Some(b"204") => PushAnswer::Taken,
            Some(_) => PushAnswer::Refused,
            None => PushAnswer::Nothing,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_answers_for_is_read_and_what_it_refuses_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = json!({
        "type": "prometheus_remote_write", "listen": address.to_string(), "max_decompressed_size": "8KiB", "max_size": "1MiB"
    });
    let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
    let too_much: Vec<Bytes> = (0..3).map(|_| request(-1.0, &"-".repeat(4000))).collect();
    conformance::push_source(&*config, dir.path(), &Client(address), &too_much).await;
}
