//! The client's side, without a runtime.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Answer, Request, SocketPath};

/// Asks the graph whose folder is `dir`; `None` when no graph runs there. The answers come as they are given.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Option<impl Iterator<Item = io::Result<Answer>> + use<>>> {
    let no_graph = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let connected = SocketPath::of(dir).and_then(|socket| UnixStream::connect(&socket.path));
    let mut stream = match connected {
        Err(error) if no_graph(&error) => return Ok(None),
        stream => stream?,
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let answer = |line: io::Result<String>| Ok(serde_json::from_str(&line?)?);
    Ok(Some(BufReader::new(stream).lines().map(answer)))
}
