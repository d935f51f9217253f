//! Our side of TLS.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use weir::component::pem;
use weir::{Error, ErrorKind, Result};

use crate::options::Tls;

fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "prepare tls", what)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let none = || failed("it holds no certificates; check the path").with("file", path.display());
    let bytes = pem::check_certificates(path)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| none().caused_by(error))?;
    if all.is_empty() { Err(none()) } else { Ok(all) }
}

/// The configuration of a client; `is_used`: some address is encrypted.
pub(crate) fn config(tls: Option<&Tls>, is_used: bool) -> Result<ClientConfig> {
    // Several crates bring along another provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("the protocol versions are refused").caused_by(error))?;
    let builder = match tls {
        Some(tls) if tls.verify_certificate == Some(false) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
        Some(Tls { ca_file: Some(path), .. }) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let refused = |error| failed("a certificate is refused").with("file", path.display()).caused_by(error);
                roots.add(certificate).map_err(refused)?;
            }
            builder.with_root_certificates(roots)
        }
        // A system without authorities can reach plain peers all the same.
        _ if !is_used => builder.with_root_certificates(RootCertStore::empty()),
        _ => builder.with_native_roots().map_err(|error| failed("this system has no authorities").caused_by(error))?,
    };
    match tls.and_then(|tls| tls.cert_file.as_deref().zip(tls.key_file.as_deref())) {
        Some((cert, key)) => with_client_certificate(builder, cert, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn with_client_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig> {
    let private = PrivateKeyDer::from_pem_slice(&pem::check_private_key(key)?)
        .map_err(|error| failed("it holds no key; check the path").with("file", key.display()).caused_by(error))?;
    builder
        .with_client_auth_cert(certificates(cert)?, private)
        .map_err(|error| failed("certificate and key are refused").with("file", cert.display()).caused_by(error))
}

/// Takes any certificate, because the graph says so.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
