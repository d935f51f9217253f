//! A sender of events over HTTP/1.1, as plain as can be.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::wait::PATIENCE;

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The lines of the head behind the first.
    pub head: Vec<String>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ String| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.iter().find(|line| value(line)).map(|line| line[name.len() + 1..].trim())
    }
}

/// A connection to a source.
#[derive(Debug)]
pub struct Sender(BufReader<TcpStream>);

impl Sender {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Sender> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Sender(BufReader::new(stream)))
    }

    /// Sends a body to `/events` and waits for the answer. Each of `headers` is a whole line.
    pub fn post(&mut self, headers: &[&str], body: &[u8]) -> io::Result<Answer> {
        self.post_to("/events", headers, body)
    }

    /// The same to another path.
    pub fn post_to(&mut self, path: &str, headers: &[&str], body: &[u8]) -> io::Result<Answer> {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        self.send(head.as_bytes())?;
        // A request that is refused early need not be read to its end.
        let _ = self.send(body);
        self.answer()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Reads an answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let broken = || io::Error::other(format!("no answer of HTTP: {lines:?}"));
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(broken)?;
        let mut answer = Answer { status, head: lines.split_off(1), body: String::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }
}

/// An address of this machine that nobody listened on a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
