//! Against `apache-avro` as the oracle, and by hand where hands are better.

use apache_avro::types::Value as Theirs;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use vrl::value::Value;

use super::Schema;
use crate::testing::as_json;

const ALL: &str = r#"{
  "type": "record", "name": "All", "namespace": "test", "fields": [
    {"name": "null", "type": "null"}, {"name": "bool", "type": "boolean"}, {"name": "int", "type": "int"},
    {"name": "long", "type": "long"}, {"name": "float", "type": "float"}, {"name": "double", "type": "double"},
    {"name": "bytes", "type": "bytes"}, {"name": "text", "type": "string"},
    {"name": "list", "type": {"type": "array", "items": "int"}},
    {"name": "map", "type": {"type": "map", "values": "string"}},
    {"name": "maybe", "type": ["null", "string", "long"]},
    {"name": "suit", "type": {"type": "enum", "name": "Suit", "symbols": ["SPADES", "HEARTS"]}},
    {"name": "fixed", "type": {"type": "fixed", "name": "Two", "size": 2}},
    {"name": "next", "type": ["null", "All"]}
  ]}"#;

fn schema(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap()
}

fn read(schema: &Schema, bytes: &[u8]) -> Result<serde_json::Value, String> {
    schema.decode(&Bytes::copy_from_slice(bytes)).map(as_json).map_err(|error| error.message)
}

fn write(schema: &Schema, value: serde_json::Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    schema.encode(&Value::from(value), &mut out).map(|()| out).map_err(|error| error.message)
}

