//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use weir::config::Span;

/// Processes logs, events and metrics while they flow: reads, filters, evaluates and writes them.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pipeline graph
    Run(Run),
    /// Check a graph file and print every problem at once
    Validate(Validate),
    /// Run the tests in a graph file
    Test(Graph),
    /// Describe what a graph will do: partitions, delivery guarantees, memory
    Explain(Graph),
    /// Check connections, permissions, topics and files before running
    Doctor(Doctor),
    /// Create a graph file from a template
    Init(Init),
    /// Query the health of a running graph
    Health(Health),
    /// Draw a graph as a diagram
    Graph(GraphPicture),
    /// Watch a running graph: rates, latency, lag and event counts per node
    Top(Top),
    /// Show events leaving a node of a running graph
    Tap(Tap),
    /// Inspect dead letters and retry them
    Dlq(Dlq),
    /// Inspect the saved state of a stopped graph
    State(State),
    /// Inspect the logs of push sources and disk buffers of a stopped graph
    Buffer(Buffer),
    /// Skip one record that blocks its partition
    ///
    /// The record becomes a dead letter. Without `--at`, prints the position of each partition of the running graph.
    Skip(Skip),
    /// List components and codecs, or the options of one component
    List(List),
    /// Print the JSON Schema of graph files, for editors
    Schema,
    /// Print shell completions
    Completions(Completions),
    /// Run a complete example with an embedded Kafka; needs no setup
    Demo(Demo),
}

