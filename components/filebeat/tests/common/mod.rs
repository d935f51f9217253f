//! A source at work, and senders.
#![allow(dead_code, reason = "not every test takes all of it")]

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::component::{
    BuildContext, DetachedLane, DetachedLanes, Lanes, Origin, Read, ReadLimit, SourceConfig, Trouble,
};
use weir::event::Timestamp;
use weir::state::{Clock, DirStorage, SystemClock};
use weir_filebeat as _;

/// Nothing here takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// So much faster goes the clock of the source.
const FASTER: u32 = 20;

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// A clock that goes faster than that of the machine.
#[derive(Default)]
pub struct Quick(SystemClock);

impl Clock for Quick {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Duration {
        self.0.uptime() * FASTER
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.sleep(span / FASTER)
    }
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A source with these options beside `listen`.
pub fn config(address: SocketAddr, options: Value) -> Box<dyn SourceConfig> {
    let mut all = json!({"type": "filebeat", "listen": address.to_string()});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// One that runs; its lane is read by the test.
pub struct Running {
    pub address: SocketAddr,
    pub trouble: Trouble,
    pub origin: Box<dyn Origin>,
    pub lanes: DetachedLanes,
    _end: weir::component::DetachedEnd,
}

impl Running {
    pub async fn start(dir: &Path, options: Value) -> Running {
        let address = free_address();
        let (mut context, _rejected) = BuildContext::detached("in");
        context.storage = Arc::new(DirStorage::open(dir.join("data")).unwrap());
        context.clock = Arc::new(Quick::default());
        context.once = false;
        let source = config(address, options).build(&context).await.unwrap();
        let (open, mut lanes) = Lanes::detached();
        tokio::spawn(source.run(open));
        let DetachedLane { origin, end } = in_time(lanes.next()).await.unwrap();
        Running { address, trouble: context.trouble, origin, lanes, _end: end }
    }

    pub async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// What the log holds next, which is so much.
    pub async fn read(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            let limit = ReadLimit { events: count - all.len(), bytes: 64 << 20 };
            let Read::Events(events) = in_time(self.origin.read(limit)).await.unwrap() else {
                panic!("a push source has no end")
            };
            if let Some(last) = events.last() {
                self.origin.commit(last.position.next()).await.unwrap();
            }
            all.extend(events.iter().map(|event| String::from_utf8_lossy(&event.body.to_bytes()).into_owned()));
        }
        all
    }
}

/// A sender's connection.
pub struct Client<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: &[u8]) {
        in_time(self.0.write_all(bytes)).await.unwrap();
        in_time(self.0.flush()).await.unwrap();
    }

    /// The sequence of the next acknowledgement.
    pub async fn acknowledged(&mut self) -> io::Result<u32> {
        let mut frame = [0; 6];
        in_time(self.0.read_exact(&mut frame)).await?;
        assert_eq!(&frame[..2], b"2A");
        Ok(u32::from_be_bytes(frame[2..].try_into().unwrap()))
    }

    /// Waits until the source has closed it, and gives the sequences that it sent before.
    pub async fn until_closed(mut self) -> Vec<u32> {
        let mut sequences = Vec::new();
        while let Ok(sequence) = self.acknowledged().await {
            sequences.push(sequence);
        }
        sequences
    }
}
