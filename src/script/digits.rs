//! The numbers of the event that a program runs over, for functions that read or write texts.

use std::cell::RefCell;

use bytes::Bytes;
use vrl::value::Value;

use crate::event::json::{self, JsonError, Numbers};
use crate::event::{CodecError, rfc3339};

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

/// The integer part of a float, or of the number it stands in for; none if it does not fit into 64 bits.
pub(super) fn integer(float: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let spelled = of(float).filter(|digits| !digits.contains(['e', 'E']));
    match spelled.as_deref().map(|digits| digits.split('.').next().unwrap_or_default()) {
        Some(digits) => digits.parse().ok(),
        None => (-BOUND..BOUND).contains(&float).then_some(float as i64),
    }
}

/// A value with the digits of its numbers as texts; refused if it has a time that RFC 3339 has no text for.
pub(super) fn as_texts(value: Value) -> Result<Value, String> {
    let value = CURRENT.with_borrow(|current| match current.are_exact() {
        true => current.as_texts(&value, false),
        false => value,
    });
    check_times(&value)?;
    Ok(value)
}

fn check_times(value: &Value) -> Result<(), String> {
    match value {
        Value::Timestamp(time) => rfc3339(time).map(drop).map_err(|error| error.message),
        Value::Object(fields) => fields.values().try_for_each(check_times),
        Value::Array(items) => items.iter().try_for_each(check_times),
        _ => Ok(()),
    }
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
