//! The verbs.

mod completions;
mod demo;
mod dlq;
mod doctor;
mod explain;
mod graph;
mod health;
mod init;
mod list;
mod run;
mod schema;
mod test;
mod validate;

use std::io::IsTerminal;

use weir::config::{self, LoadRequest, Loaded};

use crate::Exit;
use crate::args::{Graph, Verb};

/// Does what was asked.
pub(crate) fn dispatch(verb: Verb) -> Exit {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Init(args) => init::run(&args),
        Verb::Health(args) => health::run(&args),
        Verb::Graph(args) => graph::run(&args),
        Verb::Dlq(args) => dlq::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Schema => schema::run(),
        Verb::Completions(args) => completions::run(&args),
        Verb::Demo(args) => demo::run(&args),
    }
}

fn load(args: &Graph) -> Loaded {
    let env = |name: &str| std::env::var(name).ok();
    config::load(&LoadRequest { paths: &args.paths, set: &args.set, env: &env })
}

/// The graph of a load, after printing what is to be said about it to standard error.
fn graph_or_exit(loaded: Loaded) -> Result<config::Graph, Exit> {
    let text = config::render_text(&loaded, std::io::stderr().is_terminal());
    if !text.is_empty() {
        crate::print::err(format_args!("{text}"));
    }
    loaded.graph.ok_or(Exit::BadConfig)
}
