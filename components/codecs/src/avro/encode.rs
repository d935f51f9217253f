//! From values to bytes.

use std::fmt::Write as _;

use vrl::value::{KeyString, Value};
use weir::event::{CodecError, rfc3339};

use super::{Branch, MAX_DEPTH, Schema, Type, logical};
use crate::text::{kind, not_finite};
use crate::wire::put_varint;

impl Schema {
    /// Appends one record.
    ///
    /// A field that the value lacks has its default, or null where that may stand; fields the schema does not know are
    /// left out.
    pub fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Writer { schema: self, way: Vec::new() }.put(self.root, value, out)
    }
}

/// A step on the way to a value, for messages.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

struct Writer<'a> {
    schema: &'a Schema,
    way: Vec<Step<'a>>,
}

impl<'a> Writer<'a> {
    fn refuse<T>(&self, what: &str) -> Result<T, CodecError> {
        let mut way = String::from("the event");
        for step in &self.way {
            let _ = match step {
                Step::Field(name) => write!(way, ".{name}"),
                Step::Item(at) => write!(way, "[{at}]"),
            };
        }
        Err(CodecError::new("does_not_fit_schema", format!("{way} {what}")))
    }

    fn within(&mut self, step: Step<'a>, number: usize, value: &'a Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if self.way.len() >= MAX_DEPTH {
            return self.refuse(&format!("has more than {MAX_DEPTH} values inside one another"));
        }
        self.way.push(step);
        self.put(number, value, out)?;
        self.way.pop();
        Ok(())
    }

    fn put(&mut self, number: usize, value: &'a Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let schema = self.schema;
        match (&schema.types[number], value) {
            (Type::Null, Value::Null) => {}
            (Type::Boolean, Value::Boolean(value)) => out.push(u8::from(*value)),
            (Type::Int, Value::Integer(value)) if i32::try_from(*value).is_ok() => put_varint(*value, out),
            (Type::Long, Value::Integer(value)) => put_varint(*value, out),
            (Type::Float, Value::Float(value)) => out.extend_from_slice(&(value.into_inner() as f32).to_le_bytes()),
            (Type::Float, Value::Integer(value)) => out.extend_from_slice(&(*value as f32).to_le_bytes()),
            (Type::Double, Value::Float(value)) => out.extend_from_slice(&value.into_inner().to_le_bytes()),
            (Type::Double, Value::Integer(value)) => out.extend_from_slice(&(*value as f64).to_le_bytes()),
            (Type::Float | Type::Double, value) => match (not_finite(value), &schema.types[number]) {
                (Some(value), Type::Float) => out.extend_from_slice(&(value as f32).to_le_bytes()),
                (Some(value), _) => out.extend_from_slice(&value.to_le_bytes()),
                (None, _) => return self.misfit(number, value),
            },
            (Type::Bytes, value) => match logical::bytes_of(value) {
                Some(bytes) => put_blob(&bytes, out),
                None => return self.misfit(number, value),
            },
            (Type::String, Value::Timestamp(time)) => put_blob(rfc3339(time)?.as_bytes(), out),
            (Type::String | Type::Uuid, value) if value.to_str().is_some() => put_blob(&value.coerce_to_bytes(), out),
            (Type::Fixed(size), value) => match logical::bytes_of(value) {
                Some(bytes) if bytes.len() == *size => out.extend_from_slice(&bytes),
                Some(bytes) => return self.refuse(&format!("has {} bytes; the schema wants {size}", bytes.len())),
                None => return self.misfit(number, value),
            },
            (Type::UuidBytes, value) => match logical::uuid_bytes(value) {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return self.misfit(number, value),
            },
            (Type::Array(of), Value::Array(items)) => {
                if !items.is_empty() {
                    put_varint(count(items.len()), out);
                    for (at, item) in items.iter().enumerate() {
                        self.within(Step::Item(at), *of, item, out)?;
                    }
                }
                out.push(0);
            }
            (Type::Map(of), Value::Object(fields)) => {
                if !fields.is_empty() {
                    put_varint(count(fields.len()), out);
                    for (name, value) in fields {
                        put_blob(name.as_bytes(), out);
                        self.within(Step::Field(name), *of, value, out)?;
                    }
                }
                out.push(0);
            }
            (Type::Record(fields), Value::Object(values)) => {
                for field in fields {
                    match (values.get(&field.name), &field.default) {
                        (Some(value), _) => self.within(Step::Field(&field.name), field.of, value, out)?,
                        (None, Some(default)) => self.put_default(&field.name, field.of, default, out)?,
                        (None, None) if self.branch(field.of, &Value::Null).is_some() => {
                            self.within(Step::Field(&field.name), field.of, &Value::Null, out)?;
                        }
                        (None, None) => return self.refuse(&format!("lacks the field `{}`", field.name)),
                    }
                }
            }
            (Type::Enum(symbols), value) if value.to_str().is_some() => {
                let written = value.to_str().unwrap_or_default();
                match symbols.iter().position(|symbol| symbol == written) {
                    Some(at) => put_varint(count(at), out),
                    None => return self.refuse(&format!("is none of the symbols {}", symbols.join(", "))),
                }
            }
            (Type::Union(of), value) => {
                let chosen = self.branch(number, value).map(|at| (at, value)).or_else(|| tagged(of, value));
                let Some((at, value)) = chosen else { return self.misfit(number, value) };
                put_varint(count(at), out);
                self.put(of[at].of, value, out)?;
            }
            (Type::Decimal(scale, size), value) => match logical::decimal_bytes(value, *scale) {
                Some(bytes) => match size {
                    Some(size) if bytes.len() > *size => return self.refuse("is too large for its decimal"),
                    Some(size) => {
                        let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                        out.resize(out.len() + size - bytes.len(), sign);
                        out.extend_from_slice(&bytes);
                    }
                    None => put_blob(&bytes, out),
                },
                None => return self.misfit(number, value),
            },
            (Type::Date, value) => match logical::days(value).filter(|days| i32::try_from(*days).is_ok()) {
                Some(days) => put_varint(days, out),
                None => return self.misfit(number, value),
            },
            (Type::Time(unit), value) => self.put_count(logical::time_count(value, *unit), number, value, out)?,
            (Type::Timestamp(unit), value) => {
                self.put_count(logical::timestamp_count(value, *unit), number, value, out)?;
            }
            (Type::LocalTimestamp(unit), value) => {
                self.put_count(logical::local_count(value, *unit), number, value, out)?;
            }
            (Type::Duration, value) => match logical::duration_bytes(value) {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return self.misfit(number, value),
            },
            _ => return self.misfit(number, value),
        }
        Ok(())
    }

