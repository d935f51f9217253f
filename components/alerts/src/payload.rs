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

    fn group(members: &[usize], last: &[usize]) -> Group {
        Group { members: members.to_vec(), last: last.to_vec() }
    }

    #[test]
    fn an_alert_that_starts_and_ends_before_it_is_posted_appears_once_as_resolved() {
        let of = |node: &str, ends_at| alert(&[("alertname", "A"), ("node", node)], ends_at);
        let alerts = [of("a", None), of("b", None), of("a", Some(9)), of("b", Some(9)), of("b", None)];
        let form = form();
        let (group, found) = form.groups(&alerts).pop_first().unwrap();
        assert_eq!(found, self::group(&[0, 1, 2, 3, 4], &[2, 4]));
        let payload = form.payload(&group, &[&alerts[2], &alerts[4]], "first notification");
        let told = payload["alerts"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|alert| (&alert["labels"]["node"], &alert["status"])).collect();
        assert_eq!(told, [(&json!("a"), &json!("resolved")), (&json!("b"), &json!("firing"))]);
    }

    #[test]
    fn the_receiver_is_quoted_as_a_regular_expression() {
        let form = Form { receiver: "team-X.mails (a|b) [1]^2$ {x} a+b*c? \\ \u{fc}/_".to_owned(), ..form() };
        let payload = form.payload(&Texts::new(), &[], "");
        // What Go's `regexp.QuoteMeta` makes of it.
        let quoted = r"team-X\.mails \(a\|b\) \[1\]\^2\$ \{x\} a\+b\*c\? \\ \u{fc}/_".replace(r"\u{fc}", "\u{fc}");
        assert_eq!(payload["receiver"], quoted);
    }

    #[test]
    fn the_reason_follows_what_was_posted_before() {
        let mut posted = Posted::default();
        let of = |node: &str, ends_at| alert(&[("alertname", "A"), ("node", node)], ends_at);
        let one = Texts::from([("alertname".to_owned(), "A".to_owned())]);
        let mut reason = |group: &Texts, alerts: &[Alert]| posted.reason(group, &alerts.iter().collect::<Vec<_>>());
        assert_eq!(reason(&one, &[of("a", None)]), "first notification");
        assert_eq!(reason(&Texts::new(), &[of("a", None)]), "first notification", "of another group");
        assert_eq!(reason(&one, &[of("b", None), of("c", None)]), "new alerts added");
        assert_eq!(reason(&one, &[of("a", Some(1))]), "some alerts resolved");
        assert_eq!(reason(&one, &[of("b", None)]), "repeat interval elapsed");
        assert_eq!(reason(&one, &[of("b", Some(1)), of("c", Some(1))]), "all alerts resolved");
        assert_eq!(reason(&one, &[of("a", Some(1))]), "all alerts resolved", "of which nothing is known");
        assert_eq!(reason(&one, &[of("b", None)]), "first notification", "again");
        assert_eq!((posted.firing.len(), posted.count), (2, 2));
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
        assert_eq!(groups.values().collect::<Vec<_>>(), [&group(&[0, 1], &[0, 1])]);
        let (group, _) = groups.first_key_value().unwrap();
        let payload = form.payload(group, &[&alerts[0], &alerts[1]], "first notification");
        let expected = json!({
            "version": "4",
            "groupKey": "{}:{alertname=\"DiskFull\"}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "pager",
            "notification_reason": "first notification",
            "routeLabels": {},
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
        let resolved = form.payload(group, &[&alerts[0]], "all alerts resolved");
        assert_eq!(
            (&resolved["status"], &resolved["commonAnnotations"]["summary"]),
            (&json!("resolved"), &json!("on a"))
        );
    }

    #[test]
    fn groups_are_told_apart_and_long_ones_cut() {
        let alerts: Vec<Alert> = [("a", "m"), ("b", "n"), ("a", "n")]
            .iter()
            .map(|(cluster, node)| alert(&[("alertname", "A"), ("cluster", cluster), ("node", node)], None))
            .collect();
        let form = Form { max_alerts: 1, ..form() };
        let groups = form.groups(&alerts);
        assert_eq!(groups.values().collect::<Vec<_>>(), [&group(&[0, 2], &[0, 2]), &group(&[1], &[1])]);
        let (group, _) = groups.first_key_value().unwrap();
        let payload = form.payload(group, &[&alerts[0], &alerts[2]], "first notification");
        assert_eq!((payload["alerts"].as_array().unwrap().len(), &payload["truncatedAlerts"]), (1, &json!(1)));
        assert_eq!(payload["groupKey"], "{}:{alertname=\"A\", cluster=\"a\"}");
    }
}
