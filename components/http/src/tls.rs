//! The server's side of TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use weir::{Error, ErrorKind, Result};

use crate::options::Tls;

/// Reads certificate and key, and checks that they belong together.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let failed = |what: &str| Error::new(ErrorKind::Config, "prepare tls", what.to_owned());
    let (cert, key) = (tls.cert_file.display(), tls.key_file.display());
    let certificates = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| {
            failed("it holds no certificates; check the path").with("cert_file", &cert).caused_by(error)
        })?;
    let private = PrivateKeyDer::from_pem_file(&tls.key_file)
        .map_err(|error| failed("it holds no key; check the path").with("key_file", &key).caused_by(error))?;
    // Several crates bring along another provider.
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("the protocol versions are refused").caused_by(error))?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| {
            failed("certificate and key do not belong together")
                .with("cert_file", cert)
                .with("key_file", key)
                .caused_by(error)
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
