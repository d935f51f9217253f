//! Limits of a value in a program: how deep it may be nested, and how much memory it may take.
//!
//! VRL's functions, and whatever drops, compares or writes a value, recurse into it: one that is nested deep enough overflows the
//! stack. So no value gets that deep: what functions return and what is written to an event is checked here.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use vrl::value::{KeyString, Value};

use crate::event::json::MAX_DEPTH;

/// Largest value, unless a graph says otherwise.
pub(crate) const DEFAULT_MAX_VALUE: u64 = 32 << 20;
/// Memory for an item of a list, beside its text.
pub(super) const ITEM: usize = size_of::<Value>();
/// Memory for a text of its own: a small allocation, and its count of users.
pub(super) const TEXT: usize = 32;
/// Memory for a node of a map: room for eleven entries.
const NODE: usize = 11 * (size_of::<KeyString>() + ITEM) + 16;
/// Entries in a node at least, about: a full one is split in two.
const PER_NODE: usize = 6;
/// Most memory that a byte of a JSON document takes as a value, about: `{"":` is an object.
const PER_BYTE: usize = 180;

/// Values of the largest size that the events of one batch may grow by together.
const MOST_OF_BATCH: usize = 1;

thread_local! {
    static GROWN: Cell<Grown> = const { Cell::new(Grown { batch: 0, most: usize::MAX, is_over: false, all: 0 }) };
}

/// Bytes by which programs made events larger on this thread.
#[derive(Debug, Clone, Copy)]
struct Grown {
    /// For the batch that is being processed.
    batch: usize,
    /// What that may be.
    most: usize,
    /// There was more.
    is_over: bool,
    /// In all, since it was taken.
    all: usize,
}

/// Begins a batch. What its events grow by together is bounded, unless there is one alone.
pub(crate) fn begin_batch(is_alone: bool) {
    let most = if is_alone { usize::MAX } else { max_value().saturating_mul(MOST_OF_BATCH) };
    GROWN.set(Grown { batch: 0, most, is_over: false, ..GROWN.get() });
}

/// The batch has been processed. Gives whether it was too much, so that its events have to be processed one by one.
pub(crate) fn end_batch() -> bool {
    let grown = GROWN.get();
    GROWN.set(Grown { batch: 0, most: usize::MAX, is_over: false, ..grown });
    grown.is_over
}

/// Bytes by which events grew on this thread since the last call.
pub(crate) fn take_grown() -> usize {
    let grown = GROWN.get();
    GROWN.set(Grown { all: 0, ..grown });
    grown.all
}

/// Enters that an event has grown by so many bytes; false when that is too much for its batch.
pub(super) fn grow(bytes: usize) -> bool {
    let mut grown = GROWN.get();
    grown.batch = grown.batch.saturating_add(bytes);
    grown.is_over |= grown.batch > grown.most;
    if !grown.is_over {
        grown.all = grown.all.saturating_add(bytes);
    }
    GROWN.set(grown);
    !grown.is_over
}

static MAX_VALUE: AtomicUsize = AtomicUsize::new(DEFAULT_MAX_VALUE as usize);

