//! `weir dlq`: what became of events that no node could take.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use chrono::DateTime;
use weir::admin::{self, Answer, Request};
use weir::config::Graph;
use weir::error::ErrorKind;
use weir::event::readable;
use weir::graph::{self, DeadLetter, Retried, RunOptions, read_dead_letters};
use weir::terminal::line;

use crate::Exit;
use crate::args::{Dlq, DlqVerb, LetterChoice, LogFormat, OutputFormat};
use crate::print::{dataln, errln, out_as_is, outln};
use crate::screen::{Screen, Style};
use crate::table::{Table, number, text};

impl From<&LetterChoice> for graph::LetterChoice {
    fn from(LetterChoice { node, code, id, .. }: &LetterChoice) -> Self {
        graph::LetterChoice { node: node.clone(), code: code.clone(), id: id.clone() }
    }
}

pub(super) fn run(args: &Dlq) -> Exit {
    let (DlqVerb::List { choice: LetterChoice { graph, .. }, .. }
    | DlqVerb::Show { choice: LetterChoice { graph, .. }, .. }
    | DlqVerb::Export { choice: LetterChoice { graph, .. } }
    | DlqVerb::Import { graph, .. }
    | DlqVerb::Purge { choice: LetterChoice { graph, .. }, .. }
    | DlqVerb::Retry { choice: LetterChoice { graph, .. }, .. }) = &args.verb;
    let graph = match super::graph_or_exit(super::load(graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let dir = graph.dead_letters_dir();
    let read = match &args.verb {
        DlqVerb::List { choice, format } => list(&dir, choice, *format),
        DlqVerb::Show { choice, limit } => show(&dir, choice, *limit),
        DlqVerb::Export { choice } => each(&dir, choice, |letter| dataln!("{}", to_json(&letter))),
        DlqVerb::Import { from, .. } => return import(&graph, from),
        DlqVerb::Purge { choice, all } => return purge(&graph, choice, *all),
        DlqVerb::Retry { choice, format } => return retry(graph, choice, *format),
    };
    match read {
        Ok(true) => Exit::Ok,
        Ok(false) => Exit::Failed,
        Err(error) => {
            errln!("the dead letters in {} cannot be read: {error}", dir.display());
            Exit::Failed
        }
    }
}

/// Hands over every letter that is asked for; false when some are damaged, which is said.
fn each(dir: &Path, choice: &LetterChoice, mut take: impl FnMut(DeadLetter)) -> std::io::Result<bool> {
    if !dir.try_exists()? {
        errln!("there is no {}: the graph has not run with this data_dir from this folder", dir.display());
        return Ok(true);
    }
    let mut is_whole = true;
    let choice = graph::LetterChoice::from(choice);
    let chosen = |letter: DeadLetter| {
        if choice.takes(&letter) {
            take(letter);
        }
    };
    read_dead_letters(dir, chosen, |damage| {
        is_whole = false;
        errln!("damaged: {damage}");
    })?;
    Ok(is_whole)
}

/// Letters of one graph, node and code.
struct Group {
    count: u64,
    first: i64,
    last: i64,
    message: String,
}

fn list(dir: &Path, choice: &LetterChoice, format: OutputFormat) -> std::io::Result<bool> {
    let mut groups: BTreeMap<(Option<String>, String, String), Group> = BTreeMap::new();
    let is_whole = each(dir, choice, |letter| {
        let DeadLetter { graph, node, code, time, message, .. } = letter;
        let group = groups.entry((graph, node, code)).or_insert(Group {
            count: 0,
            first: time,
            last: time,
            message: String::new(),
        });
        group.count += 1;
        (group.first, group.last) = (group.first.min(time), group.last.max(time));
        group.message = message;
    })?;
    match format {
        OutputFormat::Json => {
            for ((graph, node, code), Group { count, first, last, message }) in groups {
                let group = serde_json::json!({
                    "graph": graph, "node": node, "code": code, "count": count, "first": at(first), "last": at(last), "message": message,
                });
                dataln!("{group}");
            }
        }
        OutputFormat::Text if groups.is_empty() => outln!("no dead letters in {}", dir.display()),
        OutputFormat::Text => {
            let columns = [number("letters"), text("graph").spare(3), text("node"), text("code")];
            let times = [text("first").spare(2), text("last").spare(1), text("last reason")];
            let mut table = Table::new(columns.into_iter().chain(times).collect());
            for ((graph, node, code), Group { count, first, last, message }) in groups {
                let graph = graph.unwrap_or_else(|| "-".to_owned());
                table.row([count.to_string(), graph, node, code, at(first), at(last), message]);
            }
            out_as_is(&table.render(Screen::out()));
        }
    }
    Ok(is_whole)
}

fn show(dir: &Path, choice: &LetterChoice, limit: usize) -> std::io::Result<bool> {
    let (mut shown, mut more) = (0, 0u64);
    let is_whole = each(dir, choice, |letter| {
        if shown == limit {
            more += 1;
            return;
        }
        shown += 1;
        let (node, code) = (line(&letter.node), line(&letter.code));
        let screen = Screen::out();
        let code = screen.paint(Style::Bad, &code);
        let graph = letter.graph.as_ref().map_or(String::new(), |graph| format!("graph {}  ", line(graph)));
        out_as_is(&format!("{}  {graph}node {node}  {code}: {}\n", at(letter.time), line(&letter.message)));
        outln!("  event {} of {}", line(&letter.id), at(letter.event_time));
        match (letter.bytes(), letter.codec.as_str()) {
            (None, _) => outln!("  no body"),
            (Some(bytes), codec) => outln!("  {}: {}", line(codec), line(&readable(&bytes))),
        }
    })?;
    if more > 0 {
        outln!("{more} more; --limit shows them, `weir dlq export` gives all as JSON");
    }
    Ok(is_whole)
}

fn retry(mut graph: Graph, choice: &LetterChoice, format: OutputFormat) -> Exit {
    if let Some(exit) = unknown_node(&graph, choice) {
        return exit;
    }
    match admin::ask(&graph.dir(), &Request::Retry(choice.into())) {
        // No process has the graph: it is run for this alone.
        Ok(None) => {}
        answers => {
            return super::take_answers(answers, |answer| match answer {
                Answer::Retried(retried) => ControlFlow::Break(print_retried(&retried, format)),
                _ => ControlFlow::Continue(()),
            });
        }
    }
    crate::logging::start(LogFormat::Text);
    graph.telemetry = None;
    let options = RunOptions { retry: Some(choice.into()), ..RunOptions::default() };
    match super::run::run_graph(graph, options, |_, _| {}) {
        Ok(report) => print_retried(&report.retried.unwrap_or_default(), format),
        Err(error) => {
            errln!("the dead letters were not tried again: {error}");
            if error.kind() == ErrorKind::Config { Exit::BadConfig } else { Exit::Failed }
        }
    }
}

fn print_retried(retried: &Retried, format: OutputFormat) -> Exit {
    let exit = if retried.is_complete() { Exit::Ok } else { Exit::Failed };
    if format == OutputFormat::Json {
        dataln!("{}", serde_json::to_string(retried).unwrap_or_default());
        return exit;
    }
    let Retried { tried, settled, rejected, repeated, left, elsewhere, waiting, broken } = retried;
    let delivered = settled.saturating_sub(*rejected);
    outln!("{tried} tried again: {delivered} delivered or filtered, {rejected} rejected again");
    if *repeated > 0 {
        outln!("{repeated} older ones of the same events left out");
    }
    outln!("{waiting} dead letters wait now");
    for (graph, count) in elsewhere {
        outln!("{count} belong to the graph `{}`, which shares the log: retry them with that graph", line(graph));
    }
    for (why, count) in left {
        outln!("{count} left alone: {}", line(why));
    }
    for why in broken {
        outln!("broken: {}", line(why));
    }
    exit
}

/// Says that the node that is asked for is not there.
fn unknown_node(graph: &Graph, choice: &LetterChoice) -> Option<Exit> {
    let node = choice.node.as_ref().filter(|node| !graph.nodes.iter().any(|known| known.id == **node))?;
    let known: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    errln!("the graph has no node `{node}`; it has {}", known.join(", "));
    Some(Exit::Failed)
}

fn purge(graph: &Graph, choice: &LetterChoice, all: bool) -> Exit {
    if !all && choice.node.is_none() && choice.code.is_none() && choice.id.is_none() {
        errln!("say which: by --node, --code or --id, or --all");
        return Exit::Failed;
    }
    match graph::purge_dead_letters(graph, &choice.into()) {
        Ok(count) => {
            outln!("{count} dead letters removed");
            Exit::Ok
        }
        Err(error) => {
            errln!("nothing was removed: {error}");
            Exit::Failed
        }
    }
}

fn import(graph: &Graph, from: &Path) -> Exit {
    let imported = read_letters(from).and_then(|letters| {
        graph::import_dead_letters(graph, &letters).map_err(|error| error.to_string())?;
        Ok(letters.len())
    });
    match imported {
        Ok(count) => {
            outln!("{count} imported; `weir dlq retry` tries them again");
            Exit::Ok
        }
        Err(why) => {
            errln!("nothing was imported: {why}");
            Exit::Failed
        }
    }
}

/// Every letter in a file, or on standard input.
fn read_letters(from: &Path) -> Result<Vec<DeadLetter>, String> {
    let name = from.display();
    let input: Box<dyn BufRead> = match from.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(from).map_err(|error| format!("{name}: {error}"))?)),
    };
    let letter = |(at, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(|error| format!("{name}: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("{name}:{}: that is no dead letter: {error}", at + 1))
    };
    input.lines().enumerate().map(letter).collect()
}

fn to_json(letter: &DeadLetter) -> String {
    String::from_utf8(letter.to_json()).unwrap_or_default()
}

fn at(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
