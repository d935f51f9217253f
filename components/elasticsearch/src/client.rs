//! The way to the cluster: addresses and their health, who we are, encryption.
//!
//! Requests go through the transport of the official client, one for each address, because it is this module that knows
//! which of them are well. A request goes to the next address that does not rest. One that failed rests for a while, which
//! doubles from 500 ms up to 30 s, or for as long as its `Retry-After` asks.

use std::error::Error as _;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::auth::ClientCertificate;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use flate2::Compression;
use flate2::write::GzEncoder;
use weir::config::Secret;
use weir::state::Clock;
use weir::{Error, ErrorKind, Result};
use weir_http_client::{Address, Answer, Backoff, Tls, Verdict, verdict};

use crate::config::Auth;
use crate::response::{self, Said};

/// Time for a TCP connection to an address that is not known to be well.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer, beside those for each document.
const ANSWER: u64 = 1 << 20;
/// Bytes of an answer for each document.
const ANSWER_PER_ITEM: u64 = 16 << 10;
/// What is asked to stand in the answer to a bulk request.
const WANTED: [(&str, &str); 1] = [("filter_path", "errors,items.*.status,items.*.error")];

/// How the cluster is reached.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub endpoints: &'a [Secret],
    pub auth: Option<&'a Auth>,
    pub tls: Option<&'a Tls>,
    pub timeout: Duration,
    pub compress: bool,
}

impl Reach<'_> {
    /// The header that says who we are; none where there is nothing to say, or it cannot stand in a header.
    pub fn header(&self) -> Option<HeaderValue> {
        use weir_http_client::Auth as Common;
        match self.auth?.clone() {
            Auth::Basic { username, password } => Common::Basic { username, password }.header(),
            Auth::Bearer { token } => Common::Bearer { token }.header(),
            Auth::ApiKey { key } => {
                let mut header = HeaderValue::try_from(format!("ApiKey {}", key.0)).ok()?;
                header.set_sensitive(true);
                Some(header)
            }
        }
    }

    fn transport(&self, address: &str) -> Result<Transport> {
        let url: Url = address.trim().parse().map_err(|_| Error::unchecked("endpoints"))?;
        let is_encrypted = url.scheme() == "https";
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .disable_proxy()
            .enable_meta_header(false)
            .cert_validation(validation(self.tls, is_encrypted)?)
            // Answers are short, for they are asked to hold little.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.auth.is_some() {
            // Not as the transport's credentials: these hold either a certificate or a password.
            builder = builder.header(AUTHORIZATION, self.header().ok_or_else(|| Error::unchecked("auth"))?);
        }
        if let Some((cert, key)) = self.tls.and_then(|tls| tls.cert_file.as_deref().zip(tls.key_file.as_deref())) {
            let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
            builder = builder.auth(ClientCertificate::Pem(pem).into());
        }
        builder.build().map_err(|error| failed("certificate, key or authorities are refused").caused_by(error))
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Config, "prepare tls", what)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        failed("the file cannot be read; check the path").with("file", path.display()).caused_by(error)
    })
}

fn validation(tls: Option<&Tls>, is_encrypted: bool) -> Result<CertificateValidation> {
    match tls {
        Some(tls) if tls.verify_certificate == Some(false) => Ok(CertificateValidation::None),
        Some(Tls { ca_file: Some(path), .. }) => {
            let none = |error| {
                failed("it holds no certificates; check the path").with("file", path.display()).caused_by(error)
            };
            Ok(CertificateValidation::Full(Certificate::from_pem(&read(path)?).map_err(none)?))
        }
        _ if is_encrypted => Ok(system_authorities()),
        _ => Ok(CertificateValidation::Default),
    }
}

/// The authorities of the operating system; those that come with the client where it has none.
fn system_authorities() -> CertificateValidation {
    let mut all: Option<Certificate> = None;
    for certificate in rustls_native_certs::load_native_certs().certs {
        let Ok(one) = Certificate::from_der(&certificate) else { continue };
        match &mut all {
            Some(all) => all.append(one),
            None => all = Some(one),
        }
    }
    all.map_or(CertificateValidation::Default, CertificateValidation::Full)
}

