//! Against vectors of the encoding guide, and round trips.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use vrl::value::Value;

use super::Schema;
use crate::schema::SchemaText;
use crate::testing::as_json;

const ALL: &str = r#"
syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
enum Suit { SPADES = 0; HEARTS = 1; }
message All {
  int32 i = 1; sint64 l = 2; uint32 u = 3; fixed64 f = 4; bool b = 5; float x = 6; double d = 7;
  string text = 8; bytes raw = 9; Suit suit = 10; repeated int32 list = 11; map<string, Inner> by_name = 12;
  optional int32 maybe = 13; Inner inner = 14; oneof one { string a = 15; int32 c = 16; }
  google.protobuf.Timestamp at = 17; google.protobuf.Duration span = 18; google.protobuf.Int64Value boxed = 19;
  google.protobuf.Struct any = 20; map<int32, bool> flags = 21; uint64 big = 22; All next = 23; repeated Inner inners = 24;
  message Inner { int32 camel_case = 1; message Deep { int32 z = 1; } }
}
message Second { int32 n = 1; }
"#;

fn schema(text: &str, message: Option<&str>) -> Result<Schema, String> {
    Schema::compile(&SchemaText { text: text.to_owned(), references: Vec::new() }, message)
}

fn write(schema: &Schema, value: serde_json::Value, is_framed: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    schema.encode(&Value::from(value), is_framed, &mut out).map(|()| out).map_err(|error| error.message)
}

fn read(schema: &Schema, bytes: &[u8]) -> serde_json::Value {
    as_json(schema.decode(&Bytes::copy_from_slice(bytes), false).unwrap())
}

#[test]
fn the_encoding_guide_s_examples_are_read_and_written() {
    let one = schema("syntax = \"proto3\"; message Test1 { int32 a = 1; }", None).unwrap();
    assert_eq!(read(&one, &[0x08, 0x96, 0x01]), json!({"a": 150}));
    assert_eq!(write(&one, json!({"a": 150}), false).unwrap(), [0x08, 0x96, 0x01]);
    let two = schema("syntax = \"proto3\"; message Test2 { string b = 2; }", None).unwrap();
    assert_eq!(read(&two, b"\x12\x07testing"), json!({"b": "testing"}));
    assert_eq!(read(&two, b""), json!({"b": ""}), "what has no presence has its default");
}

#[test]
fn every_kind_comes_back() {
    let all = schema(ALL, None).unwrap();
    assert_eq!(all.name(), "test.All");
    let value = json!({
        "i": -1, "l": -1_i64 << 40, "u": 7, "f": 8, "b": true, "x": 1.5, "d": 0.1, "text": "é", "raw": "//5B",
        "suit": "HEARTS", "list": [1, 2, 300], "by_name": {"k": {"camel_case": 1}}, "maybe": 0, "inner": {"camel_case": 2},
        "c": 5, "at": "2024-02-29T12:00:00.000000001Z", "span": "-1.5s", "boxed": 0,
        "any": {"t": "x", "n": 1.5, "l": [true, null], "o": {}}, "flags": {"-3": true}, "big": "18446744073709551615",
        "next": {"i": 1, "l": 0, "u": 0, "f": 0, "b": false, "x": 0.0, "d": 0.0, "text": "", "raw": "", "suit": "SPADES",
            "list": [], "by_name": {}, "flags": {}, "big": 0, "inners": []},
        "inners": [{"camel_case": 3}],
    });
    let bytes = write(&all, value.clone(), false).unwrap();
    assert_eq!(read(&all, &bytes), value);
    assert_eq!(
        read(&all, &write(&all, json!({"inner": {"camelCase": 9}}), false).unwrap())["inner"],
        json!({"camel_case": 9})
    );
    assert_eq!(read(&all, &write(&all, json!({"suit": 7}), false).unwrap())["suit"], 7, "a symbol of tomorrow");
    assert_eq!(read(&all, &write(&all, json!({"unknown": 7, "i": null}), false).unwrap())["i"], 0);
}

