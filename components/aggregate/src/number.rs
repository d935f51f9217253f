//! A number as it was written, with all its digits.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use vrl::value::Value;

/// Digits that are kept of a number, at most; what is longer counts as its nearest float.
const MOST_DIGITS: usize = 400;

/// A number as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Number {
    Whole(i64),
    Float(f64),
    /// One that is neither, such as 18446744073709551615, as JSON spells it.
    Spelled(Box<str>),
}

impl Number {
    /// The number that a value is; a text is the digits of one.
    pub fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Integer(whole) => Some(Number::Whole(*whole)),
            Value::Float(float) if float.is_finite() => Some(Number::Float(float.into_inner())),
            Value::Bytes(_) | Value::String(_) => {
                let digits = value.to_str()?;
                let float = digits.parse::<f64>().ok().filter(|float| float.is_finite())?;
                Some(if digits.len() > MOST_DIGITS { Number::Float(float) } else { Number::Spelled(digits.into()) })
            }
            _ => None,
        }
    }

    pub fn as_f64(&self) -> f64 {
        match self {
            Number::Whole(whole) => *whole as f64,
            Number::Float(float) => *float,
            Number::Spelled(digits) => digits.parse().unwrap_or_default(),
        }
    }

    /// Whole as long as all are and the sum fits.
    pub fn plus(&self, other: &Number) -> Number {
        let whole = match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.checked_add(*b).map(Number::Whole),
            _ => None,
        };
        whole.unwrap_or_else(|| Number::Float(self.as_f64() + other.as_f64()))
    }

    /// Whether it is the smaller one, by all digits.
    pub fn is_below(&self, other: &Number) -> bool {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a < b,
            (Number::Float(a), Number::Float(b)) => a < b,
            // Rounding to floats keeps the order of what it does not make equal.
            _ => match self.as_f64().partial_cmp(&other.as_f64()) {
                Some(Ordering::Equal) => Decimal::of(self) < Decimal::of(other),
                order => order == Some(Ordering::Less),
            },
        }
    }

    pub fn heap_size(&self) -> usize {
        match self {
            Number::Spelled(digits) => digits.len(),
            Number::Whole(_) | Number::Float(_) => 0,
        }
    }
}

/// The value of a number: `0.` and the digits, times ten to the power of `point`.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// Without zeros at either end; none: zero.
    digits: Vec<u8>,
    point: i64,
}

impl Decimal {
    fn of(number: &Number) -> Decimal {
        let spelled = match number {
            Number::Whole(whole) => whole.to_string(),
            Number::Float(float) => float.to_string(),
            Number::Spelled(digits) => digits.to_string(),
        };
        let (is_negative, unsigned) = match spelled.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, &*spelled),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = all.iter().take_while(|digit| **digit == b'0').count();
        let behind = all[zeros..].iter().rev().take_while(|digit| **digit == b'0').count();
        let digits = all[zeros..all.len() - behind].to_vec();
        // Finite numbers have no exponent that would not fit, unless they are zero.
        let exponent = exponent.parse::<i64>().unwrap_or_default();
        let point = (whole.len() as i64 - zeros as i64).saturating_add(exponent);
        if digits.is_empty() {
            Decimal { is_negative: false, digits, point: 0 }
        } else {
            Decimal { is_negative, digits, point }
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        let size = |of: &Decimal| (!of.digits.is_empty()).then_some(of.point);
        let sizes = size(self).cmp(&size(other)).then_with(|| self.digits.cmp(&other.digits));
        Some(match (self.is_negative, other.is_negative) {
            (false, false) => sizes,
            (true, true) => sizes.reverse(),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(digits: &str) -> Number {
        Number::of(&Value::from(digits)).unwrap_or_else(|| panic!("{digits}"))
    }

    #[test]
    fn numbers_are_in_order_by_all_their_digits() {
        let ascending = [
            spelled("-18446744073709551616"),
            spelled("-18446744073709551615"),
            Number::Whole(i64::MIN),
            Number::Float(-0.5),
            spelled("1e-400"),
            spelled("0.1000000000000000055"),
            spelled("0.10000000000000000550001"),
            Number::Whole(9_007_199_254_740_992),
            spelled("9007199254740992.5"),
            Number::Whole(9_007_199_254_740_993),
            Number::Whole(i64::MAX),
            spelled("9223372036854775808"),
            spelled("9223372036854775809.0e0"),
            spelled("18446744073709551615"),
            spelled("1844674407370955161600E-2"),
            Number::Float(1e300),
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(one.is_below(other), at < other_at, "{one:?} and {other:?}");
            }
        }
        assert!(!spelled("0e-999999999999999999999").is_below(&Number::Whole(0)));
        assert_eq!(Number::of(&Value::from("1".repeat(401))), None, "no float is as large");
        assert_eq!(Number::of(&Value::from(format!("0.{}", "1".repeat(401)))), Some(Number::Float(1.0 / 9.0)));
    }
}
