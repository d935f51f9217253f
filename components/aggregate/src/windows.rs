//! The open windows of a lane or state partition.

use serde::{Deserialize, Serialize};
use vrl::value::Value;
use weir::component::{Output, Row, Stateful, Times};
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::script::{Expression, hash};
use weir::state::{KeyedState, StateKey, StatePart, StateValue};

use crate::config::Compute;
use crate::number::Number;
use crate::partial::Partial;
use crate::result::Shape;

/// Between the values of a group's key, each of which is a JSON text: none of them holds it.
pub(crate) const SEPARATOR: u8 = 0;

/// Numbers of the ports.
const LATE: usize = 0;
const EVICTED: usize = 1;

/// A window and group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WindowKey {
    /// Where the window begins, in milliseconds since the epoch.
    pub start: i64,
    /// The group's values as JSON texts.
    pub group: Vec<u8>,
}

impl StateKey for WindowKey {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.start.to_be_bytes()[..], &self.group].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (start, group) = bytes.split_first_chunk()?;
        Some(WindowKey { start: i64::from_be_bytes(*start), group: group.to_vec() })
    }

    fn heap_size(&self) -> usize {
        self.group.capacity()
    }
}

/// What a window and group has come to.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Partials {
    all: Vec<Partial>,
    /// Something came since it was put out early.
    is_new: bool,
}

impl StateValue for Partials {
    fn heap_size(&self) -> usize {
        self.all.iter().map(|partial| size_of::<Partial>() + partial.heap_size()).sum()
    }
}

/// How windows lie, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub length: i64,
    pub every: i64,
    pub lateness: i64,
}

impl Grid {
    /// Where the windows begin that a time belongs to, the earliest first.
    fn starts(self, time: i64) -> impl Iterator<Item = i64> {
        let last = time.div_euclid(self.every).saturating_mul(self.every);
        // The window `back` before the last holds the time while its end is behind it.
        let back = last.saturating_add(self.length).saturating_sub(time).saturating_sub(1).div_euclid(self.every);
        (0..=back).rev().map(move |back| last.saturating_sub(back.saturating_mul(self.every)))
    }

    /// Whether a window is over.
    fn is_over(self, start: i64, watermark: Timestamp) -> bool {
        start.saturating_add(self.length).saturating_add(self.lateness) <= watermark.0
    }

    /// Windows that end by this time are over.
    fn over_by(self, watermark: Timestamp) -> Timestamp {
        match watermark {
            Timestamp::MIN | Timestamp::MAX => watermark,
            Timestamp(at) => Timestamp(at.saturating_sub(self.lateness)),
        }
    }
}

/// What is taken out of an event: one program, so that it is scanned once.
pub(crate) struct Extract {
    pub program: Expression,
    /// The texts behind each value of its list: time, groups, arguments.
    pub texts: Vec<String>,
    pub has_time: bool,
    pub groups: usize,
    /// Of each argument, whether its values are counted as they are instead of being numbers.
    pub any_value: Vec<bool>,
}

/// The transform at work.
pub(crate) struct Windows {
    pub extract: Extract,
    pub grid: Grid,
    pub shape: Shape,
    /// For each computed field the number of its argument.
    pub arguments: Vec<Option<usize>>,
    pub open: KeyedState<WindowKey, Partials>,
    /// How often open windows are put out, in milliseconds of event time; and when they were last.
    pub early: Option<i64>,
    pub early_at: KeyedState<(), i64>,
    /// Results that are put out at once.
    pub at_once: usize,
}

impl Windows {
    /// What a value is and should not be.
    fn told(&self, at: usize, value: &Value, what: &str) -> String {
        let mut shown = value.to_string();
        shown.truncate(shown.floor_char_boundary(100));
        format!("`{}` is {shown}, which is {what}", self.extract.texts[at])
    }

    /// Adds an event to each of its open windows; false if there is none. An error names a result that would overflow a float;
    /// that window stays unchanged.
    fn take(&mut self, row: Row, watermark: Timestamp, output: &mut Output) -> Result<bool, String> {
        let (mut is_taken, mut refused) = (false, None);
        let mut key = WindowKey { start: 0, group: row.key };
        // The watermark may never reach the window of an event from the future: limit how long it stays open.
        let latest_end = match row.is_ahead {
            true => watermark.0.saturating_add(self.grid.length),
            false => i64::MAX,
        };
        for start in self.grid.starts(row.time.0) {
            if self.grid.is_over(start, watermark) {
                continue;
            }
            is_taken = true;
            key.start = start;
            if let Some(partials) = self.open.get_mut(&key) {
                match overflow(partials, &self.shape.compute, &self.arguments, &row.values) {
                    Some(name) => {
                        refused = Some(format!("`{name}` of the window at {}", Timestamp(start).to_rfc3339()))
                    }
                    None => add(partials, &self.arguments, &row.values),
                }
                continue;
            }
            let all = self.shape.compute.iter().map(|(_, compute)| Partial::new(compute)).collect();
            let mut partials = Partials { all, is_new: true };
            add(&mut partials, &self.arguments, &row.values);
            let end = Timestamp(start.saturating_add(self.grid.length).min(latest_end));
            if let Some((key, partials)) = self.open.insert(key.clone(), partials, end) {
                output.send(self.shape.event(&key, &partials.all, true), [EVICTED]);
            }
        }
        refused.map_or(Ok(is_taken), Err)
    }

