//! `weir health`: asks a running weir how it is, for container health checks in images without a shell.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Exit;
use crate::args::Health;
use crate::print::{errln, outln};

/// Time for connecting, and for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most that is read of an answer.
const ANSWER: usize = 64 << 10;

pub(super) fn run(args: &Health) -> Exit {
    let graph = match super::graph_or_exit(super::load(&args.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let Some(mut address) = graph.telemetry else {
        errln!("the graph has no telemetry; add `telemetry: {{listen: 127.0.0.1:9598}}`");
        return Exit::BadConfig;
    };
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let path = if args.ready { "/ready" } else { "/health" };
    match ask(address, path) {
        Ok((200, text)) => {
            outln!("{}", text.trim());
            Exit::Ok
        }
        Ok((_, text)) => {
            errln!("{}", text.trim());
            Exit::Failed
        }
        Err(error) => {
            errln!("no answer from http://{address}{path}: {error}");
            Exit::Failed
        }
    }
}

/// GET over HTTP/1.0, which ends with the connection: the status and the body.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    let begun = Instant::now();
    let mut portion = [0; 4096];
    while answer.len() < ANSWER {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut portion)? {
            0 => break,
            count => answer.extend_from_slice(&portion[..count]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::Error::other("that is no HTTP answer"))
}
