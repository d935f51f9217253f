//! Source and sink against a real broker: `cargo test -p weir-kafka --features real`.
//!
//! `KAFKA_BOOTSTRAP_SERVERS` names the broker. For encryption and passwords `KAFKA_SASL_SSL_BOOTSTRAP`,
//! `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD` and `KAFKA_CA_FILE` (a PEM file) name another listener of it.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "time here is the broker's, not a lane's")]

mod kit;

use std::collections::BTreeSet;
use std::time::Duration;

use kit::{Member, Record, SinkAtWork, content, event, fill, merged, plain, record, source, until};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use weir::delivery::Outcome;
use weir::event::{Body, Codec, Event, Position, Timestamp};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests need a real Kafka, see their head"))
}

fn servers() -> String {
    variable("KAFKA_BOOTSTRAP_SERVERS")
}

/// A new topic with a name of its own, which is also good for a group.
async fn topic(test: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = format!("{test}-{}", since.as_nanos());
    let admin: AdminClient<DefaultClientContext> = plain(&servers()).create().unwrap();
    let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        new = new.set(key, value);
    }
    let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    name
}

fn numbered(partition: i32, numbers: std::ops::Range<u32>) -> impl Iterator<Item = Record> {
    numbers.map(move |n| record(partition, format!(r#"{{"n":{n}}}"#)))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_and_a_restart_goes_on() {
    let (servers, topic) = (servers(), topic("restart", 3, &[]).await);
    for partition in 0..2 {
        fill(&servers, &topic, numbered(partition, 0..5000));
    }
    let options = source(&servers, &topic, &[&topic], json!({ "stop": "at_end" }));
    assert_eq!(Member::start(options.clone()).await.end().await.len(), 10_000);
    fill(&servers, &topic, numbered(2, 0..7));
    let seen = Member::start(options).await.end().await;
    assert_eq!(seen.iter().map(|seen| seen.origin.partition).collect::<Vec<_>>(), [2; 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_share_and_hand_over_without_loss() {
    let (servers, topic) = (servers(), topic("members", 6, &[]).await);
    let options =
        source(&servers, &topic, &[&topic], json!({ "librdkafka_options": { "heartbeat.interval.ms": 300 } }));
    let one = Member::start(options.clone()).await;
    until("the first has all", || one.lanes() == 6).await;
    let fill_all = |numbers: std::ops::Range<u32>| {
        for partition in 0..6 {
            fill(&servers, &topic, numbered(partition, numbers.clone()));
        }
    };
    fill_all(0..300);
    let two = Member::start(options.clone()).await;
    fill_all(300..600);
    until("two share", || one.lanes() == 3 && two.lanes() == 3).await;
    let three = Member::start(options).await;
    fill_all(600..900);
    until("three share", || [&one, &two, &three].iter().all(|member| member.lanes() == 2)).await;
    fill_all(900..1200);
    until("all so far", || one.count() + two.count() + three.count() >= 7200).await;
    let mut seen = one.stop().await;
    until("two share again", || two.lanes() == 3 && three.lanes() == 3).await;
    fill_all(1200..1500);
    until("all", || seen.len() + two.count() + three.count() >= 9000).await;
    seen.extend(two.stop().await);
    seen.extend(three.stop().await);
    let distinct: BTreeSet<_> = seen.iter().map(|seen| (seen.origin.partition, seen.event.position)).collect();
    assert_eq!((seen.len(), distinct.len()), (9000, 9000), "every event once, as every lane drained in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_finds_its_partitions_again() {
    let (servers, topic) = (servers(), topic("static", 4, &[]).await);
    let named = |name: &str| {
        source(&servers, &topic, &[&topic], json!({ "group_instance_id": name, "session_timeout": "20s" }))
    };
    let (one, two) = (Member::start(named("one")).await, Member::start(named("two")).await);
    until("both share", || one.lanes() == 2 && two.lanes() == 2).await;
    let before: BTreeSet<i32> = one.open.lock().unwrap().iter().copied().collect();
    let others: BTreeSet<i32> = two.open.lock().unwrap().iter().copied().collect();
    one.stop().await;
    let again = Member::start(named("one")).await;
    until("it is back", || again.lanes() == 2).await;
    assert_eq!(again.open.lock().unwrap().iter().copied().collect::<BTreeSet<_>>(), before);
    assert_eq!(two.open.lock().unwrap().iter().copied().collect::<BTreeSet<_>>(), others, "the other never noticed");
    // Nobody else may use the name while it is in use.
    let thief = Member::start(named("one")).await;
    let error = again.outcome().await.expect_err("the first holder of the name is fenced");
    assert!(error.to_string().contains("fenced") || error.to_string().contains("instance"), "{error}");
    thief.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_refuses_a_record_without_key_and_takes_its_neighbours() {
    let (servers, topic) = (servers(), topic("compacted", 1, &[("cleanup.policy", "compact")]).await);
    let keyed = |n: u64| {
        let mut event = event(n, format!("{n}"));
        event.meta = Some(Box::new(weir::event::Meta { key: Some(format!("k{n}").into()), ..Default::default() }));
        event
    };
    let mut sink = SinkAtWork::start(&servers, &topic, json!({ "key": "{{ %kafka.key }}" })).await;
    sink.write(0, vec![keyed(0), event(1, "1"), keyed(2), event(3, "3"), keyed(4)]).await;
    let mut codes = Vec::new();
    while codes.len() < 2 {
        let batch = sink.next_rejected().await;
        codes.extend(batch.rejected.iter().map(|rejected| (rejected.event.position.0, rejected.code)));
        batch.receipt.resolve(Outcome::DeadLettered);
    }
    codes.sort_unstable();
    assert_eq!(codes, [(1, "invalid_record"), (3, "invalid_record")]);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    let values: BTreeSet<_> = content(&servers, &topic).await.iter().map(|seen| seen.text()).collect();
    assert_eq!(values, ["0", "2", "4"].map(str::to_owned).into());
    assert_eq!(sink.context.books.totals().passed, 3);
    sink.write(0, vec![keyed(5)]).await;
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::Delivered, "and it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_broker_is_rejected_alone() {
    let (servers, topic) = (servers(), topic("large", 1, &[("max.message.bytes", "2000")]).await);
    let mut sink = SinkAtWork::start(&servers, &topic, json!({})).await;
    let large = format!("{:?}", "x".repeat(5000));
    sink.write(0, vec![event(0, "0"), event(1, large), event(2, "2")]).await;
    let batch = sink.next_rejected().await;
    assert_eq!((batch.rejected[0].event.position, batch.rejected[0].code), (Position(1), "message_too_large"));
    batch.receipt.resolve(Outcome::DeadLettered);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    let values: BTreeSet<_> = content(&servers, &topic).await.iter().map(|seen| seen.text()).collect();
    assert_eq!(values, ["0", "2"].map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_can_be_read_again() {
    let servers = servers();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = topic(compression, 1, &[]).await;
        let mut sink = SinkAtWork::start(&servers, &topic, json!({ "compression": compression })).await;
        let bodies = (0..500).map(|n| Body::Raw(format!(r#"{{"n":{n},"same":"same"}}"#).into(), Codec::Json));
        let events = bodies.enumerate().map(|(n, body)| Event::new(body, Position(n as u64), Timestamp(1)));
        sink.write(0, events.collect()).await;
        assert_eq!(sink.settled(1).await[0].outcome, Outcome::Delivered);
        assert_eq!(content(&servers, &topic).await.len(), 500, "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_yet_is_waited_for() {
    let servers = servers();
    let name = topic("later-base", 1, &[]).await.replace("base", "made");
    let member = Member::start(source(
        &servers,
        &name,
        &[&name],
        json!({
        "librdkafka_options": { "topic.metadata.refresh.interval.ms": 1000 } }),
    ))
    .await;
    until("the topic is named", || member.context.trouble.get().is_some_and(|text| text.contains(&name))).await;
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    fill(&servers, &name, numbered(0, 0..3));
    until("it is read", || member.count() == 3).await;
    until("all is well", || member.context.trouble.get().is_none()).await;
    member.stop().await;
}

fn fast() -> Value {
    json!({ "start": "latest", "session_timeout": "6s",
        "librdkafka_options": { "topic.metadata.refresh.interval.ms": 500, "heartbeat.interval.ms": 300 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_start_latest_partitions_and_topics_that_are_added_are_read_from_their_beginning() {
    let (servers, topic) = (servers(), topic("grows", 2, &[]).await);
    let other = topic.replace("grows", "grows-more");
    fill(&servers, &topic, numbered(0, 0..100));
    let options = source(&servers, &topic, &[&format!("^{}", topic.replace("grows", "grows.*"))], fast());
    let member = Member::start(options.clone()).await;
    until("both lanes", || member.lanes() == 2).await;
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    admin.create_partitions([&NewPartitions::new(&topic, 3)], &AdminOptions::new()).await.unwrap();
    let new = NewTopic::new(&other, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    // Written before the member can know of either.
    fill(&servers, &topic, numbered(2, 0..50));
    fill(&servers, &other, numbered(0, 0..50));
    until("all that is new", || member.count() == 100).await;
    member.stop().await;
    // So it is with one that is added while nobody reads, whatever was committed there.
    admin.create_partitions([&NewPartitions::new(&topic, 4)], &AdminOptions::new()).await.unwrap();
    fill(&servers, &topic, numbered(3, 0..50));
    let again = Member::start(options).await;
    until("the fourth", || again.count() == 50).await;
    assert!(again.stop().await.iter().all(|seen| seen.origin.partition == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_and_created_again_is_read_from_its_beginning() {
    let (servers, topic) = (servers(), topic("again", 1, &[]).await);
    let member = Member::start(source(&servers, &topic, &[&topic], fast())).await;
    until("the lane", || member.lanes() == 1).await;
    fill(&servers, &topic, numbered(0, 0..100));
    until("100 events", || member.count() == 100).await;
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    until("it is gone", || {
        let made = futures_of(admin.create_topics([&new], &AdminOptions::new()));
        made.is_ok_and(|made| made[0].is_ok())
    })
    .await;
    fill(&servers, &topic, numbered(0, 0..10));
    until("10 more", || member.count() == 110).await;
    member.stop().await;
}

/// Waits for an answer from within a condition.
fn futures_of<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_removed_are_a_jump() {
    let (servers, topic) = (servers(), topic("short", 1, &[]).await);
    fill(&servers, &topic, numbered(0, 0..100));
    let options = source(&servers, &topic, &[&topic], json!({}));
    let member = Member::start(options.clone()).await;
    until("100 events", || member.count() == 100).await;
    member.stop().await;
    fill(&servers, &topic, numbered(0, 100..300));
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    let mut until_250 = rdkafka::TopicPartitionList::new();
    until_250.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(250)).unwrap();
    admin.delete_records(&until_250, &AdminOptions::new()).await.unwrap();
    let member = Member::start(options).await;
    until("what is left", || member.count() == 50).await;
    let told = member.context.trouble.get().unwrap();
    assert!(told.contains("offset 100 is gone (the log has 250 up to 300), so reading went on at 250"), "{told}");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_topics_of_a_pattern_with_another_member_are_seen_as_well() {
    let (servers, topic) = (servers(), topic("parted", 1, &[]).await);
    let other = topic.replace("parted", "parted-b");
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    let new = NewTopic::new(&other, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    let pattern = format!("^{}", topic.replace("parted", "parted.*"));
    let options = source(&servers, &topic, &[&pattern], fast());
    let one = Member::start_with(options.clone(), true).await;
    until("the first reads both", || one.lanes() == 2).await;
    let two = Member::start_with(options.clone(), true).await;
    let says = |member: &Member| member.context.trouble.get().is_some_and(|text| text.contains("has other members"));
    until("both say why", || says(&one) && says(&two)).await;
    assert_eq!((one.lanes(), two.lanes()), (0, 0));
    two.stop().await;
    until("the first reads both again", || one.lanes() == 2 && one.context.trouble.get().is_none()).await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_a_topic_which_refuses_it_is_rejected_and_the_others_go_on() {
    let servers = servers();
    let (good, compacted) =
        (topic("good", 1, &[]).await, topic("compacted", 1, &[("cleanup.policy", "compact")]).await);
    let (small, doomed) = (topic("small", 1, &[("max.message.bytes", "200")]).await, topic("doomed", 1, &[]).await);
    let missing = good.replace("good", "missing");
    let mut sink = SinkAtWork::start(&servers, "{{ .to }}", json!({})).await;
    let to = |at, topic: &str| event(at, json!({ "to": topic }).to_string());
    let large = event(4, json!({ "to": small, "pad": "x".repeat(1000) }).to_string());
    let batch =
        vec![to(0, &good), to(1, &compacted), to(2, &missing), to(3, &doomed), large, to(5, &small), to(6, &good)];
    sink.write(0, batch).await;
    let mut codes = Vec::new();
    while codes.len() < 3 {
        let batch = sink.next_rejected().await;
        codes.extend(batch.rejected.iter().map(|rejected| (rejected.event.position.0, rejected.code)));
        batch.receipt.resolve(Outcome::DeadLettered);
    }
    codes.sort_unstable();
    assert_eq!(codes, [(1, "invalid_record"), (2, "unknown_topic"), (4, "message_too_large")]);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    // One that was there is deleted: it costs its own events alone.
    let admin: AdminClient<DefaultClientContext> = plain(&servers).create().unwrap();
    admin.delete_topics(&[&doomed], &AdminOptions::new()).await.unwrap();
    sink.write(0, vec![to(7, &doomed), to(8, &good)]).await;
    let batch = sink.next_rejected().await;
    assert_eq!((batch.rejected[0].event.position.0, batch.rejected[0].code), (7, "unknown_topic"));
    batch.receipt.resolve(Outcome::DeadLettered);
    assert_eq!(sink.settled(1).await[0].outcome, Outcome::DeadLettered);
    assert_eq!((content(&servers, &good).await.len(), content(&servers, &small).await.len()), (3, 1));
}

fn secured(mechanism: &str, password: &str) -> (String, Value) {
    let options = json!({
        "tls": { "ca": variable("KAFKA_CA_FILE") },
        "sasl": { "mechanism": mechanism, "username": variable("KAFKA_SASL_USERNAME"), "password": password },
    });
    (variable("KAFKA_SASL_SSL_BOOTSTRAP"), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_lets_source_and_sink_in_over_tls() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let topic = topic("sasl", 1, &[]).await;
        let (servers, options) = secured(mechanism, &variable("KAFKA_SASL_PASSWORD"));
        let mut sink = SinkAtWork::start(&servers, &topic, options.clone()).await;
        sink.write(0, vec![event(0, "0")]).await;
        assert_eq!(sink.settled(1).await[0].outcome, Outcome::Delivered, "{mechanism}");
        let options = merged(options, json!({ "stop": "at_end" }));
        let seen = Member::start(source(&servers, &topic, &[&topic], options)).await.end().await;
        assert_eq!(seen.len(), 1, "{mechanism}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_trouble_that_says_so() {
    let topic = topic("wrong", 1, &[]).await;
    let (servers, options) = secured("SCRAM-SHA-512", "wrong");
    let member = Member::start(source(&servers, &topic, &[&topic], options.clone())).await;
    let mut sink = SinkAtWork::start(&servers, &topic, options).await;
    // It takes nothing before it knows its topic.
    let (batch, at_work) = (sink.batch(0, vec![event(0, "0")]), sink.sink.clone());
    tokio::spawn(async move { at_work.write(batch).await });
    let says_so = |text: Option<String>| text.is_some_and(|text| text.contains("uthentication"));
    until("both say so", || says_so(member.context.trouble.get()) && says_so(sink.context.trouble.get())).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(says_so(member.context.trouble.get()) && says_so(sink.context.trouble.get()), "and go on saying so");
    assert!(sink.settlements.take().is_empty(), "the event waits");
    member.stop().await;
}