#[test]
fn the_specification_s_example_is_read_and_written() {
    let record = schema(
        r#"{"type": "record", "name": "test", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}"#,
    );
    let bytes = [0x36, 0x06, 0x66, 0x6f, 0x6f];
    assert_eq!(read(&record, &bytes).unwrap(), json!({"a": 27, "b": "foo"}));
    assert_eq!(write(&record, json!({"b": "foo", "a": 27, "left out": 1})).unwrap(), bytes);
    let list = schema(r#"{"type": "array", "items": "long"}"#);
    assert_eq!(read(&list, &[0x04, 0x06, 0x36, 0x00]).unwrap(), json!([3, 27]));
    assert_eq!(read(&list, &[0x03, 0x04, 0x06, 0x36, 0x00]).unwrap(), json!([3, 27]), "a block with its size");
    let union = schema(r#"["null", "string"]"#);
    assert_eq!(read(&union, &[0x00]).unwrap(), json!(null));
    assert_eq!(write(&union, json!("a")).unwrap(), [0x02, 0x02, 0x61]);
}

#[test]
fn logical_types_have_sensible_values_and_come_back() {
    let cases = [
        (r#"{"type": "int", "logicalType": "date"}"#, json!("2024-02-29")),
        (r#"{"type": "int", "logicalType": "time-millis"}"#, json!("12:34:56.789")),
        (r#"{"type": "long", "logicalType": "time-micros"}"#, json!("00:00:00.000001")),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, json!("2024-02-29T12:00:00.500Z")),
        (r#"{"type": "long", "logicalType": "timestamp-micros"}"#, json!("1969-12-31T23:59:59.999999Z")),
        (r#"{"type": "long", "logicalType": "timestamp-nanos"}"#, json!("2024-02-29T12:00:00.000000001Z")),
        (r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#, json!("2024-02-29T12:00:00.500")),
        (r#"{"type": "string", "logicalType": "uuid"}"#, json!("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
        (
            r#"{"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"}"#,
            json!("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ),
        (r#""double""#, json!("NaN")),
        (r#""float""#, json!("-Infinity")),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}"#,
            json!("-123456789012345678901234567890.05"),
        ),
        (
            r#"{"type": "fixed", "name": "f", "size": 4, "logicalType": "decimal", "precision": 8, "scale": 3}"#,
            json!("-0.001"),
        ),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4}"#, json!("42")),
        (
            r#"{"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"}"#,
            json!({"months": 1, "days": 2, "milliseconds": 3}),
        ),
    ];
    for (text, value) in cases {
        let schema = schema(text);
        let bytes = write(&schema, value.clone()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read(&schema, &bytes).unwrap(), value, "{text}");
        assert!(write(&schema, json!("nonsense")).is_err() || text.contains("string"), "{text}");
    }
    let fixed =
        schema(r#"{"type": "fixed", "name": "f", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 2}"#);
    assert_eq!(write(&fixed, json!("1.5")).unwrap(), [0, 150]);
    assert_eq!(write(&fixed, json!(-0.01)).unwrap(), [0xff, 0xff]);
    assert!(write(&fixed, json!("1.555")).is_err(), "too many digits behind the point");
    assert!(write(&fixed, json!("999.99")).is_err(), "too large");
}

#[test]
fn unions_take_the_branch_that_fits_best() {
    let of = |text: &str, value: serde_json::Value| write(&schema(text), value).map(|bytes| bytes[0] / 2);
    assert_eq!(of(r#"["double", "long"]"#, json!(1)).unwrap(), 1);
    assert_eq!(of(r#"["null", "double"]"#, json!(1)).unwrap(), 1, "a whole number is a number");
    assert_eq!(of(r#"["int", "long"]"#, json!(1_i64 << 40)).unwrap(), 1);
    assert_eq!(of(r#"["string", {"type": "enum", "name": "E", "symbols": ["A"]}]"#, json!("A")).unwrap(), 1);
    let records = r#"[{"type": "record", "name": "A", "fields": [{"name": "a", "type": "int", "default": 0}]},
        {"type": "record", "name": "B", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]}]"#;
    assert_eq!(of(records, json!({"a": 1})).unwrap(), 0);
    assert_eq!(of(records, json!({"a": 1, "b": 2})).unwrap(), 1);
    assert!(of(r#"["null", "int"]"#, json!("x")).unwrap_err().contains("one of null, an int"), "named");
}

#[test]
fn what_does_not_fit_says_where_and_why() {
    let record = schema(
        r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "array", "items": {"type": "map", "values": "int"}}},
            {"name": "d", "type": "string", "default": "x"}, {"name": "n", "type": ["null", "int"]}]}"#,
    );
    assert_eq!(
        write(&record, json!({"a": [{"k": "text"}]})).unwrap_err(),
        "the event.a[0].k is a text; the schema wants an int (32 bits)"
    );
    assert_eq!(write(&record, json!({})).unwrap_err(), "the event lacks the field `a`");
    assert_eq!(
        read(&record, &write(&record, json!({"a": []})).unwrap()).unwrap(),
        json!({"a": [], "d": "x", "n": null})
    );
    assert!(write(&record, json!([])).unwrap_err().contains("a list"), "no object");
}

#[test]
fn bytes_are_the_texts_of_avro_s_json_encoding_and_come_back() {
    let record = schema(
        r#"{"type": "record", "name": "r", "fields": [
            {"name": "b", "type": "bytes", "default": "\u00ff\u0001"}, {"name": "f", "type": {"type": "fixed", "name": "F", "size": 2}},
            {"name": "u", "type": ["null", "bytes"]}, {"name": "t", "type": ["string", "bytes", "F", "double"]}]}"#,
    );
    let cases: [(&[u8], serde_json::Value); 3] = [
        (
            b"\x06\xff\xfeA\xc3\xa9\x02\x02\xe9\x02\x02\xff",
            json!({"b": "\u{ff}\u{fe}A", "f": "\u{c3}\u{a9}", "u": "\u{e9}", "t": {"bytes": "\u{ff}"}}),
        ),
        (
            b"\x06\xff\xffA\x00\x00\x02\x00\x04\xff\xff",
            json!({"b": "\u{ff}\u{ff}A", "f": "\0\0", "u": "", "t": {"F": "\u{ff}\u{ff}"}}),
        ),
        (
            b"\x00zz\x00\x06\x00\x00\x00\x00\x00\x00\xf0\x7f",
            json!({"b": "", "f": "zz", "u": null, "t": {"double": "Infinity"}}),
        ),
    ];
    for (bytes, value) in cases {
        assert_eq!(read(&record, bytes).unwrap(), value);
        assert_eq!(write(&record, value).unwrap(), bytes);
    }
    let fixed_first = schema(r#"[{"type": "fixed", "name": "F", "size": 2}, "string"]"#);
    for bytes in [&b"\x00ab"[..], b"\x02\x04ab"] {
        assert_eq!(write(&fixed_first, read(&fixed_first, bytes).unwrap()).unwrap(), bytes);
    }
    assert_eq!(
        write(&record, json!({"f": "zz", "t": "plain"})).unwrap(),
        b"\x04\xff\x01zz\x00\x00\x0aplain",
        "defaults, too"
    );
    let refused = write(&record, json!({"b": "\u{20ac}", "f": "zz", "t": ""})).unwrap_err();
    assert!(refused.starts_with("the event.b is a text; the schema wants bytes, as a text with"), "{refused}");
    let raw = Value::Object([("b".into(), Value::Bytes(Bytes::from_static(b"\xff")))].into());
    let refused = record.encode(&raw, &mut Vec::new()).unwrap_err();
    assert!(refused.message.starts_with("the event.b is bytes that are no utf-8; the schema wants bytes"), "{refused}");
}

#[test]
fn a_schema_is_read_whatever_stands_in_details_that_bytes_do_not_depend_on() {
    let odd = schema(
        r#"{"type": "record", "name": "R-1", "namespace": "no space", "doc": 7, "aliases": ["a b", 5], "fields": [
            {"name": "a", "type": ["null", "string"], "default": "null"}, {"name": "b", "type": "int", "default": "0"},
            {"name": "c-d", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y y"], "default": "Z"}, "order": "sideways"},
            {"name": "e", "type": {"type": "long", "logicalType": "from-tomorrow"}, "aliases": "none"},
            {"name": "f", "type": {"type": "string", "logicalType": {"a": 1}}},
            {"name": "g", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 5}},
            {"name": "h", "type": {"type": "bytes", "logicalType": "decimal", "precision": "many"}},
            {"name": "i", "type": {"type": "bytes", "logicalType": "decimal", "precision": 5000, "scale": 4000}},
            {"name": "j", "type": {"type": "fixed", "name": "J", "size": 1, "logicalType": "duration", "default": "too long"}},
            {"name": "k", "type": {"type": "string", "logicalType": "date"}}, {"name": "l", "type": {"type": {"type": "int"}}},
            {"name": "m", "type": ["string", "string"]}, {"name": "n", "type": ["J", "null"]}]}"#,
    );
    assert_eq!(odd.name(), Some("no space.R-1"));
    let bytes = b"\x00\x02\x02\x02\x02x\x02g\x02h\x02ij\x02k\x02\x02\x02m\x00n";
    let value = json!({"a": null, "b": 1, "c-d": "Y y", "e": 1, "f": "x", "g": "g", "h": "h", "i": "i", "j": "j", "k": "k", "l": 1, "m": "m", "n": "n"});
    assert_eq!(read(&odd, bytes).unwrap(), value);
    let mut partial = value.clone();
    partial.as_object_mut().unwrap().remove("b");
    let refused = write(&odd, partial).unwrap_err();
    assert!(
        refused.starts_with("the default of the schema's field `b`: the event is a text; the schema wants an int"),
        "{refused}"
    );
}

#[test]
fn what_is_wrong_with_a_schema_names_the_field() {
    let wrong = |of: &str| {
        let text = format!(
            r#"{{"type": "record", "name": "o.R", "fields": [{{"name": "x", "type": {{"type": "record", "name": "I", "fields": [{{"name": "y", "type": {of}}}]}}}}]}}"#
        );
        Schema::parse(&text, &[]).unwrap_err()
    };
    let place = "the schema cannot be used: field `y` of the record `o.I`: ";
    for (of, why) in [
        ("\"Gone\"", "it refers to the type `o.Gone`, which is not there"),
        ("7", "expected a type, got 7"),
        ("{}", "a type has no `type`"),
        (r#"{"type": "array"}"#, "a type has no `items`"),
        (r#"{"type": "enum", "name": "E"}"#, "the enum `o.E` has no list of texts `symbols`"),
        (r#"{"type": "fixed", "name": "F", "size": -1}"#, "the fixed `o.F` has no number `size`"),
        (r#"{"type": "map", "values": [["int"]]}"#, "a union is directly within another one"),
        (r#"{"type": "record", "name": "S"}"#, "the record `o.S` has no list `fields`"),
    ] {
        assert_eq!(wrong(of), format!("{place}{why}"));
    }
    let twice =
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#;
    assert!(Schema::parse(twice, &[]).unwrap_err().ends_with("the record `R` has two fields `a`"));
    let deep = (0..60).fold("\"int\"".to_owned(), |inner, _| format!(r#"{{"type": "array", "items": {inner}}}"#));
    assert!(Schema::parse(&deep, &[]).is_ok());
    let chain: Vec<String> = (0..200)
        .map(|at| {
            format!(r#"{{"type": "record", "name": "N{at}", "fields": [{{"name": "f", "type": "N{}"}}]}}"#, at + 1)
        })
        .collect();
    assert!(Schema::parse(&chain[0], &chain[1..]).unwrap_err().contains("more than 128 types inside one another"));
}

#[test]
fn hostile_records_are_refused() {
    let all = schema(ALL);
    let linked = schema(r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#);
    let deep = vec![0x02; 100_000];
    assert!(read(&linked, &deep).unwrap_err().contains("inside one another"));
    let nulls = schema(r#"{"type": "array", "items": "null"}"#);
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(read(&nulls, &many).unwrap_err().contains("more values"));
    let longs = schema(r#"{"type": "array", "items": "long"}"#);
    assert!(read(&longs, &many).unwrap_err().contains("breaks off"));
    let text = schema(r#""string""#);
    assert!(read(&text, &many).unwrap_err().contains("breaks off"), "a length beyond memory");
    assert!(read(&text, &[0x01]).unwrap_err().contains("negative"));
    assert!(read(&text, &[0x02, 0xff]).unwrap_err().contains("utf-8"));
    assert!(read(&text, &[0x02, 0x61, 0x00]).unwrap_err().contains("behind the record"));
    assert!(read(&schema(r#""boolean""#), &[2]).unwrap_err().contains("boolean"));
    assert!(read(&all, &[]).is_err());
    let own: serde_json::Value = (0..200).fold(json!({"next": null}), |inner, _| json!({ "next": inner }));
    assert!(write(&linked, own).unwrap_err().contains("inside one another"));
}

#[test]
fn schemas_refer_to_others_by_name() {
    let main = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "by", "type": "people.Person"}, {"name": "also", "type": ["null", "people.Person"], "default": null}]}"#;
    let person = r#"{"type": "record", "name": "Person", "namespace": "people", "fields": [{"name": "name", "type": "string"}]}"#;
    let schema = Schema::parse(main, &[person.to_owned()]).unwrap();
    assert_eq!(schema.name(), Some("shop.Order"));
    let bytes = write(&schema, json!({"by": {"name": "x"}})).unwrap();
    assert_eq!(read(&schema, &bytes).unwrap(), json!({"by": {"name": "x"}, "also": null}));
    let nested = r#"{"type": "record", "name": "Crowd", "fields": [{"name": "first", "type": {"type": "record", "name": "Person", "namespace": "people", "fields": []}}]}"#;
    assert!(Schema::parse(main, &[nested.to_owned()]).is_ok(), "defined within another");
    assert!(Schema::parse(main, &[]).is_err());
    assert!(Schema::parse("{", &[]).is_err());
}

/// Values of the schema `ALL`, as the oracle has them.
fn theirs(depth: u32) -> BoxedStrategy<Theirs> {
    let maybe = prop_oneof![
        Just(Theirs::Union(0, Box::new(Theirs::Null))),
        "\\PC{0,4}".prop_map(|text| Theirs::Union(1, Box::new(Theirs::String(text)))),
        any::<i64>().prop_map(|number| Theirs::Union(2, Box::new(Theirs::Long(number)))),
    ];
    let next = if depth == 0 {
        Just(Theirs::Union(0, Box::new(Theirs::Null))).boxed()
    } else {
        prop_oneof![
            Just(Theirs::Union(0, Box::new(Theirs::Null))),
            theirs(depth - 1).prop_map(|next| Theirs::Union(1, Box::new(next))),
        ]
        .boxed()
    };
    let numbers = (any::<bool>(), any::<i32>(), any::<i64>(), -1e9_f32..1e9, -1e18_f64..1e18);
    let texts = (prop::collection::vec(any::<u8>(), 0..5), "\\PC{0,5}", prop::collection::vec(any::<i32>(), 0..4));
    let rest =
        (prop::collection::hash_map("[a-z]{1,3}", "\\PC{0,3}", 0..3), maybe, any::<bool>(), any::<[u8; 2]>(), next);
    (numbers, texts, rest)
        .prop_map(|((b, i, l, f, d), (bytes, text, list), (map, maybe, suit, fixed, next))| {
            let suits = ["SPADES", "HEARTS"];
            let fields = [
                ("null", Theirs::Null),
                ("bool", Theirs::Boolean(b)),
                ("int", Theirs::Int(i)),
                ("long", Theirs::Long(l)),
                ("float", Theirs::Float(f)),
                ("double", Theirs::Double(d)),
                ("bytes", Theirs::Bytes(bytes)),
                ("text", Theirs::String(text)),
                ("list", Theirs::Array(list.into_iter().map(Theirs::Int).collect())),
                ("map", Theirs::Map(map.into_iter().map(|(key, text)| (key, Theirs::String(text))).collect())),
                ("maybe", maybe),
                ("suit", Theirs::Enum(u32::from(suit), suits[usize::from(suit)].to_owned())),
                ("fixed", Theirs::Fixed(2, fixed.to_vec())),
                ("next", next),
            ];
            Theirs::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())
        })
        .boxed()
}

proptest! {
    #[test]
    fn what_apache_avro_writes_is_read_and_written_so_that_it_reads_the_same(value in theirs(3)) {
        let parsed = apache_avro::Schema::parse_str(ALL).unwrap();
        let bytes = apache_avro::to_avro_datum(&parsed, value.clone()).unwrap();
        let ours = schema(ALL);
        let read = ours.decode(&bytes.into()).unwrap();
        let mut out = Vec::new();
        ours.encode(&read, &mut out).unwrap();
        let back = apache_avro::from_avro_datum(&parsed, &mut &out[..], None).unwrap();
        prop_assert_eq!(back, value);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(2), any::<u8>()], 0..200)) {
        let _either = schema(ALL).decode(&bytes.into());
    }

    #[test]
    fn a_record_that_breaks_off_is_refused(value in theirs(1), cut in 0.0..1.0_f64) {
        let parsed = apache_avro::Schema::parse_str(ALL).unwrap();
        let bytes = apache_avro::to_avro_datum(&parsed, value).unwrap();
        let cut = (bytes.len() as f64 * cut) as usize;
        prop_assert_eq!(schema(ALL).decode(&Bytes::from(bytes).slice(..cut)).unwrap_err().code, "invalid_avro");
    }
}
