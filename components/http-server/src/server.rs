//! HTTP on a connection, and the way of a request.

use std::convert::Infallible;
use std::net::SocketAddr;
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
use weir::component::async_trait;
use weir::config::Secret;
use weir::listen::{Doing, Guest, WriteLimit};

use crate::answer::{Answer, come_back, refused, with};
use crate::body::{self, Memory, Share};
use crate::gate::{Lost, Service};

/// What it calls itself in every answer.
pub(crate) const NAME: &str = "weir";
/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
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

/// What every request passes.
pub struct Door {
    pub(crate) handler: Arc<dyn Handler>,
    /// The scheme, and what has to stand behind it.
    pub(crate) authorization: Option<(&'static str, Secret)>,
    pub(crate) body_limit: usize,
    pub(crate) memory: Memory,
    pub(crate) timeout: Duration,
    pub(crate) node: Arc<str>,
}

impl Service for Door {
    async fn serve<S>(&self, stream: S, guest: &Guest)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let timeout = guest.patience(self.timeout);
        let stream = WriteLimit::new(stream, self.timeout);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(HEAD);
        let service = service_fn(|request| async {
            let answer = self.answer(request, guest).await;
            guest.is(Doing::Idle);
            Ok::<_, Infallible>(answer)
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = guest.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(node = &*self.node, %error, "a connection broke off");
        }
    }

    fn lost(&self, _peer: SocketAddr, why: &Lost) {
        tracing::debug!(node = &*self.node, error = %why, "a connection broke off");
    }
}

impl Door {
    async fn answer(&self, request: hyper::Request<Incoming>, guest: &Guest) -> Answer {
        let (head, mut body) = request.into_parts();
        let mut answer = match (guest.admitted().await, guest.is_stopping()) {
            (false, _) => come_back("there are too many connections", 1),
            (_, true) => come_back("weir stops", 5),
            _ => self.pass(head.clone(), &mut body, guest).await.unwrap_or_else(|refused| refused),
        };
        // Who is told to come back may as well find the connection closed; who sends slowly has had his time.
        let is_final = answer.status().is_client_error() && answer.status() != StatusCode::REQUEST_TIMEOUT;
        if is_final && !head.headers.contains_key(EXPECT) {
            body::drain(&mut body).await;
        }
        self.handler.seal(&head, &mut answer);
        with(answer, SERVER, NAME)
    }

    async fn pass(&self, head: Head, body: &mut Incoming, guest: &Guest) -> Result<Answer, Answer> {
        guest.is(Doing::Sending);
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
        guest.is(Doing::Working);
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
