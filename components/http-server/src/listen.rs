//! Where a receiver listens, and on what terms.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::component::{BuildContext, Finding, ProbeContext, Problem, Problems, Severity};
use weir::config::{ByteSize, Secret, Span};
use weir::{Error, ErrorKind, Result};

use crate::body::Memory;
use crate::gate::Gate;
use crate::options::{Auth, Tls};
use crate::server::{Door, Handler, NAME};
use crate::tls;

/// Who has been idle for so long makes room for others.
const IDLE: Duration = Duration::from_secs(5);
/// Memory for the bodies of all requests together, unless one needs more.
const BODIES: u64 = 64 << 20;

/// The options that every receiver has.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `listen`.
    pub address: SocketAddr,
    /// `tls`.
    pub tls: Option<&'a Tls>,
    /// `max_connections`.
    pub max_connections: u32,
    /// `timeout`.
    pub timeout: Span,
}

/// The options that every receiver over HTTP has.
#[derive(Debug, Clone, Copy)]
pub struct Listen<'a> {
    /// `listen`.
    pub address: SocketAddr,
    /// `auth`.
    pub auth: Option<&'a Auth>,
    /// `tls`.
    pub tls: Option<&'a Tls>,
    /// `max_body_size`, of a body as it is sent.
    pub max_body_size: ByteSize,
    /// `max_connections`.
    pub max_connections: u32,
    /// `timeout`.
    pub timeout: Span,
}

impl Place<'_> {
    /// Reports what is wrong with them.
    pub fn check(&self, problems: &mut Problems) {
        if self.timeout.0.is_zero() {
            problems.error("timeout", "out_of_range", "leaves no time for a request", "give a time such as `30s`");
        }
        let Some(tls) = self.tls else { return };
        match (tls.verify_certificate, &tls.ca_file) {
            (Some(true), None) => {
                let help = "name the file with the authorities of the senders' certificates as `ca_file`";
                problems.error("tls.verify_certificate", "bad_value", "has nothing to check against", help);
            }
            (Some(false), Some(_)) => {
                let help =
                    "remove `verify_certificate`, so that senders have to show a certificate, or remove `ca_file`";
                problems.error("tls.ca_file", "bad_value", "is not used: `verify_certificate` is off", help);
            }
            _ => {}
        }
    }

    /// Looks whether it can listen there. `is_weir` asks who listens there already, if somebody does.
    pub async fn probe(&self, is_weir: impl Future<Output = bool>) -> Vec<Finding> {
        let address = self.address;
        let mut findings = vec![match TcpListener::bind(address).await {
            Ok(_) => Finding::ok(format!("{address} is free to listen on")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_weir.await => {
                let remedy = "if it runs this graph, all is well; otherwise stop it, or choose another `listen`";
                Finding::warning(format!("a weir listens on {address} already"), remedy)
            }
            Err(error) => Finding::failed(
                format!("{address} cannot be listened on: {error}"),
                "if this graph runs, it is the one that listens; otherwise choose another `listen`",
            ),
        }];
        if let Some(tls) = self.tls {
            findings.push(match tls::acceptor(tls) {
                Ok(_) => Finding::ok("certificate and key belong together"),
                Err(error) => {
                    Finding::failed(error.to_string(), "correct `tls.cert_file`, `tls.key_file` and `tls.ca_file`")
                }
            });
        }
        findings
    }

    /// Begins to listen; nothing is taken before the gate is open.
    pub(crate) async fn bind(&self, context: &BuildContext) -> Result<Gate> {
        let listener = TcpListener::bind(self.address).await.map_err(|error| {
            let what = "the address cannot be listened on; choose another `listen`, or stop whoever uses it";
            Error::new(ErrorKind::Config, "listen", what).with("address", self.address).caused_by(error)
        })?;
        let gate = weir::listen::Gate {
            listener,
            max_connections: self.max_connections,
            timeout: self.timeout.0,
            idle: IDLE.min(self.timeout.0 / 2),
            node: context.node.clone(),
            clock: context.clock.clone(),
        };
        Ok(Gate { gate, tls: self.tls.map(tls::acceptor).transpose()? })
    }
}

impl<'a> Listen<'a> {
    /// Those that have nothing to do with HTTP.
    pub(crate) fn place(&self) -> Place<'a> {
        let Listen { address, tls, max_connections, timeout, .. } = *self;
        Place { address, tls, max_connections, timeout }
    }

    /// Reports what is wrong with them.
    pub fn check(&self, problems: &mut Problems) {
        self.place().check(problems);
        if self.max_body_size.0 == 0 {
            problems.error("max_body_size", "out_of_range", "lets nothing in", "give a size such as `10MiB`");
        }
        if self.auth.is_some() && self.tls.is_none() && !self.address.ip().is_loopback() {
            problems.push(Problem {
                path: vec!["auth".to_owned()],
                severity: Severity::Warning,
                code: "password_in_clear".to_owned(),
                message: "passwords and tokens come in unencrypted".to_owned(),
                help: Some("set `tls`, or listen on a loopback address behind a proxy that does it".to_owned()),
                span: None,
            });
        }
    }

    /// Looks whether it can listen there.
    pub async fn probe(&self, context: &ProbeContext) -> Vec<Finding> {
        self.place().probe(self.is_weir(context.limit)).await
    }

    /// Whether who listens there already says that it is a weir. Behind TLS nobody is asked.
    async fn is_weir(&self, limit: Duration) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(reachable(self.address)).await?;
            stream.write_all(b"OPTIONS * HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.take(64 << 10).read_to_end(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = match self.tls {
            None => tokio::time::timeout(limit, ask).await.ok().and_then(io::Result::ok).unwrap_or_default(),
            Some(_) => Vec::new(),
        };
        let name = format!("server: {NAME}");
        String::from_utf8_lossy(&answer).lines().any(|line| line.eq_ignore_ascii_case(&name))
    }

    /// What every request passes. `largest` is the most memory that one takes.
    pub(crate) fn door(&self, context: &BuildContext, largest: u64, handler: Arc<dyn Handler>) -> Door {
        let memory = usize::try_from(BODIES.max(largest)).unwrap_or(usize::MAX);
        Door {
            handler,
            authorization: self.auth.map(authorization),
            body_limit: usize::try_from(self.max_body_size.0).unwrap_or(usize::MAX),
            memory: Memory::new(memory),
            timeout: self.timeout.0,
            node: context.node.clone(),
        }
    }
}

/// Where this machine finds who listens on an address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The scheme that is asked for, and what has to stand behind it.
fn authorization(auth: &Auth) -> (&'static str, Secret) {
    match auth {
        Auth::Basic { username, password } => {
            ("Basic", Secret(BASE64_STANDARD.encode(format!("{username}:{}", password.0))))
        }
        Auth::Bearer { token } => ("Bearer", token.clone()),
    }
}
