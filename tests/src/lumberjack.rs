//! A sender of events by Lumberjack, as plain as can be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_filebeat::lumberjack::encode::batch;

use crate::wait::PATIENCE;

/// A connection to a source.
#[derive(Debug)]
pub struct Lumberjack(TcpStream);

impl Lumberjack {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Lumberjack> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Lumberjack(stream))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends a window of these events, compressed, and waits until the last is acknowledged.
    pub fn publish<'a>(&mut self, events: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let events: Vec<&[u8]> = events.into_iter().map(str::as_bytes).collect();
        let count = u32::try_from(events.len()).unwrap();
        self.send(&batch(events, Some(3)))?;
        while self.acknowledged()? < count {}
        Ok(())
    }

    /// The sequence of the next acknowledgement.
    pub fn acknowledged(&mut self) -> io::Result<u32> {
        let mut frame = [0; 6];
        self.0.read_exact(&mut frame)?;
        match frame {
            [b'2', b'A', sequence @ ..] => Ok(u32::from_be_bytes(sequence)),
            other => Err(io::Error::other(format!("no acknowledgement: {other:?}"))),
        }
    }

    /// Waits until the receiver has closed the connection; what it said before is not looked at.
    pub fn until_closed(&mut self) -> io::Result<()> {
        let mut said = Vec::new();
        match self.0.read_to_end(&mut said) {
            // What was not read when it was closed comes back as a reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other.map(drop),
        }
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        &self.0
    }
}
