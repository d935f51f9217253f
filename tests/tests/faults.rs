//! Disks that fill up, folders that go away, two who want one folder: nothing that was answered for is lost without a word,
//! and when the fault is over weir goes on.
//!
//! Full disks are file systems of their own in memory. Who may not mount one runs the test again in a name space where he may.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use weir_tests::command::weir as weir_says;
use weir_tests::process::{Home, Weir, binary};
use weir_tests::push::{Sender, free_address};
use weir_tests::wait::{PATIENCE, found, until};

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: the test `name` was run elsewhere, and passed.
    fn mount(dir: &Path, size: &str, name: &str) -> Option<SmallDisk> {
        const ELSEWHERE: &str = "WEIR_TEST_ELSEWHERE";
        fs::create_dir_all(dir).unwrap();
        let mount = ["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "weir-test"];
        if Command::new("mount").args(mount).arg(dir).status().unwrap().success() {
            return Some(SmallDisk(dir.to_owned()));
        }
        assert!(
            std::env::var_os(ELSEWHERE).is_none(),
            "a tmpfs cannot be mounted, not even in a name space of its own"
        );
        let mut again = Command::new("unshare");
        again.arg("-Urm").arg(std::env::current_exe().unwrap()).args(["--exact", name]);
        let status = again.env(ELSEWHERE, "1").env("WEIR_BIN", binary()).status().unwrap();
        assert!(status.success(), "{name} in a name space of its own: {status}");
        None
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while somebody has a file of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Nobody reads the other end of the pipe.
const TO_PIPE: &str = r#"name: push
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events, max_body_size: 64KiB, max_size: 64MiB}
sinks:
  out: {type: console, inputs: [in]}
"#;

const TO_FILE: &str = r#"name: push
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
"#;

fn start(home: &Home, address: SocketAddr, set: &[&str]) -> Weir {
    let listen = format!("sources.in.listen={address}");
    let weir = home.start_with("weir", &[&[&*listen], set].concat(), &[], Stdio::piped());
    found("the source to listen", PATIENCE, || Sender::connect(address).ok());
    weir
}

fn post(address: SocketAddr, body: &str) -> (u16, String) {
    let answer = Sender::connect(address).unwrap().post(&[], body.as_bytes()).unwrap();
    (answer.status, answer.body)
}

/// An event that no pipe holds two of.
fn large(n: u64) -> String {
    format!("{{\"n\":{n},\"pad\":\"{:->60000}\"}}", "")
}

fn until_not_ready(weir: &Weir, says: &str) {
    until(says, PATIENCE, || weir.get("/ready").1.contains(says));
}

fn log_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let logs = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|entry| entry.metadata().unwrap().len()).sum()
}

fn lines_of(home: &Home, file: &str) -> usize {
    fs::read_to_string(home.path(file)).unwrap_or_default().lines().count()
}

#[test]
fn a_push_log_on_a_full_disk_is_freed_by_delivery_and_sends_nothing_again() {
    let name = "a_push_log_on_a_full_disk_is_freed_by_delivery_and_sends_nothing_again";
    let home = Home::new(TO_PIPE);
    let Some(_disk) = SmallDisk::mount(&home.path("weir"), "2m", name) else { return };
    let address = free_address();
    let mut weir = start(&home, address, &[]);
    let mut taken = 0;
    let why = loop {
        match post(address, &large(taken)) {
            (200, _) => taken += 1,
            refused => break refused,
        }
    };
    assert!(taken > 20 && why.0 == 503 && why.1.contains("No space left"), "{taken} {why:?}");
    until_not_ready(&weir, "push-log");
    let mut lines = BufReader::new(weir.stdout()).lines();
    for _ in 0..taken {
        lines.next().unwrap().unwrap();
    }
    drop(lines);
    // Nobody sends anything meanwhile.
    weir.until_ready(PATIENCE);
    let dir = home.path("weir/push/in/push-log");
    until("the log to be freed", PATIENCE, || log_bytes(&dir) < 100_000);
    assert_eq!(post(address, "{\"n\":7}").0, 200);
    until("the last event", PATIENCE, || weir.events("out", "passed") == taken + 1);
    weir.stop(PATIENCE);
    let mut again = home.start_with("weir", &[], &["--once"], Stdio::piped());
    let mut out = String::new();
    again.stdout().read_to_string(&mut out).unwrap();
    assert_eq!((again.wait(PATIENCE).code(), &*out), (Some(0), ""));
}

