//! Topics that the Kafka sink creates, and those it refuses to write to.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use weir_tests::broker::{OwnBroker, servers};
use weir_tests::command::weir;
use weir_tests::process::Home;
use weir_tests::topic::Topic;
use weir_tests::wait::{PATIENCE, until};

/// A graph from a file into Kafka.
fn graph(servers: &str, sink: &str) -> String {
    format!(
        "name: topics\n\
         sources: {{in: {{type: file, paths: [in.ndjson]}}}}\n\
         sinks: {{out: {{type: kafka, inputs: [in], bootstrap_servers: \"{servers}\", {sink}}}}}\n"
    )
}

/// A home with three events, of two kinds.
fn home(servers: &str, sink: &str) -> Home {
    let home = Home::new(&graph(servers, sink));
    let lines = ["a", "b", "a"].map(|kind| format!("{{\"kind\":\"{kind}\"}}\n")).concat();
    std::fs::write(home.path("in.ndjson"), lines).unwrap();
    home
}

const CREATION: &str = r#"create_topic: {partitions: 3, replication_factor: 1, config: {retention.ms: 3600000, cleanup.policy: "compact,delete"}}"#;

#[test]
fn missing_topics_are_created_as_asked_and_existing_ones_stay() {
    let there = Topic::create("created-b", 1, &[("retention.ms", "7200000")]);
    let prefix = there.name.strip_prefix("created-b-").unwrap();
    let missing = Topic::named(&servers(), &format!("created-a-{prefix}"), 3);
    let sink = format!("topic: 'created-{{{{ .kind }}}}-{prefix}', key: '{{{{ .kind }}}}', {CREATION}");
    let home = home(&servers(), &sink);
    let mut run = home.start_with("weir", &[], &["--once"], std::process::Stdio::inherit());
    let status = run.wait(PATIENCE);
    assert!(status.success(), "{status}");
    assert_eq!((missing.len(), there.len()), (2, 1));
    assert_eq!(missing.ends().len(), 3);
    assert_eq!(missing.setting("retention.ms"), "3600000");
    assert_eq!(missing.setting("cleanup.policy"), "compact,delete");
    assert_eq!(there.setting("retention.ms"), "7200000", "it stays as it is");
    let log = run.log();
    let warning = log.lines().find(|line| line.contains("differs from create_topic")).expect("a warning");
    for part in [&there.name, "partitions 1, not 3", "retention.ms 7200000, not 3600000"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

#[test]
fn a_compacted_topic_is_never_written_to_without_a_key() {
    let compacted = Topic::create("compacted", 1, &[("cleanup.policy", "compact")]);
    let home = home(&servers(), &format!("topic: {}", compacted.name));
    let mut run = home.start("weir", &[]);
    let says = format!("topic \"{}\" is compacted and the sink sets no key; set key:", compacted.name);
    until("/ready to say why", PATIENCE, || run.get("/ready").1.contains(&says));
    run.assert_running();
    assert!(compacted.is_empty());
    compacted.set("cleanup.policy", "delete");
    let status = run.wait(PATIENCE);
    assert!(status.success(), "{status}");
    assert_eq!(compacted.len(), 3, "it went on when the topic was changed");
}

#[test]
fn creation_without_the_right_is_waited_for_and_says_which() {
    let broker = OwnBroker::start_with_rights();
    let (user, password) = broker.user();
    let sink = format!(
        "topic: wanted, create_topic: {{partitions: 2}}, tls: {{ca: \"{}\"}}, \
         sasl: {{mechanism: SCRAM-SHA-512, username: {user}, password: {password}}}",
        broker.authority().display()
    );
    let home = home(&broker.secured(), &sink);
    broker.grant("kafka-acls --bootstrap-server x --add --allow-principal User:weir --operation Write --topic wanted");
    let mut run = home.start("weir", &[]);
    let says = "topic \"wanted\" does not exist, and we may not create it; grant Create";
    until("/ready to say which right", PATIENCE, || run.get("/ready").1.contains(says));
    broker.grant("kafka-acls --bootstrap-server x --add --allow-principal User:weir --operation Create --topic wanted");
    let wanted = Topic::named(&broker.servers, "wanted", 2);
    let status = run.wait(PATIENCE);
    assert!(status.success(), "{status}");
    assert_eq!(wanted.len(), 3);
}

#[test]
fn a_compacting_creation_without_a_key_is_refused_before_anything_starts() {
    let home = home(&servers(), &format!("topic: never, {CREATION}"));
    let done = weir(&home.path(""), &["validate", "graph.yaml"]).exits(78);
    assert!(done.err.contains("topic \"never\" would be compacted and the sink sets no key"), "{}", done.err);
    assert!(done.err.contains("graph.yaml:3:"), "{}", done.err);
}
