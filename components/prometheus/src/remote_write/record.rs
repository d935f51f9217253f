//! A request as the record of a codec: taken apart into points, and one point as the event that nodes see.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use vrl::value::{KeyString, ObjectMap, Value};
use weir::event::CodecError;

use super::series::{Exemplar, FamilyMetadata, NAME, Reason, Series, Symbols, exemplar};
use super::wire::{Field, Fields, Malformed, Span, Wire};
use super::{Limits, MAX_EVENTS, MAX_EXPANDED, Refusal, Version, decompress, histogram, put};
use crate::point::value_of;

/// As large as a record is when it is decompressed.
const MAX_RECORD: usize = 64 << 20;

/// As much memory as is taken ahead for the parts of a record.
const MOST_AHEAD: usize = 4 << 20;

/// A record was taken by somebody before: only what would fill the memory is not.
const LIMITS: Limits =
    Limits { series: usize::MAX, labels: usize::MAX, points: MAX_EVENTS, label_bytes: usize::MAX, symbols: usize::MAX };

/// The names of a metric's types, by number; both versions have the same.
pub(crate) const KINDS: [&str; 8] =
    ["", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

pub(crate) fn invalid(why: impl std::fmt::Display) -> CodecError {
    CodecError::new("invalid_remote_write", why.to_string())
}

impl From<Malformed> for CodecError {
    fn from(error: Malformed) -> CodecError {
        invalid(error)
    }
}

impl From<Refusal> for CodecError {
    fn from(refusal: Refusal) -> CodecError {
        invalid(refusal)
    }
}

/// Looks what lies in a request, decompressed where it is compressed, and hands both on.
///
/// A block of snappy cannot be mistaken for a request that is none. A request begins with the key of a field that it has, 0x0a,
/// 0x1a, 0x22 or 0x2a. A block whose first byte is that is one of 10, 26, 34 or 42 bytes, and so are its bytes but for two. Within the first
/// 12 bytes of a request no four come again that a copy could refer to: they are a literal, and its tag is at least 4 x 11. As
/// the length of a field it leads beyond the block. What begins with a field that nobody knows is a block if it can be one.
pub(crate) fn open<T>(
    record: &Bytes,
    then: impl FnOnce(&Bytes, Outline<'_>) -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    let as_it_is = Outline::of(record);
    let is_request = record.first().is_none_or(|byte| matches!(byte, 0x0a | 0x1a | 0x22 | 0x2a));
    match as_it_is {
        Ok(outline) if is_request => return then(record, outline),
        _ => {}
    }
    match (decompress(record, MAX_RECORD), as_it_is) {
        (Ok(body), _) => then(&body, Outline::of(&body)?),
        (Err(_), Ok(outline)) if outline.first.is_some() => then(record, outline),
        (Err(_), Err(error)) if is_request => Err(error),
        (Err(_), _) => Err(invalid("it is neither a request nor a snappy block")),
    }
}

/// What lies in a request side by side.
pub(crate) struct Outline<'a> {
    pub version: Version,
    symbols: Symbols<'a>,
    /// The first series, or entry of metadata.
    first: Option<Field>,
    /// How many there are.
    count: usize,
}

impl<'a> Outline<'a> {
    /// By the numbers of its fields: 1.0 has 1 and 3, 2.0 has 4 and 5.
    pub fn of(body: &'a [u8]) -> Result<Outline<'a>, CodecError> {
        let mut fields = Fields::all(body);
        let (mut has_one, mut has_two, mut first, mut count) = (false, false, None, 0);
        let mut symbols = Symbols::new(body);
        while let Some(field) = fields.next()? {
            match (field.number, field.wire) {
                (1 | 3, Wire::Bytes(_)) => has_one = true,
                (4 | 5, Wire::Bytes(_)) => has_two = true,
                (1 | 3..=5, _) => return Err(invalid("it is no request of remote write: a field has the wrong type")),
                _ => continue,
            }
            if field.number == 4 {
                symbols.push(field.at, field.bytes()?);
            } else {
                first.get_or_insert(field);
                count += 1;
            }
        }
        let version = match (has_one, has_two) {
            (true, true) => return Err(invalid("it mixes the fields of remote write 1.0 and 2.0")),
            (false, true) => Version::V2,
            _ => Version::V1,
        };
        symbols.seal();
        Ok(Outline { version, symbols, first, count })
    }
}

/// Puts the event of a record that is one in the place of a value, with these fields of it at least; `None`: with all.
pub(crate) fn read_into(record: &Bytes, wanted: Option<&[String]>, value: &mut Value) -> Result<(), CodecError> {
    open(record, |body, Outline { version, symbols, first, count }| {
        let Some(field) = first else { return Err(invalid("it has no series")) };
        if count > 1 {
            return Err(several());
        }
        let mut seen = Seen::begin(std::mem::replace(value, Value::Null), wanted, body);
        if field.number == 3 {
            let metadata = FamilyMetadata::read(body, field.bytes()?)?;
            metadata.check(&LIMITS).map_err(invalid)?;
            seen.put_family(&metadata);
        } else {
            let mut series = Series::for_one();
            series.read(version, body, field.bytes()?, &symbols, &LIMITS, MAX_EVENTS)?;
            series.check(&LIMITS).map_err(invalid)?;
            if series.samples.len() + series.histograms.len() > 1 {
                return Err(several());
            }
            seen.put_series(version, &series, &symbols)?;
        }
        *value = seen.end();
        Ok(())
    })
}

fn several() -> CodecError {
    invalid(format!(
        "it has several points that cannot be taken apart: more than {MAX_EVENTS}, or more than {MAX_EXPANDED} bytes of labels"
    ))
}

/// A text that is part of the record and keeps to its bytes.
fn text(body: &Bytes, text: &[u8]) -> Value {
    Value::Bytes(body.slice_ref(text))
}

fn time(millis: i64) -> Result<DateTime<Utc>, CodecError> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| invalid(Reason::Time))
}

