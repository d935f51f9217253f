//! The numbers of the event that a program runs over, for functions that read or write texts.

use std::cell::RefCell;

use bytes::Bytes;
use vrl::value::Value;

use crate::event::CodecError;
use crate::event::json::{self, JsonError, Numbers};

thread_local! {
    static CURRENT: RefCell<Numbers> = RefCell::default();
}

/// Runs a program over an event with these numbers; those that it reads are added.
pub(super) fn during<T>(numbers: &mut Numbers, run: impl FnOnce() -> T) -> T {
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, numbers));
    let result = run();
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, numbers));
    result
}

/// The digits of the number that a float stands in for, if it does.
pub(super) fn of(float: f64) -> Option<String> {
    CURRENT.with_borrow(|current| current.digits(float).map(str::to_owned))
}

/// Reads a JSON document.
pub(super) fn parse(doc: &Bytes) -> Result<Value, JsonError> {
    json::check(doc)?;
    CURRENT.with_borrow_mut(|current| json::parse_range_with(doc, 0..doc.len(), current))
}

/// Writes a JSON document.
pub(super) fn encode(value: &Value, is_pretty: bool) -> Result<Bytes, CodecError> {
    let mut out = Vec::new();
    CURRENT.with_borrow(|current| match is_pretty {
        true => current.write_pretty(value, &mut out),
        false => current.write(value, &mut out),
    })?;
    Ok(out.into())
}
