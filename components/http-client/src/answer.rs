//! What an answer means; pure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};
use weir::event::Timestamp;

/// The longest that a peer may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Bytes of an answer's text that are shown.
const SHOWN: usize = 300;

/// What a peer said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed, up to the limit.
    pub body: Bytes,
    /// Why the body is incomplete, if it is.
    pub cut: Option<Cut>,
    /// Words of our own address that a peer may repeat and nobody may see.
    pub(crate) hidden: Arc<[String]>,
}

/// Why the body of an answer is incomplete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// It has more bytes than this limit.
    TooLong(usize),
    /// The connection broke, or the bytes cannot be decompressed.
    Broken(String),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::TooLong(limit) => write!(f, "the answer has more than {limit} bytes"),
            Cut::Broken(why) => write!(f, "the answer broke off: {why}"),
        }
    }
}

impl Answer {
    /// The status, and what the body says of it in one line.
    pub fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let words = body.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: String = words.chars().filter(|c| !c.is_control()).collect();
        let words = self.hidden.iter().fold(words, |words, hidden| words.replace(hidden, "***"));
        match words.floor_char_boundary(SHOWN) {
            0 => format!("HTTP {}", self.status),
            end => format!("HTTP {}: {}{}", self.status, &words[..end], if end < words.len() { "..." } else { "" }),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The peer has it.
    Delivered(Answer),
    /// It is to be sent again, after this time where the peer said so.
    Again {
        /// What `Retry-After` asks for.
        after: Option<Duration>,
        /// Why, for people.
        why: String,
    },
    /// Sent again, it would be refused again.
    Refused {
        /// What the peer said.
        answer: Answer,
        /// Why, for people.
        why: String,
    },
}

/// What an answer means that came at this time.
pub fn verdict(answer: Answer, now: Timestamp) -> Verdict {
    let after = retry_after(&answer.headers, now);
    let again = |help: &str| Verdict::Again { after, why: format!("{}{help}", answer.text()) };
    match answer.status.as_u16() {
        200..=299 => Verdict::Delivered(answer),
        401 | 403 | 407 => again("; check auth and its rights"),
        404 | 405 => again("; check the address"),
        300..=399 => again("; redirects are not followed, give the address it points to"),
        408 | 425 | 429 | 500..=599 => again(""),
        _ => Verdict::Refused { why: answer.text(), answer },
    }
}

/// The time to wait that a peer asks for: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
            Duration::from_millis(u64::try_from(until.saturating_sub(now.0)).unwrap_or(0))
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn answer(status: u16, retry: Option<&'static str>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(retry));
        }
        let (status, body) = (StatusCode::from_u16(status).unwrap(), Bytes::from(body.to_owned()));
        Answer { status, headers, body, cut: None, hidden: Arc::default() }
    }

    #[test]
    fn every_status_has_its_verdict() {
        for status in 200..600 {
            let expected = match status {
                200..=299 => "delivered",
                300..=399 | 401 | 403 | 404 | 405 | 407 | 408 | 425 | 429 | 500..=599 => "again",
                _ => "refused",
            };
            let found = match verdict(answer(status, None, ""), Timestamp(0)) {
                Verdict::Delivered(_) => "delivered",
                Verdict::Again { after, .. } => {
                    assert_eq!(after, None);
                    "again"
                }
                Verdict::Refused { .. } => "refused",
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn a_peer_may_say_when_to_come_again() {
        let after = |text| match verdict(answer(503, Some(text), ""), Timestamp(1_445_412_470_500)) {
            Verdict::Again { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_millis(9_500)));
        assert_eq!(after("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999999999"), Some(LONGEST_WAIT));
        assert_eq!(after("Thu, 21 Oct 9999 07:28:00 GMT"), Some(LONGEST_WAIT));
        assert_eq!((after("-1"), after("soon"), after("1.5")), (None, None, None));
    }

    #[test]
    fn an_answer_s_text_is_one_line_of_bounded_length() {
        let text = answer(400, None, "out of order\n  sample \u{1b}[31mred").text();
        assert_eq!(text, "HTTP 400 Bad Request: out of order sample [31mred");
        assert_eq!(answer(503, None, " \n").text(), "HTTP 503 Service Unavailable");
        assert!(answer(400, None, &"\u{e4}".repeat(10_000)).text().len() < SHOWN + 40);
    }
}
