//! The check against serde_json, the values against VRL's `parse_json`, the splice against both.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use vrl::value::Value;

use super::{Edit, Fields, Found, MAX_DEPTH, Numbers, check, compact, parse, parse_range, scan, splice, write};

/// What VRL's `parse_json(.., lossy: false)` does, without the byte order mark it would skip.
fn peer(doc: &[u8]) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(doc);
    let value = serde::Deserialize::deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

fn assert_agrees(doc: &[u8]) {
    let shown = String::from_utf8_lossy(doc);
    let (ours, theirs) = (check(doc), peer(doc));
    if theirs.as_ref().is_err_and(|error| error.contains("recursion limit")) {
        return;
    }
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{shown}\nours {ours:?}\ntheirs {theirs:?}");
    match (parse(&Bytes::copy_from_slice(doc)), theirs) {
        (Ok(ours), Ok(theirs)) => assert_same(&ours, &theirs, &shown),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{shown}\nours {ours:?}\ntheirs {theirs:?}"),
    }
}

/// Equal, also in the sign of a zero. The peer may miss the nearest float by some bits.
fn assert_same(ours: &Value, theirs: &Value, doc: &str) {
    match (ours, theirs) {
        (Value::Float(ours), Value::Float(theirs)) => {
            assert!(ours.to_bits().abs_diff(theirs.to_bits()) <= 16, "{ours:?} and {theirs:?}: {doc}");
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{doc}");
            ours.iter().zip(theirs).for_each(|(ours, theirs)| assert_same(ours, theirs, doc));
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            assert!(ours.keys().eq(theirs.keys()), "{doc}");
            ours.values().zip(theirs.values()).for_each(|(ours, theirs)| assert_same(ours, theirs, doc));
        }
        _ => assert_eq!(ours, theirs, "{doc}"),
    }
}

/// The document with its interesting part moved over every place in a block.
fn at_every_offset(doc: &str) {
    for spaces in 0..130 {
        let padded = format!("{}{doc}", " ".repeat(spaces));
        assert_agrees(padded.as_bytes());
    }
    for length in [0, 1, 30, 50, 60, 61, 62, 63, 64, 65, 120, 127, 128, 129] {
        let inside = format!("[\"{}\",{doc}]", "x".repeat(length));
        assert_agrees(inside.as_bytes());
    }
}

#[test]
fn agrees_with_serde_json_wherever_it_stands() {
    for doc in [
        "",
        " ",
        "{}",
        "[]",
        "null",
        "true",
        "false",
        "nul",
        "truex",
        "1",
        "-1",
        "-",
        "01",
        "1.",
        "1.5",
        ".5",
        "1e",
        "1e5",
        "1E+5",
        "1e-5",
        "1e400",
        "-1e400",
        "1e-400",
        "-0",
        "0",
        "-0.0",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "0.1",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "1.8e308",
        "+1",
        "0x1",
        "NaN",
        "\"a\"",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\\\\"",
        "\"\\\\\\\"\"",
        "\"\\n\\t\\/\\b\\f\\r\"",
        "\"\\x\"",
        "\"\\u0041\"",
        "\"\\u00g1\"",
        "\"\\u12\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ud83d\\ud83d\\ude00\"",
        "\"\\ud83dx\"",
        "\"\\u0000\"",
        "\"a\nb\"",
        "\"a\u{1f}b\"",
        "\"a\u{7f}b\"",
        "\"\u{e9}\u{1f600}\"",
        "\u{e9}",
        "\u{feff}1",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "[,]",
        "[1,]",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "{\"a\":1}}",
        "[]]",
        "{} {}",
        "{}x",
        "\\",
        "{\\\"a\":1}",
        "[\"a\"\\\"b\"]",
        "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":[[],{}]}",
        "{\"a\":1,\"a\":2,\"\\u0061\":3}",
        " { \"a\" : [ 1 , 2 ] , \"b\" : { } } ",
        "\t\r\n[\n1\n,\n2\n]\n",
        "\u{0}",
        "1\u{0}",
        "[1]\u{0}",
        "{\"\":\"\"}",
        "\"\\",
        "[\"\\\\\",\"\\\"\"]",
    ] {
        at_every_offset(doc);
    }
}

#[test]
fn numbers_at_the_limits_of_size() {
    for digits in [17, 18, 19, 20, 299, 300, 301, 308, 309, 310, 400] {
        let nines = "9".repeat(digits);
        for doc in
            [nines.clone(), format!("-{nines}"), format!("{nines}.5"), format!("{nines}e1"), format!("0.{nines}")]
        {
            assert_agrees(doc.as_bytes());
        }
    }
}

#[test]
fn depth_is_at_most_128() {
    for (depth, good) in [(1, true), (127, true), (128, true), (129, false), (5000, false)] {
        let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for doc in [arrays, objects] {
            assert_eq!(check(doc.as_bytes()).is_ok(), good, "{depth}");
            assert_eq!(parse(&Bytes::from(doc)).is_ok(), good, "{depth}");
        }
    }
    assert_eq!(MAX_DEPTH, 128);
}

