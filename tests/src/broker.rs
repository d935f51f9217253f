//! The Kafka the tests run against, as `tests/services/kafka env` names it.

use std::process::Command;

use rdkafka::ClientConfig;

/// Where to find the brokers.
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
pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers());
    config
}

/// A broker that we may kill.
#[derive(Debug)]
pub struct OwnBroker {
    script: String,
    dir: String,
}

impl OwnBroker {
    /// `None` when the server was given to us.
    pub fn from_env() -> Option<OwnBroker> {
        let dir = std::env::var("KAFKA_SERVICE_DIR").ok()?;
        let script = std::env::var("KAFKA_SERVICE")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka").to_owned());
        Some(OwnBroker { script, dir })
    }

    /// Ends it without warning.
    pub fn kill(self) -> Outage {
        self.call("kill");
        Outage(self)
    }

    fn call(&self, verb: &str) {
        let status = Command::new(&self.script).args([verb, &self.dir]).status().unwrap();
        assert!(status.success(), "{} {verb} {}: {status}", self.script, self.dir);
    }
}

/// The broker is away; it comes back when this is dropped, also when the test has failed: others need it.
#[derive(Debug)]
pub struct Outage(OwnBroker);

impl Outage {
    /// Starts it as it was started last; returns when it is ready.
    pub fn end(self) {}
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.0.call("restart");
    }
}
