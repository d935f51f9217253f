//! Whether a request can be taken, and what of it.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use super::series::{FamilyMetadata, NAME, Reason, Series, Symbols, exemplar, is_time};
use super::wire::{Field, Fields, Malformed, Span};
use super::{Admitted, Limits, MAX_EVENTS, MAX_EXPANDED, Refusal, Version, histogram};

/// Reasons that are told; of all others only how many there are.
const TOLD: usize = 3;
/// As much of a series' name and labels as a reason shows.
const SHOWN: usize = 120;

/// Looks at a whole request, decompressed, and says what of it can be taken. A series is taken or refused as a whole: it is
/// refused without a name, with a label that has no name or stands there twice, with text that is not UTF-8, with references to
/// symbols that are not there, without any point, with a histogram whose numbers do not agree, and above the limits of a
/// series. Labels may be in any order. An exemplar that cannot be read does not fail its
/// series; in 2.0 it is refused, so that the answer says so (remote write 2.0, "Partial Write"), in 1.0 it is left out silently.
///
/// Not even its parts are taken of a request that breaks off, has a wrong wire type, or is of the other version.
pub fn admit(version: Version, body: &Bytes, limits: &Limits) -> Result<Admitted, Refusal> {
    let mut all = Admission::new(version, body, limits);
    let refused = all.walk()?;
    let record = match () {
        () if all.taken == 0 => None,
        () if refused.spans.is_empty() => Some(body.clone()),
        () => Some(without(body, &refused.spans)),
    };
    let Admission { samples, histograms, exemplars, .. } = all;
    Ok(Admitted { samples, histograms, exemplars, record, refused: refused.text() })
}

/// A request with gaps.
fn without(body: &[u8], gaps: &[Span]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() - gaps.iter().map(|gap| gap.len()).sum::<usize>());
    let mut at = 0;
    for gap in gaps {
        out.extend_from_slice(&body[at..gap.start]);
        at = gap.end;
    }
    out.extend_from_slice(&body[at..]);
    out.freeze()
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Refusal {
        Refusal::Malformed(format!("the request cannot be read: {error}"))
    }
}

/// What a symbol table holds, and how many symbols are looked at.
fn symbols<'a>(body: &'a [u8], limit: usize) -> Result<Symbols<'a>, Refusal> {
    let mut symbols = Symbols::new(body);
    let mut fields = Fields::all(body);
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            if symbols.len() == limit {
                return Err(Refusal::TooLarge(format!("the request has more than {limit} symbols")));
            }
            symbols.push(field.at, field.bytes()?);
        }
    }
    symbols.seal();
    Ok(symbols)
}

struct Admission<'a> {
    version: Version,
    body: &'a [u8],
    limits: &'a Limits,
    symbols: Symbols<'a>,
    samples: usize,
    histograms: usize,
    exemplars: usize,
    /// Exemplars of taken series that are not.
    lost: usize,
    /// Series and entries of metadata that are seen, and that are taken.
    seen: usize,
    taken: usize,
    points: usize,
    /// Bytes of all events.
    expanded: usize,
}

/// What is refused.
#[derive(Default)]
struct Refused {
    spans: Vec<Span>,
    count: usize,
    seen: usize,
    told: String,
    /// Exemplars of series that are taken.
    exemplars: usize,
}

impl Refused {
    fn push(&mut self, whole: Span, at: usize, name: &str, reason: &Reason) {
        // Neighbours are one gap.
        match self.spans.last_mut() {
            Some(last) if last.end == whole.start => last.end = whole.end,
            _ => self.spans.push(whole),
        }
        self.count += 1;
        if self.count <= TOLD {
            let _ = write!(self.told, "; number {at}{name}: {reason}");
        }
    }

    fn text(&self) -> Option<String> {
        let Refused { count, seen, told, exemplars, .. } = self;
        let more = if *count > TOLD { format!("; and {} more", count - TOLD) } else { String::new() };
        let series = (*count > 0).then(|| format!("{count} of {seen} series refused{told}{more}"));
        let exemplars = (*exemplars > 0).then(|| {
            format!(
                "{exemplars} exemplars refused: each needs labels with distinct names in UTF-8, of limited length, and a time"
            )
        });
        match (series, exemplars) {
            (Some(series), Some(exemplars)) => Some(format!("{series}; {exemplars}")),
            (series, exemplars) => series.or(exemplars),
        }
    }
}