/// The graph to work on.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Graph {
    /// Graph files, or directories of them, which together form one graph
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Override an option, for example `--set sources.in.group_id=mine`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl Graph {
    /// The arguments as they would be typed again.
    pub fn typed(&self) -> String {
        let paths = self.paths.iter().map(|path| quoted(&path.display().to_string()));
        let set = self.set.iter().map(|set| format!("--set {}", quoted(set)));
        paths.chain(set).collect::<Vec<_>>().join(" ")
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    #[command(flatten)]
    pub graph: Graph,
    /// Stop at the end of the input; the same input then gives the same output. `max_ahead` is not applied
    #[arg(long)]
    pub once: bool,
    /// Format of the log on standard error
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub graph: Graph,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub graph: Graph,
    /// Time limit per request to a peer
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    pub timeout: Span,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// Template name; asks for it on a terminal if omitted, otherwise lists all
    pub template: Option<String>,
    /// Directory for the graph file
    #[arg(long, value_name = "DIR", default_value = "my-graph")]
    pub dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    #[command(flatten)]
    pub graph: Graph,
    /// Check readiness instead of liveness, and print what is not ready
    #[arg(long)]
    pub ready: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GraphPicture {
    #[command(flatten)]
    pub graph: Graph,
    /// Diagram format
    #[arg(long, value_enum, default_value = "mermaid")]
    pub format: PictureFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PictureFormat {
    /// Mermaid flowchart, for Markdown viewers
    Mermaid,
    /// Graphviz
    Dot,
    /// SVG image
    Svg,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    #[command(flatten)]
    pub graph: Graph,
    /// Seconds between updates
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub interval: f64,
    /// Number of updates; runs until `q` or Ctrl-C if omitted
    #[arg(long)]
    pub count: Option<u64>,
    /// Output format; JSON prints one object per line
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(|| "give 0.1 to 3600".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tap {
    /// Node or `node.port`; `keep.errors` shows events that `keep` rejects, a sink shows its input
    pub output: String,
    #[command(flatten)]
    pub graph: Graph,
    /// Show only events that match this VRL condition, for example `.reason == "BackOff"`
    #[arg(long, value_name = "VRL")]
    pub filter: Option<String>,
    /// Number of events to show; runs until Ctrl-C if omitted
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Maximum events inspected per second; the rest are counted
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Hide values of fields with this name, in addition to passwords, tokens and similar
    #[arg(long, value_name = "FIELD")]
    pub redact: Vec<String>,
    /// Output format; JSON prints one object per line
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Skip {
    #[command(flatten)]
    pub graph: Graph,
    /// Record to skip, as `source/log/partition/position`
    #[arg(long, value_name = "PLACE", requires = "reason")]
    pub at: Option<String>,
    /// Reason, stored with the dead letter
    #[arg(long, value_name = "TEXT", requires = "at")]
    pub reason: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct State {
    #[command(subcommand)]
    pub verb: StateVerb,
}

/// Subcommands of `weir state`.
#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    /// Print positions and the size of each node's state
    Inspect {
        #[command(flatten)]
        graph: Graph,
        /// Output format; JSON prints one partition per line
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Read everything and report damage
    Check {
        #[command(flatten)]
        graph: Graph,
    },
    /// Print every entry as JSON, one object per line
    Export {
        #[command(flatten)]
        graph: Graph,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Buffer {
    #[command(subcommand)]
    pub verb: BufferVerb,
}

/// Subcommands of `weir buffer`.
#[derive(Debug, Subcommand)]
pub(crate) enum BufferVerb {
    /// Print the size of each log, undelivered records, and damage
    Inspect {
        #[command(flatten)]
        graph: Graph,
        /// Only this node
        #[arg(long)]
        node: Option<String>,
        /// Output format; JSON prints one log per line
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Read everything and report damage
    Check {
        #[command(flatten)]
        graph: Graph,
        /// Only this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Print undelivered records as JSON, one object per line
    Dump {
        #[command(flatten)]
        graph: Graph,
        /// Only this node
        #[arg(long)]
        node: Option<String>,
        /// Maximum records to print, oldest first; all if omitted
        #[arg(long)]
        limit: Option<u64>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub verb: DlqVerb,
}

/// Subcommands of `weir dlq`.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// Count dead letters by node and error code
    List {
        #[command(flatten)]
        choice: LetterChoice,
        /// Output format
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Print dead letters with event, error, node, position and time
    Show {
        #[command(flatten)]
        choice: LetterChoice,
        /// Maximum letters to print, oldest first
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Print dead letters as JSON, one object per line
    Export {
        #[command(flatten)]
        choice: LetterChoice,
    },
    /// Import dead letters stored elsewhere, such as in a topic, so that they can be retried
    ///
    /// The graph must be stopped. To keep it running, use a separate directory for the import and the retry: `--set
    /// data_dir=PATH`.
    Import {
        #[command(flatten)]
        graph: Graph,
        /// File of letters in the format of `export` and of the `dead_letter` transform, one per line; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Delete dead letters permanently
    ///
    /// The graph must be stopped.
    Purge {
        #[command(flatten)]
        choice: LetterChoice,
        /// Delete all of them; required if no other filter is given
        #[arg(long)]
        all: bool,
    },
    /// Send dead letters to the node that rejected them again
    ///
    /// A running graph retries them itself; a stopped graph is started for the retry alone. Delivered letters are removed;
    /// letters that are rejected again become new ones.
    Retry {
        #[command(flatten)]
        choice: LetterChoice,
        /// Output format
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
}

/// Filter for dead letters.
#[derive(Debug, ClapArgs)]
pub(crate) struct LetterChoice {
    #[command(flatten)]
    pub graph: Graph,
    /// Only letters rejected by this node
    #[arg(long)]
    pub node: Option<String>,
    /// Only letters with this error code, for example `invalid_json`
    #[arg(long)]
    pub code: Option<String>,
    /// Only the letter of the event with this id, as printed by `show`
    #[arg(long)]
    pub id: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// Components whose options to print; all components, one line each, if omitted
    #[arg(value_name = "COMPONENT", conflicts_with = "format")]
    pub components: Vec<String>,
    /// Output format of the list
    #[arg(long, value_enum, default_value = "text")]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// One line per component
    Text,
    /// JSON, for programs
    Json,
    /// The complete reference with every option, in Markdown
    Markdown,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// Which example
    #[arg(value_enum, value_name = "NAME", default_value = "events")]
    pub name: DemoName,
    /// Write the graph file of the demo to this directory instead of running it
    #[arg(long, value_name = "DIR")]
    pub eject: Option<PathBuf>,
    /// Events to generate; the demo ends when all are processed
    #[arg(long, default_value_t = 600)]
    pub events: u64,
    /// Events per second
    #[arg(long, default_value_t = 60)]
    pub rate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoName {
    /// Find Kubernetes events in container logs
    Events,
    /// Find firing alerts in a stream of metrics
    Alerts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text, for people
    Text,
    /// JSON, one object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text, for people
    Text,
    /// JSON, for programs
    Json,
}
