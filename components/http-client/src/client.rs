//! The client: one peer, by one or several addresses.

use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use weir::component::Trouble;
use weir::state::Clock;
use weir::{Error, ErrorKind, Result};

use crate::answer::{Answer, Verdict, verdict};
use crate::backoff::Backoff;
use crate::body;
use crate::options::{Address, Settings, header};
use crate::tls;

/// Idle connections kept per host.
const IDLE_CONNECTIONS: usize = 32;
/// How long they are kept.
const IDLE: Duration = Duration::from_secs(60);

/// What is to be sent. Cheap to clone.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Headers beside those of the client.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A `POST` of a body of this type.
    pub fn post(content_type: &'static str, body: impl Into<Bytes>) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Request { method: Method::POST, headers, body: body.into() }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub struct NoAnswer {
    /// The reason, for people.
    pub why: String,
    /// The time for the request is over.
    pub is_late: bool,
}

/// An address, and how it has been.
struct Endpoint {
    address: Address,
    health: Mutex<Health>,
}

/// How an address has been.
#[derive(Default)]
struct Health {
    backoff: Backoff,
    /// It is left alone until then, by [`Clock::uptime`].
    rests_until: Duration,
    why: String,
}

impl Endpoint {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a peer.
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoints: Vec<Endpoint>,
    /// Number of the endpoint that worked last.
    current: Mutex<usize>,
    headers: HeaderMap,
    timeout: Duration,
    answer_limit: usize,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&Address> = self.endpoints.iter().map(|endpoint| &endpoint.address).collect();
        f.debug_struct("Client").field("addresses", &addresses).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of these addresses; nothing is asked yet.
    pub fn new(settings: &Settings<'_>, addresses: Vec<Address>, clock: Arc<dyn Clock>) -> Result<Client> {
        if addresses.is_empty() {
            return Err(Error::unchecked("addresses"));
        }
        let is_encrypted = addresses.iter().any(Address::is_encrypted);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(settings.tls, is_encrypted)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(auth) = settings.auth {
            headers.insert(AUTHORIZATION, auth.header().ok_or_else(|| Error::unchecked("auth"))?);
        }
        Ok(Client {
            pool,
            endpoints: addresses.into_iter().map(|address| Endpoint { address, health: Mutex::default() }).collect(),
            current: Mutex::new(0),
            headers,
            timeout: settings.timeout,
            answer_limit: settings.answer_limit,
            clock,
        })
    }

    /// Sends this header `Authorization` with every request.
    pub fn authorized_by(mut self, header: HeaderValue) -> Client {
        self.headers.insert(AUTHORIZATION, header);
        self
    }

