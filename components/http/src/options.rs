//! The options of the source that have a type of their own.

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
    pub(crate) cert_file: PathBuf,
    /// File with the private key of the certificate (PEM).
    pub(crate) key_file: PathBuf,
}

/// How a body is divided into events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// With `decoding: json` as the `Content-Type` says, otherwise an event a line.
    #[default]
    Auto,
    /// A JSON document is an event; of an array, each element. With `decoding: json` alone.
    Json,
    /// An event a line.
    NewlineDelimited,
    /// The whole body is one event.
    Bytes,
}
