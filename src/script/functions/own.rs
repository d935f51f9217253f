//! Functions of our own in the place of the library's: each does the same, within bounds.
//!
//! What is deep is found out before anything recurses, and what is large before it is made: compressed data and texts with
//! replacements may be thousands of times as large as what they came from.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use vrl::compiler::Resolved;
use vrl::compiler::conversion::Conversion;
use vrl::compiler::value::VrlValueConvert;
use vrl::parsing::ruby_hash;
use vrl::parsing::xml::{self, Document, ParseXmlConfig, process_node};
use vrl::path::{OwnedSegment, OwnedValuePath};
use vrl::value::{KeyString, ObjectMap, Value};

use crate::event::json::MAX_DEPTH;
use crate::event::rfc3339;
use crate::script::{bounds, digits};

/// Computes a function's value.
pub(super) type Own = fn(Arguments) -> Resolved;

/// What a function was given, by the names of its parameters.
pub(super) struct Arguments(pub Vec<(&'static str, Value)>);

impl Arguments {
    fn optional(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(given, _)| *given == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A required argument: the compiler has seen to it.
    fn required(&mut self, name: &str) -> Value {
        self.optional(name).unwrap_or(Value::Null)
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, vrl::compiler::ExpressionError> {
        Ok(self.optional(name).map_or(Ok(default), VrlValueConvert::try_boolean)?)
    }

    fn text(&mut self, name: &str, default: &'static str) -> Result<Cow<'static, str>, vrl::compiler::ExpressionError> {
        match self.optional(name) {
            Some(text) => Ok(Cow::Owned(text.try_bytes_utf8_lossy()?.into_owned())),
            None => Ok(Cow::Borrowed(default)),
        }
    }
}

/// The function of this name, where it is our own.
pub(super) fn function(name: &str) -> Option<Own> {
    Some(match name {
        "chunks" => chunks,
        "decode_gzip" => |given| decode(given, "Gzip", |bytes| read(MultiGzDecoder::new(bytes))),
        "decode_zlib" => |given| decode(given, "Zlib", |bytes| read(ZlibDecoder::new(bytes))),
        "decode_zstd" => |given| decode(given, "Zstd", unzstd),
        "decode_snappy" => |given| decode(given, "Snappy", unsnap),
        "decode_lz4" => decode_lz4,
        "encode_json" => encode_json,
        "encode_key_value" => encode_key_value,
        "encode_logfmt" => encode_logfmt,
        "flatten" => flatten,
        "join" => join,
        "parse_json" => parse_json,
        "parse_ruby_hash" => parse_ruby_hash,
        "parse_xml" => parse_xml,
        "replace" => replace,
        "set" => set,
        "to_int" => to_int,
        "to_string" => to_string,
        "unflatten" => unflatten,
        _ => return None,
    })
}

/// Why something was not decompressed.
enum Undone {
    Invalid,
    TooLarge,
}

impl From<std::io::Error> for Undone {
    fn from(_: std::io::Error) -> Undone {
        Undone::Invalid
    }
}

fn decode(mut given: Arguments, name: &str, decoder: impl Fn(&[u8]) -> Result<Vec<u8>, Undone>) -> Resolved {
    let bytes = given.required("value").try_bytes()?;
    match decoder(&bytes) {
        Ok(decoded) => Ok(Value::Bytes(decoded.into())),
        Err(Undone::Invalid) => Err(format!("unable to decode value with {name} decoder").into()),
        Err(Undone::TooLarge) => Err(bounds::too_large().into()),
    }
}

/// All that a decoder gives, if that is not too much.
fn read(decoder: impl Read) -> Result<Vec<u8>, Undone> {
    let most = bounds::max_value();
    let mut decoded = Vec::new();
    decoder.take(most as u64 + 1).read_to_end(&mut decoded)?;
    if decoded.len() > most { Err(Undone::TooLarge) } else { Ok(decoded) }
}

fn unzstd(bytes: &[u8]) -> Result<Vec<u8>, Undone> {
    // The window is memory as well. Up to 8 MiB is what every decoder has to offer (RFC 8878, section 3.1.1.1.2).
    let window = bounds::max_value().next_power_of_two().ilog2().clamp(23, 27);
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(window)?;
    read(decoder)
}

fn unsnap(bytes: &[u8]) -> Result<Vec<u8>, Undone> {
    let length = snap::raw::decompress_len(bytes).map_err(|_| Undone::Invalid)?;
    bounds::check_size(length).map_err(|_| Undone::TooLarge)?;
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(|_| Undone::Invalid)
}

fn decode_lz4(mut given: Arguments) -> Resolved {
    /// What the library takes where no `buf_size` is given.
    const BUFFER: i64 = 1_000_000;
    /// A byte of a block is at most so many decoded ones, about: each continues a length.
    const RATIO: usize = 256;
    let bytes = given.required("value").try_bytes()?;
    let buffer = given.optional("buf_size").map_or(Ok(BUFFER), VrlValueConvert::try_integer)?;
    let has_size = given.flag("prepended_size", false)?;
    if bytes.starts_with(&[0x04, 0x22, 0x4D, 0x18]) {
        let most = bounds::max_value();
        let mut decoded = Vec::new();
        let mut decoder = lz4_flex::frame::FrameDecoder::new(&bytes[..]).take(most as u64 + 1);
        let read = decoder.read_to_end(&mut decoded);
        read.map_err(|error| format!("unable to decode value with lz4 frame decoder: {error}"))?;
        bounds::check_size(decoded.len())?;
        return Ok(Value::Bytes(decoded.into()));
    }
    let (size, block) = match bytes.split_first_chunk() {
        Some((size, block)) if has_size => (u32::from_le_bytes(*size) as usize, block),
        _ if has_size => {
            return Err("unable to decode value with lz4 block decoder: expected another byte, found none".into());
        }
        _ => (usize::try_from(buffer).unwrap_or(usize::MAX), &bytes[..]),
    };
    if has_size {
        bounds::check_size(size)?;
    }
    let size = size.min(block.len().saturating_mul(RATIO).saturating_add(RATIO)).min(bounds::max_value());
    let decoded = lz4_flex::block::decompress(block, size);
    let decoded = decoded.map_err(|error| format!("unable to decode value with lz4 block decoder: {error}"))?;
    Ok(Value::Bytes(decoded.into()))
}

fn parse_json(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let is_lossy = given.flag("lossy", true)?;
    let bytes = if is_lossy {
        let text = value.try_bytes_utf8_lossy()?.into_owned();
        text.trim_start_matches('\u{feff}').to_owned().into()
    } else {
        let bytes = value.try_bytes()?;
        let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        bytes.slice(mark..)
    };
    bounds::check_document(&bytes)?;
    if let Ok(value) = digits::parse(&bytes) {
        return Ok(value);
    }
    // What is wrong, in the library's words.
    Ok(serde_json::from_slice(&bytes).map_err(|error| format!("unable to parse json: {error}"))?)
}

fn encode_json(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let document = digits::encode(&value, given.flag("pretty", false)?);
    Ok(document.map_err(|error| format!("{}: {}", error.code, error.message))?.into())
}

fn encode_logfmt(mut given: Arguments) -> Resolved {
    key_values(&mut given, "=", " ", true)
}

fn encode_key_value(mut given: Arguments) -> Resolved {
    let key_value_delimiter = given.text("key_value_delimiter", "=")?;
    let field_delimiter = given.text("field_delimiter", " ")?;
    let flatten_boolean = given.flag("flatten_boolean", false)?;
    key_values(&mut given, &key_value_delimiter, &field_delimiter, flatten_boolean)
}

/// The library's pairs, with the digits that numbers have in the event.
fn key_values(given: &mut Arguments, key_value: &str, field: &str, flatten_boolean: bool) -> Resolved {
    let value = given.required("value");
    let order = given.optional("fields_ordering").map_or(Ok(Vec::new()), VrlValueConvert::try_array)?;
    let order = order.into_iter().map(|name| Ok(KeyString::from(name.try_bytes_utf8_lossy()?.into_owned())));
    let order = order.collect::<Result<Vec<KeyString>, vrl::compiler::value::ValueError>>()?;
    let fields = digits::as_texts(value)?.try_object()?;
    let text = vrl::core::encode_key_value::to_string(&fields, &order, key_value, field, flatten_boolean);
    Ok(text.map_err(|error| error.to_string())?.into())
}

fn to_int(mut given: Arguments) -> Resolved {
    Ok(match given.required("value") {
        number @ Value::Integer(_) => number,
        Value::Float(number) => match digits::integer(number.into_inner()) {
            Some(integer) => integer.into(),
            None => {
                let shown = digits::of(*number).unwrap_or_else(|| number.to_string());
                return Err(format!(
                    "unable to coerce {shown} into integer: it does not fit into 64 bits; use to_string or to_float"
                )
                .into());
            }
        },
        Value::Boolean(is) => i64::from(is).into(),
        Value::Null => 0.into(),
        text @ (Value::Bytes(_) | Value::String(_)) => {
            let converted: Result<Value, _> = Conversion::Integer.convert(text.try_bytes()?);
            converted.map_err(|error| error.to_string())?
        }
        Value::Timestamp(time) => time.timestamp().into(),
        other => return Err(format!("unable to coerce {} into integer", other.kind()).into()),
    })
}

fn to_string(mut given: Arguments) -> Resolved {
    Ok(match given.required("value") {
        text @ (Value::Bytes(_) | Value::String(_)) => text,
        Value::Float(number) => digits::of(*number).unwrap_or_else(|| number.to_string()).into(),
        Value::Timestamp(time) => rfc3339(&time).map_err(|error| error.message)?.into(),
        Value::Null => "".into(),
        Value::Integer(number) => number.to_string().into(),
        Value::Boolean(is) => is.to_string().into(),
        other => return Err(format!("unable to coerce {} into string", other.kind()).into()),
    })
}

fn parse_ruby_hash(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let text = value.try_bytes_utf8_lossy()?;
    let (mut open, mut quote, mut is_escaped) = (0usize, None, false);
    for byte in text.bytes() {
        match (quote, byte) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), b'\\') => is_escaped = true,
            (Some(begin), byte) if byte == begin => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{' | b'[') => open += 1,
            (None, b'}' | b']') => open = open.saturating_sub(1),
            (None, _) => {}
        }
        if open > MAX_DEPTH {
            return Err(bounds::too_deep().into());
        }
    }
    ruby_hash::parse_ruby_hash(&text)
}

fn parse_xml(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let text = value.try_bytes_utf8_lossy()?;
    let is_trimmed = given.flag("trim", true)?;
    let config = ParseXmlConfig {
        include_attr: given.flag("include_attr", true)?,
        attr_prefix: given.text("attr_prefix", "@")?,
        text_key: given.text("text_key", "text")?,
        always_use_text_key: given.flag("always_use_text_key", false)?,
        parse_bool: given.flag("parse_bool", true)?,
        parse_null: given.flag("parse_null", true)?,
        parse_number: given.flag("parse_number", true)?,
    };
    let text = if is_trimmed { xml::XML_RE.replace_all(&text, "><") } else { text };
    let document = Document::parse(&text).map_err(|error| format!("unable to parse xml: {error}"))?;
    let mut depth = 0;
    let mut at = document.root();
    // Down, then right, then up until there is a right.
    'nodes: loop {
        if let Some(child) = at.first_child() {
            (at, depth) = (child, depth + 1);
            if depth > MAX_DEPTH {
                return Err(bounds::too_deep().into());
            }
            continue;
        }
        loop {
            if let Some(next) = at.next_sibling() {
                at = next;
                break;
            }
            match at.parent() {
                Some(parent) => (at, depth) = (parent, depth - 1),
                None => break 'nodes,
            }
        }
    }
    Ok(process_node(document.root(), &config))
}

fn set(mut given: Arguments) -> Resolved {
    let (mut value, data) = (given.required("value"), given.required("data"));
    let path = OwnedValuePath::try_from(given.required("path").try_array()?)?;
    check_path(&path)?;
    value.insert(&path, data);
    Ok(value)
}

/// Whether a value that is put at the end of a path is not too deep, nor a list with its index too long.
pub(in crate::script) fn check_path(path: &OwnedValuePath) -> Result<(), String> {
    if path.segments.len() > MAX_DEPTH {
        return Err(bounds::too_deep());
    }
    path.segments.iter().try_for_each(|segment| match segment {
        OwnedSegment::Index(index) => {
            bounds::check_items(index.unsigned_abs())?;
            // Each item in front of a list moves all of it.
            if *index < -1_000 { Err("an index below -1000".to_owned()) } else { Ok(()) }
        }
        OwnedSegment::Field(_) => Ok(()),
    })
}

fn flatten(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let separator = given.text("separator", ".")?;
    let except = given.optional("except").map_or(Ok(Vec::new()), VrlValueConvert::try_array)?;
    let except: Vec<String> = except.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let mut size = 0;
    match value {
        Value::Array(items) => {
            let mut flat = Vec::new();
            flatten_array(items, &mut flat);
            Ok(Value::Array(flat))
        }
        value => {
            let mut flat = ObjectMap::new();
            flatten_object(value.try_object()?, None, (&separator, &except), &mut size, &mut flat)?;
            Ok(Value::Object(flat))
        }
    }
}

fn flatten_array(items: Vec<Value>, flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::Array(items) => flatten_array(items, flat),
            item => flat.push(item),
        }
    }
}

fn flatten_object(
    map: ObjectMap,
    parent: Option<&str>,
    (separator, except): (&str, &[String]),
    size: &mut usize,
    flat: &mut ObjectMap,
) -> Result<(), String> {
    for (key, value) in map {
        let path = match parent {
            Some(parent) => KeyString::from(format!("{parent}{separator}{key}")),
            None => key.clone(),
        };
        *size += path.len();
        bounds::check_size(*size)?;
        match value {
            Value::Object(map) if !except.iter().any(|name| *name == *key) => {
                flatten_object(map, Some(&path), (separator, except), size, flat)?;
            }
            value => {
                flat.insert(path, value);
            }
        }
    }
    Ok(())
}

fn unflatten(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let separator = given.text("separator", ".")?;
    let is_recursive = given.flag("recursive", true)?;
    Ok(Value::Object(Unflatten { separator: &separator, is_recursive }.entries(value.try_object()?.into_iter(), 1)?))
}

struct Unflatten<'a> {
    separator: &'a str,
    is_recursive: bool,
}

