//! `weir doctor` on a real Kafka: what is well, what is wrong at each step, and rights that are granted as it says.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir_tests::broker::{OwnBroker, servers};
use weir_tests::command::{Done, weir};
use weir_tests::process::Home;
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, until};

/// From one topic to another; `options` are those of both clients.
fn graph(servers: &str, input: &str, output: &str, options: &str) -> Home {
    Home::new(&format!(
        r#"name: doctor
sources:
  in: {{type: kafka, bootstrap_servers: "{servers}", topics: [{input}], group_id: {input}, start: earliest{options}}}
sinks:
  out: {{type: kafka, inputs: [in], bootstrap_servers: "{servers}", topic: {output}{options}}}
"#
    ))
}

/// With time enough for a broker's first TLS handshake on a machine that is busy.
fn doctor(home: &Home) -> Done {
    weir(&home.path(""), &["doctor", "graph.yaml", "--timeout", "15s"])
}

/// The findings with this verdict, each as `node: message; remedy`.
fn lines(done: &Done, verdict: &str) -> Vec<String> {
    let line = |line: &str| Some(line.strip_prefix(verdict)?.trim_start().to_owned());
    done.out.lines().filter_map(line).collect()
}

#[track_caller]
fn fails(home: &Home, parts: &[&str]) {
    let done = doctor(home).exits(1);
    let failed = lines(&done, "failed");
    assert!(failed.iter().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in:\n{}", done.out);
    assert!(!done.out.contains("geheim") && !done.out.contains("weir-secret"), "{}", done.out);
}

#[test]
fn a_graph_that_can_run_is_found_well() {
    let (input, output) = (Topic::create("well-in", 3, &[]), Topic::create("well-out", 1, &[]));
    let home = graph(&servers(), &input.name, &output.name, "");
    input.write(["1", "2", "3", "4"]);
    let done = doctor(&home).exits(0);
    let ok = lines(&done, "ok");
    assert_eq!(ok.len(), done.out.lines().count(), "{}", done.out);
    for says in [
        format!("in: topic {:?} exists, 3 partitions", input.name),
        format!("in: topic {:?}: we may read it as group {:?}", input.name, input.name),
        format!("in: group {:?} has not read {:?} yet", input.name, input.name),
        "in: clocks: not compared, as brokers tell the time only to those who write; the newest record".to_owned(),
        format!("out: topic {:?}: we may write to it", output.name),
    ] {
        assert!(ok.iter().any(|line| line.starts_with(&says)), "{says}\n{}", done.out);
    }
    assert!(ok.iter().filter(|line| line.contains("resolves, connects and answers; 1 broker in")).count() == 2);
    assert!(output.is_empty(), "nothing was written");
    assert_eq!(input.committed(&Group::of(&input)), [0, 0, 0], "nothing was committed");
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    let (input, output) =
        (Topic::create("ill-in", 1, &[]), Topic::create("ill-out", 1, &[("max.message.bytes", "2000")]));
    let compacted = Topic::create("ill-compacted", 1, &[("cleanup.policy", "compact")]);
    let servers = servers();
    fails(
        &graph(&servers, "no-such-topic", &output.name, ""),
        &["in: topic \"no-such-topic\" does not exist", "kafka-topics"],
    );
    fails(
        &graph(&servers, &input.name, "no-such-topic", ""),
        &["out: topic \"no-such-topic\" does not exist", "create_topic"],
    );
    fails(
        &graph(&servers, &input.name, &compacted.name, ""),
        &["out:", "is compacted and the sink sets no key; set key:"],
    );
    fails(&graph("127.0.0.1:1", &input.name, &output.name, ""), &["broker 127.0.0.1:1: no connection", "refused"]);
    fails(&graph("no.such.host.invalid:9092", "a", "b", ""), &["no.such.host.invalid:9092: the name does not resolve"]);

    let done = doctor(&graph(&servers, &input.name, &output.name, "")).exits(0);
    let warnings = lines(&done, "warning");
    let says = "takes at most 2000 bytes, max_message_size is 1000000; set max_message_size: 2000";
    assert!(warnings.len() == 1 && warnings[0].contains(says), "{}", done.out);

    // It would be created: brokers are asked, and do nothing.
    let created = graph(&servers, &input.name, "not-yet", "");
    let set = ["doctor", "graph.yaml", "--set", "sinks.out.create_topic.partitions=2"];
    let done = weir(&created.path(""), &set).exits(0);
    assert!(done.out.contains("topic \"not-yet\" does not exist; we may create it"), "{}", done.out);
    let too_many = ["doctor", "graph.yaml", "--set", "sinks.out.create_topic.replication_factor=3"];
    let done = weir(&created.path(""), &too_many).exits(1);
    assert!(done.out.contains("creating it is refused"), "{}", done.out);
}

/// A certificate that signed nothing.
fn foreign_authority(dir: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=somebody else"]);
    openssl.args(["-keyout", "other.key", "-out", "other.pem"]).current_dir(dir).stderr(Stdio::null());
    assert!(openssl.status().unwrap().success());
}

#[test]
fn rights_that_are_missing_are_named_until_the_graph_runs_with_just_these() {
    let broker = OwnBroker::start_with_rights();
    let (user, password) = broker.user();
    let options = |authority: &Path, password: &str| {
        let (authority, sasl) = (authority.display(), "mechanism: SCRAM-SHA-512");
        format!(", tls: {{ca: \"{authority}\"}}, sasl: {{{sasl}, username: {user}, password: {password}}}")
    };
    let input = Topic::create_at(&broker.servers, "rights-in", 2, &[]);
    let output = Topic::named(&broker.servers, "rights-out", 1);
    let home = |options: &str| graph(&broker.secured(), &input.name, &output.name, options);

    fails(&home(&options(&broker.authority(), "geheim")), &["it does not let us in", "correct sasl"]);
    let other = home("");
    foreign_authority(&other.path(""));
    fails(&home(&options(&other.path("other.pem"), password)), &["TLS fails", "tls.ca"]);
    fails(&home(""), &["connected, but it does not talk to us", "tls or sasl"]);

    input.write(["1", "2", "3", "4"]);
    let home = home(&options(&broker.authority(), password));
    let creation = "sinks.out.create_topic.partitions=1";
    let mut granted = Vec::new();
    let report = loop {
        let done = weir(&home.path(""), &["doctor", "graph.yaml", "--set", creation, "--format", "json"]);
        assert!(!done.out.contains(password), "{}", done.out);
        let report = done.json();
        let grants = |finding: &Value| finding["remedy"].as_str()?.strip_prefix("grant it: ").map(str::to_owned);
        let mut commands: Vec<String> = report.as_array().unwrap().iter().filter_map(grants).collect();
        if commands.is_empty() {
            break done.exits(0).json();
        }
        commands.dedup();
        for command in commands {
            assert!(!granted.contains(&command), "granted, and asked for again: {command}\n{report:#}");
            broker.grant(&command);
            granted.push(command);
        }
    };
    let text = granted.join("\n");
    for right in ["Read --topic", "Read --group", "Create --topic"] {
        assert!(text.contains(&format!("--operation {right}")), "{right}:\n{text}");
    }
    println!("doctor: {} rights named and granted, one by one:\n{text}\n{report:#}", granted.len());

    let run = home.start("weir", &[creation]);
    until("the topic to be made", PATIENCE, || run.log().contains("created the topic"));
    // Once the topic is there, doctor asks for the right to write to it.
    let done = weir(&home.path(""), &["doctor", "graph.yaml", "--format", "json"]);
    for finding in done.json().as_array().unwrap() {
        if let Some(command) = finding["remedy"].as_str().and_then(|remedy| remedy.strip_prefix("grant it: ")) {
            broker.grant(command);
        }
    }
    until("the events to arrive", PATIENCE, || run.events("out", "passed") == 4);
    assert_eq!(output.len(), 4);
    run.stop(PATIENCE);
}
