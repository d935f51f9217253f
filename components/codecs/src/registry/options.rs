//! Where a schema registry is, and how to be let in.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{Problem, Problems, Severity};
use weir::config::{Secret, Span};
use weir_http_client::Url;

/// Schema registry with Confluent's REST API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistry {
    /// Address, such as `https://registry:8081`; several addresses of one registry separated by commas. Messages show
    /// only host and port.
    pub(crate) url: Url,
    /// User name. Default: none.
    pub(crate) username: Option<String>,
    /// Password. Default: none.
    pub(crate) password: Option<Secret>,
    /// TLS options for an `https` address. Default: certificates are checked against the system's authorities.
    pub(crate) tls: Option<RegistryTls>,
    /// Time limit per request. Default: `10s`.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Span,
}

/// TLS options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryTls {
    /// PEM file of the authorities that the registry's certificate is checked against. Default: the system's
    /// authorities.
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the client certificate. Default: none.
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of the private key of `cert`. Default: none.
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
