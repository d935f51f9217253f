//! Avro's binary encoding (specification 1.12): a schema laid out for reading and writing.
//!
//! `apache-avro` parses and checks schemas. Data is read and written here, between bytes and the values that nodes see,
//! because hostile data must be bounded in depth and number, and a second tree of values costs more than the reading.

mod decode;
mod encode;
mod logical;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use apache_avro::Schema as Parsed;
use apache_avro::schema::{Name, Namespace, RecordField};
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
    Union(Vec<usize>),
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed(usize),
    /// Digits behind the point, and the size where it is fixed.
    Decimal(u32, Option<usize>),
    Uuid,
    Date,
    Time(Unit),
    Timestamp(Unit),
    LocalTimestamp(Unit),
    /// Months, days and milliseconds.
    Duration,
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
    /// Parses a schema, and those it refers to by name.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, String> {
        let (parsed, others) = Parsed::parse_str_with_list(text, references)
            .map_err(|error| format!("the schema cannot be used: {error}"))?;
        let mut layout = Layout { types: Vec::new(), named: HashMap::new(), others: &others };
        let root = layout.add(&parsed, &None, 0)?;
        Ok(Schema { types: layout.types, root, name: parsed.name().map(|name| name.fullname(None)) })
    }

    /// The full name of its record, enum or fixed.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

struct Layout<'a> {
    types: Vec<Type>,
    /// By full name.
    named: HashMap<String, usize>,
    /// Schemas that were given beside.
    others: &'a [Parsed],
}

impl Layout<'_> {
    fn add(&mut self, parsed: &Parsed, space: &Namespace, depth: usize) -> Result<usize, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the schema cannot be used: it has more than {MAX_DEPTH} types inside one another"));
        }
        if let Parsed::Ref { name } = parsed {
            return self.refer(name, space, depth);
        }
        // A place of its own first: what is inside may refer to it.
        let number = self.types.len();
        self.types.push(Type::Null);
        let mut space = space.clone();
        if let Some(name) = parsed.name() {
            let name = name.fully_qualified_name(&space);
            self.named.insert(name.fullname(None), number);
            space = name.namespace;
        }
        let of = match parsed {
            Parsed::Null => Type::Null,
            Parsed::Boolean => Type::Boolean,
            Parsed::Int => Type::Int,
            Parsed::Long => Type::Long,
            Parsed::Float => Type::Float,
            Parsed::Double => Type::Double,
            Parsed::Bytes | Parsed::BigDecimal => Type::Bytes,
            Parsed::String => Type::String,
            Parsed::Array(array) => Type::Array(self.add(&array.items, &space, depth + 1)?),
            Parsed::Map(map) => Type::Map(self.add(&map.types, &space, depth + 1)?),
            Parsed::Union(union) => {
                let of = union.variants().iter().map(|of| self.add(of, &space, depth + 1));
                Type::Union(of.collect::<Result<_, _>>()?)
            }
            Parsed::Record(record) => {
                let field = |field: &RecordField| {
                    let of = self.add(&field.schema, &space, depth + 1)?;
                    Ok(Field { name: field.name.as_str().into(), of, default: field.default.clone() })
                };
                Type::Record(record.fields.iter().map(field).collect::<Result<_, String>>()?)
            }
            Parsed::Enum(of) => Type::Enum(of.symbols.clone()),
            Parsed::Fixed(fixed) => Type::Fixed(fixed.size),
            Parsed::Decimal(decimal) => {
                let size = match &*decimal.inner {
                    Parsed::Fixed(fixed) => {
                        let name = fixed.name.fully_qualified_name(&space).fullname(None);
                        self.named.insert(name, number);
                        Some(fixed.size)
                    }
                    _ => None,
                };
                let scale = u32::try_from(decimal.scale).ok().filter(|scale| *scale <= logical::MAX_DIGITS);
                Type::Decimal(scale.ok_or("the schema cannot be used: a decimal has too many digits")?, size)
            }
            Parsed::Uuid => Type::Uuid,
            Parsed::Date => Type::Date,
            Parsed::TimeMillis => Type::Time(Unit::Millis),
            Parsed::TimeMicros => Type::Time(Unit::Micros),
            Parsed::TimestampMillis => Type::Timestamp(Unit::Millis),
            Parsed::TimestampMicros => Type::Timestamp(Unit::Micros),
            Parsed::TimestampNanos => Type::Timestamp(Unit::Nanos),
            Parsed::LocalTimestampMillis => Type::LocalTimestamp(Unit::Millis),
            Parsed::LocalTimestampMicros => Type::LocalTimestamp(Unit::Micros),
            Parsed::LocalTimestampNanos => Type::LocalTimestamp(Unit::Nanos),
            Parsed::Duration => Type::Duration,
            Parsed::Ref { name } => return self.refer(name, &space, depth),
        };
        self.types[number] = of;
        Ok(number)
    }

    fn refer(&mut self, name: &Name, space: &Namespace, depth: usize) -> Result<usize, String> {
        let full = name.fully_qualified_name(space).fullname(None);
        if let Some(number) = self.named.get(&full) {
            return Ok(*number);
        }
        let is_meant = |other: &&Parsed| other.name().is_some_and(|name| name.fullname(None) == full);
        match self.others.iter().find(is_meant) {
            Some(other) => self.add(other, &None, depth + 1),
            None => Err(format!("the schema cannot be used: it refers to {full}, which is not there")),
        }
    }
}
