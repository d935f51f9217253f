//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in the texts of a graph, after parsing.

use std::io::Read;

use super::diagnostic::{Diagnostic, Place, SourceText};
use super::tree::{self, Node, Text, Value};

/// The largest secret file.
const SECRET_BYTES: u64 = 64 << 10;

/// Looks a variable of the environment up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Substitutes in every text below `node`. A plain text that is wholly one `${...}` is read again as a YAML
/// scalar, so that `port: ${PORT}` gives a number.
pub(crate) fn substitute(node: &mut Node, env: Env<'_>, sources: &[SourceText], problems: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| substitute(item, env, sources, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| substitute(&mut entry.node, env, sources, problems)),
        Value::Text(text) if text.text.contains("${") => {
            let before = problems.len();
            let (result, was_whole) = expand(&text.text, &node.place, env, problems);
            let missing = problems.len() > before;
            let is_plain = sources.get(node.place.source).is_some_and(|source| {
                source.text.get(node.place.span.start..).is_some_and(|rest| rest.starts_with("${"))
            });
            node.value = match was_whole && is_plain && !missing {
                true => scalar(result),
                false => Value::Text(Text { text: result, substituted: true, missing }),
            };
        }
        _ => {}
    }
}

/// A value from outside as a YAML scalar; anything else stays the text it is.
fn scalar(text: String) -> Value {
    let source = SourceText { name: String::new(), text: text.clone() };
    match tree::parse(0, &source).map(|node| node.value) {
        Ok(value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_))) => value,
        _ => Value::Text(Text { text, substituted: true, missing: false }),
    }
}

/// The text with every `${...}` replaced, and whether it was one and nothing else.
fn expand(text: &str, place: &Place, env: Env<'_>, problems: &mut Vec<Diagnostic>) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut whole = false;
    while let Some(at) = rest.find("${") {
        // `$${` is how a text says `${`.
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            let problem = Diagnostic::error("bad_substitution", place.clone(), "`${` without its `}`");
            problems.push(problem.help("close it, or write `$${` for a plain `${`"));
            out.push_str(&rest[at..]);
            return (out, false);
        };
        let inner = &rest[at + 2..at + end];
        whole = rest.len() == text.len() && at == 0 && end + 1 == text.len();
        match look_up(inner, env) {
            Ok(value) => out.push_str(&value),
            Err((code, message, help)) => problems.push(Diagnostic::error(code, place.clone(), message).help(help)),
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    (out, whole)
}

/// The value of `VAR`, `VAR:-default` or `file:/path`. Values are never part of a message.
fn look_up(inner: &str, env: Env<'_>) -> Result<String, (&'static str, String, String)> {
    if let Some(path) = inner.strip_prefix("file:") {
        return read_secret(path).map_err(|why| {
            let help = "the file must exist, be readable by weir and hold at most 64 KiB of UTF-8".to_owned();
            ("missing_file", format!("cannot read `{path}`: {why}"), help)
        });
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let help = "write `${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` for a plain `${`".to_owned();
        return Err(("bad_substitution", format!("`{name}` is not the name of a variable"), help));
    }
    // As in a shell, `:-` also replaces an empty value.
    let value = env(name).filter(|value| default.is_none() || !value.is_empty());
    value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        let help = format!("set it, or give a default: `${{{name}:-value}}`");
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