/// An address, and how it has been.
struct Node {
    address: Address,
    /// Host and port.
    socket: (String, u16),
    transport: Transport,
    health: Mutex<Health>,
}

/// How an address has been.
#[derive(Default)]
struct Health {
    backoff: Backoff,
    /// It answered last time.
    is_well: bool,
    /// It is left alone until then, by [`Clock::uptime`].
    rests_until: Duration,
}

impl Node {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a bulk request ended.
#[derive(Debug)]
pub(crate) enum Sent {
    /// What the server says of each document.
    Said(Vec<Said>),
    /// It is to be sent again.
    Again {
        /// Why, for people.
        why: String,
        /// Because there is too much at once.
        is_push_back: bool,
    },
    /// It is too large.
    TooLarge(String),
    /// The server will not take it as it is; why.
    Refused(String),
}

/// What is asked.
struct Question<'q> {
    method: Method,
    path: &'q str,
    query: &'q [(&'q str, &'q str)],
    headers: HeaderMap,
    body: Option<Bytes>,
    answer_limit: u64,
}

/// The way to the cluster.
pub(crate) struct Client {
    nodes: Vec<Node>,
    turn: AtomicUsize,
    timeout: Duration,
    compress: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&Address> = self.nodes.iter().map(|node| &node.address).collect();
        f.debug_struct("Client").field("addresses", &addresses).finish_non_exhaustive()
    }
}

impl Client {
    /// To these addresses; nothing is asked yet.
    pub fn new(reach: &Reach<'_>, clock: Arc<dyn Clock>) -> Result<Client> {
        let node = |endpoint: &Secret| {
            let address = Address::parse(&endpoint.0).map_err(|_| Error::unchecked("endpoints"))?;
            let url: Url = endpoint.0.trim().parse().map_err(|_| Error::unchecked("endpoints"))?;
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let socket = (host, url.port_or_known_default().unwrap_or(9200));
            Ok(Node { address, socket, transport: reach.transport(&endpoint.0)?, health: Mutex::default() })
        };
        let nodes = reach.endpoints.iter().map(node).collect::<Result<Vec<_>>>()?;
        if nodes.is_empty() {
            return Err(Error::unchecked("endpoints"));
        }
        Ok(Client { nodes, turn: AtomicUsize::new(0), timeout: reach.timeout, compress: reach.compress, clock })
    }

