//! Which alerts fire.

use serde::{Deserialize, Serialize};
use vrl::value::{ObjectMap, Value};
use weir::component::{Output, Row, Stateful, Times};
use weir::event::{Body, Event, Meta, Ordinal, OriginId, Position, Timestamp, Verdict};
use weir::script::hash;
use weir::state::{KeyedState, StatePart, StateValue};

use crate::firing::Emit;
use crate::line::Line;
use crate::sample::{Reader, Sample};

/// Alerts that are over and put out at once.
const AT_ONCE: usize = 1024;
/// Milliseconds by which the last sample of an alert is ahead of the clock and of the next one only where an earlier
/// version, without `max_ahead`, took it.
const FAR_AHEAD: i64 = 3_600_000;

/// The state of an alert; its labels are the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Alert {
    is_firing: bool,
    /// Since when its condition holds, while it is pending.
    since: Option<i64>,
    starts_at: i64,
    /// The time of the last sample that counted.
    last: i64,
    value: f64,
    /// When event time has come to this, it was silent for too long: an alert that fires is over, any other forgotten.
    until: i64,
    /// The time of the latest sample that waited to count.
    #[serde(default = "never")]
    waited: i64,
}

fn never() -> i64 {
    i64::MIN
}

impl StateValue for Alert {}

impl Alert {
    /// One that has its place, and of which nothing counts yet.
    fn unheard_of() -> Alert {
        Alert { is_firing: false, since: None, starts_at: 0, last: i64::MIN, value: 0.0, until: 0, waited: i64::MIN }
    }
}

/// The transform at work.
pub(crate) struct Watch {
    pub reader: Reader,
    pub emit: Emit,
    pub resolve_after: i64,
    pub cluster_labels: Vec<String>,
    pub max_alerts: usize,
    /// By labels. An entry is due by event time.
    pub alerts: KeyedState<Vec<u8>, Alert>,
    /// Those that fire, each due by processing time.
    pub silent: KeyedState<Vec<u8>, ()>,
    /// Samples that do not count yet.
    pub line: Line,
    /// Processing time as this process began, which has no place in the state: what came while it was not there it has not
    /// read yet, so nobody is silent because of that.
    pub began: Option<Timestamp>,
    /// Up to this time nothing waits any more, wherever event time is: all is silent, or an alert was for too long.
    pub released: Timestamp,
}

/// What is told of an alert.
struct Told<'a> {
    labels: &'a [u8],
    alert: &'a Alert,
    ends_at: Option<i64>,
}

