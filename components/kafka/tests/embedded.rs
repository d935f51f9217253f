//! Source and sink against librdkafka's mock cluster: no service is needed.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "time here is the broker's, not a lane's")]

mod kit;

use std::collections::BTreeSet;
use std::time::Duration;

use kit::{LIMIT, Member, Record, SinkAtWork, content, event, fill, record, source, until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use vrl::value::Value;
use weir::component::{BuildContext, Lanes, Problems, Read, SinkConfig, SourceConfig};
use weir::delivery::Outcome;
use weir::event::{Body, Position};
use weir_kafka::{KafkaSink, KafkaSource};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topics: &[(&str, i32)]) -> (Cluster, String) {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions, 1).unwrap();
    }
    let servers = cluster.bootstrap_servers();
    (cluster, servers)
}

fn numbered(partition: i32, numbers: std::ops::Range<u32>) -> impl Iterator<Item = Record> {
    numbers.map(move |n| record(partition, format!(r#"{{"n":{n}}}"#)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_is_read_in_order_up_to_the_end_and_then_the_source_ends() {
    let (_cluster, servers) = cluster(&[("t", 3)]);
    for partition in 0..2 {
        fill(&servers, "t", numbered(partition, 0..3000));
    }
    let seen = Member::start(source(&servers, "g", &["t"], json!({ "stop": "at_end" }))).await.end().await;
    assert_eq!(seen.len(), 6000);
    for partition in 0..2 {
        let of_one: Vec<_> = seen.iter().filter(|seen| seen.origin.partition == partition).collect();
        assert!(of_one.iter().enumerate().all(|(n, seen)| seen.event.position == Position(n as u64)
            && seen.text() == format!(r#"{{"n":{n}}}"#)
            && seen.event.time.0 > 1_600_000_000_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_behind_what_was_settled() {
    // The mock cluster answers nobody's join until the session of a member that left is over, hence a short one.
    let (_cluster, servers) = cluster(&[("t", 2)]);
    fill(&servers, "t", numbered(0, 0..100));
    let first = Member::start(source(&servers, "g", &["t"], json!({ "session_timeout": "6s" }))).await;
    until("100 events", || first.count() == 100).await;
    first.stop().await;
    fill(&servers, "t", numbered(0, 100..150));
    let seen = Member::start(source(&servers, "g", &["t"], json!({ "stop": "at_end" }))).await.end().await;
    assert_eq!(seen.iter().map(|seen| seen.event.position.0).collect::<Vec<_>>(), (100..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_headers_and_tombstones_come_through_source_and_sink() {
    let (_cluster, servers) = cluster(&[("a", 1), ("b", 1)]);
    let headers = vec![("h".to_owned(), Some("1".to_owned())), ("h".to_owned(), None)];
    let full = Record { key: Some("k".into()), headers, ..record(0, r#"{ "n" : 1 }"#) };
    let tombstone = Record { key: Some("k".into()), value: None, ..record(0, "") };
    fill(&servers, "a", [full, tombstone, record(0, "")]);
    let seen = content(&servers, "a").await;
    assert_eq!(seen[0].event.key().unwrap(), "k");
    assert_eq!(seen[0].event.headers(), [("h".to_owned(), Some("1".into())), ("h".to_owned(), None)]);
    assert!(matches!(seen[1].event.body, Body::Parsed(Value::Null)));
    assert!(matches!(&seen[2].event.body, Body::Raw(bytes, _) if bytes.is_empty()), "empty is not a tombstone");

    let mut sink = SinkAtWork::start(&servers, "b", json!({ "encoding": "raw" })).await;
    sink.write(0, seen.iter().map(|seen| seen.event.clone()).collect()).await;
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::Delivered);
    assert_eq!(sink.context.books.totals().passed, 3);
    let copied = content(&servers, "b").await;
    for (seen, copied) in seen.iter().zip(&copied) {
        assert_eq!(format!("{:?}", seen.event), format!("{:?}", copied.event));
    }
    assert_eq!(copied.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_reads_all_topics_that_match() {
    let (_cluster, servers) = cluster(&[("logs-a", 1), ("logs-b", 2), ("metrics", 1)]);
    for topic in ["logs-a", "logs-b", "metrics"] {
        fill(&servers, topic, numbered(0, 0..10));
    }
    let member = Member::start(source(&servers, "g", &["^logs-"], json!({}))).await;
    until("20 events", || member.count() == 20 && member.lanes() == 3).await;
    let topics: BTreeSet<_> = member.stop().await.iter().map(|seen| seen.origin.log.clone()).collect();
    assert_eq!(topics, ["logs-a".to_owned(), "logs-b".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_seek_the_next_read_begins_exactly_there() {
    let (_cluster, servers) = cluster(&[("t", 1)]);
    fill(&servers, "t", numbered(0, 0..5000));
    let config: KafkaSource = serde_json::from_value(source(&servers, "g", &["t"], json!({}))).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let (lanes, mut graph) = Lanes::detached();
    let running = tokio::spawn(config.build(&context).await.unwrap().run(lanes));
    let lane = graph.next().await.unwrap();
    let (mut origin, end) = (lane.origin, lane.end);
    // Before anything was fetched, backwards with much in the queue, forwards, to the start.
    for target in [100, 4321, 17, 4999, 0, 2500] {
        origin.seek(Position(target)).await.unwrap();
        for _ in 0..2 {
            let mut next = target;
            while next < 5000 && next < target + 700 {
                let Read::Events(events) = origin.read(LIMIT).await.unwrap() else { panic!("no end is due") };
                for event in events {
                    assert_eq!(event.position, Position(next), "after a seek to {target}");
                    next += 1;
                }
            }
            origin.seek(Position(target)).await.unwrap();
        }
    }
    assert!(origin.lag().is_some());
    graph.stop();
    drop(origin);
    end.clean();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_partitions_over_without_loss() {
    let (_cluster, servers) = cluster(&[("t", 4)]);
    let more = json!({ "commit_interval": "100ms", "session_timeout": "6s",
        "librdkafka_options": { "heartbeat.interval.ms": 200 } });
    let one = Member::start(source(&servers, "g", &["t"], more.clone())).await;
    until("the first has all", || one.lanes() == 4).await;
    for partition in 0..4 {
        fill(&servers, "t", numbered(partition, 0..500));
    }
    until("2000 events", || one.count() == 2000).await;
    let two = Member::start(source(&servers, "g", &["t"], more)).await;
    until("both have two", || one.lanes() == 2 && two.lanes() == 2).await;
    for partition in 0..4 {
        fill(&servers, "t", numbered(partition, 500..1000));
    }
    until("4000 events", || one.count() + two.count() >= 4000).await;
    let seen_by_one = one.stop().await;
    until("the second has all", || two.lanes() == 4).await;
    for partition in 0..4 {
        fill(&servers, "t", numbered(partition, 1000..1100));
    }
    until("all events", || seen_by_one.len() + two.count() >= 4400).await;
    let seen_by_two = two.stop().await;
    let all: Vec<_> = seen_by_one.iter().chain(&seen_by_two).map(|s| (s.origin.partition, s.event.position)).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (4400, 4400), "every event once, as every lane drained in time");
}

/// Commits offsets as another program would.
fn commit(servers: &str, group: &str, offsets: &[(&str, i32, i64)]) {
    let consumer: BaseConsumer = kit::plain(servers).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_start_latest_a_partition_that_is_new_to_the_group_is_read_from_its_beginning() {
    let (_cluster, servers) = cluster(&[("t", 3), ("u", 2)]);
    for partition in 0..3 {
        fill(&servers, "t", numbered(partition, 0..100));
    }
    fill(&servers, "u", numbered(0, 0..100));
    commit(&servers, "g", &[("t", 0, 100), ("t", 1, 90)]);
    let member = Member::start(source(&servers, "g", &["t", "u"], json!({ "start": "latest" }))).await;
    until("all lanes", || member.lanes() == 5).await;
    until("110 events", || member.count() == 110).await;
    fill(&servers, "u", numbered(0, 100..101));
    until("one more", || member.count() == 111).await;
    let seen = member.stop().await;
    let of = |topic: &str, partition| {
        let of_one = seen.iter().filter(|seen| seen.origin.log == topic && seen.origin.partition == partition);
        of_one.map(|seen| seen.event.position.0).collect::<Vec<_>>()
    };
    assert_eq!((of("t", 0), of("t", 1)), (vec![], (90..100).collect()), "where the group was");
    assert_eq!(of("t", 2), (0..100).collect::<Vec<_>>(), "the group had not read it");
    assert_eq!(of("u", 0), [100], "a topic that is new to the group begins at its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_gone_is_found_again_as_the_graph_says_and_not_in_silence() {
    let (_cluster, servers) = cluster(&[("t", 1)]);
    fill(&servers, "t", numbered(0, 0..10));
    let policies = ["earliest", "latest", "fail"];
    policies.iter().for_each(|policy| commit(&servers, policy, &[("t", 0, 500)]));
    let start = |policy| Member::start(source(&servers, policy, &["t"], json!({ "on_out_of_range": policy })));
    let (earliest, latest, fail) = tokio::join!(start(policies[0]), start(policies[1]), start(policies[2]));
    let says = |member: &Member| {
        let told = member.context.trouble.get();
        told.is_some_and(|text| text.contains("offset 500 is gone (the log has 0 up to 10)"))
    };
    until("both tell of the jump", || says(&earliest) && says(&latest)).await;
    fill(&servers, "t", numbered(0, 10..11));
    until("what is there", || earliest.count() == 11 && latest.count() == 1).await;
    assert!(says(&earliest) && says(&latest), "and it stays so for a while");
    assert_eq!(latest.stop().await[0].event.position, Position(10));
    earliest.stop().await;
    let error = fail.outcome().await.unwrap_err().to_string();
    for part in ["offset 500 is gone", "--reset-offsets", "on_out_of_range: earliest"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_state_needs_all_partitions_nothing_is_read_while_another_member_has_some() {
    let (_cluster, servers) = cluster(&[("t", 4)]);
    let options = source(
        &servers,
        "g",
        &["t"],
        json!({ "session_timeout": "6s", "librdkafka_options": { "heartbeat.interval.ms": 200 } }),
    );
    let one = Member::start_with(options.clone(), true).await;
    until("the first reads all", || one.lanes() == 4).await;
    fill(&servers, "t", numbered(0, 0..10));
    until("10 events", || one.count() == 10).await;
    let two = Member::start_with(options, true).await;
    let says = |member: &Member| member.context.trouble.get().is_some_and(|text| text.contains("has other members"));
    until("both say why", || says(&one) && says(&two)).await;
    assert_eq!((one.lanes(), two.lanes()), (0, 0));
    for partition in 0..4 {
        fill(&servers, "t", numbered(partition, 10..20));
    }
    let seen_by_one = one.stop().await;
    until("the second reads all", || two.lanes() == 4 && two.count() == 40).await;
    assert_eq!(two.context.trouble.get(), None);
    assert_eq!(seen_by_one.len(), 10, "what came while both were there was read by neither");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_value_is_a_tombstone_or_null_as_the_graph_says() {
    let (_cluster, servers) = cluster(&[("t", 1), ("copy", 1)]);
    fill(&servers, "t", [Record { key: Some("k".into()), value: None, ..record(0, "") }]);
    let read = async |tombstones| {
        let options = json!({ "stop": "at_end", "tombstones": tombstones });
        Member::start(source(&servers, tombstones, &["t"], options)).await.end().await.remove(0).event
    };
    let (tombstone, null) = tokio::join!(read("pass"), read("as_null"));
    assert!(matches!((&tombstone.body, &null.body), (Body::Parsed(Value::Null), Body::Parsed(Value::Null))));
    assert_eq!((tombstone.is_tombstone(), null.is_tombstone()), (true, false));
    let mut sink = SinkAtWork::start(&servers, "copy", json!({})).await;
    sink.write(0, vec![tombstone, null]).await;
    sink.settled(1).await;
    let copied = content(&servers, "copy").await;
    assert!(copied.len() == 2 && copied.iter().all(|seen| seen.event.is_tombstone()), "both are written as one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_a_topic_which_refuses_it_is_rejected_and_the_others_go_on() {
    let (cluster, servers) = cluster(&[("t", 1), ("gone", 1)]);
    cluster.topic_error("missing", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    cluster.topic_error("secret", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let mut sink = SinkAtWork::start(&servers, "{{ .to }}", json!({})).await;
    let to = |at, topic: &str| event(at, json!({ "to": topic }).to_string());
    let batch = vec![to(0, "t"), to(1, "missing"), to(2, "secret"), to(3, "no/name"), to(4, "gone"), to(5, "t")];
    sink.write(0, batch).await;
    let rejected = sink.next_rejected().await;
    let codes: Vec<_> = rejected.rejected.iter().map(|rejected| (rejected.event.position.0, rejected.code)).collect();
    assert_eq!(codes, [(1, "unknown_topic"), (2, "topic_denied"), (3, "invalid_topic")]);
    rejected.receipt.resolve(Outcome::DeadLettered);
    drop(rejected.rejected);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    assert_eq!(sink.context.trouble.get(), None, "no trouble of the sink");
    // Many names that nobody knows cost little, and nothing waits for them.
    sink.write(0, (0..5000).map(|n| to(n, &format!("missing-{n}"))).chain([to(5000, "t")]).collect()).await;
    let rejected = sink.next_rejected().await;
    assert!(rejected.rejected.iter().all(|rejected| rejected.code == "unknown_topic"));
    assert_eq!(content(&servers, "t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_limit_is_read_alone() {
    let (_cluster, servers) = cluster(&[("t", 1)]);
    let large = format!(r#"{{"large":"{}"}}"#, "x".repeat(600_000));
    fill(&servers, "t", [record(0, "1"), record(0, large), record(0, "2")]);
    let config: KafkaSource = serde_json::from_value(source(&servers, "g", &["t"], json!({}))).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let (lanes, mut graph) = Lanes::detached();
    let running = tokio::spawn(config.build(&context).await.unwrap().run(lanes));
    let lane = graph.next().await.unwrap();
    let (mut origin, end) = (lane.origin, lane.end);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 3 {
        let limit = weir::component::ReadLimit { events: 100, bytes: 10_000 };
        let Read::Events(events) = origin.read(limit).await.unwrap() else { panic!("no end is due") };
        sizes.push(events.len());
    }
    assert_eq!(sizes, [1, 1, 1]);
    graph.stop();
    drop(origin);
    end.clean();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_rejected_and_its_neighbours_are_delivered() {
    let (_cluster, servers) = cluster(&[("t", 1)]);
    let mut sink = SinkAtWork::start(&servers, "t", json!({ "max_message_size": "2KB" })).await;
    let large = format!(r#"{{"large":"{}"}}"#, "x".repeat(3000));
    sink.write(0, vec![event(0, "0"), event(1, large.clone()), event(2, "2")]).await;
    let rejected = sink.next_rejected().await;
    assert_eq!((rejected.rejected.len(), rejected.rejected[0].code), (1, "message_too_large"));
    assert_eq!(rejected.rejected[0].event.position, Position(1));
    assert!(matches!(&rejected.rejected[0].event.body, Body::Raw(bytes, _) if *bytes == large));
    rejected.receipt.resolve(Outcome::DeadLettered);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    assert_eq!(content(&servers, "t").await.iter().map(|seen| seen.text()).collect::<Vec<_>>(), ["0", "2"]);
    assert_eq!(sink.context.books.totals().passed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_there_is_a_reason_to_reject() {
    let (_cluster, servers) = cluster(&[("t", 2)]);
    let mut sink = SinkAtWork::start(&servers, "t", json!({ "partition": "source" })).await;
    sink.write(1, vec![event(0, "1")]).await;
    sink.write(7, vec![event(0, "7")]).await;
    let rejected = sink.next_rejected().await;
    assert_eq!(rejected.rejected[0].code, "unknown_partition");
    rejected.receipt.resolve(Outcome::DeadLettered);
    let outcomes: Vec<_> = sink.settled(2).await.iter().map(|settled| settled.outcome).collect();
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::DeadLettered]);
    assert_eq!(content(&servers, "t").await[0].origin.partition, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_key_partition_and_headers_may_depend_on_the_event() {
    let (_cluster, servers) = cluster(&[("t-a", 3), ("t-b", 3)]);
    let options = json!({ "key": "{{ .k }}", "partition": ".p", "headers": { "from": "{{ .t }}!" } });
    let mut sink = SinkAtWork::start(&servers, "t-{{ .t }}", options).await;
    let events = vec![
        event(0, r#"{"t":"a","k":"x","p":2}"#),
        event(1, r#"{"t":"b","k":"y","p":0}"#),
        event(2, r#"{"t":"a","k":"z","p":-1}"#),
    ];
    sink.write(0, events).await;
    let rejected = sink.next_rejected().await;
    assert_eq!((rejected.rejected[0].event.position, rejected.rejected[0].code), (Position(2), "unknown_partition"));
    rejected.receipt.resolve(Outcome::DeadLettered);
    sink.settled(1).await;
    let seen = content(&servers, "t-a").await;
    assert_eq!((seen.len(), seen[0].origin.partition), (1, 2));
    assert_eq!(seen[0].event.key().unwrap(), "x");
    assert_eq!(seen[0].event.headers(), [("from".to_owned(), Some("a!".into()))]);
    assert_eq!(content(&servers, "t-b").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_makes_writers_wait_and_nothing_is_lost() {
    let (_cluster, servers) = cluster(&[("t", 2)]);
    let mut sink = SinkAtWork::start(&servers, "t", json!({ "buffer": "64KiB", "linger": "1ms" })).await;
    for batch in 0..40_u64 {
        let events = (0..100).map(|n| event(batch * 100 + n, format!("{}", batch * 100 + n))).collect();
        sink.write(0, events).await;
    }
    sink.sink.flush().await;
    assert_eq!(sink.settled(40).await.iter().filter(|settled| settled.outcome == Outcome::Delivered).count(), 40);
    let values: BTreeSet<_> = content(&servers, "t").await.iter().map(|seen| seen.text()).collect();
    assert_eq!(values.len(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_away_are_a_trouble_until_they_are_back() {
    let (cluster, servers) = cluster(&[("t", 1)]);
    let member = Member::start(source(&servers, "g", &["t"], json!({}))).await;
    let mut sink = SinkAtWork::start(&servers, "t", json!({})).await;
    sink.write(0, vec![event(0, "0")]).await;
    until("the first event", || member.count() == 1).await;
    cluster.broker_down(1).unwrap();
    until("both say so", || member.context.trouble.get().is_some() && sink.context.trouble.get().is_some()).await;
    assert!(member.context.trouble.get().unwrap().contains("no broker can be reached"));
    sink.write(0, vec![event(1, "1")]).await;
    cluster.broker_up(1).unwrap();
    until("the second event", || member.count() == 2).await;
    until("all is well", || member.context.trouble.get().is_none() && sink.context.trouble.get().is_none()).await;
    assert_eq!(sink.settled(2).await.len(), 2);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_dropped_fails_what_it_holds() {
    let (cluster, servers) = cluster(&[("t", 1)]);
    let mut sink = SinkAtWork::start(&servers, "t", json!({})).await;
    sink.write(0, vec![event(0, "0")]).await;
    sink.settled(1).await;
    cluster.broker_down(1).unwrap();
    sink.write(0, vec![event(1, "1"), event(2, "2")]).await;
    let (settlements, books) = (sink.settlements.clone(), sink.context.books.clone());
    drop(sink);
    tokio::time::timeout(Duration::from_secs(30), settlements.changed()).await.unwrap();
    assert_eq!(settlements.take()[0].outcome, Outcome::Failed);
    assert_eq!((books.totals().passed, books.totals().failed), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_named_and_waited_for() {
    let (cluster, servers) = cluster(&[("t", 1)]);
    cluster.topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let mut sink = SinkAtWork::start(&servers, "later", json!({})).await;
    // It takes nothing before it knows the topic.
    let (batch, at_work) = (sink.batch(0, vec![event(0, "0")]), sink.sink.clone());
    let _written = tokio::spawn(async move { at_work.write(batch).await });
    until("the topic is named", || sink.context.trouble.get().is_some_and(|text| text.contains("\"later\""))).await;
    cluster.topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::Delivered);
    until("all is well", || sink.context.trouble.get().is_none()).await;
}

#[test]
fn a_topic_that_cannot_exist_is_found_before_anything_starts() {
    let codes = |topic: &str| {
        let options = json!({ "bootstrap_servers": "k:9092", "topic": topic });
        let config: KafkaSink = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        problems.into_vec().into_iter().map(|p| format!("{} {}", p.path.join("/"), p.code)).collect::<Vec<_>>()
    };
    assert_eq!((codes("a/b"), codes("a-b"), codes("{{ .x }}/b")), (vec!["topic bad_value".to_owned()], vec![], vec![]));
}

#[test]
fn wrong_options_are_found() {
    let codes = |options| {
        let config: KafkaSource = serde_json::from_value(options).unwrap();
        let mut problems = Problems::default();
        config.check(&mut problems);
        problems.into_vec().into_iter().map(|p| format!("{} {}", p.path.join("/"), p.code)).collect::<Vec<_>>()
    };
    let good = source("k:9092", "g", &["t"], json!({}));
    assert_eq!(codes(good.clone()), Vec::<String>::new());
    let wrong = kit::merged(
        good,
        json!({ "topics": ["t", "t"], "drain_timeout": "10m",
        "librdkafka_options": { "enable.auto.commit": true } }),
    );
    assert_eq!(
        codes(wrong),
        ["topics/1 duplicate", "drain_timeout out_of_range", "librdkafka_options/enable.auto.commit owned_option"]
    );
    assert_eq!(
        codes(source("", "", &[], json!({})))[..3],
        ["topics missing_value", "group_id missing_value", "bootstrap_servers missing_value"]
    );
}
