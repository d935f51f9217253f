//! The Kafkas the tests run against: the one they share, and one of a test's own that it may kill.

use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::ClientConfig;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka");

/// Where to find the brokers that all tests share, as `tests/services/kafka env` names them.
///
/// # Panics
/// When the environment does not say.
pub fn servers() -> String {
    let help = "these tests need a real Kafka; `scripts/test real` starts one, or `tests/services/kafka start PORT DIR` \
                and `eval \"$(tests/services/kafka env DIR)\"`";
    match std::env::var("KAFKA_BOOTSTRAP_SERVERS") {
        Ok(servers) if !servers.is_empty() => servers,
        _ => panic!("KAFKA_BOOTSTRAP_SERVERS is not set: {help}"),
    }
}

/// A client's plain options.
pub fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

/// A broker of a test's own; it stops when this is dropped, also when the test has failed.
#[derive(Debug)]
pub struct OwnBroker {
    dir: TempDir,
    /// Where to find it, also after it was killed and is back.
    pub servers: String,
}

impl OwnBroker {
    /// Starts one; returns when it is ready.
    pub fn start() -> OwnBroker {
        let port = call(&["free-port".as_ref()], "");
        let dir = tempfile::Builder::new().prefix("weir-broker-").tempdir().unwrap();
        let broker = OwnBroker { dir, servers: format!("127.0.0.1:{port}") };
        call(&["start".as_ref(), port.as_ref(), broker.dir.path()], "");
        broker
    }

    /// Starts one that also listens with TLS and passwords, and asks an authorizer there: [`OwnBroker::user`] may nothing
    /// before it is [granted](OwnBroker::grant), whoever comes by `servers` may all.
    pub fn start_with_rights() -> OwnBroker {
        let port: u16 = call(&["free-port".as_ref()], "").parse().unwrap();
        let dir = tempfile::Builder::new().prefix("weir-broker-").tempdir().unwrap();
        let broker = OwnBroker { dir, servers: format!("127.0.0.1:{port}") };
        let (port, secured) = (port.to_string(), (port + 2).to_string());
        let properties = "authorizer.class.name = org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                          super.users = User:ANONYMOUS";
        let start = ["start".as_ref(), port.as_ref(), broker.dir.path(), "--sasl-ssl".as_ref(), secured.as_ref()];
        call(&start, properties);
        broker
    }

    /// Where its listener with TLS and passwords is.
    pub fn secured(&self) -> String {
        let (host, port) = self.servers.split_once(':').unwrap();
        format!("{host}:{}", port.parse::<u16>().unwrap() + 2)
    }

    /// The authority of its certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("tls/ca.pem")
    }

    /// The user of its listener with passwords, and the password.
    pub fn user(&self) -> (&'static str, &'static str) {
        ("weir", "weir-secret")
    }

    /// Runs `kafka-acls` with the arguments of such a command line, whose `--bootstrap-server` is replaced.
    pub fn grant(&self, command: &str) {
        let words = command.split_whitespace().map(|word| word.trim_matches('\'')).collect::<Vec<_>>();
        let at = words.iter().position(|word| *word == "--add").unwrap();
        assert_eq!((words[0], words[1]), ("kafka-acls", "--bootstrap-server"), "{command}");
        let mut args = vec!["acls".as_ref(), self.dir.path()];
        args.extend(words[at..].iter().map(Path::new));
        call(&args, "");
    }

    /// Ends it without warning, as a crash would.
    pub fn kill(&self) {
        call(&["kill".as_ref(), self.dir.path()], "");
    }

    /// Starts it as it was started last; returns when it is ready.
    pub fn restart(&self) {
        call(&["restart".as_ref(), self.dir.path()], "");
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // Of a broker that is gone already there is nothing to stop; a panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

/// Runs the script, with more lines for a broker's properties.
fn call(args: &[&Path], properties: &str) -> String {
    let mut command = Command::new(SCRIPT);
    command.args(args).env("KAFKA_PROPERTIES", properties);
    let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