impl Unflatten<'_> {
    fn value(&self, value: Value, depth: usize) -> Result<Value, String> {
        match value {
            Value::Object(map) if self.is_recursive => Ok(Value::Object(self.entries(map.into_iter(), depth)?)),
            value => Ok(value),
        }
    }

    fn entries(&self, entries: impl Iterator<Item = (KeyString, Value)>, depth: usize) -> Result<ObjectMap, String> {
        if depth > MAX_DEPTH {
            return Err(bounds::too_deep());
        }
        let mut grouped: std::collections::BTreeMap<KeyString, Vec<(Option<KeyString>, Value)>> = Default::default();
        for (key, value) in entries {
            let (head, rest) = match key.split_once(self.separator) {
                Some((head, rest)) => (head.into(), Some(rest.into())),
                None => (key, None),
            };
            grouped.entry(head).or_default().push((rest, value));
        }
        let mut map = ObjectMap::new();
        for (key, mut values) in grouped {
            let value = match (values.len(), values.pop()) {
                (1, Some((None, value))) => self.value(value, depth + 1)?,
                (1, Some((Some(rest), value))) => self.entry(&rest, value, depth + 1)?,
                (_, last) => {
                    // A value beside nested ones has no place.
                    let nested = values.into_iter().chain(last).filter_map(|(rest, value)| Some((rest?, value)));
                    Value::Object(self.entries(nested.collect::<Vec<_>>().into_iter(), depth + 1)?)
                }
            };
            map.insert(key, value);
        }
        Ok(map)
    }

    fn entry(&self, key: &str, value: Value, depth: usize) -> Result<Value, String> {
        let keys: Vec<&str> = key.split(self.separator).collect();
        let below = depth + keys.len();
        if below > MAX_DEPTH {
            return Err(bounds::too_deep());
        }
        let value = self.value(value, below)?;
        Ok(keys.into_iter().rev().fold(value, |value, key| Value::Object(ObjectMap::from([(key.into(), value)]))))
    }
}

