//! A native histogram as nodes see it: fields by the names that Prometheus's message has for them.

use vrl::value::{ObjectMap, Value};

use super::{Buckets, Counts, Histogram, ResetHint, Side, Stretch};
use crate::point::{number_of, text, there, value_of};

const HINTS: [(&str, ResetHint); 3] = [("yes", ResetHint::Yes), ("no", ResetHint::No), ("gauge", ResetHint::Gauge)];

impl From<Histogram> for Value {
    /// `count`, `sum` and `schema`, and all else that is not 0 or empty. The count of a histogram of floats is a float.
    fn from(histogram: Histogram) -> Value {
        let mut fields = ObjectMap::from([
            ("sum".into(), value_of(histogram.sum)),
            ("schema".into(), Value::Integer(histogram.schema.into())),
        ]);
        if histogram.zero_threshold.to_bits() != 0 {
            fields.insert("zero_threshold".into(), value_of(histogram.zero_threshold));
        }
        if let Some((hint, _)) = HINTS.iter().find(|(_, hint)| *hint == histogram.reset_hint) {
            fields.insert("reset_hint".into(), (*hint).into());
        }
        put_list(&mut fields, "custom_values", histogram.custom_values, value_of);
        match histogram.counts {
            Counts::Int(all) => {
                fields.insert("count".into(), whole(all.count));
                if all.zero_count != 0 {
                    fields.insert("zero_count".into(), whole(all.zero_count));
                }
                put_side(&mut fields, ["negative_spans", "negative_deltas"], all.negative, Value::Integer);
                put_side(&mut fields, ["positive_spans", "positive_deltas"], all.positive, Value::Integer);
            }
            Counts::Float(all) => {
                fields.insert("count".into(), value_of(all.count));
                if all.zero_count.to_bits() != 0 {
                    fields.insert("zero_count".into(), value_of(all.zero_count));
                }
                put_side(&mut fields, ["negative_spans", "negative_counts"], all.negative, value_of);
                put_side(&mut fields, ["positive_spans", "positive_counts"], all.positive, value_of);
            }
        }
        Value::Object(fields)
    }
}

/// A count; what is more than nodes have whole numbers for is the text of its digits.
fn whole(count: u64) -> Value {
    i64::try_from(count).map_or_else(|_| count.to_string().into(), Value::Integer)
}

fn put_list<T>(fields: &mut ObjectMap, name: &str, all: Vec<T>, one: impl Fn(T) -> Value) {
    if !all.is_empty() {
        fields.insert(name.into(), Value::Array(all.into_iter().map(one).collect()));
    }
}

fn put_side<T>(fields: &mut ObjectMap, names: [&str; 2], side: Side<T>, one: impl Fn(T) -> Value) {
    put_list(fields, names[0], side.spans, |span| {
        Value::Object(ObjectMap::from([
            ("offset".into(), Value::Integer(span.offset.into())),
            ("length".into(), Value::Integer(span.length.into())),
        ]))
    });
    put_list(fields, names[1], side.buckets, one);
}

impl TryFrom<&Value> for Histogram {
    type Error = String;

    /// The other way round. It has floats if a count of buckets, or in all, is one.
    fn try_from(value: &Value) -> Result<Histogram, String> {
        let fields = value.as_object().ok_or("its `histogram` is no object")?;
        let has = |name| there(fields, name).is_some();
        let is_float = has("positive_counts")
            || has("negative_counts")
            || ["count", "zero_count"]
                .iter()
                .any(|name| there(fields, name).is_some_and(|value| count(value).is_none()));
        if is_float && (has("positive_deltas") || has("negative_deltas")) {
            return Err("its `histogram` has both whole counts and floats".to_owned());
        }
        let schema = match there(fields, "schema") {
            Some(Value::Integer(schema)) => i32::try_from(*schema).ok(),
            _ => None,
        };
        let reset_hint = match there(fields, "reset_hint").map(text) {
            None => ResetHint::Unknown,
            Some(hint) => {
                let known = HINTS.iter().find(|(name, _)| hint.as_deref() == Some(name));
                known.ok_or("its `histogram.reset_hint` is none of `yes`, `no` and `gauge`")?.1
            }
        };
        Ok(Histogram {
            counts: if is_float { Counts::Float(floats(fields)?) } else { Counts::Int(wholes(fields)?) },
            sum: there(fields, "sum").and_then(number_of).ok_or("its `histogram` has no number `sum`")?,
            schema: schema.ok_or("its `histogram` has no whole number `schema`")?,
            zero_threshold: number_or_0(fields, "zero_threshold")?,
            reset_hint,
            custom_values: list(fields, "custom_values", number_of)?,
        })
    }
}

/// A count that is whole.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(count) => u64::try_from(*count).ok(),
        Value::Bytes(_) | Value::String(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

fn number_or_0(fields: &ObjectMap, name: &str) -> Result<f64, String> {
    match there(fields, name) {
        None => Ok(0.0),
        Some(value) => number_of(value).ok_or_else(|| format!("its `histogram.{name}` is no number")),
    }
}

fn floats(fields: &ObjectMap) -> Result<Buckets<f64, f64>, String> {
    Ok(Buckets {
        count: number_or_0(fields, "count")?,
        zero_count: number_or_0(fields, "zero_count")?,
        negative: side(fields, ["negative_spans", "negative_counts"], number_of)?,
        positive: side(fields, ["positive_spans", "positive_counts"], number_of)?,
    })
}

fn wholes(fields: &ObjectMap) -> Result<Buckets<u64, i64>, String> {
    let whole = |name: &str| match there(fields, name) {
        None => Ok(0),
        Some(value) => count(value).ok_or_else(|| format!("its `histogram.{name}` is no count")),
    };
    let delta = |value: &Value| value.as_integer();
    Ok(Buckets {
        count: whole("count")?,
        zero_count: whole("zero_count")?,
        negative: side(fields, ["negative_spans", "negative_deltas"], delta)?,
        positive: side(fields, ["positive_spans", "positive_deltas"], delta)?,
    })
}

fn side<T>(fields: &ObjectMap, names: [&str; 2], one: impl Fn(&Value) -> Option<T>) -> Result<Side<T>, String> {
    let span = |value: &Value| {
        let fields = value.as_object()?;
        let number = |name: &str| fields.get(name).map_or(Some(0), Value::as_integer);
        Some(Stretch { offset: number("offset")?.try_into().ok()?, length: number("length")?.try_into().ok()? })
    };
    Ok(Side { spans: list(fields, names[0], span)?, buckets: list(fields, names[1], one)? })
}

fn list<T>(fields: &ObjectMap, name: &str, one: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let Some(value) = there(fields, name) else { return Ok(Vec::new()) };
    let all = value.as_array().and_then(|all| all.iter().map(one).collect());
    all.ok_or_else(|| format!("its `histogram.{name}` is no list of what belongs there"))
}
