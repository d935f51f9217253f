//! The verbs.

mod buffer;
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
mod skip;
mod state;
mod tap;
mod test;
mod top;
mod validate;

use std::ops::ControlFlow;

use weir::admin::{self, Answer, Request};
use weir::config::{self, LoadRequest, Loaded};

use crate::Exit;
use crate::args::{Graph, Verb};
use crate::print::errln;
use crate::screen::Screen;

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
        Verb::Top(args) => top::run(&args),
        Verb::Tap(args) => tap::run(&args),
        Verb::Dlq(args) => dlq::run(&args),
        Verb::Buffer(args) => buffer::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Skip(args) => skip::run(&args),
        Verb::State(args) => state::run(&args),
        Verb::Schema => schema::run(),
        Verb::Completions(args) => completions::run(&args),
        Verb::Demo(args) => demo::run(&args),
    }
}

fn load(args: &Graph) -> Loaded {
    let env = |name: &str| std::env::var(name).ok();
    config::load(&LoadRequest { paths: &args.paths, set: &args.set, env: &env })
}

/// Asks a running graph and hands every answer to `take`, until that breaks off with an exit code.
fn ask(graph: &config::Graph, request: &Request, take: impl FnMut(Answer) -> ControlFlow<Exit>) -> Exit {
    let dir = graph.dir();
    match admin::ask(&dir, request) {
        Ok(None) => {
            let dir = dir.display();
            errln!(
                "no graph runs that has its data in {dir}; start it with `weir run`, or name the folder with `--set data_dir=PATH`"
            );
            Exit::Failed
        }
        answers => take_answers(answers, take),
    }
}

fn take_answers<A: Iterator<Item = std::io::Result<Answer>>>(
    answers: std::io::Result<Option<A>>,
    mut take: impl FnMut(Answer) -> ControlFlow<Exit>,
) -> Exit {
    let gone = |error: std::io::Error| {
        match error.kind() {
            // It was not even asked.
            std::io::ErrorKind::InvalidInput => errln!("{error}"),
            _ => errln!("the graph does not answer: {error}"),
        }
        Exit::Failed
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => return gone(error),
    };
    for answer in answers.into_iter().flatten() {
        match answer {
            Ok(Answer::Refused(why)) => {
                errln!("{why}");
                return Exit::Failed;
            }
            Ok(answer) => {
                if let ControlFlow::Break(exit) = take(answer) {
                    return exit;
                }
            }
            Err(error) => return gone(error),
        }
    }
    Exit::Ok
}

/// The graph of a load, after printing what is to be said about it to standard error.
fn graph_or_exit(loaded: Loaded) -> Result<config::Graph, Exit> {
    let text = config::render_text(&loaded, Screen::err().has_colour);
    if !text.is_empty() {
        crate::print::err_as_is(&text);
    }
    loaded.graph.ok_or(Exit::BadConfig)
}
