//! `weir top` and `weir tap`: a running graph is watched, and does not mind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use weir_tests::command::weir;
use weir_tests::process::Home;
use weir_tests::wait::{PATIENCE, found, until};

const GRAPH: &str = r#"name: watched
sources: {in: {type: generate, rate: 5000}}
transforms:
  edit: {type: remap, inputs: [in], source: '.password = "hunter2"; .note = "token=abc"; .personal = 1'}
  split: {type: route, inputs: [edit], routes: {events: exists(.verb)}}
  bad: {type: remap, inputs: [split.default], source: '.n = to_int!(.message)'}
  sums: {type: aggregate, inputs: [edit], window: {tumbling: 1s}, group_by: [.verb], compute: {n: count}}
sinks:
  counted: {type: blackhole, inputs: [sums]}
  out: {type: blackhole, inputs: [split.events, bad]}
"#;

fn sights(home: &Home, args: &[&str]) -> Vec<Value> {
    let args = [&["tap", "--format", "json"], args, &["graph.yaml"]].concat();
    let out = weir(&home.path(""), &args).exits(0).out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_tap_shows_what_leaves_an_output_filtered_and_without_secrets() {
    let home = Home::new(GRAPH);
    let running = home.start(".weir", &[]);
    running.until_running();
    let seen = sights(
        &home,
        &["split.events", "--limit", "5", "--filter", r#".event.type == "Warning""#, "--redact", "personal"],
    );
    assert_eq!(seen.len(), 5);
    for sight in &seen {
        let event = &sight["event"];
        assert_eq!(event["event"]["type"], "Warning");
        assert_eq!(
            (&event["password"], &event["note"], &event["personal"]),
            (&"***".into(), &"token=***".into(), &"***".into())
        );
        assert!(sight["id"].as_str().unwrap().starts_with("in/in/0/"));
    }
    // What nobody listens to is seen all the same, and a sink shows what it takes.
    assert!(sights(&home, &["bad.errors", "--limit", "1"])[0]["error"].as_str().unwrap().starts_with("vrl_error"));
    assert!(!sights(&home, &["out", "--limit", "1"])[0]["event"]["verb"].is_null());
    assert_eq!(sights(&home, &["in", "--limit", "3"]).len(), 3);
    // A node with several outputs and a main one among them.
    assert!(sights(&home, &["sums", "--limit", "1"])[0]["event"]["n"].is_u64());

    let refused = |args: &[&str]| weir(&home.path(""), &[&["tap"], args, &["graph.yaml"]].concat()).exits(1).err;
    assert!(refused(&["nobody"]).contains("the graph has no node `nobody`; it has in, edit, split, bad, sums, "));
    let outputs = "`split` is no output of the route; tap `split.events` or `split.default` or `split.errors`";
    assert!(refused(&["split"]).contains(outputs));
    assert!(refused(&["in.errors"]).contains("`in.errors` is no output of the generate; tap `in`"));
    let outputs = "tap `sums` or `sums.late` or `sums.evicted` or `sums.errors`";
    assert!(refused(&["sums.x"]).contains(outputs));
    assert!(refused(&["in", "--filter", ".a =="]).contains("the filter cannot be used"));
    let fallible = refused(&["in", "--filter", "contains(.verb, \"x\")"]);
    assert!(fallible.contains("write `(string(.verb) ?? \"\")` in its place"), "{fallible}");
    let typed = ["out", "--limit", "1", "--filter", "contains((string(.verb) ?? \"\"), \"x\") || true"];
    assert_eq!(sights(&home, &typed).len(), 1, "what the hint says works");
    let fallible = refused(&["in", "--filter", "to_int(.n) > 1"]);
    assert!(fallible.contains("`(to_int(.n) > 1) ?? false`"), "{fallible}");
    let long = refused(&["in", "--filter", &format!(".verb == \"{}\"", "x".repeat(65_536))]);
    assert_eq!(long.trim(), "the request is longer than 64 KiB; shorten its filter");
    let deep = format!("{}true", "!".repeat(30_000));
    assert!(refused(&["in", "--filter", &deep]).contains("the filter cannot be used"), "and the graph goes on");
    let exploding = format!("x = [1]; {} length(x) == 1", "x = [x, x, x, x]; ".repeat(30));
    assert!(refused(&["in", "--filter", &exploding]).contains("too many fields and items"), "before it takes memory");
    running.stop(Duration::from_secs(10));
    assert!(refused(&["in"]).contains("no graph runs that has its data in .weir/watched"));
}

#[test]
fn top_shows_rates_and_books() {
    let home = Home::new(GRAPH);
    let running = home.start(".weir", &[]);
    until("events", PATIENCE, || running.events("out", "passed") > 100);
    let args = ["top", "--count", "2", "--interval", "0.5", "graph.yaml"];
    let text = weir(&home.path(""), &args).exits(0).out;
    for word in ["watched  ready", "up ", "node", "in/s", "lag", "in flight", "generate", "route", "blackhole"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json = weir(&home.path(""), &[&args[..], &["--format", "json"]].concat()).exits(0).out;
    let looks: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let received = |look: &Value| look["nodes"][0]["books"]["received"].as_u64().unwrap();
    assert!(looks.len() == 2 && received(&looks[1]) > received(&looks[0]), "{json}");
    assert_eq!(looks[0]["nodes"][2]["component"], "route");
    running.stop(Duration::from_secs(10));
}

/// Longer requests are refused unread.
const LONGEST_REQUEST: usize = 64 << 10;

/// Sends one line and gives the way to the answers.
fn say(home: &Home, line: &str) -> BufReader<UnixStream> {
    let connect = || UnixStream::connect(home.path(".weir/watched/admin.sock")).ok();
    let mut stream = found("somebody to listen", PATIENCE, connect);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A request that is too long is not read to its end: whether all of it could be written is a matter of luck.
    let written = writeln!(stream, "{line}");
    assert!(written.is_ok() || line.len() > LONGEST_REQUEST, "{written:?}");
    BufReader::new(stream)
}

#[test]
fn a_reader_that_reads_nothing_costs_nothing_and_is_told_what_it_missed() {
    let home = Home::new(&GRAPH.replace("rate: 5000", "rate: 50000"));
    let running = home.start(".weir", &[]);
    running.until_running();
    let mut stuck = say(&home, r#"{"tap":{"output":"edit","filter":null,"rate":100000,"redact":[]}}"#);
    let mut first = String::new();
    stuck.read_line(&mut first).unwrap();
    assert!(first.contains("sight"), "{first}");
    // Hundreds of megabytes pass a socket that holds a fraction of one.
    let before = running.events("edit", "passed");
    until("the graph to go on", PATIENCE, || running.events("edit", "passed") > before + 200_000);
    assert!(running.rss() < 100 << 20, "{} bytes for a reader that reads nothing", running.rss());
    // What lies in the socket comes first.
    let mut line = String::new();
    until("the missed to be told", PATIENCE, || {
        (0..1000).any(|_| {
            line.clear();
            stuck.read_line(&mut line).unwrap() > 0 && line.contains("missed")
        })
    });
    running.stop(Duration::from_secs(10));
}

#[test]
fn clients_that_neither_speak_nor_read_do_not_keep_others_from_the_socket() {
    let home = Home::new(GRAPH);
    let running = home.start(".weir", &[]);
    running.until_running();
    let tap = r#"{"tap":{"output":"in","filter":null,"rate":100000,"redact":[]}}"#;
    let mut taps: Vec<_> = (0..16).map(|_| say(&home, tap)).collect();
    for tap in &mut taps {
        // Its place is taken once something comes.
        tap.read_line(&mut String::new()).unwrap();
    }
    let more = weir(&home.path(""), &["tap", "in", "graph.yaml"]).exits(1).err;
    assert!(more.contains("there are 16 taps under way already; end one of them"), "{more}");
    // A lane that never comes to this place answers never.
    let skips: Vec<_> = (0..16).map(|_| say(&home, r#"{"skip":{"id":"in/in/0/99999999999","reason":"x"}}"#)).collect();
    let half_said: Vec<UnixStream> = (0..40)
        .map(|_| {
            let mut stream = UnixStream::connect(home.path(".weir/watched/admin.sock")).unwrap();
            stream.write_all(b"{\"tap\":").unwrap();
            stream
        })
        .collect();
    let unread: Vec<_> = (0..40).map(|_| say(&home, "\"snapshot\"")).collect();
    let top = weir(&home.path(""), &["top", "--count", "1", "graph.yaml"]).exits(0);
    assert!(top.out.contains("watched  ready"), "{}", top.out);
    let lanes = weir(&home.path(""), &["skip", "graph.yaml"]).exits(0);
    assert!(lanes.out.contains("in/in/0"), "{}", lanes.out);
    drop((skips, half_said, unread));
    taps.pop();
    until("the place of a tap that has ended", PATIENCE, || {
        weir(&home.path(""), &["tap", "in", "graph.yaml", "--limit", "1"]).code == 0
    });
    running.stop(Duration::from_secs(10));
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let home = Home::new(GRAPH);
    let running = home.start(".weir", &[]);
    running.until_running();
    for nonsense in [
        "",
        "{",
        "{\"stop\":1}",
        &"x".repeat(100_000),
        "{\"tap\":{\"output\":\"in\",\"filter\":null,\"rate\":0,\"redact\":[]}}",
    ] {
        let mut answer = String::new();
        // A request that is too long may meet a closed socket.
        let _ = say(&home, nonsense).read_line(&mut answer);
        assert!(answer.contains("refused") || nonsense.len() > LONGEST_REQUEST, "{nonsense}: {answer}");
    }
    // More clients than are let in, none of which says anything: they are sent away, and the next is served.
    let silent: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(home.path(".weir/watched/admin.sock")).unwrap()).collect();
    let _ = weir(&home.path(""), &["top", "--count", "1", "graph.yaml"]).exits(0);
    drop(silent);
    running.stop(Duration::from_secs(10));
}

#[test]
fn the_path_of_the_data_folder_may_be_long() {
    let home = Home::new(GRAPH);
    let set = format!("data_dir={}/data", "a-long-name-of-a-folder".repeat(8));
    let running = home.start("short", &[&set]);
    running.until_running();
    let _ = weir(&home.path(""), &["top", "--count", "1", "graph.yaml", "--set", &set]).exits(0);
    running.stop(Duration::from_secs(10));
}