impl Watch {
    /// Puts out an event of this time.
    fn tell(&self, told: &Told<'_>, time: Timestamp, output: &mut Output) {
        let Told { labels: key, alert, ends_at } = told;
        let state = if ends_at.is_some() { "resolved" } else { "firing" };
        let labels: ObjectMap = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(key)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let cluster = self.cluster_labels.iter().find_map(|label| {
            labels.get(&**label).filter(|value| value.as_bytes().is_some_and(|value| !value.is_empty())).cloned()
        });
        let at = |millis: i64| Value::from(Timestamp(millis).to_rfc3339());
        let fields = [
            ("state", state.into()),
            ("labels", Value::Object(labels)),
            ("value", number(alert.value)),
            ("starts_at", at(alert.starts_at)),
            ("ends_at", ends_at.map_or(Value::Null, at)),
            ("cluster", cluster.unwrap_or(Value::Null)),
        ];
        let body = Value::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect());
        let mut event = Event::new(Body::Parsed(body), Position(time.0.max(0).cast_unsigned()), time);
        let (start, last) = (alert.starts_at.to_be_bytes(), alert.last.to_be_bytes());
        let low = hash([state.as_bytes(), &start, &last, key]);
        event.ordinal = Ordinal(u128::from(hash([key])) << 64 | u128::from(low));
        let name = format!("{:016x}", hash([key]));
        event.meta = Some(Box::new(Meta { key: Some(name.into()), ..Meta::default() }));
        output.made.push(event);
    }

    /// An alert fires by this sample, for the first time or again.
    fn tell_firing(&self, key: &[u8], alert: &Alert, is_change: bool, time: Timestamp, output: &mut Output) {
        if is_change || self.emit != Emit::Changes {
            self.tell(&Told { labels: key, alert, ends_at: None }, time, output);
        }
    }

    /// An alert is over.
    fn tell_resolved(&self, key: &[u8], alert: &Alert, ends_at: i64, time: Timestamp, output: &mut Output) {
        if self.emit != Emit::Active {
            let told = Told { labels: key, alert, ends_at: Some(ends_at.max(alert.starts_at)) };
            self.tell(&told, time, output);
        }
    }

    /// Remembers an alert until it was silent for too long from now on.
    fn remember(&mut self, key: Vec<u8>, mut alert: Alert, time: Timestamp, times: Times) {
        let now = if times.watermark == Timestamp::MAX { time } else { time.max(times.watermark) };
        // The end of time is none to wait for.
        alert.until = now.0.saturating_add(self.resolve_after).min(i64::MAX - 1);
        let is_watched = alert.is_firing && times.now != Timestamp::MIN && times.now != Timestamp::MAX;
        // Until the beginning of time: it is not there any more.
        let by_clock = if is_watched { self.silent_by_clock(times) } else { Timestamp::MIN };
        self.silent.insert(key.clone(), (), by_clock);
        let until = Timestamp(alert.until);
        self.alerts.insert(key, alert, until);
    }

    /// When an alert that was heard of now is silent for too long by the clock.
    fn silent_by_clock(&self, times: Times) -> Timestamp {
        Timestamp(times.now.0.saturating_add(self.resolve_after).min(i64::MAX - 1))
    }

    /// The next that was silent for too long by event time; false: there is none.
    fn pop_by_event_time(&mut self, times: Times, output: &mut Output) -> bool {
        if times.watermark == Timestamp::MAX {
            // That nothing more is to come is no silence.
            return false;
        }
        let Some((key, mut alert)) = self.alerts.pop_due(times.watermark) else { return false };
        if alert.is_firing {
            let due = Timestamp(alert.until);
            let ends_at = alert.last.saturating_add(self.resolve_after);
            self.tell_resolved(&key, &alert, ends_at, due, output);
            (alert.is_firing, alert.since) = (false, None);
            self.remember(key, alert, due, Times { watermark: due, ..times });
        }
        true
    }

    /// The next that was silent for too long by the clock; false: there is none.
    fn pop_by_clock(&mut self, times: Times, output: &mut Output) -> bool {
        let has_waited = self.began.is_some_and(|began| times.now.0.saturating_sub(began.0) >= self.resolve_after);
        if !has_waited || times.now == Timestamp::MAX {
            return false;
        }
        let Some((key, ())) = self.silent.pop_due(times.now) else { return false };
        let alert = self.alerts.get(&key).cloned();
        let waits = alert.as_ref().filter(|alert| alert.waited > alert.last.max(self.released.0));
        if let Some(waited) = waits.map(|alert| Timestamp(alert.waited)) {
            // The waiting samples are released first, although event time stands still: the last one is the end of the
            // alert or the start of the silence.
            self.released = waited;
            self.silent.insert(key, (), times.now);
            return true;
        }
        if let Some(mut alert) = alert.filter(|alert| alert.is_firing) {
            let ends_at = alert.last.saturating_add(self.resolve_after);
            let watermark = if times.watermark == Timestamp::MAX { Timestamp::MIN } else { times.watermark };
            let time = Timestamp(ends_at).max(watermark);
            self.tell_resolved(&key, &alert, ends_at, time, output);
            (alert.is_firing, alert.since) = (false, None);
            self.remember(key, alert, time, times);
        }
        true
    }

    /// How far time has come, as far as samples count.
    fn counted(&mut self, times: Times) -> Times {
        if self.began.is_none() && times.now != Timestamp::MIN {
            self.began = Some(times.now);
        }
        if times.is_silent && times.watermark != Timestamp::MAX {
            self.released = self.released.max(times.watermark);
        }
        let watermark = self.line.counted(times.watermark).max(self.released);
        Times { watermark, now: self.line.counted(times.now), ..times }
    }

    /// When a sample counts whose own time is ahead of the wall clock: now, and behind what is known of its alert.
    fn time_of_ahead(&mut self, key: &Vec<u8>, times: Times) -> Timestamp {
        let last = self.alerts.get(key).map_or(i64::MIN, |alert| alert.last.max(alert.waited));
        let is_known = |time: &Timestamp| *time != Timestamp::MIN && *time != Timestamp::MAX;
        let now = [times.watermark, times.now].into_iter().find(is_known).unwrap_or_default();
        now.max(Timestamp(last.saturating_add(1)))
    }

    /// Returns the stored alert. Ignores the time of a sample that an earlier version let run ahead of the clock.
    fn known(&mut self, key: &Vec<u8>, time: Timestamp, times: Times) -> Option<Alert> {
        let mut alert = self.alerts.get(key).cloned()?;
        if alert.last > time.max(times.now).0.saturating_add(FAR_AHEAD) && times.now != Timestamp::MIN {
            alert.last = i64::MIN;
        }
        Some(alert)
    }

    /// Whether there is no room for an alert, and what that means for a sample that says that it fires.
    fn is_full(&mut self, key: &Vec<u8>) -> Option<Verdict> {
        if self.alerts.len() < self.max_alerts || self.alerts.get(key).is_some() {
            return None;
        }
        let message = format!("{} alerts are remembered already, as many as max_alerts allows", self.max_alerts);
        Some(Verdict::Reject { code: "too_many_alerts", message })
    }

    /// A sample that waits. That it fires takes up its alert's place already, for it cannot be rejected later.
    fn waits(&mut self, row: &Row, sample: Sample, times: Times, output: &mut Output) -> Verdict {
        if let Sample::Firing(_) = sample {
            if let Some(verdict) = self.is_full(&row.key) {
                return verdict;
            }
            if self.alerts.get(&row.key).is_none() {
                self.remember(row.key.clone(), Alert::unheard_of(), row.time, times);
            }
        }
        if let Some(alert) = self.alerts.get_mut(&row.key) {
            alert.waited = alert.waited.max(row.time.0);
            if times.now != Timestamp::MIN && times.now != Timestamp::MAX {
                // It was heard of, whenever that counts.
                self.silent.insert(row.key.clone(), (), self.silent_by_clock(times));
            }
        }
        if let Some((first, sample, came_at)) = self.line.push(row, sample, times.now) {
            self.counts(first, sample, Times { now: came_at, ..times }, output);
        }
        Verdict::Absorb
    }

    /// A sample counts.
    fn counts(&mut self, row: Row, sample: Sample, times: Times, output: &mut Output) -> Verdict {
        match sample {
            Sample::Firing(value) => self.fires(row, value, times, output),
            Sample::Ended => self.ends(row, true, times, output),
            Sample::Pending => self.ends(row, false, times, output),
            Sample::Since(since) => self.is_pending_since(row, Timestamp(since), times),
        }
    }

    /// The next thing that event time brings about: that an alert was silent for too long, or that a sample counts which waited.
    /// False: there is none.
    fn step(&mut self, times: Times, output: &mut Output) -> bool {
        let times = Times { watermark: times.watermark.max(self.released), ..times };
        let Some(time) = self.line.first().filter(|time| *time <= times.watermark) else {
            return self.pop_by_event_time(times, output);
        };
        // As it would be, had all come in the order of their times.
        let then = Times { watermark: time, ..times };
        if self.pop_by_event_time(then, output) {
            return true;
        }
        if let Some((row, sample, came_at)) = self.line.pop(time) {
            // Its silence begins when it came.
            self.counts(row, sample, Times { now: came_at, ..then }, output);
        }
        true
    }

    /// It fires.
    fn fires(&mut self, row: Row, value: f64, times: Times, output: &mut Output) -> Verdict {
        let Row { key, time, .. } = row;
        let before = self.known(&key, time, times);
        if before.as_ref().is_some_and(|before| time.0 <= before.last) {
            return Verdict::Filter;
        }
        if let Some(verdict) = self.is_full(&key) {
            return verdict;
        }
        let (mut is_change, mut starts_at) = (true, time.0);
        match &before {
            Some(before) if before.is_firing => {
                let ends_at = before.last.saturating_add(self.resolve_after);
                if ends_at <= time.0 {
                    self.tell_resolved(&key, before, ends_at, time, output);
                } else {
                    (is_change, starts_at) = (false, before.starts_at);
                }
            }
            Some(Alert { since: Some(since), .. }) => starts_at = (*since).min(time.0),
            _ => {}
        }
        let waited = before.as_ref().map_or(i64::MIN, |before| before.waited);
        let alert = Alert { is_firing: true, since: None, starts_at, last: time.0, value, until: 0, waited };
        self.tell_firing(&key, &alert, is_change, time, output);
        self.remember(key, alert, time, times);
        Verdict::Absorb
    }

    /// It does not fire any more; `is_series_end`: the sample is of the series that said it did.
    fn ends(&mut self, row: Row, is_series_end: bool, times: Times, output: &mut Output) -> Verdict {
        let Row { key, time, .. } = row;
        let Some(mut alert) = self.known(&key, time, times).filter(|alert| alert.is_firing) else {
            return Verdict::Filter;
        };
        if time.0 < alert.last || (time.0 == alert.last && !is_series_end) {
            return Verdict::Filter;
        }
        // What was silent for too long was over before.
        let ends_at = time.0.min(alert.last.saturating_add(self.resolve_after));
        self.tell_resolved(&key, &alert, ends_at, time, output);
        (alert.is_firing, alert.since, alert.last) = (false, None, time.0);
        self.remember(key, alert, time, times);
        Verdict::Absorb
    }

    /// Its condition holds since then.
    fn is_pending_since(&mut self, row: Row, since: Timestamp, times: Times) -> Verdict {
        let Row { key, time, .. } = row;
        let mut alert = match self.known(&key, time, times) {
            Some(alert) if alert.is_firing || time.0 < alert.last => return Verdict::Filter,
            // What held before it was over says nothing of the next time.
            Some(alert) if since.0 < alert.last && alert.since.is_none() && alert.last != i64::MIN => {
                return Verdict::Filter;
            }
            Some(alert) => alert,
            None if self.alerts.len() >= self.max_alerts => return Verdict::Filter,
            None => Alert::unheard_of(),
        };
        alert.since = Some(since.0);
        self.remember(key, alert, time, times);
        Verdict::Absorb
    }
}