/// What nodes see, in the making.
///
/// Most points have the fields and the labels of the one before: what is said of this one is put in the place of what was said
/// of that, and names stay where they are.
struct Seen<'a> {
    /// Null where nothing is said of this point yet.
    fields: ObjectMap,
    /// The labels of the point before.
    labels: ObjectMap,
    wanted: Option<&'a [String]>,
    body: &'a Bytes,
}

impl<'a> Seen<'a> {
    /// In the place of a value.
    fn begin(value: Value, wanted: Option<&'a [String]>, body: &'a Bytes) -> Seen<'a> {
        let mut seen = Seen { fields: ObjectMap::new(), labels: ObjectMap::new(), wanted, body };
        if let Value::Object(fields) = value {
            seen.fields = fields;
        }
        if let Some(Value::Object(labels)) = seen.fields.get_mut("labels") {
            seen.labels = std::mem::take(labels);
        }
        seen.fields.values_mut().for_each(|value| *value = Value::Null);
        seen
    }

    fn end(mut self) -> Value {
        if self.fields.values().any(Value::is_null) {
            self.fields.retain(|_, value| !value.is_null());
        }
        Value::Object(self.fields)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted == name))
    }

    /// Puts a field there, if it is wanted. Only then its value is made.
    fn put(&mut self, name: &str, value: impl FnOnce() -> Value) {
        if self.is_wanted(name) {
            match self.fields.get_mut(name) {
                Some(place) => *place = value(),
                None => drop(self.fields.insert(name.into(), value())),
            }
        }
    }

    fn put_labels(&mut self, labels: &[(&[u8], &[u8])]) {
        if !self.is_wanted("labels") {
            return;
        }
        let body = self.body;
        let mut map = std::mem::take(&mut self.labels);
        let own = || labels.iter().filter(|(name, _)| *name != NAME.as_bytes());
        let is_same = |(key, (name, _)): (&KeyString, &(&[u8], &[u8]))| key.as_bytes() == *name;
        if map.len() == own().count() && map.keys().zip(own()).all(is_same) {
            map.values_mut().zip(own()).for_each(|(place, (_, value))| *place = text(body, value));
        } else {
            let label = |(name, value): &(&[u8], &[u8])| {
                (KeyString::from(std::str::from_utf8(name).unwrap_or_default()), text(body, value))
            };
            // A map is made at once of what is in order, in the memory of the list.
            let mut all = Vec::with_capacity(labels.len());
            all.extend(own().map(label));
            map = all.into_iter().collect();
        }
        self.put("labels", || Value::Object(map));
    }

    fn put_time(&mut self, name: &str, millis: i64) -> Result<(), CodecError> {
        let time = time(millis)?;
        self.put(name, || Value::Timestamp(time));
        Ok(())
    }

    fn put_metadata(&mut self, kind: u64, help: &[u8], unit: &[u8]) {
        if kind != 0 {
            let known = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind));
            self.put("type", || known.map_or_else(|| kind.to_string().into(), |kind| (*kind).into()));
        }
        let body = self.body;
        for (name, said) in [("help", help), ("unit", unit)].into_iter().filter(|(_, said)| !said.is_empty()) {
            self.put(name, || text(body, said));
        }
    }

    /// An entry of metadata, which stands by itself.
    fn put_family(&mut self, metadata: &FamilyMetadata<'_>) {
        let (body, FamilyMetadata { kind, name, help, unit }) = (self.body, metadata);
        self.put("name", || text(body, name));
        self.put_metadata(*kind, help, unit);
        if *kind == 0 && help.is_empty() && unit.is_empty() {
            self.put("type", || "unknown".into());
        }
    }

    /// A series with one point, or with none. What is read of it does not depend on what is wanted: it may be none.
    fn put_series(&mut self, version: Version, series: &Series<'_>, symbols: &Symbols<'_>) -> Result<(), CodecError> {
        let body = self.body;
        self.put("name", || text(body, series.name().unwrap_or_default()));
        self.put_labels(&series.labels);
        let mut created = series.created;
        if let Some(sample) = series.samples.first() {
            self.put("value", || value_of(sample.value));
            self.put_time("timestamp", sample.timestamp)?;
            created = if sample.start == 0 { created } else { sample.start };
        }
        if let Some(span) = series.histograms.first() {
            let read = histogram::read(body, *span, version == Version::V2)?.map_err(invalid)?;
            self.put_time("timestamp", read.timestamp)?;
            self.put("histogram", || read.histogram.into());
            created = if read.start == 0 { created } else { read.start };
        }
        if created != 0 {
            self.put_time("created_timestamp", created)?;
        }
        self.put_metadata(series.kind, series.help, series.unit);
        let exemplars = exemplars(version, body, series, symbols)?;
        let is_metadata = series.kind != 0 || !series.help.is_empty() || !series.unit.is_empty();
        if series.samples.is_empty() && series.histograms.is_empty() && exemplars.is_empty() && !is_metadata {
            return Err(invalid(Reason::Empty));
        }
        if !exemplars.is_empty() {
            self.put("exemplars", || Value::Array(exemplars));
        }
        Ok(())
    }
}

