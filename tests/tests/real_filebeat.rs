//! What a real Filebeat sends arrives, once, whatever happens to weir: by Lumberjack, in clear and over TLS, and over Kafka.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use weir::component::DecodingOption;
use weir::event::{Body, Event, Position, Timestamp};
use weir_filebeat::Filebeat;
use weir_tests::filebeat::Filebeat as RealFilebeat;
use weir_tests::process::Home;
use weir_tests::push::free_address;
use weir_tests::topic::Topic;
use weir_tests::wait::{PATIENCE, until};

const FIRST: usize = 1000;
const SECOND: usize = 500;

fn graph(source: &str) -> String {
    format!(
        "name: real-filebeat\nsources:\n  in: {source}\nsinks:\n  out: {{type: file, inputs: [in], path: out.ndjson}}\n"
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

fn write(filebeat: &RealFilebeat, numbers: std::ops::Range<usize>) {
    let lines: Vec<String> = numbers.map(line).collect();
    filebeat.write(lines.iter().map(String::as_str));
}

/// What came, and which event the codec says that each is.
fn events(home: &Home) -> Vec<(u128, Value)> {
    let text = std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| (identity(line), serde_json::from_str(line).unwrap())).collect()
}

fn identity(line: &str) -> u128 {
    let codec = DecodingOption::Other(Arc::new(Filebeat {})).build().unwrap();
    let mut event = Event::new(Body::Raw(line.to_owned().into(), codec.clone()), Position(0), Timestamp(0));
    codec.decoder().unwrap().admit(&mut event);
    assert!(event.time > Timestamp(0), "it has a time: {line}");
    event.meta.unwrap().identity.unwrap()
}

/// Waits until so many lines have come, and checks that they are the lines of the file, and each one event however often it came.
/// Gives how many came.
fn until_there(home: &Home, count: usize) -> usize {
    let mut all = Vec::new();
    until(&format!("{count} lines in the output"), PATIENCE, || {
        all = events(home);
        all.iter().map(|(identity, _)| identity).collect::<BTreeSet<_>>().len() >= count
    });
    let said: BTreeSet<(u128, &str)> =
        all.iter().map(|(identity, event)| (*identity, event["message"].as_str().unwrap())).collect();
    let messages: BTreeSet<&str> = said.iter().map(|(_, message)| *message).collect();
    let lines: Vec<String> = (0..count).map(line).collect();
    let expected: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    assert!(messages == expected, "{:?}", messages.symmetric_difference(&expected).next());
    assert_eq!(said.len(), count, "a line is one event");
    let is_whole =
        |event: &Value| event["fields"]["service"] == "weir-test" && event["@metadata"]["beat"] == "filebeat";
    assert!(all.iter().all(|(_, event)| is_whole(event)), "{:?}", all.iter().find(|(_, event)| !is_whole(event)));
    all.len()
}

/// Two portions, and weir is killed while the second is on its way.
fn sends_two_portions(filebeat: &RealFilebeat, address: SocketAddr, home: &Home) {
    write(filebeat, 0..FIRST);
    let weir = home.start("weir", &[]);
    filebeat.start(&address.to_string());
    until_there(home, FIRST);
    weir.kill();
    write(filebeat, FIRST..FIRST + SECOND);
    // It comes back, is killed as soon as it has some of it, and comes back.
    let mut weir = home.start("weir", &[]);
    until("some of the second portion", PATIENCE, || {
        weir.assert_running();
        events(home).len() > FIRST
    });
    weir.kill();
    let weir = home.start("weir", &[]);
    let came = until_there(home, FIRST + SECOND);
    until("Filebeat to know that all is safe", PATIENCE, || filebeat.acknowledged() >= (FIRST + SECOND) as u64);
    println!("real filebeat: {} lines came as {came} events", FIRST + SECOND);
    weir.stop(PATIENCE);
}

#[test]
fn every_line_arrives_once_in_clear() {
    let address = free_address();
    let home = lumberjack(address, "");
    sends_two_portions(&RealFilebeat::new(Vec::new()), address, &home);
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
    sends_two_portions(&RealFilebeat::new(env), address, &home);
}

#[test]
fn what_filebeat_reads_again_after_a_crash_of_its_own_is_known_again() {
    let address = free_address();
    let home = lumberjack(address, "");
    let filebeat = RealFilebeat::new(Vec::new());
    write(&filebeat, 0..FIRST);
    let weir = home.start("weir", &[]);
    filebeat.start(&address.to_string());
    until_there(&home, FIRST);
    filebeat.kill();
    write(&filebeat, FIRST..FIRST + SECOND);
    filebeat.start(&address.to_string());
    until_there(&home, FIRST + SECOND);
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
        let filebeat = RealFilebeat::new(env);
        write(&filebeat, 0..FIRST);
        let weir = home.start("weir", &[]);
        filebeat.start(&topic.servers);
        until_there(&home, FIRST);
        weir.kill();
        write(&filebeat, FIRST..FIRST + SECOND);
        let weir = home.start("weir", &[]);
        until_there(&home, FIRST + SECOND);
        filebeat.stop();
        weir.stop(PATIENCE);
    }
}