    /// Sends this header with every request.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Client> {
        let (name, value) = header(name, value)
            .map_err(|what| Error::new(ErrorKind::Config, "prepare a header", what).with("header", name.to_owned()))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The addresses, as they may be shown.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.endpoints.iter().map(|endpoint| &endpoint.address)
    }

    /// Sends to one address once, whatever its health, and notes how that went.
    pub async fn send_to(&self, address: usize, request: &Request) -> Verdict {
        let Some(endpoint) = self.endpoints.get(address) else {
            return Verdict::Again { after: None, why: "there is no such address".to_owned() };
        };
        let verdict = match self.ask(address, "", request, self.answer_limit).await {
            Ok(answer) => verdict(answer, self.clock.now()),
            Err(NoAnswer { why, .. }) => Verdict::Again { after: None, why },
        };
        let mut health = endpoint.health();
        match verdict {
            Verdict::Again { after, why } => {
                let why = format!("{}: {why}", endpoint.address);
                let pause = health.backoff.pause().max(after.unwrap_or_default());
                health.rests_until = self.clock.uptime().saturating_add(pause);
                health.why.clone_from(&why);
                Verdict::Again { after, why }
            }
            Verdict::Refused { answer, why } => {
                *health = Health::default();
                Verdict::Refused { answer, why: format!("{}: {why}", endpoint.address) }
            }
            delivered @ Verdict::Delivered(_) => {
                *health = Health::default();
                delivered
            }
        }
    }

    /// How long an address is to be left alone, because it failed.
    pub fn rest_of(&self, address: usize) -> Duration {
        let rests_until = self.endpoints.get(address).map_or(Duration::ZERO, |endpoint| endpoint.health().rests_until);
        rests_until.saturating_sub(self.clock.uptime())
    }

    /// Sends to the address that worked last, or else to the others in turn, each once and only if it does not rest. With
    /// `Again`, `after` is the time until one of them may be asked.
    pub async fn send(&self, request: &Request) -> Verdict {
        let count = self.endpoints.len();
        let first = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        for at in (0..count).map(|step| (first + step) % count) {
            if !self.rest_of(at).is_zero() {
                continue;
            }
            let verdict = self.send_to(at, request).await;
            if !matches!(verdict, Verdict::Again { .. }) {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = at;
                return verdict;
            }
        }
        let after = (0..count).map(|at| self.rest_of(at)).min();
        let reasons: Vec<String> = self.endpoints.iter().map(|endpoint| endpoint.health().why.clone()).collect();
        let why = reasons.into_iter().filter(|why| !why.is_empty()).collect::<Vec<_>>().join("; ");
        Verdict::Again { after, why }
    }

    /// Sends until a peer takes the request or refuses it for good; meanwhile `trouble` says why not. Gives the answer, or
    /// the refusal with its text.
    pub async fn deliver(&self, request: &Request, trouble: &Trouble) -> std::result::Result<Answer, (Answer, String)> {
        loop {
            match self.send(request).await {
                Verdict::Delivered(answer) => {
                    trouble.clear();
                    return Ok(answer);
                }
                Verdict::Refused { answer, why } => {
                    trouble.clear();
                    return Err((answer, why));
                }
                Verdict::Again { after, why } => {
                    if trouble.get().as_ref() != Some(&why) {
                        tracing::warn!(why, "cannot deliver, will try again");
                    }
                    trouble.set(why);
                    self.clock.sleep(after.unwrap_or_default().max(Duration::from_millis(1))).await;
                }
            }
        }
    }

    /// Sends to one address once, whatever its health, and notes nothing. `path`, with its query, is appended to the path of
    /// the address. At most `limit` bytes of the answer's body are read, counted after it is decompressed.
    pub async fn ask(
        &self,
        address: usize,
        path: &str,
        request: &Request,
        limit: usize,
    ) -> std::result::Result<Answer, NoAnswer> {
        let Some(Endpoint { address, .. }) = self.endpoints.get(address) else {
            return Err(NoAnswer { why: "there is no such address".to_owned(), is_late: false });
        };
        let late = |_| NoAnswer { why: format!("no answer within {:?}", self.timeout), is_late: true };
        tokio::time::timeout(self.timeout, self.exchange(&address.join(path), request, limit)).await.map_err(late)?
    }

    async fn exchange(
        &self,
        address: &Address,
        request: &Request,
        limit: usize,
    ) -> std::result::Result<Answer, NoAnswer> {
        let mut asked = hyper::Request::new(Full::new(request.body.clone()));
        *asked.method_mut() = request.method.clone();
        *asked.uri_mut() = address.uri.clone();
        asked.headers_mut().extend(self.headers.clone());
        asked.headers_mut().extend(request.headers.clone());
        let response =
            self.pool.request(asked).await.map_err(|error| NoAnswer { why: failure(&error), is_late: false })?;
        let (head, incoming) = response.into_parts();
        let (body, cut) = body::read(incoming, &head.headers, limit).await;
        Ok(Answer { status: head.status, headers: head.headers, body, cut, hidden: address.hidden.clone() })
    }
}

/// Why a request failed.
fn failure(error: &hyper_util::client::legacy::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) if error.is_connect() => format!("cannot connect: {}", causes(cause)),
        _ => causes(error),
    }
}

/// An error with all that is underneath, in one line. None of hyper's texts holds an address.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    if text.contains("UnsupportedCertVersion") {
        text.push_str("; the peer shows a certificate of X.509 version 1, issue one of version 3 for it");
    }
    text
}

#[cfg(test)]
mod tests;
