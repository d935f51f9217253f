//! What a real Filebeat sends arrives, once, whatever happens to weir: by Lumberjack, in clear and over TLS, and over Kafka.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use weir_tests::filebeat::Filebeat;
use weir_tests::process::Home;
use weir_tests::push::free_address;
use weir_tests::topic::Topic;
use weir_tests::wait::{PATIENCE, found, until};

const FIRST: usize = 1000;
const SECOND: usize = 500;

/// Everything that came, and what is left when each line counts once by its identity.
fn graph(source: &str) -> String {
    format!(
        r#"name: real-filebeat
checkpoint_every: 20ms
sources:
  in: {source}
transforms:
  once: {{type: dedupe, inputs: [in], key: '[.agent.id, .log.file.path, .log.offset, .message]', within: 24h}}
  said: {{type: remap, inputs: [once], source: '. = {{"message": .message, "service": .fields.service, "beat": ."@metadata".beat}}'}}
sinks:
  all: {{type: file, inputs: [in], path: all.ndjson}}
  out: {{type: file, inputs: [said], path: out.ndjson}}
"#
    )
}

fn lumberjack(address: SocketAddr, options: &str) -> Home {
    Home::new(&graph(&format!("{{type: filebeat, listen: \"{address}\", {options}}}")))
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn line(number: usize) -> String {
    format!("2026-01-02 03:04:05 INFO number={number} said \"é\\ \\u0041\"\twith a tab")
}

fn write(filebeat: &Filebeat, numbers: std::ops::Range<usize>) {
    let lines: Vec<String> = numbers.map(line).collect();
    filebeat.write(lines.iter().map(String::as_str));
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until so many lines are in the output, and checks that they are the lines of the file, each once.
fn until_said(home: &Home, count: usize) {
    let out = found(&format!("{count} lines in the output"), PATIENCE, || {
        Some(documents(&home.path("out.ndjson"))).filter(|out| out.len() >= count)
    });
    let said: BTreeSet<&str> = out.iter().map(|event| event["message"].as_str().unwrap()).collect();
    let lines: Vec<String> = (0..count).map(line).collect();
    assert_eq!((said, out.len()), (lines.iter().map(String::as_str).collect(), count));
    let is_whole = |event: &Value| event["service"] == "weir-test" && event["beat"] == "filebeat";
    assert!(out.iter().all(is_whole), "{:?}", out.iter().find(|event| !is_whole(event)));
}

/// Two portions, and weir is killed while the second is on its way.
fn sends_two_portions(filebeat: &Filebeat, address: SocketAddr, home: &Home) {
    write(filebeat, 0..FIRST);
    let weir = home.start("weir", &[]);
    filebeat.start(&address.to_string());
    until_said(home, FIRST);
    weir.kill();
    write(filebeat, FIRST..FIRST + SECOND);
    // It comes back, is killed as soon as it has some of it, and comes back.
    let mut weir = home.start("weir", &[]);
    until("some of the second portion", PATIENCE, || {
        weir.assert_running();
        documents(&home.path("all.ndjson")).len() > FIRST
    });
    weir.kill();
    let weir = home.start("weir", &[]);
    until_said(home, FIRST + SECOND);
    until("Filebeat to know that all is safe", PATIENCE, || filebeat.acknowledged() >= (FIRST + SECOND) as u64);
    let all = documents(&home.path("all.ndjson"));
    println!("real filebeat: {} lines, {} events came", FIRST + SECOND, all.len());
    weir.stop(PATIENCE);
}

#[test]
fn every_line_arrives_once_in_clear() {
    let address = free_address();
    let home = lumberjack(address, "");
    sends_two_portions(&Filebeat::new(Vec::new()), address, &home);
}

#[test]
fn every_line_arrives_once_over_tls_by_a_filebeat_that_shows_its_certificate() {
    let address = free_address();
    let server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let sender = rcgen::generate_simple_self_signed(vec!["filebeat".to_owned()]).unwrap();
    let tls = "tls: {cert_file: cert.pem, key_file: key.pem, ca_file: sender.pem}";
    let home = lumberjack(address, tls);
    let files = [
        ("cert.pem", pem("CERTIFICATE", server.cert.der())),
        ("key.pem", pem("PRIVATE KEY", &server.signing_key.serialize_der())),
        ("sender.pem", pem("CERTIFICATE", sender.cert.der())),
        ("sender.key", pem("PRIVATE KEY", &sender.signing_key.serialize_der())),
    ];
    for (name, text) in files {
        std::fs::write(home.path(name), text).unwrap();
    }
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let env = vec![
        ("FILEBEAT_CA", path("cert.pem")),
        ("FILEBEAT_CERT", path("sender.pem")),
        ("FILEBEAT_KEY", path("sender.key")),
    ];
    sends_two_portions(&Filebeat::new(env), address, &home);
}

#[test]
fn what_filebeat_reads_again_after_a_crash_of_its_own_is_known_again() {
    let address = free_address();
    let home = lumberjack(address, "");
    let filebeat = Filebeat::new(Vec::new());
    write(&filebeat, 0..FIRST);
    let weir = home.start("weir", &[]);
    filebeat.start(&address.to_string());
    until_said(&home, FIRST);
    filebeat.kill();
    write(&filebeat, FIRST..FIRST + SECOND);
    filebeat.start(&address.to_string());
    until_said(&home, FIRST + SECOND);
    filebeat.stop();
    weir.stop(PATIENCE);
}

#[test]
fn what_filebeat_writes_to_kafka_is_read_whether_pretty_or_not() {
    for pretty in ["false", "true"] {
        let topic = Topic::create("filebeat", 2, &[]);
        let env = vec![
            ("FILEBEAT_OUTPUT", "kafka".to_owned()),
            ("FILEBEAT_TOPIC", topic.name.clone()),
            ("FILEBEAT_PRETTY", pretty.to_owned()),
        ];
        let source = format!(
            "{{type: kafka, bootstrap_servers: \"{}\", topics: [{}], group_id: {}, start: earliest, decoding: filebeat}}",
            topic.servers, topic.name, topic.name
        );
        let home = Home::new(&graph(&source));
        let filebeat = Filebeat::new(env);
        write(&filebeat, 0..FIRST);
        let weir = home.start("weir", &[]);
        filebeat.start(&topic.servers);
        until_said(&home, FIRST);
        weir.kill();
        write(&filebeat, FIRST..FIRST + SECOND);
        let weir = home.start("weir", &[]);
        until_said(&home, FIRST + SECOND);
        filebeat.stop();
        weir.stop(PATIENCE);
    }
}