    /// The addresses, as they may be shown.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.nodes.iter().map(|node| &node.address)
    }

    /// Sends a bulk request of so many documents once, to an address that may be asked; where the first fails and another
    /// is well, to that.
    pub async fn bulk(&self, body: &Bytes, documents: usize) -> Sent {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let mut sent = body.clone();
        if self.compress {
            match tokio::task::spawn_blocking(move || gzip(&sent)).await {
                Ok(small) => sent = small,
                Err(_) => return Sent::Again { why: "a request was not compressed".to_owned(), is_push_back: false },
            }
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let question = Question {
            method: Method::Post,
            path: "_bulk",
            query: &WANTED,
            headers,
            body: Some(sent),
            answer_limit: ANSWER + ANSWER_PER_ITEM * documents as u64,
        };
        loop {
            let at = self.well().await;
            let answer = self.ask(at, &question).await;
            let is_push_back = match &answer {
                Ok(answer) => matches!(answer.status.as_u16(), 429 | 502..=504),
                Err((_, is_late)) => *is_late,
            };
            let (after, why) = match answer.map(|answer| verdict(answer, self.clock.now())) {
                Ok(Verdict::Delivered(answer)) => match response::parse(&answer.body, documents) {
                    Ok(said) => {
                        *self.nodes[at].health() = Health { is_well: true, ..Health::default() };
                        return Sent::Said(said);
                    }
                    Err(why) => (None, why),
                },
                Ok(Verdict::Again { after, why }) => (after, why),
                Ok(Verdict::Refused { answer, why }) => {
                    let why = format!("{}: {why}", self.nodes[at].address);
                    let is_too_large = answer.status.as_u16() == 413;
                    return if is_too_large { Sent::TooLarge(why) } else { Sent::Refused(why) };
                }
                Err((why, _)) => (None, why),
            };
            let why = self.let_rest(at, after, why);
            if is_push_back || !self.rest().is_zero() {
                return Sent::Again { why, is_push_back };
            }
        }
    }

    /// Asks an address once, whatever its health.
    pub async fn ask_node(
        &self,
        at: usize,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> std::result::Result<Answer, String> {
        let question = Question { method, path, query: &[], headers: HeaderMap::new(), body, answer_limit: ANSWER };
        self.ask(at, &question).await.map_err(|(why, _)| why)
    }

    /// Asks an address that may be asked.
    pub async fn ask_any(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> std::result::Result<Answer, String> {
        let at = self.well().await;
        self.ask_node(at, method, path, body).await.map_err(|why| self.let_rest(at, None, why))
    }

    /// Waits for an address that does not rest; they take turns.
    async fn well(&self) -> usize {
        loop {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            let count = self.nodes.len();
            let now = self.clock.uptime();
            let is_well = |at: &usize| self.nodes[*at].health().rests_until <= now;
            if let Some(at) = (0..count).map(|step| first.wrapping_add(step) % count).find(is_well) {
                return at;
            }
            self.clock.sleep(self.rest().max(Duration::from_millis(1))).await;
        }
    }

    /// How long until an address may be asked.
    fn rest(&self) -> Duration {
        let now = self.clock.uptime();
        let rest = |node: &Node| node.health().rests_until.saturating_sub(now);
        self.nodes.iter().map(rest).min().unwrap_or_default()
    }

    /// An address failed; gives why, with its name.
    fn let_rest(&self, at: usize, after: Option<Duration>, why: String) -> String {
        let node = &self.nodes[at];
        let mut health = node.health();
        let now = self.clock.uptime();
        health.is_well = false;
        // Others that fail with it, for the same reason, do not make it rest longer.
        let pause = if health.rests_until > now { Duration::ZERO } else { health.backoff.pause() };
        let until = now.saturating_add(pause.max(after.unwrap_or_default()));
        health.rests_until = health.rests_until.max(until);
        format!("{}: {why}", node.address)
    }

    /// The answer to a question; or why there is none, and whether it took too long.
    async fn ask(&self, at: usize, question: &Question<'_>) -> std::result::Result<Answer, (String, bool)> {
        let node = &self.nodes[at];
        if !node.health().is_well {
            knock(&node.socket).await.map_err(|why| (why, false))?;
        }
        let told = |error: elasticsearch::Error| match error.is_timeout() {
            true => (format!("no answer within {:?}", self.timeout), true),
            false => (causes(&error), false),
        };
        let Question { method, path, query, headers, body, answer_limit } = question;
        let mut headers = headers.clone();
        // The transport's own would stand in place of one given to all requests.
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        let sent = node.transport.send(*method, path, headers, Some(query), body.clone(), Some(self.timeout));
        let answer = sent.await.map_err(told)?;
        if let Some(size) = answer.content_length().filter(|size| size > answer_limit) {
            return Err((format!("the answer has {size} bytes, more than {answer_limit}"), false));
        }
        let (status, headers) = (answer.status_code(), answer.headers().clone());
        let body = answer.bytes().await.map_err(told)?;
        Ok(Answer { status, headers, body })
    }
}

/// Whether somebody listens there: a peer that swallows what it is sent would cost the time of a whole request.
async fn knock((host, port): &(String, u16)) -> std::result::Result<(), String> {
    match tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect((host.as_str(), *port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect: {error}")),
        Err(_) => Err(format!("no connection within {CONNECT:?}")),
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // A `Vec` takes every write.
    let _written = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// An error with what is underneath, in one line, without the first two texts, which hold the address with its path.
fn causes(error: &elasticsearch::Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source().and_then(|error| error.source());
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    match texts.is_empty() {
        true => "the request failed".to_owned(),
        false => texts.join(": "),
    }
}

#[cfg(test)]
mod tests;
