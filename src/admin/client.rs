//! The client's side, without a runtime.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;

use super::{ANSWER, Answer, PATIENCE, Request, SocketPath};

/// Asks the graph whose folder is `dir`; `None` when no graph runs there. The answers come as they are given. A graph that
/// does not answer is an error after a time.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Option<impl Iterator<Item = io::Result<Answer>> + use<>>> {
    let no_graph = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let mut stream = match SocketPath::of(dir).and_then(connect) {
        Err(error) if no_graph(&error) => return Ok(None),
        stream => stream?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(explained)?;
    let mut lines = BufReader::new(stream);
    let answer = move || {
        let mut line = Vec::new();
        match lines.by_ref().take(ANSWER).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(io::Error::from)),
            Err(error) => Some(Err(explained(error))),
        }
    };
    Ok(Some(std::iter::from_fn(answer).filter(|answer| !matches!(answer, Ok(Answer::Waiting)))))
}

/// Connects. Where the server accepts nothing the system lets a client wait without end, so another thread waits for it.
fn connect(socket: SocketPath) -> io::Result<UnixStream> {
    let (send, connected) = mpsc::channel();
    let wait = move || {
        // Whoever asked may have given up.
        let _gone = send.send(UnixStream::connect(&socket.path));
    };
    std::thread::Builder::new().name("admin client".to_owned()).spawn(wait)?;
    connected.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(explained)
}

/// Names what a time-out means.
fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            let text = format!("nothing came within {} s; its process is stopped or overloaded", PATIENCE.as_secs());
            io::Error::new(ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}
