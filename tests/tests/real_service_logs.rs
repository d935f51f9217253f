//! From Filebeat to a real Elasticsearch, by Kafka and by Lumberjack, while everything between them is killed: each line is one
//! document, or one dead letter.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::{Value, json};
use weir::graph::{DeadLetter, read_dead_letters};
use weir_tests::bulk_proxy::{BulkProxy, Fate};
use weir_tests::campaign::Campaign;
use weir_tests::filebeat::Filebeat;
use weir_tests::process::{Home, binary};
use weir_tests::push::free_address;
use weir_tests::search::{Kind, OwnSearch};
use weir_tests::topic::{Group, Topic};
use weir_tests::wait::{PATIENCE, moment, until};

const STOP: Duration = Duration::from_secs(30);

/// The example's own command, as a person types it; stopped when it is dropped.
struct Consumer {
    child: Child,
    home: tempfile::TempDir,
}

impl Consumer {
    fn start(topic: &Topic, proxy: &BulkProxy, flags: &[&str]) -> Consumer {
        let home = tempfile::Builder::new().prefix("weir-consume-").tempdir().unwrap();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config-examples/service-logs/consume");
        let mut command = Command::new(example);
        command.args(["--brokers", &topic.servers, "--topic", &topic.name]).args(flags);
        command.args(["--", "--set", &format!("sources.logs.group_id={}", topic.name)]);
        command.args(["--set", "telemetry.listen=127.0.0.1:0", "--set", "sources.logs.session_timeout=6s"]);
        command.args(["--set", "sources.logs.group_instance_id=one", "--set", "sources.logs.commit_interval=100ms"]);
        command.args(["--set", &format!("data_dir={}", home.path().join("data").display())]);
        let address = proxy.address();
        command.env("WEIR", binary()).env("ELK_HOST", address.ip().to_string());
        command.env("ELK_PORT", address.port().to_string()).current_dir(home.path());
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Consumer { child, home }
    }