/// A value as nodes see it: what JSON has no number for is a text.
fn number(value: f64) -> Value {
    match value {
        value if value.is_finite() => Value::from_f64_or_zero(value),
        value if value > 0.0 => "+Inf".into(),
        _ => "-Inf".into(),
    }
}

impl Stateful for Watch {
    fn look(&mut self, event: &Event, origin: &OriginId) -> Result<Row, Verdict> {
        self.reader.read(event, origin)
    }

    fn process(&mut self, _: &mut Event, mut row: Row, told: Times, output: &mut Output) -> Verdict {
        let times = self.counted(told);
        // Wherever batches end, what was silent for too long is over before more is heard.
        while self.step(times, output) {}
        let Some(sample) = Sample::of(&row) else { return Verdict::Filter };
        if row.is_ahead {
            row.time = self.time_of_ahead(&row.key, told);
        }
        match self.line.is_early(row.time, times.watermark) {
            true => self.waits(&row, sample, times, output),
            false => self.counts(row, sample, times, output),
        }
    }

    fn advance(&mut self, times: Times, output: &mut Output) -> bool {
        let times = self.counted(times);
        for _ in 0..AT_ONCE {
            if !self.step(times, output) && !self.pop_by_clock(times, output) {
                return true;
            }
        }
        false
    }

    fn state(&mut self) -> Vec<(&'static str, &mut dyn StatePart)> {
        vec![("alerts", &mut self.alerts), ("silent", &mut self.silent), ("waiting", self.line.state())]
    }
}

#[cfg(test)]
mod tests;
