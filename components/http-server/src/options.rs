//! Options that all receivers have, by the same names.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::config::Secret;

/// Credentials that senders must present.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "strategy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// User name and password (RFC 7617).
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// Token (RFC 6750).
    Bearer {
        /// Token.
        token: Secret,
    },
}

/// TLS options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the server certificate and its intermediate certificates.
    #[schemars(extend("format" = "input-file"))]
    pub(crate) cert_file: PathBuf,
    /// PEM file of the certificate's private key.
    #[schemars(extend("format" = "input-file"))]
    pub(crate) key_file: PathBuf,
    /// PEM file of the authorities that client certificates are checked against. Default: none, clients need no
    /// certificate.
    #[serde(default)]
    #[schemars(extend("format" = "input-file"))]
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether clients must present a certificate from an authority in `ca_file`. Default: true if `ca_file` is set.
    #[serde(default)]
    pub(crate) verify_certificate: Option<bool>,
}
