//! Where a schema registry is, and how to be let in.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{Problem, Problems, Severity};
use weir::config::{Secret, Span};
use weir_http_client::Url;

/// A schema registry with Confluent's REST interface.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistry {
    /// Its address, such as `https://registry:8081`; several of one registry with commas between. Only hosts and ports are
    /// ever shown.
    pub(crate) url: Url,
    /// The user's name, for registries that ask. Default: none.
    pub(crate) username: Option<String>,
    /// The user's password. Default: none.
    pub(crate) password: Option<Secret>,
    /// How an `https` address is checked. Default: by the authorities of the operating system.
    pub(crate) tls: Option<RegistryTls>,
    /// Time within which it has to answer. Default: `10s`.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Span,
}

/// Encryption by TLS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryTls {
    /// File with the certificates (PEM) of the authorities that the registry's certificate is checked against.
    /// Default: those of the operating system.
    pub(crate) ca: Option<PathBuf>,
    /// File with our own certificate (PEM), for registries that ask for one. Default: none.
    pub(crate) cert: Option<PathBuf>,
    /// File with the private key (PEM) of `cert`. Default: none.
    pub(crate) key: Option<PathBuf>,
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(10))
}

impl SchemaRegistry {
    /// Reports problems under the option `schema_registry`.
    pub(crate) fn check(&self, problems: &mut Problems) {
        let mut error = |option: &str, message: &str, help: &str| {
            problems.error(&format!("schema_registry.{option}"), "bad_value", message, help);
        };
        if self.url.list().next().is_none() {
            error("url", "no registry is named", "write its address: http://registry:8081");
        }
        let mut is_clear = false;
        for url in self.url.list() {
            match url.parse() {
                Ok(address) => is_clear |= !address.is_encrypted(),
                Err((what, help)) => error("url", what, help),
            }
        }
        if self.username.is_some() != self.password.is_some() {
            error("username", "a user has a name and a password", "set both or neither");
        }
        if self.tls.as_ref().is_some_and(|tls| tls.cert.is_some() != tls.key.is_some()) {
            error("tls", "tls.cert and tls.key are of no use without each other", "set both or neither");
        }
        if is_clear && self.password.is_some() {
            problems.push(Problem {
                path: ["schema_registry", "url"].map(str::to_owned).to_vec(),
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "the password is sent unencrypted".to_owned(),
                help: Some("use an https:// address".to_owned()),
                span: None,
            });
        }
    }
}
