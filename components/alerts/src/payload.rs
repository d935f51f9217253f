//! What Alertmanager posts to webhooks, version 4 of it (`template/template.go` and `notify/webhook` of Alertmanager); pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value as Json, json};

use crate::alert::{Alert, Texts, rfc3339};

/// What Alertmanager writes where an alert has no end.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What is the same in every payload.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub receiver: String,
    pub external_url: String,
    pub group_by: Vec<String>,
    /// Alerts in a payload; 0: all.
    pub max_alerts: usize,
}

impl Form {
    /// The labels that alerts are grouped by, as far as this one has them.
    fn group_of(&self, alert: &Alert) -> Texts {
        let has = |name: &String| Some((name.clone(), alert.labels.get(name)?.clone()));
        self.group_by.iter().filter_map(has).collect()
    }

    /// The alerts by group, groups in order.
    pub fn groups(&self, alerts: &[Alert]) -> BTreeMap<Texts, Group> {
        let mut groups: BTreeMap<Texts, Group> = BTreeMap::new();
        for (number, alert) in alerts.iter().enumerate() {
            let group = groups.entry(self.group_of(alert)).or_default();
            group.members.push(number);
            group.last.retain(|other| alerts[*other].labels != alert.labels);
            group.last.push(number);
        }
        groups
    }

    /// The payload of a group.
    pub fn payload(&self, group: &Texts, alerts: &[&Alert], reason: &str) -> Json {
        let told = if self.max_alerts == 0 { alerts.len() } else { self.max_alerts.min(alerts.len()) };
        let is_firing = alerts.iter().any(|alert| alert.ends_at.is_none());
        json!({
            "version": "4",
            "groupKey": group_key(group),
            "truncatedAlerts": alerts.len() - told,
            "status": if is_firing { "firing" } else { "resolved" },
            "receiver": quoted(&self.receiver),
            "notification_reason": reason,
            "groupLabels": group,
            "commonLabels": common(alerts.iter().map(|alert| &alert.labels)),
            "commonAnnotations": common(alerts.iter().map(|alert| &alert.annotations)),
            // Labels of Alertmanager's route: there are no routes here.
            "routeLabels": {},
            "externalURL": self.external_url,
            "alerts": alerts[..told].iter().map(|alert| one(alert)).collect::<Vec<_>>(),
        })
    }
}

/// Alerts of one group, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// All of them.
    pub members: Vec<usize>,
    /// Of each alert the latest: one that starts and ends before it is posted appears once, as resolved.
    pub last: Vec<usize>,
}

/// The alerts that fire, as far as they were posted: what makes the reason of a notification. In memory alone, so that after
/// a restart each group is posted for the first time again.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    /// Fingerprints by group.
    firing: HashMap<Texts, HashSet<u64>>,
    count: usize,
}

/// Alerts that are remembered; groups beyond are always posted for the first time.
const REMEMBERED: usize = 100_000;

impl Posted {
    /// Notes what is posted, and gives the reason in the words of Alertmanager (`NotifyReason` in `notify/notify.go`).
    pub fn reason(&mut self, group: &Texts, alerts: &[&Alert]) -> &'static str {
        let known = self.firing.get(group).map_or(0, HashSet::len);
        let (mut added, mut ended) = (0, 0);
        for alert in alerts {
            let fingerprint = alert.fingerprint();
            match alert.ends_at {
                None if self.count < REMEMBERED => {
                    added += usize::from(self.firing.entry(group.clone()).or_default().insert(fingerprint));
                }
                None => added += usize::from(!self.firing.get(group).is_some_and(|all| all.contains(&fingerprint))),
                Some(_) => ended += usize::from(self.firing.get_mut(group).is_some_and(|all| all.remove(&fingerprint))),
            }
        }
        let left = self.firing.get(group).map_or(0, HashSet::len);
        self.count = (self.count + left).saturating_sub(known);
        if left == 0 {
            self.firing.remove(group);
        }
        let is_firing = left > 0 || alerts.iter().any(|alert| alert.ends_at.is_none());
        match () {
            () if !is_firing => "all alerts resolved",
            () if known == 0 => "first notification",
            () if added > 0 => "new alerts added",
            () if ended > 0 => "some alerts resolved",
            () => "repeat interval elapsed",
        }
    }
}

