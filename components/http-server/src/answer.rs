//! Answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

/// What a sender is told.
pub type Answer = Response<Full<Bytes>>;

/// A refusal with a line of text.
pub fn refused(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::from(text.into() + "\n"));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What is left of the body is not read.
    let is_unread =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::SERVICE_UNAVAILABLE);
    if is_unread { with(answer, CONNECTION, "close") } else { answer }
}

/// A refusal of now: the same is to be sent again after so many seconds.
pub fn come_back(what: &str, seconds: u64) -> Answer {
    let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, format!("{what}; send again later"));
    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    answer
}

/// The answer with a header.
pub fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