fn exemplars(
    version: Version,
    body: &Bytes,
    series: &Series<'_>,
    symbols: &Symbols<'_>,
) -> Result<Vec<Value>, CodecError> {
    let mut exemplars = Vec::new();
    for span in &series.exemplars {
        if let Some(exemplar) = exemplar(version, body, *span, symbols, &LIMITS)? {
            exemplars.push(exemplar_of(body, &exemplar)?);
        }
    }
    Ok(exemplars)
}

fn exemplar_of(body: &Bytes, exemplar: &Exemplar<'_>) -> Result<Value, CodecError> {
    let pairs = exemplar.labels.iter().map(|(name, value)| {
        let name = std::str::from_utf8(name).unwrap_or_default();
        (KeyString::from(name), text(body, value))
    });
    let mut fields = ObjectMap::from([
        ("labels".into(), Value::Object(pairs.collect())),
        ("value".into(), value_of(exemplar.value)),
    ]);
    if exemplar.timestamp != 0 {
        fields.insert("timestamp".into(), Value::Timestamp(time(exemplar.timestamp)?));
    }
    Ok(Value::Object(fields))
}

/// The records of one event each; none: it is one, or cannot be taken apart.
pub(crate) fn split(record: &Bytes) -> Option<Vec<Bytes>> {
    let parts = |body: &Bytes, outline: Outline<'_>| {
        let parts = parts(&outline, body)?;
        // An event that is alone stays as it came, also where it is compressed.
        let is_one = matches!(&*parts, [part] if outline.version == Version::V2 || part.len() == body.len());
        // Of one that holds nothing the node that looks says so.
        (!parts.is_empty() && !is_one).then_some(parts)
    };
    open(record, |body, outline| Ok(parts(body, outline))).ok().flatten()
}

