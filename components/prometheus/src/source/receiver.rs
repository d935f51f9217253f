//! The answer to each request, as the specifications of remote write 1.0 and 2.0 want it.
//!
//! Senders give up on what is answered by 400 to 499, and send again what is answered by 429 or 500 to 599. So the first are
//! for what will never be taken, and everything else is a 503.

use std::sync::Arc;

use bytes::Bytes;
use weir::component::{Pushed, async_trait};
use weir_http_server::hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use weir_http_server::hyper::{Method, Response, StatusCode};
use weir_http_server::{Answer, Handler, Head, Ledger, Request, come_back, refused, with};

use crate::remote_write::{Admitted, Limits, Refusal, Version, admit, decompress};

/// Whoever asks here whether somebody listens is answered.
const PING: &str = "/ping";
/// As many bytes a byte of snappy can stand for.
const MOST_RATIO: usize = 22;

const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Takes requests into the log.
pub(super) struct RemoteWrite {
    pub path: Option<String>,
    pub max_decompressed: usize,
    pub limits: Limits,
    pub node: Arc<str>,
    pub ledger: Ledger,
}

#[async_trait]
impl Handler for RemoteWrite {
    fn greet(&self, head: &Head) -> Option<Answer> {
        let path = head.uri.path();
        if path == PING && (head.method == Method::GET || head.method == Method::HEAD) {
            let pong = Response::new(Bytes::from_static(b"pong").into());
            return Some(with(pong, CONTENT_TYPE, "text/plain; charset=utf-8"));
        }
        let expected = self.path.as_deref().filter(|expected| *expected != path)?;
        Some(refused(StatusCode::NOT_FOUND, format!("there is nothing here; send to {expected}")))
    }

    fn refuse(&self, head: &Head) -> Option<Answer> {
        if head.method != Method::POST {
            return Some(with(refused(StatusCode::METHOD_NOT_ALLOWED, "send points by POST"), ALLOW, "POST"));
        }
        if let Err(why) = version(head) {
            return Some(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let encoding = head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
        // Senders before 1.0 said nothing of it.
        let is_snappy = encoding.is_empty() || encoding.eq_ignore_ascii_case(b"snappy");
        let text = "send the body as a block of snappy: Content-Encoding: snappy";
        (!is_snappy).then(|| refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
    }

    async fn take(&self, request: Request) -> Answer {
        self.answer(request).await.unwrap_or_else(|refused| refused)
    }

    fn seal(&self, head: &Head, answer: &mut Answer) {
        if answer.status() == StatusCode::REQUEST_TIMEOUT {
            // The sender would give up on it.
            *answer = come_back("the body did not come in time", 1);
        }
        if version(head) == Ok(Version::V2) && head.method == Method::POST {
            for name in WRITTEN {
                answer.headers_mut().entry(name).or_insert(HeaderValue::from_static("0"));
            }
        }
    }
}

impl RemoteWrite {
    async fn answer(&self, Request { head, body, mut share }: Request) -> Result<Answer, Answer> {
        let version = version(&head).map_err(|why| refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))?;
        // Decompressed, without what is refused, and on its way into the log.
        let most = self.max_decompressed.min(body.len().saturating_mul(MOST_RATIO));
        let declared = snap::raw::decompress_len(&body).unwrap_or(0).min(most);
        let memory = share.take(declared.saturating_mul(3));
        memory.map_err(|missing| missing.answer(self.max_decompressed))?;
        let received = self.ledger.now();
        let admitted = tokio::task::block_in_place(|| {
            let request = decompress(&body, self.max_decompressed)?;
            admit(version, &request, &self.limits)
        });
        drop(body);
        let Admitted { samples, histograms, exemplars, record, refused: why } = admitted.map_err(answer_of)?;
        if let Some(record) = record {
            let mut pushed = Pushed::new(received);
            pushed.push(&record);
            drop(record);
            self.ledger.append(pushed).await?;
        }
        let mut answer = match why {
            None => {
                let mut answer = Answer::default();
                *answer.status_mut() = StatusCode::NO_CONTENT;
                answer
            }
            Some(why) => {
                tracing::warn!(node = &*self.node, %why, "a request was taken in part");
                let text = format!(
                    "{why}; {samples} samples, {histograms} histograms and {exemplars} exemplars of the request were taken"
                );
                refused(StatusCode::BAD_REQUEST, text)
            }
        };
        if version == Version::V2 {
            for (name, count) in WRITTEN.into_iter().zip([samples, histograms, exemplars]) {
                answer.headers_mut().insert(name, count.into());
            }
        }
        Ok(answer)
    }
}

fn answer_of(refusal: Refusal) -> Answer {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
    };
    refused(status, format!("{refusal}; nothing of the request was taken"))
}

/// Which message the body is said to be: without a word 1.0, as senders before it said nothing.
fn version(head: &Head) -> Result<Version, &'static str> {
    const WANTED: &str = "send Content-Type: application/x-protobuf, by itself or with \
                          ;proto=prometheus.WriteRequest for 1.0, or with ;proto=io.prometheus.write.v2.Request for 2.0";
    let Some(said) = head.headers.get(CONTENT_TYPE) else { return Ok(Version::V1) };
    let said = said.to_str().map_err(|_| WANTED)?;
    let mut parts = said.split(';').map(str::trim);
    match parts.next() {
        Some("") if said.trim().is_empty() => return Ok(Version::V1),
        Some(essence) if essence.eq_ignore_ascii_case("application/x-protobuf") => {}
        _ => return Err(WANTED),
    }
    let mut version = Version::V1;
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or(WANTED)?;
        if name.trim().eq_ignore_ascii_case("proto") {
            let value = value.trim().trim_matches('"');
            let known = [Version::V1, Version::V2].into_iter().find(|version| version.message() == value);
            version = known.ok_or(WANTED)?;
        }
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: Option<&str>) -> Result<Version, &'static str> {
        let mut request = weir_http_server::hyper::Request::new(());
        if let Some(value) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, value.parse().unwrap());
        }
        version(&request.into_parts().0)
    }

    #[test]
    fn the_content_type_says_which_message_it_is() {
        let first = [
            None,
            Some(""),
            Some("application/x-protobuf"),
            Some("Application/X-Protobuf;"),
            Some("application/x-protobuf; charset=utf-8"),
            Some("application/x-protobuf;proto=prometheus.WriteRequest"),
        ];
        for said in first {
            assert_eq!(of(said), Ok(Version::V1), "{said:?}");
        }
        let second = [
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "application/x-protobuf ; a=b; Proto=\"io.prometheus.write.v2.Request\"",
        ];
        for said in second {
            assert_eq!(of(Some(said)), Ok(Version::V2), "{said}");
        }
        let neither = [
            ";",
            "application/json",
            "application/x-protobuf2",
            "application/x-protobuf;proto=",
            "application/x-protobuf;proto",
            "application/x-protobuf;proto=io.prometheus.write.v3.Request",
            "application/x-protobuf;proto=prometheus.writerequest",
        ];
        for said in neither {
            assert!(of(Some(said)).unwrap_err().contains("proto=prometheus.WriteRequest"), "{said}");
        }
    }
}
