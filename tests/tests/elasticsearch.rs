//! Files into a scripted bulk server: kills, outages, refusals, rights.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::bulk::{BulkServer, Play, Refusal};
use weir_tests::campaign::Campaign;
use weir_tests::command::weir;
use weir_tests::process::Home;
use weir_tests::wait::{PATIENCE, until};

const LIMIT: Duration = Duration::from_secs(120);

fn graph(server: &BulkServer, more: &str) -> String {
    format!(
        "name: documents\nsources:\n  in: {{type: file, paths: [in.ndjson], decoding: json}}\nsinks:\n  out:\n    \
         type: elasticsearch\n    inputs: [in]\n    endpoints: [\"{}\"]\n    index: logs\n{more}",
        server.url()
    )
}

fn lines(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        writeln!(text, r#"{{"n":{n},"message":"line number {n}","padding":"{}"}}"#, "x".repeat(n % 300)).unwrap();
    }
    text
}

/// The numbers that the server has, and how many documents that are.
fn numbers(server: &BulkServer) -> (BTreeSet<u64>, usize) {
    let seen = server.seen();
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
    (seen.store.values().map(|stored| number(&stored.line)).collect(), seen.store.len())
}

#[test]
fn kills_and_outages_leave_every_document_once() {
    let campaign = Campaign::of("kills_and_outages_leave_every_document_once");
    let count = usize::try_from(campaign.count(600_000)).unwrap();
    let kills = campaign.count(50).max(5);
    let mut number = 0;
    let mut server = BulkServer::play(move |items| {
        number += 1;
        match number % 12 {
            2 => Play::Cut(true),
            5 => Play::Items(items.iter().enumerate().map(|(at, _)| if at % 3 == 0 { 429 } else { 0 }).collect()),
            8 => Play::Half,
            _ => Play::Right,
        }
    });
    let home = Home::new(&graph(&server, "    batch: {max_events: 100, timeout_secs: 0.05}\n"));
    std::fs::write(home.path("in.ndjson"), lines(count)).unwrap();
    for kill in 0..kills {
        let process = home.start("weir", &[]);
        let before = server.count();
        let goal = count.min(before + count / (kills as usize + 1));
        until("documents to arrive", LIMIT, || server.count() >= goal);
        if kill % 2 == 1 {
            server.close();
            process.kill();
            server.open();
        } else {
            process.kill();
        }
    }
    let mut process = home.start("weir", &[]);
    process.wait(LIMIT);
    let (numbers, documents) = numbers(&server);
    assert_eq!(documents, count, "each document is there once");
    assert_eq!(numbers.len(), count, "and none is missing");
}

#[test]
fn a_server_that_is_away_is_waited_for_in_little_memory() {
    let campaign = Campaign::of("a_server_that_is_away_is_waited_for_in_little_memory");
    let count = usize::try_from(campaign.count(2_000_000)).unwrap();
    let mut server = BulkServer::start();
    let home = Home::new(&format!("memory: 16MiB\n{}", graph(&server, "")));
    std::fs::write(home.path("in.ndjson"), lines(count)).unwrap();
    server.close();
    let mut process = home.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("out") && body.contains("cannot connect")
    });
    // All that fits in is in; from here on it must not grow.
    let mut last = 0;
    until("it to stop reading", PATIENCE, || {
        let received = process.events("out", "received");
        std::mem::replace(&mut last, received) == received && received > 0
    });
    let away = process.rss();
    server.open();
    let mut peak = away;
    until("the documents to arrive", LIMIT, || {
        peak = process.peak_rss().unwrap_or(peak);
        server.count() == count
    });
    process.wait(LIMIT);
    assert_eq!(numbers(&server).0.len(), count);
    assert!(away < 120 << 20 && peak < 160 << 20, "{away} bytes while it was away, {peak} at most");
}

