//! Documents into real Elasticsearches and real OpenSearches.
//!
//! The published server has no security, so that passwords and rights are held against a scripted one, in `elasticsearch.rs`.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;
use weir_tests::command::weir;
use weir_tests::process::Home;
use weir_tests::search::{Kind, OwnSearch};
use weir_tests::wait::{PATIENCE, until};

const LIMIT: Duration = Duration::from_secs(180);

/// The servers side by side: most of it is waiting.
fn on_each(test: impl Fn(Kind) + Sync) {
    std::thread::scope(|scope| {
        for kind in Kind::ALL {
            let test = &test;
            scope.spawn(move || test(kind));
        }
    });
}

/// A graph from `in.ndjson` into an index, with more options of the sink.
fn home(search: &OwnSearch, sink: &str, lines: &str) -> Home {
    let home = Home::new(&format!(
        "name: documents\nsources:\n  in: {{type: file, paths: [in.ndjson], decoding: json}}\nsinks:\n  out:\n    \
         type: elasticsearch\n    inputs: [in]\n    endpoints: [\"{}\"]\n{sink}",
        search.url()
    ));
    std::fs::write(home.path("in.ndjson"), lines).unwrap();
    home
}

fn run(search: &OwnSearch, sink: &str, lines: &str) -> Home {
    let home = home(search, sink, lines);
    let _ = weir(&home.path(""), &["run", "--once", "graph.yaml"]).exits(0);
    home
}

fn letters(home: &Home) -> String {
    weir(&home.path(""), &["dlq", "export", "graph.yaml"]).exits(0).out
}

fn numbered(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        let day = 1 + n % 3;
        writeln!(text, r#"{{"n":{n},"at":"2026-03-0{day}T12:00:00Z","message":"line {n}"}}"#).unwrap();
    }
    text
}

fn documents(search: &OwnSearch, requests: Option<u64>) {
    // A shard each, so that the server's count of requests to shards is that of requests.
    let one_shard = json!({"index_patterns": ["count*"], "template": {"settings": {"number_of_shards": 1}}});
    assert_eq!(search.ask("PUT", "/_index_template/one-shard", &one_shard).0, 200);
    run(search, "    index: count\n    batch: {max_events: 1000, timeout_secs: 1}\n", &numbered(10_500));
    assert_eq!(search.count("count"), 10_500);
    assert_eq!(
        search.bulk_requests("count"),
        requests,
        "ten of a thousand, and five hundred when they were old enough"
    );

    let dated = "    index: dated-%Y.%m.%d\n    time: .at\n    compression: gzip\n    request: {concurrency: 4}\n";
    run(search, dated, &numbered(3000));
    for day in 1..=3 {
        assert_eq!(search.count(&format!("dated-2026.03.0{day}")), 1000);
    }
    // Read again from the beginning: the ids are the same, and so is the count.
    run(search, dated, &numbered(3000));
    assert_eq!(search.count("dated-*"), 3000, "another folder with the same file is the same source");

    let strict = json!({"index_patterns": ["strict"], "template": {"mappings": {
        "dynamic": "strict", "properties": {"n": {"type": "long"}, "m": {"type": "keyword"}}}}});
    assert_eq!(search.ask("PUT", "/_index_template/strict", &strict).0, 200);
    let lines = "{\"n\":1}\n{\"n\":\"many\"}\n{\"n\":3,\"other\":1}\n[4]\n{\"n\":5,\"n\":6}\n{\n{\"n\":7}\n";
    let home = run(search, "    index: strict\n", lines);
    assert_eq!(search.count("strict"), 2);
    let letters = letters(&home);
    for part in ["mapping_failed", "failed to parse field [n] of type [long]", "strict", "no_object", "invalid_json"] {
        assert!(letters.contains(part), "{part}: {letters}");
    }
}

#[test]
fn documents_are_counted_dated_and_refused_with_a_reason() {
    on_each(|kind| documents(&OwnSearch::start(kind), kind.counts_requests().then_some(11)));
}

fn streams(search: &OwnSearch) {
    let stream = json!({"index_patterns": ["stream-*"], "data_stream": {}, "priority": 500});
    let template = format!("    template: {{name: streams, body: {stream}}}\n");
    let sink = format!("    index: stream-app\n    data_stream: true\n{template}");
    run(search, &sink, &numbered(1500));
    assert_eq!(search.count("stream-app"), 1500);
    run(search, &sink, &numbered(1500));
    assert_eq!(search.count("stream-app"), 1500, "what is there already counts as delivered");
    let hit = search.get("/stream-app/_search?size=1")["hits"]["hits"][0].clone();
    assert!(hit["_index"].as_str().unwrap().starts_with(".ds-stream-app-"), "{hit}");
    assert!(hit["_source"]["@timestamp"].is_string(), "{hit}");
    let home = home(search, "    index: stream-app\n", "");
    let said = weir(&home.path(""), &["doctor", "graph.yaml"]).out;
    assert!(said.contains("is a data stream, which takes new documents alone"), "{said}");

    // Versions from outside, in the wrong order.
    let versioned = "    index: versions\n    id: '{{ .id }}'\n    version: '{{ .v }}'\n";
    let home = run(
        search,
        versioned,
        "{\"id\":\"a\",\"v\":2}\n{\"id\":\"a\",\"v\":5}\n{\"id\":\"a\",\"v\":3}\n{\"id\":\"b\",\"v\":1}\n",
    );
    assert_eq!(search.get("/versions/_doc/a")["_source"]["v"], 5);
    assert_eq!(search.count("versions"), 2);
    assert_eq!(letters(&home), "", "what came too late is no fault");

    // Changes, and deletions.
    let changes = "    index: changes\n    id: '{{ .id }}'\n    action: '{{ .op }}'\n";
    let lines = "{\"id\":\"a\",\"op\":\"upsert\",\"x\":1}\n{\"id\":\"a\",\"op\":\"upsert\",\"y\":2}\n{\"id\":\"b\",\"op\":\"index\"}\n\
                 {\"id\":\"b\",\"op\":\"delete\"}\n{\"id\":\"c\",\"op\":\"delete\"}\n{\"id\":\"d\",\"op\":\"update\"}\n";
    let home = run(search, changes, lines);
    assert_eq!(search.count("changes"), 1);
    let source = search.get("/changes/_doc/a")["_source"].clone();
    assert_eq!((&source["x"], &source["y"]), (&json!(1), &json!(2)));
    assert!(letters(&home).contains("document_missing"), "of one that was never written");

    // An alias that comes later is waited for.
    let sink = "    index: alias\n    require_alias: true\n    batch: {timeout_secs: 0.05}\n";
    let waiting = self::home(search, sink, &numbered(10));
    let mut process = waiting.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("not an alias")
    });
    assert_eq!(search.ask("PUT", "/behind", &json!({"aliases": {"alias": {}}})).0, 200);
    process.wait(LIMIT);
    assert_eq!(search.count("behind"), 10);
}

