//! A real Prometheus scrapes itself and a node exporter, and sends everything to weir, which is killed meanwhile: what comes
//! out is what Prometheus says it has.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use rand::RngExt;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::prometheus::{JOBS, Prometheus};
use weir_tests::push::{Sender, free_address};
use weir_tests::samples::{Output, assert_same};
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

/// Waits until what came out reaches a time, in milliseconds; nobody may be killed meanwhile.
fn until_reached(home: &Home, millis: i64) -> Output {
    let mut output = Output::of(&home.path("out.ndjson"));
    until("points to come out", LIMIT, || {
        output.read_on();
        output.reaches(&JOBS) >= millis
    });
    output
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
    until_reached(&home, 1);
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
    let end = Output::of(&home.path("out.ndjson")).reaches(&JOBS) + 3000;
    // Prometheus sends in the order of its log: behind what is later all of it is on its way.
    let mut output = until_reached(&home, end + 2000);
    prometheus.stop();
    let expected = prometheus.samples(end);
    assert!(expected.len() > 10_000, "Prometheus has {} samples alone", expected.len());
    until("nothing to be missing", LIMIT, || {
        output.read_on();
        expected.missing_in(&output.samples, end).next().is_none()
    });
    assert_same(&output.samples, &expected, end);
    let texts: Vec<_> = expected.of("weir_test_passing").map(|(series, _)| &*series["text"]).collect();
    assert_eq!(texts, ["a \"b\" {c}, d"]);
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
    assert_eq!(Output::of(&home.path("out.ndjson")).lines, 0);
    let _prometheus = of(&shown, "opensesame");
    until_reached(&home, 1);
    assert!(!weir.log().contains("opensesame"));
    weir.stop(LIMIT);
}
