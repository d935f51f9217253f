//! `avro` and `protobuf` with a schema registry: what is asked of it, what a record becomes without it, and a graph from
//! Kafka to Kafka that has to wait for it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use weir::component::{DecodingOption, EncodingOption};
use weir::event::{Body, Codec, Decoder, Encoding};
use weir::{Error, ErrorKind};
use weir_cli as _;
use weir_tests::letters::dead_letters;
use weir_tests::process::Home;
use weir_tests::registry::{Mood, Registry};
use weir_tests::wait::{PATIENCE, until};

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"n","type":"long"},{"name":"by","type":"string","default":"nobody"}]}"#;
const PERSON: &str =
    r#"{"type":"record","name":"Person","namespace":"people","fields":[{"name":"name","type":"string"}]}"#;
const PROTO: &str = "syntax = \"proto3\"; package shop; message Other {} message Order { int64 n = 1; string by = 2; }";

/// An order as Avro has it, behind its header.
fn order(id: u32, n: u8, by: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([n * 2, by.len() as u8 * 2]);
    bytes.extend(by.as_bytes());
    bytes
}

fn decoder_of(options: Value) -> Arc<dyn Decoder> {
    let option: DecodingOption = serde_json::from_value(options).unwrap();
    option.build().unwrap().decoder().unwrap().clone()
}

fn avro(registry: &Registry) -> Arc<dyn Decoder> {
    decoder_of(json!({"codec": "avro", "schema_registry": {"url": registry.url}}))
}

async fn read(decoder: &dyn Decoder, bytes: Vec<u8>) -> Result<Result<Value, &'static str>, Error> {
    let bytes = Bytes::from(bytes);
    let ready = decoder.prepare(&bytes).await?;
    assert!(!ready.must_prepare(), "prepared once is prepared");
    Ok(ready.decode(&bytes).map(|value| serde_json::to_value(value).unwrap()).map_err(|error| error.code))
}

#[tokio::test]
async fn a_record_is_read_by_the_schema_it_names_and_each_is_asked_for_once() {
    let registry = Registry::start();
    let id = registry.put("orders-value", ORDER, json!({}));
    let decoder = avro(&registry);
    assert_eq!(registry.asked(), [""; 0], "building asks nobody");
    for n in 1..5 {
        assert_eq!(read(&*decoder, order(id, n, "me")).await.unwrap().unwrap(), json!({"n": n, "by": "me"}));
    }
    assert_eq!(registry.asked(), [format!("GET /schemas/ids/{id}")]);
    registry.be(Mood::Down);
    assert_eq!(read(&*decoder, order(id, 9, "")).await.unwrap().unwrap()["n"], 9, "what is known stays known");
}

#[tokio::test]
async fn what_no_registry_explains_is_rejected_and_asked_for_once() {
    let registry = Registry::start();
    let json_id = registry.put("j", "{}", json!({"schemaType": "JSON"}));
    let broken = registry.put("b", "{", json!({}));
    let decoder = avro(&registry);
    for _ in 0..3 {
        assert_eq!(read(&*decoder, order(99, 1, "")).await.unwrap().unwrap_err(), "unknown_schema");
    }
    assert_eq!(registry.asked(), ["GET /schemas/ids/99"]);
    assert_eq!(read(&*decoder, order(json_id, 1, "")).await.unwrap().unwrap_err(), "unusable_schema");
    assert_eq!(read(&*decoder, order(broken, 1, "")).await.unwrap().unwrap_err(), "unusable_schema");
    for odd in [&b""[..], b"{\"n\":1}", b"\0\0\0"] {
        assert_eq!(read(&*decoder, odd.to_vec()).await.unwrap().unwrap_err(), "no_schema_id");
    }
    let id = registry.put("o", ORDER, json!({}));
    assert_eq!(read(&*decoder, order(id, 1, "")[..6].to_vec()).await.unwrap().unwrap_err(), "invalid_avro");
}