#[test]
fn bytes_are_base64_and_come_back_and_so_do_numbers_that_json_has_not() {
    let of = r#"syntax = "proto3"; import "google/protobuf/wrappers.proto";
        message M { bytes b = 1; repeated bytes l = 2; map<string, bytes> m = 3; google.protobuf.BytesValue w = 4; double d = 5; float f = 6; }"#;
    let of = schema(of, None).unwrap();
    assert_eq!(read(&of, b"\x0a\x03\xff\xfeA")["b"], "//5B");
    assert_eq!(read(&of, b"\x0a\x03\xff\xffA")["b"], "//9B");
    let value = json!({"b": "//5B", "l": ["", "/w=="], "m": {"k": "YQ=="}, "w": "AA==", "d": "NaN", "f": "-Infinity"});
    assert_eq!(read(&of, &write(&of, value.clone(), false).unwrap()), value);
    for spelled in ["_-5B", "//5B", "__5B"] {
        assert!(write(&of, json!({ "b": spelled }), false).is_ok(), "{spelled}");
    }
    assert_eq!(write(&of, json!({"b": "_w"}), false).unwrap(), b"\x0a\x01\xff");
    let refused = write(&of, json!({"b": "caf\u{e9}"}), false).unwrap_err();
    assert_eq!(refused, "the event.b is a text, which does not fit bytes, which are base64 text");
    let raw = Value::Object([("b".into(), Value::Bytes(Bytes::from_static(b"\xff")))].into());
    let refused = of.encode(&raw, false, &mut Vec::new()).unwrap_err();
    assert_eq!(
        (refused.code, &*refused.message),
        (
            "does_not_fit_schema",
            "the event.b is bytes that are no utf-8, which does not fit bytes, which are base64 text"
        )
    );
}

