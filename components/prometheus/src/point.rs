//! A point: what is known of a metric at one time, and the event that nodes see of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use vrl::value::{KeyString, ObjectMap, Value};
use weir::event::CodecError;

use crate::histogram::Histogram;

/// The bits by which Prometheus says that a series has ended ("stale"; `model/value` of Prometheus).
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// The bits of a value that is no number and nothing else (the same place).
pub const NAN: u64 = 0x7ff8_0000_0000_0001;

/// Labels by name, without that of the metric.
pub type Labels = BTreeMap<String, String>;

/// What is known of a metric at one time: as a rule its value.
#[derive(Debug, Clone, Default)]
pub struct Point {
    /// The metric's name.
    pub name: String,
    /// What tells its series from others of the same metric.
    pub labels: Labels,
    /// When it was measured; none: now, as far as anybody can say.
    pub timestamp: Option<DateTime<Utc>>,
    /// What was measured.
    pub measured: Measured,
    /// Whether it is added to what was before, instead of taking its place.
    pub is_incremental: bool,
    /// Single observations that went into it.
    pub exemplars: Vec<Exemplar>,
    /// What is known of the metric whenever.
    pub metadata: Metadata,
    /// When its counting began.
    pub created: Option<DateTime<Utc>>,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub enum Measured {
    /// Nothing: exemplars or metadata come alone.
    #[default]
    Nothing,
    /// A value. What is no number keeps its bits.
    Value(f64),
    /// A native histogram.
    Histogram(Box<Histogram>),
}

/// One observation among many: as a rule it leads to a trace.
#[derive(Debug, Clone, Default)]
pub struct Exemplar {
    /// What tells it from others.
    pub labels: Labels,
    /// What was observed.
    pub value: f64,
    /// When.
    pub timestamp: Option<DateTime<Utc>>,
}

/// What is known of a metric whenever; empty: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info` or `stateset`.
    pub kind: String,
    /// What it is, in words.
    pub help: String,
    /// In what it is measured.
    pub unit: String,
}

impl Metadata {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.kind.is_empty() && self.help.is_empty() && self.unit.is_empty()
    }
}

impl PartialEq for Measured {
    fn eq(&self, other: &Measured) -> bool {
        match (self, other) {
            (Measured::Nothing, Measured::Nothing) => true,
            (Measured::Value(one), Measured::Value(other)) => one.to_bits() == other.to_bits(),
            (Measured::Histogram(one), Measured::Histogram(other)) => one == other,
            _ => false,
        }
    }
}

impl PartialEq for Exemplar {
    fn eq(&self, other: &Exemplar) -> bool {
        (&self.labels, self.timestamp, self.value.to_bits()) == (&other.labels, other.timestamp, other.value.to_bits())
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Point) -> bool {
        (&self.name, &self.labels, self.timestamp, self.is_incremental, self.created)
            == (&other.name, &other.labels, other.timestamp, other.is_incremental, other.created)
            && self.measured == other.measured
            && self.exemplars == other.exemplars
            && self.metadata == other.metadata
    }
}

impl Point {
    /// A value, and nothing else.
    pub fn new(name: String, labels: Labels, timestamp: Option<DateTime<Utc>>, value: f64) -> Point {
        Point { name, labels, timestamp, measured: Measured::Value(value), ..Point::default() }
    }

    /// Its value, for a format that can write nothing else.
    pub(crate) fn value(&self, format: &str) -> Result<f64, CodecError> {
        let what = match &self.measured {
            Measured::Value(value) => return Ok(*value),
            Measured::Histogram(_) => "native histograms",
            Measured::Nothing => "exemplars or metadata without a value",
        };
        Err(CodecError::new("unsupported_value", format!("{format} has no way to write {what}")))
    }
}

