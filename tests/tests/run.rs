//! `weir run` as a process: pipes, flags, signals, telemetry, and who may use a data folder.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use weir_tests::command::{log_lines, weir, weir_with};
use weir_tests::process::{Home, Weir};
use weir_tests::push::free_address;
use weir_tests::wait::{PATIENCE, until};

const PIPE: &str = r#"name: pipe
sources:
  in: {type: stdin}
transforms:
  keep: {type: filter, inputs: [in], condition: '.reason == "BackOff"'}
sinks:
  out: {type: console, inputs: [keep]}
"#;

/// Events without end, into a file, by way of a filter that lets about half of them pass.
const ENDLESS: &str = r#"name: endless
sources:
  in: {type: generate, rate: 20000, kind: events}
transforms:
  keep: {type: filter, inputs: [in], condition: '.event.type == "Normal" || .kubernetes.event.type == "Normal"'}
sinks:
  out: {type: file, inputs: [keep], path: out.ndjson}
"#;

/// Events without end, to a standard output that nobody reads.
const STUCK: &str = r#"name: stuck
sources:
  in: {type: generate}
sinks:
  out: {type: console, inputs: [in]}
"#;

const OUTCOMES: [&str; 6] = ["received", "passed", "filtered", "absorbed", "dead_lettered", "failed"];

/// The lines of a graph's books at the end of a log in JSON, by node and outcome.
fn books(logs: &[Value]) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of_node = |line: &Value| {
        let numbers = line.as_object().unwrap().iter();
        let numbers = numbers.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect();
        (line["node"].as_str().unwrap().to_owned(), numbers)
    };
    logs.iter().filter(|line| line["message"] == "event counts").map(of_node).collect()
}

