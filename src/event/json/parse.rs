//! From checked bytes to VRL values.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;
use vrl::value::{KeyString, ObjectMap, Value};

use super::{JsonError, JsonErrorKind, MAX_DEPTH, Numbers, check};

/// Checks a document and takes all of it apart. Strings without escapes share the memory of `doc`.
pub fn parse(doc: &Bytes) -> Result<Value, JsonError> {
    check(doc)?;
    parse_range(doc, 0..doc.len())
}

/// The same, and enters into `numbers` what 64 bits do not hold.
pub fn parse_with(doc: &Bytes, numbers: &mut Numbers) -> Result<Value, JsonError> {
    check(doc)?;
    numbers.clear();
    parse_range_with(doc, 0..doc.len(), numbers)
}

/// Takes apart one value of a document that [`scan`](super::scan) has accepted, where it found it.
///
/// On bytes that were not checked it may accept what is not JSON, or fail; it never panics.
pub fn parse_range(doc: &Bytes, range: Range<usize>) -> Result<Value, JsonError> {
    Parser::new(doc, range).value()
}

/// The same, and enters into `numbers` what 64 bits do not hold.
pub fn parse_range_with(doc: &Bytes, range: Range<usize>, numbers: &mut Numbers) -> Result<Value, JsonError> {
    numbers.reading(|numbers| Parser { numbers: Some(numbers), ..Parser::new(doc, range.clone()) }.value())
}

/// Reads what [`write_as_is`](super::write_as_is) wrote: a document whose texts may hold any bytes, and with infinite numbers.
pub(crate) fn parse_as_is(doc: &Bytes) -> Result<Value, JsonError> {
    let mut parser = Parser::new(doc, 0..doc.len());
    let value = parser.value()?;
    if parser.at == doc.len() { Ok(value) } else { parser.fail(JsonErrorKind::TrailingText) }
}

/// The text of a checked string, as the document spells it between the quotes, or unescaped.
pub(crate) fn string_at(doc: &Bytes, range: Range<usize>) -> Option<Bytes> {
    Parser::new(doc, range).string().ok()
}

/// Whether a value is the same when it has been written as JSON and read again: no timestamp, no bytes that are
/// not text, no infinity, and not so deep that it would be refused as a field of an event.
pub(crate) fn same_after_json(value: &Value) -> bool {
    same_at(value, MAX_DEPTH - 1)
}

fn same_at(value: &Value, levels: usize) -> bool {
    match value {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).is_ok(),
        Value::String(_) | Value::Integer(_) | Value::Boolean(_) | Value::Null => true,
        Value::Float(number) => number.is_finite(),
        Value::Object(map) => levels > 0 && map.values().all(|value| same_at(value, levels - 1)),
        Value::Array(items) => levels > 0 && items.iter().all(|value| same_at(value, levels - 1)),
        Value::Timestamp(_) | Value::Regex(_) => false,
    }
}

struct Parser<'a> {
    doc: &'a Bytes,
    at: usize,
    end: usize,
    depth: usize,
    /// Where numbers that 64 bits do not hold are entered.
    numbers: Option<&'a mut Numbers>,
}