impl From<Point> for Value {
    /// What nodes see: `name`; `labels`, except of metadata alone; `timestamp` where there is one; `value` or `histogram`;
    /// `kind: incremental` where it is; what else is known.
    fn from(point: Point) -> Value {
        let mut fields = ObjectMap::from([("name".into(), point.name.into())]);
        match point.measured {
            Measured::Value(value) => drop(fields.insert("value".into(), value_of(value))),
            Measured::Histogram(histogram) => drop(fields.insert("histogram".into(), (*histogram).into())),
            Measured::Nothing => {}
        }
        if fields.len() > 1 || !point.labels.is_empty() || !point.exemplars.is_empty() {
            fields.insert("labels".into(), labels_of(point.labels));
        }
        let times = [("timestamp", point.timestamp), ("created_timestamp", point.created)];
        for (name, at) in times.into_iter().filter_map(|(name, at)| Some((name, at?))) {
            fields.insert(name.into(), Value::Timestamp(at));
        }
        if point.is_incremental {
            fields.insert("kind".into(), "incremental".into());
        }
        let metadata = [("type", point.metadata.kind), ("help", point.metadata.help), ("unit", point.metadata.unit)];
        for (name, text) in metadata.into_iter().filter(|(_, text)| !text.is_empty()) {
            fields.insert(name.into(), text.into());
        }
        if !point.exemplars.is_empty() {
            let exemplars = point.exemplars.into_iter().map(Value::from).collect();
            fields.insert("exemplars".into(), Value::Array(exemplars));
        }
        Value::Object(fields)
    }
}

impl From<Exemplar> for Value {
    fn from(exemplar: Exemplar) -> Value {
        let mut fields = ObjectMap::from([
            ("labels".into(), labels_of(exemplar.labels)),
            ("value".into(), value_of(exemplar.value)),
        ]);
        if let Some(timestamp) = exemplar.timestamp {
            fields.insert("timestamp".into(), Value::Timestamp(timestamp));
        }
        Value::Object(fields)
    }
}

fn labels_of(labels: Labels) -> Value {
    Value::Object(labels.into_iter().map(|(name, value)| (KeyString::from(name), Value::from(value))).collect())
}

impl TryFrom<&Value> for Point {
    type Error = CodecError;

    /// The point that an event is, also where a node has made or changed it; the code of an error is `no_point`.
    fn try_from(value: &Value) -> Result<Point, CodecError> {
        let fields = value.as_object().ok_or_else(|| no_point("it is no object"))?;
        let name = fields.get("name").and_then(text).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| no_point("it has no text `name`"))?;
        let is_incremental = match fields.get("kind").and_then(text).as_deref() {
            None | Some("absolute") => false,
            Some("incremental") => true,
            Some(_) => return Err(no_point("its `kind` is neither `absolute` nor `incremental`")),
        };
        let said = |name: &str| match there(fields, name) {
            None => Ok(String::new()),
            Some(value) => text(value).ok_or_else(|| no_point(format!("its `{name}` is no text"))),
        };
        let point = Point {
            name,
            labels: labels_from(fields, "its")?,
            timestamp: time_from(fields, "timestamp", "its")?,
            measured: measured_from(fields)?,
            is_incremental,
            exemplars: exemplars_from(fields)?,
            metadata: Metadata { kind: said("type")?, help: said("help")?, unit: said("unit")? },
            created: time_from(fields, "created_timestamp", "its")?,
        };
        let says_nothing = point.exemplars.is_empty() && point.metadata.is_empty();
        if point.measured == Measured::Nothing && says_nothing {
            return Err(no_point("it has no number `value`"));
        }
        Ok(point)
    }
}

/// A field that is there and not null.
pub(crate) fn there<'a>(fields: &'a ObjectMap, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn measured_from(fields: &ObjectMap) -> Result<Measured, CodecError> {
    match (there(fields, "value"), there(fields, "histogram")) {
        (None, None) => Ok(Measured::Nothing),
        (Some(value), None) => {
            number_of(value).map(Measured::Value).ok_or_else(|| no_point("it has no number `value`"))
        }
        (None, Some(histogram)) => {
            let histogram = Histogram::try_from(histogram);
            histogram.map(|histogram| Measured::Histogram(Box::new(histogram))).map_err(no_point)
        }
        (Some(_), Some(_)) => Err(no_point("it has both a `value` and a `histogram`")),
    }
}

