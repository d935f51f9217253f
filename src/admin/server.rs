//! The graph's side.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, timeout};

use super::sight::Redaction;
use super::{Answer, REQUEST, Request, Sight, SocketPath, TapRequest};
use crate::graph::Status;
use crate::script::Condition;

/// Clients at a time; the others wait to be let in.
const CLIENTS: usize = 16;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a reader is told what it missed.
const NEWS: Duration = Duration::from_secs(1);
/// Events a second a client may ask to look at.
const RATES: std::ops::RangeInclusive<u32> = 1..=100_000;

/// The socket, bound and not yet serving.
#[derive(Debug)]
pub struct Server(UnixListener);

impl Server {
    /// Binds the socket in the folder of a graph. Whoever does must hold the folder's lock: a socket that is there
    /// already was left by a process that is gone.
    pub fn bind(dir: &Path) -> io::Result<Server> {
        let socket = SocketPath::of(dir)?;
        match fs::remove_file(&socket.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket.path)?;
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        Ok(Server(listener))
    }

    /// Serves until the process ends.
    pub async fn serve(self, status: Status) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(permit) = clients.clone().acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let status = status.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        if let Err(error) = serve_one(stream, &status).await {
                            tracing::debug!(%error, "a client of the admin socket left");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely; the graph needs no client.
                    tracing::warn!(%error, "the admin socket cannot take a client");
                    tokio::time::sleep(NEWS).await;
                }
            }
        }
    }
}

async fn serve_one(stream: UnixStream, status: &Status) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(REQUEST));
    let mut line = String::new();
    timeout(PATIENCE, read.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Err(error) => Answer::Refused(format!("that is no request: {error}")),
        Ok(Request::Snapshot) => Answer::Snapshot(status.snapshot()),
        Ok(Request::Retry(choice)) => match status.retry(choice).await {
            Ok(retried) => Answer::Retried(retried),
            Err(error) => Answer::Refused(error.to_string()),
        },
        Ok(Request::Skip { id, reason }) => match status.skip(&id, reason).await {
            Ok(()) => Answer::Skipped,
            Err(why) => Answer::Refused(why),
        },
        Ok(Request::Tap(request)) => match tap(request, status, &mut read, &mut write).await? {
            Ok(()) => return Ok(()),
            Err(refused) => Answer::Refused(refused),
        },
    };
    say(&mut write, &[answer]).await
}

async fn say(write: &mut OwnedWriteHalf, answers: &[Answer]) -> io::Result<()> {
    let mut lines = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut lines, answer)?;
        lines.push(b'\n');
    }
    write.write_all(&lines).await
}

/// Shows events until the client closes; what cannot be shown is refused at once.
async fn tap(
    request: TapRequest,
    status: &Status,
    read: &mut BufReader<tokio::io::Take<OwnedReadHalf>>,
    write: &mut OwnedWriteHalf,
) -> io::Result<Result<(), String>> {
    if !RATES.contains(&request.rate) {
        return Ok(Err(format!("the rate is {} to {} events a second", RATES.start(), RATES.end())));
    }
    let mut filter = match request.filter.as_deref().map(Condition::compile).transpose() {
        Ok(filter) => filter.map(|(condition, _warnings)| condition),
        Err(problems) => {
            let texts: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
            return Ok(Err(format!("the filter cannot be used: {}", texts.join("; "))));
        }
    };
    let redaction = Redaction::new(&request.redact);
    let mut tapped = match status.tap(&request.output, request.rate) {
        Ok(tapped) => tapped,
        Err(why) => return Ok(Err(why)),
    };
    let mut news = interval(NEWS);
    let mut closed = [0];
    loop {
        let mut answers = Vec::new();
        tokio::select! {
            seen = tapped.seen.recv() => {
                let Some(seen) = seen else { return Ok(Ok(())) };
                for event in &seen.events {
                    let holds = match &mut filter {
                        Some(filter) => filter.holds(event, &seen.origin).unwrap_or(false),
                        None => true,
                    };
                    if holds {
                        answers.push(Answer::Sight(Sight::of(event, &seen.origin, &redaction)));
                    }
                }
            }
            _ = news.tick() => match tapped.take_missed() {
                0 => {}
                missed => answers.push(Answer::Missed(missed)),
            },
            // A client says nothing after its request: this is its end.
            _ = read.read(&mut closed) => return Ok(Ok(())),
        }
        say(write, &answers).await?;
    }
}
