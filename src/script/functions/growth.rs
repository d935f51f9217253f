//! How much memory functions of the library take for what they are given, found out before they are called.
//!
//! The library looks at nothing until its result is there, which may be a hundred times what it came from. So every function is in one
//! list here: a test fails for one that is not. A bound may be above what a call takes; where a cheap one is too high, it counts.

use std::sync::Arc;

use vrl::parser::ast::{FunctionArgument, Node};
use vrl::value::Value;

use crate::script::bounds::{self, ITEM, TEXT, map_memory};
use crate::script::guard::{Feed, Operand};

/// Other arguments, by their parameters; those that are computed are not known.
type Others<'a> = dyn Fn(&str) -> Option<&'a Value> + 'a;

/// A function that may make much of little.
#[derive(Debug, Clone, Copy)]
pub(in crate::script) struct Growth {
    /// The parameter that it grows with.
    pub(in crate::script) parameter: &'static str,
    /// Memory for its argument, without what it holds itself.
    pub(in crate::script) memory: fn(&Value, &Others) -> usize,
}

/// A small text in a list that was grown item by item, beside its bytes.
const PIECE: usize = 2 * ITEM + TEXT;
/// An entry of a map that was collected before: key, value, its texts, and its part of a node.
const ENTRY: usize = 4 * ITEM + 4 * TEXT + 64;

/// Functions that give no more than a few times what they are given, or something of a fixed size.
#[cfg(test)]
#[rustfmt::skip]
pub(in crate::script) const LITTLE: &[&str] = &[
    "abs", "append", "array", "assert", "assert_eq", "basename", "bool", "ceil", "community_id", "compact", "contains",
    "contains_all", "crc", "decode_base16", "decode_base64", "decode_charset", "decode_mime_q", "decode_percent",
    "decode_punycode", "decrypt", "decrypt_ip", "del", "dirname", "downcase", "encode_base16", "encode_base64",
    "encode_charset", "encode_csv", "encode_gzip", "encode_lz4", "encode_percent", "encode_punycode", "encode_snappy",
    "encode_zlib", "encrypt", "encrypt_ip", "ends_with", "exists", "filter", "find", "float", "floor", "for_each",
    "format_int", "format_timestamp", "from_entries", "from_unix_timestamp", "get", "haversine", "hmac", "includes",
    "int", "ip_aton", "ip_cidr_contains", "ip_ntoa", "ip_ntop", "ip_pton", "ip_subnet", "ip_to_ipv6", "ipv6_to_ipv4",
    "is_array", "is_boolean", "is_empty", "is_float", "is_integer", "is_ipv4", "is_ipv6", "is_json", "is_null",
    "is_nullish", "is_object", "is_regex", "is_string", "is_timestamp", "keys", "length", "log", "match", "match_any",
    "match_array", "match_datadog_query", "md5", "merge", "mod", "now", "object", "object_from_array",
    "parse_apache_log", "parse_aws_alb_log", "parse_aws_vpc_flow_log", "parse_bytes", "parse_common_log",
    "parse_duration", "parse_float", "parse_glog", "parse_int", "parse_klog", "parse_nginx_log", "parse_timestamp",
    "parse_user_agent", "pop", "push", "random_bool", "random_bytes", "random_float", "random_int", "range", "remove",
    "round", "seahash", "sha1", "sha2", "sha3", "shannon_entropy", "slice", "starts_with", "string",
    "strip_ansi_escape_codes", "strip_whitespace", "strlen", "tally_value", "timestamp", "to_bool", "to_float",
    "to_regex", "to_syslog_facility", "to_syslog_facility_code", "to_syslog_level", "to_syslog_severity",
    "to_unix_timestamp", "truncate", "type_def", "unique", "upcase", "uuid_from_friendly_id", "uuid_v4", "uuid_v7",
    "values", "xxhash", "zip",
];

/// Functions that collect what their closure gives; what they have of it is entered at each run.
pub(in crate::script) const COLLECT: &[&str] = &["map_keys", "map_values", "replace_with"];

