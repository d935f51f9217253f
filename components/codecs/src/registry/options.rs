//! Where a schema registry is, and how to be let in.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{Problem, Problems, Severity};
use weir::config::{Secret, Span};

/// A schema registry with Confluent's REST interface.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistry {
    /// Its address, such as `https://registry:8081`; several of one registry with commas between.
    pub(crate) url: String,
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
    /// Its addresses, without a slash at the end.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty())
    }

    /// Reports problems under the option `schema_registry`.
    pub(crate) fn check(&self, problems: &mut Problems) {
        let mut error = |option: &str, message: &str, help: &str| {
            problems.error(&format!("schema_registry.{option}"), "bad_value", message, help);
        };
        if self.urls().next().is_none() {
            error("url", "no registry is named", "write its address: http://registry:8081");
        }
        let mut is_clear = false;
        for url in self.urls() {
            let uri = url.parse::<Uri>().ok();
            let scheme = uri.as_ref().and_then(Uri::scheme_str);
            let authority = uri.as_ref().and_then(Uri::authority);
            match (scheme, authority) {
                (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                    error("url", "the address holds a user", "use username and password");
                }
                (Some("http"), Some(_)) => is_clear = true,
                (Some("https"), Some(_)) => {}
                _ => error("url", "that is no address of a registry", "write http:// or https://, a host and a port"),
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
