//! The client's side, without a runtime.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::{ANSWER, Answer, PATIENCE, REQUEST, Request, SocketPath, too_long};

/// Asks the graph whose folder is `dir`; `None` when no graph runs there. The answers come as they are given. A graph that
/// does not answer is an error after a time.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Option<impl Iterator<Item = io::Result<Answer>> + use<>>> {
    ask_within(dir, request, PATIENCE)
}

fn ask_within(
    dir: &Path,
    request: &Request,
    patience: Duration,
) -> io::Result<Option<impl Iterator<Item = io::Result<Answer>> + use<>>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    if line.len() as u64 > REQUEST {
        return Err(io::Error::new(ErrorKind::InvalidInput, too_long()));
    }
    let explained = move |error| explained(error, patience);
    let no_graph = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let mut stream = match SocketPath::of(dir).and_then(|socket| connect(socket, patience)) {
        Err(error) if no_graph(&error) => return Ok(None),
        stream => stream.map_err(explained)?,
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
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
fn connect(socket: SocketPath, patience: Duration) -> io::Result<UnixStream> {
    let (send, connected) = mpsc::channel();
    let wait = move || {
        // Whoever asked may have given up.
        let _gone = send.send(UnixStream::connect(&socket.path));
    };
    std::thread::Builder::new().name("admin client".to_owned()).spawn(wait)?;
    connected.recv_timeout(patience).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Names what a time-out means.
fn explained(error: io::Error, patience: Duration) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            let text = format!("nothing came within {patience:?}; its process is stopped or overloaded");
            io::Error::new(ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::admin::TapRequest;

    const BRIEFLY: Duration = Duration::from_millis(20);

    #[test]
    fn a_graph_that_never_answers_is_an_error_and_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask_within(dir.path(), &Request::Snapshot, BRIEFLY).unwrap().is_none());
        let _stopped = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        // On a busy machine it may give up before it is connected.
        let error = match ask_within(dir.path(), &Request::Snapshot, BRIEFLY) {
            Ok(answers) => answers.unwrap().next().unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().starts_with("nothing came within 20ms; its process"), "{error}");
    }

    #[test]
    fn a_request_that_is_too_long_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let filter = Some(format!(".message == \"{}\"", "x".repeat(64 << 10)));
        let tap = TapRequest { output: "in".to_owned(), filter, rate: 1, redact: Vec::new() };
        let error = ask_within(dir.path(), &Request::Tap(tap), BRIEFLY).err().unwrap();
        assert_eq!(error.to_string(), "the request is longer than 64 KiB; shorten its filter");
    }

    #[test]
    fn news_of_a_request_under_way_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(b"\"waiting\"\n\"waiting\"\n\"skipped\"\n").unwrap();
        });
        let answers: Vec<_> =
            ask_within(dir.path(), &Request::Snapshot, Duration::from_secs(60)).unwrap().unwrap().collect();
        server.join().unwrap();
        assert!(matches!(&answers[..], [Ok(Answer::Skipped)]), "{answers:?}");
    }
}
