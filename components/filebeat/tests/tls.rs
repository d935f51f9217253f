//! Over TLS, with certificates made here.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use common::{Client, Running, in_time};
use rcgen::CertifiedKey;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir_filebeat::lumberjack::encode::batch;

type Identity = CertifiedKey<rcgen::KeyPair>;

/// A certificate that is its own authority.
fn identity() -> Identity {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn options(dir: &Path, server: &Identity, senders: Option<&Identity>) -> Value {
    std::fs::write(dir.join("cert.pem"), pem("CERTIFICATE", server.cert.der())).unwrap();
    std::fs::write(dir.join("key.pem"), pem("PRIVATE KEY", &server.signing_key.serialize_der())).unwrap();
    let mut tls = json!({"cert_file": dir.join("cert.pem"), "key_file": dir.join("key.pem")});
    if let Some(senders) = senders {
        std::fs::write(dir.join("ca.pem"), pem("CERTIFICATE", senders.cert.der())).unwrap();
        tls["ca_file"] = json!(dir.join("ca.pem"));
    }
    json!({"tls": tls, "timeout": "3s"})
}

/// A client that trusts this server, and shows a certificate or not.
async fn connect(
    source: &Running,
    server: &Identity,
    own: Option<&Identity>,
) -> io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(server.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
            config.with_client_auth_cert(vec![own.cert.der().clone()], key).unwrap()
        }
    };
    let stream = TcpStream::connect(source.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    Ok(Client(in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?))
}

/// Sends an event, and says whether it was acknowledged.
async fn is_taken(client: io::Result<Client<TlsStream<TcpStream>>>, body: &str) -> bool {
    let Ok(mut client) = client else { return false };
    // Who is not let in may learn it as late as here.
    let _ = in_time(client.0.write_all(&batch([body.as_bytes()], Some(3)))).await;
    let _ = in_time(client.0.flush()).await;
    client.acknowledged().await.is_ok_and(|sequence| sequence == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_it_takes_events_and_whoever_does_not_speak_it_costs_nobody_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (server, stranger) = (identity(), identity());
    let mut source = Running::start(dir.path(), options(dir.path(), &server, None)).await;
    assert!(is_taken(connect(&source, &server, None).await, "1").await);
    // In clear; of who does not trust it; and of who says nothing at all.
    let mut plain = source.connect().await;
    plain.send(&batch([&b"-1"[..]], None)).await;
    assert!(!is_taken(connect(&source, &stranger, None).await, "-2").await);
    let silent = source.connect().await;
    assert!(is_taken(connect(&source, &server, None).await, "2").await);
    // What comes back before the end is an alert of TLS, if anything.
    let mut rest = Vec::new();
    let _ = in_time(tokio::io::AsyncReadExt::read_to_end(&mut plain.0, &mut rest)).await;
    assert!(!rest.starts_with(b"2A"), "{rest:?}");
    assert_eq!(silent.until_closed().await, [0_u32; 0]);
    assert_eq!(source.read(2).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_senders_have_to_show_a_certificate_nobody_else_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (server, sender, stranger) = (identity(), identity(), identity());
    let mut source = Running::start(dir.path(), options(dir.path(), &server, Some(&sender))).await;
    assert!(!is_taken(connect(&source, &server, None).await, "-1").await);
    assert!(!is_taken(connect(&source, &server, Some(&stranger)).await, "-2").await);
    assert!(is_taken(connect(&source, &server, Some(&sender)).await, "1").await);
    assert_eq!(source.read(1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_on_a_source_without_it_is_let_go_of_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Running::start(dir.path(), json!({})).await;
    assert!(!is_taken(connect(&source, &identity(), None).await, "-1").await);
    let mut plain = source.connect().await;
    plain.send(&batch([&b"1"[..]], None)).await;
    assert_eq!(plain.acknowledged().await.unwrap(), 1);
    assert_eq!(source.read(1).await, ["1"]);
}