impl<'a> Parser<'a> {
    fn new(doc: &'a Bytes, range: Range<usize>) -> Parser<'a> {
        Parser { doc, at: range.start, end: range.end.min(doc.len()), depth: 0, numbers: None }
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        match self.token() {
            b'"' => Ok(Value::Bytes(self.string()?)),
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b't' => Ok(self.literal(4, Value::Boolean(true))),
            b'f' => Ok(self.literal(5, Value::Boolean(false))),
            b'n' => Ok(self.literal(4, Value::Null)),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.fail(JsonErrorKind::ExpectedValue),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(JsonErrorKind::TooDeep);
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        let mut map = ObjectMap::new();
        self.at += 1;
        while self.token() == b'"' {
            let key = self.key()?;
            if self.token() != b':' {
                return self.fail(JsonErrorKind::ExpectedColon);
            }
            self.at += 1;
            let value = self.value()?;
            map.insert(key, value);
            if self.token() != b',' {
                break;
            }
            self.at += 1;
        }
        if self.token() != b'}' {
            return self.fail(JsonErrorKind::ExpectedCommaOrBrace);
        }
        self.at += 1;
        Ok(Value::Object(map))
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        self.at += 1;
        while self.token() != b']' {
            items.push(self.value()?);
            match self.token() {
                b',' => self.at += 1,
                b']' => {}
                _ => return self.fail(JsonErrorKind::ExpectedCommaOrBracket),
            }
        }
        self.at += 1;
        Ok(Value::Array(items))
    }

    fn key(&mut self) -> Result<KeyString, JsonError> {
        let key = self.string()?;
        match std::str::from_utf8(&key) {
            Ok(key) => Ok(KeyString::from(key)),
            Err(_) => self.fail(JsonErrorKind::InvalidUtf8),
        }
    }

    /// The string that begins at `self.at`: a piece of the document, or a copy where something is escaped.
    fn string(&mut self) -> Result<Bytes, JsonError> {
        let quote = self.at;
        let start = quote + 1;
        let mut from = start;
        let mut escaped = false;
        loop {
            let rest = self.doc.get(from..self.end).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else { return self.fail(JsonErrorKind::UnclosedString) };
            if rest[found] == b'"' {
                self.at = from + found + 1;
                break;
            }
            escaped = true;
            from += found + 2;
        }
        if !escaped {
            return Ok(self.doc.slice(start..self.at - 1));
        }
        match serde_json::from_slice::<String>(&self.doc[quote..self.at]) {
            Ok(text) => Ok(Bytes::from(text)),
            Err(_) => self.unescape_as_is(start..self.at - 1),
        }
    }

    /// The text between quotes, which is not UTF-8: no checked document comes here.
    #[cold]
    fn unescape_as_is(&self, inside: Range<usize>) -> Result<Bytes, JsonError> {
        let mut text = Vec::with_capacity(inside.len());
        for chunk in self.doc[inside].utf8_chunks() {
            match serde_json::from_str::<String>(&format!("\"{}\"", chunk.valid())) {
                Ok(valid) => text.extend_from_slice(valid.as_bytes()),
                Err(_) => return self.fail(JsonErrorKind::InvalidEscape),
            }
            text.extend_from_slice(chunk.invalid());
        }
        Ok(text.into())
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = self.doc.get(self.at..self.end).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let spelled = &rest[..length];
        let (negative, digits) = match spelled {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        // Eighteen digits fit an i64 whatever they are. `-0` is a float.
        let plain = digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit) && !(negative && digits == b"0");
        let value = if plain {
            let number = digits.iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'));
            Value::Integer(if negative { -number } else { number })
        } else if spelled.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) || digits.len() > 20 {
            // The nearest there is, which serde_json misses now and then by some bits.
            let number = std::str::from_utf8(spelled).ok().and_then(|spelled| spelled.parse::<f64>().ok());
            // A checked document has no infinite ones.
            match number {
                Some(number) => self.float(length, number),
                None => return self.fail(JsonErrorKind::InvalidNumber),
            }
        } else {
            match serde_json::from_slice(spelled) {
                Ok(Value::Float(number)) => self.float(length, number.into_inner()),
                Ok(value) => value,
                Err(_) => return self.fail(JsonErrorKind::InvalidNumber),
            }
        };
        self.at += length;
        Ok(value)
    }

    /// The float of the number of `length` bytes that begins at `self.at`.
    fn float(&mut self, length: usize, nearest: f64) -> Value {
        Value::from_f64_or_zero(match &mut self.numbers {
            Some(numbers) => numbers.float(self.doc.slice(self.at..self.at + length), nearest),
            None => nearest,
        })
    }

    fn literal(&mut self, length: usize, value: Value) -> Value {
        self.at += length;
        value
    }

    fn token(&mut self) -> u8 {
        let rest = self.doc.get(self.at..self.end).unwrap_or_default();
        for (skipped, byte) in rest.iter().enumerate() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                self.at += skipped;
                return *byte;
            }
        }
        0
    }

    #[cold]
    fn fail<T>(&self, kind: JsonErrorKind) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, kind })
    }
}
