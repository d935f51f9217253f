//! Avro's binary encoding (specification 1.12): a schema laid out for reading and writing.
//!
//! Schemas are read here, because only a part of one matters to bytes and a mistake elsewhere must not make records unreadable;
//! data is, between bytes and the values that nodes see, because hostile data must be bounded in depth and number, and a second
//! tree of values costs more than the reading.

mod decode;
mod encode;
mod logical;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value as Json;
use vrl::value::KeyString;

/// Values inside one another, in a schema or in data, at most.
const MAX_DEPTH: usize = 128;

/// A schema, as a list of types that name each other by their numbers; so it may be recursive.
#[derive(Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: usize,
    name: Option<String>,
}

#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(usize),
    Map(usize),
    Union(Vec<Branch>),
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed(usize),
    /// Digits behind the point, and the size where it is fixed.
    Decimal(u32, Option<usize>),
    Uuid,
    /// A uuid in 16 bytes.
    UuidBytes,
    Date,
    Time(Unit),
    Timestamp(Unit),
    LocalTimestamp(Unit),
    /// Months, days and milliseconds.
    Duration,
}

/// A branch of a union.
#[derive(Debug)]
struct Branch {
    of: usize,
    /// The name of its type, where its values are texts to nodes and another branch has texts, too. Such a value is
    /// `{name: text}`, as in Avro's JSON encoding.
    tag: Option<KeyString>,
}

#[derive(Debug)]
struct Field {
    name: KeyString,
    of: usize,
    default: Option<Json>,
}

/// What a number of a logical type counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Schema {
    /// The full name of its record, enum or fixed.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}
