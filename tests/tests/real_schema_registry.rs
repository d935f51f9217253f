//! `avro` and `protobuf` against a real schema registry, which `SCHEMA_REGISTRY_URL` names.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use serde_json::{Value, json};
use weir::component::{DecodingOption, EncodingOption};
use weir::event::{Body, Codec, Encoding};
use weir_cli as _;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"n","type":"long"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"by","type":["null","string"],"default":null}]}"#;

fn registry() -> Value {
    let help = "this test needs a real schema registry; `scripts/test real` starts one, or `tests/services/schema-registry start PORT DIR` and `eval \"$(tests/services/schema-registry env DIR)\"`";
    json!({ "url": std::env::var("SCHEMA_REGISTRY_URL").unwrap_or_else(|_| panic!("SCHEMA_REGISTRY_URL is not set: {help}")) })
}

/// A subject that no run before had.
fn fresh(name: &str) -> String {
    format!("{name}-{:08x}", rand::random::<u32>())
}

/// Registers a schema as any other client does; gives its id.
fn register(subject: &str, body: Value) -> u64 {
    let url = registry()["url"].as_str().unwrap().to_owned();
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let body = body.to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(weir_tests::wait::PATIENCE)).unwrap();
    write!(
        stream,
        "POST /{path}/subjects/{subject}/versions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let id = answer.split_once("\"id\":").unwrap_or_else(|| panic!("{answer}")).1;
    id.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// Encodes for a topic and decodes again, as two graphs would; gives the record as well.
async fn there_and_back(encoding: Value, codec: &str, topic: &str, value: Value) -> (Vec<u8>, Value) {
    let encoding = serde_json::from_value::<EncodingOption>(encoding).unwrap().build().unwrap();
    let Encoding::Other(encoder) = &encoding else { panic!("{encoding:?}") };
    encoder.prepare(topic).await.unwrap();
    let mut record = Vec::new();
    encoding.encode(&Body::Raw(value.to_string().into(), Codec::Json), topic, &mut record).unwrap();
    let option: DecodingOption =
        serde_json::from_value(json!({"codec": codec, "schema_registry": registry()})).unwrap();
    let decoder = option.build().unwrap().decoder().unwrap().clone();
    let bytes = Bytes::from(record.clone());
    let ready = decoder.prepare(&bytes).await.unwrap();
    (record, serde_json::to_value(ready.decode(&bytes).unwrap()).unwrap())
}

#[tokio::test]
async fn records_come_back_in_both_formats_and_by_every_way_to_a_schema() {
    let dir = tempfile::tempdir().unwrap();
    let (avsc, proto) = (dir.path().join("order.avsc"), dir.path().join("order.proto"));
    std::fs::write(&avsc, ORDER).unwrap();
    std::fs::write(&proto, "syntax = \"proto3\"; package shop; message Other {} message Order { int64 n = 1; }")
        .unwrap();
    let order = json!({"n": 7, "at": "2024-02-29T12:00:00.500Z", "by": "me"});
    let topic = fresh("orders");
    let own = json!({"codec": "avro", "schema_registry": registry(), "schema": avsc, "auto_register": true});
    let (first, back) = there_and_back(own, "avro", &topic, order.clone()).await;
    assert_eq!(back, order);
    for more in [json!({}), json!({"schema": avsc})] {
        let mut known = json!({"codec": "avro", "schema_registry": registry()});
        known.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(
            there_and_back(known, "avro", &topic, order.clone()).await,
            (first.clone(), order.clone()),
            "{more}"
        );
    }
    let own = json!({"codec": "protobuf", "schema_registry": registry(), "schema": proto, "message": "shop.Order", "subject": fresh("s"), "auto_register": true});
    let (record, back) = there_and_back(own, "protobuf", "t", json!({"n": 5})).await;
    assert_eq!((&record[5..], back), (&[2, 2, 0x08, 5][..], json!({"n": 5})));
}

#[tokio::test]
async fn schemas_of_other_clients_are_read_with_what_they_refer_to() {
    let (person, topic) = (fresh("person"), fresh("gifts"));
    register(
        &person,
        json!({"schema": r#"{"type":"record","name":"Person","namespace":"people","fields":[{"name":"name","type":"string"}]}"#}),
    );
    let gift = r#"{"type":"record","name":"Gift","fields":[{"name":"to","type":"people.Person"}]}"#;
    let id = register(
        &format!("{topic}-value"),
        json!({"schema": gift, "references": [{"name": "people.Person", "subject": person, "version": 1}]}),
    );
    let newest = json!({"codec": "avro", "schema_registry": registry()});
    let (record, back) = there_and_back(newest, "avro", &topic, json!({"to": {"name": "me"}})).await;
    assert_eq!(record[1..5], u32::try_from(id).unwrap().to_be_bytes());
    assert_eq!(back, json!({"to": {"name": "me"}}));
}

#[tokio::test]
async fn what_it_does_not_know_is_a_rejection_and_a_subject_that_is_not_there_a_wait() {
    let option: DecodingOption =
        serde_json::from_value(json!({"codec": "avro", "schema_registry": registry()})).unwrap();
    let decoder = option.build().unwrap().decoder().unwrap().clone();
    let bytes = Bytes::from_static(&[0, 0x70, 0, 0, 0, 2]);
    let ready = decoder.prepare(&bytes).await.unwrap();
    assert_eq!(ready.decode(&bytes).unwrap_err().code, "unknown_schema");
    let option: EncodingOption =
        serde_json::from_value(json!({"codec": "avro", "schema_registry": registry()})).unwrap();
    let Encoding::Other(encoder) = option.build().unwrap() else { panic!() };
    assert!(encoder.prepare(&fresh("nobody")).await.unwrap_err().is_temporary());
}