    fn put_count(&self, count: Option<i64>, number: usize, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match count {
            Some(count) => {
                put_varint(count, out);
                Ok(())
            }
            None => self.misfit(number, value),
        }
    }

    /// A default is first looked at when it is needed: records that have the field can be written whatever it is.
    fn put_default(
        &self,
        name: &KeyString,
        of: usize,
        default: &serde_json::Value,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let value = Value::from(default.clone());
        let mut writer = Writer { schema: self.schema, way: Vec::new() };
        writer.put(of, &value, out).map_err(|error| {
            CodecError::new(error.code, format!("the default of the schema's field `{name}`: {}", error.message))
        })
    }

    fn misfit<T>(&self, number: usize, value: &Value) -> Result<T, CodecError> {
        self.refuse(&format!("is {}; the schema wants {}", kind(value), self.schema.describe(number)))
    }

    /// The branch of a union that a value goes into: one of its very kind, or else one it can be turned into. Which it is
    /// shows without looking deeper, so that no value is written twice.
    fn branch(&self, number: usize, value: &Value) -> Option<usize> {
        let Type::Union(of) = &self.schema.types[number] else { return None };
        // A text without the name of its branch goes into another one if it can.
        let most = |branch: &Branch| if branch.tag.is_some() && value.to_str().is_some() { 1 } else { usize::MAX };
        let fits = of.iter().enumerate().map(|(at, of)| (self.fit(of.of, value).min(most(of)), at));
        let best = fits.filter(|(fit, _)| *fit > 0);
        best.max_by_key(|(fit, at)| (*fit, std::cmp::Reverse(*at))).map(|(_, at)| at)
    }