impl<'a> Admission<'a> {
    fn new(version: Version, body: &'a [u8], limits: &'a Limits) -> Admission<'a> {
        Admission {
            version,
            body,
            limits,
            symbols: Symbols::default(),
            samples: 0,
            histograms: 0,
            exemplars: 0,
            lost: 0,
            seen: 0,
            taken: 0,
            points: 0,
            expanded: 0,
        }
    }

    fn walk(&mut self) -> Result<Refused, Refusal> {
        if self.version == Version::V2 {
            self.symbols = symbols(self.body, self.limits.symbols)?;
        }
        let mut refused = Refused::default();
        let mut series = Series::default();
        let mut fields = Fields::all(self.body);
        while let Some(field) = fields.next()? {
            let Some(is_series) = self.is_series(field)? else { continue };
            let message = field.bytes()?;
            self.seen += 1;
            if self.seen > self.limits.series {
                return Err(Refusal::TooLarge(format!("the request has more than {} series", self.limits.series)));
            }
            let verdict = match is_series {
                true => self.series(message, &mut series)?,
                false => self.metadata(message)?,
            };
            match verdict {
                Ok(()) => self.taken += 1,
                Err(reason) => {
                    let name = if is_series { shown(&series) } else { String::new() };
                    refused.push(Span { start: field.at, end: message.end }, self.seen, &name, &reason);
                }
            }
        }
        refused.seen = self.seen;
        if self.version == Version::V2 {
            refused.exemplars = self.lost;
        }
        Ok(refused)
    }

    /// Whether a field of the request is a series, or an entry of metadata; none: neither.
    fn is_series(&self, field: Field) -> Result<Option<bool>, Refusal> {
        match (self.version, field.number) {
            (Version::V1, 1) | (Version::V2, 5) => Ok(Some(true)),
            (Version::V1, 3) => Ok(Some(false)),
            (Version::V1, 4 | 5) | (Version::V2, 1 | 3) => {
                let other = if self.version == Version::V1 { Version::V2 } else { Version::V1 };
                let (is, said) = (other.message(), self.version.message());
                Err(Refusal::Malformed(format!("the message is a {is}; the content type says {said}")))
            }
            _ => Ok(None),
        }
    }

    fn count(&mut self, points: usize, events: usize, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.points.min(MAX_EVENTS);
        self.points += points;
        if self.points > limit {
            return Err(Refusal::TooLarge(format!("the request has more than {limit} points")));
        }
        self.expanded = self.expanded.saturating_add(events.saturating_mul(bytes));
        if self.expanded > MAX_EXPANDED {
            return Err(Refusal::TooLarge(format!("the labels of all points take more than {MAX_EXPANDED} bytes")));
        }
        Ok(())
    }

    fn series(&mut self, message: Span, series: &mut Series<'a>) -> Result<Result<(), Reason>, Refusal> {
        series.read(self.version, self.body, message, &self.symbols, self.limits, self.limits.points)?;
        self.count(series.points().max(1), series.events(), series.label_bytes())?;
        let mut verdict = series.check(self.limits);
        // Also what is in a series that is refused has to be whole.
        for span in &series.histograms {
            let read = histogram::read(self.body, *span, self.version == Version::V2)?;
            let checked = read.map_err(Reason::Histogram).and_then(|read| {
                read.histogram.check().map_err(Reason::Histogram)?;
                if is_time(read.timestamp) && is_time(read.start) { Ok(()) } else { Err(Reason::Time) }
            });
            verdict = verdict.and(checked);
        }
        let mut exemplars = 0;
        for span in &series.exemplars {
            let read = exemplar(self.version, self.body, *span, &self.symbols, self.limits)?;
            exemplars += usize::from(read.is_some());
        }
        if verdict.is_ok() && series.samples.is_empty() && series.histograms.is_empty() && exemplars == 0 {
            verdict = Err(Reason::Empty);
        }
        if verdict.is_ok() {
            self.samples += series.samples.len();
            self.histograms += series.histograms.len();
            self.exemplars += exemplars;
            self.lost += series.exemplars.len() - exemplars;
        }
        Ok(verdict)
    }

    fn metadata(&mut self, message: Span) -> Result<Result<(), Reason>, Refusal> {
        let metadata = FamilyMetadata::read(self.body, message)?;
        self.count(1, 0, 0)?;
        Ok(metadata.check(self.limits))
    }
}

/// A series as one reads it, as far as a line has room.
fn shown(series: &Series<'_>) -> String {
    let mut text = format!(", {}{{", short(series.name().unwrap_or_default()));
    let labels = series.labels.iter().filter(|(name, _)| *name != NAME.as_bytes());
    for (at, (name, value)) in labels.enumerate() {
        if text.len() > SHOWN {
            text.push_str("...");
            break;
        }
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{}=\"{}\"", short(name), short(value));
    }
    text.push('}');
    text
}

/// The beginning of a text from outside, fit for a line.
pub(crate) fn short(text: &[u8]) -> String {
    let more = if text.len() > SHOWN { "..." } else { "" };
    format!("{}{more}", String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).escape_debug())
}
