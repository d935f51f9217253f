//! The hands of `benches/pipelines/run`: fills topics, watches them fill, and judges what is in them.

mod load;
mod verify;
mod wait;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use weir_benches::digest::Tally;
use weir_benches::events::Events;

/// What went into a topic, and what must come out of it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Expectation {
    seed: u64,
    decoys_per_mille: u64,
    records: u64,
    bytes: u64,
    decoys: u64,
    /// What a reader of JSON keeps.
    filter: Tally,
    /// The same, with the two fields `remap.yaml` adds.
    remap: Tally,
    /// What a search for `"reason":"BackOff"` keeps: wrong by construction, and known.
    bytes_search: Tally,
}

impl Expectation {
    fn events(&self) -> Events {
        Events { seed: self.seed, decoys_per_mille: self.decoys_per_mille }
    }

    fn of(&self, work: Work) -> Tally {
        match work {
            Work::Filter => self.filter,
            Work::Remap => self.remap,
            Work::BytesSearch => self.bytes_search,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Work {
    Filter,
    Remap,
    BytesSearch,
}

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(flatten)]
    broker: Broker,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Broker {
    #[arg(long)]
    bootstrap: String,
    /// A librdkafka setting; may be given again.
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

impl Broker {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            config.set(name, value);
        }
        config
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Create an empty topic.
    Create {
        #[arg(long)]
        topic: String,
        #[arg(long, default_value_t = 10)]
        partitions: i32,
    },
    /// Delete topics.
    Delete {
        topics: Vec<String>,
    },
    /// Create a topic, fill it with seeded records, and write down what must come out.
    Load(load::Load),
    /// Print `MILLISECONDS RECORDS` again and again until the topic holds that many records.
    Wait(wait::Wait),
    /// Read a topic and compare it with an expectation.
    Verify(verify::Verify),
    WindowLoad(window::WindowLoad),
    WindowVerify(window::WindowVerify),
}

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Create { topic, partitions } => create_topic(&cli.broker, &topic, partitions),
        Verb::Delete { topics } => delete_topics(&cli.broker, &topics),
        Verb::Load(load) => load.run(&cli.broker),
        Verb::Wait(wait) => wait.run(&cli.broker),
        Verb::Verify(verify) => verify.run(&cli.broker),
        Verb::WindowLoad(load) => load.run(&cli.broker),
        Verb::WindowVerify(verify) => verify.run(&cli.broker),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create_topic(broker: &Broker, topic: &str, partitions: i32) -> Result {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
        .set("compression.type", "producer")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1");
    let results = administer(broker, async |admin, options| admin.create_topics([&new], options).await)?;
    each_succeeded(results)
}

fn delete_topics(broker: &Broker, topics: &[String]) -> Result {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let results = administer(broker, async |admin, options| admin.delete_topics(&names, options).await)?;
    each_succeeded(results)
}

fn administer<T>(
    broker: &Broker,
    ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> rdkafka::error::KafkaResult<T>,
) -> Result<T> {
    let admin: AdminClient<DefaultClientContext> = broker.config().create()?;
    let options = AdminOptions::new().operation_timeout(Some(std::time::Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(ask(&admin, &options))?)
}

fn each_succeeded(results: Vec<std::result::Result<String, (String, RDKafkaErrorCode)>>) -> Result {
    for result in results {
        result.map_err(|(topic, code)| format!("topic {topic}: {code}"))?;
    }
    Ok(())
}

#[derive(Args)]
struct ExpectationFile {
    /// Where `load` writes what must come out, and `verify` reads it.
    #[arg(long = "expect")]
    path: PathBuf,
}
