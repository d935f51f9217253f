//! Options that sinks over HTTP share, and their checks.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use weir::component::{BadAddress, Problem, Problems, Severity, check_address};
use weir::config::Secret;

/// Credentials sent with each request.
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

impl Auth {
    /// The value of the header `Authorization`; none where it cannot stand in one.
    pub fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Auth::Basic { username, password } => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{}", password.0)))
            }
            Auth::Bearer { token } => format!("Bearer {}", token.0),
        };
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// TLS options for `https` addresses.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the authorities that the server's certificate is checked against. Default: the system's authorities.
    #[schemars(extend("format" = "input-file"))]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate. Default: none.
    #[schemars(extend("format" = "input-file"))]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the private key of `cert_file`. Default: none.
    #[schemars(extend("format" = "input-file"))]
    pub key_file: Option<PathBuf>,
    /// Whether to check the server's certificate. If false, anyone can impersonate the server. Default: true.
    pub verify_certificate: Option<bool>,
}

/// An address as an option gives it. Shown as scheme, host and port only: user, path and query may hold a secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The whole text, with what may be secret.
    pub fn text(&self) -> &str {
        self.0.trim()
    }

    /// The address; or what is wrong with the text, and what to do.
    pub fn parse(&self) -> Result<Address, (&'static str, &'static str)> {
        Address::parse(&self.0)
    }

    /// The addresses of a list with commas between.
    pub fn list(&self) -> impl Iterator<Item = Url> {
        self.0.split(',').map(str::trim).filter(|text| !text.is_empty()).map(|text| Url(text.to_owned()))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(address) => write!(f, "{address}"),
            Err(_) => f.write_str("***"),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl JsonSchema for Url {
    fn schema_name() -> Cow<'static, str> {
        "Url".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// `format: url` marks the options that are addresses.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "url" })
    }
}

/// The shortest part of a path or a query that is hidden where it stands alone; shorter ones are words such as `api`.
const SECRET: usize = 8;

/// An address with scheme, host, port and path. Its text has no path, which may hold a token.
#[derive(Clone)]
pub struct Address {
    pub(crate) uri: Uri,
    /// Its path and query and their parts, longest first, to be hidden in what a peer says.
    pub(crate) hidden: Arc<[String]>,
}

impl Address {
    /// From an option's text; or what is wrong with it, and what to do.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        // What comes out of a file of secrets may end in a newline.
        let text = text.trim();
        check_address(text)?;
        let uri: Uri =
            text.parse().map_err(|_| ("that is no address", "write http://host:port, and a path if it takes one"))?;
        let hidden = hidden(&uri);
        Ok(Address { uri, hidden })
    }

    /// The same with this path behind its own, and the query of this path behind its own.
    pub fn join(&self, path: &str) -> Address {
        if path.is_empty() {
            return self.clone();
        }
        let (path, more) = path.split_once('?').unwrap_or((path, ""));
        let queries = [self.uri.query().unwrap_or_default(), more];
        let query = queries.into_iter().filter(|query| !query.is_empty()).collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{}{path}{mark}{query}", self.uri.path().trim_end_matches('/'));
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = target.parse().ok();
        let uri = Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone());
        Address { uri, hidden: self.hidden.clone() }
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

/// What of an address a peer may repeat and nobody may see.
fn hidden(uri: &Uri) -> Arc<[String]> {
    let (path, query) = (uri.path().trim_end_matches('/'), uri.query().unwrap_or_default());
    let whole = [format!("{path}?{query}"), path.to_owned(), query.to_owned()];
    let whole = whole.into_iter().filter(|text| text.len() > 1);
    let parts = path.split('/').chain(query.split(['&', '='])).filter(|part| part.len() >= SECRET).map(str::to_owned);
    let mut all: Vec<String> = whole.chain(parts).collect();
    all.sort_by_key(|text| std::cmp::Reverse(text.len()));
    all.dedup();
    all.into()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a client is made of.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Credentials.
    pub auth: Option<&'a Auth>,
    /// How encrypted addresses are checked.
    pub tls: Option<&'a Tls>,
    /// Time to connect, encryption left out.
    pub connect_timeout: Duration,
    /// Time for a whole request, with its answer.
    pub timeout: Duration,
    /// Bytes of an answer that are read.
    pub answer_limit: usize,
}

