//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use weir::config::Span;

/// A streaming engine: takes logs, events and metrics in, decides on them while they move, puts the results where people look.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a graph
    Run(Run),
    /// Check a graph and print every problem at once
    Validate(Validate),
    /// Run a graph's own tests
    Test(Graph),
    /// Show what a graph will do: lanes, acknowledgements, promises, memory
    Explain(Graph),
    /// Ask every peer of a graph what would go wrong
    Doctor(Doctor),
    /// Begin a graph from a template
    Init(Init),
    /// Ask a running graph how it is
    Health(Health),
    /// Draw a graph
    Graph(GraphPicture),
    /// Watch a running graph: rates, lag, what is in flight, memory, the books of each node
    Top(Top),
    /// Look at the events that leave a node of a running graph
    Tap(Tap),
    /// Look at the events that no node could take, and try them again
    Dlq(Dlq),
    /// Look at what a graph that does not run remembers
    State(State),
    /// Look at what push sources and disk buffers hold
    Buffer(Buffer),
    /// Step over a record that keeps a partition from being read, once, with a reason
    ///
    /// Without `--at` it shows where the lanes of a running graph stand. The record becomes a dead letter.
    Skip(Skip),
    /// List the components and codecs of this binary
    List(List),
    /// Print the JSON Schema of graph files, for editors
    Schema,
    /// Print the completions of a shell
    Completions(Completions),
    /// Watch a whole system on embedded parts; nothing to install
    Demo(Demo),
}

/// Which graph.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Graph {
    /// Graph files, or folders of them; together they are one graph
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Set an option, as in `--set sources.in.group_id=mine`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    #[command(flatten)]
    pub graph: Graph,
    /// End when the bounded sources end; the same input then gives the same output. `max_ahead` is not applied
    #[arg(long)]
    pub once: bool,
    /// How logs are written to standard error
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub graph: Graph,
    /// How problems are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub graph: Graph,
    /// How long one question to a peer may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    pub timeout: Span,
    /// How findings are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// The template; without it, a question at a terminal, or a list
    pub template: Option<String>,
    /// Folder for the graph
    #[arg(long, value_name = "DIR", default_value = "my-graph")]
    pub dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    #[command(flatten)]
    pub graph: Graph,
    /// Ask whether it can work, and why not, instead of whether it lives
    #[arg(long)]
    pub ready: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GraphPicture {
    #[command(flatten)]
    pub graph: Graph,
    /// The language of the picture
    #[arg(long, value_enum, default_value = "mermaid")]
    pub format: PictureFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PictureFormat {
    /// A flowchart that Markdown viewers draw
    Mermaid,
    /// Graphviz
    Dot,
    /// A finished picture
    Svg,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    #[command(flatten)]
    pub graph: Graph,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub interval: f64,
    /// Looks to take; without it, until it is stopped
    #[arg(long)]
    pub count: Option<u64>,
    /// How a look is printed; as JSON it is one object a line
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(|| "give 0.1 to 3600".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tap {
    /// The node, or `node.port`: `keep.errors` shows what `keep` rejects; of a sink, what comes in
    pub output: String,
    #[command(flatten)]
    pub graph: Graph,
    /// Only events for which this VRL condition holds, such as `.reason == "BackOff"`
    #[arg(long, value_name = "VRL")]
    pub filter: Option<String>,
    /// Events to show; without it, until it is stopped
    #[arg(long)]
    pub limit: Option<u64>,
    /// Events a second that are looked at, at most; the others are counted
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Hide the values of fields with this name, beside those whose names speak of passwords, tokens and the like
    #[arg(long, value_name = "FIELD")]
    pub redact: Vec<String>,
    /// How events are printed; as JSON one is one object a line
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Skip {
    #[command(flatten)]
    pub graph: Graph,
    /// The record, as `source/log/partition/position`
    #[arg(long, value_name = "PLACE", requires = "reason")]
    pub at: Option<String>,
    /// Why; it is kept with the dead letter
    #[arg(long, value_name = "TEXT", requires = "at")]
    pub reason: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct State {
    #[command(subcommand)]
    pub verb: StateVerb,
}

/// What to do with the state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    /// Show lanes, their positions, and how much each node remembers
    Inspect {
        #[command(flatten)]
        graph: Graph,
        /// How it is printed; as JSON it is one lane a line
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Read all of it, and tell what is damaged
    Check {
        #[command(flatten)]
        graph: Graph,
    },
    /// Print every entry, as one JSON object a line
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

/// What to do with the logs.
#[derive(Debug, Subcommand)]
pub(crate) enum BufferVerb {
    /// Show how much each log holds, how much of it waits, and what is damaged
    Inspect {
        #[command(flatten)]
        graph: Graph,
        /// Only the log of this node
        #[arg(long)]
        node: Option<String>,
        /// How it is printed; as JSON it is one log a line
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Read all of it, and tell what is damaged
    Check {
        #[command(flatten)]
        graph: Graph,
        /// Only the log of this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Print what waits, as one JSON object a line
    Dump {
        #[command(flatten)]
        graph: Graph,
        /// Only the log of this node
        #[arg(long)]
        node: Option<String>,
        /// Records to print, oldest first; without it, all
        #[arg(long)]
        limit: Option<u64>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub verb: DlqVerb,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// Count them by node and reason
    List {
        #[command(flatten)]
        choice: LetterChoice,
        /// How the list is printed
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
    /// Show each with its event, reason, node, position and time
    Show {
        #[command(flatten)]
        choice: LetterChoice,
        /// Letters to show, oldest first
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Print all as JSON, one a line
    Export {
        #[command(flatten)]
        choice: LetterChoice,
    },
    /// Put letters that lie elsewhere, such as a topic, into the graph's log, to be tried again
    ///
    /// The graph must not run. To leave it running, give the import and the retry a folder of their own: `--set
    /// data_dir=PATH`.
    Import {
        #[command(flatten)]
        graph: Graph,
        /// Letters as `export` prints them and the transform `dead_letter` makes them, one a line; `-`: standard input
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Remove them for good
    ///
    /// The graph must not run.
    Purge {
        #[command(flatten)]
        choice: LetterChoice,
        /// All of them, where neither node nor code nor id is given
        #[arg(long)]
        all: bool,
    },
    /// Take them once more into the node that rejected them, as the events they were there
    ///
    /// A graph that runs does it itself; otherwise its sinks are started for it. What is settled is no dead letter any
    /// more; what is rejected again is a new one.
    Retry {
        #[command(flatten)]
        choice: LetterChoice,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
    },
}

/// Which dead letters.
#[derive(Debug, ClapArgs)]
pub(crate) struct LetterChoice {
    #[command(flatten)]
    pub graph: Graph,
    /// Only those this node rejected
    #[arg(long)]
    pub node: Option<String>,
    /// Only those of this class of error, such as `invalid_json`
    #[arg(long)]
    pub code: Option<String>,
    /// Only the one of the event with this id, as `show` prints it
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
    /// What is played
    #[arg(value_enum, value_name = "NAME", default_value = "events")]
    pub name: DemoName,
    /// Write the graph behind the demo into this folder instead of running it
    #[arg(long, value_name = "DIR")]
    pub eject: Option<PathBuf>,
    /// Events to send; the demo ends when they are through
    #[arg(long, default_value_t = 600)]
    pub events: u64,
    /// Events a second
    #[arg(long, default_value_t = 60)]
    pub rate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoName {
    /// Kubernetes events out of logs
    Events,
    /// Firing alerts out of metrics
    Alerts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}
