//! Events that are sent over HTTP: an answer of success is true, whatever happens to the process or its log, and whoever
//! sends what cannot be taken is told why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use weir::component::{BuildContext, PushLog, Pushed};
use weir::event::{Codec, Timestamp};
use weir::state::DirStorage;
use weir_tests::campaign::Campaign;
use weir_tests::command::weir as weir_says;
use weir_tests::process::{Home, Weir};
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{Over, PATIENCE, beside, found, moment, now_and_then, until};

const SENDERS: u64 = 10;
const BATCH: u64 = 20;

const TO_FILE: &str = r#"name: push
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
"#;

const TO_NOWHERE: &str = r#"name: push
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events, max_size: 11GiB, decoding: raw}
sinks:
  out: {type: blackhole, inputs: [in]}
"#;

/// Nobody reads the other end of the pipe.
const TO_PIPE: &str = r#"name: push
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events, max_body_size: 64KiB, max_size: 1MiB}
sinks:
  out: {type: console, inputs: [in]}
"#;

fn start(home: &Home, address: SocketAddr, set: &[&str]) -> Weir {
    let listen = format!("sources.in.listen={address}");
    let weir = home.start_with("weir", &[&[&*listen], set].concat(), &[], Stdio::piped());
    found("the source to listen", PATIENCE, || Sender::connect(address).ok());
    weir
}

fn id(sender: u64, number: u64) -> u64 {
    sender << 32 | number
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_u64()).collect()
}