#[test]
fn nothing_is_answered_for_while_the_log_is_not_where_it_was() {
    let home = Home::new(TO_FILE);
    let address = free_address();
    let weir = start(&home, address, &[]);
    let (log, aside) = (home.path("weir/push/in/push-log"), home.path("aside"));
    assert_eq!(post(address, "{\"n\":1}").0, 200);
    until("the event", PATIENCE, || lines_of(&home, "out.ndjson") == 1);
    fs::rename(&log, &aside).unwrap();
    // Also while nobody sends anything.
    until_not_ready(&weir, "push-log was removed or replaced while weir uses it: put it back");
    let refused = post(address, "{\"n\":2}");
    assert!(refused.0 == 503 && refused.1.contains("put it back, or start weir again"), "{refused:?}");
    fs::rename(&aside, &log).unwrap();
    weir.until_ready(PATIENCE);
    assert_eq!(post(address, "{\"n\":3}").0, 200);
    until("the event that was answered for", PATIENCE, || lines_of(&home, "out.ndjson") == 2);
    fs::remove_dir_all(&log).unwrap();
    until_not_ready(&weir, "push-log was removed or replaced");
    assert_eq!(post(address, "{\"n\":4}").0, 503);
    weir.kill();
    let weir = start(&home, address, &[]);
    assert_eq!(post(address, "{\"n\":5}").0, 200);
    until("the next event", PATIENCE, || lines_of(&home, "out.ndjson") == 3);
    weir.stop(PATIENCE);
}

#[test]
fn what_a_push_log_has_lost_at_its_end_is_counted() {
    const SENT: u64 = 6;
    let home = Home::new(TO_PIPE);
    let address = free_address();
    let weir = start(&home, address, &[]);
    (0..SENT).for_each(|n| assert_eq!(post(address, &large(n)).0, 200));
    weir.kill();
    let args = ["buffer", "inspect", "graph.yaml", "--format", "json", "--set", "data_dir=weir"];
    let waiting = weir_says(&home.path(""), &args).exits(0).json()["waiting"].as_u64().unwrap();
    assert!(waiting >= SENT - 2, "{waiting}");
    let file = home.path("weir/push/in/push-log").join(format!("{:020}.log", 0));
    fs::write(&file, vec![0; fs::metadata(&file).unwrap().len() as usize]).unwrap();
    let check = ["buffer", "check", "graph.yaml", "--set", "data_dir=weir"];
    let says = weir_says(&home.path(""), &check).exits(1).err;
    assert!(says.contains(&format!("{SENT} records known to be lost")), "{says}");
    let weir = start(&home, address, &[]);
    let lost = || weir.metric("weir_log_lost_records_total{node=\"in\"}");
    until("the records to be counted", PATIENCE, || lost() == Some(waiting));
    assert!(weir.log().contains("the log is damaged"), "{}", weir.log());
}

#[test]
fn a_buffer_on_a_full_disk_goes_on_once_its_sink_does() {
    const EVENTS: u64 = 10_000;
    let name = "a_buffer_on_a_full_disk_goes_on_once_its_sink_does";
    let home = Home::new(
        "name: buffered\nsources:\n  in: {type: file, paths: [in.ndjson]}\nsinks:\n  \
         out: {type: console, inputs: [in], buffer: {type: disk, max_size: 64MiB}}\n",
    );
    let Some(_disk) = SmallDisk::mount(&home.path("weir"), "1m", name) else { return };
    let lines: String = (0..EVENTS).map(|n| format!("{{\"n\":{n},\"pad\":\"{:->200}\"}}\n", "")).collect();
    fs::write(home.path("in.ndjson"), lines).unwrap();
    let mut weir = home.start_with("weir", &[], &[], Stdio::piped());
    until_not_ready(&weir, "No space left");
    let mut out = String::new();
    weir.stdout().read_to_string(&mut out).unwrap();
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    let seen = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap());
    assert!(seen.eq(0..EVENTS), "each once and in order");
    let args = ["buffer", "inspect", "graph.yaml", "--format", "json", "--set", "data_dir=weir"];
    assert_eq!(weir_says(&home.path(""), &args).exits(0).json()["waiting"], 0);
}

const REJECTING: &str = r#"name: rejecting
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events}
transforms:
  number: {type: remap, inputs: [in], source: '.n = to_int!(.n)'}
sinks:
  out: {type: file, inputs: [number], path: out.ndjson}
dead_letters: {path: letters}
"#;

fn letters(home: &Home) -> usize {
    let args = ["dlq", "export", "graph.yaml", "--set", "data_dir=weir"];
    weir_says(&home.path(""), &args).exits(0).out.lines().count()
}

#[test]
fn dead_letters_on_a_full_disk_wait_and_are_all_there_when_it_has_room() {
    let name = "dead_letters_on_a_full_disk_wait_and_are_all_there_when_it_has_room";
    let home = Home::new(REJECTING);
    let Some(disk) = SmallDisk::mount(&home.path("letters"), "256k", name) else { return };
    let address = free_address();
    let weir = start(&home, address, &[]);
    disk.fill();
    assert_eq!(post(address, "{\"n\":\"one\"}").0, 200);
    until_not_ready(&weir, "dead letters in letters cannot be written: No space left");
    disk.free();
    weir.until_ready(PATIENCE);
    assert_eq!(letters(&home), 1);
    weir.stop(PATIENCE);
}