impl<'a> Settings<'a> {
    /// With the usual limits: 5 s to connect, 30 s for all of it, and 64 KiB of an answer.
    pub fn new(auth: Option<&'a Auth>, tls: Option<&'a Tls>) -> Settings<'a> {
        let (connect_timeout, timeout) = (Duration::from_secs(5), Duration::from_secs(30));
        Settings { auth, tls, connect_timeout, timeout, answer_limit: 64 << 10 }
    }

    /// Reports every problem; `option` is the one that holds the addresses.
    pub fn check<'u>(&self, option: &str, addresses: impl IntoIterator<Item = &'u Url>, problems: &mut Problems) {
        let (mut is_none, mut is_clear) = (true, false);
        for url in addresses {
            is_none = false;
            match url.parse() {
                Ok(address) => is_clear |= !address.is_encrypted(),
                Err((what, help)) => problems.error(option, "bad_value", what, help),
            }
        }
        if is_none {
            problems.error(option, "missing_value", "no address is named", "write http://host:port");
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            problems.error("timeout", "out_of_range", "is no time at all", "write a span such as 30s");
        }
        if let Some(auth) = self.auth {
            self.check_auth(auth, is_clear, option, problems);
        }
        if self.tls.is_some_and(|tls| tls.cert_file.is_some() != tls.key_file.is_some()) {
            let what = "cert_file and key_file are of no use without each other";
            problems.error("tls", "bad_value", what, "set both or neither");
        }
        if self.tls.is_some_and(|tls| tls.verify_certificate == Some(false)) {
            problems.push(Problem {
                path: ["tls", "verify_certificate"].map(str::to_owned).to_vec(),
                severity: Severity::Warning,
                code: "unverified_peer".to_owned(),
                message: "anybody can stand in for the peer".to_owned(),
                help: Some("name the authority's certificate in ca_file instead".to_owned()),
                span: None,
            });
        }
    }

    fn check_auth(&self, auth: &Auth, is_clear: bool, option: &str, problems: &mut Problems) {
        if auth.header().is_none() {
            let what = "holds a character that cannot be sent, such as a newline";
            problems.error("auth", "bad_value", what, "check where the text comes from");
        }
        if is_clear {
            problems.push(Problem {
                path: vec![option.to_owned()],
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "the password or token is sent unencrypted".to_owned(),
                help: Some("use an https:// address".to_owned()),
                span: None,
            });
        }
    }
}

/// A header from options; or what is wrong with it.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "that is no name of a header")?;
    let mut value = HeaderValue::try_from(value).map_err(|_| "it holds a character that cannot be sent")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_checked_and_shown_without_their_path() {
        let address = Address::parse("https://hooks.example:8443/services/SECRET?token=1").unwrap();
        assert_eq!(format!("{address} {address:?}"), "https://hooks.example:8443 https://hooks.example:8443");
        let base = Address::parse("http://am:9093/prefix/").unwrap();
        assert_eq!(base.join("/api/v2/alerts").uri.to_string(), "http://am:9093/prefix/api/v2/alerts");
        let asked = Address::parse("http://am:9093/?tenant=1").unwrap().join("/api/v2/alerts");
        assert_eq!(asked.uri.to_string(), "http://am:9093/api/v2/alerts?tenant=1");
        assert_eq!(asked.join("/x?y=2").uri.to_string(), "http://am:9093/api/v2/alerts/x?tenant=1&y=2");
        for (wrong, why) in [
            ("am:9093", "no http://"),
            ("ftp://am", "neither"),
            ("http://user:pass@am", "user"),
            ("http://a b", "blank"),
            ("http://am:99999", "port"),
            ("http://am/\u{430}", "cannot"),
        ] {
            let (what, help) = Address::parse(wrong).unwrap_err();
            assert!(what.contains(why) && !help.is_empty(), "{wrong}: {what}");
        }
    }

    #[test]
    fn an_option_s_address_is_shown_as_scheme_host_and_port_or_not_at_all() {
        let shown = |text: &str| {
            let url: Url = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(format!("{url}"), format!("{url:?}"));
            url.to_string()
        };
        assert_eq!(shown("https://hooks.example:8443/services/SECRET?token=1"), "https://hooks.example:8443");
        for text in [
            "http://user:pass@am",
            "am:9093/SECRET",
            "SECRET",
            "ftp://am/SECRET",
            "http://am/a b",
            "http://am/SECRET#x",
            "",
        ] {
            assert_eq!(shown(text), "***", "{text}");
        }
        let list: Url = serde_json::from_value(json!("http://a:1/SECRET, http://b:2,")).unwrap();
        assert_eq!(format!("{:?}", list.list().collect::<Vec<_>>()), "[http://a:1, http://b:2]");
    }

    #[test]
    fn secrets_are_not_shown_and_what_is_unsafe_is_told() {
        let auth: Auth = serde_json::from_value(json!({"strategy": "bearer", "token": "hunter2"})).unwrap();
        let tls = Tls { verify_certificate: Some(false), cert_file: Some("c".into()), ..Tls::default() };
        let settings = Settings::new(Some(&auth), Some(&tls));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let mut problems = Problems::default();
        settings.check("url", &["http://a", "b"].map(|text| Url(text.to_owned())), &mut problems);
        let codes: Vec<String> = problems.into_vec().into_iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["bad_value", "password_in_clear", "bad_value", "unverified_peer"]);
        let mut problems = Problems::default();
        Settings::new(None, None).check("url", [], &mut problems);
        assert_eq!(problems.into_vec()[0].code, "missing_value");
        let auth = Auth::Bearer { token: Secret("a\nb".to_owned()) };
        assert!(auth.header().is_none());
    }
}
