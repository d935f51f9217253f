//! HTTP to the registry: JSON in, JSON out, with bounds on time and size.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use serde_json::Value as Json;
use weir::{Error, ErrorKind, Result};

use super::options::{RegistryTls, SchemaRegistry};

/// Bytes of an answer, at most.
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
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    urls: Vec<String>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("urls", &self.urls).finish_non_exhaustive()
    }
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "prepare tls for the schema registry", what)
}

/// A configuration with ring as its cryptography; several crates bring along another.
fn tls_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.map_err(|error| failed("the protocol versions are refused").caused_by(error))
}

/// What is in a PEM file.
fn pem(path: &Path) -> Result<Vec<u8>> {
    let read = weir::files::read(path, weir::files::LARGEST);
    read.map_err(|error| failed("the file cannot be read").with("file", path.display()).caused_by(error))
}

fn tls(options: Option<&RegistryTls>) -> Result<ClientConfig> {
    let builder = tls_builder()?;
    let certificates = |path: &Path| {
        let unreadable = |error| failed("it holds no certificates").with("file", path.display()).caused_by(error);
        let bytes = pem(path)?;
        CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<Vec<_>, _>>().map_err(unreadable)
    };
    let builder = match options.and_then(|tls| tls.ca.as_ref()) {
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                let refused = |error| failed("a certificate is refused").with("file", path.display()).caused_by(error);
                roots.add(certificate).map_err(refused)?;
            }
            builder.with_root_certificates(roots)
        }
        None => {
            builder.with_native_roots().map_err(|error| failed("this system has no authorities").caused_by(error))?
        }
    };
    match options.and_then(|tls| tls.cert.as_ref().zip(tls.key.as_ref())) {
        Some((cert, key_path)) => {
            let key = PrivateKeyDer::from_pem_slice(&pem(key_path)?);
            let key =
                key.map_err(|error| failed("it holds no key").with("file", key_path.display()).caused_by(error))?;
            let config = builder.with_client_auth_cert(certificates(cert)?, key);
            config.map_err(|error| {
                failed("certificate and key are refused").with("file", cert.display()).caused_by(error)
            })
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

impl Http {
    pub fn new(options: &SchemaRegistry) -> Result<Http> {
        let is_plain = options.urls().all(|url| url.starts_with("http:"));
        // A system without authorities can ask plain registries all the same.
        let config = match (is_plain, &options.tls) {
            (true, None) => tls_unused()?,
            (_, given) => tls(given.as_ref())?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let authorization = match (&options.username, &options.password) {
            (Some(username), Some(password)) => {
                let encoded = BASE64_STANDARD.encode(format!("{username}:{}", password.0));
                let mut header = HeaderValue::try_from(format!("Basic {encoded}"))
                    .map_err(|error| failed("the user cannot be put into a header").caused_by(error))?;
                header.set_sensitive(true);
                Some(header)
            }
            _ => None,
        };
        Ok(Http {
            client: Client::builder(TokioExecutor::new()).build(connector),
            urls: options.urls().map(str::to_owned).collect(),
            authorization,
            timeout: options.timeout.0,
        })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Json) -> Result<Answer> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Asks one address after the other, until one answers. Errors are temporary.
    async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Answer> {
        let mut last = None;
        for url in &self.urls {
            let url = format!("{url}{path}");
            let asked = tokio::time::timeout(self.timeout, self.ask_one(&method, &url, body));
            let answer = asked.await.unwrap_or_else(|_| Err(temporary(ErrorKind::Unavailable, "no answer in time")));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error.with("url", url)),
            }
        }
        Err(last.unwrap_or_else(|| Error::unchecked("schema_registry.url")))
    }

    async fn ask_one(&self, method: &Method, url: &str, body: Option<&Json>) -> Result<Answer> {
        let unreachable = |what| temporary(ErrorKind::Unavailable, what);
        let mut request = Request::builder().method(method).uri(url).header(ACCEPT, MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE);
        }
        let body = body.map(Json::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| unreachable("that is no address").caused_by(error))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| unreachable("it cannot be reached").caused_by(Causes::of(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body =
            body.map_err(|error| unreachable("an answer broke off or is too large").caused_by(error))?.to_bytes();
        let json: Option<Json> = serde_json::from_slice(&body).ok();
        match (status, json) {
            (status, Some(json)) if status.is_success() => Ok(Answer::Found(json)),
            // 40401: subject, 40402: version, 40403: schema. Any other 404 is none of a registry's.
            (StatusCode::NOT_FOUND, Some(json)) if json.get("error_code").is_some() => Ok(Answer::NotFound),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(temporary(ErrorKind::Denied, "it refuses us; check username, password and rights")
                    .with("status", status))
            }
            (status, json) => {
                let said = json.as_ref().and_then(|json| json.get("message")?.as_str()).unwrap_or("no reason given");
                let said: String = said.chars().take(500).collect();
                Err(unreachable("it did not answer as a registry does").with("status", status).with("said", said))
            }
        }
    }
}

fn temporary(kind: ErrorKind, what: &str) -> Error {
    Error::temporary(kind, "ask the schema registry", what)
}

/// For connections that never use it.
fn tls_unused() -> Result<ClientConfig> {
    Ok(tls_builder()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// An error with all that is underneath, in one line.
#[derive(Debug)]
struct Causes(String);

impl Causes {
    fn of(error: &dyn std::error::Error) -> Causes {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        Causes(text)
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Causes {}

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