fn chunks(mut given: Arguments) -> Resolved {
    let bytes = given.required("value").try_bytes()?;
    let size = given.required("chunk_size").try_integer()?;
    let Ok(size) = usize::try_from(size.max(0)) else {
        return Err(format!(r#""chunk_size" is too large: must be at most {} bytes"#, usize::MAX).into());
    };
    if size == 0 {
        return Err(r#""chunk_size" must be at least 1 byte"#.into());
    }
    bounds::check_size(bytes.len().div_ceil(size).saturating_mul(bounds::ITEM + bounds::TEXT))?;
    Ok(bytes.chunks(size).collect::<Vec<_>>().into())
}

fn join(mut given: Arguments) -> Resolved {
    let items = given.required("value").try_array()?;
    let texts: Option<Vec<Cow<'_, str>>> = items.iter().map(Value::to_str_lossy).collect();
    let texts = texts.ok_or("all array items must be strings")?;
    let separator = given.text("separator", "")?;
    let between = separator.len().saturating_mul(texts.len().saturating_sub(1));
    bounds::check_size(texts.iter().map(|text| text.len()).sum::<usize>().saturating_add(between))?;
    Ok(texts.join(&separator).into())
}

fn replace(mut given: Arguments) -> Resolved {
    let value = given.required("value");
    let text = value.try_bytes_utf8_lossy()?;
    let with = given.text("with", "")?;
    let count = given.optional("count").map_or(Ok(-1), VrlValueConvert::try_integer)?;
    let most = match count {
        0 => return Ok(text.into()),
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let pattern = given.required("pattern");
    let check = |matches: usize| bounds::check_size(text.len().saturating_add(matches.saturating_mul(with.len())));
    // Few texts need their matches counted first.
    let is_small = check(most.min(text.len() + 1)).is_ok();
    match &pattern {
        Value::Regex(regex) => {
            // A reference to a group may stand for as much as there was.
            if !is_small || (with.contains('$') && text.len() > 1 << 10) {
                replace_step_by_step(regex, &text, &with, most)
            } else {
                let most = if count < 0 { 0 } else { most };
                Ok(regex.replacen(&text, most, &*with).into())
            }
        }
        pattern => {
            let pattern = pattern.try_bytes_utf8_lossy()?;
            if !is_small {
                check(text.matches(&*pattern).take(most).count())?;
            }
            Ok(text.replacen(&*pattern, &with, most).into())
        }
    }
}

fn replace_step_by_step(regex: &regex::Regex, text: &str, with: &str, most: usize) -> Resolved {
    let mut replaced = String::with_capacity(text.len());
    let mut from = 0;
    let references = with.matches('$').count();
    for found in regex.captures_iter(text).take(most) {
        let Some(whole) = found.get(0) else { continue };
        replaced.push_str(&text[from..whole.start()]);
        let most = references.saturating_mul(whole.len()).saturating_add(with.len());
        bounds::check_size(replaced.len().saturating_add(most))?;
        found.expand(with, &mut replaced);
        from = whole.end();
    }
    replaced.push_str(&text[from..]);
    Ok(replaced.into())
}