/// The name as a regular expression that matches it, which is how Alertmanager writes it (Go's `regexp.QuoteMeta`).
fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn one(alert: &Alert) -> Json {
    json!({
        "status": alert.status(),
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": alert.ends_at.map_or_else(|| NO_TIME.to_owned(), rfc3339),
        "generatorURL": alert.generator_url,
        "fingerprint": format!("{:016x}", alert.fingerprint()),
    })
}

/// The name of a group, as Alertmanager has it for its first route.
fn group_key(group: &Texts) -> String {
    let labels: Vec<String> = group.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{}}:{{{}}}", labels.join(", "))
}

/// What all have.
fn common<'a>(mut all: impl Iterator<Item = &'a Texts>) -> Texts {
    let mut common = all.next().cloned().unwrap_or_default();
    for texts in all {
        common.retain(|name, value| texts.get(name) == Some(value));
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(labels: &[(&str, &str)], ends_at: Option<i64>) -> Alert {
        let labels: Texts = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let annotations = Texts::from([("summary".to_owned(), format!("on {}", labels["node"]))]);
        Alert { labels, annotations, generator_url: "http://p/g".to_owned(), starts_at: 1_659_449_563_000, ends_at }
    }

    fn form() -> Form {
        let group_by = ["alertname", "cluster"].map(str::to_owned).to_vec();
        Form { receiver: "pager".to_owned(), external_url: "http://weir".to_owned(), group_by, max_alerts: 0 }
    }

    #[test]
    fn a_group_s_payload_is_that_of_alertmanager() {
        let alerts = [
            alert(
                &[("alertname", "DiskFull"), ("node", "a"), ("summary", "disk almost full")],
                Some(1_659_449_623_000),
            ),
            alert(&[("alertname", "DiskFull"), ("node", "b"), ("summary", "disk almost full")], None),
        ];
        let form = form();
        let groups = form.groups(&alerts);
        assert_eq!(groups.values().collect::<Vec<_>>(), [&vec![0, 1]]);
        let (group, _) = groups.first_key_value().unwrap();
        let payload = form.payload(group, &[&alerts[0], &alerts[1]]);
        let expected = json!({
            "version": "4",
            "groupKey": "{}:{alertname=\"DiskFull\"}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "pager",
            "groupLabels": {"alertname": "DiskFull"},
            "commonLabels": {"alertname": "DiskFull", "summary": "disk almost full"},
            "commonAnnotations": {},
            "externalURL": "http://weir",
            "alerts": [
                {
                    "status": "resolved",
                    "labels": {"alertname": "DiskFull", "node": "a", "summary": "disk almost full"},
                    "annotations": {"summary": "on a"},
                    "startsAt": "2022-08-02T14:12:43Z",
                    "endsAt": "2022-08-02T14:13:43Z",
                    "generatorURL": "http://p/g",
                    "fingerprint": format!("{:016x}", alerts[0].fingerprint()),
                },
                {
                    "status": "firing",
                    "labels": {"alertname": "DiskFull", "node": "b", "summary": "disk almost full"},
                    "annotations": {"summary": "on b"},
                    "startsAt": "2022-08-02T14:12:43Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "http://p/g",
                    "fingerprint": format!("{:016x}", alerts[1].fingerprint()),
                },
            ],
        });
        assert_eq!(payload, expected);
        let resolved = form.payload(group, &[&alerts[0]]);
        assert_eq!(
            (&resolved["status"], &resolved["commonAnnotations"]["summary"]),
            (&json!("resolved"), &json!("on a"))
        );
    }

    #[test]
    fn groups_are_told_apart_and_long_ones_cut() {
        let alerts: Vec<Alert> = ["a", "b", "a"]
            .iter()
            .map(|cluster| alert(&[("alertname", "A"), ("cluster", cluster), ("node", "n")], None))
            .collect();
        let form = Form { max_alerts: 1, ..form() };
        let groups = form.groups(&alerts);
        assert_eq!(groups.values().cloned().collect::<Vec<_>>(), [vec![0, 2], vec![1]]);
        let (group, _) = groups.first_key_value().unwrap();
        let payload = form.payload(group, &[&alerts[0], &alerts[2]]);
        assert_eq!((payload["alerts"].as_array().unwrap().len(), &payload["truncatedAlerts"]), (1, &json!(1)));
        assert_eq!(payload["groupKey"], "{}:{alertname=\"A\", cluster=\"a\"}");
    }
}