#[test]
fn a_folder_of_dead_letters_has_one_owner_whoever_removes_files_from_it() {
    let home = Home::new(REJECTING);
    let address = free_address();
    let weir = start(&home, address, &[]);
    let refused = |instance: &str, set: &str, says: &str| {
        let mut other = home.start_with(instance, &[set, "sources.in.listen=127.0.0.1:0"], &[], Stdio::piped());
        assert_eq!(other.wait(PATIENCE).code(), Some(78), "{}", other.log());
        assert!(other.log().contains(says), "{}", other.log());
    };
    refused("other", "dead_letters.path=letters", "another graph or process writes to letters");
    for entry in fs::read_dir(home.path("weir/rejecting")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    refused("weir", "dead_letters.path=others", "another weir uses it");
    assert_eq!(post(address, "{\"n\":\"one\"}").0, 200);
    until("the letter", PATIENCE, || letters(&home) == 1);
    fs::rename(home.path("letters"), home.path("aside")).unwrap();
    until_not_ready(&weir, "letters was removed or replaced while weir uses it");
    assert_eq!(post(address, "{\"n\":\"two\"}").0, 200);
    until_not_ready(&weir, "dead_letters: dead letters in letters cannot be written");
    fs::rename(home.path("aside"), home.path("letters")).unwrap();
    weir.until_ready(PATIENCE);
    assert_eq!(letters(&home), 2);
    weir.stop(PATIENCE);
}

const ONCE_EACH: &str = r#"name: each
checkpoint_every: 50ms
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events}
transforms:
  once: {type: dedupe, inputs: [in], key: .n, within: 1h}
sinks:
  out: {type: file, inputs: [once], path: out.ndjson}
"#;

#[test]
fn a_checkpoint_that_a_full_disk_refuses_ends_the_run_and_the_next_goes_on_before_it() {
    let name = "a_checkpoint_that_a_full_disk_refuses_ends_the_run_and_the_next_goes_on_before_it";
    let home = Home::new(ONCE_EACH);
    let state = home.path("weir/each/.state");
    let Some(disk) = SmallDisk::mount(&state, "4m", name) else { return };
    let address = free_address();
    let mut weir = start(&home, address, &[]);
    assert_eq!(post(address, "{\"n\":1}").0, 200);
    until("the first event", PATIENCE, || lines_of(&home, "out.ndjson") == 1);
    disk.fill();
    until("a checkpoint to fail", PATIENCE, || {
        // Until the last page of the store is full, which it has taken before.
        let _ = Sender::connect(address).and_then(|mut sender| sender.post(&[], large(2).as_bytes()));
        weir.has_ended()
    });
    assert_eq!(weir.wait(PATIENCE).code(), Some(1));
    let log = weir.log();
    assert!(
        log.contains("a checkpoint cannot be written") && log.contains("make room") && log.contains(".state"),
        "{log}"
    );
    disk.free();
    let weir = start(&home, address, &[]);
    assert_eq!(post(address, "{\"n\":1}").0, 200);
    assert_eq!(post(address, "{\"n\":3}").0, 200);
    let out = || fs::read_to_string(home.path("out.ndjson")).unwrap();
    until("the last event", PATIENCE, || out().contains("{\"n\":3}"));
    assert_eq!(out().matches("{\"n\":1}").count(), 1, "what was seen before is known");
    weir.stop(PATIENCE);
}

#[test]
fn other_users_can_read_nothing_that_weir_keeps_whatever_the_umask() {
    let home = Home::new(
        r#"name: kept
sources:
  in: {type: http, listen: "127.0.0.1:0", path: /events}
  lines: {type: file, paths: [in.ndjson]}
transforms:
  once: {type: dedupe, inputs: [in, lines], key: .n, within: 1h}
  number: {type: remap, inputs: [once], source: '.n = to_int!(.n)'}
sinks:
  out: {type: file, inputs: [number], path: out.ndjson, buffer: {type: disk, max_size: 4MiB}}
dead_letters: {path: letters/of/kept}
"#,
    );
    fs::write(home.path("in.ndjson"), "{\"n\":1}\n{\"n\":\"one\"}\n").unwrap();
    let address = free_address();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(binary()).args([
        "run",
        "graph.yaml",
        "--set",
        "data_dir=weir",
    ]);
    command.arg("--set").arg(format!("sources.in.listen={address}")).current_dir(home.path(""));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    found("the source to listen", PATIENCE, || Sender::connect(address).ok());
    assert_eq!(post(address, "{\"n\":2}").0, 200);
    until("the output", PATIENCE, || lines_of(&home, "out.ndjson") == 2 && letters(&home) == 1);
    until("the admin socket", PATIENCE, || home.path("weir/kept/admin.sock").exists());
    let mut seen = Vec::new();
    let mut folders = vec![home.path("weir"), home.path("letters/of")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // What was being written beside may have its name by now.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
            folders.extend(metadata.is_dir().then(|| path.clone()));
            seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    for name in ["push-log", "buffer", "position", "end", ".state", "admin.sock", "kept"] {
        assert!(seen.iter().any(|seen| seen == name), "no {name} among {seen:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