#[test]
fn who_may_not_write_waits_and_loses_nothing() {
    let server = BulkServer::start();
    server.ask_for(Some("ApiKey c3dvcmRmaXNo"));
    let auth = "    auth: {strategy: api_key, key: c3dvcmRmaXNo}\n    batch: {timeout_secs: 0.05}\n";
    let home = Home::new(&graph(&server, auth));
    std::fs::write(home.path("in.ndjson"), lines(100)).unwrap();
    server.ask_for(Some("ApiKey another"));
    let mut process = home.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("401") && body.contains("check auth") && !body.contains("c3dvcmRmaXNo")
    });
    assert_eq!(server.count(), 0);
    server.ask_for(Some("ApiKey c3dvcmRmaXNo"));
    process.wait(LIMIT);
    assert_eq!(server.count(), 100);
}

#[test]
fn what_the_server_refuses_is_a_dead_letter_with_its_reason() {
    let server = BulkServer::start();
    let home = Home::new(&graph(&server, ""));
    let input = "{\"n\":1}\n{\"n\":2,\"poison\":true}\n[3]\nno json\n{\"n\":5}\n";
    std::fs::write(home.path("in.ndjson"), input).unwrap();
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    assert_eq!(numbers(&server).0, BTreeSet::from([1, 5]));
    let letters = weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out;
    for code in ["mapping_failed", "no_object", "invalid_json", "document_parsing_exception"] {
        assert!(letters.contains(code), "{code}: {letters}");
    }
}

#[test]
fn ten_thousand_five_hundred_documents_are_eleven_requests() {
    let server = BulkServer::start();
    let home = Home::new(&graph(&server, "    batch: {max_events: 1000, timeout_secs: 1}\n"));
    std::fs::write(home.path("in.ndjson"), lines(10_500)).unwrap();
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    let mut sizes = server.seen().sizes.clone();
    sizes.sort_unstable();
    assert_eq!(sizes, [vec![500], vec![1000; 10]].concat());
}

#[test]
fn a_template_is_there_before_the_first_document() {
    let mut server = BulkServer::start();
    let template = "    template: {name: logs, body: {index_patterns: [\"logs*\"]}}\n    batch: {timeout_secs: 0.05}\n";
    let home = Home::new(&graph(&server, template));
    std::fs::write(home.path("in.ndjson"), lines(10)).unwrap();
    server.close();
    let mut process = home.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("index template") && body.contains("cannot connect")
    });
    server.open();
    process.wait(LIMIT);
    assert_eq!(server.count(), 10);
    assert_eq!(server.seen().templates["logs"], json!({"index_patterns": ["logs*"]}));
}

#[test]
fn doctor_says_what_is_there_and_what_is_not() {
    let server = BulkServer::start();
    let home = Home::new(&graph(&server, "    require_alias: true\n"));
    std::fs::write(home.path("in.ndjson"), "").unwrap();
    let said = weir(&home.path(""), &["doctor", "graph.yaml"]).out;
    assert!(said.contains("Elasticsearch 8.19.0") && said.contains("alias \"logs\" does not exist"), "{said}");
    server.seen().aliases.insert("logs".to_owned());
    let said = weir(&home.path(""), &["doctor", "graph.yaml"]).out;
    assert!(said.contains("\"logs\" is an alias"), "{said}");
    server.ask_for(Some("ApiKey x"));
    let said = weir(&home.path(""), &["doctor", "graph.yaml"]).out;
    assert!(said.contains("401") && said.contains("check `auth`"), "{said}");
}

/// What servers say of an index that takes no documents, by status and type.
const REFUSALS: [(u16, &str, &str); 8] = [
    (403, "cluster_block_exception", "index [logs-a] blocked by: [FORBIDDEN/8/index write (api)];"),
    (
        429,
        "cluster_block_exception",
        "index [logs-a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage];",
    ),
    (400, "index_closed_exception", "closed"),
    (
        400,
        "validation_exception",
        "Validation Failed: 1: this action would add [2] shards, but this cluster currently has [1]/[1]",
    ),
    (400, "illegal_argument_exception", "no write index is defined for alias [logs-a]."),
    (400, "invalid_index_name_exception", "Invalid index name [logs-a], must be lowercase"),
    (404, "index_not_found_exception", "no such index [logs-a] and [action.auto_create_index] is [false]"),
    (503, "unavailable_shards_exception", "[logs-a][0] primary shard is not active"),
];