#[test]
fn errors_say_where_and_what() {
    let text = |doc: &str| check(doc.as_bytes()).unwrap_err().to_string();
    assert_eq!(text("{\"reason\":1,\"a\" 2}"), "invalid json at byte 16: expected ':' after a key");
    assert_eq!(text("  "), "invalid json at byte 2: the document is empty");
    assert_eq!(text("{\"a\":\"b"), "invalid json at byte 5: a string has no end");
    assert_eq!(text("[\"a\tb\"]"), "invalid json at byte 3: a control character in a string must be escaped");
    assert_eq!(text("{\"a\":1} x"), "invalid json at byte 8: unexpected text after the document");
    assert_eq!(text("{\"a\":1]"), "invalid json at byte 6: expected ',' or '}' in an object");
}

#[test]
fn finds_the_last_of_each_wanted_field() {
    let fields = Fields::new(["a", "reason", "a", ""]);
    assert_eq!(fields.names(), ["a", "reason", ""]);
    let mut found = Found::default();
    let doc = br#"{ "a" : 1 ,"x":{"a":2,"reason":3}, "\u0072eason" : "yes\n" ,"a":[4, 5] }"#;
    scan(doc, &fields, &mut found).unwrap();
    assert!(found.is_object());
    assert_eq!(&doc[found.get(0).unwrap()], b"[4, 5]");
    assert_eq!(&doc[found.get(1).unwrap()], br#""yes\n""#);
    assert_eq!(found.get(2), None);
    assert_eq!(found.get(9), None);

    scan(b"[{\"a\":1}]", &fields, &mut found).unwrap();
    assert!(!found.is_object());
    assert_eq!(found.get(0), None);
}

#[test]
fn compact_takes_out_newlines_alone() {
    assert!(matches!(compact(b"{\"a\": 1}"), std::borrow::Cow::Borrowed(_)));
    assert_eq!(&*compact(b"{\n  \"a\": \"x\\n\"\n}\n"), b"{  \"a\": \"x\\n\"}");
}

#[test]
fn strings_share_the_memory_of_the_document() {
    let doc = Bytes::from_static(br#"{"a":"plain","b":"esc\naped"}"#);
    let value = parse(&doc).unwrap();
    let plain = value.as_object().unwrap()["a"].as_bytes().unwrap();
    assert!(doc.as_ptr_range().contains(&plain.as_ptr()));
}

#[test]
fn splice_examples() {
    let edit = |doc: &str, edits: &[Edit<'_>]| {
        let fields = Fields::new(["a", "b", "c"]);
        let mut found = Found::default();
        scan(doc.as_bytes(), &fields, &mut found).unwrap();
        String::from_utf8(splice(doc.as_bytes(), &fields, &found, edits, &Numbers::default()).unwrap()).unwrap()
    };
    let one = Value::from(1);
    let set = |field| Edit::Set(field, &one);
    assert_eq!(edit("{}", &[set(0), set(1)]), r#"{"a":1,"b":1}"#);
    assert_eq!(edit(r#"{"x":1.00}"#, &[set(0)]), r#"{"x":1.00,"a":1}"#);
    assert_eq!(edit(r#"{"a":0,"x":1e2,"b":0}"#, &[Edit::Remove(0), set(1)]), r#"{"x":1e2,"b":1}"#);
    assert_eq!(edit(r#"{"a":0}"#, &[Edit::Remove(0)]), "{}");
    assert_eq!(edit(r#"{"a":0}"#, &[Edit::Remove(0), set(1)]), r#"{"b":1}"#);
    assert_eq!(edit(r#"{"a":0,"b":0,"c":0}"#, &[Edit::Remove(0), Edit::Remove(1)]), r#"{"c":0}"#);
    assert_eq!(edit(r#"{"c":0,"b":0,"a":0}"#, &[Edit::Remove(0), Edit::Remove(1)]), r#"{"c":0}"#);
    assert_eq!(edit(r#"{"a":0,"b":0,"a":2,"a":3}"#, &[set(0)]), r#"{"b":0,"a":1}"#);
    assert_eq!(edit(r#"{"x":1,"x":2,"a":0,"\u0061":2}"#, &[set(0)]), r#"{"x":1,"x":2,"\u0061":1}"#);
    assert_eq!(edit(" { \"a\" : 0 , \"x\" : 0 } ", &[Edit::Remove(0)]), " { \"x\" : 0 } ");
    assert_eq!(edit("[1]", &[set(0)]), "[1]");
}

fn json_text() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        "[ -~]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\\PC{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        r#""[a-c]{0,70}""#,
        r#""(\\\\|\\n|\\"|\\u0041|\\ud83d\\ude00|\\ud800|é|x){0,40}""#,
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("json has no such numbers", |n| n.is_finite())
            .prop_map(|number| format!("{number:?}")),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![string, number, Just("null".to_owned()), Just("true".to_owned()), Just("false".to_owned())];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let key = prop_oneof!["\"[a-d]{0,2}\"", Just("\"\\u0061\"".to_owned()), "\"[x-z]{50,70}\""];
        let space = "[ \n\t\r]{0,2}";
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), space)
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            (prop::collection::vec((key, inner), 0..6), space).prop_map(|(members, space)| {
                let members: Vec<_> =
                    members.into_iter().map(|(key, value)| format!("{key}{space}:{space}{value}{space}")).collect();
                format!("{space}{{{space}{}}}{space}", members.join(&format!(",{space}")))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_float_is_read_as_it_was_written(bits: u64) {
        let number = f64::from_bits(bits);
        let mut out = Vec::new();
        prop_assert_eq!(write(&Value::from_f64_or_zero(number), &mut out).is_ok(), !number.is_infinite());
        if out.is_empty() {
            return Ok(());
        }
        if let Value::Float(read) = parse(&out.into()).unwrap() {
            prop_assert!(read.to_bits() == bits || !number.is_finite(), "{number:?} became {read:?}");
        }
    }

    #[test]
    fn generated_documents(doc in json_text()) {
        assert_agrees(doc.as_bytes());
    }

    #[test]
    fn mutated_documents(
        doc in json_text(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..3u8, prop::sample::select(br#"{}[],:"\ ntfeu0-9.E"#.to_vec()).boxed()
                .prop_union(any::<u8>().boxed())),
            1..4,
        ),
    ) {
        let mut doc = doc.into_bytes();
        for (place, kind, byte) in changes {
            let at = place.index(doc.len() + 1);
            match kind {
                0 => doc.insert(at, byte),
                1 if at < doc.len() => doc[at] = byte,
                _ if at < doc.len() => { doc.remove(at); }
                _ => doc.push(byte),
            }
        }
        assert_agrees(&doc);
    }

    #[test]
    fn any_bytes(doc in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_agrees(&doc);
        let doc = Bytes::from(doc);
        let _ = parse_range(&doc, 0..doc.len());
    }

    #[test]
    fn found_fields_are_those_of_the_value(doc in json_text()) {
        let doc = Bytes::from(doc);
        let Ok(value) = parse(&doc) else { return Ok(()) };
        let fields = Fields::new(["a", "b", "ab", "missing"]);
        let mut found = Found::default();
        scan(&doc, &fields, &mut found).unwrap();
        prop_assert_eq!(found.is_object(), value.is_object());
        for (number, name) in fields.names().iter().enumerate() {
            let expected = value.as_object().and_then(|map| map.get(name.as_str()));
            let lazy = found.get(number).map(|range| parse_range(&doc, range).unwrap());
            prop_assert_eq!(lazy.as_ref(), expected);
        }
    }

    #[test]
    fn spliced_documents_hold_the_edited_value(
        doc in json_text(),
        kinds in prop::collection::vec(0..3u8, 4),
    ) {
        let doc = Bytes::from(doc);
        let Ok(mut value) = parse(&doc) else { return Ok(()) };
        let Some(map) = value.as_object_mut() else { return Ok(()) };
        let fields = Fields::new(["a", "b", "c", "zz"]);
        let mut found = Found::default();
        scan(&doc, &fields, &mut found).unwrap();
        let new = Value::from("new");
        let mut edits = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let name = fields.names()[number].as_str();
            match kind {
                0 => { edits.push(Edit::Set(number, &new)); map.insert(name.into(), new.clone()); }
                1 => { edits.push(Edit::Remove(number)); map.remove(name); }
                _ => {}
            }
        }
        let spliced = Bytes::from(splice(&doc, &fields, &found, &edits, &Numbers::default()).unwrap());
        prop_assert_eq!(parse(&spliced).unwrap(), value);
        if edits.is_empty() {
            prop_assert_eq!(spliced, doc);
        }
    }

    #[test]
    fn values_are_written_as_they_are_or_refused(texts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(0xc3), any::<u8>()], 0..8), 0..4)) {
        let is_text = texts.iter().all(|text| std::str::from_utf8(text).is_ok());
        let value = Value::from(texts.into_iter().map(|text| Value::Bytes(text.into())).collect::<Vec<_>>());
        let (mut strict, mut as_is) = (b"before".to_vec(), Vec::new());
        prop_assert_eq!(write(&value, &mut strict).is_ok(), is_text);
        super::write_as_is(&value, &mut as_is);
        prop_assert_eq!(&strict[6..], if is_text { &as_is[..] } else { b"" });
        prop_assert_eq!(super::parse_as_is(&as_is.into()).unwrap(), value);
    }

    #[test]
    fn written_values_read_back(doc in json_text()) {
        let Ok(value) = parse(&Bytes::from(doc)) else { return Ok(()) };
        let mut out = Vec::new();
        write(&value, &mut out).unwrap();
        prop_assert_eq!(super::same_after_json(&value), parse(&out.into()).unwrap() == value);
    }
}
