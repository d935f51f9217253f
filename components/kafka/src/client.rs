//! What source and sink have in common: where the brokers are, how to be let in, raw librdkafka options, logs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{Problem, Problems, Severity, pem};
use weir::config::Secret;

use crate::probe::Peer;
use crate::troubles::{Subject, Troubles};

/// TLS options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the authorities that the brokers' certificates are checked against. Default: the system's
    /// authorities.
    #[schemars(extend("format" = "input-file"))]
    ca: Option<PathBuf>,
    /// PEM file of the client certificate. Default: none.
    #[schemars(extend("format" = "input-file"))]
    cert: Option<PathBuf>,
    /// PEM file of the private key of `cert`. Default: none.
    #[schemars(extend("format" = "input-file"))]
    key: Option<PathBuf>,
    /// Whether the broker's certificate must match its host name. Default: true.
    #[serde(default = "yes")]
    verify_hostname: bool,
}

impl Tls {
    /// The files it names, by their options.
    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let named = [("tls.ca", &self.ca), ("tls.cert", &self.cert), ("tls.key", &self.key)];
        named.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)))
    }
}

pub(crate) fn yes() -> bool {
    true
}

/// SASL credentials.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// SASL mechanism.
    mechanism: Mechanism,
    /// User name.
    username: String,
    /// Password.
    password: Secret,
}

/// SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// Sends the password itself; use it with `tls` only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Value of a raw librdkafka option.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawValue {
    /// `true` or `false`.
    Switch(bool),
    /// Integer.
    Number(i64),
    /// Any other value.
    Text(String),
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawValue::Switch(value) => value.fmt(f),
            RawValue::Number(value) => value.fmt(f),
            RawValue::Text(value) => f.write_str(value),
        }
    }
}

/// Raw librdkafka options by name.
pub(crate) type RawOptions = BTreeMap<String, RawValue>;

/// The librdkafka options that weir sets itself in both directions, and what to use instead.
const OWNED: [(&str, &str); 17] = [
    ("bootstrap.servers", "use bootstrap_servers"),
    ("metadata.broker.list", "use bootstrap_servers"),
    ("client.id", "use client_id"),
    ("security.protocol", "use tls and sasl"),
    ("ssl.ca.location", "use tls.ca"),
    ("ssl.ca.pem", "use tls.ca"),
    ("ssl.certificate.location", "use tls.cert"),
    ("ssl.key.location", "use tls.key"),
    ("ssl.endpoint.identification.algorithm", "use tls.verify_hostname"),
    ("sasl.mechanism", "use sasl.mechanism"),
    ("sasl.mechanisms", "use sasl.mechanism"),
    ("sasl.username", "use sasl.username"),
    ("sasl.password", "use sasl.password"),
    ("message.max.bytes", "use max_message_size of the sink or max_record_size of the source"),
    ("statistics.interval.ms", "leave it out; weir has its own metrics"),
    ("log.queue", "leave it out"),
    ("enabled_events", "leave it out"),
];

/// The connection's options, gathered from a source's or a sink's.
pub(crate) struct Client<'a> {
    pub bootstrap_servers: &'a str,
    pub client_id: Option<&'a str>,
    pub tls: Option<&'a Tls>,
    pub sasl: Option<&'a Sasl>,
    pub raw: &'a RawOptions,
    /// Further options that only this kind of client owns.
    pub owned: &'a [(&'static str, &'static str)],
}

