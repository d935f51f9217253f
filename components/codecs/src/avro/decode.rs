//! From bytes to values.

use bytes::Bytes;
use vrl::value::{KeyString, ObjectMap, Value};
use weir::event::CodecError;

use super::{Branch, MAX_DEPTH, Schema, Type, logical};
use crate::text::number;
use crate::wire::varint;

/// Values that a record may have beyond its bytes: some, such as null, take none.
const SPARE_VALUES: usize = 1 << 16;

impl Schema {
    /// The value of one record, which has to end where the bytes do.
    pub fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        let mut reader = Reader { schema: self, bytes, at: 0, left: SPARE_VALUES + bytes.len() };
        let value = reader.value(self.root, 0)?;
        match bytes.len() - reader.at {
            0 => Ok(value),
            more => Err(invalid(reader.at, &format!("{more} bytes are behind the record"))),
        }
    }
}

fn invalid(at: usize, what: &str) -> CodecError {
    CodecError::new("invalid_avro", format!("byte {at}: {what}"))
}

struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a Bytes,
    at: usize,
    /// Values that may still come.
    left: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, what: &str) -> Result<T, CodecError> {
        Err(invalid(self.at, what))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, CodecError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return self.fail("the record breaks off") };
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let Some((taken, _)) = self.bytes[self.at..].split_first_chunk() else {
            return self.fail("the record breaks off");
        };
        self.at += N;
        Ok(*taken)
    }

    fn long(&mut self) -> Result<i64, CodecError> {
        let Some((value, rest)) = varint(&self.bytes[self.at..]) else {
            return self.fail("the record breaks off, or a number is too large");
        };
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    fn int(&mut self) -> Result<i64, CodecError> {
        let value = self.long()?;
        if i32::try_from(value).is_err() { self.fail("a number is too large") } else { Ok(value) }
    }

    fn blob(&mut self) -> Result<Bytes, CodecError> {
        match usize::try_from(self.long()?) {
            Ok(length) => self.take(length),
            Err(_) => self.fail("a length is negative"),
        }
    }

    fn text(&mut self) -> Result<Bytes, CodecError> {
        let text = self.blob()?;
        if std::str::from_utf8(&text).is_err() { self.fail("a string is not utf-8") } else { Ok(text) }
    }

    fn value(&mut self, of: usize, depth: usize) -> Result<Value, CodecError> {
        if depth > MAX_DEPTH {
            return self.fail(&format!("more than {MAX_DEPTH} values are inside one another"));
        }
        let Some(left) = self.left.checked_sub(1) else {
            return self.fail("there are more values than a record of this size can have");
        };
        self.left = left;
        Ok(match &self.schema.types[of] {
            Type::Null => Value::Null,
            Type::Boolean => match self.array()? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return self.fail("a boolean is neither 0 nor 1"),
            },
            Type::Int => Value::Integer(self.int()?),
            Type::Long => Value::Integer(self.long()?),
            Type::Float => number(f32::from_le_bytes(self.array()?).into()),
            Type::Double => number(f64::from_le_bytes(self.array()?)),
            Type::Bytes => logical::bytes_text(self.blob()?),
            Type::String | Type::Uuid => Value::Bytes(self.text()?),
            Type::Fixed(size) => logical::bytes_text(self.take(*size)?),
            Type::UuidBytes => logical::uuid_text(u128::from_be_bytes(self.array()?)),
            Type::Array(of) => {
                let mut items = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        items.push(self.value(*of, depth + 1)?);
                    }
                }
                Value::Array(items)
            }
            Type::Map(of) => {
                let mut map = ObjectMap::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        let key = self.text()?;
                        let key = KeyString::from(std::str::from_utf8(&key).unwrap_or_default());
                        map.insert(key, self.value(*of, depth + 1)?);
                    }
                }
                Value::Object(map)
            }
            Type::Union(of) => {
                let chosen = self.long()?;
                match usize::try_from(chosen).ok().and_then(|at| of.get(at)) {
                    Some(Branch { of, tag }) => match (self.value(*of, depth + 1)?, tag) {
                        (text, Some(tag)) if text.to_str().is_some() => {
                            Value::Object(ObjectMap::from([(tag.clone(), text)]))
                        }
                        (value, _) => value,
                    },
                    None => return self.fail("a union has no such branch"),
                }
            }
            Type::Record(fields) => {
                let mut map = ObjectMap::new();
                for field in fields {
                    map.insert(field.name.clone(), self.value(field.of, depth + 1)?);
                }
                Value::Object(map)
            }
            Type::Enum(symbols) => {
                let chosen = self.int()?;
                match usize::try_from(chosen).ok().and_then(|at| symbols.get(at)) {
                    Some(symbol) => Value::from(symbol.as_str()),
                    None => return self.fail("an enum has no such symbol"),
                }
            }
            Type::Decimal(scale, size) => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.blob()?,
                };
                match logical::decimal_text(&unscaled, *scale) {
                    Some(text) => text.into(),
                    None => return self.fail("a decimal has too many digits"),
                }
            }
            Type::Date => self.logical(Reader::int, logical::date)?,
            Type::Time(unit) => self.logical(Reader::long, |count| logical::time(count, *unit))?,
            Type::Timestamp(unit) => {
                self.logical(Reader::long, |count| logical::timestamp(count, *unit).map(Value::Timestamp))?
            }
            Type::LocalTimestamp(unit) => self.logical(Reader::long, |count| logical::local(count, *unit))?,
            Type::Duration => logical::duration(self.array()?),
        })
    }

    fn logical(
        &mut self,
        read: impl Fn(&mut Self) -> Result<i64, CodecError>,
        meaning: impl Fn(i64) -> Option<Value>,
    ) -> Result<Value, CodecError> {
        let count = read(self)?;
        match meaning(count) {
            Some(value) => Ok(value),
            None => self.fail("a date or time is out of range"),
        }
    }

    /// The number of items that come next, of an array or map; `None` at its end.
    fn block(&mut self) -> Result<Option<u64>, CodecError> {
        let count = self.long()?;
        if count < 0 {
            // The block's size in bytes, for those who skip it.
            self.long()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }
}
