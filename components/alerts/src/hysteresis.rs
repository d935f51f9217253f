//! The `hysteresis` transform.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{BuildContext, KeepsState, Output, Problems, Row, Stateful, Times, Transform, TransformConfig};
use weir::config::Span;
use weir::event::{Event, OriginId, Timestamp, Verdict};
use weir::script::{Condition, Expression, Flow, Problem, Script};
use weir::state::{KeySpans, StateLimits, StatePart};
use weir::{Error, Result};

/// Turns a signal on by one condition and off by another; events that change it pass with a field `signal`. State
/// survives restarts.
///
/// The signal turns on with the first event of its key that matches `on`, and off with the first that matches `off`.
/// Between the two thresholds nothing changes, so a fluctuating value does not make the signal flap. With `emit:
/// changes`, all other events are filtered. Tombstones are always filtered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hysteresis {
    /// VRL condition that turns the signal on, such as `(.cpu >= 40) ?? false`.
    on: String,
    /// VRL condition that turns the signal off, such as `(.cpu < 30) ?? false`.
    off: String,
    /// VRL expression for the key; each key has its own signal. Default: one signal.
    key: Option<String>,
    /// Events that pass: `changes`, or `all` events with the current signal. Default: `changes`.
    #[serde(default)]
    emit: Emit,
    /// Time without events, in event time, after which a key is forgotten; its signal is then off. Default: `1d`.
    #[serde(default = "default_forget_after")]
    forget_after: Span,
    /// Maximum keys in the state of a partition; beyond it, the key that expires first is evicted. Default: 100000.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    max_keys: usize,
}

/// Events that pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Events that change a signal.
    #[default]
    Changes,
    /// All events.
    All,
}

fn default_forget_after() -> Span {
    Span(Duration::from_secs(86_400))
}

fn default_max_keys() -> usize {
    100_000
}

weir::register_transform!(
    "hysteresis",
    Hysteresis,
    r#"{type: hysteresis, inputs: [in], key: .host, on: "(.cpu >= 40) ?? false", off: "(.cpu < 30) ?? false"}"#
);

#[typetag::deserialize(name = "hysteresis")]
impl TransformConfig for Hysteresis {
    fn check(&self, problems: &mut Problems) {
        for (name, text) in [("on", &self.on), ("off", &self.off)] {
            Problem::report(Condition::compile(text), name, "invalid_condition", problems);
        }
        if let Some(key) = &self.key {
            Problem::report(Expression::compile(key), "key", "invalid_key", problems);
        }
    }

    fn keeps_state(&self) -> KeepsState {
        KeepsState::ByKey(self.key.iter().map(|key| key.trim().to_owned()).collect())
    }

    fn state_identity(&self) -> String {
        format!("key {}, on {}, off {}", self.key.as_deref().unwrap_or("none"), self.on, self.off)
    }

    fn explain(&self) -> String {
        let what =
            if self.emit == Emit::All { "marks all with the signal" } else { "passes what turns a signal on or off" };
        format!("{what}; remembers up to {} keys", self.max_keys)
    }

    fn build(&self, _: &BuildContext) -> Result<Transform> {
        let condition = |name, text: &str| Condition::compile(text).map_err(|_| Error::unchecked(name));
        let key = self.key.as_ref().map(|key| Expression::compile(key).map_err(|_| Error::unchecked("key")));
        let mark = |text| Script::compile(text).map(|(script, _)| script).map_err(|_| Error::unchecked("signal"));
        let forget_after = i64::try_from(self.forget_after.0.as_millis()).unwrap_or(i64::MAX / 4);
        Ok(Transform::stateful(Signals {
            on: condition("on", &self.on)?.0,
            off: condition("off", &self.off)?.0,
            key: key.transpose()?.map(|(key, _)| key),
            marks: [mark(r#".signal = "off""#)?, mark(r#".signal = "on""#)?],
            emit: self.emit,
            forget_after,
            is_on: KeySpans::new(StateLimits::in_memory(self.max_keys), forget_after),
        }))
    }
}

/// The signals that are on.
struct Signals {
    on: Condition,
    off: Condition,
    key: Option<Expression>,
    /// What an event gets that turns a signal off, and on.
    marks: [Script; 2],
    emit: Emit,
    forget_after: i64,
    is_on: KeySpans<()>,
}

impl Signals {
    /// The event with its signal.
    fn mark(&mut self, is_on: bool, event: &mut Event) -> Verdict {
        // It knows nothing of where events come from.
        let nowhere = OriginId { node: String::new(), log: String::new(), partition: 0, kind: Default::default() };
        match self.marks[usize::from(is_on)].run(event, &nowhere) {
            Ok(Flow::Keep) => Verdict::Pass,
            Ok(Flow::Drop) => Verdict::Filter,
            Err(failure) => failure.into(),
        }
    }

    fn until(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.forget_after))
    }
}

