//! The alerts that a peer is told again and again; pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir::event::Timestamp;

use crate::alert::{Alert, Texts};

/// How long an alert that is over is told again, as Prometheus does (`resolvedRetention`).
const RESOLVED_FOR: i64 = 15 * 60 * 1000;

/// An alert, and when it was told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    pub alert: Alert,
    /// When it came.
    taken_at: i64,
    /// When it was told last, by the clock's uptime; none: not since this process began.
    #[serde(skip)]
    sent: Option<Duration>,
}

/// What became of an alert that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is news, to be told.
    News,
    /// It is known.
    Known,
    /// There is no room.
    Full,
}

/// The alerts by their labels.
#[derive(Debug, Default)]
pub(crate) struct HeldSet {
    alerts: BTreeMap<Texts, Held>,
    most: usize,
}

impl HeldSet {
    /// With room for so many.
    pub fn new(most: usize) -> HeldSet {
        HeldSet { alerts: BTreeMap::new(), most }
    }

    /// From what [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: &[u8], most: usize) -> Result<HeldSet, serde_json::Error> {
        let all: Vec<Held> = serde_json::from_slice(bytes)?;
        Ok(HeldSet { alerts: all.into_iter().map(|held| (held.alert.labels.clone(), held)).collect(), most })
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.alerts.values().collect::<Vec<_>>())
    }

    /// Takes an alert in. One that is older than what is known, as when events are read again, changes nothing.
    pub fn take(&mut self, alert: Alert, now: Timestamp) -> Taken {
        let age = |alert: &Alert| (alert.starts_at, alert.ends_at.is_some());
        match self.alerts.get(&alert.labels) {
            Some(known) if age(&alert) < age(&known.alert) || alert == known.alert => return Taken::Known,
            Some(_) => {}
            None if self.alerts.len() >= self.most => {
                self.forget_resolved(now);
                let over = self.alerts.iter().find(|(_, held)| held.alert.ends_at.is_some());
                match over.map(|(labels, _)| labels.clone()) {
                    Some(labels) => drop(self.alerts.remove(&labels)),
                    None if self.alerts.len() >= self.most => return Taken::Full,
                    None => {}
                }
            }
            None => {}
        }
        self.alerts.insert(alert.labels.clone(), Held { alert, taken_at: now.0, sent: None });
        Taken::News
    }

    /// Those that were not told for so long.
    pub fn due(&self, every: Duration, uptime: Duration) -> Vec<Alert> {
        let is_due = |held: &&Held| held.sent.is_none_or(|sent| uptime.saturating_sub(sent) >= every);
        self.alerts.values().filter(is_due).map(|held| held.alert.clone()).collect()
    }

    /// How long until one of them is due; none: there is none.
    pub fn until_due(&self, every: Duration, uptime: Duration) -> Option<Duration> {
        let until = |held: &Held| held.sent.map_or(Duration::ZERO, |sent| (sent + every).saturating_sub(uptime));
        self.alerts.values().map(until).min()
    }

    /// These were told.
    pub fn sent(&mut self, alerts: &[Alert], uptime: Duration) {
        for alert in alerts {
            if let Some(held) = self.alerts.get_mut(&alert.labels) {
                held.sent = Some(uptime);
            }
        }
    }

    /// It is told no more.
    pub fn remove(&mut self, labels: &Texts) {
        self.alerts.remove(labels);
    }

    /// Forgets those that were over long ago; says whether there were any.
    pub fn forget_resolved(&mut self, now: Timestamp) -> bool {
        let before = self.alerts.len();
        self.alerts.retain(|_, held| {
            held.alert.ends_at.is_none_or(|ends_at| now.0.saturating_sub(ends_at.max(held.taken_at)) < RESOLVED_FOR)
        });
        before != self.alerts.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.alerts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn alert(name: &str, starts_at: i64, ends_at: Option<i64>) -> Alert {
        let labels = Texts::from([("alertname".to_owned(), name.to_owned())]);
        Alert { labels, annotations: Texts::new(), generator_url: String::new(), starts_at, ends_at }
    }

    #[test]
    fn what_is_read_again_changes_nothing() {
        let mut set = HeldSet::new(10);
        let life = [alert("a", 1, None), alert("a", 1, Some(5)), alert("a", 7, None)];
        for alert in &life {
            assert_eq!(set.take(alert.clone(), Timestamp(10)), Taken::News);
        }
        for alert in &life {
            assert_eq!(set.take(alert.clone(), Timestamp(11)), Taken::Known, "{alert:?}");
        }
        assert_eq!(set.due(MINUTE, Duration::ZERO), [alert("a", 7, None)]);
    }

    #[test]
    fn alerts_are_told_again_until_they_are_over_for_a_while() {
        let mut set = HeldSet::new(10);
        assert_eq!(set.take(alert("a", 1, None), Timestamp(0)), Taken::News);
        let all = set.due(MINUTE, Duration::ZERO);
        set.sent(&all, Duration::ZERO);
        assert!(set.due(MINUTE, MINUTE / 2).is_empty());
        assert_eq!(set.until_due(MINUTE, MINUTE / 2), Some(MINUTE / 2));
        assert_eq!(set.due(MINUTE, MINUTE).len(), 1);
        // Another process knows them, and does not know when they were told.
        let again = HeldSet::from_bytes(&set.to_bytes().unwrap(), 10).unwrap();
        assert_eq!(again.due(MINUTE, Duration::ZERO), all);
        assert_eq!(set.take(alert("a", 1, Some(5)), Timestamp(100)), Taken::News);
        assert_eq!(set.due(MINUTE, Duration::ZERO), [alert("a", 1, Some(5))]);
        assert!(!set.forget_resolved(Timestamp(99 + RESOLVED_FOR)));
        assert!(set.forget_resolved(Timestamp(100 + RESOLVED_FOR)));
        assert!(set.until_due(MINUTE, Duration::ZERO).is_none());
    }

    #[test]
    fn those_that_fire_are_not_forgotten_for_lack_of_room() {
        let mut set = HeldSet::new(2);
        for (alert, expected) in [
            (alert("a", 1, None), Taken::News),
            (alert("b", 1, Some(2)), Taken::News),
            (alert("c", 1, None), Taken::News),
            (alert("d", 1, None), Taken::Full),
            (alert("a", 1, Some(3)), Taken::News),
            (alert("d", 1, None), Taken::News),
        ] {
            assert_eq!(set.take(alert.clone(), Timestamp(0)), expected, "{alert:?}");
        }
        let names: Vec<_> =
            set.due(MINUTE, Duration::ZERO).iter().map(|alert| alert.labels["alertname"].clone()).collect();
        assert_eq!(names, ["c", "d"]);
    }
}