#[test]
fn what_was_answered_for_is_in_the_output_however_often_the_process_is_killed() {
    let mut campaign = Campaign::of("push");
    let span = campaign.span(Duration::from_secs(60), Duration::from_secs(4));
    let home = Home::new(TO_FILE);
    let address = free_address();
    let send = |sender: u64, over: &Over| {
        let (mut taken, mut number, mut connection) = (Vec::new(), 0, None);
        while !over.is() {
            let Some(open) = &mut connection else {
                connection = Sender::connect(address).ok();
                moment();
                continue;
            };
            let batch: Vec<u64> = (number..number + BATCH).map(|number| id(sender, number)).collect();
            number += BATCH;
            let body: String = batch.iter().map(|id| format!("{{\"id\":{id},\"pad\":\"{:->400}\"}}\n", "")).collect();
            match Sender::post(open, &["Content-Type: application/x-ndjson"], body.as_bytes()) {
                Ok(answer) if answer.status == 200 => taken.extend(batch),
                Ok(answer) => panic!("{answer:?}"),
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
    until("everything that was answered for to be in the output", PATIENCE, || {
        out = ids(&std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default());
        let there: BTreeSet<u64> = out.iter().copied().collect();
        taken.iter().all(|id| there.contains(id))
    });
    println!("push: {kills} kills, {} events answered for, {} lines", taken.len(), out.len());
    weir.unwrap().stop(PATIENCE);
    let says = weir_says(&home.path(""), &["buffer", "check", "graph.yaml", "--set", "data_dir=weir"]).exits(0);
    assert!(says.out.contains("all of them can be read"), "{}", says.out);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_request_is_taken_as_a_whole_or_refused_with_cause_and_remedy() {
    let options = "path: /events, auth: {strategy: bearer, token: opensesame}, max_body_size: 64KiB, timeout: 300ms";
    let home = Home::new(&TO_FILE.replace("path: /events", options));
    let address = free_address();
    let weir = start(&home, address, &[]);
    let post = |headers: &[&str], body: &[u8]| {
        let headers = [headers, &["Authorization: bearer opensesame"]].concat();
        Sender::connect(address).unwrap().post(&headers, body).unwrap()
    };
    let refused = |status: u16, says: &str, headers: &[&str], body: &[u8]| {
        let answer = post(headers, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(says), "{says}: {answer:?}");
    };
    let lines = "Content-Type: application/x-ndjson";
    let zipped = "Content-Encoding: gzip";
    assert_eq!(post(&[], br#" [{"id": 1}, {"id":2}] "#).body, "{\"accepted\":2}\n");
    assert_eq!(post(&[lines, zipped], &gzip(b"{\"id\":3}\n\n{\"id\":4}\r\n")).body, "{\"accepted\":2}\n");
    refused(400, "line 2, byte 7: expected a value", &[lines], b"{\"id\":5}\n{\"id\":}\n");
    refused(400, "application/x-ndjson", &[], b"{\"id\":5}\n{\"id\":6}\n");
    refused(400, "gzip", &[zipped], b"{}");
    refused(413, "raise max_body_size", &[], &[b' '; 100 << 10]);
    refused(413, "raise max_body_size", &[zipped], &gzip(&[b' '; 10 << 20]));
    refused(415, "gzip", &["Content-Encoding: br"], b"{}");
    let mut stranger = Sender::connect(address).unwrap();
    let answer = stranger.post(&["Authorization: Bearer opensesamE"], b"{}").unwrap();
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    // Who sends the body slowly is told so; who does not even send a head is cut off.
    let mut slow = Sender::connect(address).unwrap();
    slow.send(b"POST /events HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer opensesame\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    assert_eq!(slow.answer().unwrap().status, 408);
    let mut silent = Sender::connect(address).unwrap();
    silent.send(b"POST /ev").unwrap();
    assert!(silent.answer().is_err());
    until("what was taken to be written", PATIENCE, || {
        std::fs::read_to_string(home.path("out.ndjson")).unwrap_or_default().lines().count() == 4
    });
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    assert_eq!(out, "{\"id\": 1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n");
    assert!(!weir.log().contains("opensesame"));
    weir.stop(PATIENCE);
}

#[test]
fn too_many_connections_and_a_full_log_are_told_to_come_back() {
    let home = Home::new(TO_PIPE);
    let address = free_address();
    let mut weir = start(&home, address, &["sources.in.max_connections=2"]);
    let mut open: Vec<Sender> = Vec::new();
    let busy = found("the third connection to be turned away", PATIENCE, || {
        let mut sender = Sender::connect(address).unwrap();
        let answer = sender.post(&[], b"7").unwrap();
        open.push(sender);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((busy.status, busy.header("retry-after"), open.len()), (503, Some("1"), 3));
    open.truncate(1);

    let body = format!("{{\"pad\":\"{:->60000}\"}}", "");
    let mut taken = 2;
    let full = found("the log to be full", PATIENCE, || {
        let answer = open[0].post(&[], body.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        taken += u64::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((full.status, full.header("retry-after")), (503, Some("5")));
    assert!(full.body.contains("raise max_size") && taken > 5, "{full:?}");
    until("/ready to name it", PATIENCE, || weir.get("/ready").1.contains("in: the log holds"));
    // Once somebody reads there is room again, and nothing of what was taken is missing.
    let mut lines = BufReader::new(weir.stdout()).lines();
    for _ in 0..taken {
        lines.next().unwrap().unwrap();
    }
    drop(lines);
    found("room in the log", PATIENCE, || {
        Sender::connect(address).ok()?.post(&[], b"8").ok().filter(|answer| answer.status == 200)
    });
    weir.stop(PATIENCE);
}

#[test]
fn two_sources_on_one_port_are_refused_with_a_reason() {
    let home = Home::new(TO_FILE);
    let address = free_address();
    let first = start(&home, address, &[]);
    let mut second = home.start("second", &[&format!("sources.in.listen={address}")]);
    assert_eq!(second.wait(PATIENCE).code(), Some(78));
    assert!(second.log().contains("choose another `listen`"), "{}", second.log());
    let doctor = || {
        let set = format!("sources.in.listen={address}");
        weir_says(&home.path(""), &["doctor", "graph.yaml", "--set", &set])
    };
    let running = doctor();
    assert!(running.out.contains(&format!("a weir listens on {address} already")), "{running:?}");
    first.stop(PATIENCE);
    let other = TcpListener::bind(address).unwrap();
    let taken = std::thread::scope(|scope| {
        let asked = scope.spawn(doctor);
        // Who is asked hangs up.
        other.set_nonblocking(true).unwrap();
        drop(found("the doctor to ask", PATIENCE, || other.accept().ok()));
        asked.join().unwrap()
    });
    assert!(taken.out.contains(&format!("{address} cannot be listened on")), "{taken:?}");
}

#[test]
fn a_long_backlog_is_gone_on_with_at_once_and_in_little_memory() {
    let campaign = Campaign::of("backlog");
    let bytes = campaign.count(5 << 30);
    let home = Home::new(TO_PIPE);
    let dir = home.data_dir("weir").join("push/in");
    let (mut context, _rejected) = BuildContext::detached("in");
    context.storage = std::sync::Arc::new(DirStorage::open(&dir).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let body = vec![b'-'; 450];
    let (log, origin) = PushLog::open(&context, 2 * (5 << 30), Codec::Raw).unwrap();
    runtime.block_on(async {
        for _ in 0..bytes / (450 * 10_000) {
            let mut pushed = Pushed::new(Timestamp(0));
            (0..10_000).for_each(|_| pushed.push(&body));
            log.append(pushed).await.unwrap();
        }
    });
    drop((log, origin));
    // It may have to be built.
    let _ = weir_tests::process::binary();
    let begun = Instant::now();
    let set = ["sources.in.max_size=11GiB", "sources.in.decoding=raw", "sinks.out.encoding=raw", "memory=8MiB"];
    let mut weir = start(&home, free_address(), &set);
    let mut first = [0; 451];
    weir.stdout().read_exact(&mut first).unwrap();
    let (took, rss) = (begun.elapsed(), weir.rss());
    println!("backlog: {bytes} bytes, the first event after {took:?}, {} MiB resident", rss >> 20);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(rss < 64 << 20, "{rss}");
    weir.kill();
    let (plainly, drained) = (read_plainly(&dir), drain(&home, &dir, bytes / 450 / 10_000 * 10_000));
    println!("backlog: read plainly in {plainly:.2?}, drained in {drained:.2?}");
    // A small one is over before it has begun.
    assert!(!campaign.is_full() || drained < plainly * 2, "{plainly:?} and {drained:?}");
}

/// Takes the log out of the machine's memory, and reads its files one after the other.
fn read_plainly(dir: &Path) -> Duration {
    let files = out_of_memory(dir);
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    for file in files {
        let mut file = File::open(file).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
    begun.elapsed()
}

/// Takes the log out of the machine's memory, and has weir read all of it.
fn drain(home: &Home, dir: &Path, events: u64) -> Duration {
    out_of_memory(dir);
    std::fs::write(home.path("graph.yaml"), TO_NOWHERE).unwrap();
    let begun = Instant::now();
    let weir = home.start("weir", &[]);
    until("the backlog to be drained", PATIENCE, || weir.events("out", "passed") >= events);
    let took = begun.elapsed();
    weir.stop(PATIENCE);
    took
}

/// The files of a folder, none of which the machine's memory holds.
fn out_of_memory(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let (dirs, mut here): (Vec<_>, Vec<_>) =
            dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).partition(|path| path.is_dir());
        here.sort();
        open.extend(dirs);
        files.extend(here);
    }
    assert!(files.len() > 1, "{files:?}");
    for file in &files {
        File::open(file).unwrap().sync_all().unwrap();
        let mut of = std::ffi::OsString::from("if=");
        of.push(file);
        let dropped = Command::new("dd").arg(of).args(["iflag=nocache", "count=0", "status=none"]).status().unwrap();
        assert!(dropped.success());
    }
    files
}
