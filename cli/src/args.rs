//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Takes logs and Kubernetes events in, decides on them while they move, puts the results where people look.
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
    /// Begin a graph from a template
    Init(Init),
    /// Ask a running graph how it is
    Health(Health),
    /// Draw a graph
    Graph(GraphPicture),
    /// Look at the events that no node could take
    Dlq(Dlq),
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
    /// End when the bounded sources end; the same input then gives the same output
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
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// How the list is printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
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
