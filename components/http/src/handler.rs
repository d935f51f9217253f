//! The answer to each request.

use bytes::{Buf, Bytes};
use weir::component::{Pushed, async_trait};
use weir_http_server::hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use weir_http_server::hyper::{Method, Response, StatusCode};
use weir_http_server::{Answer, Handler, Head, Ledger, Request, gunzip, refused, with};

use crate::framing::{Divider, Refused};

/// Divides bodies into events, and answers once they are durable.
pub(crate) struct Events {
    pub path: String,
    pub divider: Divider,
    /// Bytes of a body that was decompressed.
    pub limit: usize,
    pub ledger: Ledger,
}

#[async_trait]
impl Handler for Events {
    fn greet(&self, head: &Head) -> Option<Answer> {
        let text = || format!("there is nothing here; send to {}", self.path);
        (head.uri.path() != self.path).then(|| refused(StatusCode::NOT_FOUND, text()))
    }

    fn refuse(&self, head: &Head) -> Option<Answer> {
        if head.method != Method::POST && head.method != Method::PUT {
            let refused = refused(StatusCode::METHOD_NOT_ALLOWED, "send events by POST or PUT");
            return Some(with(refused, ALLOW, "POST, PUT"));
        }
        is_gzip(head).is_none().then(other_encoding)
    }

    async fn take(&self, request: Request) -> Answer {
        self.answer(request).await.unwrap_or_else(|refused| refused)
    }
}

impl Events {
    async fn answer(&self, Request { head, mut body, mut share }: Request) -> Result<Answer, Answer> {
        if is_gzip(&head).ok_or_else(other_encoding)? {
            let decompressed = tokio::task::block_in_place(|| gunzip(&body, self.limit, &mut share));
            body = decompressed.map_err(|missing| missing.answer(self.limit))?;
        }
        body.advance(self.divider.mark(&body).map_err(bad)?);
        let received = self.ledger.now();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let events = self.divider.divide(&body, content_type).map_err(bad)?;
        share.take(body.len()).map_err(|missing| missing.answer(self.limit))?;
        let mut pushed = Pushed::new(received);
        for event in events {
            pushed.push(&body[event]);
        }
        drop(body);
        let count = pushed.len();
        self.ledger.append(pushed).await?;
        let text = format!("{{\"accepted\":{count}}}\n");
        let mut answer = Response::new(Bytes::from(text).into());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
    }
}

/// Whether the body is compressed; none: otherwise than by gzip.
fn is_gzip(head: &Head) -> Option<bool> {
    match head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Some(false),
        Some(b"gzip" | b"x-gzip") => Some(true),
        Some(_) => None,
    }
}

fn other_encoding() -> Answer {
    refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as it is, or compressed by gzip")
}

fn bad(bad: Refused) -> Answer {
    let status = match bad {
        Refused::Bad(_) => StatusCode::BAD_REQUEST,
        Refused::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
    };
    refused(status, bad.to_string())
}
