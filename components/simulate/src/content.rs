//! What is made up: every event from the seed and its number alone.

use std::borrow::Cow;
use std::io::Write as _;

use chrono::{DateTime, SecondsFormat};
use schemars::JsonSchema;
use serde::Deserialize;

/// Content to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// About 70 % container logs and 30 % Kubernetes events, in two formats.
    #[default]
    LogsAndEvents,
    /// Kubernetes events only.
    Events,
    /// Container logs only.
    Logs,
}

/// A reason as the cluster gives it: who says it, of what kind of object, and how bad it is.
struct Reason {
    reason: &'static str,
    component: &'static str,
    kind: &'static str,
    level: &'static str,
    message: &'static str,
}

const fn reason(
    reason: &'static str,
    component: &'static str,
    kind: &'static str,
    level: &'static str,
    message: &'static str,
) -> Reason {
    Reason { reason, component, kind, level, message }
}

/// Frequent ones stand more than once.
const REASONS: [Reason; 18] = [
    reason("Scheduled", "default-scheduler", "Pod", "Normal", "Successfully assigned the pod to a node"),
    reason("Pulled", "kubelet", "Pod", "Normal", "Container image already present on machine"),
    reason("Created", "kubelet", "Pod", "Normal", "Created container main"),
    reason("Started", "kubelet", "Pod", "Normal", "Started container main"),
    reason("Killing", "kubelet", "Pod", "Normal", "Stopping container main"),
    reason("BackOff", "kubelet", "Pod", "Warning", "Back-off restarting failed container main"),
    reason("BackOff", "kubelet", "Pod", "Warning", "Back-off pulling image \\\"registry.local/app:7\\\""),
    reason("Unhealthy", "kubelet", "Pod", "Warning", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
    reason("FailedScheduling", "default-scheduler", "Pod", "Warning", "0/9 nodes are available: 9 Insufficient memory"),
    reason("FailedMount", "kubelet", "Pod", "Warning", "Unable to attach or mount volumes: timed out"),
    reason("ScalingReplicaSet", "deployment-controller", "Deployment", "Normal", "Scaled up replica set to 5"),
    reason("SuccessfulCreate", "replicaset-controller", "ReplicaSet", "Normal", "Created a pod"),
    reason("TriggeredScaleUp", "cluster-autoscaler", "Pod", "Normal", "pod triggered scale-up: 3->4 (max: 9)"),
    reason("ScaledUpGroup", "cluster-autoscaler", "ConfigMap", "Normal", "Scale-up: group size set to 4"),
    reason("NodeHasInsufficientMemory", "kubelet", "Node", "Normal", "Node status is now: NodeHasInsufficientMemory"),
    reason("EvictionThresholdMet", "kubelet", "Node", "Warning", "Attempting to reclaim memory"),
    reason("NodeNotReady", "node-controller", "Node", "Normal", "Node status is now: NodeNotReady"),
    reason("NodeReady", "kubelet", "Node", "Normal", "Node status is now: NodeReady"),
];

/// The last ones quote what an event looks like: a filter on text would take them for events.
const LINES: [(&str, &str); 7] = [
    ("info", "GET /api/v1/cart 200 12ms"),
    ("info", "GET /healthz 200 1ms"),
    ("info", "request finished"),
    ("debug", "cache miss, fetching from store"),
    ("warn", "slow query: 1.8s"),
    ("error", "upstream closed the connection"),
    (
        "info",
        "audit: saw {\\\"kind\\\":\\\"Event\\\",\\\"reason\\\":\\\"BackOff\\\"} in namespace_name openshift-logging",
    ),
];

const WORKLOADS: [&str; 8] = ["checkout", "cart", "search", "ledger", "mailer", "gateway", "profile", "catalog"];

/// A counter-based generator (splitmix64, Steele et al. 2014): no state is carried from event to event.
struct Dice(u64);

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// Each event's stream begins at a mixed place: unmixed, event n + 1 would roll what event n rolls next.
    fn new(seed: u64, number: u64) -> Dice {
        Dice(mix(seed ^ number.wrapping_mul(GOLDEN)))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

/// The finalizer of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes events.
pub(crate) struct Writer {
    seed: u64,
    content: Content,
}

/// The names in one event.
struct Subject {
    namespace: String,
    workload: &'static str,
    pod: String,
    node: usize,
    uid: (u64, u64),
    millis: i64,
    time: String,
}

impl Writer {
    pub fn new(seed: u64, content: Content) -> Writer {
        Writer { seed, content }
    }

    /// Appends event `number` as one JSON document.
    pub fn write(&self, number: u64, millis: i64, out: &mut Vec<u8>) {
        let mut dice = Dice::new(self.seed, number);
        let share = match self.content {
            Content::LogsAndEvents => dice.below(100),
            Content::Events => 70 + dice.below(30),
            Content::Logs => dice.below(70),
        };
        let uid = (dice.roll(), dice.roll());
        let workload = WORKLOADS[dice.below(WORKLOADS.len())];
        let subject = Subject {
            namespace: format!("team-{:02}", dice.below(20)),
            workload,
            pod: format!("{workload}-{:09x}-{:05x}", uid.0 >> 28, uid.1 & 0xf_ffff),
            node: dice.below(24),
            uid,
            millis,
            time: rfc3339(millis),
        };
        // Writing to a Vec cannot fail.
        let _ = match share {
            0..70 => log(&subject, &mut dice, out),
            70..85 => router_line(&subject, number, &mut dice, out),
            _ => collector_record(&subject, number, &mut dice, out),
        };
    }
}

fn rfc3339(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same in whole seconds, without the `Z`.
fn seconds(millis: i64) -> String {
    let mut time = rfc3339(millis);
    time.truncate(time.find('.').unwrap_or(time.len()));
    time
}

fn log(subject: &Subject, dice: &mut Dice, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Subject { namespace, workload, pod, node, time, .. } = subject;
    // One line in fifty is the one that quotes an event.
    let at = if dice.below(50) == 0 { LINES.len() - 1 } else { dice.below(LINES.len() - 1) };
    let (level, message) = LINES[at];
    write!(
        out,
        r#"{{"@timestamp":"{time}","message":"{message}","level":"{level}","hostname":"node-{node:02}","kubernetes":{{"namespace_name":"{namespace}","pod_name":"{pod}","container_name":"{workload}"}}}}"#
    )
}

/// What kubernetes calls the event's object: pods have a namespace, nodes have none.
fn object(subject: &Subject, reason: &Reason) -> (String, String) {
    match reason.kind {
        "Node" => (format!("node-{:02}", subject.node), "default".to_owned()),
        "Pod" => (subject.pod.clone(), subject.namespace.clone()),
        _ => (subject.workload.to_owned(), subject.namespace.clone()),
    }
}

/// Between two occurrences of what an event says.
const REPEAT_MILLIS: i64 = 10_000;

/// Which telling of an event it is.
#[derive(Clone, Copy)]
struct Telling {
    /// How often it happened by now.
    count: u32,
    /// How many repeats ago this was told: 1 for what an update replaces.
    ago: u32,
    /// The collector moves the message out of the event.
    with_message: bool,
}

/// The fields of a `v1.Event`, without the braces around them. Kubernetes counts these times in whole seconds.
fn event_fields(
    subject: &Subject,
    reason: &Reason,
    number: u64,
    telling: Telling,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let (name, namespace) = object(subject, reason);
    let Subject { uid: (high, low), node, .. } = subject;
    let Reason { reason, component, kind, level, message } = reason;
    let Telling { count, ago, with_message } = telling;
    let before = |repeats: u32| match repeats {
        0 => Cow::from(subject.time.split_once('.').map_or("", |(seconds, _)| seconds)),
        _ => Cow::from(seconds(subject.millis.saturating_sub(i64::from(repeats) * REPEAT_MILLIS))),
    };
    let (first, last) = (before(ago + count - 1), before(ago));
    write!(
        out,
        r#""metadata":{{"name":"{name}.{:016x}","namespace":"{namespace}","uid":"{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}","resourceVersion":"{}","creationTimestamp":"{first}Z"}},"involvedObject":{{"kind":"{kind}","namespace":"{namespace}","name":"{name}","uid":"{:08x}-0000-4000-8000-{:012x}""#,
        high ^ low,
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff,
        number.saturating_add(100_000 - u64::from(ago)),
        low >> 32,
        high & 0xffff_ffff_ffff,
    )?;
    let by_kubelet = *component == "kubelet";
    if by_kubelet && *kind == "Pod" {
        out.extend_from_slice(br#","fieldPath":"spec.containers{main}""#);
    }
    write!(out, r#"}},"reason":"{reason}","#)?;
    if with_message {
        write!(out, r#""message":"{message}","#)?;
    }
    write!(out, r#""source":{{"component":"{component}""#)?;
    if by_kubelet {
        write!(out, r#","host":"node-{node:02}""#)?;
    }
    write!(
        out,
        r#"}},"firstTimestamp":"{first}Z","lastTimestamp":"{last}Z","count":{count},"type":"{level}","eventTime":null,"reportingComponent":"{component}","reportingInstance":""#
    )?;
    if by_kubelet {
        write!(out, "node-{node:02}")?;
    }
    out.push(b'"');
    Ok(())
}

/// The eventrouter's own line.
fn router_line(subject: &Subject, number: u64, dice: &mut Dice, out: &mut Vec<u8>) -> std::io::Result<()> {
    let reason = &REASONS[dice.below(REASONS.len())];
    if dice.below(3) > 0 {
        out.extend_from_slice(br#"{"verb":"ADDED","event":{"#);
        event_fields(subject, reason, number, Telling { count: 1, ago: 0, with_message: true }, out)?;
    } else {
        let count = 2 + dice.below(8) as u32;
        out.extend_from_slice(br#"{"verb":"UPDATED","event":{"#);
        event_fields(subject, reason, number, Telling { count, ago: 0, with_message: true }, out)?;
        out.extend_from_slice(br#"},"old_event":{"#);
        event_fields(subject, reason, number, Telling { count: count - 1, ago: 1, with_message: true }, out)?;
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// The same as a log collector passes it on.
fn collector_record(subject: &Subject, number: u64, dice: &mut Dice, out: &mut Vec<u8>) -> std::io::Result<()> {
    let reason = &REASONS[dice.below(REASONS.len())];
    let Subject { time, node, .. } = subject;
    write!(
        out,
        r#"{{"@timestamp":"{time}","message":"{}","level":"info","hostname":"node-{node:02}","kubernetes":{{"container_name":"kube-eventrouter","namespace_name":"openshift-logging","pod_name":"eventrouter-5d4f","event":{{"#,
        reason.message
    )?;
    event_fields(subject, reason, number, Telling { count: 1, ago: 0, with_message: false }, out)?;
    out.extend_from_slice(br#","verb":"ADDED"}}}"#);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(content: Content, count: u64) -> Vec<serde_json::Value> {
        let writer = Writer::new(7, content);
        let make = |number| {
            let mut out = Vec::new();
            writer.write(number, 0, &mut out);
            serde_json::from_slice(&out).unwrap()
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn everything_is_json_of_one_of_the_three_shapes() {
        let made = all(Content::LogsAndEvents, 5000);
        let router = made.iter().filter(|event| event["event"]["reason"].is_string()).count();
        let collector = made.iter().filter(|event| event["kubernetes"]["event"]["reason"].is_string()).count();
        let logs =
            made.iter().filter(|event| event["level"].is_string() && event["kubernetes"]["event"].is_null()).count();
        assert_eq!(router + collector + logs, made.len());
        assert!((650..850).contains(&router) && (650..850).contains(&collector), "{router} {collector}");
        assert!(
            made.iter()
                .any(|event| event["message"].as_str().is_some_and(|text| text.contains("\"reason\":\"BackOff\"")))
        );
    }

    #[test]
    fn an_update_tells_what_it_replaces() {
        let made = all(Content::Events, 2000);
        let updates: Vec<_> = made.iter().filter(|event| event["verb"] == "UPDATED").collect();
        assert!(updates.len() > 200);
        for update in updates {
            let (new, old) = (&update["event"], &update["old_event"]);
            assert_eq!(new["metadata"]["uid"], old["metadata"]["uid"]);
            assert_eq!(new["count"].as_u64().unwrap(), old["count"].as_u64().unwrap() + 1);
            assert_eq!(new["firstTimestamp"], old["firstTimestamp"]);
            assert!(new["lastTimestamp"].as_str() > old["lastTimestamp"].as_str());
        }
        assert!(made.iter().all(|event| event["verb"] == "UPDATED" || event["old_event"].is_null()));
    }

    #[test]
    fn no_two_events_share_an_id() {
        let uid = |seed, number| {
            let mut dice = Dice::new(seed, number);
            [dice.roll(), dice.roll(), dice.roll(), dice.roll()]
        };
        for seed in [0, 42] {
            let mut rolls: Vec<u64> = (0..10_000).flat_map(|number| uid(seed, number)).collect();
            rolls.sort_unstable();
            rolls.dedup();
            assert_eq!(rolls.len(), 40_000, "streams of different events overlap");
        }
    }

    #[test]
    fn an_event_follows_from_seed_and_number_alone() {
        assert_eq!(all(Content::Events, 10)[7], all(Content::Events, 8)[7]);
        assert_ne!(all(Content::Events, 2)[0], all(Content::Events, 2)[1]);
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -p weir-simulate -- --ignored --nocapture"]
    fn speed() {
        let writer = Writer::new(7, Content::LogsAndEvents);
        let mut out = Vec::with_capacity(1 << 20);
        let began = std::time::Instant::now();
        let (mut bytes, count) = (0, 1_000_000);
        for number in 0..count {
            writer.write(number, number as i64 * 10, &mut out);
            if out.len() > 900_000 {
                bytes += out.len();
                out.clear();
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{:.0} events/s, {:.0} MB/s", count as f64 / seconds, bytes as f64 / seconds / 1e6);
    }
}