fn lines(home: &Home, file: &str) -> usize {
    std::fs::read(home.path(file)).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_pipe_goes_through_byte_for_byte_and_ends_with_its_input() {
    let home = Home::new(PIPE);
    let kept = |n: u32| format!("{{ \"n\" :{n}.0, \"reason\":\"BackOff\" , \"text\":\"\\u00e4\\/ä\" }}\n");
    let other = |n: u32| format!("{{\"n\":{n},\"reason\":\"Pulled\"}}\n");
    let input: String = (0..5000).map(|n| if n % 3 == 0 { kept(n) } else { other(n) }).collect();
    let expected: String = (0..5000).step_by(3).map(kept).collect();
    for args in [&["run", "graph.yaml"][..], &["run", "--once", "graph.yaml"]] {
        let done = weir_with(home.path("").as_path(), args, &[], input.as_bytes()).exits(0);
        assert!(done.out == expected, "{args:?}: {} instead of {} bytes", done.out.len(), expected.len());
    }
    let unended = weir_with(home.path("").as_path(), &["run", "graph.yaml"], &[], b"{\"reason\":\"BackOff\"}").exits(0);
    assert_eq!(unended.out, "{\"reason\":\"BackOff\"}\n", "the last line needs no newline");
    assert_eq!(weir(home.path("").as_path(), &["run", "graph.yaml"]).exits(0).out, "", "nothing in, nothing out");
}

#[test]
fn set_and_the_environment_change_the_graph() {
    let home = Home::new(&PIPE.replace("BackOff", "${REASON:-BackOff}"));
    let input = b"{\"reason\":\"BackOff\",\"message\":\"one\"}\n{\"reason\":\"Pulled\",\"message\":\"two\"}\n";
    let ask = |args: &[&str], env: &[(&str, &str)]| {
        let args = [&["run", "graph.yaml"], args].concat();
        weir_with(home.path("").as_path(), &args, env, input).exits(0).out
    };
    assert_eq!(ask(&["--set", "sinks.out.encoding=text"], &[]), "one\n");
    assert_eq!(ask(&["--set", "sinks.out.encoding=text"], &[("REASON", "Pulled")]), "two\n");
    assert_eq!(ask(&["--set", "sinks.out.encoding=text", "--set", "sinks.out.inputs.0=in"], &[]), "one\ntwo\n");
}

#[test]
fn logs_in_json_are_json_to_the_last_line() {
    let home = Home::new(PIPE);
    // More dead letters than one place of the code may write lines.
    let input = "no json\n".repeat(50) + "{\"reason\":\"BackOff\"}\n";
    let args = ["run", "graph.yaml", "--log-format", "json"];
    let done = weir_with(home.path("").as_path(), &args, &[], input.as_bytes()).exits(0);
    let logs = done.logs();
    for line in &logs {
        assert!(line["level"].is_string() && line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    let letters = logs.iter().filter(|line| line["message"] == "dead letter").count();
    assert_eq!(letters, 10, "a flood is cut");
    let books = books(&logs);
    assert_eq!((books["keep"]["received"], books["keep"]["dead_lettered"], books["keep"]["passed"]), (51, 50, 1));
    assert_eq!((books["out"]["received"], books["out"]["passed"], books["out"]["in_flight"]), (1, 1, 0));
    assert_eq!(logs.last().unwrap()["clean"], true);

    let quiet = weir_with(home.path("").as_path(), &args, &[("WEIR_LOG", "error")], b"{}\n").exits(0);
    assert_eq!(quiet.err, "");
}

#[test]
fn once_into_a_file_gives_the_same_bytes_again_and_again() {
    let graph = ENDLESS.replace("rate: 20000", "count: 20000");
    let home = Home::new(&graph);
    let run = |args: &[&str]| {
        let _ = weir(home.path("").as_path(), &[&["run", "--once", "graph.yaml"], args].concat()).exits(0);
    };
    run(&[]);
    let first = std::fs::read(home.path("out.ndjson")).unwrap();
    assert!(first.len() > 1_000_000, "{} bytes", first.len());
    run(&[]);
    assert!(std::fs::read(home.path("out.ndjson")).unwrap() == first, "the same data folder");
    run(&["--set", "data_dir=other", "--set", "sinks.out.path=other.ndjson"]);
    assert!(std::fs::read(home.path("other.ndjson")).unwrap() == first, "another data folder");
}

#[test]
fn a_terminated_run_drains_and_everything_its_books_say_is_in_the_file() {
    for signal in ["TERM", "INT"] {
        let home = Home::new(ENDLESS);
        let mut weir = home.start_with("weir", &[], &["--log-format", "json"], Stdio::null());
        until("some output", PATIENCE, || lines(&home, "out.ndjson") >= 1000);
        weir.signal(signal);
        let status = weir.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{status}");

        let books = books(&log_lines(&weir.log()));
        for (node, counts) in &books {
            assert_eq!(counts["in_flight"], 0, "{node}");
        }
        let (made, kept) = (books["in"]["passed"], books["out"]["passed"]);
        assert_eq!((books["keep"]["received"], books["keep"]["passed"]), (made, kept));
        assert_eq!(lines(&home, "out.ndjson") as u64, kept);

        // The same events can be made again: the file holds what it should, to the byte.
        let again = ENDLESS.replace("rate: 20000", &format!("count: {made}")).replace("out.ndjson", "again.ndjson");
        std::fs::write(home.path("again.yaml"), again).unwrap();
        let _ = command(&home, &["run", "--once", "again.yaml"]).exits(0);
        let (stopped, whole) = (std::fs::read(home.path("out.ndjson")), std::fs::read(home.path("again.ndjson")));
        assert!(stopped.unwrap() == whole.unwrap(), "{made} events, {kept} of them kept");
    }
}

#[test]
fn files_that_never_end_a_line_do_not_keep_a_run_from_stopping_and_take_little_memory() {
    let home = Home::new(
        r#"name: endless
memory: 64MiB
sources:
  zeros: {type: file, paths: [zeros], decoding: raw}
  pipe: {type: file, paths: [pipe], decoding: raw, fifo: true}
sinks:
  out: {type: blackhole, inputs: [zeros, pipe]}
"#,
    );
    // As long as a file can be, and with nothing in it.
    std::fs::File::create(home.path("zeros")).unwrap().set_len(1 << 42).unwrap();
    let made = std::process::Command::new("mkfifo").arg(home.path("pipe")).status().unwrap();
    assert!(made.success());
    let mut weir = home.start_with("weir", &[], &[], Stdio::null());
    weir.until_running();
    until("the beginning of the line, as long as one may be", PATIENCE, || weir.events("zeros", "passed") == 1);
    weir.assert_running();
    // Within a second it is the same request, passed on twice.
    weir.terminate();
    weir.terminate();
    until("it to notice", PATIENCE, || weir.log().contains("stopping"));
    let peak = weir.peak_rss();
    assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
    assert!(peak.is_none_or(|peak| peak < 300 << 20), "{peak:?}");
}

#[test]
fn what_is_wrong_with_one_file_costs_no_other_and_every_name_is_read_once() {
    let long = format!("{}/{}/", "a".repeat(120), "b".repeat(120));
    let home = Home::new(
        r#"name: many
sources:
  in: {type: file, paths: ["in/**/*"], decoding: text}
sinks:
  out: {type: file, inputs: [in], path: out.txt, encoding: text}
"#,
    );
    let write = |name: &[u8], bytes: &[u8]| {
        let path = home.path("in").join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let gzip = |text: &str| {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(text.as_bytes()).unwrap();
        member.finish().unwrap()
    };
    let mut damaged = gzip("damaged\n");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    write(b"1.gz", &[gzip("padded\n"), vec![0; 512]].concat());
    write(b"2.gz", &[gzip("before garbage\n"), b"garbage".to_vec()].concat());
    write(b"3.gz", &damaged);
    write(b"4.txt", b"\xff\xfea\0\n\0");
    write(b"5.txt", b"\xef\xbb\xbfmarked\n");
    write(b"6\xff.txt", b"bytes\n");
    write(b"6\xfe.txt", b"other bytes\n");
    write(b"7\n.txt", b"newline\n");
    write(format!("{long}8.txt").as_bytes(), b"long\n");
    write(format!("{long}9.txt").as_bytes(), b"long, too\n");
    std::os::unix::fs::symlink(".", home.path("in/loop")).unwrap();
    std::fs::hard_link(home.path("in/5.txt"), home.path("in/same.txt")).unwrap();

    let run = || command(&home, &["run", "--once", "graph.yaml"]);
    let first = run().exits(1);
    let out = || {
        let text = std::fs::read_to_string(home.path("out.txt")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let good = ["before garbage", "bytes", "long", "long, too", "marked", "newline", "other bytes", "padded"];
    let mut all = good.to_vec();
    all.push("damaged");
    all.sort_unstable();
    assert_eq!(out(), all, "what stands before the damage, too");
    for text in [
        "3.gz",
        "it breaks off or is damaged",
        "4.txt",
        "UTF-16; convert it",
        "2.gz",
        "other bytes follow the gzip data",
    ] {
        assert!(first.err.contains(text), "{text}: {}", first.err);
    }

    // What was read stays read until the run ends well; then the next one begins anew.
    std::fs::remove_file(home.path("in/4.txt")).unwrap();
    write(b"3.gz", &gzip("damaged\nand mended\n"));
    let _ = run().exits(0);
    all.extend(["and mended", "damaged"]);
    all.sort_unstable();
    assert_eq!(out(), all);
    let _ = run().exits(0);
    all.remove(all.iter().position(|line| *line == "damaged").unwrap());
    assert_eq!(out(), all);
}

#[test]
fn a_file_that_cannot_be_read_makes_a_running_graph_not_ready_and_stops_nothing_else() {
    let graph = ENDLESS.replace("sources:", "sources:\n  bad: {type: file, paths: [bad]}").replace("[in]", "[in, bad]");
    let home = Home::new(&graph);
    std::fs::write(home.path("bad"), b"\xfe\xff\0a").unwrap();
    let weir = home.start("weir", &[]);
    weir.until_running();
    until("it to say so", PATIENCE, || {
        let (status, why) = weir.get("/ready");
        status == 503 && why.contains("bad: a file is not read to its end") && why.contains("UTF-16")
    });
    let before = lines(&home, "out.ndjson");
    until("more output", PATIENCE, || lines(&home, "out.ndjson") > before);
    weir.terminate();
}

#[test]
fn an_output_that_is_rotated_holds_everything_and_the_next_start_goes_on() {
    let home = Home::new(ENDLESS);
    let (mut kept, mut rotated) = (0, Vec::new());
    for _ in 0..2 {
        let mut weir = home.start_with("weir", &[], &["--log-format", "json"], Stdio::null());
        for _ in 0..3 {
            until("some output", PATIENCE, || lines(&home, "out.ndjson") >= 500);
            rotated.push(format!("{}.ndjson", rotated.len()));
            std::fs::rename(home.path("out.ndjson"), home.path(rotated.last().unwrap())).unwrap();
        }
        weir.terminate();
        assert_eq!(weir.wait(PATIENCE).code(), Some(0), "{}", weir.log());
        kept += books(&log_lines(&weir.log()))["out"]["passed"];
        if home.path("out.ndjson").exists() {
            rotated.push(format!("{}.ndjson", rotated.len()));
            std::fs::rename(home.path("out.ndjson"), home.path(rotated.last().unwrap())).unwrap();
        }
    }
    let all: usize = rotated.iter().map(|name| lines(&home, name)).sum();
    assert_eq!(all as u64, kept);
}

fn command(home: &Home, args: &[&str]) -> weir_tests::command::Done {
    weir(home.path("").as_path(), args)
}

/// A weir whose sink waits for a reader that does not come, and which was asked to stop.
fn stuck(home: &Home) -> Weir {
    let mut weir = home.start_with("weir", &[], &[], Stdio::piped());
    weir.until_running();
    // Some hundred bytes each: far more than a pipe takes.
    until("the sink to be stuck", PATIENCE, || weir.events("out", "received") >= weir.events("out", "passed") + 4096);
    weir.assert_running();
    // Within a second it is the same request, passed on twice.
    weir.terminate();
    weir.terminate();
    until("it to notice", PATIENCE, || weir.log().contains("stopping"));
    weir
}

#[test]
fn while_it_drains_it_is_alive_and_not_ready_and_a_second_signal_leaves_at_once() {
    let home = Home::new(&STUCK.replace("sources:", "drain: 10m\nsources:"));
    let mut weir = stuck(&home);
    assert_eq!(weir.get("/health"), (200, "ok\n".to_owned()));
    let (status, why) = weir.get("/ready");
    assert_eq!(status, 503);
    assert!(why.contains("stopping"), "{why}");
    until("a later signal to stop it at once", PATIENCE, || {
        if !weir.has_ended() {
            weir.terminate();
        }
        weir.has_ended()
    });
    assert_eq!(weir.wait(PATIENCE).code(), Some(1));
    assert!(weir.log().contains("stopping at once"));
}

#[test]
fn what_does_not_drain_in_time_is_given_up_and_the_code_says_so() {
    let home = Home::new(&STUCK.replace("sources:", "drain: 300ms\nsources:"));
    let mut weir = stuck(&home);
    // Whoever has to wait for the reader of the pipe waits for `drain` and some more, not for the reader.
    assert_eq!(weir.wait(Duration::from_secs(20)).code(), Some(1));
    assert!(weir.log().contains("clean=false"), "{}", weir.log());
}

#[test]
fn telemetry_answers_and_the_books_balance_at_every_look() {
    let home = Home::new(ENDLESS);
    let weir = home.start("weir", &[]);
    weir.until_ready(PATIENCE);
    assert_eq!(weir.get("/health"), (200, "ok\n".to_owned()));
    assert_eq!(weir.get("/ready"), (200, "ready\n".to_owned()));
    assert_eq!(weir.get("/nothing").0, 404);
    let mut received = 0;
    while received < 20_000 {
        let (status, text) = weir.get("/metrics");
        assert_eq!(status, 200);
        let metrics = metrics(&text);
        for node in ["in", "keep", "out"] {
            let count =
                |outcome: &str| metrics[&format!("weir_node_events_total{{node=\"{node}\",outcome=\"{outcome}\"}}")];
            let ended: u64 = OUTCOMES[1..].iter().map(|outcome| count(outcome)).sum();
            let in_flight = metrics[&format!("weir_node_in_flight_events{{node=\"{node}\"}}")];
            assert_eq!(count("received"), ended + in_flight, "{node}:\n{text}");
            received = count("received");
        }
        assert!(metrics["weir_memory_used_bytes"] <= metrics["weir_memory_limit_bytes"]);
        assert_eq!(metrics["weir_lanes"], 1);
    }
    assert_eq!(weir.stop(PATIENCE).as_secs() / 60, 0);
}

#[test]
fn half_sent_requests_to_a_listener_do_not_keep_others_from_it() {
    const HALF: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: weir\r\nX-Half: ";
    let exporter = free_address();
    let home = Home::new(&format!(
        "name: held\nsources:\n  in: {{type: generate, rate: 10}}\nsinks:\n  \
         out: {{type: prometheus_exporter, inputs: [in], listen: \"{exporter}\", max_connections: 4}}\n"
    ));
    let weir = home.start("weir", &[]);
    weir.until_ready(PATIENCE);
    let telemetry = weir.address();
    let half_sent = |address: &str, count: usize| -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(HALF).unwrap();
            stream
        };
        (0..count).map(connect).collect()
    };
    // More than are served, and than are let in beside these.
    let mut held = half_sent(&telemetry, 300);
    held.extend(half_sent(&exporter.to_string(), 300));
    assert_eq!(weir.get("/ready"), (200, "ready\n".to_owned()));
    let mut scraper = TcpStream::connect(exporter).unwrap();
    scraper.set_read_timeout(Some(PATIENCE)).unwrap();
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    scraper.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    // All of them together are no more than that.
    let open = std::fs::read_dir(format!("/proc/{}/fd", weir.id())).unwrap().count();
    assert!(open < 300, "{open} open files");
    drop(held);
    weir.stop(PATIENCE);
}

/// Every sample of a scrape; fails on a line that is none.
fn metrics(text: &str) -> BTreeMap<String, u64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}")) as u64)
    };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

#[test]
fn a_data_folder_serves_one_process_at_a_time() {
    let home = Home::new(ENDLESS);
    let mut first = home.start("shared", &[]);
    first.until_running();
    let mut second = home.start("shared", &["sinks.out.path=second.ndjson"]);
    assert_eq!(second.wait(PATIENCE).code(), Some(78));
    let refused = second.log();
    assert!(refused.contains("another weir uses it") && refused.contains("--set data_dir="), "{refused}");
    let set = format!("data_dir={}", home.data_dir("shared").display());
    std::fs::create_dir_all(home.data_dir("shared").join("endless/.state")).unwrap();
    for verb in [&["state", "inspect"][..], &["state", "check"], &["buffer", "inspect"], &["dlq", "purge", "--all"]] {
        let done = weir(&home.path(""), &[verb, &["graph.yaml", "--set", &set]].concat());
        let says = "a graph runs on it; stop it first, or watch it with `weir top` and `weir tap`";
        assert!(done.code != 0 && done.err.contains(says) && !done.err.contains("--set"), "{verb:?}: {}", done.err);
    }
    assert!(!home.path("second.ndjson").exists());
    first.assert_running();
    first.kill();

    let third = home.start("shared", &["sinks.out.path=third.ndjson"]);
    third.until_running();
    third.stop(PATIENCE);
}

#[test]
fn what_cannot_be_run_says_whether_the_configuration_is_to_blame() {
    let home = Home::new(ENDLESS);
    std::fs::write(home.path("precious.txt"), "not weir's\n").unwrap();
    let ask = |set: &str, code: i32, says: &str| {
        let done =
            command(&home, &["run", "--once", "graph.yaml", "--set", "sources.in.count=10", "--set", set]).exits(code);
        assert!(done.err.contains(says), "{set}: {}", done.err);
        assert_eq!(done.err.lines().filter(|line| line.contains("panicked")).count(), 0, "{}", done.err);
    };
    ask("sinks.out.path=precious.txt", 78, "append: true or overwrite: true");
    assert_eq!(std::fs::read_to_string(home.path("precious.txt")).unwrap(), "not weir's\n");
    ask("sinks.out.path=precious.txt/out", 1, "precious.txt/out");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    ask(&format!("telemetry.listen={}", taken.local_addr().unwrap()), 78, "telemetry.listen");

    let missing = r#"{sources: {in: {type: file, paths: [gone.ndjson]}}, sinks: {out: {type: console, inputs: [in]}}}"#;
    std::fs::write(home.path("missing.yaml"), missing).unwrap();
    let done = command(&home, &["run", "--once", "missing.yaml"]).exits(1);
    assert!(done.err.contains("gone.ndjson"), "{}", done.err);
}

/// What is in its pipe up to the end, and the end.
fn rest(weir: &mut Weir) -> (ExitStatus, String) {
    let mut text = String::new();
    weir.stdout().read_to_string(&mut text).unwrap();
    (weir.wait(PATIENCE), text)
}

#[test]
fn a_reader_that_comes_late_gets_every_event_once() {
    let home = Home::new(&STUCK.replace("{type: generate}", "{type: generate, count: 20000}"));
    let mut weir = home.start_with("weir", &[], &["--once"], Stdio::piped());
    until("the pipe to be full", PATIENCE, || weir.events("out", "received") > 0);
    let (status, text) = rest(&mut weir);
    assert_eq!(status.code(), Some(0));
    let _ = command(&home, &["run", "--once", "graph.yaml"]).exits(0);
    let again = command(&home, &["run", "--once", "graph.yaml"]).exits(0).out;
    assert_eq!(text.lines().count(), 20_000);
    assert!(text == again);
}

#[test]
fn a_reader_that_has_gone_ends_the_run() {
    let home = Home::new(STUCK);
    let mut weir = home.start_with("weir", &[], &[], Stdio::piped());
    weir.stdout().read_exact(&mut [0; 10]).unwrap();
    weir.close_stdout();
    assert_eq!(weir.wait(PATIENCE).code(), Some(1), "not everything was delivered");
    assert!(weir.log().contains("out: stdout is closed"), "{}", weir.log());
}

#[test]
fn an_output_is_not_given_up_for_a_source_that_is_not_there() {
    let home = Home::new(
        "name: again\nsources: {in: {type: file, paths: [in.ndjson]}}\nsinks: {out: {type: file, inputs: [in], path: to/out.ndjson}}\n",
    );
    std::fs::write(home.path("in.ndjson"), "{\"a\":1}\n").unwrap();
    let run = |set: &[&str]| weir(&home.path(""), &[&["run", "--once", "graph.yaml"], set].concat());
    let _first = run(&[]).exits(0);
    let out = || std::fs::read_to_string(home.path("to/out.ndjson")).unwrap();
    assert_eq!(out(), "{\"a\":1}\n", "the folder is made");
    std::fs::create_dir(home.path("folder")).unwrap();
    for (paths, why) in [
        ("sources.in.paths=[other.ndjson]", "there is no such file; correct `paths`"),
        ("sources.in.paths=[\"other*.ndjson\"]", "no file fits; correct `paths`"),
        ("sources.in.paths=[folder]", "this is a folder; name the files in it"),
    ] {
        let refused = run(&["--set", paths]);
        assert!(refused.code != 0 && refused.err.contains(why), "{refused:?}");
        assert_eq!(out(), "{\"a\":1}\n", "what the last run wrote is there");
    }
}

#[test]
fn an_event_that_is_no_object_is_not_replaced_by_one() {
    let home = Home::new(
        "name: lists\nsources: {in: {type: stdin}}\ntransforms: {edit: {type: remap, inputs: [in], source: '.x = 1'}}\n\
         sinks: {out: {type: console, inputs: [edit]}}\n",
    );
    let done =
        weir_with(&home.path(""), &["run", "--once", "graph.yaml"], &[], b"[1,2]\n\"text\"\n{\"a\":2}\n").exits(0);
    assert_eq!(done.out, "{\"a\":2,\"x\":1}\n");
    let letters = weir(&home.path(""), &["dlq", "show", "graph.yaml"]).exits(0).out;
    assert!(letters.contains("not_an_object") && letters.contains("[1,2]"), "{letters}");
    let unknown = weir(&home.path(""), &["dlq", "retry", "graph.yaml", "--node", "nosuch"]).exits(1);
    assert!(unknown.err.contains("the graph has no node `nosuch`; it has in, edit, out"), "{unknown:?}");
}
