//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in the texts of a graph, after parsing.

use std::io::Read;

use super::diagnostic::{Diagnostic, Place, SourceText};
use super::tree::{self, Node, Piece, Value, Written};

/// The largest secret file.
const SECRET_BYTES: u64 = 64 << 10;

/// Looks a variable of the environment up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Substitutes in every text below `node`. A plain text that is wholly one `${...}` is read again as a YAML
/// scalar, so that `port: ${PORT}` gives a number. What cannot be substituted is unknown from here on.
pub(crate) fn substitute(node: &mut Node, env: Env<'_>, sources: &[SourceText], problems: &mut Vec<Diagnostic>) {
    let text = match &mut node.value {
        Value::List(items) => return items.iter_mut().for_each(|item| substitute(item, env, sources, problems)),
        Value::Map(entries) => {
            return entries.iter_mut().for_each(|entry| substitute(&mut entry.node, env, sources, problems));
        }
        Value::Text(text) if text.contains("${") => std::mem::take(text),
        _ => return,
    };
    let source = sources.get(node.place.source);
    node.value = Value::Text(text.clone());
    let place = |from: &std::ops::Range<usize>| match source {
        Some(source) => node.place_within(from, source),
        None => node.place.clone(),
    };
    let before = problems.len();
    let written = expand(text, env, place, problems);
    if problems.len() > before {
        node.value = Value::Unknown;
        return;
    }
    let is_whole = matches!(&*written.pieces, [piece] if piece.from == (0..written.text.len()) && piece.is_whole);
    let raw = source.and_then(|source| source.text.get(node.place.span.clone()));
    let is_plain = raw.is_some_and(|raw| raw.starts_with("${"));
    node.value = match is_whole && is_plain {
        true => scalar(&written.result),
        false => Value::Text(written.result.clone()),
    };
    node.written = Some(Box::new(written));
}

/// A value from outside as a YAML scalar; anything else stays the text it is.
fn scalar(text: &str) -> Value {
    match tree::parse(0, text).root {
        Some(Node { value: value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_)), place, .. })
            if place.span == (0..text.len()) =>
        {
            value
        }
        _ => Value::Text(text.to_owned()),
    }
}

/// The text with every `${...}` replaced.
fn expand(
    text: String,
    env: Env<'_>,
    place: impl Fn(&std::ops::Range<usize>) -> Place,
    problems: &mut Vec<Diagnostic>,
) -> Written {
    let mut result = String::with_capacity(text.len());
    let mut pieces = Vec::new();
    let mut done = 0;
    while let Some(found) = text[done..].find("${") {
        let at = done + found;
        // `$${` is how a text says `${`.
        if text[done..at].ends_with('$') {
            result.push_str(&text[done..at - 1]);
            let start = result.len();
            result.push_str("${");
            pieces.push(Piece { from: at - 1..at + 2, to: start..start + 2, is_secret: false, is_whole: false });
            done = at + 2;
            continue;
        }
        result.push_str(&text[done..at]);
        let Some(length) = text[at..].find('}') else {
            let problem = Diagnostic::error("bad_substitution", place(&(at..text.len())), "`${` without its `}`");
            problems.push(problem.help("close it, or write `$${` for a plain `${`"));
            break;
        };
        let from = at..at + length + 1;
        match look_up(&text[at + 2..at + length], env) {
            Ok((value, is_secret)) => {
                let start = result.len();
                result.push_str(&value);
                pieces.push(Piece { from: from.clone(), to: start..result.len(), is_secret, is_whole: true });
            }
            Err((code, message, help)) => problems.push(Diagnostic::error(code, place(&from), message).help(help)),
        }
        done = from.end;
    }
    result.push_str(&text[done.min(text.len())..]);
    Written { text, result, pieces }
}

/// The value of `VAR`, `VAR:-default` or `file:/path`, and whether it is from outside the graph's own files.
/// Values are never part of a message.
fn look_up(inner: &str, env: Env<'_>) -> Result<(String, bool), (&'static str, String, String)> {
    if inner.contains("${") {
        let help = "give the default itself: `${NAME:-value}`".to_owned();
        return Err(("bad_substitution", "a `${...}` within another is not supported".to_owned(), help));
    }
    if let Some(path) = inner.strip_prefix("file:") {
        return read_secret(path).map(|value| (value, true)).map_err(|why| {
            let help = "the file must exist, be readable by weir and hold at most 64 KiB of UTF-8".to_owned();
            ("missing_file", format!("cannot read `{path}`: {why}"), help)
        });
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let help = "write `${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` for a plain `${`".to_owned();
        return Err(("bad_substitution", format!("`{name}` is not the name of a variable"), help));
    }
    // As in a shell, `:-` also replaces an empty value.
    let value = env(name).filter(|value| default.is_none() || !value.is_empty());
    let value = value.map(|value| (value, true)).or_else(|| default.map(|default| (default.to_owned(), false)));
    value.ok_or_else(|| {
        let help = format!("set it before weir starts (`export {name}=...`), or give a default: `${{{name}:-value}}`");
        ("missing_variable", format!("the environment has no variable `{name}`"), help)
    })
}

fn read_secret(path: &str) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(SECRET_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > SECRET_BYTES {
        return Err("it is too large".to_owned());
    }
    Ok(text.strip_suffix('\n').map(|text| text.trim_end_matches('\r').to_owned()).unwrap_or(text))
}
