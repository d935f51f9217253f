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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval_at, timeout};

use super::sight::Redaction;
use super::{Answer, NEWS, PATIENCE, REQUEST, Request, Sight, SocketPath, TapRequest, too_long};
use crate::graph::Status;
use crate::listen::{Doing, Network, Seat, Seats};
use crate::script::{Condition, Problem};

/// Clients that are being heard or given a short answer; the oldest that is silent makes room for a new one.
const CLIENTS: usize = 16;
/// A client that does not read makes room for others after this time.
const DEAF: Duration = Duration::from_secs(1);
/// A client that does not read is cut off after this time.
const READING: Duration = Duration::from_secs(30);
/// Requests that take long at the same time: so many taps, and so many retries and skips.
const LONG: usize = 16;
/// Pause before another look for a seat.
const BRIEFLY: Duration = Duration::from_millis(100);
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
        let seats = Seats::new(CLIENTS, DEAF);
        let limits = Arc::new(Limits { taps: Arc::new(Semaphore::new(LONG)), actions: Arc::new(Semaphore::new(LONG)) });
        loop {
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely; the graph needs no client.
                    tracing::warn!(%error, "the admin socket cannot take a client");
                    seats.make_room(None);
                    tokio::time::sleep(NEWS).await;
                    continue;
                }
            };
            // Answers take moments: there will be a seat.
            let seat = loop {
                if let Some(seat) = seats.take(Network::LOCAL).await {
                    break seat;
                }
                tokio::time::sleep(BRIEFLY).await;
            };
            let (status, limits) = (status.clone(), limits.clone());
            tokio::spawn(async move {
                if let Err(error) = serve_one(stream, seat, &status, &limits).await {
                    tracing::debug!(%error, "a client of the admin socket left");
                }
            });
        }
    }
}

/// How many clients there may be whose requests take long, by kind, so that one kind leaves room for others.
struct Limits {
    taps: Arc<Semaphore>,
    actions: Arc<Semaphore>,
}

/// A client.
struct Client {
    read: BufReader<tokio::io::Take<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    /// Until it turns out that its request takes long.
    seat: Option<Seat>,
}

async fn serve_one(stream: UnixStream, seat: Seat, status: &Status, limits: &Limits) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let mut client = Client { read: BufReader::new(read.take(REQUEST)), write, seat: Some(seat) };
    let mut line = String::new();
    in_time(client.seat.as_ref(), PATIENCE, client.read.read_line(&mut line)).await?;
    let answer = match serde_json::from_str(&line) {
        _ if line.len() as u64 == REQUEST && !line.ends_with('\n') => Some(Answer::Refused(too_long())),
        Ok(request) => client.answer(request, status, limits).await?,
        Err(error) => Some(Answer::Refused(format!("that is no request: {error}"))),
    };
    if let Some(seat) = &client.seat {
        seat.is(Doing::Idle);
    }
    match answer {
        Some(answer) => client.tell(answer).await,
        None => Ok(()),
    }
}

/// Lets a client read or write: for a time, and as long as no other needs its seat.
async fn in_time<T>(seat: Option<&Seat>, limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let displaced = async {
        match seat {
            Some(seat) => seat.asked_to_leave().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = timeout(limit, work) => done?,
        () = displaced => Err(io::Error::other("it was silent, and others wait")),
    }
}

impl Client {
    /// The last answer to a request; none: the client has left.
    async fn answer(&mut self, request: Request, status: &Status, limits: &Limits) -> io::Result<Option<Answer>> {
        let begun = match request {
            Request::Snapshot => return Ok(Some(Answer::Snapshot(status.snapshot()))),
            Request::Tap(_) => self.begin(&limits.taps, "taps"),
            Request::Retry(_) | Request::Skip { .. } => self.begin(&limits.actions, "retries and skips"),
        };
        let _permit = match begun {
            Ok(permit) => permit,
            Err(why) => return Ok(Some(Answer::Refused(why))),
        };
        Ok(match request {
            Request::Snapshot => None,
            Request::Tap(request) => self.tap(request, status).await?.err().map(Answer::Refused),
            Request::Retry(choice) => Some(match self.wait_for(status.retry(choice)).await? {
                Ok(retried) => Answer::Retried(retried),
                Err(error) => Answer::Refused(error.to_string()),
            }),
            Request::Skip { id, reason } => Some(match self.wait_for(status.skip(&id, reason)).await? {
                Ok(()) => Answer::Skipped,
                Err(why) => Answer::Refused(why),
            }),
        })
    }

    /// Gives the seat to others, as the request takes long, if there are not too many of its kind.
    fn begin(&mut self, kind: &Arc<Semaphore>, name: &str) -> Result<OwnedSemaphorePermit, String> {
        let permit = kind
            .clone()
            .try_acquire_owned()
            .map_err(|_| format!("there are {LONG} {name} under way already; end one of them, then ask again"))?;
        self.seat = None;
        Ok(permit)
    }

    /// Waits for an action, and tells the client every second that it is under way. A client that has left frees its place;
    /// the action goes on.
    async fn wait_for<T>(&mut self, action: impl Future<Output = T>) -> io::Result<T> {
        let mut action = std::pin::pin!(action);
        let mut news = interval_at(Instant::now() + NEWS, NEWS);
        loop {
            tokio::select! {
                biased;
                done = &mut action => return Ok(done),
                _ = news.tick() => self.tell(Answer::Waiting).await?,
            }
        }
    }

    /// Writes an answer; fails if the client does not read it.
    async fn tell(&mut self, answer: Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        in_time(self.seat.as_ref(), READING, self.write.write_all(&line)).await
    }

    /// Shows events until the client closes; what cannot be shown is refused at once.
    async fn tap(&mut self, request: TapRequest, status: &Status) -> io::Result<Result<(), String>> {
        if !RATES.contains(&request.rate) {
            return Ok(Err(format!("the rate is {} to {} events a second", RATES.start(), RATES.end())));
        }
        let mut filter = match request.filter.as_deref().map(Condition::compile).transpose() {
            Ok(filter) => filter.map(|(condition, _warnings)| condition),
            Err(problems) => {
                let texts: Vec<String> = problems.iter().map(Problem::text).collect();
                return Ok(Err(format!("the filter cannot be used: {}", texts.join("; "))));
            }
        };
        let redaction = Redaction::new(&request.redact);
        let mut tapped = match status.tap(&request.output, request.rate) {
            Ok(tapped) => tapped,
            Err(why) => return Ok(Err(why)),
        };
        let mut news = interval_at(Instant::now() + NEWS, NEWS);
        let mut closed = [0];
        loop {
            tokio::select! {
                seen = tapped.seen.recv() => {
                    let Some(seen) = seen else { return Ok(Ok(())) };
                    for event in &seen.events {
                        let holds = match &mut filter {
                            Some(filter) => filter.holds(event, &seen.origin).unwrap_or(false),
                            None => true,
                        };
                        if holds {
                            self.tell(Answer::Sight(Sight::of(event, &seen.origin, &redaction))).await?;
                        }
                    }
                }
                _ = news.tick() => {
                    let missed = tapped.take_missed();
                    self.tell(if missed == 0 { Answer::Waiting } else { Answer::Missed(missed) }).await?;
                }
                // A client says nothing after its request: this is its end.
                _ = self.read.read(&mut closed) => return Ok(Ok(())),
            }
        }
    }
}
