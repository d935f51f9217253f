//! Connections, and the way of a request through them.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, EXPECT, HeaderMap, HeaderValue, SERVER, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use weir::component::async_trait;
use weir::config::Secret;
use weir::state::Clock;

use crate::answer::{Answer, come_back, refused, with};
use crate::body::{self, Memory, Share};
use crate::idle::{Idle, Seat};

/// What it calls itself in every answer.
pub(crate) const NAME: &str = "weir";
/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// Connections beyond the limit that are told so at the same time; further ones wait to be let in.
const TURNED_AWAY: usize = 16;
/// How long such a connection may take for the head of a request.
const TURNED_AWAY_AFTER: Duration = Duration::from_secs(1);
/// Who has been idle for so long makes room for others.
const IDLE: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be taken, as when file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take when the graph stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The head of a request.
pub type Head = hyper::http::request::Parts;

/// A request that has come in.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its body, as it was sent.
    pub body: Bytes,
    /// What it takes of the memory of all; whoever makes more of the body takes that first.
    pub share: Share,
}

/// What a source makes of requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The answer that anyone gets to a request with this head; none: who sends is asked next.
    fn greet(&self, head: &Head) -> Option<Answer>;

    /// Refuses by its head a request of one who may send, before its body is read; none: the body is read.
    fn refuse(&self, head: &Head) -> Option<Answer>;

    /// Answers a request.
    async fn take(&self, request: Request) -> Answer;

    /// The last word on the answer to a request with this head, also on those that the server gives.
    fn seal(&self, _head: &Head, _answer: &mut Answer) {}
}

/// Takes connections.
pub(crate) struct Server {
    pub listener: TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub door: Arc<Door>,
    pub max_connections: u32,
}

/// What every request passes.
pub(crate) struct Door {
    pub handler: Arc<dyn Handler>,
    /// The scheme, and what has to stand behind it.
    pub authorization: Option<(&'static str, Secret)>,
    pub body_limit: usize,
    pub memory: Memory,
    pub timeout: Duration,
    pub node: Arc<str>,
    pub clock: Arc<dyn Clock>,
}

impl Server {
    /// Serves until it is to stop; then answers what is under way.
    pub async fn serve(self, stopping: impl Future<Output = ()>) {
        let mut asked_to_stop = pin!(stopping);
        let Server { listener, tls, door, max_connections } = self;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(node = &*door.node, %address, "listening");
        }
        let connections = Arc::new(Semaphore::new(max_connections as usize));
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let idle = Arc::new(Idle::default());
        let least = IDLE.min(door.timeout / 2);
        let (stop, stopping) = watch::channel(false);
        loop {
            // The semaphores are never closed.
            let Ok(spare) = turned_away.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut asked_to_stop => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(node = &*door.node, %error, "cannot take a connection");
                    idle.ask_to_go(least);
                    door.clock.sleep(PAUSE).await;
                    continue;
                }
            };
            let (permit, is_busy) = match let_in(&connections, &idle, least).await {
                Some(permit) => (permit, false),
                None => (spare, true),
            };
            // Who is turned away has no place to give.
            let seat = if is_busy { Arc::new(Idle::default()).seat() } else { idle.seat() };
            let connection =
                Connection { door: door.clone(), seat, is_busy, stopping: stopping.clone(), _permit: permit };
            tokio::spawn(connection.run(stream, tls.clone()));
        }
        drop(listener);
        stop.send_replace(true);
        let ended = connections.acquire_many(max_connections);
        if tokio::time::timeout(LAST_ANSWERS.min(door.timeout), ended).await.is_err() {
            tracing::warn!(node = &*door.node, "stopped before every request was answered");
        }
    }
}

/// A place among the connections: a free one, or that of one who has not used it for some time.
async fn let_in(connections: &Arc<Semaphore>, idle: &Idle, least: Duration) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = connections.clone().try_acquire_owned() {
        return Some(permit);
    }
    if !idle.ask_to_go(least) {
        return None;
    }
    tokio::time::timeout(PAUSE, connections.clone().acquire_owned()).await.ok()?.ok()
}

/// One connection, as long as it lasts.
struct Connection {
    door: Arc<Door>,
    seat: Seat,
    /// There are too many: every request is told so.
    is_busy: bool,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Answers are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let ended = tokio::select! {
            ended = self.shake_hands(stream, tls) => ended,
            () = self.seat.asked_to_go() => Err(io::Error::other("it was idle, and another needed the place")),
        };
        if let Err(error) = ended {
            tracing::debug!(node = &*self.door.node, %error, "a connection broke off");
        }
    }

    async fn shake_hands(&self, stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
        let Some(tls) = tls else { return self.serve(stream).await };
        match tokio::time::timeout(self.timeout(), tls.accept(stream)).await {
            Ok(stream) => self.serve(stream?).await,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn timeout(&self) -> Duration {
        if self.is_busy { self.door.timeout.min(TURNED_AWAY_AFTER) } else { self.door.timeout }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.timeout()).max_buf_size(HEAD);
        let mut stopping = self.stopping.clone();
        let service = service_fn(|request| async {
            self.seat.works();
            let answer = self.answer(request).await;
            self.seat.waits();
            Ok::<_, Infallible>(answer)
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = turned_true(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(io::Error::other)
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Answer {
        let (head, mut body) = request.into_parts();
        let is_stopping = *self.stopping.borrow();
        let mut answer = match (self.is_busy, is_stopping) {
            (true, _) => come_back("there are too many connections", 1),
            (_, true) => come_back("weir stops", 5),
            _ => self.door.answer(head.clone(), &mut body).await.unwrap_or_else(|refused| refused),
        };
        // Who is told to come back may as well find the connection closed; who sends slowly has had his time.
        let is_final = answer.status().is_client_error() && answer.status() != StatusCode::REQUEST_TIMEOUT;
        if is_final && !head.headers.contains_key(EXPECT) {
            body::drain(&mut body).await;
        }
        self.door.handler.seal(&head, &mut answer);
        with(answer, SERVER, NAME)
    }
}

async fn turned_true(watched: &mut watch::Receiver<bool>) {
    let _ = watched.wait_for(|value| *value).await;
}

impl Door {
    async fn answer(&self, head: Head, body: &mut Incoming) -> Result<Answer, Answer> {
        if let Some(answer) = self.handler.greet(&head) {
            return Ok(answer);
        }
        if let Some(refused) = self.unauthorized(&head.headers) {
            return Err(refused);
        }
        if let Some(refused) = self.handler.refuse(&head) {
            return Err(refused);
        }
        let mut share = self.memory.share();
        let body = body::read(body, self.body_limit, self.timeout, &mut share).await;
        let body = body.map_err(|missing| missing.answer(self.body_limit))?;
        Ok(self.handler.take(Request { head, body, share }).await)
    }

    /// What is answered to whoever may not send.
    fn unauthorized(&self, headers: &HeaderMap) -> Option<Answer> {
        let (scheme, secret) = self.authorization.as_ref()?;
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let (given_scheme, given) = given.split_at_checked(scheme.len()).unwrap_or_default();
        let is_it = given_scheme.eq_ignore_ascii_case(scheme.as_bytes());
        if is_it & is_same(given.trim_ascii(), secret.0.as_bytes()) {
            return None;
        }
        let text = format!("send the right credentials: Authorization: {scheme} ...");
        let challenge = if *scheme == "Basic" { "Basic realm=\"weir\"" } else { "Bearer" };
        Some(with(refused(StatusCode::UNAUTHORIZED, text), WWW_AUTHENTICATE, challenge))
    }
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}