#[test]
fn data_streams_aliases_versions_and_templates() {
    on_each(|kind| streams(&OwnSearch::start(kind)));
}

/// Documents of five indices by turns: one blocked, one open, one closed, one with an alias of two, one that may not be made.
fn of_apps(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        let app = ["blocked", "open", "closed", "alias", "new"][n % 5];
        writeln!(text, r#"{{"n":{n},"app":"{app}"}}"#).unwrap();
        text
    })
}

fn refusals(search: &OwnSearch) {
    let put = |method: &str, path: &str, body: serde_json::Value| {
        let (status, answer) = search.ask(method, path, &body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
    };
    let shards_per_node = |limit: Option<u32>| {
        put("PUT", "/_cluster/settings", json!({"persistent": {"cluster.max_shards_per_node": limit}}));
    };
    for index in ["app-blocked", "app-open", "app-closed", "one", "two"] {
        put("PUT", &format!("/{index}"), json!({"settings": {"number_of_replicas": 0}}));
    }
    let alias = |index: &str| json!({"add": {"index": index, "alias": "app-alias"}});
    put("POST", "/_aliases", json!({"actions": [alias("one"), alias("two")]}));
    put("PUT", "/app-blocked/_settings", json!({"index.blocks.write": true}));
    put("POST", "/app-closed/_close", json!(null));
    shards_per_node(Some(1));
    let sink = "    index: 'app-{{ .app }}'\n    index_wait: 1s\n    batch: {max_events: 100, timeout_secs: 0.05}\n";
    let home = run(search, sink, &of_apps(2000));
    assert_eq!(search.count("app-open"), 400, "nobody waits for the others");
    let told = letters(&home);
    assert_eq!(told.lines().count(), 1600);
    assert!(told.lines().all(|letter| letter.contains("index_unavailable")), "{told}");
    for part in [
        "app-blocked] blocked by: [FORBIDDEN/8/index write (api)]",
        "index_closed_exception",
        "no write index is defined for alias [app-alias]",
        "validation_exception: Validation Failed: 1: this action would add [",
    ] {
        assert_eq!(told.lines().filter(|letter| letter.contains(part)).count(), 400, "{part}");
    }

    // One that the graph names is waited for.
    let waiting = self::home(search, "    index: shards\n    batch: {timeout_secs: 0.05}\n", &numbered(10));
    let mut process = waiting.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("this action would add [")
    });
    shards_per_node(None);
    process.wait(LIMIT);
    assert_eq!((search.count("shards"), letters(&waiting)), (10, String::new()));

    let waiting = self::home(search, "    index: app-closed\n    batch: {timeout_secs: 0.05}\n", &numbered(10));
    let mut process = waiting.start("weir", &[]);
    until("/ready to say so", PATIENCE, || {
        let (status, body) = process.get("/ready");
        status == 503 && body.contains("index_closed_exception")
    });
    put("POST", "/app-closed/_open", json!(null));
    process.wait(LIMIT);
    assert_eq!((search.count("app-closed"), letters(&waiting)), (10, String::new()));

    // And what was rejected gets through when all is put right.
    put("PUT", "/app-blocked/_settings", json!({"index.blocks.write": null}));
    put("POST", "/_aliases", json!({"actions": [{"remove": {"index": "two", "alias": "app-alias"}}]}));
    let _ = weir(&home.path(""), &["dlq", "retry", "graph.yaml"]).exits(0);
    assert_eq!(
        ["blocked", "closed", "alias", "new"].map(|app| search.count(&format!("app-{app}"))),
        [400, 410, 400, 400]
    );
}

#[test]
fn an_index_that_refuses_documents_holds_back_no_other_and_gets_them_when_it_is_put_right() {
    on_each(|kind| refusals(&OwnSearch::start(kind)));
}

#[test]
fn an_elasticsearch_that_is_killed_under_load_has_everything_when_it_is_back() {
    let search = OwnSearch::start(Kind::Elasticsearch9);
    let sink = "    index: load\n    batch: {max_events: 500}\n    request: {timeout: 20s}\n";
    let count = 200_000;
    let home = home(&search, sink, &numbered(count));
    let mut process = home.start("weir", &[]);
    until("documents to arrive", LIMIT, || search.count("load") > 20_000);
    search.kill();
    until("/ready to say so", PATIENCE, || process.get("/ready").0 == 503);
    search.restart();
    process.wait(LIMIT);
    assert_eq!(search.count("load"), count as u64);
}
