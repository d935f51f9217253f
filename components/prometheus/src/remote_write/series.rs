//! One series of a request: its parts where they lie, and whether they can be what the protocol says.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

use super::admit::short;
use super::wire::{Field, Fields, Malformed, Span};
use super::{Limits, Version};

/// The label that holds the metric's name.
pub(crate) const NAME: &str = "__name__";

/// A sample.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Where its message lies.
    pub span: Span,
    pub value: f64,
    pub timestamp: i64,
    /// When its counting began; 0: unknown.
    pub start: i64,
}

/// The parts of a series. One is used for all series of a request, one after the other, so that its memory is.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// Names and values, in the order of the message.
    pub labels: Vec<(&'a [u8], &'a [u8])>,
    pub samples: Vec<Sample>,
    /// The messages of histograms and exemplars.
    pub histograms: Vec<Span>,
    pub exemplars: Vec<Span>,
    /// `Metadata` of 2.0.
    pub kind: u64,
    pub help: &'a [u8],
    pub unit: &'a [u8],
    /// When counting began, as 2.0 had it up to release candidate 3; 0: unknown.
    pub created: i64,
    /// Where labels are known to be UTF-8.
    is_ascii: bool,
    /// Labels beyond the limit are counted only.
    label_count: usize,
    /// A label's name whose value is still to come.
    half: Option<&'a [u8]>,
    help_ref: u64,
    unit_ref: u64,
    refused: Option<Reason>,
    /// For looking at labels in order.
    sorted: Vec<&'a [u8]>,
}

/// Why a series cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    NoName,
    EmptyLabel,
    Duplicate(String),
    NoUtf8,
    /// A reference, and how many symbols there are.
    Symbol(u64, usize),
    OddReferences,
    Empty,
    Labels(usize, usize),
    LabelBytes(usize, usize),
    Histogram(String),
    Time,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoName => write!(f, "it has no name (label `{NAME}`)"),
            Reason::EmptyLabel => f.write_str("a label has no name"),
            Reason::Duplicate(name) => write!(f, "the label `{name}` stands there twice"),
            Reason::NoUtf8 => f.write_str("a text is not UTF-8"),
            Reason::Symbol(symbol, count) => write!(f, "it refers to symbol {symbol}, and there are {count}"),
            Reason::OddReferences => f.write_str("its label references are no pairs"),
            Reason::Empty => f.write_str("it has no sample, histogram or exemplar"),
            Reason::Labels(count, limit) => write!(f, "it has {count} labels, at most {limit} are taken"),
            Reason::LabelBytes(bytes, limit) => write!(f, "its labels have {bytes} bytes, at most {limit} are taken"),
            Reason::Histogram(why) => write!(f, "a histogram is none: {why}"),
            Reason::Time => f.write_str("a timestamp is in no year that can be told"),
        }
    }
}

/// The first and the last millisecond that can be told.
const TIMES: RangeInclusive<i64> =
    DateTime::<Utc>::MIN_UTC.timestamp_millis()..=DateTime::<Utc>::MAX_UTC.timestamp_millis();

/// Whether a time in milliseconds can be told at all.
pub(crate) fn is_time(millis: i64) -> bool {
    TIMES.contains(&millis)
}

