//! Memory of the whole process, whatever event meets whatever program: it stays below 300 MiB with default options.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weir_tests::process::{Home, binary};
use weir_tests::wait::moment;

/// Bytes that the process may take.
const MOST: u64 = 300 << 20;
/// Time for one run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Text of a compressed event, unpacked.
const TEXT: usize = 8 << 20;

fn packed(text: &[u8]) -> String {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    let packed = base64::prelude::Engine::encode(&base64::prelude::BASE64_STANDARD, encoder.finish().unwrap());
    format!(r#"{{"z":"{packed}"}}"#)
}

fn unit(unit: &[u8]) -> String {
    packed(&unit.repeat(TEXT / unit.len()))
}

fn list(item: &str, bytes: usize) -> String {
    format!(r#"{{"a":[{}]}}"#, vec![item; bytes / (item.len() + 1)].join(","))
}

/// A program and the event it meets.
type Case = (&'static str, String);

/// Runs every case as a node of one graph, one after the other, and gives the largest memory of the process.
fn peak(cases: &[Case]) -> u64 {
    let mut graph = "name: memory\nmemory: 64MiB\nsources:\n".to_owned();
    for at in 0..cases.len() {
        graph += &format!("  in{at}: {{type: file, paths: [in{at}.ndjson]}}\n");
    }
    graph += "transforms:\n";
    for (at, (source, _)) in cases.iter().enumerate() {
        let source = source.replace('\n', "\n      ");
        graph += &format!("  t{at}:\n    type: remap\n    inputs: [in{at}]\n    source: |\n      {source}\n");
    }
    graph += "sinks:\n";
    for at in 0..cases.len() {
        graph += &format!("  out{at}: {{type: file, inputs: [t{at}], path: out{at}.ndjson}}\n");
    }
    let home = Home::new(&graph);
    for (at, (_, event)) in cases.iter().enumerate() {
        std::fs::write(home.path(&format!("in{at}.ndjson")), format!("{event}\n")).unwrap();
    }
    let mut command = Command::new(binary());
    command.args(["run", "--once", "graph.yaml"]).current_dir(home.path(""));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (begun, mut peak) = (Instant::now(), 0);
    let ended = loop {
        // What the process took at most: it only grows, and is read until there is no process any more.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| kib << 10).max(peak);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it has not ended");
        }
        moment();
    };
    assert!(ended.success(), "{ended}: {cases:?}", cases = cases.iter().map(|(source, _)| source).collect::<Vec<_>>());
    assert!(peak > 0);
    peak
}

fn assert_small(cases: &[Case]) {
    let peak = peak(cases);
    let names: Vec<_> = cases.iter().map(|(source, _)| source).collect();
    assert!(peak < MOST, "{} MiB: {names:#?}", peak >> 20);
}

#[test]
fn copies_of_an_event_stay_within_the_memory_of_the_process() {
    // Each takes almost as much memory as a value may.
    let objects = || list(r#"{"":1}"#, 280 << 10);
    let numbers = || list("1", 800 << 10);
    assert_small(&[
        (".a = map_values(array!(.a)) -> |v| { v }", numbers()),
        ("x = .a\n.b = [x, x, x, x]", objects()),
        ("x = .a\n.a = map_values(array!(.a)) -> |_v| { x }", numbers()),
        ("t = encode_json(.a)\nx = parse_json!(t)\ny = parse_json!(t)\nz = parse_json!(t)\n.n = [x, y, z]", objects()),
    ]);
    assert_small(&[
        ("x = {\"a\": 1}\nfor_each(array!(.a)) -> |_i, _v| { x = {\"a\": x, \"b\": x} }\n.x = x", numbers()),
        (". = {\"a\": ., \"b\": .}", objects()),
        (".a = to_entries(array!(.a))", numbers()),
        (".b = tag_types_externally(.a)", numbers()),
    ]);
}

#[test]
fn expansions_of_a_text_stay_within_the_memory_of_the_process() {
    let unpacked = |rest: &str| -> &'static str {
        Box::leak(format!("s = decode_zlib!(decode_base64!(.z))\n{rest}").into_boxed_str())
    };
    assert_small(&[
        (unpacked(".p = split(s, \"\")"), unit(b"a")),
        (unpacked(".p = parse_csv!(s)"), unit(b",")),
        (unpacked(".p = parse_regex_all!(s, r'(?P<x>.)')"), unit(b"a")),
        (unpacked(".p = parse_yaml!(s)"), packed(&[&b"["[..], &b"1,".repeat(TEXT / 2 - 2), b"1]"].concat())),
        (unpacked(".p = parse_grok!(s, \"%{GREEDYDATA:a}\")"), unit(b"a")),
    ]);
    assert_small(&[
        (unpacked(".p = parse_cbor!(s)"), packed(&b"\xa1\x60\x01".repeat(TEXT / 3))),
        (unpacked(".p = parse_influxdb!(s)"), unit(b"m,a=1 b=1\n")),
        (unpacked(".p = redact(s, filters: [r'a', r'[A-Z]'])"), unit(b"a")),
        (unpacked(".p = replace_with(s, r'a') -> |_m| { \"0123456789\" }"), unit(b"a")),
        (unpacked(".p = encode_percent(s, ascii_set: \"NON_ALPHANUMERIC\")"), unit(b" ")),
    ]);
    assert_small(&[
        (unpacked(".p = s * 1000"), unit(b"a")),
        (unpacked(".p = s + s + s + s + s + s + s + s + s"), unit(b"a")),
        (unpacked(".p = encode_base64(encode_zstd(s, compression_level: 22))"), unit(b"a")),
        (".p = format_number(1.5, scale: 10000000000)", "{}".to_owned()),
        (unpacked("k = s\n.p = encode_key_value(set!({}, [k], [1, 2, 3, 4, 5, 6, 7, 8, 9]))"), unit(b"a")),
    ]);
}