impl Client<'_> {
    /// librdkafka's configuration, to which source or sink add their own.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in self.raw {
            config.set(name, value.to_string());
        }
        config.set("bootstrap.servers", self.bootstrap_servers);
        config.set("client.id", self.client_id.unwrap_or("weir"));
        let protocol = match (self.tls.is_some(), self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = self.tls {
            match &tls.ca {
                Some(ca) => config.set("ssl.ca.location", ca.to_string_lossy()),
                // OpenSSL is linked in and does not know where this system keeps its authorities.
                None => config.set("ssl.ca.location", "probe"),
            };
            if let Some(cert) = &tls.cert {
                config.set("ssl.certificate.location", cert.to_string_lossy());
            }
            if let Some(key) = &tls.key {
                config.set("ssl.key.location", key.to_string_lossy());
            }
            config.set("ssl.endpoint.identification.algorithm", if tls.verify_hostname { "https" } else { "none" });
        }
        if let Some(sasl) = self.sasl {
            config.set("sasl.mechanism", sasl.mechanism.name());
            config.set("sasl.username", &sasl.username);
            config.set("sasl.password", &sasl.password.0);
        }
        config
    }

    /// For `weir doctor`; `config` was built on these options.
    pub fn peer(&self, config: ClientConfig, limit: Duration) -> Peer {
        Peer {
            config,
            servers: self.bootstrap_servers.to_owned(),
            user: self.sasl.map(|sasl| sasl.username.clone()),
            tls: self.tls.is_some(),
            limit,
        }
    }

    /// Reports problems of the connection's options, and of `config`, which was built on them.
    pub fn check(&self, config: &ClientConfig, problems: &mut Problems) {
        if self.bootstrap_servers.split(',').all(|server| server.trim().is_empty()) {
            let help = "write host:port, several with commas between: kafka-1:9092,kafka-2:9092";
            problems.error("bootstrap_servers", "missing_value", "no broker is named", help);
        }
        if self.bootstrap_servers.split(',').any(|server| server.trim().starts_with("http") && server.contains("://")) {
            let message = "a broker is named by `host:port`, without `http://`";
            problems.error("bootstrap_servers", "bad_address", message, "write for example kafka-1:9092,kafka-2:9092");
        }
        for (option, path) in self.tls.into_iter().flat_map(Tls::files) {
            // The client would wait for a FIFO, or read a device, and could not be stopped.
            if let Ok(metadata) = path.metadata()
                && let Err(error) = weir::files::regular(&metadata)
            {
                let message = format!("{}: {error}", path.display());
                problems.error(option, "bad_value", message, "name a regular file: another may never end");
            }
        }
        if let Some(tls) = self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            let (have, lack) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let message = format!("tls.{have} is of no use without tls.{lack}");
            problems.error("tls", "incomplete_options", message, format!("set tls.{lack} or leave both out"));
        }
        if let Some(key) = self.tls.and_then(|tls| tls.key.as_deref())
            && !self.raw.contains_key("ssl.key.password")
            && pem::holds_encrypted_key(key)
        {
            let help = "decrypt it, and let nobody else read the file: openssl pkey -in encrypted.key -out plain.key; or give its \
                        password as librdkafka_options: {ssl.key.password: ...}";
            problems.error("tls.key", "bad_value", "the private key in this file is encrypted", help);
        }
        if self.sasl.is_some_and(|sasl| sasl.mechanism == Mechanism::Plain) && self.tls.is_none() {
            problems.push(Problem {
                path: vec!["sasl".to_owned()],
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "the password is sent unencrypted".to_owned(),
                help: Some("add tls: {} or use SCRAM-SHA-512".to_owned()),
                span: None,
            });
        }
        let mut owned_used = false;
        for name in self.raw.keys() {
            if let Some((_, help)) = OWNED.iter().chain(self.owned).find(|(owned, _)| owned == name) {
                owned_used = true;
                let message = format!("librdkafka's option {name} is weir's own");
                problems.push(raw_problem(name, "owned_option", message, (*help).to_owned()));
            }
        }
        if !owned_used && let Err(error) = config.create_native_config() {
            let (name, message) = match &error {
                KafkaError::ClientConfig(_, text, name, _) => (name.as_str(), text.trim().to_owned()),
                other => ("", other.to_string()),
            };
            match self.raw.contains_key(name) {
                true => {
                    let help = "see librdkafka's CONFIGURATION.md".to_owned();
                    problems.push(raw_problem(name, "invalid_option", message, help));
                }
                false => problems.error("", "invalid_option", message, "correct the option"),
            }
        }
    }
}

/// A problem of one raw option; its name has dots, so it is one step of the path.
fn raw_problem(name: &str, code: &str, message: String, help: String) -> Problem {
    Problem {
        path: vec!["librdkafka_options".to_owned(), name.to_owned()],
        severity: Severity::Error,
        code: code.to_owned(),
        message,
        help: Some(help),
        span: None,
    }
}