impl<'a> Series<'a> {
    /// With room for as much as most series have.
    pub fn for_one() -> Series<'a> {
        Series { labels: Vec::with_capacity(16), samples: Vec::with_capacity(1), ..Series::default() }
    }

    /// Whether it refers to what is not there.
    pub fn is_unresolved(&self) -> bool {
        self.refused.is_some()
    }

    /// Points and exemplars.
    pub fn points(&self) -> usize {
        self.samples.len() + self.histograms.len() + self.exemplars.len()
    }

    /// The events it becomes: exemplars go with the last point, and without one are an event of their own.
    pub fn events(&self) -> usize {
        (self.samples.len() + self.histograms.len()).max(1)
    }

    /// Bytes of all texts that each of its points needs.
    pub fn label_bytes(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        labels + self.help.len() + self.unit.len()
    }

    /// The metric's name.
    pub fn name(&self) -> Option<&'a [u8]> {
        self.labels.iter().find(|(name, _)| *name == NAME.as_bytes()).map(|(_, value)| *value)
    }

    /// Takes the message that lies there. What of it is read but cannot be meant is told by [`check`](Self::check). More than
    /// `points` points are not kept, but one.
    pub fn read(
        &mut self,
        version: Version,
        body: &'a [u8],
        span: Span,
        symbols: &Symbols<'a>,
        limits: &Limits,
        points: usize,
    ) -> Result<(), Malformed> {
        self.clear();
        let mut fields = Fields::new(body, span);
        let mut labels = Span { start: usize::MAX, end: 0 };
        let mut label_bytes = 0;
        while let Some(field) = fields.next()? {
            let has_room = self.points() <= points;
            match (version, field.number) {
                (Version::V1, 1) => {
                    let label = field.bytes()?;
                    labels = Span { start: labels.start.min(field.at), end: label.end };
                    label_bytes += label.end - field.at;
                    self.label_count += 1;
                    let pair = pair(body, label)?;
                    if self.label_count <= limits.labels {
                        self.labels.push(pair);
                    }
                }
                (Version::V2, 1) => field.varints(body, |reference| self.refer(reference, symbols, limits))?,
                (_, 2) => {
                    let sample = sample(version, body, field.bytes()?)?;
                    if has_room {
                        self.samples.push(sample);
                    }
                }
                (Version::V1, 4) | (Version::V2, 3) => {
                    let histogram = field.bytes()?;
                    if has_room {
                        self.histograms.push(histogram);
                    }
                }
                (Version::V1, 3) | (Version::V2, 4) => {
                    let exemplar = field.bytes()?;
                    if has_room {
                        self.exemplars.push(exemplar);
                    }
                }
                (Version::V2, 5) => self.metadata(body, field)?,
                (Version::V2, 6) => self.created = field.int()?,
                _ => {}
            }
        }
        if version == Version::V2 {
            self.resolve(symbols);
        } else {
            // As a rule labels lie behind one another, and with all between them are ASCII.
            let is_dense = labels.len_or_0() == label_bytes;
            self.is_ascii = is_dense && labels.of(body).is_ascii();
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        (self.kind, self.help, self.unit, self.created) = (0, b"", b"", 0);
        (self.is_ascii, self.label_count, self.refused) = (false, 0, None);
        (self.half, self.help_ref, self.unit_ref) = (None, 0, 0);
    }

    fn metadata(&mut self, body: &'a [u8], field: Field) -> Result<(), Malformed> {
        let mut fields = Fields::new(body, field.bytes()?);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => self.kind = field.varint()?,
                3 => self.help_ref = field.varint()?,
                4 => self.unit_ref = field.varint()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The text that is referred to; one that is not there is remembered as the reason to refuse.
    fn text(&mut self, reference: u64, symbols: &Symbols<'a>) -> &'a [u8] {
        symbols.get(reference).unwrap_or_else(|reason| {
            self.refused.get_or_insert(reason);
            b""
        })
    }

    /// Takes the name or the value of a label of 2.0.
    fn refer(&mut self, reference: u64, symbols: &Symbols<'a>, limits: &Limits) {
        let text = self.text(reference, symbols);
        let Some(name) = self.half.take() else {
            self.half = Some(text);
            return;
        };
        self.label_count += 1;
        if self.label_count <= limits.labels {
            self.labels.push((name, text));
        }
    }

    /// Puts texts in the place of what else is referred to.
    fn resolve(&mut self, symbols: &Symbols<'a>) {
        if self.half.is_some() {
            self.refused.get_or_insert(Reason::OddReferences);
        }
        // 0 says that there is none, whatever stands there.
        if self.help_ref != 0 {
            self.help = self.text(self.help_ref, symbols);
        }
        if self.unit_ref != 0 {
            self.unit = self.text(self.unit_ref, symbols);
        }
        // Symbols are looked at once for all.
        self.is_ascii = true;
    }

    /// Whether it is a series by the protocol's rules: a name, no label twice or without a name, all of it UTF-8, no time
    /// beyond all years. The order of labels does not matter. Whether there is a point is another question.
    pub fn check(&mut self, limits: &Limits) -> Result<(), Reason> {
        if self.label_count > limits.labels {
            return Err(Reason::Labels(self.label_count, limits.labels));
        }
        if let Some(reason) = self.refused.take() {
            return Err(reason);
        }
        let bytes = self.label_bytes();
        if bytes > limits.label_bytes {
            return Err(Reason::LabelBytes(bytes, limits.label_bytes));
        }
        if !self.is_ascii && !self.labels.iter().all(|(name, value)| is_utf8(name) && is_utf8(value)) {
            return Err(Reason::NoUtf8);
        }
        self.sorted.clear();
        check_names(&self.labels, &mut self.sorted)?;
        if self.name().is_none_or(<[u8]>::is_empty) {
            return Err(Reason::NoName);
        }
        let mut times = self.samples.iter().flat_map(|sample| [sample.timestamp, sample.start]);
        if !is_time(self.created) || !times.all(is_time) {
            return Err(Reason::Time);
        }
        Ok(())
    }
}

/// Whether names are there, and none twice.
fn check_names<'a>(labels: &[(&'a [u8], &'a [u8])], sorted: &mut Vec<&'a [u8]>) -> Result<(), Reason> {
    if labels.iter().any(|(name, _)| name.is_empty()) {
        return Err(Reason::EmptyLabel);
    }
    if labels.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Ok(());
    }
    sorted.extend(labels.iter().map(|(name, _)| *name));
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Reason::Duplicate(short(pair[0]))),
        None => Ok(()),
    }
}