/// How a function grows, if it is one that may.
pub(in crate::script) fn of(name: &str) -> Option<Growth> {
    let (parameter, memory): (&'static str, fn(&Value, &Others) -> usize) = match name {
        "camelcase" | "kebabcase" | "pascalcase" | "screamingsnakecase" | "snakecase" => ("value", words),
        "encode_json" => ("value", |value, _| json(value)),
        "encode_key_value" | "encode_logfmt" => ("value", |value, others| {
            let delimiters = text_length(others("key_value_delimiter"), 1) + text_length(others("field_delimiter"), 1);
            flattened(value, 0, delimiters)
        }),
        "encode_zstd" => ("compression_level", |level, _| zstd_encoder(level)),
        "format_number" => {
            // The function takes a negative one for a number of digits without a sign.
            ("scale", |scale, _| scale.as_integer().map_or(0, |scale| usize::try_from(scale).unwrap_or(usize::MAX)))
        }
        "parse_aws_cloudwatch_log_subscription_message" | "parse_json" | "parse_ruby_hash" => {
            ("value", |value, _| text(value).map_or(0, document))
        }
        "parse_cbor" => ("value", |value, _| text(value).map_or(0, cbor)),
        "parse_cef" | "parse_syslog" | "parse_linux_authorization" => ("value", |value, _| entries(value, b"=", ENTRY)),
        "parse_csv" => ("value", |value, others| csv(value, others("delimiter"))),
        "parse_grok" => ("value", |value, others| grok(value, others("pattern").and_then(text).map(names))),
        "parse_groks" => ("value", |value, others| {
            let patterns = others("patterns").and_then(Value::as_array);
            grok(value, patterns.and_then(|all| all.iter().filter_map(text).map(names).max()))
        }),
        "parse_influxdb" => ("value", |value, _| entries(value, b"=", 6 * map_memory(1))),
        "parse_key_value" => ("value", |value, others| match others("field_delimiter") {
            Some(delimiter) => entries(value, text(delimiter).unwrap_or_default(), ENTRY),
            None => entries(value, b" ", ENTRY),
        }),
        "parse_logfmt" => ("value", |value, _| entries(value, b" ", ENTRY)),
        "parse_query_string" | "parse_url" => ("value", |value, _| entries(value, b"&", ENTRY)),
        "parse_regex" => ("value", |value, others| captured(value, others, false)),
        "parse_regex_all" => ("value", |value, others| captured(value, others, true)),
        "parse_tokens" => ("value", |value, _| {
            text(value).map_or(0, |text| {
                let is_end = |byte: &&u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'[' | b']' | b'\\');
                at_most(text.len(), PIECE, || 1 + text.iter().filter(is_end).count())
            })
        }),
        "parse_xml" => ("value", |value, _| text(value).map_or(0, xml)),
        "parse_yaml" => ("value", |value, _| text(value).map_or(0, yaml)),
        "redact" => ("value", |value, others| redacted(value, others("redactor"), others("filters"))),
        "sieve" => ("value", |value, others| {
            let longest = text_length(others("replace_single"), 0).max(text_length(others("replace_repeated"), 0));
            let length = text_length(Some(value), 0);
            match others("permitted_characters").and_then(Value::as_regex) {
                Some(regex) => at_most(length, longest, || matches(value, regex)),
                None => length.saturating_mul(longest),
            }
        }),
        "split" => ("value", |value, others| pieces(value, others("pattern"), others("limit"))),
        "split_path" => ("value", |value, _| entries(value, b"/", PIECE)),
        "tag_types_externally" => ("value", |value, _| scalars(value).saturating_mul(map_memory(1) + TEXT)),
        "tally" => ("value", |value, _| items(value).saturating_mul(ENTRY)),
        "to_entries" => ("value", |value, _| items(value).saturating_mul(map_memory(1) + ITEM + 3 * TEXT)),
        _ => return None,
    };
    Some(Growth { parameter, memory })
}

