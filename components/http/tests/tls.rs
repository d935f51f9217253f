//! The source behind TLS, with certificates made here.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir::component::{BuildContext, DetachedLane, DetachedLanes, Lanes, Problems, Read, ReadLimit, SourceConfig};
use weir::state::DirStorage;
use weir_http as _;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The file with authorities of senders.
const SENDERS: &str = "senders.pem";
/// What the source is given for a handshake.
const TIMEOUT: Duration = Duration::from_millis(300);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// An authority.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn of(name: &str, above: Option<&Authority>) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for `localhost`, with the one of this authority, and its key.
    fn sign(&self, dir: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [&certificate, &self.certificate].map(|one| pem("CERTIFICATE", one.der()));
        std::fs::write(dir.join("cert.pem"), chain.concat()).unwrap();
        std::fs::write(dir.join("key.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    }

    /// A client that trusts it, and shows no certificate.
    fn client(&self, version: &'static SupportedProtocolVersion) -> TlsConnector {
        self.client_of(version, None)
    }

    /// A client that trusts it, and shows a certificate of this authority.
    fn client_of(&self, version: &'static SupportedProtocolVersion, its: Option<&Authority>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match its {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let key = KeyPair::generate().unwrap();
                let mut params = CertificateParams::new(Vec::new()).unwrap();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let certificate = params.signed_by(&key, &authority.issuer).unwrap();
                let chain = vec![certificate.der().clone(), authority.certificate.der().clone()];
                config.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// Asks senders for certificates where there is a file with authorities.
fn config(dir: &Path, address: SocketAddr) -> Box<dyn SourceConfig> {
    let mut tls = json!({"cert_file": dir.join("cert.pem"), "key_file": dir.join("key.pem")});
    if dir.join(SENDERS).exists() {
        tls["ca_file"] = json!(dir.join(SENDERS));
    }
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    let options = json!({"type": "http", "listen": address.to_string(), "timeout": timeout, "tls": tls});
    serde_json::from_value(options).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A source at work, with a certificate below `root`.
async fn start(dir: &Path, root: &Authority) -> (SocketAddr, DetachedLanes) {
    Authority::of("between", Some(root)).sign(dir);
    let address = free_address();
    let (mut context, _rejected) = BuildContext::detached("in");
    context.storage = Arc::new(DirStorage::open(dir.join("data")).unwrap());
    context.once = false;
    let source = config(dir, address).build(&context).await.unwrap();
    let (open, lanes) = Lanes::detached();
    tokio::spawn(source.run(open));
    (address, lanes)
}

/// Sends a document, and gives all that comes back.
async fn post(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: &str) -> io::Result<String> {
    let head = format!("POST / HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = Vec::new();
    // An answer is there also where the connection is not closed as it should be.
    let read = in_time(stream.read_to_end(&mut answer)).await;
    if answer.is_empty() { read.map(|_| String::new()) } else { Ok(String::from_utf8_lossy(&answer).into_owned()) }
}

async fn post_by(client: &TlsConnector, address: SocketAddr, name: &'static str, body: &str) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    post(in_time(client.connect(ServerName::try_from(name).unwrap(), stream)).await?, body).await
}

/// What the source has read, which is so much.
async fn read(lanes: &mut DetachedLanes, count: usize) -> Vec<String> {
    let DetachedLane { mut origin, .. } = in_time(lanes.next()).await.unwrap();
    let mut all = Vec::new();
    while all.len() < count {
        let Read::Events(events) = in_time(origin.read(ReadLimit { events: 100, bytes: 1 << 20 })).await.unwrap()
        else {
            panic!("it has no end")
        };
        all.extend(events.iter().map(|event| String::from_utf8_lossy(&event.body.to_bytes()).into_owned()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_the_certificate_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::of("root", None);
    let (address, mut lanes) = start(dir.path(), &root).await;
    for (version, body) in [(&version::TLS13, "[1,2]"), (&version::TLS12, "3")] {
        let answer = post_by(&root.client(version), address, "localhost", body).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(read(&mut lanes, 3).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_speak_to_it_as_he_should_gets_nothing_and_the_source_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = Authority::of("root", None);
    let (address, mut lanes) = start(dir.path(), &root).await;
    let trusting = root.client(&version::TLS13);
    let goes_on = async |body| {
        let answer = post_by(&trusting, address, "localhost", body).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };

    let stranger = Authority::of("root", None).client(&version::TLS13);
    let refused = post_by(&stranger, address, "localhost", "-1").await.unwrap_err().to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    goes_on("1").await;

    let refused = post_by(&trusting, address, "example.com", "-2").await.unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
    goes_on("2").await;

    let answer = post(TcpStream::connect(address).await.unwrap(), "-3").await.unwrap_or_default();
    assert!(!answer.contains("HTTP"), "who sends in clear is told nothing in clear: {answer}");
    goes_on("3").await;

    // Who begins no handshake is let go of, and holds nobody up meanwhile.
    let mut silent = TcpStream::connect(address).await.unwrap();
    goes_on("4").await;
    let mut rest = Vec::new();
    in_time(silent.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    goes_on("5").await;
    assert_eq!(read(&mut lanes, 5).await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_senders_have_to_show_a_certificate_nobody_else_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (root, senders) = (Authority::of("root", None), Authority::of("senders", None));
    std::fs::write(dir.path().join(SENDERS), pem("CERTIFICATE", senders.certificate.der())).unwrap();
    let (address, mut lanes) = start(dir.path(), &root).await;
    let between = Authority::of("between", Some(&senders));
    for (version, body) in [(&version::TLS13, "[1,2]"), (&version::TLS12, "3")] {
        // Of the authority of the server, of another of the same name, and none at all.
        for other in [Some(&root), Some(&Authority::of("senders", None)), None] {
            let answer = post_by(&root.client_of(version, other), address, "localhost", "-1").await;
            assert!(!answer.as_ref().is_ok_and(|answer| answer.contains("HTTP")), "{answer:?}");
        }
        let answer = post_by(&root.client_of(version, Some(&senders)), address, "localhost", body).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let answer = post_by(&root.client_of(&version::TLS13, Some(&between)), address, "localhost", "4").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(read(&mut lanes, 4).await, ["1", "2", "3", "4"]);
}

#[test]
fn a_check_of_senders_that_checks_nothing_is_refused() {
    let problems = |tls: serde_json::Value| {
        let mut tls = tls;
        tls["cert_file"] = json!("cert.pem");
        tls["key_file"] = json!("key.pem");
        let options = json!({"type": "http", "listen": "127.0.0.1:0", "tls": tls});
        let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        problems.into_vec().into_iter().map(|problem| problem.path.join(".")).collect::<Vec<_>>()
    };
    assert_eq!(problems(json!({"ca_file": "ca.pem"})), [""; 0]);
    assert_eq!(problems(json!({"ca_file": "ca.pem", "verify_certificate": true})), [""; 0]);
    assert_eq!(problems(json!({"verify_certificate": false})), [""; 0]);
    assert_eq!(problems(json!({"verify_certificate": true})), ["tls.verify_certificate"]);
    assert_eq!(problems(json!({"ca_file": "ca.pem", "verify_certificate": false})), ["tls.ca_file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut context, _rejected) = BuildContext::detached("in");
    context.storage = Arc::new(DirStorage::open(dir.path().join("data")).unwrap());
    context.once = false;
    let built = async || match config(dir.path(), free_address()).build(&context).await {
        Ok(_) => panic!("it is built"),
        Err(error) => error.to_string(),
    };
    let missing = built().await;
    assert!(missing.contains("it cannot be read; check the path"), "{missing}");
    Authority::of("root", None).sign(dir.path());
    std::fs::write(dir.path().join("key.pem"), pem("PRIVATE KEY", &KeyPair::generate().unwrap().serialize_der()))
        .unwrap();
    let other = built().await;
    std::fs::write(dir.path().join("key.pem"), pem("ENCRYPTED PRIVATE KEY", b"secret")).unwrap();
    let encrypted = built().await;
    assert!(encrypted.contains("is encrypted") && encrypted.contains("key.pem"), "{encrypted}");
    assert!(other.contains("certificate and key do not belong together"), "{other}");
    Authority::of("root", None).sign(dir.path());
    std::fs::write(dir.path().join(SENDERS), "nothing").unwrap();
    let none = built().await;
    assert!(none.contains("it holds no certificates") && none.contains(SENDERS), "{none}");
}
