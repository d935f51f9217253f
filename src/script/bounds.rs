//! What a value in a program may be at most: nested so deep, and so large.
//!
//! VRL's functions, and whatever drops, compares or writes a value, recurse into it: one that is nested deep enough overflows the
//! stack. So no value gets that deep: what functions return and what is written to an event is checked here.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use vrl::value::Value;

use crate::event::json::MAX_DEPTH;

/// Largest value, unless a graph says otherwise.
pub(crate) const DEFAULT_MAX_VALUE: u64 = 8 << 20;
/// What an item of a list or object counts as beside its text.
const ITEM: usize = 16;

/// Values of the largest size that the events of one batch may be decompressed to together.
const MOST_OF_BATCH: usize = 2;

thread_local! {
    static GROWN: Cell<Grown> = const { Cell::new(Grown { batch: 0, most: usize::MAX, is_over: false, all: 0 }) };
}

/// Bytes that were decompressed on this thread.
#[derive(Debug, Clone, Copy)]
struct Grown {
    /// For the batch that is being processed.
    batch: usize,
    /// What that may be.
    most: usize,
    /// There was more to be decompressed.
    is_over: bool,
    /// In all, since it was taken.
    all: usize,
}

/// A batch is processed from now on. What its events are decompressed to together is bounded, unless there is one alone.
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

/// How many bytes were decompressed on this thread since this was asked last.
pub(crate) fn take_grown() -> usize {
    let grown = GROWN.get();
    GROWN.set(Grown { all: 0, ..grown });
    grown.all
}

/// Whether so many bytes more may be decompressed.
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
    format!("the value is larger than {} bytes (`max_value` of the graph)", max_value())
}

/// The error for a value that is nested deeper.
pub(super) fn too_deep() -> String {
    format!("the value is nested deeper than {MAX_DEPTH} levels")
}

/// Whether so many bytes are not too many.
pub(super) fn check_size(bytes: usize) -> Result<(), String> {
    if bytes > max_value() { Err(too_large()) } else { Ok(()) }
}

/// Whether so many items are not too many.
pub(super) fn check_items(items: usize) -> Result<(), String> {
    check_size(items.saturating_mul(ITEM))
}

/// Whether a value is neither too deep nor too large.
pub(super) fn check(value: &Value) -> Result<(), String> {
    check_below(value, 0)
}

/// The same for a value that stands below `levels` others.
pub(super) fn check_below(value: &Value, levels: usize) -> Result<(), String> {
    let mut size = max_value();
    match MAX_DEPTH.checked_sub(levels) {
        Some(levels) => walk(value, levels, &mut size),
        None => Err(too_deep()),
    }
}

/// Whether so many copies of a value are not too much.
pub(super) fn check_copies(value: &Value, copies: usize) -> Result<(), String> {
    let mut left = max_value();
    walk(value, MAX_DEPTH, &mut left)?;
    check_size((max_value() - left).saturating_mul(copies))
}

fn walk(value: &Value, levels: usize, size: &mut usize) -> Result<(), String> {
    let mut take = |bytes: usize| {
        *size = size.checked_sub(bytes).ok_or_else(too_large)?;
        Ok::<(), String>(())
    };
    match value {
        Value::Bytes(text) => take(text.len()),
        Value::String(text) => take(text.len()),
        Value::Object(map) => {
            let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
            for (key, value) in map {
                *size = size.checked_sub(ITEM + key.len()).ok_or_else(too_large)?;
                walk(value, levels, size)?;
            }
            Ok(())
        }
        Value::Array(items) => {
            take(items.len().saturating_mul(ITEM))?;
            let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
            items.iter().try_for_each(|item| walk(item, levels, size))
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Timestamp(_)
        | Value::Regex(_)
        | Value::Null => Ok(()),
    }
}