/// The argument that a function grows with, and the others, where a call has it.
pub(in crate::script) fn fed(
    name: &str,
    growth: Growth,
    arguments: &[Node<FunctionArgument>],
) -> Option<(usize, Arc<Feed>)> {
    let function = super::available().iter().find(|function| function.identifier() == name)?;
    let parameters = function.parameters();
    let mut next = 0;
    let (mut fed, mut others) = (None, Vec::new());
    for (at, argument) in arguments.iter().enumerate() {
        let FunctionArgument { ident, expr } = argument.inner();
        // As the compiler counts them.
        let number = match ident {
            Some(ident) => {
                let number = parameters.iter().position(|given| given.keyword == ident.inner().as_ref())?;
                next += usize::from(number == next);
                number
            }
            None => {
                next += 1;
                next - 1
            }
        };
        let keyword = parameters.get(number)?.keyword;
        match keyword == growth.parameter {
            true => fed = Some(at),
            false => others.push((keyword, Operand::of(expr))),
        }
    }
    Some((fed?, Arc::new(Feed { growth, others })))
}

fn text(value: &Value) -> Option<&[u8]> {
    value.as_bytes().map(|text| &text[..])
}

fn text_length(value: Option<&Value>, default: usize) -> usize {
    value.and_then(text).map_or(default, <[u8]>::len)
}

/// So many bytes for each of `count`, of which there are `most` at most: they are counted only where that would be too much.
fn at_most(most: usize, each: usize, count: impl FnOnce() -> usize) -> usize {
    let bound = most.saturating_add(1).saturating_mul(each);
    if bounds::check_size(bound).is_ok() { bound } else { count().saturating_mul(each) }
}

/// Parts of a text, of which one ends at each `end`.
fn entries(value: &Value, end: &[u8], each: usize) -> usize {
    let Some(text) = text(value) else { return 0 };
    let count = || match end {
        [] => text.len(),
        end => 1 + memchr::memmem::find_iter(text, end).count(),
    };
    at_most(text.len(), each, count).saturating_add(text.len())
}

fn matches(value: &Value, regex: &regex::Regex) -> usize {
    value.to_str_lossy().map_or(0, |text| regex.find_iter(&text).count())
}

fn pieces(value: &Value, pattern: Option<&Value>, limit: Option<&Value>) -> usize {
    let Some(text) = text(value) else { return 0 };
    let most = limit.and_then(Value::as_integer).map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(0));
    let count = || match pattern {
        Some(Value::Regex(regex)) => 1 + matches(value, regex),
        Some(pattern) => match pattern.as_bytes() {
            Some(end) if !end.is_empty() => 1 + memchr::memmem::find_iter(text, &end[..]).count(),
            _ => 2 + text.len(),
        },
        None => 2 + text.len(),
    };
    at_most(most.min(text.len() + 2), PIECE, || count().min(most)).saturating_add(text.len())
}

/// Of the first record.
fn csv(value: &Value, delimiter: Option<&Value>) -> usize {
    let Some(text) = text(value) else { return 0 };
    let delimiter = delimiter.and_then(self::text).and_then(|text| text.first()).copied().unwrap_or(b',');
    let count = || {
        let (mut count, mut is_quoted) = (1, false);
        for &byte in text {
            match byte {
                b'"' => is_quoted = !is_quoted,
                b'\n' | b'\r' if !is_quoted && count > 1 => break,
                byte if byte == delimiter => count += 1,
                _ => {}
            }
        }
        count
    };
    at_most(text.len(), PIECE, count).saturating_add(text.len())
}

/// Groups of one match, or of all.
fn captured(value: &Value, others: &Others, is_all: bool) -> usize {
    let length = text_length(Some(value), 0);
    let Some(regex) = others("pattern").and_then(Value::as_regex) else { return held(length, 64) };
    let is_numbered = others("numeric_groups").is_none_or(|is| *is != Value::Boolean(false));
    let numbers = if is_numbered { regex.captures_len() } else { 0 };
    let results = numbers + regex.capture_names().flatten().count();
    let each = map_memory(results) + ITEM + results * 2 * TEXT;
    let most = if is_all { length.saturating_add(1) } else { 1 };
    let bound = most.saturating_mul(each).saturating_add(length.saturating_mul(results));
    if bounds::check_size(bound).is_ok() {
        return bound;
    }
    let Some(text) = value.to_str_lossy() else { return 0 };
    let texts = |found: regex::Captures<'_>| {
        // A group may be there by its name and by its number.
        2 * found.iter().flatten().map(|group| group.len()).sum::<usize>()
    };
    let all = regex.captures_iter(&text).take(most);
    all.map(|found| each.saturating_add(texts(found))).fold(0, usize::saturating_add)
}