    /// Puts out what open windows hold, if that is due.
    fn put_out_early(&mut self, watermark: Timestamp, output: &mut Output) {
        let Some(early) = self.early.filter(|_| watermark != Timestamp::MAX) else { return };
        let due = watermark.0.div_euclid(early);
        if self.early_at.get(&()).is_some_and(|last| *last == due) {
            return;
        }
        self.early_at.insert((), due, Timestamp::MAX);
        for key in self.open.keys_in_order() {
            if let Some(partials) = self.open.get_mut(&key)
                && std::mem::take(&mut partials.is_new)
            {
                output.made.push(self.shape.event(&key, &partials.all, false));
            }
        }
    }
}

fn add(partials: &mut Partials, arguments: &[Option<usize>], values: &[Value]) {
    partials.is_new = true;
    for (partial, argument) in partials.all.iter_mut().zip(arguments) {
        partial.add(argument.and_then(|argument| values.get(argument)));
    }
}

/// The name of the first field that cannot take its argument in.
fn overflow<'a>(
    partials: &Partials,
    compute: &'a [(String, Compute)],
    arguments: &[Option<usize>],
    values: &[Value],
) -> Option<&'a str> {
    let mut all = partials.all.iter().zip(compute).zip(arguments);
    all.find_map(|((partial, (name, compute)), argument)| {
        let argument = argument.and_then(|argument| values.get(argument));
        partial.overflows(compute, argument).then_some(name.as_str())
    })
}

impl Stateful for Windows {
    fn look(&mut self, event: &Event, origin: &OriginId) -> Result<Row, Verdict> {
        // A deletion is nothing to count.
        if event.is_tombstone() {
            return Err(Verdict::Filter);
        }
        let values = match self.extract.program.value(event, origin)? {
            Value::Array(values) => values,
            _ => Vec::new(),
        };
        let mut values = values.into_iter().enumerate();
        let time = match self.extract.has_time.then(|| values.next()).flatten() {
            Some((at, value)) => Timestamp::of(&value).ok_or_else(|| Verdict::Reject {
                code: "invalid_time",
                message: self.told(at, &value, "neither RFC 3339 nor Unix time"),
            })?,
            None => event.time,
        };
        if !Timestamp(time.0.saturating_add(self.grid.length)).is_rfc3339()
            || !Timestamp(time.0.saturating_sub(self.grid.length)).is_rfc3339()
        {
            let message = format!(
                "its window would begin or end at {}, and RFC 3339 has the years 0000 to 9999; correct the time before",
                time.to_rfc3339()
            );
            return Err(Verdict::Reject { code: "invalid_time", message });
        }
        let mut key = Vec::new();
        for (at, (_, value)) in values.by_ref().take(self.extract.groups).enumerate() {
            if at > 0 {
                key.push(SEPARATOR);
            }
            self.extract.program.write(&value, &mut key)?;
        }
        let mut arguments = Vec::with_capacity(self.extract.any_value.len());
        for ((at, value), any_value) in values.zip(&self.extract.any_value) {
            arguments.push(match value {
                Value::Null => Value::Null,
                value if *any_value => {
                    let mut text = Vec::new();
                    self.extract.program.write(&value, &mut text)?;
                    Value::Integer(hash([&text[..]]).cast_signed())
                }
                value if let Some(digits) = self.extract.program.spelling(&value) => Value::from(digits),
                value @ (Value::Integer(_) | Value::Float(_)) if Number::of(&value).is_some() => value,
                value => {
                    let message = self.told(at, &value, "no number");
                    return Err(Verdict::Reject { code: "not_a_number", message });
                }
            });
        }
        Ok(Row { key, time, values: arguments, ..Row::default() })
    }

    fn process(&mut self, event: &mut Event, row: Row, times: Times, output: &mut Output) -> Verdict {
        match self.take(row, times.watermark, output) {
            Ok(true) => Verdict::Absorb,
            Ok(false) => {
                output.send_late(event.clone(), LATE);
                Verdict::Filter
            }
            Err(what) => {
                let message = format!("{what} would be larger than a 64-bit float holds; the event is left out of it");
                Verdict::Reject { code: "overflow", message }
            }
        }
    }

    fn advance(&mut self, Times { watermark, .. }: Times, output: &mut Output) -> bool {
        let over = self.grid.over_by(watermark);
        for _ in 0..self.at_once {
            match self.open.pop_due(over) {
                Some((key, partials)) => output.made.push(self.shape.event(&key, &partials.all, true)),
                None => {
                    self.put_out_early(watermark, output);
                    return true;
                }
            }
        }
        false
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("windows", &mut self.open), ("early", &mut self.early_at)]
    }
}

/// What kind of argument a field takes: its text, and whether it may be of any type.
pub(crate) fn argument(compute: &Compute) -> Option<(&str, bool)> {
    match compute {
        Compute::Count => None,
        Compute::Distinct(text) => Some((text, true)),
        Compute::Sum(text)
        | Compute::Min(text)
        | Compute::Max(text)
        | Compute::Mean(text)
        | Compute::Stddev(text)
        | Compute::Quantile(text, _) => Some((text, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_every_window_that_holds_it() {
        let starts = |length, every, time| Grid { length, every, lateness: 0 }.starts(time).collect::<Vec<_>>();
        assert_eq!(starts(60, 60, 59), [0]);
        assert_eq!(starts(60, 60, 60), [60]);
        assert_eq!(starts(60, 60, -1), [-60]);
        assert_eq!(starts(300, 60, 130), [-120, -60, 0, 60, 120]);
        assert_eq!(starts(100, 60, 110), [60], "0..100 ends before");
        for (length, every) in [(300, 60), (100, 60), (90, 30), (7, 3), (60, 60)] {
            for time in -200..400i64 {
                let all: Vec<i64> =
                    (-1000..400).filter(|s| s % every == 0 && *s <= time && time < s + length).collect();
                assert_eq!(starts(length, every, time), all, "{time} in {length} every {every}");
            }
        }
    }
}
