//! The server's side of TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use weir::component::pem;
use weir::{Error, ErrorKind, Result};

use crate::options::Tls;

impl Tls {
    /// The file of authorities whose certificates senders have to show.
    pub(crate) fn authorities(&self) -> Option<&Path> {
        self.ca_file.as_deref().filter(|_| self.verify_certificate.unwrap_or(true))
    }
}

/// Reads certificate and key, and checks that they belong together.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor> {
    let (cert, key) = (tls.cert_file.display(), tls.key_file.display());
    // Several crates bring along another provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = certificates(&tls.cert_file).map_err(|error| error.with("cert_file", &cert))?;
    let private = PrivateKeyDer::from_pem_slice(&pem::check_private_key(&tls.key_file)?)
        .map_err(|error| failed("it holds no key; check the path").with("key_file", &key).caused_by(error))?;
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("the protocol versions are refused").caused_by(error))?;
    let config = match tls.authorities() {
        Some(file) => config.with_client_cert_verifier(
            verifier(file, provider).map_err(|error| error.with("ca_file", file.display()))?,
        ),
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(certificates, private).map_err(|error| {
        failed("certificate and key do not belong together")
            .with("cert_file", cert)
            .with("key_file", key)
            .caused_by(error)
    })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn verifier(file: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| failed("a certificate in it is of no authority").caused_by(error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| failed("senders cannot be checked against it").caused_by(error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = pem::check_certificates(file)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<Vec<_>, _>>();
    let why = "it holds no certificates; check the path";
    match all {
        Ok(all) if all.is_empty() => Err(failed(why)),
        Ok(all) => Ok(all),
        Err(error) => Err(failed(why).caused_by(error)),
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Config, "prepare tls", what.to_owned())
}
