//! What nodes see of logical types, and the way back.

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, Timelike, Utc};
use num_bigint::BigInt;
use vrl::value::{ObjectMap, Value};

use super::Unit;

/// Digits of a decimal, at most.
pub(super) const MAX_DIGITS: u32 = 1000;
/// Bytes that many digits take.
const MAX_BYTES: usize = 416;

impl Unit {
    /// How many make a second.
    fn per_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }
}

/// Bytes as Avro's JSON encoding has them: a text with a character from U+0000 to U+00FF for each.
pub(super) fn bytes_text(bytes: Bytes) -> Value {
    if bytes.is_ascii() {
        return Value::Bytes(bytes);
    }
    Value::from(bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
}

/// The bytes that such a text stands for.
pub(super) fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    value.to_str()?.chars().map(|character| u8::try_from(character).ok()).collect()
}

/// A uuid as RFC 4122 writes it.
pub(super) fn uuid_text(uuid: u128) -> Value {
    let digits = format!("{uuid:032x}");
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    groups.join("-").into()
}

/// The bytes of such a text.
pub(super) fn uuid_bytes(value: &Value) -> Option<[u8; 16]> {
    let text = value.to_str()?;
    let groups: Vec<&str> = text.split('-').collect();
    let is_one = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = Some(groups.concat()).filter(|digits| is_one && is_hex(digits))?;
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// A decimal as text, all its digits kept: `12.50`.
pub(super) fn decimal_text(unscaled: &[u8], scale: u32) -> Option<String> {
    if unscaled.len() > MAX_BYTES {
        return None;
    }
    let number = BigInt::from_signed_bytes_be(unscaled);
    let scale = scale as usize;
    let digits = format!("{:0>width$}", number.magnitude(), width = scale + 1);
    let sign = if number.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let (whole, part) = digits.split_at(digits.len() - scale);
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// The unscaled number of a decimal that is a text or a number.
pub(super) fn decimal_bytes(value: &Value, scale: u32) -> Option<Vec<u8>> {
    let text = match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        value => value.to_str()?.to_owned(),
    };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = part.trim_end_matches('0');
    let scale = scale as usize;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty()
        || !is_number(unsigned)
        || !is_number(part)
        || part.len() > scale
        || text.len() > MAX_DIGITS as usize
    {
        return None;
    }
    let number: BigInt = format!("{whole}{part:0<scale$}").parse().ok()?;
    Some(number.to_signed_bytes_be())
}

pub(super) fn date(days: i64) -> Option<Value> {
    let epoch = DateTime::UNIX_EPOCH.date_naive();
    let days_away = Days::new(days.unsigned_abs());
    let date = if days < 0 { epoch.checked_sub_days(days_away) } else { epoch.checked_add_days(days_away) };
    date.map(|date| date.to_string().into())
}

pub(super) fn days(value: &Value) -> Option<i64> {
    let date = match value {
        Value::Integer(days) => return Some(*days),
        Value::Timestamp(time) => time.date_naive(),
        value => value.to_str()?.parse().ok()?,
    };
    Some(date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days())
}

pub(super) fn time(count: i64, unit: Unit) -> Option<Value> {
    let (seconds, nanos) = split(count, unit);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(seconds).ok()?, nanos)?;
    Some(time.to_string().into())
}

pub(super) fn time_count(value: &Value, unit: Unit) -> Option<i64> {
    if let Value::Integer(count) = value {
        return Some(*count);
    }
    let time: NaiveTime = value.to_str()?.parse().ok()?;
    join(time.num_seconds_from_midnight().into(), time.nanosecond(), unit)
}

pub(super) fn timestamp(count: i64, unit: Unit) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = split(count, unit);
    DateTime::from_timestamp(seconds, nanos)
}

pub(super) fn timestamp_count(value: &Value, unit: Unit) -> Option<i64> {
    let time = match value {
        Value::Integer(count) => return Some(*count),
        Value::Timestamp(time) => *time,
        value => DateTime::parse_from_rfc3339(value.to_str()?).ok()?.to_utc(),
    };
    join(time.timestamp(), time.timestamp_subsec_nanos(), unit)
}

pub(super) fn local(count: i64, unit: Unit) -> Option<Value> {
    Some(timestamp(count, unit)?.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string().into())
}

pub(super) fn local_count(value: &Value, unit: Unit) -> Option<i64> {
    match value.to_str() {
        Some(text) => {
            let time = text.parse::<NaiveDateTime>().ok()?.and_utc();
            join(time.timestamp(), time.timestamp_subsec_nanos(), unit)
        }
        None => timestamp_count(value, unit),
    }
}

/// Twelve bytes: months, days and milliseconds, little-endian.
pub(super) fn duration(bytes: [u8; 12]) -> Value {
    let number = |at: usize| {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        Value::Integer(u32::from_le_bytes(bytes).into())
    };
    Value::Object(ObjectMap::from([
        ("months".into(), number(0)),
        ("days".into(), number(4)),
        ("milliseconds".into(), number(8)),
    ]))
}

pub(super) fn duration_bytes(value: &Value) -> Option<Vec<u8>> {
    let fields = value.as_object()?;
    let number = |name: &str| match fields.get(name) {
        None => Some(0),
        Some(value) => u32::try_from(value.as_integer()?).ok(),
    };
    let numbers = [number("months")?, number("days")?, number("milliseconds")?];
    Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Whole seconds, and the nanoseconds beyond.
fn split(count: i64, unit: Unit) -> (i64, u32) {
    let per_second = unit.per_second();
    let rest = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (count.div_euclid(per_second), u32::try_from(rest).unwrap_or(0))
}

fn join(seconds: i64, nanos: u32, unit: Unit) -> Option<i64> {
    let per_second = unit.per_second();
    seconds.checked_mul(per_second)?.checked_add(i64::from(nanos) / (1_000_000_000 / per_second))
}