fn exemplars_from(fields: &ObjectMap) -> Result<Vec<Exemplar>, CodecError> {
    let all = match there(fields, "exemplars") {
        None => return Ok(Vec::new()),
        Some(Value::Array(all)) => all,
        Some(_) => return Err(no_point("its `exemplars` are no array")),
    };
    let exemplar = |value: &Value| {
        let fields = value.as_object().ok_or_else(|| no_point("an exemplar is no object"))?;
        let value = there(fields, "value").and_then(number_of);
        Ok(Exemplar {
            labels: labels_from(fields, "an exemplar's")?,
            value: value.ok_or_else(|| no_point("an exemplar has no number `value`"))?,
            timestamp: time_from(fields, "timestamp", "an exemplar's")?,
        })
    };
    all.iter().map(exemplar).collect()
}

fn labels_from(fields: &ObjectMap, whose: &str) -> Result<Labels, CodecError> {
    let mut labels = Labels::new();
    match there(fields, "labels") {
        None => {}
        Some(Value::Object(all)) => {
            for (name, value) in all {
                let value = label(value).ok_or_else(|| no_point(format!("{whose} label `{name}` is no text")))?;
                labels.insert(name.to_string(), value);
            }
        }
        Some(_) => return Err(no_point(format!("{whose} `labels` are no object"))),
    }
    Ok(labels)
}

fn time_from(fields: &ObjectMap, name: &str, whose: &str) -> Result<Option<DateTime<Utc>>, CodecError> {
    let time = there(fields, name);
    time.map(|value| time_of(value).ok_or_else(|| no_point(format!("{whose} `{name}` is no time")))).transpose()
}

fn no_point(why: impl std::fmt::Display) -> CodecError {
    CodecError::new("no_point", format!("the event is no point of a metric: {why}"))
}

/// The text that a value is.
pub(crate) fn text(value: &Value) -> Option<String> {
    let text = matches!(value, Value::Bytes(_) | Value::String(_)).then(|| value.coerce_to_bytes())?;
    Some(std::str::from_utf8(&text).ok()?.to_owned())
}

/// A label's value: what a node may have put there in place of a text is written as one.
fn label(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(_) | Value::String(_) => text(value),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(is) => Some(is.to_string()),
        _ => None,
    }
}

fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Timestamp(at) => Some(*at),
        Value::Integer(millis) => DateTime::from_timestamp_millis(*millis),
        Value::Bytes(_) | Value::String(_) => Some(DateTime::parse_from_rfc3339(&text(value)?).ok()?.to_utc()),
        _ => None,
    }
}

/// A value as nodes see it: what JSON has no number for is a text, so that nothing is lost of it.
pub(crate) fn value_of(value: f64) -> Value {
    match value.to_bits() {
        _ if value.is_finite() => Value::from_f64_or_zero(value),
        STALE => "stale".into(),
        NAN => "NaN".into(),
        bits if value.is_nan() => format!("NaN:{bits:016x}").into(),
        _ if value > 0.0 => "+Inf".into(),
        _ => "-Inf".into(),
    }
}

/// The other way round; texts that are numbers are read, too.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(number.into_inner()),
        #[allow(clippy::cast_precision_loss, reason = "metrics are floats")]
        Value::Integer(number) => Some(*number as f64),
        Value::Bytes(_) | Value::String(_) => number(&text(value)?),
        _ => None,
    }
}

/// A number as text: also `stale`, and `NaN:` with its bits in hex.
pub(crate) fn number(text: &str) -> Option<f64> {
    if let Some(bits) = text.strip_prefix("NaN:") {
        let number = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
        return Some(number).filter(|number| number.is_nan());
    }
    match text {
        "stale" => Some(f64::from_bits(STALE)),
        _ if text.eq_ignore_ascii_case("nan") => Some(f64::from_bits(NAN)),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