impl Stateful for Signals {
    fn look(&mut self, event: &Event, origin: &OriginId) -> std::result::Result<Row, Verdict> {
        // A deletion is no sample.
        if event.is_tombstone() {
            return Err(Verdict::Filter);
        }
        let mut key = Vec::new();
        if let Some(expression) = &mut self.key {
            let value = expression.value(event, origin)?;
            expression.write(&value, &mut key)?;
        }
        let (on, off) = (self.on.holds(event, origin)?, self.off.holds(event, origin)?);
        Ok(Row { key, time: event.time, values: vec![on.into(), off.into()], ..Row::default() })
    }

    fn process(&mut self, event: &mut Event, row: Row, _: Times, _: &mut Output) -> Verdict {
        let (time, on_before) = self.is_on.meet(&row);
        let Row { key, values, .. } = row;
        let [on, off] = [0, 1].map(|at| values.get(at).and_then(|value| value.as_boolean()).unwrap_or_default());
        let was_on = on_before.is_some();
        let is_on = on || (was_on && !off);
        let is_told = is_on != was_on || self.emit == Emit::All;
        let verdict = if is_told { self.mark(is_on, event) } else { Verdict::Filter };
        let is_rejected = matches!(verdict, Verdict::Reject { .. });
        if (is_on || was_on) && !is_rejected {
            match is_on {
                true => self.is_on.insert(key, (), time, self.until(time)),
                false => self.is_on.remove(&key),
            }
        }
        verdict
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("on", self.is_on.part())]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weir::event::{Body, Codec, Position};

    use super::*;

    #[test]
    fn a_signal_stays_on_though_its_key_lags_behind_another() {
        let options = r#"{"type": "hysteresis", "on": "(.v > 2) ?? false", "off": "(.v < 1) ?? false", "key": ".k", "forget_after": "10s"}"#;
        let config: Box<dyn TransformConfig> = serde_json::from_str(options).unwrap();
        let (context, _rejected) = BuildContext::detached("signals");
        let Transform::Stateful(mut signals) = config.build(&context).unwrap() else { panic!("it remembers") };
        let origin = OriginId { node: "in".into(), log: "log".into(), partition: 0, kind: Default::default() };
        let mut passes = |key: &str, value: i32, time: i64| {
            let body = format!(r#"{{"k":"{key}","v":{value}}}"#);
            let mut event = Event::new(Body::Raw(body.into(), Codec::Json), Position(0), Timestamp(time));
            let row = signals.look(&event, &origin).unwrap();
            let verdict = signals.process(&mut event, row, Times::BEGINNING, &mut Output::default());
            matches!(verdict, Verdict::Pass)
        };
        let hour = 3_600_000;
        for at in 0..5 {
            let (now, behind) = (2 * hour + at * 5000, hour + at * 5000);
            assert_eq!(passes("now", 3, now), at == 0, "it turns on once");
            assert_eq!(passes("behind", 3, behind), at == 0, "and so does the other");
        }
        assert!(passes("behind", 0, hour + 25_000), "it turns off");
        assert!(!passes("now", 1, 2 * hour + 21_000), "between the two it stays as it is");
    }
}