fn refusal(index: &str, (status, kind, reason): (u16, &'static str, &str)) -> Play {
    Play::Refuse(Refusal { index: index.to_owned(), status, kind, reason: reason.to_owned() })
}

/// Documents of three applications by turns, of 40 ids each.
fn of_apps(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, r#"{{"n":{n},"app":"{}","id":{}}}"#, ["a", "b", "c"][n % 3], n % 120).unwrap();
        text
    })
}

fn by_app(server: &BulkServer, more: &str) -> Home {
    let graph = graph(server, more).replace("index: logs\n", "index: 'logs-{{ .app }}'\n");
    Home::new(&graph)
}

#[test]
fn an_index_that_refuses_documents_costs_the_events_that_choose_it_and_no_other() {
    for refused in REFUSALS {
        let server = BulkServer::play(move |_| refusal("logs-a", refused));
        let home = by_app(&server, "    index_wait: 200ms\n    batch: {max_events: 50, timeout_secs: 0.05}\n");
        std::fs::write(home.path("in.ndjson"), of_apps(3000)).unwrap();
        let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
        assert_eq!(server.count(), 2000, "{refused:?}: all documents of the others");
        let letters = weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out;
        assert_eq!(letters.lines().count(), 1000, "{refused:?}");
        let code = match refused.1 {
            "invalid_index_name_exception" => "invalid_index_name",
            "index_not_found_exception" => "index_not_found",
            _ => "index_unavailable",
        };
        assert!(letters.lines().all(|letter| letter.contains(code) && letter.contains(refused.1)), "{letters}");
    }
}

#[test]
fn documents_wait_for_their_index_while_others_pass_and_come_in_order_when_it_is_back() {
    let server = BulkServer::play(move |_| refusal("logs-a", REFUSALS[0]));
    let more = "    index_wait: 1h\n    id: '{{ .id }}'\n    batch: {max_events: 50, timeout_secs: 0.05}\n";
    let home = by_app(&server, more);
    std::fs::write(home.path("in.ndjson"), of_apps(3000)).unwrap();
    let mut process = home.start("weir", &[]);
    until("the others to pass", LIMIT, || server.count() == 80);
    assert_eq!(process.get("/ready").0, 200, "one index of many is no reason to send traffic elsewhere");
    server.follow(|_| Play::Right);
    process.wait(LIMIT);
    let expected: BTreeSet<u64> = (2880..3000).collect();
    assert_eq!(numbers(&server), (expected, 120), "of each id the last");
    assert_eq!(weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out, "");
}

#[test]
fn an_index_that_the_graph_names_is_waited_for_and_ready_says_why() {
    for refused in REFUSALS {
        let server = BulkServer::play(move |_| refusal("logs", refused));
        let home = Home::new(&graph(&server, "    index_wait: 1ms\n    batch: {timeout_secs: 0.05}\n"));
        std::fs::write(home.path("in.ndjson"), lines(100)).unwrap();
        let mut process = home.start("weir", &[]);
        until("/ready to say so", PATIENCE, || {
            let (status, body) = process.get("/ready");
            status == 503 && body.contains(refused.1)
        });
        server.follow(|_| Play::Right);
        process.wait(LIMIT);
        assert_eq!(server.count(), 100, "{refused:?}");
        assert_eq!(weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out, "");
    }
}

#[test]
fn answers_without_end_and_answers_that_expand_cost_little_memory_and_no_document() {
    for (what, hostile) in [("endless", Play::endless()), ("bomb", Play::bomb())] {
        let server = BulkServer::play(move |_| hostile.clone());
        let home = Home::new(&format!("memory: 64MiB\n{}", graph(&server, "    request: {concurrency: 16}\n")));
        std::fs::write(home.path("in.ndjson"), lines(200_000)).unwrap();
        let mut process = home.start("weir", &[]);
        until("/ready to say so", PATIENCE, || {
            let (status, body) = process.get("/ready");
            status == 503 && body.contains("the answer has more than")
        });
        until("many such answers", LIMIT, || server.seen().requests > 17);
        let peak = process.peak_rss().unwrap();
        println!("{what}: {} MiB at most", peak >> 20);
        assert!(peak < 300 << 20, "{what}: {peak} bytes");
        server.follow(|_| Play::Right);
        process.wait(LIMIT);
        assert_eq!(server.count(), 200_000, "{what}");
    }
}