/// A client's error without a place of its own becomes a trouble, if it is one that people must know of.
pub(crate) fn note_error(troubles: &Troubles, logs: &Logs, error: &KafkaError, reason: &str) {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else { return };
    match code {
        Code::AllBrokersDown => {
            let last = logs.last_failure();
            let why = if last.is_empty() { reason } else { &last };
            // That a broker refuses us says more.
            troubles.set_if_none(Subject::Connection, format!("no broker can be reached: {why}"));
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            troubles.set(Subject::Connection, format!("a broker refuses us: {reason}"));
        }
        Code::SSL => troubles.set(Subject::Connection, format!("tls does not work: {reason}")),
        Code::GroupAuthorizationFailed => troubles.set(Subject::Group, format!("the group is not ours: {reason}")),
        Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
            logs.note_failure(reason);
            logs.write(RDKafkaLogLevel::Warning, "FAIL", reason);
        }
        _ => logs.write(RDKafkaLogLevel::Warning, "ERROR", reason),
    }
}

/// librdkafka's log lines, in ours; a kind of line is written at most every ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    written: Mutex<BTreeMap<String, (Option<Instant>, u64)>>,
    failure: Mutex<String>,
}

impl Logs {
    const EVERY: Duration = Duration::from_secs(10);
    /// librdkafka has some dozens of facilities; a bound is a bound.
    const KINDS: usize = 256;

    /// Writes a line, unless one of its kind was written a moment ago.
    pub fn write(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() > Self::KINDS {
            written.clear();
        }
        let (last, held_back) = written.entry(facility.to_owned()).or_default();
        if last.is_some_and(|last| last.elapsed() < Self::EVERY) {
            *held_back += 1;
            return;
        }
        let suppressed = std::mem::take(held_back);
        *last = Some(Instant::now());
        drop(written);
        match level {
            RDKafkaLogLevel::Debug => tracing::debug!(facility, suppressed, "{line}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::info!(facility, suppressed, "{line}"),
            _ => tracing::warn!(facility, suppressed, "{line}"),
        }
    }

    /// Remembers why a broker could not be reached, for the text that says that none can.
    pub fn note_failure(&self, reason: &str) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
    }

    fn last_failure(&self) -> String {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client<'a>(tls: Option<&'a Tls>, sasl: Option<&'a Sasl>, raw: &'a RawOptions) -> Client<'a> {
        Client { bootstrap_servers: "k:9092", client_id: None, tls, sasl, raw, owned: &[] }
    }

    #[test]
    fn a_password_is_never_shown() {
        let sasl = Sasl { mechanism: Mechanism::Plain, username: "me".into(), password: Secret("geheim".into()) };
        assert!(!format!("{sasl:?}").contains("geheim"));
    }

    #[test]
    fn owned_and_unknown_raw_options_are_problems_and_a_clear_password_is_a_warning() {
        let sasl = Sasl { mechanism: Mechanism::Plain, username: "me".into(), password: Secret("geheim".into()) };
        let codes = |raw: &RawOptions, sasl: Option<&Sasl>| {
            let client = client(None, sasl, raw);
            let mut problems = Problems::default();
            client.check(&client.config(), &mut problems);
            problems.into_vec().into_iter().map(|p| (p.code, p.severity)).collect::<Vec<_>>()
        };
        let raw = |name: &str| RawOptions::from([(name.to_owned(), RawValue::Number(1))]);
        assert_eq!(codes(&raw("client.id"), None), [("owned_option".to_owned(), Severity::Error)]);
        assert_eq!(codes(&raw("no.such.thing"), None), [("invalid_option".to_owned(), Severity::Error)]);
        assert_eq!(codes(&RawOptions::new(), Some(&sasl)), [("password_in_clear".to_owned(), Severity::Warning)]);
        assert_eq!(codes(&raw("socket.timeout.ms"), None)[..], [("invalid_option".to_owned(), Severity::Error)]);
    }
}