    /// How well a value fits a type, by its own kind: 0 is not at all.
    fn fit(&self, number: usize, value: &Value) -> usize {
        let is_text = || value.to_str().is_some();
        let exact = |fits: bool| if fits { 3 } else { 0 };
        let turned = |fits: bool| usize::from(fits);
        match (&self.schema.types[number], value) {
            (Type::Null, Value::Null) | (Type::Boolean, Value::Boolean(_)) => 3,
            (Type::Int, Value::Integer(value)) => exact(i32::try_from(*value).is_ok()),
            (Type::Long, Value::Integer(_)) | (Type::Double, Value::Float(_)) => 3,
            (Type::Float, Value::Float(_)) => 2,
            (Type::Float | Type::Double, Value::Integer(_)) => 1,
            (Type::Float | Type::Double, value) => turned(not_finite(value).is_some()),
            (Type::Array(_), Value::Array(_)) => 3,
            (Type::Map(_), Value::Object(_)) => 2,
            (Type::Record(fields), Value::Object(values)) => {
                let known = fields.iter().filter(|field| values.contains_key(&field.name)).count();
                let lacks = fields.iter().any(|field| {
                    !values.contains_key(&field.name)
                        && field.default.is_none()
                        && self.branch(field.of, &Value::Null).is_none()
                });
                if lacks { 0 } else { 3 + known }
            }
            (Type::Enum(symbols), value) => match value.to_str() {
                Some(text) if symbols.iter().any(|symbol| symbol == text) => 4,
                _ => 0,
            },
            (Type::String, _) if is_text() => 3,
            (Type::String, Value::Timestamp(_)) => 1,
            (Type::Bytes, value) => 2 * turned(logical::bytes_of(value).is_some()),
            (Type::Fixed(size), value) => exact(logical::bytes_of(value).is_some_and(|bytes| bytes.len() == *size)),
            (Type::Uuid, value) => match value.to_str() {
                Some(_) if logical::uuid_bytes(value).is_some() => 4,
                Some(_) => 1,
                None => 0,
            },
            (Type::UuidBytes, value) if logical::uuid_bytes(value).is_some() => 4,
            (Type::Timestamp(unit), Value::Timestamp(_)) => exact(logical::timestamp_count(value, *unit).is_some()) * 2,
            (Type::Decimal(scale, _), value) => turned(logical::decimal_bytes(value, *scale).is_some()),
            (Type::Date, value) => turned(logical::days(value).is_some()),
            (Type::Time(unit), value) => turned(logical::time_count(value, *unit).is_some()),
            (Type::Timestamp(unit), value) => turned(logical::timestamp_count(value, *unit).is_some()),
            (Type::LocalTimestamp(unit), value) => turned(logical::local_count(value, *unit).is_some()),
            (Type::Duration, value) => turned(logical::duration_bytes(value).is_some()),
            _ => 0,
        }
    }
}

/// The branch that a value names, as in Avro's JSON encoding, and the value inside.
fn tagged<'a>(branches: &[Branch], value: &'a Value) -> Option<(usize, &'a Value)> {
    let Value::Object(fields) = value else { return None };
    let (name, inside) = fields.first_key_value().filter(|_| fields.len() == 1)?;
    let at = branches.iter().position(|branch| branch.tag.as_ref() == Some(name))?;
    Some((at, inside))
}

impl Schema {
    /// A type, for messages.
    fn describe(&self, number: usize) -> String {
        match &self.types[number] {
            Type::Null => "null".to_owned(),
            Type::Boolean => "a boolean".to_owned(),
            Type::Int => "an int (32 bits)".to_owned(),
            Type::Long => "a long".to_owned(),
            Type::Float | Type::Double => "a number".to_owned(),
            Type::Bytes => BYTES.to_owned(),
            Type::String => "a string".to_owned(),
            Type::Array(_) => "an array".to_owned(),
            Type::Map(_) => "a map".to_owned(),
            Type::Union(of) => {
                let branch = |branch: &Branch| match &self.types[branch.of] {
                    Type::Union(_) => "a union".to_owned(),
                    _ => self.describe(branch.of),
                };
                format!("one of {}", of.iter().map(branch).collect::<Vec<_>>().join(", "))
            }
            Type::Record(_) => "a record".to_owned(),
            Type::Enum(symbols) => format!("one of the symbols {}", symbols.join(", ")),
            Type::Fixed(size) => format!("{size} {BYTES}"),
            Type::Decimal(scale, _) => format!("a decimal with at most {scale} digits behind its point"),
            Type::Uuid | Type::UuidBytes => "a uuid".to_owned(),
            Type::Date => "a date such as 2024-02-29".to_owned(),
            Type::Time(_) => "a time such as 12:30:00.5".to_owned(),
            Type::Timestamp(_) => "a timestamp".to_owned(),
            Type::LocalTimestamp(_) => "a local time such as 2024-02-29T12:30:00".to_owned(),
            Type::Duration => "an object of months, days and milliseconds".to_owned(),
        }
    }
}

/// Bytes, for messages.
const BYTES: &str = "bytes, as a text with a character from U+0000 to U+00FF for each";

fn put_blob(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(count(bytes.len()), out);
    out.extend_from_slice(bytes);
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
