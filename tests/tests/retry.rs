//! Dead letters on their way back: `weir dlq retry`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weir_tests::command::weir;
use weir_tests::process::{Home, binary};
use weir_tests::wait::{PATIENCE, moment, until};

/// One branch takes all, one is a screen that somebody reads slowly, one fails for every fifth event.
const BRANCHES: &str = r#"name: branches
memory: 1MiB
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  price: {type: remap, inputs: [in], source: '.cents = to_int!(.price) * 100; .from = %file.offset'}
sinks:
  all: {type: file, inputs: [in], path: all.ndjson}
  screen: {type: console, inputs: [in]}
  priced: {type: file, inputs: [price], path: priced.ndjson}
"#;
const KEYS: u64 = 7;

/// Event number `n`; the price of every fifth has a sign before it.
fn line(n: u64) -> String {
    let sign = if n.is_multiple_of(5) { "€" } else { "" };
    format!("{{\"n\":{n},\"key\":{},\"price\":\"{sign}{n}\",\"text\":\"{}\"}}\n", n % KEYS, "x".repeat(300))
}

fn write_input(home: &Home, count: u64) {
    std::fs::write(home.path("in.ndjson"), (0..count).map(line).collect::<String>()).unwrap();
}

/// Repairs what fails.
fn mend(home: &Home) {
    let graph = std::fs::read_to_string(home.path("graph.yaml")).unwrap();
    let mended = graph.replace("to_int!(.price)", r#"to_int!(replace(string!(.price), "€", ""))"#);
    assert_ne!(graph, mended);
    std::fs::write(home.path("graph.yaml"), mended).unwrap();
}

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<u64> {
    events.into_iter().map(|event| event["n"].as_u64().unwrap()).collect()
}

fn letters(home: &Home) -> Vec<Value> {
    let export = weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out;
    export.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn retry(home: &Home, more: &[&str], code: i32) -> Value {
    weir(&home.path(""), &[&["dlq", "retry", "graph.yaml", "--format", "json"], more].concat()).exits(code).json()
}

#[test]
fn a_slow_branch_paces_a_failing_one_leaves_letters_and_they_end_where_they_belong() {
    const COUNT: u64 = 20_000;
    let home = Home::new(BRANCHES);
    write_input(&home, COUNT);
    let mut running = home.start_with(".weir", &[], &["--once"], Stdio::piped());
    // Nobody reads the screen: the other branches come as far as the memory of 1 MiB reaches, and wait.
    let length = || std::fs::metadata(home.path("all.ndjson")).map_or(0, |file| file.len());
    let mut before = 0;
    until("the branches to wait for the slow one", PATIENCE, || {
        (0..50).for_each(|_| moment());
        let now = length();
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    assert!(length() < 3 << 20, "{} bytes are ahead of the slow branch", length());
    let screen: Vec<String> = BufReader::new(running.stdout()).lines().map(Result::unwrap).collect();
    assert!(running.wait(PATIENCE).success());
    let log = running.log();
    for (node, books) in [
        (
            "price",
            format!(
                "received={COUNT} passed={} filtered=0 absorbed=0 dead_lettered={} failed=0 in_flight=0",
                COUNT / 5 * 4,
                COUNT / 5
            ),
        ),
        ("all", format!("received={COUNT} passed={COUNT} filtered=0 absorbed=0 dead_lettered=0 failed=0 in_flight=0")),
        (
            "screen",
            format!("received={COUNT} passed={COUNT} filtered=0 absorbed=0 dead_lettered=0 failed=0 in_flight=0"),
        ),
    ] {
        assert!(log.contains(&format!("node=\"{node}\" {books}")), "{node}: {books}\n{log}");
    }
    let screen: Vec<Value> = screen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all: Vec<u64> = (0..COUNT).collect();
    assert_eq!(numbers(&screen), all);
    assert_eq!(numbers(&events(&home.path("all.ndjson"))), all);
    assert_eq!(letters(&home).len() as u64, COUNT / 5);

    mend(&home);
    let done = retry(&home, &[], 0);
    assert_eq!((&done["tried"], &done["settled"], &done["waiting"]), (&4000.into(), &4000.into(), &0.into()));
    let priced = events(&home.path("priced.ndjson"));
    // What passed at first is untouched, the rest stands behind it in its order, so that of each key is kept, too.
    let (bad, good): (Vec<u64>, Vec<u64>) = (0..COUNT).partition(|n| n.is_multiple_of(5));
    assert_eq!(numbers(&priced), [good, bad].concat());
    let mut at = 0;
    let mut start = |n: u64| {
        at += line(n).len() as u64;
        at - line(n).len() as u64
    };
    let starts: Vec<u64> = (0..COUNT).map(&mut start).collect();
    for event in &priced {
        let n = event["n"].as_u64().unwrap();
        assert_eq!((event["cents"].as_u64(), event["from"].as_u64()), (Some(n * 100), Some(starts[n as usize])));
    }
    // A retry enters at the node that failed: the other branches have not seen it.
    assert_eq!(events(&home.path("all.ndjson")).len() as u64, COUNT);
    assert!(letters(&home).is_empty());
    assert_eq!(retry(&home, &[], 0)["tried"], 0);
}

#[test]
fn what_fails_again_is_a_letter_again_and_a_choice_is_kept_to() {
    let home = Home::new(&BRANCHES.replace("  screen: {type: console, inputs: [in]}\n", ""));
    write_input(&home, 50);
    std::fs::write(
        home.path("in.ndjson"),
        [std::fs::read(home.path("in.ndjson")).unwrap(), b"not json\n".to_vec()].concat(),
    )
    .unwrap();
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    // `all` cannot write what is no JSON either, `price` cannot read it.
    let before = letters(&home);
    assert_eq!(before.len(), 11);
    let id = before[3]["id"].as_str().unwrap();
    assert_eq!(retry(&home, &["--code", "no_such_code"], 0)["tried"], 0);
    let again = retry(&home, &["--id", id], 1);
    assert_eq!((&again["rejected"], &again["waiting"]), (&1.into(), &11.into()));
    let ids = |letters: &[Value]| letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    let (old, new): (BTreeSet<String>, BTreeSet<String>) = (ids(&before), ids(&letters(&home)));
    assert_eq!(old, new, "a letter keeps the id of its event however often it fails");
    mend(&home);
    assert_eq!(retry(&home, &["--code", "vrl_error"], 0)["waiting"], 1);
    assert_eq!(letters(&home)[0]["code"], "invalid_json");
    // Without its node a letter has nowhere to go.
    let graph = std::fs::read_to_string(home.path("graph.yaml"))
        .unwrap()
        .replace("price:", "prices:")
        .replace("[price]", "[prices]");
    std::fs::write(home.path("graph.yaml"), graph).unwrap();
    let done = retry(&home, &[], 1);
    assert_eq!((&done["tried"], &done["left"]["the graph has no node `price` any more"]), (&0.into(), &1.into()));
    // The next run begins its outputs anew, as after any run that ended.
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    assert_eq!(events(&home.path("priced.ndjson")).len(), 50);
}

#[test]
fn a_retry_that_is_killed_goes_on_with_the_rest() {
    const COUNT: u64 = 50_000;
    let home = Home::new(
        &BRANCHES
            .replace("  screen: {type: console, inputs: [in]}\n", "")
            .replace("  all: {type: file, inputs: [in], path: all.ndjson}\n", ""),
    );
    write_input(&home, COUNT);
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    mend(&home);
    let length = || std::fs::metadata(home.path("priced.ndjson")).map_or(0, |file| file.len());
    let mut killed = 0;
    for _ in 0..4 {
        let before = length();
        let mut child = Command::new(binary())
            .args(["dlq", "retry", "graph.yaml"])
            .current_dir(home.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("some letters to be written", PATIENCE, || {
            length() > before + 300_000 || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 2, "only {killed} of 4 retries were killed on their way");
    assert_eq!(retry(&home, &[], 0)["waiting"], 0);
    let found = numbers(&events(&home.path("priced.ndjson")));
    assert_eq!(found.iter().copied().collect::<BTreeSet<u64>>(), (0..COUNT).collect());
    // What was written and not yet marked comes twice: at most what is in flight at a kill.
    let twice = found.len() as u64 - COUNT;
    assert!(twice <= u64::from(killed) * 4096, "{twice} came twice after {killed} kills");
}

#[test]
fn a_running_graph_retries_by_itself() {
    let home = Home::new(
        "name: live\nsources: {in: {type: generate, rate: 2000, kind: logs}}\ntransforms: {bad: {type: remap, inputs: [in], source: '.n = to_int!(.message)'}}\nsinks: {out: {type: blackhole, inputs: [bad]}}\n",
    );
    let running = home.start(".weir", &[]);
    until("dead letters", PATIENCE, || running.events("bad", "dead_lettered") > 100);
    let done = retry(&home, &[], 1);
    let tried = done["tried"].as_u64().unwrap();
    assert!(tried > 100 && done["settled"] == tried && done["rejected"] == tried, "{done}");
    assert!(done["waiting"].as_u64().unwrap() >= tried, "they failed again: {done}");
    until("the letters that failed again in the books", PATIENCE, || {
        running.events("bad", "dead_lettered") > 2 * tried
    });
    running.stop(Duration::from_secs(10));
}

#[test]
fn an_event_that_was_rejected_in_several_runs_is_one_letter_and_delivered_once() {
    let home = Home::new(&BRANCHES.replace("  screen: {type: console, inputs: [in]}\n", ""));
    write_input(&home, 50);
    for _ in 0..3 {
        let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    }
    // Another event at the place of an earlier one is not the same.
    std::fs::write(home.path("in.ndjson"), line(5)).unwrap();
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    assert_eq!(letters(&home).len(), 11);
    mend(&home);
    let done = retry(&home, &["--node", "price"], 0);
    assert_eq!((&done["tried"], &done["repeated"], &done["waiting"]), (&11.into(), &20.into(), &0.into()));
    let mut found = numbers(&events(&home.path("priced.ndjson")));
    found.sort_unstable();
    assert_eq!(found, [0, 5, 5, 10, 15, 20, 25, 30, 35, 40, 45]);
}

#[test]
fn letters_are_removed_by_choice() {
    let home = Home::new(&BRANCHES.replace("  screen: {type: console, inputs: [in]}\n", ""));
    write_input(&home, 50);
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    let purge =
        |more: &[&str], code| weir(&home.path(""), &[&["dlq", "purge", "graph.yaml"], more].concat()).exits(code);
    let id = letters(&home)[3]["id"].as_str().unwrap().to_owned();
    assert!(purge(&[], 1).err.contains("--all"));
    assert_eq!(purge(&["--id", &id], 0).out, "1 dead letters removed\n");
    assert!(letters(&home).len() == 9 && letters(&home).iter().all(|letter| letter["id"] != id));
    assert_eq!(purge(&["--all"], 0).out, "9 dead letters removed\n");
    assert!(letters(&home).is_empty());
}

#[test]
fn letters_may_go_to_any_sink_and_come_back_from_there() {
    let home = Home::new(
        r#"name: elsewhere
sources:
  in: {type: file, paths: [in.ndjson]}
transforms:
  price: {type: remap, inputs: [in], source: '.cents = to_int!(.price) * 100; .from = %file.offset'}
  wired: {type: remap, inputs: [in], source: '.cents = to_int!(.price)'}
  letters: {type: dead_letter, inputs: [dead_letters]}
  strict: {type: filter, inputs: [letters], condition: 'to_int!(.node) == 1'}
sinks:
  priced: {type: file, inputs: [price], path: priced.ndjson}
  parked: {type: file, inputs: [letters], path: parked.ndjson}
  strict_out: {type: blackhole, inputs: [strict, wired, wired.errors]}
"#,
    );
    write_input(&home, 50);
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    let parked = events(&home.path("parked.ndjson"));
    assert_eq!(parked.len(), 10, "what `wired` rejects is read by a node of its own");
    assert!(parked.iter().all(|letter| letter["node"] == "price" && letter["code"] == "vrl_error"));
    // What is rejected on the way to the letters' sink does not come round again.
    let left = letters(&home);
    assert!(left.len() == 10 && left.iter().all(|letter| letter["node"] == "strict"), "{left:?}");

    mend(&home);
    let import = |from: &str, code| weir(&home.path(""), &["dlq", "import", "graph.yaml", "--from", from]).exits(code);
    assert!(import("in.ndjson", 1).err.contains("in.ndjson:1: that is no dead letter"));
    assert!(import("parked.ndjson", 0).out.starts_with("10 imported"));
    let done = retry(&home, &["--node", "price"], 0);
    assert_eq!((&done["settled"], &done["waiting"]), (&10.into(), &10.into()));
    let mut found = numbers(&events(&home.path("priced.ndjson")));
    found.sort_unstable();
    assert_eq!(found, (0..50).collect::<Vec<_>>());
}

/// Two graphs that keep their letters in one folder, and reject everything but what is mended.
fn sharing(name: &str, to: &str) -> String {
    format!(
        "name: {name}\ndead_letters: {{path: letters}}\nsources: {{in: {{type: file, paths: [in.ndjson]}}}}\ntransforms: \
         {{strict: {{type: remap, inputs: [in], source: '.x = to_int!({to})'}}}}\nsinks: {{out: {{type: file, inputs: \
         [strict], path: {name}.ndjson}}}}\n"
    )
}

#[test]
fn graphs_that_share_a_log_try_their_own_letters_again_and_say_whose_the_others_are() {
    let home = Home::new(&sharing("first", ".text"));
    std::fs::write(home.path("second.yaml"), sharing("second", ".text")).unwrap();
    std::fs::create_dir(home.path("letters")).unwrap();
    write_input(&home, 3);
    let says = |args: &[&str], code| weir(&home.path(""), args).exits(code);
    let _ = says(&["run", "graph.yaml"], 0);
    let _ = says(&["run", "second.yaml"], 0);
    let list = says(&["dlq", "list", "graph.yaml", "--format", "json"], 0).out;
    let graphs: Vec<Value> =
        list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["graph"].clone()).collect();
    assert_eq!(graphs, ["first", "second"]);
    let shown = says(&["dlq", "show", "second.yaml"], 0).out;
    assert!(shown.contains("graph first  node strict") && shown.contains("graph second  node strict"), "{shown}");

    std::fs::write(home.path("graph.yaml"), sharing("first", ".n")).unwrap();
    let done = retry(&home, &[], 0);
    assert_eq!((&done["tried"], &done["settled"], &done["waiting"]), (&3.into(), &3.into(), &0.into()), "{done}");
    assert_eq!(done["elsewhere"], serde_json::json!({"second": 3}));
    assert_eq!(events(&home.path("first.ndjson")).len(), 3);
    let text = says(&["dlq", "retry", "graph.yaml"], 0).out;
    assert!(text.contains("3 belong to the graph `second`"), "{text}");
    // They are the other's to remove, too.
    assert!(says(&["dlq", "purge", "graph.yaml", "--all"], 0).out.starts_with("0 dead letters"));

    // Letters of an earlier version name no graph: whoever reads them tries them.
    let export = says(&["dlq", "export", "second.yaml"], 0).out;
    let mut unnamed: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(unnamed.iter_mut().all(|letter| letter.as_object_mut().unwrap().remove("graph").is_some()));
    let unnamed: String = unnamed.iter().map(|letter| format!("{letter}\n")).collect();
    std::fs::write(home.path("unnamed.ndjson"), unnamed).unwrap();
    // And what is imported is the importing graph's, whoever wrote it.
    std::fs::write(home.path("named.ndjson"), &export).unwrap();
    for letters in ["unnamed.ndjson", "named.ndjson"] {
        assert!(says(&["dlq", "import", "graph.yaml", "--from", letters], 0).out.starts_with("3 imported"));
        let done = retry(&home, &[], 0);
        assert_eq!((&done["settled"], &done["elsewhere"]["second"]), (&3.into(), &3.into()), "{letters}: {done}");
    }
}
