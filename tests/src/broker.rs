//! The Kafkas the tests run against: the one they share, and one of a test's own that it may kill.

use std::path::Path;
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
        let port = call(&["free-port".as_ref()]);
        let dir = tempfile::Builder::new().prefix("weir-broker-").tempdir().unwrap();
        let broker = OwnBroker { dir, servers: format!("127.0.0.1:{port}") };
        call(&["start".as_ref(), port.as_ref(), broker.dir.path()]);
        broker
    }

    /// Ends it without warning, as a crash would.
    pub fn kill(&self) {
        call(&["kill".as_ref(), self.dir.path()]);
    }

    /// Starts it as it was started last; returns when it is ready.
    pub fn restart(&self) {
        call(&["restart".as_ref(), self.dir.path()]);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // Of a broker that is gone already there is nothing to stop; a panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

fn call(args: &[&Path]) -> String {
    let output = Command::new(SCRIPT).args(args).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
