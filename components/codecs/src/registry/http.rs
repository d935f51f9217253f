//! HTTP to the registry: JSON in, JSON out, with bounds on time and size.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value as Json;
use weir::state::SystemClock;
use weir::{Error, ErrorKind, Result};
use weir_http_client::{Auth, Client, HeaderMap, HeaderValue, Method, Request, Settings, StatusCode, Tls};

use super::options::SchemaRegistry;

/// Maximum bytes of an answer.
const LONGEST: usize = 16 << 20;
/// The registry's own media type; all of them speak it.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What the registry says.
#[derive(Debug)]
pub(crate) enum Answer {
    Found(Json),
    NotFound,
}

/// The way to a registry.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
}

impl Http {
    pub fn new(options: &SchemaRegistry) -> Result<Http> {
        let addresses = options.url.list().map(|url| url.parse()).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(|_| Error::unchecked("schema_registry.url"))?;
        let auth = options.username.as_ref().zip(options.password.as_ref());
        let auth =
            auth.map(|(username, password)| Auth::Basic { username: username.clone(), password: password.clone() });
        let tls = options.tls.as_ref().map(|tls| Tls {
            ca_file: tls.ca.clone(),
            cert_file: tls.cert.clone(),
            key_file: tls.key.clone(),
            verify_certificate: None,
        });
        let mut settings = Settings::new(auth.as_ref(), tls.as_ref());
        settings.timeout = options.timeout.0;
        Ok(Http { client: Client::new(&settings, addresses, Arc::new(SystemClock::default()))? })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Json) -> Result<Answer> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Asks one address after the other, until one answers. Errors are temporary.
    async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Answer> {
        let mut request =
            Request { method, headers: HeaderMap::new(), body: body.map(Json::to_string).unwrap_or_default().into() };
        request.headers.insert("accept", HeaderValue::from_static(MEDIA_TYPE));
        if body.is_some() {
            request.headers.insert("content-type", HeaderValue::from_static(MEDIA_TYPE));
        }
        let mut last = None;
        for (at, address) in self.client.addresses().enumerate() {
            match self.ask_one(at, path, &request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error.with("url", address)),
            }
        }
        Err(last.unwrap_or_else(|| Error::unchecked("schema_registry.url")))
    }

    async fn ask_one(&self, at: usize, path: &str, request: &Request) -> Result<Answer> {
        let unreachable = |what: String| temporary(ErrorKind::Unavailable, what);
        let answer = self.client.ask(at, path, request, LONGEST).await;
        let answer = answer.map_err(|failure| unreachable(format!("it cannot be reached: {}", failure.why)))?;
        if let Some(cut) = answer.cut {
            return Err(unreachable(cut.to_string()));
        }
        let json: Option<Json> = serde_json::from_slice(&answer.body).ok();
        match (answer.status, json) {
            (status, Some(json)) if status.is_success() => Ok(Answer::Found(json)),
            // 40401: subject, 40402: version, 40403: schema. Any other 404 is none of a registry's.
            (StatusCode::NOT_FOUND, Some(json)) if json.get("error_code").is_some() => Ok(Answer::NotFound),
            (status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => {
                let what = "it refuses us; check username, password and rights".to_owned();
                Err(temporary(ErrorKind::Denied, what).with("status", status))
            }
            _ => Err(unreachable(format!("it did not answer as a registry does: {}", answer.text()))),
        }
    }
}

fn temporary(kind: ErrorKind, what: String) -> Error {
    Error::temporary(kind, "ask the schema registry", what)
}

/// A name as one segment of a path (RFC 3986, 2.3).
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn errors_and_options_show_a_registry_by_host_and_port_alone() {
        let options = json!({"url": "http://127.0.0.1:1/S3CRET?k=S3CRET,http://127.0.0.1:2/S3CRET"});
        let options: SchemaRegistry = serde_json::from_value(options).unwrap();
        let error = Http::new(&options).unwrap().get("/schemas/ids/7").await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("http://127.0.0.1:2"), "{error}");
        let shown = format!("{error} {error:?} {options:?}");
        assert!(!shown.contains("S3CRET"), "{shown}");
    }
}