/// A part: of the request itself, or of what is written anew.
enum Part {
    Same(Span),
    New(Span),
}

fn parts(outline: &Outline<'_>, body: &Bytes) -> Option<Vec<Bytes>> {
    let Outline { version, symbols, count, .. } = outline;
    let version = *version;
    if *count > MAX_EVENTS {
        return None;
    }
    let mut parts = Vec::with_capacity(*count);
    let mut out = Vec::new();
    let mut series = Series::for_one();
    let mut fields = Fields::all(body);
    while let Some(field) = fields.next().ok()? {
        let Wire::Bytes(message) = field.wire else { continue };
        let whole = Part::Same(Span { start: field.at, end: message.end });
        match (version, field.number) {
            (Version::V1, 3) => parts.push(whole),
            (Version::V1, 1) if one_point(body, message) => parts.push(whole),
            (Version::V1, 1) | (Version::V2, 5) => {
                let read = series.read(version, body, message, symbols, &LIMITS, MAX_EVENTS);
                let is_bad = read.is_err() || (version == Version::V2 && series.is_unresolved());
                if is_bad {
                    // It is refused when a node looks: without symbols nothing can be referred to.
                    parts.push(whole);
                } else {
                    let is_first = out.is_empty();
                    write_parts(version, body, field, &series, symbols, &mut out, &mut parts)?;
                    if is_first {
                        // As a rule those that follow are as long.
                        out.reserve((out.len() * count).min(MOST_AHEAD));
                    }
                }
            }
            _ => {}
        }
        if parts.len() > MAX_EVENTS {
            return None;
        }
    }
    let out = Bytes::from(out);
    let part = |part| match part {
        Part::Same(span) => body.slice(span.start..span.end),
        Part::New(span) => out.slice(span.start..span.end),
    };
    Some(parts.into_iter().map(part).collect())
}

/// Whether a series of 1.0 is one event as it lies there; one that cannot be read is, too.
fn one_point(body: &[u8], series: Span) -> bool {
    let mut fields = Fields::new(body, series);
    let mut points = 0;
    while let Ok(Some(field)) = fields.next() {
        points += usize::from(matches!(field.number, 2 | 4));
    }
    points <= 1
}

