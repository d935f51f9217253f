//! Events that are sent by Lumberjack, into whole graphs: what is acknowledged is in the output, whatever happens to the
//! process, and whoever sends what he should not costs nobody else anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use weir_filebeat::lumberjack::encode::{batch, compressed, event, window};
use weir_tests::campaign::Campaign;
use weir_tests::command::weir as weir_says;
use weir_tests::lumberjack::Lumberjack;
use weir_tests::process::{Home, Weir};
use weir_tests::push::free_address;
use weir_tests::wait::{Over, PATIENCE, beside, found, moment, now_and_then, until};

const SENDERS: u64 = 8;
const BATCH: u64 = 50;

const TO_FILE: &str = r#"name: lumberjack
sources:
  in: {type: filebeat, listen: "127.0.0.1:0"}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
"#;

fn start(home: &Home, address: SocketAddr, set: &[&str]) -> Weir {
    let listen = format!("sources.in.listen={address}");
    let weir = home.start("weir", &[&[&*listen], set].concat());
    found("the source to listen", PATIENCE, || Lumberjack::connect(address).ok());
    weir
}

/// A line as Filebeat sends it.
fn line(host: u64, number: u64) -> String {
    json!({
        "@timestamp": "2026-01-02T03:04:05.678Z",
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": "7.17.28"},
        "agent": {"id": format!("host-{host}")},
        "log": {"offset": number * 100, "file": {"path": "/var/log/a.log"}},
        "message": format!("line {number} {:->300}", ""),
    })
    .to_string()
}

