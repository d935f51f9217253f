//! A real Prometheus scrapes itself and a node exporter, and sends everything to weir, which is killed meanwhile: what comes
//! out is what Prometheus says it has.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use rand::RngExt;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::prometheus::{Prometheus, Sample, bits};
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{found, until};

/// Metadata, which 1.0 sends beside the points, is none of them.
const GRAPH: &str = r#"name: from-prometheus
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0"}
transforms:
  points: {type: filter, inputs: [in], condition: "exists(.value)"}
sinks:
  out: {type: file, inputs: [points], path: out.ndjson, encoding: points_json}
"#;

const LIMIT: Duration = Duration::from_secs(60);
/// What the node exporter shows for a part of the time.
const SHOWN: &str = "weir_test_passing{text=\"a \\\"b\\\" {c}, d\"} 3\n";

/// Points that came out, and how many lines they are.
struct Output {
    samples: BTreeSet<Sample>,
    lines: usize,
    stale: usize,
}

impl Output {
    fn of(home: &Home) -> Output {
        let text = std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default();
        let mut output = Output { samples: BTreeSet::new(), lines: 0, stale: 0 };
        // A line that is being written is not looked at.
        for line in text.lines().take(text.matches('\n').count()) {
            output.lines += 1;
            let point: Value = serde_json::from_str(line).unwrap();
            let mut labels: std::collections::BTreeMap<String, String> =
                serde_json::from_value(point["labels"].clone()).unwrap();
            labels.insert("__name__".to_owned(), point["name"].as_str().unwrap().to_owned());
            // Not as a number of JSON, which may be read with a bit less.
            let (_, value) = line.rsplit_once("\"value\":").unwrap();
            let value = match value.trim_end_matches('}').trim_matches('"') {
                "stale" => {
                    output.stale += 1;
                    f64::NAN
                }
                text if text.starts_with("NaN") => f64::NAN,
                text => text.parse().unwrap(),
            };
            output.samples.insert((labels, point["timestamp"].as_i64().unwrap(), bits(value)));
        }
        output
    }

    /// The latest time up to which every job was scraped.
    fn reaches(&self) -> i64 {
        let of = |job: &str| {
            let is_it = |sample: &&Sample| sample.0["__name__"] == "up" && sample.0["job"] == job;
            self.samples.iter().filter(is_it).map(|sample| sample.1).max()
        };
        of("prometheus").min(of("node")).unwrap_or(0)
    }
}

fn campaign(version: &'static str) {
    let mut campaign = Campaign::of(&format!("prometheus {version}"));
    let span = campaign.span(Duration::from_secs(600), Duration::from_secs(40));
    let kills = campaign.span(Duration::from_secs(10), Duration::from_secs(4)).as_secs() as u32;
    let home = Home::new(GRAPH);
    let address = free_address();
    let start = || -> Weir {
        let weir = home.start("weir", &[&format!("sources.in.listen={address}")]);
        found("the source to listen", LIMIT, || Sender::connect(address).ok());
        weir
    };
    let mut weir = Some(start());
    let prometheus = Prometheus::start(version, &format!("http://{address}/"));
    prometheus.show(Some(SHOWN));
    until("the first points", LIMIT, || Output::of(&home).reaches() > 0);
    for kill in 0..kills {
        let spread = campaign.random.random_range(0.5..1.5);
        let pause = (span / kills).mul_f64(spread);
        let begun = Instant::now();
        until("the moment of the kill", span, || begun.elapsed() >= pause);
        weir.take().unwrap().kill();
        // Also for some time nobody is there.
        let begun = Instant::now();
        let away = Duration::from_millis(campaign.random.random_range(0..3000));
        until("the moment of the start", LIMIT, || begun.elapsed() >= away);
        weir = Some(start());
        if kill == kills / 2 {
            // Its series ends, and Prometheus says so.
            prometheus.show(None);
        }
    }
    let end = Output::of(&home).reaches() + 3000;
    // Prometheus sends in the order of its log: behind what is later all of it is on its way.
    until("the points of the end", LIMIT, || Output::of(&home).reaches() > end + 2000);
    prometheus.stop();
    let expected: BTreeSet<Sample> = prometheus.samples(end).into_iter().collect();
    assert!(expected.len() > 10_000, "Prometheus has {} samples alone", expected.len());
    let mut output = Output::of(&home);
    until("nothing to be missing", LIMIT, || {
        output = Output::of(&home);
        expected.is_subset(&output.samples)
    });
    let more: Vec<&Sample> =
        output.samples.iter().filter(|sample| sample.1 <= end && !expected.contains(*sample)).collect();
    assert!(more.is_empty(), "{} that Prometheus has not, such as {:?}", more.len(), more[0]);
    let of_the_series = |sample: &&Sample| sample.0["__name__"] == "weir_test_passing";
    let passing: Vec<&Sample> = expected.iter().filter(of_the_series).collect();
    let text = passing.first().map(|sample| sample.0["text"].as_str());
    assert_eq!(text, Some("a \"b\" {c}, d"), "{passing:?}");
    assert!(output.stale >= 1, "no series has ended");
    println!(
        "prometheus {version}: {kills} kills, {} samples up to the end, {} lines, {} ends of series",
        expected.len(),
        output.lines,
        output.stale
    );
    weir.unwrap().stop(LIMIT);
}