#[tokio::test]
async fn while_it_cannot_be_asked_the_error_is_temporary() {
    let registry = Registry::start();
    let id = registry.put("o", ORDER, json!({}));
    let decoder = avro(&registry);
    for mood in [Mood::Down, Mood::Strange, Mood::NoRegistry] {
        registry.be(mood);
        let error = read(&*decoder, order(id, 1, "")).await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains(&registry.url), "{mood:?}: {error}");
    }
    registry.be(Mood::Well);
    registry.let_in("Basic bWU6c2VjcmV0");
    let refused = read(&*decoder, order(id, 1, "")).await.unwrap_err();
    assert!(refused.is_temporary() && refused.kind() == ErrorKind::Denied, "{refused}");
    let known = json!({"codec": "avro", "schema_registry": {"url": format!("http://127.0.0.1:9,{}/", registry.url), "username": "me", "password": "secret"}});
    assert!(!format!("{:?}", serde_json::from_value::<DecodingOption>(known.clone()).unwrap()).contains("secret"));
    assert_eq!(
        read(&*decoder_of(known), order(id, 1, "")).await.unwrap().unwrap()["n"],
        1,
        "the second address, with a user"
    );
    let nobody = decoder_of(json!({"codec": "avro", "schema_registry": {"url": "http://127.0.0.1:9"}}));
    let error = read(&*nobody, order(id, 1, "")).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn schemas_that_refer_to_others_are_read_with_them() {
    let registry = Registry::start();
    registry.put("people.Person", PERSON, json!({}));
    let gift = r#"{"type":"record","name":"Gift","fields":[{"name":"for","type":"people.Person"}]}"#;
    let reference = |version: u32| json!({"references": [{"name": "people.Person", "subject": "people.Person", "version": version}]});
    let id = registry.put("gifts-value", gift, reference(1));
    let decoder = avro(&registry);
    let bytes = [&[0][..], &id.to_be_bytes(), &[4], b"me"].concat();
    assert_eq!(read(&*decoder, bytes).await.unwrap().unwrap(), json!({"for": {"name": "me"}}));
    let gone = registry.put("gone-value", gift, reference(7));
    assert_eq!(read(&*decoder, order(gone, 1, "")).await.unwrap().unwrap_err(), "unusable_schema");
    let itself = json!({"references": [{"name": "x", "subject": "loop", "version": 1}]});
    let record = |id: u32| [&[0][..], &id.to_be_bytes(), &[4]].concat();
    let unneeded = registry.put("loop", r#""long""#, itself.clone());
    assert_eq!(read(&*decoder, record(unneeded)).await.unwrap().unwrap(), 2, "what it refers to is not needed");
    let needed = r#"{"type":"record","name":"y","fields":[{"name":"a","type":"x"}]}"#;
    let needed = registry.put("loop", needed, itself);
    let ended = read(&*decoder, record(needed)).await.unwrap();
    assert_eq!(ended.unwrap_err(), "unusable_schema", "a schema that refers to itself");

    let file = "syntax = \"proto3\"; package people; message Person { string name = 1; }";
    registry.put("person.proto", file, json!({"schemaType": "PROTOBUF"}));
    let text = "syntax = \"proto3\"; import \"people/person.proto\"; message Gift { people.Person to = 1; }";
    let more = json!({"schemaType": "PROTOBUF", "references": [{"name": "people/person.proto", "subject": "person.proto", "version": 1}]});
    let id = registry.put("proto-gifts-value", text, more);
    let decoder = decoder_of(json!({"codec": "protobuf", "schema_registry": {"url": registry.url}}));
    let bytes = [&[0][..], &id.to_be_bytes(), &[0, 0x0a, 4, 0x0a, 2], b"me"].concat();
    assert_eq!(read(&*decoder, bytes).await.unwrap().unwrap(), json!({"to": {"name": "me"}}));
}

fn encoding(options: Value) -> Encoding {
    serde_json::from_value::<EncodingOption>(options).unwrap().build().unwrap()
}

fn body(value: Value) -> Body {
    Body::Raw(value.to_string().into(), Codec::Json)
}

/// Encodes as the Kafka sink does: prepares where it is told to, once.
async fn write(encoding: &Encoding, topic: &str, value: Value) -> Result<Result<Vec<u8>, &'static str>, Error> {
    let mut out = Vec::new();
    match encoding.encode(&body(value.clone()), topic, &mut out) {
        Err(error) if error.is_unprepared() => {
            assert!(out.is_empty(), "nothing is left behind");
            let Encoding::Other(encoder) = encoding else { panic!("{encoding:?}") };
            encoder.prepare(topic).await?;
        }
        result => return Ok(result.map(|()| out).map_err(|error| error.code)),
    }
    Ok(encoding.encode(&body(value), topic, &mut out).map(|()| out).map_err(|error| error.code))
}

