//! Options that all receivers have, by the same names.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::config::Secret;

/// Who may send.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "strategy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// By a user's name and password, as in RFC 7617.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// By a token, as in RFC 6750.
    Bearer {
        /// The token.
        token: Secret,
    },
}

/// Encryption by TLS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File with our certificate, and those between it and its authority (PEM).
    #[schemars(extend("format" = "input-file"))]
    pub(crate) cert_file: PathBuf,
    /// File with the private key of the certificate (PEM).
    #[schemars(extend("format" = "input-file"))]
    pub(crate) key_file: PathBuf,
    /// File with the certificates of the authorities (PEM) that a sender's certificate is checked against. Default: none;
    /// senders show no certificate.
    #[serde(default)]
    #[schemars(extend("format" = "input-file"))]
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether a sender has to show a certificate of an authority in `ca_file`. Default: whether there is a `ca_file`.
    #[serde(default)]
    pub(crate) verify_certificate: Option<bool>,
}