pub(crate) fn is_utf8(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok()
}

impl Span {
    /// How long it is; none where it was never begun.
    fn len_or_0(self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

/// A `Label` of 1.0.
fn pair(body: &[u8], label: Span) -> Result<(&[u8], &[u8]), Malformed> {
    if let Some(pair) = plain_pair(label.of(body)) {
        return Ok(pair);
    }
    let mut fields = Fields::new(body, label);
    let (mut name, mut value) = (Span::default(), Span::default());
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name.of(body), value.of(body)))
}

/// A label as nearly all are: its name and its value, none of them long.
fn plain_pair(label: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ 0..0x80, rest @ ..] = label else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, length @ 0..0x80, value @ ..] = rest else { return None };
    (value.len() == usize::from(*length)).then_some((name, value))
}

fn sample(version: Version, body: &[u8], span: Span) -> Result<Sample, Malformed> {
    let mut fields = Fields::new(body, span);
    let mut sample = Sample { span, ..Sample::default() };
    while let Some(field) = fields.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp = field.int()?,
            3 if version == Version::V2 => sample.start = field.int()?,
            _ => {}
        }
    }
    Ok(sample)
}

/// An exemplar.
#[derive(Debug, Default)]
pub(crate) struct Exemplar<'a> {
    pub labels: Vec<(&'a [u8], &'a [u8])>,
    pub value: f64,
    pub timestamp: i64,
}

