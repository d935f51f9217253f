//! Numbers that neither a 64-bit integer nor a 64-bit float holds, such as `18446744073709551615`.
//!
//! VRL has no type for them. Each gets a float of its own that stands in for it: the nearest one, or one beside that where two
//! numbers of a document would share it. So different numbers stay different while a program runs, and what is written
//! afterwards has the digits of the document. Arithmetic uses the float.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use vrl::value::Value;

use super::write::write_with;
use crate::event::CodecError;

/// A float has at most so many digits in its shortest spelling.
const MOST_DIGITS: usize = 17;
/// Decimals of so many digits are told apart by the nearest floats, whatever they are.
const SAFE_DIGITS: usize = 15;

/// The numbers of an event, as it spells them, by the floats that stand in for them.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Set once a number was met that its float does not tell from others: from then on every float of the event is entered.
    spelled: Option<HashMap<u64, Bytes>>,
    /// A number was met that would have to be entered.
    is_lossy: bool,
}

impl Numbers {
    /// Begins with another event.
    pub fn clear(&mut self) {
        (self.spelled, self.is_lossy) = (None, false);
    }

    /// Whether some floats stand in for other numbers.
    pub fn are_exact(&self) -> bool {
        self.spelled.is_some()
    }

    /// Runs `parse`, and once more where it has met a number that has to be entered.
    pub(super) fn reading<T, E>(&mut self, mut parse: impl FnMut(&mut Numbers) -> Result<T, E>) -> Result<T, E> {
        let value = parse(self)?;
        if self.are_exact() || !self.is_lossy {
            return Ok(value);
        }
        self.spelled = Some(HashMap::new());
        parse(self)
    }

    /// The float for a number whose nearest one is `nearest`.
    pub(super) fn float(&mut self, spelled: Bytes, nearest: f64) -> f64 {
        let Some(known) = &mut self.spelled else {
            self.is_lossy = self.is_lossy || is_lossy(&spelled, nearest);
            return nearest;
        };
        // Neither to zero nor to infinity.
        let towards_zero = nearest.abs() > f64::MAX / 2.0;
        let mut float = beyond_integers(&spelled, nearest);
        loop {
            match known.entry(float.to_bits()) {
                Entry::Occupied(entry) if is_same(entry.get(), &spelled) => return float,
                Entry::Vacant(entry) => {
                    entry.insert(spelled);
                    return float;
                }
                Entry::Occupied(_) => {
                    float = if towards_zero == float.is_sign_positive() { float.next_down() } else { float.next_up() };
                }
            }
        }
    }

    /// The digits of the number that a float stands in for, if it does.
    pub fn digits(&self, float: f64) -> Option<&str> {
        let spelled = self.spelled.as_ref()?.get(&float.to_bits())?;
        std::str::from_utf8(spelled).ok()
    }

    /// Whether a value has floats that do not say what the numbers are for which they stand in.
    pub(crate) fn are_in(&self, value: &Value) -> bool {
        match value {
            Value::Float(float) => self.spelling(float.into_inner()).is_some(),
            Value::Object(map) => map.values().any(|value| self.are_in(value)),
            Value::Array(items) => items.iter().any(|item| self.are_in(item)),
            _ => false,
        }
    }

    /// A value with the digits of such numbers as texts, for a format in which these say the same; if `only_integers`, those of
    /// integers alone.
    pub fn as_texts(&self, value: &Value, only_integers: bool) -> Value {
        let each = |value: &Value| self.as_texts(value, only_integers);
        match value {
            Value::Float(float) => match self.spelling(float.into_inner()) {
                Some(digits) if !only_integers || is_integer(digits.as_bytes()) => Value::from(digits),
                _ => value.clone(),
            },
            Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), each(value))).collect()),
            Value::Array(items) => Value::Array(items.iter().map(each).collect()),
            other => other.clone(),
        }
    }

    /// The digits of a number for which a float stands in, where the float would be written with others.
    pub fn spelling(&self, float: f64) -> Option<&str> {
        self.digits(float).filter(|digits| is_lossy(digits.as_bytes(), float))
    }

    /// Appends a value as JSON, as [`write`](super::write) does, with the digits of these numbers.
    pub fn write(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self.are_exact() {
            true => write_with(value, Digits { numbers: self, inner: CompactFormatter }, out),
            false => super::write(value, out),
        }
    }

    /// The same on several lines.
    pub fn write_pretty(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        write_with(value, Digits { numbers: self, inner: PrettyFormatter::new() }, out)
    }
}

/// The nearest float for a number, but for integers just beyond those of 64 bits: VRL compares a float with an integer as
/// floats, so a float that some integer becomes would be equal to it.
fn beyond_integers(spelled: &[u8], nearest: f64) -> f64 {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let fits = || std::str::from_utf8(spelled).is_ok_and(|digits| digits.parse::<i64>().is_ok());
    if nearest == BOUND && is_integer(spelled) && !fits() {
        nearest.next_up()
    } else if nearest == -BOUND && is_integer(spelled) && !fits() {
        nearest.next_down()
    } else {
        nearest
    }
}

