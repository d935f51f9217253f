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
    /// List the components of this binary
    List(List),
    /// Print the JSON Schema of graph files, for editors
    Schema,
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