/// So many results, of which each may hold all of a text.
fn held(length: usize, results: usize) -> usize {
    length.saturating_mul(results).saturating_add(results * ENTRY)
}

/// A line, of which each name of the pattern may hold a part.
fn grok(value: &Value, names: Option<usize>) -> usize {
    /// Memory that the matcher takes for each byte, as measured.
    const MATCHER: usize = 32;
    /// A short line is matched in what little there is.
    const SHORT: usize = 64 << 10;
    match text_length(Some(value), 0) {
        ..=SHORT => 0,
        length => held(length, names.unwrap_or(64) + MATCHER),
    }
}

fn names(pattern: &[u8]) -> usize {
    memchr::memmem::find_iter(pattern, b"%{").count() + memchr::memmem::find_iter(pattern, b"(?<").count()
}

/// Words of a name in one of the cases, each a text of its own while it is taken apart.
fn words(value: &Value, _: &Others) -> usize {
    let Some(text) = text(value) else { return 0 };
    let is_begin = |byte: &&u8| !byte.is_ascii_lowercase();
    at_most(text.len(), 4 * TEXT, || 1 + text.iter().filter(is_begin).count()).saturating_add(2 * text.len())
}

fn document(text: &[u8]) -> usize {
    match bounds::check_document(text) {
        Ok(()) => 0,
        Err(_) => bounds::document_memory(text, b'\''),
    }
}

/// Bytes of a value as JSON, in a buffer that doubles.
fn json(value: &Value) -> usize {
    /// A control character has six, and so has the smallest item of a list not.
    const LONGEST: usize = 6;
    match bounds::check(value) {
        Ok(bytes) if bounds::check_size(bytes.saturating_mul(LONGEST)).is_ok() => 0,
        _ => escaped(value),
    }
}

fn escaped(value: &Value) -> usize {
    match value {
        Value::Bytes(_) | Value::String(_) => escaped_text(text(value).unwrap_or_default()),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| escaped_text(key.as_bytes()).saturating_add(2 + escaped(value)))
            .fold(2, usize::saturating_add),
        Value::Array(items) => items.iter().map(|item| 1 + escaped(item)).fold(2, usize::saturating_add),
        Value::Boolean(_) | Value::Null => 5,
        Value::Integer(number) => number.checked_ilog10().map_or(20, |digits| digits as usize + 1),
        _ => 32,
    }
}

fn escaped_text(text: &[u8]) -> usize {
    let long = text.iter().filter(|byte| **byte < 0x20 || matches!(**byte, b'"' | b'\\')).count();
    text.len().saturating_add(5 * long).saturating_add(2)
}

/// Bytes of an object as pairs, each with the names of all objects around it.
fn flattened(value: &Value, path: usize, delimiters: usize) -> usize {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| flattened(value, path.saturating_add(key.len() + 1), delimiters))
            .fold(0, usize::saturating_add),
        Value::Array(items) => {
            items.iter().map(|item| flattened(item, path.saturating_add(8), delimiters)).fold(0, usize::saturating_add)
        }
        // The pairs are collected first, with keys and values as texts of their own.
        value => path.saturating_add(escaped(value)).saturating_mul(2).saturating_add(delimiters + ENTRY),
    }
}

/// Memory of the encoder, which follows from its level alone: from 20 on it is hundreds of MiB. (zstd's `ZSTD_getCParams`.)
fn zstd_encoder(level: &Value) -> usize {
    if level.as_integer().is_some_and(|level| level > 19) { usize::MAX } else { 0 }
}

