#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::VecDeque;
use std::path::Path;

use axum::Router;
use axum::body::Bytes as Sent;
use axum::extract::State;
use axum::response::IntoResponse;
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::StatusCode;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir::config::Secret;
use weir::state::SystemClock;

use super::*;
use crate::answer::Cut;
use crate::options::{Auth, Tls};

/// A peer that gives these answers in turn, then 200, and keeps what it was sent.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Log>>);

/// Names and values of headers.
type Headers = &'static [(&'static str, &'static str)];

#[derive(Default)]
struct Log {
    /// Status, headers and body.
    answers: VecDeque<(u16, Headers, Vec<u8>)>,
    seen: Vec<(HeaderMap, Sent)>,
}

impl Peer {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    fn then(self, status: u16, headers: Headers, body: impl Into<Vec<u8>>) -> Peer {
        self.log().answers.push_back((status, headers, body.into()));
        self
    }

    async fn start(&self, listener: TcpListener) {
        let answer = async |State(peer): State<Peer>, headers: HeaderMap, body: Sent| {
            let mut log = peer.log();
            log.seen.push((headers, body));
            let (status, headers, body) = log.answers.pop_front().unwrap_or((200, &[], b"fine".to_vec()));
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            response
        };
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    }

    async fn listen(&self) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/in", listener.local_addr().unwrap());
        self.start(listener).await;
        Address::parse(&address).unwrap()
    }
}

fn client(addresses: Vec<Address>) -> Client {
    Client::new(&Settings::new(None, None), addresses, Arc::new(SystemClock::default())).unwrap()
}

fn request() -> Request {
    Request::post("application/json", "{}")
}

#[tokio::test]
async fn it_says_who_it_is_and_gives_the_answer() {
    let peer = Peer::default().then(202, &[("x-written", "7")], "taken");
    let auth = Auth::Basic { username: "ann".to_owned(), password: Secret("hunter2".to_owned()) };
    let addresses = vec![peer.listen().await];
    let client = Client::new(&Settings::new(Some(&auth), None), addresses, Arc::new(SystemClock::default()));
    let client = client.unwrap().with_header("X-Scope-OrgID", "one").unwrap();
    let Verdict::Delivered(answer) = client.send(&request()).await else { panic!("it is delivered") };
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (202, &b"taken"[..]));
    assert_eq!(answer.headers["x-written"], "7");
    let (headers, body) = peer.log().seen[0].clone();
    for (name, value) in
        [("authorization", "Basic YW5uOmh1bnRlcjI="), ("x-scope-orgid", "one"), ("content-type", "application/json")]
    {
        assert_eq!(headers[name], value);
    }
    assert_eq!(body, "{}");
    assert!(!format!("{client:?} {auth:?}").contains("hunter2"));
}

#[tokio::test]
async fn where_an_address_fails_the_next_is_asked_and_stays_in_use() {
    let (bad, good) = (Peer::default().then(503, &[("retry-after", "300")], "full"), Peer::default());
    let client = client(vec![bad.listen().await, good.listen().await]);
    for _ in 0..3 {
        assert!(matches!(client.send(&request()).await, Verdict::Delivered(_)));
    }
    assert_eq!((bad.log().seen.len(), good.log().seen.len()), (1, 3));
    assert!(client.rest_of(0) > Duration::from_secs(290), "it asked for a pause: {:?}", client.rest_of(0));
    assert!(client.rest_of(1).is_zero());
}

#[tokio::test]
async fn it_goes_on_until_the_peer_is_there_and_says_why_not() {
    // An address that nobody listens at, yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Arc::new(client(vec![Address::parse(&format!("http://{address}")).unwrap()]));
    let trouble = Trouble::default();
    let delivery = tokio::spawn({
        let (client, trouble) = (client.clone(), trouble.clone());
        async move { client.deliver(&request(), &trouble).await }
    });
    let said = async {
        loop {
            if let Some(said) = trouble.get() {
                return said;
            }
            tokio::task::yield_now().await;
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(20), said).await.expect("it says why it waits");
    assert!(said.contains(&address.to_string()) && said.contains("refused"), "{said}");
    Peer::default().then(500, &[], "").start(TcpListener::bind(address).await.unwrap()).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), delivery).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), trouble.get()), (200, None));
}

#[tokio::test]
async fn what_is_refused_is_not_sent_again() {
    let peer = Peer::default().then(400, &[], "out of order");
    let client = client(vec![peer.listen().await]);
    let trouble = Trouble::default();
    let (answer, why) = client.deliver(&request(), &trouble).await.unwrap_err();
    assert_eq!(answer.status.as_u16(), 400);
    assert!(why.contains("400 Bad Request: out of order"), "{why}");
    assert_eq!((peer.log().seen.len(), trouble.get()), (1, None));
}

