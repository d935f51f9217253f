//! Connections, and the answer to each request.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use weir::component::{Lanes, PushLog, Pushed, Trouble};
use weir::config::Secret;
use weir::delivery::JournalError;
use weir::state::Clock;

use crate::body::{self, Memory, Missing, Share};
use crate::framing::{Divider, Refused};

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// Connections beyond the limit that are told so at the same time; further ones wait to be let in.
const TURNED_AWAY: usize = 16;
/// How long to wait when no connection can be taken, as when file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take when the graph stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

type Answer = Response<Full<Bytes>>;

/// Takes connections.
pub(crate) struct Server {
    pub listener: TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub door: Arc<Door>,
    pub max_connections: u32,
}

/// What every request passes.
pub(crate) struct Door {
    pub path: String,
    /// The scheme, and what has to stand behind it.
    pub authorization: Option<(&'static str, Secret)>,
    pub divider: Divider,
    pub body_limit: usize,
    pub memory: Memory,
    pub timeout: Duration,
    pub log: PushLog,
    pub node: Arc<str>,
    pub clock: Arc<dyn Clock>,
    pub trouble: Trouble,
}

impl Server {
    /// Serves until the graph stops; then answers what is under way.
    pub async fn serve(self, lanes: Lanes) {
        let Server { listener, tls, door, max_connections } = self;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(node = &*door.node, %address, path = door.path, "listening");
        }
        let connections = Arc::new(Semaphore::new(max_connections as usize));
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let (stop, stopping) = watch::channel(false);
        loop {
            // The semaphores are never closed.
            let Ok(spare) = turned_away.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = lanes.stopping() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(node = &*door.node, %error, "cannot take a connection");
                    door.clock.sleep(PAUSE).await;
                    continue;
                }
            };
            let (permit, is_busy) = match connections.clone().try_acquire_owned() {
                Ok(permit) => (permit, false),
                Err(_) => (spare, true),
            };
            let connection = Connection { door: door.clone(), is_busy, stopping: stopping.clone(), _permit: permit };
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

/// One connection, as long as it lasts.
struct Connection {
    door: Arc<Door>,
    /// There are too many: every request is told so.
    is_busy: bool,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Answers are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let ended = match tls {
            None => self.serve(stream).await,
            Some(tls) => match tokio::time::timeout(self.door.timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        if let Err(error) = ended {
            tracing::debug!(node = &*self.door.node, %error, "a connection broke off");
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.door.timeout).max_buf_size(HEAD);
        let mut stopping = self.stopping.clone();
        let service = service_fn(|request| async {
            let is_stopping = *self.stopping.borrow();
            Ok::<_, Infallible>(match (self.is_busy, is_stopping) {
                (true, _) => come_back("there are too many connections", 1),
                (_, true) => come_back("weir stops", 5),
                _ => self.door.answer(request).await,
            })
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
}

async fn turned_true(watched: &mut watch::Receiver<bool>) {
    let _ = watched.wait_for(|value| *value).await;
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.take(request).await.unwrap_or_else(|refused| refused)
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        if head.uri.path() != self.path {
            return Err(refused(StatusCode::NOT_FOUND, format!("there is nothing here; send to {}", self.path)));
        }
        if let Some(refused) = self.unauthorized(&head.headers) {
            return Err(refused);
        }
        if head.method != Method::POST && head.method != Method::PUT {
            let refused = refused(StatusCode::METHOD_NOT_ALLOWED, "send events by POST or PUT");
            return Err(with(refused, ALLOW, "POST, PUT"));
        }
        let is_gzip = match head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(_) => {
                return Err(refused(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "send the body as it is, or compressed by gzip",
                ));
            }
        };
        let mut share = self.memory.share();
        let body = self.body(body, is_gzip, &mut share).await.map_err(|missing| self.missing(missing))?;
        let received = self.clock.now();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let events = self.divider.divide(&body, content_type).map_err(|refused| self.bad(refused))?;
        share.take(body.len()).map_err(|missing| self.missing(missing))?;
        let mut pushed = Pushed::new(received);
        for event in events {
            pushed.push(&body[event]);
        }
        drop(body);
        let count = pushed.len();
        self.append(pushed).await?;
        let text = format!("{{\"accepted\":{count}}}\n");
        let mut answer = Response::new(Full::from(text));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
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

    async fn body(&self, body: Incoming, is_gzip: bool, share: &mut Share) -> Result<Bytes, Missing> {
        let body = body::read(body, self.body_limit, self.timeout, share).await?;
        match is_gzip {
            true => tokio::task::block_in_place(|| body::gunzip(&body, self.body_limit, share)),
            false => Ok(body),
        }
    }

    async fn append(&self, pushed: Pushed) -> Result<(), Answer> {
        match self.log.append(pushed).await {
            Ok(()) => {
                self.trouble.clear();
                Ok(())
            }
            Err(JournalError::TooLarge(..)) => {
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "there are too many events for the log; send fewer at once"))
            }
            Err(error) => {
                let what = match &error {
                    JournalError::Full(_) => {
                        format!("{error}: it waits for what is behind this source; raise max_size")
                    }
                    _ => error.to_string(),
                };
                self.trouble.set(&*what);
                Err(come_back(&what, 5))
            }
        }
    }

    fn missing(&self, missing: Missing) -> Answer {
        let text = |status, text: &str| refused(status, text);
        match missing {
            Missing::TooLarge => refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is above {} bytes; send less at once, or raise max_body_size", self.body_limit),
            ),
            Missing::TooSlow => {
                text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; send again, or raise timeout")
            }
            Missing::NoMemory => come_back("too much is being sent at the same time", 1),
            Missing::BrokenOff => text(StatusCode::BAD_REQUEST, "the body breaks off; send it again"),
            Missing::NotGzip => text(
                StatusCode::BAD_REQUEST,
                "the body is not whole gzip, as Content-Encoding says; send it again, or without the header",
            ),
        }
    }

    fn bad(&self, bad: Refused) -> Answer {
        let status = match bad {
            Refused::Bad(_) => StatusCode::BAD_REQUEST,
            Refused::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
        };
        refused(status, bad.to_string())
    }
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

fn refused(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::from(text.into() + "\n"));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What is left of the body is not read.
    let is_unread =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::SERVICE_UNAVAILABLE);
    if is_unread { with(answer, CONNECTION, "close") } else { answer }
}

fn come_back(what: &str, seconds: u64) -> Answer {
    let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, format!("{what}; send again later"));
    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