/// Reads an exemplar; none: it is none by the protocol's rules.
pub(crate) fn exemplar<'a>(
    version: Version,
    body: &'a [u8],
    span: Span,
    symbols: &Symbols<'a>,
    limits: &Limits,
) -> Result<Option<Exemplar<'a>>, Malformed> {
    let mut fields = Fields::new(body, span);
    let mut exemplar = Exemplar::default();
    let mut refs = Vec::new();
    let mut count = 0;
    while let Some(field) = fields.next()? {
        match (version, field.number) {
            (Version::V1, 1) => {
                let pair = pair(body, field.bytes()?)?;
                count += 1;
                if count <= limits.labels {
                    exemplar.labels.push(pair);
                }
            }
            (Version::V2, 1) => field.varints(body, |reference| {
                count += 1;
                if count <= limits.labels.saturating_mul(2) {
                    refs.push(reference);
                }
            })?,
            (_, 2) => exemplar.value = field.double()?,
            (_, 3) => exemplar.timestamp = field.int()?,
            _ => {}
        }
    }
    for pair in refs.chunks_exact(2) {
        match (symbols.get(pair[0]), symbols.get(pair[1])) {
            (Ok(name), Ok(value)) => exemplar.labels.push((name, value)),
            _ => return Ok(None),
        }
    }
    let per_label = if version == Version::V2 { 2 } else { 1 };
    let bytes: usize = exemplar.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    let is_one = count == exemplar.labels.len() * per_label
        && bytes <= limits.label_bytes
        && exemplar.labels.iter().all(|(name, value)| is_utf8(name) && is_utf8(value))
        && check_names(&exemplar.labels, &mut Vec::new()).is_ok()
        && is_time(exemplar.timestamp);
    Ok(is_one.then_some(exemplar))
}

/// The symbol table of a request of 2.0.
#[derive(Debug, Default)]
pub(crate) struct Symbols<'a> {
    body: &'a [u8],
    all: Vec<Span>,
    /// From the key of the first one to the end of the last.
    stretch: Span,
    /// Those that are not UTF-8, in order, which cannot be referred to.
    bad: Vec<usize>,
}

impl<'a> Symbols<'a> {
    /// None yet, of this request.
    pub fn new(body: &'a [u8]) -> Symbols<'a> {
        Symbols { body, ..Symbols::default() }
    }

    /// One more, whose field begins there. It can be referred to once the table is [sealed](Self::seal).
    pub fn push(&mut self, at: usize, text: Span) {
        if self.all.is_empty() {
            // As many as one series has.
            self.all.reserve(32);
            self.stretch.start = at;
        }
        self.stretch.end = text.end;
        self.all.push(text);
    }

    /// No more will come.
    pub fn seal(&mut self) {
        // As a rule all of them are ASCII with all that lies between them.
        if !self.stretch.of(self.body).is_ascii() {
            let is_bad = |at: &usize| !is_utf8(self.all[*at].of(self.body));
            self.bad = (0..self.all.len()).filter(is_bad).collect();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn get(&self, reference: u64) -> Result<&'a [u8], Reason> {
        let number = usize::try_from(reference).unwrap_or(usize::MAX);
        let text = self.all.get(number).ok_or(Reason::Symbol(reference, self.all.len()))?;
        let is_bad = !self.bad.is_empty() && self.bad.binary_search(&number).is_ok();
        if is_bad { Err(Reason::NoUtf8) } else { Ok(text.of(self.body)) }
    }
}

/// `MetricMetadata` of 1.0.
#[derive(Debug, Default)]
pub(crate) struct FamilyMetadata<'a> {
    pub kind: u64,
    pub name: &'a [u8],
    pub help: &'a [u8],
    pub unit: &'a [u8],
}

impl<'a> FamilyMetadata<'a> {
    pub fn read(body: &'a [u8], span: Span) -> Result<FamilyMetadata<'a>, Malformed> {
        let mut fields = Fields::new(body, span);
        let mut all = FamilyMetadata::default();
        while let Some(field) = fields.next()? {
            match field.number {
                1 => all.kind = field.varint()?,
                2 => all.name = field.bytes()?.of(body),
                4 => all.help = field.bytes()?.of(body),
                5 => all.unit = field.bytes()?.of(body),
                _ => {}
            }
        }
        Ok(all)
    }

    pub fn check(&self, limits: &Limits) -> Result<(), Reason> {
        let bytes = self.name.len() + self.help.len() + self.unit.len();
        if bytes > limits.label_bytes {
            return Err(Reason::LabelBytes(bytes, limits.label_bytes));
        }
        if self.name.is_empty() {
            return Err(Reason::NoName);
        }
        if ![self.name, self.help, self.unit].into_iter().all(is_utf8) { Err(Reason::NoUtf8) } else { Ok(()) }
    }
}
