//! The way to the cluster: addresses and their health, who we are.
//!
//! A request goes to the next address that does not rest. One that failed rests for a while, which doubles from 500 ms up to
//! 30 s, or for as long as its `Retry-After` asks.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use weir::state::Clock;
use weir::{Error, Result};
use weir_http_client::{
    Address, Answer, Backoff, Client as Http, Cut, HeaderValue, Method, Request, Settings, Tls, Url, Verdict, verdict,
};

use crate::config::Auth;
use crate::response::{self, Said};

/// Maximum bytes of an answer, beside those for each document.
const ANSWER: usize = 1 << 20;
/// Maximum bytes of an answer for each document, beside its own.
const ANSWER_PER_ITEM: usize = 1 << 10;
/// What is asked to stand in the answer to a bulk request.
const WANTED: &str = "filter_path=errors,items.*.status,items.*.error";
/// Maximum time that the server waits for shards or for an index to be made; it must answer before we stop listening.
const SHARDS: Duration = Duration::from_secs(30);

/// How the cluster is reached.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub endpoints: &'a [Url],
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
}

/// How an address has been.
#[derive(Default)]
struct Health {
    backoff: Backoff,
    /// It is left alone until then, by [`Clock::uptime`].
    rests_until: Duration,
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
    /// Its answer is too long; whether it was written is not known.
    LongAnswer(String),
    /// The server will not take it as it is; what it says.
    Refused(Said),
}

/// The way to the cluster.
pub(crate) struct Client {
    http: Http,
    /// How each address has been.
    health: Vec<Mutex<Health>>,
    turn: AtomicUsize,
    /// Path and query of a bulk request.
    bulk: String,
    compress: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.http.fmt(f)
    }
}

impl Client {
    /// To these addresses; nothing is asked yet.
    pub fn new(reach: &Reach<'_>, clock: Arc<dyn Clock>) -> Result<Client> {
        let addresses = reach.endpoints.iter().map(Url::parse).collect::<std::result::Result<Vec<_>, _>>();
        let addresses = addresses.map_err(|_| Error::unchecked("endpoints"))?;
        let health = addresses.iter().map(|_| Mutex::default()).collect();
        let mut settings = Settings::new(None, reach.tls);
        settings.timeout = reach.timeout;
        let mut http = Http::new(&settings, addresses, clock.clone())?;
        if reach.auth.is_some() {
            http = http.authorized_by(reach.header().ok_or_else(|| Error::unchecked("auth"))?);
        }
        let patience = (reach.timeout / 2).min(SHARDS).as_millis().max(1);
        let bulk = format!("/_bulk?{WANTED}&timeout={patience}ms");
        Ok(Client { http, health, turn: AtomicUsize::new(0), bulk, compress: reach.compress, clock })
    }

    /// The addresses, as they may be shown.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.http.addresses()
    }

    /// Sends a bulk request of so many documents once, to an address that may be asked; where the first fails and another
    /// is well, to that.
    pub async fn bulk(&self, body: &Bytes, documents: usize) -> Sent {
        let mut request = Request::post("application/x-ndjson", body.clone());
        if self.compress {
            let plain = body.clone();
            match tokio::task::spawn_blocking(move || gzip(&plain)).await {
                Ok(small) => request.body = small,
                Err(_) => return Sent::Again { why: "a request was not compressed".to_owned(), is_push_back: false },
            }
            request.headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        }
        let limit = answer_limit(documents, body.len());
        loop {
            let at = self.well().await;
            let answer = self.http.ask(at, &self.bulk, &request, limit).await;
            let is_push_back = match &answer {
                Ok(answer) => matches!(answer.status.as_u16(), 429 | 502..=504),
                Err(failure) => failure.is_late,
            };
            let (after, why) = match answer.map(|answer| verdict(answer, self.clock.now())) {
                Ok(Verdict::Delivered(Answer { cut: Some(cut @ Cut::TooLong(_)), .. })) => {
                    return Sent::LongAnswer(self.let_rest(at, None, cut.to_string()));
                }
                Ok(Verdict::Delivered(Answer { cut: Some(cut), .. })) => (None, cut.to_string()),
                Ok(Verdict::Delivered(answer)) => match response::parse(&answer.body, documents) {
                    Ok(said) => {
                        *self.health(at) = Health::default();
                        return Sent::Said(said);
                    }
                    Err(why) => (None, why),
                },
                Ok(Verdict::Again { after, why }) => (after, why),
                Ok(Verdict::Refused { answer, why }) => {
                    return match answer.status.as_u16() {
                        413 => Sent::TooLarge(format!("{}: {why}", self.address(at))),
                        status => Sent::Refused(response::refusal(status, &answer)),
                    };
                }
                Err(failure) => (None, failure.why),
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
        let mut request = Request::post("application/json", body.unwrap_or_default());
        if request.body.is_empty() {
            request.headers.clear();
        }
        request.method = method;
        self.http.ask(at, path, &request, ANSWER).await.map_err(|failure| failure.why)
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

    fn health(&self, at: usize) -> MutexGuard<'_, Health> {
        self.health[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, at: usize) -> String {
        self.addresses().nth(at).map(Address::to_string).unwrap_or_default()
    }

    /// Waits for an address that does not rest; they take turns.
    async fn well(&self) -> usize {
        loop {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            let count = self.health.len();
            let now = self.clock.uptime();
            let is_well = |at: &usize| self.health(*at).rests_until <= now;
            if let Some(at) = (0..count).map(|step| first.wrapping_add(step) % count).find(is_well) {
                return at;
            }
            self.clock.sleep(self.rest().max(Duration::from_millis(1))).await;
        }
    }

    /// How long until an address may be asked.
    fn rest(&self) -> Duration {
        let now = self.clock.uptime();
        let rest = |at| self.health(at).rests_until.saturating_sub(now);
        (0..self.health.len()).map(rest).min().unwrap_or_default()
    }

    /// An address failed; gives why, with its name.
    fn let_rest(&self, at: usize, after: Option<Duration>, why: String) -> String {
        let mut health = self.health(at);
        let now = self.clock.uptime();
        // Others that fail with it, for the same reason, do not make it rest longer.
        let pause = if health.rests_until > now { Duration::ZERO } else { health.backoff.pause() };
        let until = now.saturating_add(pause.max(after.unwrap_or_default()));
        health.rests_until = health.rests_until.max(until);
        format!("{}: {why}", self.address(at))
    }
}

/// Maximum bytes of the answer to a request. An error may quote a field's value twice; where several do so at once and the
/// answer becomes too long, the request is sent again in halves.
fn answer_limit(documents: usize, bytes: usize) -> usize {
    match documents {
        0 | 1 => ANSWER + 8 * bytes,
        _ => ANSWER + ANSWER_PER_ITEM * documents + bytes,
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // A `Vec` takes every write.
    let _written = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