/// Items of CBOR: each has a head, and texts are stepped over.
fn cbor(bytes: &[u8]) -> usize {
    // The library takes it apart into values of its own first.
    const EACH: usize = 4 * ITEM;
    if bounds::check_size(bytes.len().saturating_mul(map_memory(1) + EACH)).is_ok() {
        return 0;
    }
    let (mut at, mut size) = (0usize, 0usize);
    while let Some(&head) = bytes.get(at) {
        let (major, short) = (head >> 5, head & 0x1f);
        let width = match short {
            24..=27 => 1usize << (short - 24),
            _ => 0,
        };
        let Some(length) = bytes.get(at + 1..at + 1 + width) else { break };
        let length = match width {
            0 => u64::from(short),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        at += 1 + width;
        size = size.saturating_add(EACH);
        match major {
            2 | 3 if short != 31 => {
                size = size.saturating_add(length.min(bytes.len()));
                at = at.saturating_add(length);
            }
            5 => size = size.saturating_add(map_memory(length.min(bytes.len()).max(1))),
            _ => {}
        }
    }
    size
}

fn xml(text: &[u8]) -> usize {
    let count = || {
        let ends = memchr::memmem::find_iter(text, b"</").count();
        let marks = memchr::memchr2_iter(b'<', b'=', text).count();
        marks.saturating_sub(ends)
    };
    at_most(text.len() / 3, map_memory(1) + 4 * ENTRY, count).saturating_add(text.len())
}

/// Every mark may begin a map, and an alias repeats what it names.
fn yaml(text: &[u8]) -> usize {
    /// The library follows no more aliases for each mark.
    const ALIASES: usize = 100;
    let aliases = memchr::memchr_iter(b'*', text).count().min(ALIASES);
    let each = (map_memory(1) + ENTRY).saturating_mul(1 + aliases);
    at_most(text.len(), each, || {
        let maps = memchr::memchr2_iter(b':', b'{', text).count();
        let rest = memchr::memchr3_iter(b',', b'-', b'[', text).count();
        maps + rest / 3
    })
    .saturating_add(text.len())
}

fn redacted(value: &Value, redactor: Option<&Value>, filters: Option<&Value>) -> usize {
    const FULL: &str = "[REDACTED]";
    /// A hash as text, at most.
    const HASH: usize = 128;
    let each = match redactor {
        None => FULL.len(),
        Some(Value::Bytes(name)) if &name[..] == b"full" => FULL.len(),
        _ => HASH,
    };
    let (mut regexes, mut is_known) = (Vec::new(), filters.is_some());
    for filter in filters.and_then(Value::as_array).unwrap_or_default() {
        match filter {
            Value::Regex(regex) => regexes.push(&**regex),
            Value::Object(map) => {
                let patterns = map.get("patterns").and_then(Value::as_array).unwrap_or_default();
                regexes.extend(patterns.iter().filter_map(Value::as_regex));
                is_known &= patterns.iter().all(Value::is_regex);
            }
            _ => is_known = false,
        }
    }
    let length = texts(value);
    let count = regexes.len().max(1);
    let bound = (0..count).fold(length, |length, _| length.saturating_mul(each));
    if bounds::check_size(bound).is_ok() || !is_known {
        return bound;
    }
    // What one filter puts in, the next may find again.
    regexes
        .iter()
        .fold((length, 0usize), |(size, put), regex| {
            let again = if each == FULL.len() { regex.find_iter(FULL).count() } else { each };
            let put = found(value, regex).saturating_add(put.saturating_mul(again));
            (size.saturating_add(put.saturating_mul(each)), put)
        })
        .0
}

/// Matches in all texts of a value.
fn found(value: &Value, regex: &regex::Regex) -> usize {
    match value {
        Value::Object(map) => map.values().map(|value| found(value, regex)).sum(),
        Value::Array(items) => items.iter().map(|item| found(item, regex)).sum(),
        value => matches(value, regex),
    }
}

/// Bytes of all texts in a value.
fn texts(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(texts).fold(0, usize::saturating_add),
        Value::Array(items) => items.iter().map(texts).fold(0, usize::saturating_add),
        value => text_length(Some(value), 0),
    }
}

fn items(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

fn scalars(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(scalars).fold(0, usize::saturating_add),
        Value::Array(items) => items.iter().map(scalars).fold(0, usize::saturating_add),
        _ => 1,
    }
}