#[test]
fn a_schema_is_read_whatever_stands_in_details_that_bytes_do_not_depend_on() {
    let odd = r#"syntax = "proto2";
        import "confluent/meta.proto"; import "google/api/annotations.proto";
        option java_package = "x"; option (nobody.knows).this = true;
        service S { rpc Do(Absent) returns (Absent) { option (google.api.http) = { get: "/" }; } }
        extend google.protobuf.MessageOptions { optional string mine = 50000; }
        message M {
          option (mine) = "x"; option (confluent.message_meta).doc = "x"; reserved 1 to 5; reserved "a"; extensions 6 to 9;
          optional int32 a = 1 [default = 5, (validate.rules).int32.gt = 0, json_name = "A"];
          repeated int32 l = 7 [packed = true];
          enum E { option allow_alias = true; option (x) = 1; ONE = 1 [(y) = 2]; UNO = 1; TWO = 2; reserved 2; }
          optional E e = 3; oneof o { option (z) = 1; string s = 4; }
        }"#;
    let odd = schema(odd, None).unwrap();
    let value = json!({"a": 1, "l": [1, 2], "e": "TWO", "s": "x"});
    let bytes = write(&odd, value.clone(), false).unwrap();
    assert_eq!(bytes, b"\x08\x01\x18\x02\x22\x01x\x3a\x02\x01\x02");
    assert_eq!(read(&odd, &bytes), value);
    let absent =
        schema(r#"syntax = "proto3"; import "money.proto"; message M { shop.Money m = 1; }"#, None).unwrap_err();
    assert!(
        absent.contains("'shop.Money'") && absent.ends_with("these imports are not there: money.proto"),
        "{absent}"
    );
}

#[test]
fn a_message_is_found_by_its_way_and_by_its_name() {
    let all = schema(ALL, None).unwrap();
    let second = schema(ALL, Some("test.Second")).unwrap();
    assert_eq!(write(&second, json!({"n": 1}), true).unwrap(), [2, 2, 0x08, 1]);
    assert_eq!(as_json(all.decode(&Bytes::from_static(&[2, 2, 0x08, 1]), true).unwrap()), json!({"n": 1}));
    let deep = schema(ALL, Some("test.All.Inner.Deep")).unwrap();
    assert_eq!(write(&deep, json!({"z": 1}), true).unwrap(), [6, 0, 0, 0, 0x08, 1]);
    assert_eq!(as_json(all.decode(&Bytes::from_static(&[6, 0, 0, 0, 0x08, 1]), true).unwrap()), json!({"z": 1}));
    assert_eq!(
        as_json(second.decode(&Bytes::from_static(&[0, 0x08, 1]), true).unwrap())["i"],
        1,
        "the first by a zero"
    );
    assert!(schema(ALL, Some("test.Third")).unwrap_err().contains("no message test.Third"));
    assert_eq!(all.decode(&Bytes::from_static(&[2, 18, 0]), true).unwrap_err().code, "invalid_protobuf");
    assert_eq!(all.decode(&Bytes::new(), true).unwrap_err().code, "invalid_protobuf");
}

#[test]
fn what_does_not_fit_says_where_and_why() {
    let all = schema(ALL, None).unwrap();
    let refused = |value| write(&all, value, false).unwrap_err();
    assert_eq!(
        refused(json!({"inner": {"camel_case": "x"}})),
        "the event.inner.camel_case is a text, which does not fit int32"
    );
    assert_eq!(refused(json!({"i": 1_i64 << 40})), "the event.i is a whole number, which does not fit int32");
    assert_eq!(refused(json!({"list": 1})), "the event.list is a whole number; the schema wants a list");
    assert_eq!(
        refused(json!({"suit": "CLUBS"})),
        "the event.suit is a text, which does not fit the enum of SPADES, HEARTS"
    );
    assert_eq!(refused(json!({"flags": {"x": true}})), "the event.flags.x is no key: the schema wants int32");
    assert_eq!(refused(json!({"at": "today"})), "the event.at is a text; the schema wants a timestamp");
    assert_eq!(refused(json!([])), "the event is a list; the schema wants a test.All");
    let deep = (0..200).fold(json!({}), |inner, _| json!({ "next": inner }));
    assert!(refused(deep).contains("inside one another"));
}

#[test]
fn schemas_import_others_by_name() {
    let text = SchemaText {
        text: "syntax = \"proto3\"; import \"people/person.proto\"; message Order { people.Person by = 1; }".to_owned(),
        references: vec![(
            "people/person.proto".to_owned(),
            "syntax = \"proto3\"; package people; message Person { string name = 1; }".to_owned(),
        )],
    };
    let schema = Schema::compile(&text, None).unwrap();
    assert_eq!(schema.name(), "Order");
    assert_eq!(
        read(&schema, &write(&schema, json!({"by": {"name": "x"}}), false).unwrap()),
        json!({"by": {"name": "x"}})
    );
    assert!(Schema::compile(&SchemaText { references: Vec::new(), ..text }, None).is_err());
    for wrong in ["", "syntax = \"proto3\";", "message"] {
        assert!(
            Schema::compile(&SchemaText { text: wrong.to_owned(), references: Vec::new() }, None).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn a_message_inside_itself_without_end_is_refused() {
    let all = schema(ALL, None).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..300 {
        let mut outer = vec![0xba, 0x01];
        let mut length = bytes.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(bytes);
        bytes = outer;
    }
    assert_eq!(all.decode(&bytes.into(), false).unwrap_err().code, "invalid_protobuf");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(0x0a_u8), Just(2), any::<u8>()], 0..60)) {
        let all = schema(ALL, None).unwrap();
        let _either = all.decode(&bytes.clone().into(), false);
        let _either = all.decode(&bytes.into(), true);
    }

    #[test]
    fn what_is_written_is_read_again(i: i32, l: i64, text in "\\PC{0,6}", list in prop::collection::vec(any::<i32>(), 0..4), names in prop::collection::btree_map("[a-z]{1,3}", any::<i32>(), 0..3)) {
        let all = schema(ALL, None).unwrap();
        let by_name: serde_json::Map<_, _> = names.into_iter().map(|(name, n)| (name, json!({"camel_case": n}))).collect();
        let value = json!({"i": i, "l": l, "text": text, "list": list, "by_name": by_name});
        let back = read(&all, &write(&all, value.clone(), false).unwrap());
        for (name, value) in value.as_object().unwrap() {
            prop_assert_eq!(&back[name], value);
        }
    }
}
