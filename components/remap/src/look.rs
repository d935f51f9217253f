//! What transforms that remember keys have to know of an event: its key and its time.

use weir::component::{Problems, Row};
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::script::{Expression, Problem};
use weir::{Error, Result};

/// Finds out the key and the time of an event.
pub(crate) struct Look {
    key: Option<Expression>,
    time: Option<Expression>,
}

/// The key of an event: its value as JSON, so that `1` and `"1"` are two; none when it is null.
pub(crate) fn key_of(
    key: &mut Expression,
    event: &Event,
    origin: &OriginId,
) -> std::result::Result<Option<Vec<u8>>, Verdict> {
    let value = key.value(event, origin)?;
    if value.is_null() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    key.write(&value, &mut bytes)?;
    Ok(Some(bytes))
}

/// The key of all events where none is given.
const ALL: &[u8] = b"*";

impl Look {
    /// Without `key` all events have the same; without `time` it is the one that the source knows.
    pub fn build(key: Option<&str>, time: Option<&str>) -> Result<Look> {
        let compile = |text: Option<&str>, option: &'static str| {
            text.map(|text| Expression::compile(text).map(|(found, _)| found).map_err(|_| Error::unchecked(option)))
                .transpose()
        };
        Ok(Look { key: compile(key, "key")?, time: compile(time, "time")? })
    }

    /// Reports what is wrong with an option `time`.
    pub fn check_time(time: Option<&str>, problems: &mut Problems) {
        if let Some(time) = time {
            Problem::report(Expression::compile(time), "time", "invalid_time", problems);
        }
    }

    /// The key and the time; of an event whose key is null there is no key, nor of a tombstone whose key cannot be found out.
    pub fn row(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict> {
        if event.is_tombstone() {
            return Ok(self.row_of_tombstone(event, origin));
        }
        let key = match &mut self.key {
            None => Some(ALL.to_vec()),
            Some(expression) => key_of(expression, event, origin)?,
        };
        let time = match &mut self.time {
            None => Ok(event.time),
            Some(expression) => expression.value(event, origin).map_err(Verdict::from).and_then(|value| {
                Timestamp::of(&value).ok_or_else(|| Verdict::Reject {
                    code: "invalid_time",
                    message: format!("the time is {value}, which is neither RFC 3339 nor Unix time"),
                })
            }),
        };
        match key {
            Some(key) => Ok(Row { key, time: time?, ..Row::default() }),
            // It passes in any case; where it tells no time, it tells none.
            None => Ok(Row { time: time.unwrap_or(Timestamp::MIN), ..Row::default() }),
        }
    }

    /// A key such as `%kafka.key` keeps a tombstone behind the records that it deletes, also across an exchange.
    fn row_of_tombstone(&mut self, event: &Event, origin: &OriginId) -> Row {
        let key = match &mut self.key {
            None => ALL.to_vec(),
            Some(expression) => key_of(expression, event, origin).ok().flatten().unwrap_or_default(),
        };
        // Where times are read out of events it has none, and must not move event time.
        let time = if self.time.is_some() { Timestamp::MIN } else { event.time };
        Row { key, time, ..Row::default() }
    }
}
