//! The message of a native histogram, which is the same in both versions.

use super::put;
use super::wire::{Field, Fields, Malformed, Span, zigzag};
use crate::histogram::{Buckets, Counts, Histogram, ResetHint, Side, Stretch};

/// A histogram, and when it was.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub histogram: Histogram,
    pub timestamp: i64,
    /// When its counting began; 0: unknown.
    pub start: i64,
}

/// Its buckets are more than anybody has.
pub(crate) const MAX_BUCKETS: usize = 16 << 10;

/// What the message says of its counts, one field at a time.
#[derive(Debug, Default)]
struct Raw {
    count: Option<Number>,
    zero_count: Option<Number>,
    negative: RawSide,
    positive: RawSide,
    buckets: usize,
}

#[derive(Debug, Default)]
struct RawSide {
    spans: Vec<Stretch>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Int(u64),
    Float(f64),
}

/// Reads a histogram. The inner error says why it cannot be one, though the message is whole.
pub(crate) fn read(body: &[u8], span: Span, has_start: bool) -> Result<Result<Read, String>, Malformed> {
    let mut raw = Raw::default();
    let mut all = Read::default();
    let mut fields = Fields::new(body, span);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => raw.count = Some(Number::Int(field.varint()?)),
            2 => raw.count = Some(Number::Float(field.double()?)),
            3 => all.histogram.sum = field.double()?,
            4 => all.histogram.schema = int32(zigzag(field.varint()?)),
            5 => all.histogram.zero_threshold = field.double()?,
            6 => raw.zero_count = Some(Number::Int(field.varint()?)),
            7 => raw.zero_count = Some(Number::Float(field.double()?)),
            8..=10 => raw.negative.take(body, field, field.number - 8, &mut raw.buckets)?,
            11..=13 => raw.positive.take(body, field, field.number - 11, &mut raw.buckets)?,
            14 => {
                all.histogram.reset_hint = match field.varint()? {
                    1 => ResetHint::Yes,
                    2 => ResetHint::No,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            15 => all.timestamp = field.int()?,
            16 => field.doubles(body, |value| keep(&mut all.histogram.custom_values, value, &mut raw.buckets))?,
            17 if has_start => all.start = field.int()?,
            _ => {}
        }
    }
    if raw.buckets > MAX_BUCKETS {
        return Ok(Err(format!("it has more than {MAX_BUCKETS} buckets, spans and bounds")));
    }
    Ok(raw.counts().map(|counts| {
        all.histogram.counts = counts;
        all
    }))
}

/// A `sint32`; what is larger is cut, as everywhere.
#[allow(clippy::cast_possible_truncation, reason = "so the format has it")]
fn int32(number: i64) -> i32 {
    number as i32
}

fn keep<T>(all: &mut Vec<T>, one: T, buckets: &mut usize) {
    *buckets += 1;
    if *buckets <= MAX_BUCKETS {
        all.push(one);
    }
}

impl RawSide {
    /// Takes one of a side's three fields: spans, deltas, counts.
    fn take(&mut self, body: &[u8], field: Field, which: u32, buckets: &mut usize) -> Result<(), Malformed> {
        match which {
            0 => {
                let mut fields = Fields::new(body, field.bytes()?);
                let mut span = Stretch::default();
                while let Some(field) = fields.next()? {
                    match field.number {
                        1 => span.offset = int32(zigzag(field.varint()?)),
                        #[allow(clippy::cast_possible_truncation, reason = "so the format has it")]
                        2 => span.length = field.varint()? as u32,
                        _ => {}
                    }
                }
                keep(&mut self.spans, span, buckets);
                Ok(())
            }
            1 => field.varints(body, |delta| keep(&mut self.deltas, zigzag(delta), buckets)),
            _ => field.doubles(body, |count| keep(&mut self.counts, count, buckets)),
        }
    }
}

impl Raw {
    /// Whole counts or floats, by what the count is; both mixed are no histogram.
    fn counts(self) -> Result<Counts, String> {
        let mixed = || Err("it mixes whole counts and floats".to_owned());
        let Raw { count, zero_count, negative, positive, .. } = self;
        match (count, zero_count) {
            (None | Some(Number::Int(_)), None | Some(Number::Int(_))) => {
                if !negative.counts.is_empty() || !positive.counts.is_empty() {
                    return mixed();
                }
                let whole = |number| if let Some(Number::Int(count)) = number { count } else { 0 };
                let side = |side: RawSide| Side { spans: side.spans, buckets: side.deltas };
                Ok(Counts::Int(Buckets {
                    count: whole(count),
                    zero_count: whole(zero_count),
                    negative: side(negative),
                    positive: side(positive),
                }))
            }
            (Some(Number::Float(_)), None | Some(Number::Float(_))) => {
                if !negative.deltas.is_empty() || !positive.deltas.is_empty() {
                    return mixed();
                }
                let float = |number| if let Some(Number::Float(count)) = number { count } else { 0.0 };
                let side = |side: RawSide| Side { spans: side.spans, buckets: side.counts };
                Ok(Counts::Float(Buckets {
                    count: float(count),
                    zero_count: float(zero_count),
                    negative: side(negative),
                    positive: side(positive),
                }))
            }
            _ => mixed(),
        }
    }
}

/// Appends the message's fields.
pub(crate) fn write(histogram: &Histogram, timestamp: i64, start: i64, out: &mut Vec<u8>) {
    let delta = |out: &mut Vec<u8>, delta| put::varint(out, put::zigzag(delta));
    let float = |out: &mut Vec<u8>, count: f64| out.extend_from_slice(&count.to_le_bytes());
    // Of one of the two counts it must be seen which it is, also where it is 0.
    match &histogram.counts {
        Counts::Int(all) => {
            put::always(out, 1, all.count);
            put_head(histogram, out);
            put::always(out, 6, all.zero_count);
            put_side(out, 8, 9, &all.negative, delta);
            put_side(out, 11, 12, &all.positive, delta);
        }
        Counts::Float(all) => {
            put::double_always(out, 2, all.count);
            put_head(histogram, out);
            put::double_always(out, 7, all.zero_count);
            put_side(out, 8, 10, &all.negative, float);
            put_side(out, 11, 13, &all.positive, float);
        }
    }
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Yes => 1,
        ResetHint::No => 2,
        ResetHint::Gauge => 3,
    };
    put::number(out, 14, hint);
    put::int(out, 15, timestamp);
    put::packed(out, 16, &histogram.custom_values, float);
    put::int(out, 17, start);
}

fn put_head(histogram: &Histogram, out: &mut Vec<u8>) {
    put::double(out, 3, histogram.sum);
    put::number(out, 4, put::zigzag(histogram.schema.into()));
    put::double(out, 5, histogram.zero_threshold);
}

fn put_side<B: Copy>(out: &mut Vec<u8>, spans: u32, buckets: u32, side: &Side<B>, one: impl Fn(&mut Vec<u8>, B)) {
    for span in &side.spans {
        put::message(out, spans, |out| {
            put::number(out, 1, put::zigzag(span.offset.into()));
            put::number(out, 2, span.length.into());
        });
    }
    put::packed(out, buckets, &side.buckets, one);
}