#[tokio::test]
async fn a_peer_that_is_silent_and_one_that_says_too_much_are_both_borne() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let mut settings = Settings::new(None, None);
    settings.timeout = Duration::from_millis(200);
    settings.answer_limit = 1000;
    let build = |address| Client::new(&settings, vec![address], Arc::new(SystemClock::default())).unwrap();
    let Verdict::Again { why, .. } = build(address).send(&request()).await else { panic!("nobody has it") };
    assert!(why.contains("no answer within 200ms"), "{why}");

    settings.timeout = Duration::from_secs(30);
    let build = |address| Client::new(&settings, vec![address], Arc::new(SystemClock::default())).unwrap();
    let peer = Peer::default().then(200, &[], vec![b'a'; 5 << 20]);
    let Verdict::Delivered(answer) = build(peer.listen().await).send(&request()).await else { panic!("it has it") };
    assert_eq!(answer.body.len(), 1000);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_answer_is_read_and_decompressed_up_to_the_limit_and_says_why_it_is_incomplete() {
    const GZIP: Headers = &[("content-encoding", "gzip")];
    let ask = async |headers: Headers, body: Vec<u8>| {
        let peer = Peer::default().then(200, headers, body);
        client(vec![peer.listen().await]).ask(0, "", &request(), 1000).await.unwrap()
    };
    let whole = ask(GZIP, gzip(b"taken")).await;
    assert_eq!((&whole.body[..], whole.cut), (&b"taken"[..], None));
    for (headers, body) in [(&[] as Headers, vec![b'a'; 5000]), (GZIP, gzip(&vec![b'a'; 64 << 20]))] {
        let long = ask(headers, body).await;
        assert_eq!((long.body.len(), long.cut), (1000, Some(Cut::TooLong(1000))));
    }
    let torn = gzip(b"taken");
    for (headers, body) in [(GZIP, torn[..torn.len() - 9].to_vec()), (GZIP, b"no gzip".to_vec())] {
        assert!(matches!(ask(headers, body).await.cut, Some(Cut::Broken(_))));
    }
    let unasked = ask(&[("content-encoding", "br")], b"x".to_vec()).await.cut.unwrap().to_string();
    assert!(unasked.contains("br"), "{unasked}");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_read_up_to_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let writing = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _asked = stream.read(&mut [0; 4096]).await.unwrap();
        let chunk = [&b"1000\r\n"[..], &[b'a'; 0x1000], b"\r\n"].concat();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        while stream.write_all(&chunk).await.is_ok() {}
    });
    let answer = client(vec![address]).ask(0, "", &request(), 100_000).await.unwrap();
    assert_eq!((answer.body.len(), answer.cut), (100_000, Some(Cut::TooLong(100_000))));
    writing.await.expect("the connection is closed");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: &'static str = format!("http://{}/", elsewhere.local_addr().unwrap()).leak();
    let headers: Headers = vec![("location", target)].leak();
    for status in [301, 302, 303, 307, 308] {
        let peer = Peer::default().then(status, headers, "");
        let Verdict::Again { why, .. } = client(vec![peer.listen().await]).send(&request()).await else {
            panic!("it is not delivered")
        };
        assert!(why.contains("redirects are not followed"), "{why}");
    }
    let nobody = tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await;
    assert!(nobody.is_err(), "nobody came to the other host");
}

#[tokio::test]
async fn what_a_peer_repeats_of_our_address_is_not_shown() {
    for body in ["Cannot POST /services/T0K3NT0K3N?key=SECRETSECRET", "no hook T0K3NT0K3N", "bad key SECRETSECRET"] {
        let peer = Peer::default().then(400, &[], body).then(404, &[], body);
        let base = peer.listen().await.to_string();
        let address = Address::parse(&format!("{base}/services/T0K3NT0K3N?key=SECRETSECRET")).unwrap();
        let client = client(vec![address]);
        let Verdict::Refused { answer, why } = client.send(&request()).await else { panic!("it is refused") };
        let Verdict::Again { why: again, .. } = client.send(&request()).await else { panic!("it is not found") };
        for text in [why, again, answer.text()] {
            assert!(!text.contains("T0K3N") && !text.contains("SECRET") && text.contains("***"), "{text}");
        }
    }
}

/// Writes a key and a certificate of an authority of its own, and gives the server's side, which asks for that of clients.
fn identity(folder: &Path) -> tokio_rustls::TlsAcceptor {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = |name: &str, what: &str, der: &[u8]| {
        let text = format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64_STANDARD.encode(der));
        std::fs::write(folder.join(name), text).unwrap();
    };
    pem("cert.pem", "CERTIFICATE", certified.cert.der());
    pem("key.pem", "PRIVATE KEY", &certified.signing_key.serialize_der());
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
async fn both_sides_show_certificates_and_check_them() {
    let folder = tempfile::tempdir().unwrap();
    let acceptor = identity(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut read = [0; 4096];
            if stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _gone = stream.write_all(answer).await;
                let _gone = stream.shutdown().await;
            }
        }
    });
    let send = async |tls: Tls| {
        let settings = Settings::new(None, Some(&tls));
        let addresses = vec![Address::parse(&address).unwrap()];
        let client = Client::new(&settings, addresses, Arc::new(SystemClock::default())).unwrap();
        match client.send(&request()).await {
            Verdict::Delivered(_) => String::new(),
            Verdict::Again { why, .. } | Verdict::Refused { why, .. } => why,
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
    let nameless = send(Tls { cert_file: None, key_file: None, ..ours.clone() }).await;
    assert!(!nameless.is_empty(), "without a certificate of our own we are not let in");

    let missing = Tls { ca_file: file("none.pem"), ..ours };
    let settings = Settings::new(None, Some(&missing));
    let error = Client::new(&settings, vec![Address::parse(&address).unwrap()], Arc::new(SystemClock::default()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("none.pem") && error.contains("cannot be read"), "{error}");
    std::fs::write(folder.path().join("none.pem"), "nothing").unwrap();
    let error = Client::new(&settings, vec![Address::parse(&address).unwrap()], Arc::new(SystemClock::default()));
    assert!(error.unwrap_err().to_string().contains("no certificates"), "a file without any is no authority");
}
