//! The way to one broker, step by step.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use weir::component::Finding;

use super::SLICE;
use super::ear::Ear;

/// DNS and TCP; the finding says which of them fails.
pub(super) async fn connect(server: &str, limit: Duration) -> Result<(), Finding> {
    // `PLAINTEXT://host:9092` is understood by librdkafka, too
    let address = server.rsplit_once("://").map_or(server, |(_, address)| address);
    let address = if address.rsplit_once(':').is_some() { address.to_owned() } else { format!("{address}:9092") };
    let no_name = |why: String| {
        let help = "correct the name, or the DNS of this machine";
        Finding::failed(format!("broker {server}: the name does not resolve: {why}"), help)
    };
    let found: Vec<SocketAddr> = match timeout(limit, lookup_host(&address)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(no_name(error.to_string())),
        Err(_) => return Err(no_name(format!("no answer within {limit:?}"))),
    };
    let why = match timeout(limit, TcpStream::connect(&found[..])).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    let help = "start it, correct the port, or open the way through firewalls";
    Err(Finding::failed(format!("broker {server}: no connection: {why}"), help))
}

/// TLS, SASL and a first question to one broker; gives the addresses of all.
pub(super) fn greet(config: &ClientConfig, server: &str, tls: bool, limit: Duration) -> Result<Vec<String>, Finding> {
    let failed = |what: String, help: &str| Finding::failed(format!("broker {server}: {what}"), help);
    let client: BaseProducer<Ear> = config
        .create_with_context(Ear::default())
        .map_err(|error| failed(format!("no client can be made: {error}"), "correct the options"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(metadata) = client.client().fetch_metadata(Some("weir-doctor"), SLICE) {
            let address = |broker: &rdkafka::metadata::MetadataBroker| format!("{}:{}", broker.host(), broker.port());
            return Ok(metadata.brokers().iter().map(address).collect());
        }
        // Some time: a poll without takes one event, and the one that tells may stand behind others.
        client.poll(SLICE / 10);
        if let Some((code, reason)) = client.context().telling() {
            return Err(if code == Code::SSL {
                let help = "tls.ca must hold the authority of the broker's certificate, and the port must speak TLS";
                failed(format!("TLS fails: {reason}"), help)
            } else {
                failed(format!("it does not let us in: {reason}"), "correct sasl: mechanism, username and password")
            });
        }
        if Instant::now() > deadline {
            let why = client.context().last().map(|why| format!(": {why}")).unwrap_or_default();
            let help =
                if tls { "does the port speak TLS and SASL as set?" } else { "does the port ask for tls or sasl?" };
            return Err(failed(format!("connected, but it does not talk to us{why}"), help));
        }
    }
}