/// A request for each point of a series. Exemplars are with the last.
fn write_parts(
    version: Version,
    body: &[u8],
    field: Field,
    series: &Series<'_>,
    symbols: &Symbols<'_>,
    out: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> Option<()> {
    let samples = series.samples.iter().map(|sample| Some((2, sample.span)));
    let histograms = series.histograms.iter().map(|span| Some((if version == Version::V1 { 4 } else { 3 }, *span)));
    let alone = (series.events() > series.samples.len() + series.histograms.len()).then_some(None);
    let points = samples.chain(histograms).chain(alone);
    let last = series.events() - 1;
    for (at, point) in points.enumerate() {
        let begin = out.len();
        let exemplars = if at == last { &*series.exemplars } else { &[] };
        match version {
            Version::V1 => put::message(out, field.number, |out| {
                for (name, value) in &series.labels {
                    put::message(out, 1, |out| {
                        put::text(out, 1, name);
                        put::text(out, 2, value);
                    });
                }
                if let Some((number, span)) = point {
                    put::bytes(out, number, span.of(body));
                }
                exemplars.iter().for_each(|span| put::bytes(out, 3, span.of(body)));
            }),
            Version::V2 => write_v2(body, series, point, exemplars, symbols, out),
        }
        parts.push(Part::New(Span { start: begin, end: out.len() }));
        if parts.len() > MAX_EVENTS || out.len() > MAX_EXPANDED {
            return None;
        }
    }
    Some(())
}

/// A request of 2.0 with a symbol table of its own.
fn write_v2(
    body: &[u8],
    series: &Series<'_>,
    point: Option<(u32, Span)>,
    exemplars: &[Span],
    symbols: &Symbols<'_>,
    out: &mut Vec<u8>,
) {
    let exemplars = exemplars.iter().filter_map(|span| exemplar(Version::V2, body, *span, symbols, &LIMITS).ok()?);
    let exemplars: Vec<Exemplar<'_>> = exemplars.collect();
    let mut table = Table::new(out);
    table.texts(&series.labels, out);
    let help = table.text(series.help, out);
    let unit = table.text(series.unit, out);
    exemplars.iter().for_each(|exemplar| table.texts(&exemplar.labels, out));
    put::message(out, 5, |out| {
        let mut next = Table::refs(1, series.labels.len(), out);
        if let Some((number, span)) = point {
            put::bytes(out, number, span.of(body));
        }
        next += u64::from(help != 0) + u64::from(unit != 0);
        for exemplar in &exemplars {
            put::message(out, 4, |out| {
                next = Table::refs(next, exemplar.labels.len(), out);
                put::double(out, 2, exemplar.value);
                put::int(out, 3, exemplar.timestamp);
            });
        }
        if series.kind != 0 || help != 0 || unit != 0 {
            put::message(out, 5, |out| {
                put::number(out, 1, series.kind);
                put::number(out, 3, help);
                put::number(out, 4, unit);
            });
        }
        put::int(out, 6, series.created);
    });
}

/// A symbol table that is written: every text anew, in the order in which they are referred to.
struct Table(u64);

impl Table {
    /// One with the empty text, which has to be the first.
    pub fn new(out: &mut Vec<u8>) -> Table {
        put::bytes(out, 4, b"");
        Table(1)
    }

    /// Names and values.
    pub fn texts<T: AsRef<[u8]>>(&mut self, labels: &[(T, T)], out: &mut Vec<u8>) {
        for (name, value) in labels {
            put::bytes(out, 4, name.as_ref());
            put::bytes(out, 4, value.as_ref());
            self.0 += 2;
        }
    }

    /// One text, and what refers to it; an empty one is there.
    pub fn text(&mut self, text: &[u8], out: &mut Vec<u8>) -> u64 {
        if text.is_empty() {
            return 0;
        }
        put::bytes(out, 4, text);
        self.0 += 1;
        self.0 - 1
    }

    /// The references to so many labels behind one another, from this symbol on; the next symbol.
    pub fn refs(from: u64, labels: usize, out: &mut Vec<u8>) -> u64 {
        let end = from + 2 * labels as u64;
        if labels > 0 {
            put::message(out, 1, |out| (from..end).for_each(|reference| put::varint(out, reference)));
        }
        end
    }
}