fn lines(home: &Home) -> Vec<String> {
    let text = std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

fn until_lines(home: &Home, count: usize) -> Vec<String> {
    found(&format!("{count} lines in the output"), PATIENCE, || Some(lines(home)).filter(|all| all.len() >= count))
}

#[test]
fn what_was_acknowledged_is_in_the_output_however_often_the_process_is_killed() {
    let mut campaign = Campaign::of("lumberjack");
    let span = campaign.span(Duration::from_secs(60), Duration::from_secs(4));
    let home = Home::new(TO_FILE);
    let address = free_address();
    let send = |sender: u64, over: &Over| {
        let (mut taken, mut number, mut connection) = (Vec::new(), 0, None);
        while !over.is() {
            let Some(open) = &mut connection else {
                connection = Lumberjack::connect(address).ok();
                moment();
                continue;
            };
            let batch: Vec<String> = (number..number + BATCH).map(|number| line(sender, number)).collect();
            number += BATCH;
            match open.publish(batch.iter().map(String::as_str)) {
                Ok(()) => taken.extend(batch),
                Err(_) => connection = None,
            }
        }
        taken
    };
    let mut weir = Some(start(&home, address, &[]));
    let (kills, taken) = beside(SENDERS, send, || {
        now_and_then(&mut campaign.random, span, || {
            weir.take().unwrap().kill();
            weir = Some(start(&home, address, &[]));
        })
    });
    let taken = taken.concat();
    assert!(taken.len() > 1000, "only {} events were taken", taken.len());
    let mut out = Vec::new();
    until("everything that was acknowledged to be in the output", PATIENCE, || {
        out = lines(&home);
        let there: BTreeSet<&str> = out.iter().map(String::as_str).collect();
        taken.iter().all(|line| there.contains(&**line))
    });
    println!("lumberjack: {kills} kills, {} events acknowledged, {} lines", taken.len(), out.len());
    weir.unwrap().stop(PATIENCE);
    let says = weir_says(&home.path(""), &["buffer", "check", "graph.yaml", "--set", "data_dir=weir"]).exits(0);
    assert!(says.out.contains("all of them can be read"), "{}", says.out);
}

const HOSTILE: &str = r#"name: hostile
sources:
  in:
    type: filebeat
    listen: "127.0.0.1:0"
    timeout: 1s
    idle_timeout: 2s
    max_connections: 200
    max_window: 5000
    max_frame_size: 1MiB
    max_decompressed_size: 8MiB
    max_size: 64MiB
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
"#;

/// Frames that claim to be so long.
fn claim(kind: u8, length: u32) -> Vec<u8> {
    let mut frame = vec![b'2', kind];
    if kind == b'J' {
        frame.extend(1_u32.to_be_bytes());
    }
    frame.extend(length.to_be_bytes());
    frame
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compressed(bytes, 9, &mut out);
    out
}

/// A compressed frame of which the half has come, with almost all of a large event in it.
fn half_a_bomb() -> Vec<u8> {
    let mut frame = claim(b'J', 1 << 20);
    frame.extend(vec![b' '; (1 << 20) - 1]);
    [&claim(b'C', 1 << 19)[..], &packed(&frame)[6..]].concat()
}

/// What somebody sends, and by which reason he is let go of.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let in_window = |count: u32, frames: &[u8]| {
        let mut bytes = Vec::new();
        window(count, &mut bytes);
        bytes.extend(frames);
        bytes
    };
    let mut two = Vec::new();
    (1..=2).for_each(|sequence| event(sequence, b"{\"hostile\":true}", &mut two));
    let (one, _) = two.split_at(two.len() / 2);
    // Blanks that unfold to 20 MiB in one window.
    let mut large = Vec::new();
    let body = format!(r#"{{"hostile":"{:4096}"}}"#, "");
    (1..=5000).for_each(|sequence| event(sequence, body.as_bytes(), &mut large));
    let half_a_bomb = half_a_bomb();
    vec![
        ("version_1", b"1W\0\0\0\x01".to_vec()),
        ("not_lumberjack", b"GET /_bulk HTTP/1.1\r\nHost: weir\r\n\r\n".to_vec()),
        ("not_lumberjack", b"an ordinary line of text\n".to_vec()),
        ("not_lumberjack", in_window(1, b"2D\0\0\0\x01\0\0\0\x01")),
        ("tls_not_expected", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("window_too_large", in_window(u32::MAX, &[])),
        ("window_too_large", in_window(5001, &[])),
        ("frame_too_large", in_window(1, &claim(b'J', u32::MAX))),
        ("decompressed_too_large", in_window(1, &claim(b'C', u32::MAX))),
        ("decompressed_too_large", in_window(5000, &packed(&large))),
        ("frame_too_large", in_window(1, &packed(&claim(b'J', 2 << 20)))),
        ("nested", in_window(1, &packed(&packed(one)))),
        ("bad_compression", in_window(1, &[&claim(b'C', 8)[..], b"not zlib"].concat())),
        ("bad_compression", in_window(1, &packed(&one[..one.len() - 1]))),
        // Fewer events than the window says, and more.
        ("bad_window", in_window(2, &[one, b"2W\0\0\0\x01"].concat())),
        ("bad_window", two.clone()),
        // Half of something, and silence.
        ("slow", in_window(2, one)),
        ("slow", claim(b'J', 1 << 20)),
        ("slow", in_window(1, &half_a_bomb)),
        ("idle", Vec::new()),
    ]
}

fn ended(weir: &Weir, reason: &str) -> u64 {
    let name = format!("weir_filebeat_ended_connections_total{{node=\"in\",reason=\"{reason}\"}}");
    weir.metric(&name).unwrap_or(0)
}

#[test]
fn hostile_senders_are_counted_and_let_go_of_in_little_memory_and_cost_nobody_else_anything() {
    let home = Home::new(HOSTILE);
    let address = free_address();
    let weir = start(&home, address, &[]);
    let before = weir.rss();
    let friend = |_, over: &Over| {
        let (mut sent, mut friend) = (Vec::new(), Lumberjack::connect(address).unwrap());
        while !over.is() {
            let batch: Vec<String> = (0..20).map(|number| line(0, sent.len() as u64 + number)).collect();
            friend.publish(batch.iter().map(String::as_str)).unwrap();
            sent.extend(batch);
            moment();
        }
        sent
    };
    let ((), sent) = beside(1, friend, || {
        for round in 1..=3_u64 {
            let waiting: Vec<_> = attacks()
                .into_iter()
                .map(|(reason, bytes)| {
                    let mut sender = Lumberjack::connect(address).unwrap();
                    // It may be closed before all of it is sent.
                    let _ = sender.send(&bytes);
                    (reason, sender)
                })
                .collect();
            for (reason, mut sender) in waiting {
                sender.until_closed().unwrap_or_else(|error| panic!("{reason}: {error}"));
            }
            for reason in attacks().iter().map(|(reason, _)| *reason).collect::<BTreeSet<_>>() {
                let expected = round * attacks().iter().filter(|(other, _)| *other == reason).count() as u64;
                until(&format!("{expected} connections to be counted as {reason}"), PATIENCE, || {
                    // Besides, the first connection of all, which only looked whether somebody listens, may have been idle.
                    let count = ended(&weir, reason);
                    count == expected || (reason == "idle" && count > expected)
                });
            }
        }
    });
    let sent = sent.concat();
    let log = weir.log();
    assert!(log.contains("version 1 of Lumberjack") && log.contains("send by Filebeat"), "{log}");
    // Of a window that turns out to be too large, the beginning may have been stored; what was sent by others is all there.
    let mut out = Vec::new();
    until("all that was acknowledged to be in the output", PATIENCE, || {
        out = lines(&home);
        out.retain(|line| !line.starts_with(r#"{"hostile":" "#));
        out.len() >= sent.len()
    });
    assert!(out == sent, "{} lines, {} were sent", out.len(), sent.len());
    let grown = weir.peak_rss().unwrap().saturating_sub(before);
    assert!(grown < 60 << 20, "it grew by {grown} bytes");
    weir.stop(PATIENCE);
}

#[test]
fn many_connections_that_say_nothing_or_little_make_room_for_others() {
    let home =
        Home::new(&HOSTILE.replace("timeout: 1s", "timeout: 2s").replace("idle_timeout: 2s", "idle_timeout: 1h"));
    let address = free_address();
    let weir = start(&home, address, &[]);
    let before = weir.rss();
    let silent: Vec<Lumberjack> = (0..200).map(|_| Lumberjack::connect(address).unwrap()).collect();
    // All places are taken: another gets one as soon as the first has been idle for some time.
    let this = [line(0, 0)];
    until("a sender to be let in", PATIENCE, || {
        Lumberjack::connect(address).is_ok_and(|mut sender| sender.publish(this.iter().map(String::as_str)).is_ok())
    });
    assert!(ended(&weir, "displaced") >= 1);
    drop(silent);
    // Those who have begun something are not idle, and not for long: 150 bombs that do not go off.
    let mut bytes = Vec::new();
    window(1, &mut bytes);
    bytes.extend(half_a_bomb());
    let bombs: Vec<Lumberjack> = (0..150)
        .map(|_| {
            let mut sender = Lumberjack::connect(address).unwrap();
            sender.send(&bytes).unwrap();
            sender
        })
        .collect();
    let that = [line(0, 1)];
    let mut friend = Lumberjack::connect(address).unwrap();
    friend.publish(that.iter().map(String::as_str)).unwrap();
    for mut bomb in bombs {
        bomb.until_closed().unwrap();
    }
    let out: BTreeSet<String> = until_lines(&home, 2).into_iter().collect();
    assert_eq!(out, this.into_iter().chain(that).collect());
    let grown = weir.peak_rss().unwrap().saturating_sub(before);
    assert!(grown < 160 << 20, "it grew by {grown} bytes");
    weir.stop(PATIENCE);
}

/// Nobody reads the other end of the pipe.
const TO_PIPE: &str = r#"name: pipe
sources:
  in: {type: filebeat, listen: "127.0.0.1:0", max_frame_size: 64KiB, max_size: 1MiB, max_decompressed_size: 1MiB}
sinks:
  out: {type: console, inputs: [in]}
"#;

#[test]
fn while_the_log_is_full_ready_says_so_and_senders_are_kept_waiting() {
    let home = Home::new(TO_PIPE);
    let address = free_address();
    let listen = format!("sources.in.listen={address}");
    let mut weir = home.start_with("weir", &[&*listen], &[], std::process::Stdio::piped());
    let mut sender = found("the source to listen", PATIENCE, || Lumberjack::connect(address).ok());
    let body: Vec<String> = (0..10).map(|number| line(number, 1)).collect();
    let window = batch(body.iter().map(|line| line.as_bytes()), Some(3));
    let mut taken = 0;
    loop {
        sender.send(&window).unwrap();
        match sender.acknowledged().unwrap() {
            10 => taken += 10,
            0 => break,
            other => panic!("{other}"),
        }
    }
    until("/ready to name the source", PATIENCE, || {
        let (status, text) = weir.get("/ready");
        status == 503 && text.contains("in") && text.contains("raise max_size")
    });
    // Somebody begins to read.
    let stdout = weir.stdout();
    let mut all = 0;
    let mut chunk = [0; 64 << 10];
    while all < taken + 10 {
        let count = std::io::Read::read(stdout, &mut chunk).unwrap();
        assert!(count > 0);
        all += chunk[..count].iter().filter(|byte| **byte == b'\n').count();
    }
    while sender.acknowledged().unwrap() != 10 {}
    weir.until_ready(PATIENCE);
    sender.stream().shutdown(Shutdown::Both).unwrap();
    weir.stop(PATIENCE);
}

const TWICE: &str = r#"name: twice
sources:
  in: {type: filebeat, listen: "127.0.0.1:0"}
transforms:
  look:
    type: remap
    inputs: [in]
    source: '. = {"offset": .log.offset, "beat": ."@metadata".beat}'
sinks:
  out: {type: file, inputs: [look], path: out.ndjson}
  odd: {type: file, inputs: [look.errors], path: odd.txt, encoding: raw}
"#;

#[test]
fn nodes_see_what_filebeat_sent_and_what_is_no_json_leaves_by_the_errors() {
    let home = Home::new(TWICE);
    let address = free_address();
    let weir = start(&home, address, &[]);
    let mut sender = Lumberjack::connect(address).unwrap();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&line(1, 2)).unwrap()).unwrap();
    let (first, last) = (line(1, 1), line(1, 3));
    sender.publish([&*first, "{\"message\": half", &*pretty, &*last]).unwrap();
    let out: Vec<Value> = until_lines(&home, 3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<Value> = (1..=3).map(|n| json!({"offset": n * 100, "beat": "filebeat"})).collect();
    assert_eq!(out, expected);
    until("what is no JSON to be where it belongs", PATIENCE, || {
        std::fs::read_to_string(home.path("odd.txt")).is_ok_and(|text| text == "{\"message\": half\n")
    });
    weir.stop(PATIENCE);
}
