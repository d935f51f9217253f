//! The shared kit, over plain HTTP.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::component::conformance::{self, PushAnswer, PushClient, PushRequest};
use weir::component::{SourceConfig, async_trait};
use weir_http as _;

/// A request for each connection.
struct Client(SocketAddr);

struct Begun {
    stream: TcpStream,
    rest: Vec<u8>,
}

#[async_trait]
impl PushClient for Client {
    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>> {
        let mut stream = TcpStream::connect(self.0).await.ok()?;
        let body = events.join(&b'\n');
        let head = format!(
            "POST /events HTTP/1.1\r\nHost: weir\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
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
            Some(b"200") => PushAnswer::Taken,
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
        "type": "http", "listen": address.to_string(), "path": "/events", "max_body_size": "64KiB", "max_size": "1MiB"
    });
    let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
    let too_much = [Bytes::from("{\"number\":-1}"), Bytes::from(vec![b'7'; 70_000])];
    conformance::push_source(&*config, dir.path(), &Client(address), &too_much).await;
}
