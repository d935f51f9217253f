#![allow(clippy::unwrap_used)]
use std::net::TcpListener;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir::config::Secret;
use weir::state::SystemClock;

use super::*;
use crate::bulk::{BulkServer, Play};

const LINES: &[u8] = b"{\"index\":{\"_index\":\"l\",\"_id\":\"1\"}}\n{\"n\":1}\n";

fn client(endpoints: &[String], auth: Option<&Auth>, compress: bool) -> Client {
    let endpoints: Vec<Url> = endpoints.iter().map(|text| url(text)).collect();
    let reach = Reach { endpoints: &endpoints, auth, tls: None, timeout: Duration::from_secs(5), compress };
    Client::new(&reach, Arc::new(SystemClock::default())).unwrap()
}

fn url(text: &str) -> Url {
    serde_json::from_value(text.into()).unwrap()
}

async fn send(client: &Client) -> Sent {
    client.bulk(&Bytes::from_static(LINES), 1).await
}

fn why(sent: Sent) -> String {
    match sent {
        Sent::Again { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// A port where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn addresses_take_turns_and_one_that_fails_is_left_out() {
    let (a, b) = (BulkServer::start(), BulkServer::start());
    let client = client(&[a.url(), nobody(), b.url()], None, false);
    for _ in 0..20 {
        assert!(matches!(send(&client).await, Sent::Said(said) if said.len() == 1));
    }
    let (a, b) = (a.seen().requests, b.seen().requests);
    assert!(a + b == 20 && a.min(b) >= 5, "{a} and {b}");
}

#[tokio::test]
async fn what_a_status_means() {
    let server = BulkServer::start();
    for (status, expected) in [
        (413, "large"),
        (400, "refused"),
        (422, "refused"),
        (429, "back"),
        (503, "back"),
        (500, "again"),
        (404, "again"),
        (401, "again"),
    ] {
        server.follow(move |_| Play::Status(status));
        // A client of its own for each, for that one rests.
        let found = match send(&client(&[server.url()], None, false)).await {
            Sent::TooLarge(_) => "large",
            Sent::Refused(_) => "refused",
            Sent::Again { is_push_back: true, .. } => "back",
            Sent::Again { .. } => "again",
            Sent::Said(_) => "said",
            Sent::LongAnswer(_) => "long",
        };
        assert_eq!(found, expected, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_or_short_is_none() {
    let server = BulkServer::start();
    for (play, expected) in [(Play::Cut(true), "connection"), (Play::Half, "body"), (Play::Short, "0 of 1 documents")] {
        server.follow(move |_| play.clone());
        let why = why(send(&client(&[server.url()], None, false)).await);
        assert!(why.contains(expected) && why.starts_with(&server.url()), "{why}");
    }
    let why = why(send(&client(&[nobody()], None, false)).await);
    assert!(why.contains("cannot connect"), "{why}");
}

#[tokio::test]
async fn it_says_who_we_are_and_nothing_of_it_is_shown() {
    let server = BulkServer::start();
    let key = Auth::ApiKey { key: Secret("aWQ6c2VjcmV0".to_owned()) };
    let basic = Auth::Basic { username: "u".to_owned(), password: Secret("p".to_owned()) };
    let bearer = Auth::Bearer { token: Secret("t".to_owned()) };
    for (auth, header) in [(&key, "ApiKey aWQ6c2VjcmV0"), (&basic, "Basic dTpw"), (&bearer, "Bearer t")] {
        server.ask_for(Some(header));
        assert!(matches!(send(&client(&[server.url()], Some(auth), true)).await, Sent::Said(_)), "{header}");
    }
    server.ask_for(Some("Bearer other"));
    let url = format!("{}/SECRET", server.url());
    let why = why(send(&client(&[url], Some(&key), false)).await);
    assert!(why.contains("401") && why.contains("check auth") && !why.contains("SECRET"), "{why}");
    let head = server.seen().head.join("\n").to_lowercase();
    assert!(head.contains("user-agent: weir/") && head.contains("application/x-ndjson"), "{head}");
}

#[tokio::test]
async fn files_that_are_missing_or_hold_nothing_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let endpoints = [url("https://es:9200")];
    let told = |tls: &Tls| {
        let reach = Reach {
            endpoints: &endpoints,
            auth: None,
            tls: Some(tls),
            timeout: Duration::from_secs(1),
            compress: false,
        };
        Client::new(&reach, Arc::new(SystemClock::default())).unwrap_err().to_string()
    };
    let tls = Tls { ca_file: Some(path.clone()), ..Tls::default() };
    assert!(told(&tls).contains("ca.pem"), "{}", told(&tls));
    std::fs::write(&path, "nothing").unwrap();
    assert!(told(&tls).contains("holds no certificates"), "{}", told(&tls));
    let tls = Tls { cert_file: Some(path.clone()), key_file: Some(path), ..Tls::default() };
    assert!(told(&tls).contains("holds no private key"), "{}", told(&tls));
}

/// Writes a key and a certificate of an authority of its own, and gives the server's side, which asks for that of clients.
fn identity(folder: &Path) -> tokio_rustls::TlsAcceptor {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (name, what, der) in [
        ("cert.pem", "CERTIFICATE", certified.cert.der().to_vec()),
        ("key.pem", "PRIVATE KEY", certified.signing_key.serialize_der()),
    ] {
        let text = format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64_STANDARD.encode(der));
        std::fs::write(folder.join(name), text).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn both_sides_show_certificates_and_check_them_and_a_password_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let acceptor = identity(folder.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut read = vec![0; 4096];
            let size = stream.read(&mut read).await.unwrap_or(0);
            let is_known = String::from_utf8_lossy(&read[..size]).contains("Bearer t");
            let body = r#"{"items":[{"index":{"status":201}}]}"#;
            let status = if is_known { "200 OK" } else { "401 No" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
    });
    let send = async |tls: Tls| {
        let endpoints = [self::url(&url)];
        let auth = Auth::Bearer { token: Secret("t".to_owned()) };
        let timeout = Duration::from_secs(5);
        let reach = Reach { endpoints: &endpoints, auth: Some(&auth), tls: Some(&tls), timeout, compress: false };
        let client = Client::new(&reach, Arc::new(SystemClock::default())).unwrap();
        match client.bulk(&Bytes::from_static(LINES), 1).await {
            Sent::Said(_) => String::new(),
            other => why(other),
        }
    };
    let file = |name: &str| Some(folder.path().join(name));
    let ours =
        Tls { ca_file: file("cert.pem"), cert_file: file("cert.pem"), key_file: file("key.pem"), ..Tls::default() };
    assert_eq!(send(ours.clone()).await, "");
    let unverified = Tls { ca_file: None, verify_certificate: Some(false), ..ours.clone() };
    assert_eq!(send(unverified).await, "");
    let unknown = send(Tls { ca_file: None, ..ours.clone() }).await;
    assert!(unknown.contains("certificate"), "not of an authority that the system knows: {unknown}");
    let nameless = send(Tls { cert_file: None, key_file: None, ..ours }).await;
    assert!(!nameless.is_empty(), "without a certificate of our own we are not let in");
}