fn is_integer(digits: &[u8]) -> bool {
    digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// Whether the float does not tell a number from others, or would be written with other digits than a large integer has.
fn is_lossy(spelled: &[u8], nearest: f64) -> bool {
    let has_exponent = spelled.iter().any(|byte| matches!(byte, b'e' | b'E'));
    if !has_exponent && !spelled.contains(&b'.') {
        return spelled != b"-0";
    }
    if !has_exponent && spelled.len() <= SAFE_DIGITS {
        return false;
    }
    let mut shortest = [0; 32];
    let mut rest = &mut shortest[..];
    if std::io::Write::write_fmt(&mut rest, format_args!("{nearest:e}")).is_err() {
        return true;
    }
    let left = rest.len();
    let shortest = &shortest[..shortest.len() - left];
    match (Decimal::of(spelled), Decimal::of(shortest)) {
        (Some(spelled), Some(shortest)) => spelled != shortest,
        _ => true,
    }
}

/// Whether two texts spell one number.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other
        || one.starts_with(b"-") == other.starts_with(b"-")
            && matches!((Decimal::of(one), Decimal::of(other)), (Some(one), Some(other)) if one == other)
}

/// A decimal without its sign: `0.` and the digits, times ten to the power of `point`.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    digits: [u8; MOST_DIGITS],
    point: i64,
}

impl Decimal {
    /// None where it has too many digits to be the shortest spelling of a float.
    fn of(spelled: &[u8]) -> Option<Decimal> {
        let end = spelled.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(spelled.len());
        let mut decimal = Decimal { digits: [0; MOST_DIGITS], point: 0 };
        let (mut count, mut zeros, mut is_fraction) = (0, 0, false);
        for byte in &spelled[..end] {
            match byte {
                b'.' => is_fraction = true,
                b'0' if count == 0 => decimal.point -= i64::from(is_fraction),
                b'0'..=b'9' => {
                    decimal.point += i64::from(!is_fraction);
                    if *byte == b'0' {
                        zeros += 1;
                        continue;
                    }
                    count += zeros;
                    zeros = 0;
                    *decimal.digits.get_mut(count)? = byte - b'0';
                    count += 1;
                }
                _ => {}
            }
        }
        if count == 0 {
            return Some(Decimal { point: 0, ..decimal });
        }
        let exponent = std::str::from_utf8(spelled.get(end + 1..).unwrap_or_default()).ok()?;
        if !exponent.is_empty() {
            decimal.point = decimal.point.checked_add(exponent.parse().ok()?)?;
        }
        Some(decimal)
    }
}

/// Writes floats that stand in for other numbers with their digits.
struct Digits<'a, F> {
    numbers: &'a Numbers,
    inner: F,
}

/// Hands these methods on.
macro_rules! as_inner {
    ($($method:ident($($argument:ident: $type:ty)?)),* $(,)?) => {$(
        fn $method<W: ?Sized + std::io::Write>(&mut self, writer: &mut W $(, $argument: $type)?) -> std::io::Result<()> {
            self.inner.$method(writer $(, $argument)?)
        }
    )*};
}

impl<F: Formatter> Formatter for Digits<'_, F> {
    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        match self.numbers.digits(value) {
            Some(digits) => writer.write_all(digits.as_bytes()),
            None => self.inner.write_f64(writer, value),
        }
    }

    as_inner!(
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        begin_object_value(),
        end_object_value(),
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::json::{parse, parse_with};

    fn rewritten(doc: &str) -> String {
        let mut numbers = Numbers::default();
        let value = parse_with(&Bytes::from(doc.to_owned()), &mut numbers).unwrap();
        let mut out = Vec::new();
        numbers.write(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_that_no_float_holds_keep_their_digits_and_stay_different() {
        for doc in [
            r#"{"a":18446744073709551615,"b":18446744073709551614,"c":18446744073709551000}"#,
            r#"[18446744073709551615,1.8446744073709552e19,18446744073709551616,18446744073709551615]"#,
            "[9223372036854775807,9223372036854775808,-9223372036854775808,-9223372036854775809]",
            "[0.1,0.1000000000000000055,0.10000000000000001,0.30000000000000004]",
            "[1e-400,2e-400,0.0]",
            "[1.7976931348623157e308,1.79769313486231571e308,1.79769313486231572e308]",
            "[123456789012345678901234567890,123456789012345678901234567891,-123456789012345678901234567890]",
            "[1.00000000000000000001,1.0,1]",
        ] {
            assert_eq!(rewritten(doc), doc);
            let Value::Array(items) = parse_with(&Bytes::from(doc), &mut Numbers::default()).unwrap() else { continue };
            let spelled: Vec<&str> = doc[1..doc.len() - 1].split(',').collect();
            for (at, one) in items.iter().enumerate() {
                for (other_at, other) in items.iter().enumerate() {
                    assert_eq!(
                        one == other,
                        spelled[at] == spelled[other_at],
                        "{} and {}",
                        spelled[at],
                        spelled[other_at]
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_that_a_float_holds_are_written_as_ever() {
        let doc = "[1.10,1e2,-0,0.0,1.50E3,0.1,123456.789,1E-7,100000000000000.0,2.2250738585072014e-308,1.7e308]";
        let doc = Bytes::from(doc);
        let mut numbers = Numbers::default();
        let value = parse_with(&doc, &mut numbers).unwrap();
        assert!(!numbers.are_exact());
        assert_eq!(value, parse(&doc).unwrap());
    }
}