/// Sets the largest value that programs in this process may make, in bytes. Set before events flow.
pub fn set_max_value(bytes: u64) {
    MAX_VALUE.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// The largest value that programs may make, in bytes.
pub(super) fn max_value() -> usize {
    MAX_VALUE.load(Ordering::Relaxed)
}

/// The error for a value that is larger.
pub(super) fn too_large() -> String {
    format!("the value is larger than {} bytes in memory (`max_value` of the graph)", max_value())
}

/// The error for a value that is nested deeper.
pub(super) fn too_deep() -> String {
    format!("the value is nested deeper than {MAX_DEPTH} levels")
}

/// Whether so many bytes are not too many.
pub(super) fn check_size(bytes: usize) -> Result<(), String> {
    if bytes > max_value() { Err(too_large()) } else { Ok(()) }
}

/// Whether a list of so many items is not too large.
pub(super) fn check_items(items: usize) -> Result<(), String> {
    check_size(items.saturating_mul(ITEM))
}

/// Whether a value is neither too deep nor too large; gives its memory.
pub(super) fn check(value: &Value) -> Result<usize, String> {
    check_below(value, 0)
}

/// The same for a value that stands below `levels` others.
pub(super) fn check_below(value: &Value, levels: usize) -> Result<usize, String> {
    let most = max_value();
    let mut left = most;
    match MAX_DEPTH.checked_sub(levels) {
        Some(levels) => walk(value, levels, &mut left).map(|()| most - left),
        None => Err(too_deep()),
    }
}

/// Whether so many copies of a value are not too much.
pub(super) fn check_copies(value: &Value, copies: usize) -> Result<(), String> {
    check_size(check(value)?.saturating_mul(copies))
}

/// Memory of a map of so many entries, without keys' texts and values' own memory.
pub(super) fn map_memory(entries: usize) -> usize {
    match entries {
        0 => 0,
        1..=11 => NODE,
        _ => NODE.saturating_mul(entries.div_ceil(PER_NODE)),
    }
}

fn walk(value: &Value, levels: usize, left: &mut usize) -> Result<(), String> {
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok::<(), String>(())
    };
    match value {
        Value::Bytes(text) => take(text.len()),
        Value::String(text) => take(text.len()),
        Value::Object(map) => {
            take(map_memory(map.len()))?;
            let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
            for (key, value) in map {
                *left = left.checked_sub(TEXT + key.len()).ok_or_else(too_large)?;
                walk(value, levels, left)?;
            }
            Ok(())
        }
        Value::Array(items) => {
            take(items.len().saturating_mul(ITEM))?;
            let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
            items.iter().try_for_each(|item| match item {
                Value::Bytes(_) | Value::String(_) => {
                    *left = left.checked_sub(TEXT).ok_or_else(too_large)?;
                    walk(item, levels, left)
                }
                item => walk(item, levels, left),
            })
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Timestamp(_)
        | Value::Regex(_)
        | Value::Null => Ok(()),
    }
}

/// Whether a JSON document, or a part of one, does not take too much memory as a value: a list of tiny objects takes a
/// hundred times its text. Documents that cannot take too much are not looked at.
pub(super) fn check_document(doc: &[u8]) -> Result<(), String> {
    if doc.len() > max_value() / PER_BYTE { check_size(document_memory(doc, b'"')) } else { Ok(()) }
}

/// Memory that a document takes as a value, about. Texts stand between double quotes, or also between `quote`s.
pub(super) fn document_memory(doc: &[u8], quote: u8) -> usize {
    /// A list that grows item by item has room for four, and is half full at least.
    const FEW: usize = 4;
    let mut open: Vec<(bool, usize)> = Vec::new();
    let (mut size, mut at) = (doc.len(), 0);
    let close = |(is_map, commas): (bool, usize), is_empty: bool| match (is_map, commas + usize::from(!is_empty)) {
        (_, 0) => 0,
        (true, entries) => map_memory(entries),
        (false, entries) => ITEM * (entries + entries / 2).max(FEW),
    };
    let mut is_begin = false;
    while let Some(&byte) = doc.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                // Deeper documents are refused by whoever reads them.
                if open.len() > 2 * MAX_DEPTH {
                    return usize::MAX;
                }
                open.push((byte == b'{', 0));
                is_begin = true;
                continue;
            }
            b'}' | b']' => {
                if let Some(container) = open.pop() {
                    size = size.saturating_add(close(container, is_begin));
                }
            }
            b',' => {
                if let Some((_, commas)) = open.last_mut() {
                    *commas += 1;
                }
            }
            byte if byte == b'"' || byte == quote => {
                size += TEXT;
                while let Some(end) = memchr::memchr2(byte, b'\\', &doc[at.min(doc.len())..]) {
                    let is_end = doc[at + end] == byte;
                    at += end + if is_end { 1 } else { 2 };
                    if is_end {
                        break;
                    }
                }
            }
            byte if byte.is_ascii_whitespace() => continue,
            _ => {}
        }
        is_begin = false;
    }
    while let Some(container) = open.pop() {
        size = size.saturating_add(close(container, false));
    }
    size
}
