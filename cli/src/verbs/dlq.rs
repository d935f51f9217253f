//! `weir dlq`: what became of events that no node could take.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::DateTime;
use weir::graph::{DeadLetter, read_dead_letters};

use crate::Exit;
use crate::args::{Dlq, DlqVerb, LetterChoice, OutputFormat};
use crate::print::{errln, outln};

pub(super) fn run(args: &Dlq) -> Exit {
    let (DlqVerb::List { choice, .. } | DlqVerb::Show { choice, .. } | DlqVerb::Export { choice }) = &args.verb;
    let graph = match super::graph_or_exit(super::load(&choice.graph)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let dir = graph.dead_letters_dir();
    let read = match &args.verb {
        DlqVerb::List { format, .. } => list(&dir, choice, *format),
        DlqVerb::Show { limit, .. } => show(&dir, choice, *limit),
        DlqVerb::Export { .. } => each(&dir, choice, |letter| outln!("{}", to_json(&letter))),
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
        return Ok(true);
    }
    let mut is_whole = true;
    let is_wanted = |letter: &DeadLetter| {
        choice.node.as_ref().is_none_or(|node| *node == letter.node)
            && choice.code.as_ref().is_none_or(|code| *code == letter.code)
    };
    let chosen = |letter: DeadLetter| {
        if is_wanted(&letter) {
            take(letter);
        }
    };
    read_dead_letters(dir, chosen, |damage| {
        is_whole = false;
        errln!("damaged: {damage}");
    })?;
    Ok(is_whole)
}

/// Letters of one node and code.
struct Group {
    count: u64,
    first: i64,
    last: i64,
    message: String,
}

fn list(dir: &Path, choice: &LetterChoice, format: OutputFormat) -> std::io::Result<bool> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let is_whole = each(dir, choice, |letter| {
        let DeadLetter { node, code, time, message, .. } = letter;
        let group =
            groups.entry((node, code)).or_insert(Group { count: 0, first: time, last: time, message: String::new() });
        group.count += 1;
        (group.first, group.last) = (group.first.min(time), group.last.max(time));
        group.message = message;
    })?;
    match format {
        OutputFormat::Json => {
            for ((node, code), Group { count, first, last, message }) in groups {
                let group = serde_json::json!({
                    "node": node, "code": code, "count": count, "first": at(first), "last": at(last), "message": message,
                });
                outln!("{group}");
            }
        }
        OutputFormat::Text if groups.is_empty() => outln!("no dead letters in {}", dir.display()),
        OutputFormat::Text => {
            outln!("{:>8}  {:<16} {:<20} {:<24} {:<24} last reason", "letters", "node", "code", "first", "last");
            for ((node, code), Group { count, first, last, message }) in groups {
                outln!("{count:>8}  {node:<16} {code:<20} {:<24} {:<24} {message}", at(first), at(last));
            }
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
        outln!("{}  node {}  {}: {}", at(letter.time), letter.node, letter.code, letter.message);
        outln!("  event {} of {}", letter.id, at(letter.event_time));
        match (letter.bytes(), letter.codec.as_str()) {
            (None, _) => outln!("  no body"),
            (Some(bytes), codec) => outln!("  {codec}: {}", String::from_utf8_lossy(&bytes)),
        }
    })?;
    if more > 0 {
        outln!("{more} more; --limit shows them, `weir dlq export` gives all as JSON");
    }
    Ok(is_whole)
}

fn to_json(letter: &DeadLetter) -> String {
    serde_json::to_string(letter).unwrap_or_default()
}

fn at(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