    fn letters(&self) -> Vec<DeadLetter> {
        letters(&self.home.path().join("data"), "service-logs")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It runs as weir itself by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The dead letters of a graph.
fn letters(data_dir: &Path, graph: &str) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let dir = data_dir.join(graph).join("dead-letters");
    read_dead_letters(&dir, |letter| letters.push(letter), |damage| panic!("{damage}")).unwrap();
    letters
}

/// Every document of an index, in pages of one view: segments merge while nobody writes, and pages of the index as it stands
/// would overlap.
fn documents(search: &OwnSearch, index: &str) -> Vec<Value> {
    let count = search.count(index);
    let mut all = Vec::new();
    let mut path = format!("/{index}/_search?scroll=1m");
    let mut question = json!({"size": 10_000, "sort": ["_doc"]});
    loop {
        let (status, answer) = search.ask("POST", &path, &question);
        assert_eq!(status, 200, "{answer}");
        let hits = answer["hits"]["hits"].as_array().unwrap();
        if hits.is_empty() {
            assert_eq!(all.len() as u64, count);
            return all;
        }
        all.extend(hits.iter().map(|hit| hit["_source"].clone()));
        "/_search/scroll".clone_into(&mut path);
        question = json!({"scroll": "1m", "scroll_id": answer["_scroll_id"]});
    }
}

#[test]
fn the_consumer_takes_both_shapes_a_thousand_at_a_time_and_keeps_what_is_broken() {
    let topic = Topic::create("service-logs", 3, &[]);
    let search = OwnSearch::start(Kind::Elasticsearch8);
    let proxy = BulkProxy::start(&search.url());
    let direct = |n: usize| json!({"service": "cart-service", "level": "INFO", "timestamp": "2026-03-01T10:00:00.123Z", "hostname": "a", "message": format!("direct {n:05}")});
    let beat = |n: usize| {
        let said = json!({"service": "x-service", "level": "WARN", "timestamp": "2026-03-01T10:00:01Z", "hostname": "b", "message": format!("beat {n:05}")});
        let event = json!({"@timestamp": "2026-03-01T10:00:02.000Z", "@metadata": {"beat": "filebeat"}, "message": said.to_string(),
            "log": {"offset": n, "file": {"path": "/mnt/data/logs/x-service/a.log"}}, "fields": {"service": "x-service"},
            "agent": {"id": "1", "type": "filebeat"}, "host": {"name": "node"}});
        // As Filebeat writes it with codec.json.pretty.
        serde_json::to_string_pretty(&event).unwrap()
    };
    let mut records: Vec<String> = (0..5250).map(|n| direct(n).to_string()).chain((0..5250).map(beat)).collect();
    records.push("{\"service\": \"cart-service\", \"message\":".to_owned());
    topic.write(records.iter().map(String::as_str));

    // All is there before anything is read, so that what is left is sent when it is old enough.
    let consumer = Consumer::start(&topic, &proxy, &["--batch", "1000", "--age", "3"]);
    until("everything in the index", PATIENCE, || search.count("service-logs") == 10_500);
    let group = Group::of(&topic);
    until("everything to be committed", PATIENCE, || topic.is_read_by(&group));
    let mut sizes = proxy.counts().sizes;
    sizes.sort_unstable();
    assert_eq!(
        sizes,
        [500].into_iter().chain([1000; 10]).collect::<Vec<_>>(),
        "ten of a thousand, and the rest by age"
    );
    let letters = consumer.letters();
    assert_eq!((letters.len(), letters[0].code.as_str()), (1, "invalid_json"), "{letters:?}");

    let mut all = documents(&search, "service-logs");
    all.sort_by_key(|document| document["message"].to_string());
    let fields = |service: &str, level: &str, timestamp: &str, hostname: &str, message: &str| json!({"service": service, "level": level, "@timestamp": timestamp, "hostname": hostname, "message": message});
    assert_eq!(all[0], fields("x-service", "WARN", "2026-03-01T10:00:01Z", "b", "beat 00000"));
    assert_eq!(all[10_499], fields("cart-service", "INFO", "2026-03-01T10:00:00.123Z", "a", "direct 05249"));
    println!(
        "service-logs: {} records, bulk requests of {sizes:?}, dead letter: {}",
        records.len(),
        letters[0].message
    );
}

#[test]
fn a_server_that_is_away_or_full_costs_no_record_and_no_offset_runs_ahead() {
    let campaign = Campaign::of("a_server_that_is_away_or_full_costs_no_record_and_no_offset_runs_ahead");
    let topic = Topic::create("service-logs", 3, &[]);
    let search = OwnSearch::start(Kind::Elasticsearch8);
    let proxy = BulkProxy::start(&search.url());
    proxy.decide(|item| match item.document()["message"].as_str().and_then(|text| text.parse::<u64>().ok()) {
        Some(n) if n % 100 == 7 => Fate::Refused,
        Some(n) if n % 10 == 3 => Fate::Waits,
        _ => Fate::Goes,
    });
    let record = |n: u64| {
        json!({"service": "a-service", "level": "INFO", "timestamp": "2026-03-01T10:00:00Z", "hostname": "a", "message": n.to_string()}).to_string()
    };
    let write =
        |numbers: std::ops::Range<u64>| topic.write(numbers.map(record).collect::<Vec<_>>().iter().map(String::as_str));
    let group = Group::of(&topic);
    write(0..20_000);
    let consumer = Consumer::start(&topic, &proxy, &["--age", "0.2"]);
    until("the first to be committed", PATIENCE, || topic.is_read_by(&group));
    proxy.goes_away();
    let before: u64 = topic.committed(&group).iter().sum();
    write(20_000..40_000);
    let back = Instant::now() + campaign.span(Duration::from_secs(60), Duration::from_secs(6));
    until("the time to pass", 2 * PATIENCE, || Instant::now() >= back);
    assert_eq!(topic.committed(&group).iter().sum::<u64>(), before, "nothing is committed that nobody has");
    proxy.comes_back();
    until("everything to be committed", PATIENCE, || topic.is_read_by(&group));
    let (there, letters) = (search.count("service-logs"), consumer.letters());
    assert_eq!((there, letters.len()), (39_600, 400));
    assert!(letters.iter().all(|letter| letter.message.contains("the proxy says so")), "{:?}", letters.first());
    let counts = proxy.counts();
    assert!(counts.waits >= 4000, "{counts:?}");
    println!(
        "service-logs: away, then {there} documents, {} dead letters, {} items sent again",
        letters.len(),
        counts.waits
    );
}

const LUMBERJACK: &str = r#"name: lines
checkpoint_every: 50ms
sources:
  in: {type: filebeat, listen: "127.0.0.1:5044"}
transforms:
  number: {type: remap, inputs: [in], source: '.n = to_int!(object!(parse_json!(string!(.message))).n)'}
sinks:
  out:
    type: elasticsearch
    inputs: [number]
    endpoints: ["http://127.0.0.1:9200"]
    index: lines
    template: {name: lines, body: {index_patterns: [lines], template: {settings: {number_of_shards: 1, number_of_replicas: 0}, mappings: {dynamic: false, properties: {n: {type: long}}}}}}
    batch: {max_events: 1000, timeout_secs: 0.2}
"#;

#[test]
fn each_line_is_one_document_or_one_letter_while_everything_is_killed() {
    let mut campaign = Campaign::of("each_line_is_one_document_or_one_letter_while_everything_is_killed");
    let (lines, kills, beat_kills) = (campaign.count(1_000_000), campaign.count(50), campaign.count(5).max(1));
    let away = campaign.span(Duration::from_secs(60), Duration::from_secs(6));
    let search = OwnSearch::start(Kind::Elasticsearch8);
    let proxy = BulkProxy::start(&search.url());
    let (listen, home) = (free_address(), Home::new(LUMBERJACK));
    let set = [format!("sources.in.listen={listen}"), format!("sinks.out.endpoints.0=http://{}", proxy.address())];
    let start = || home.start("weir", &set.each_ref().map(String::as_str));
    let filebeat = Filebeat::new(Vec::new());
    let mut text = String::new();
    for n in 0..lines {
        writeln!(text, r#"{{"n":{n},"level":"INFO","text":"a line of a service that says what it does, number {n}"}}"#)
            .unwrap();
    }
    std::fs::write(filebeat.log_file(), text).unwrap();

    // Some lines it never takes, from the beginning to the end: what is a document must not be refused when it comes again.
    let choose = |is_full: bool| {
        proxy.decide(move |item| match item.document()["n"].as_u64() {
            Some(n) if n % 100 == 7 => Fate::Refused,
            Some(n) if is_full && n % 10 == 3 => Fate::Waits,
            _ => Fate::Goes,
        });
    };
    choose(false);
    let mut weir = start();
    filebeat.start(&listen.to_string());
    // So many ends of weir over all of it; in the middle the server is away, and then it has no room for some.
    let (mut done, mut beats, mut was_away) = (0, 0, false);
    let deadline = Instant::now() + Duration::from_secs(1800);
    while done < kills || !was_away {
        let seen = search.count("lines");
        let wanted = lines * done / (kills + 1);
        assert!(Instant::now() < deadline, "{seen} documents, {done} kills");
        if !was_away && done >= kills / 2 {
            proxy.goes_away();
            let back = Instant::now() + away;
            until("the time to pass", 2 * PATIENCE, || Instant::now() >= back);
            choose(true);
            proxy.comes_back();
            was_away = true;
        }
        if seen < wanted {
            weir.assert_running();
            moment();
            continue;
        }
        if done < kills {
            for _ in 0..campaign.random.random_range(0..8) {
                moment();
            }
            weir.kill();
            weir = start();
            done += 1;
            if beats < beat_kills && done * beat_kills >= (beats + 1) * kills {
                filebeat.kill();
                filebeat.start(&listen.to_string());
                beats += 1;
            }
        }
    }
    let refused = || -> Vec<u64> {
        let number = |letter: DeadLetter| {
            let event: Value = serde_json::from_slice(&letter.bytes().unwrap()).unwrap();
            event["n"].as_u64().unwrap()
        };
        letters(&home.data_dir("weir"), "lines").into_iter().map(number).collect()
    };
    until("every line", Duration::from_secs(600), || {
        weir.assert_running();
        search.count("lines") + refused().into_iter().collect::<BTreeSet<_>>().len() as u64 >= lines
    });
    until("nothing to be on its way", PATIENCE, || weir.metric(r#"weir_source_lag_events{node="in"}"#) == Some(0));
    weir.stop(STOP);

    let documents = documents(&search, "lines");
    let mut numbers: BTreeSet<u64> = documents.iter().map(|document| document["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), documents.len(), "no line is two documents");
    let refused = refused();
    let distinct: BTreeSet<u64> = refused.iter().copied().collect();
    assert_eq!(distinct.len(), refused.len(), "no line is two letters");
    assert!(distinct.is_disjoint(&numbers), "no line is a document and a letter");
    numbers.extend(&distinct);
    assert_eq!(numbers.len() as u64, lines, "no line is missing");
    println!(
        "service-logs: {lines} lines, {done} kills of weir, {beats} of Filebeat, server away for {away:?}: {} documents, {} dead letters, {} items sent again",
        documents.len(),
        refused.len(),
        proxy.counts().waits
    );
}