#[test]
fn what_prometheus_2_sends_is_what_it_has_whatever_happens_to_weir() {
    campaign("2");
}

#[test]
#[ignore = "builds a Prometheus 3 by Go, once, which takes minutes"]
fn what_prometheus_3_sends_by_2_0_is_what_it_has_whatever_happens_to_weir() {
    campaign("3");
}

fn write_pem(path: &Path, label: &str, der: &[u8]) {
    let text = BASE64_STANDARD.encode(der);
    std::fs::write(path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap();
}

/// Writes an authority, and by it a certificate of the server and one of a sender, each with its key.
fn write_certificates(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write_pem(&dir.join("ca.pem"), "CERTIFICATE", params.self_signed(&key).unwrap().der());
    let authority = Issuer::new(params, key);
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("sender", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &authority).unwrap();
        write_pem(&dir.join(format!("{name}.pem")), "CERTIFICATE", certificate.der());
        write_pem(&dir.join(format!("{name}.key")), "PRIVATE KEY", &key.serialize_der());
    }
}

#[test]
fn a_prometheus_is_let_in_with_its_certificate_and_its_password_and_not_without_either() {
    let home = Home::new(GRAPH);
    let dir = home.path("");
    write_certificates(&dir);
    let address = free_address();
    let set = [
        &*format!("sources.in.listen={address}"),
        "sources.in.tls={cert_file: server.pem, key_file: server.key, ca_file: ca.pem}",
        "sources.in.auth={strategy: basic, username: prometheus, password: opensesame}",
    ];
    let weir = home.start("weir", &set);
    found("the source to listen", LIMIT, || Sender::connect(address).ok());
    let url = format!("https://localhost:{}/api/v1/write", address.port());
    let file = |name: &str| dir.join(name).display().to_string();
    let trusting = format!("ca_file: {}", file("ca.pem"));
    let shown = format!("{trusting}, cert_file: {}, key_file: {}", file("sender.pem"), file("sender.key"));
    let of = |tls: &str, password: &str| {
        let options = format!("tls_config: {{{tls}}}\nbasic_auth: {{username: prometheus, password: {password}}}");
        Prometheus::start_with("2", &url, &options)
    };
    // As its log says it, who is not let in.
    for (stranger, why) in [(of(&trusting, "opensesame"), "certificate"), (of(&shown, "wrong"), "401 Unauthorized")] {
        until("a stranger to be refused", LIMIT, || stranger.log().contains(why));
    }
    assert_eq!(Output::of(&home).lines, 0);
    let _prometheus = of(&shown, "opensesame");
    until("the first points", LIMIT, || Output::of(&home).reaches() > 0);
    assert!(!weir.log().contains("opensesame"));
    weir.stop(LIMIT);
}