#[tokio::test]
async fn a_record_is_written_by_the_newest_schema_of_its_subject() {
    let registry = Registry::start();
    let encoding = encoding(json!({"codec": "avro", "schema_registry": {"url": registry.url}}));
    let missing = write(&encoding, "orders", json!({"n": 1})).await.unwrap_err();
    assert!(missing.is_temporary() && missing.to_string().contains("orders-value"), "{missing}");
    registry.put("orders-value", r#""long""#, json!({}));
    let id = registry.put("orders-value", ORDER, json!({}));
    registry.asked();
    assert_eq!(write(&encoding, "orders", json!({"n": 1, "by": "me"})).await.unwrap().unwrap(), order(id, 1, "me"));
    assert_eq!(write(&encoding, "orders", json!({"n": 2})).await.unwrap().unwrap(), order(id, 2, "nobody"));
    assert_eq!(write(&encoding, "orders", json!({"n": "x"})).await.unwrap().unwrap_err(), "does_not_fit_schema");
    assert_eq!(write(&encoding, "orders", json!({"by": "me"})).await.unwrap().unwrap_err(), "does_not_fit_schema");
    assert_eq!(registry.asked(), ["GET /subjects/orders-value/versions/latest"]);
    let odd = write(&encoding, "a/b", json!({"n": 1})).await.unwrap_err();
    assert!(odd.is_temporary());
    assert_eq!(registry.asked(), ["GET /subjects/a%2Fb-value/versions/latest"]);
}

#[tokio::test]
async fn a_schema_of_our_own_is_looked_up_or_registered_under_the_subject_that_was_said() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let (avsc, proto) = (dir.path().join("order.avsc"), dir.path().join("order.proto"));
    std::fs::write(&avsc, ORDER).unwrap();
    std::fs::write(&proto, PROTO).unwrap();
    let at = json!({"url": registry.url});
    let ours =
        encoding(json!({"codec": "avro", "schema_registry": at, "schema": avsc, "subject_name_strategy": "record"}));
    let missing = write(&ours, "t", json!({"n": 1})).await.unwrap_err();
    assert!(missing.is_temporary() && missing.to_string().contains("auto_register"), "{missing}");
    let id = registry.put("shop.Order", ORDER, json!({}));
    assert_eq!(write(&ours, "t", json!({"n": 1})).await.unwrap().unwrap(), order(id, 1, "nobody"));

    let options = json!({"codec": "protobuf", "schema_registry": at, "schema": proto, "message": "shop.Order", "subject": "mine", "auto_register": true});
    registry.asked();
    let bytes = write(&encoding(options), "t", json!({"n": 5, "by": "me"})).await.unwrap().unwrap();
    assert_eq!(registry.asked(), ["POST /subjects/mine/versions"]);
    assert_eq!(bytes[5..], [2, 2, 0x08, 5, 0x12, 2, b'm', b'e'], "the second message of its schema");
    let decoder = decoder_of(json!({"codec": "protobuf", "schema_registry": at}));
    assert_eq!(read(&*decoder, bytes).await.unwrap().unwrap(), json!({"n": 5, "by": "me"}));

    let bare = encoding(json!({"codec": "avro", "schema": avsc}));
    assert_eq!(
        write(&bare, "t", json!({"n": 1})).await.unwrap().unwrap(),
        order(0, 1, "nobody")[5..],
        "no registry, no header"
    );
    let back = decoder_of(json!({"codec": "avro", "schema": avsc}));
    assert!(!back.must_prepare());
    assert_eq!(
        serde_json::to_value(back.decode(&Bytes::from_static(&[2, 0])).unwrap()).unwrap(),
        json!({"n": 1, "by": ""})
    );
}

/// The values of a topic of one partition.
fn values(servers: &str, topic: &str) -> Vec<Vec<u8>> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "reader").create().unwrap();
    let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(low)).unwrap();
    consumer.assign(&list).unwrap();
    let mut all = Vec::new();
    while (all.len() as i64) < high - low {
        let record = consumer.poll(PATIENCE).expect("a record in time").unwrap();
        all.push(record.payload().unwrap_or_default().to_vec());
    }
    all
}

#[test]
fn a_graph_waits_for_its_registry_and_loses_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["in", "out"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let servers = cluster.bootstrap_servers();
    let registry = Registry::start();
    let id = registry.put("in-value", ORDER, json!({}));
    let proto = "syntax = \"proto3\"; message Order { int64 n = 1; }";
    let out = registry.put("out-value", proto, json!({"schemaType": "PROTOBUF"}));
    registry.be(Mood::Down);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
    let unknown = order(99, 1, "");
    let records: Vec<Vec<u8>> = (0..20).map(|n| order(id, n, "me")).chain([unknown.clone()]).collect();
    for record in &records {
        producer.send(BaseRecord::<(), Vec<u8>>::to("in").payload(record).partition(0)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let home = Home::new(&format!(
        "name: orders\nsources:\n  in: {{type: kafka, bootstrap_servers: \"{servers}\", topics: [in], group_id: g, start: earliest, session_timeout: 6s, decoding: {{codec: avro, schema_registry: {{url: \"{url}\"}}}}}}\n\
         transforms:\n  keep: {{type: filter, inputs: [in], condition: 'int!(.n) >= 15'}}\n\
         sinks:\n  out: {{type: kafka, inputs: [keep], bootstrap_servers: \"{servers}\", topic: out, encoding: {{codec: protobuf, schema_registry: {{url: \"{url}\"}}}}}}\n",
        url = registry.url,
    ));
    let weir = home.start("one", &[]);
    until("/ready to name the registry", PATIENCE, || {
        let (status, body) = weir.get("/ready");
        status == 503 && body.contains("ask the schema registry") && body.contains(&registry.url)
    });
    assert_eq!(weir.events("keep", "received"), 0, "nothing is read past a schema that is not known");
    registry.be(Mood::Well);
    until("the records to be delivered", PATIENCE, || weir.events("out", "passed") == 5);
    until("the unknown one to be a dead letter", PATIENCE, || weir.events("keep", "dead_lettered") == 1);
    weir.until_ready(PATIENCE);
    weir.stop(Duration::from_secs(30));
    let letters = dead_letters(&home.data_dir("one"), "orders");
    assert_eq!(letters, [("keep".to_owned(), 20, "unknown_schema".to_owned(), Some(unknown))]);
    let expected: Vec<Vec<u8>> = (15..20).map(|n| [&[0][..], &out.to_be_bytes(), &[0, 0x08, n]].concat()).collect();
    assert_eq!(values(&servers, "out"), expected);
}
