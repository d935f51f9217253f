//! Numbers that neither a 64-bit integer nor a 64-bit float holds stay what they are, and different.

use super::*;
use crate::script::Expression;

const IDS: [&str; 6] = [
    "18446744073709551615",
    "18446744073709551614",
    "18446744073709551000",
    "9223372036854775808",
    "0.1000000000000000055",
    "1e-400",
];

fn ran(source: &str, doc: &str) -> String {
    let mut event = raw(doc);
    Script::compile(source).unwrap().0.run(&mut event, &origin(OriginKind::Other)).unwrap();
    String::from_utf8(event.body.to_bytes().to_vec()).unwrap()
}

#[test]
fn keys_and_templates_have_the_digits_of_the_event() {
    let origin = origin(OriginKind::Other);
    for program in [
        ".id",
        "[.id]",
        "{\"id\": .id}",
        "to_string(.id) ?? \"\"",
        "parse_json!(.text).id",
        "encode_json(.id)",
        "encode_json(.)",
        ".",
    ] {
        let mut expression = Expression::compile(program).unwrap().0;
        let mut keys: Vec<String> = Vec::new();
        for id in IDS {
            let event = raw(&format!(r#"{{"id":{id},"text":"{{\"id\":{id}}}"}}"#));
            let value = expression.value(&event, &origin).unwrap();
            let mut key = Vec::new();
            expression.write(&value, &mut key).unwrap();
            keys.push(String::from_utf8(key).unwrap());
            assert!(keys.last().unwrap().contains(id), "{program}: {keys:?}");
        }
        let different: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), IDS.len(), "{program}: {keys:?}");
    }
    for (template, before, after) in
        [("{{ .id }}", "", ""), ("a-{{ to_string!(.id) }}-b", "a-", "-b"), ("{{ parse_json!(.text).id }}", "", "")]
    {
        let mut template = Template::compile(template).unwrap().0;
        for id in IDS {
            let event = raw(&format!(r#"{{"id":{id},"text":"{{\"id\":{id}}}"}}"#));
            assert_eq!(template.render(&event, &origin).unwrap(), format!("{before}{id}{after}"));
        }
    }
}

#[test]
fn programs_keep_the_digits_of_what_they_leave_and_copy() {
    for id in IDS {
        let doc = format!(r#"{{"id":{id},"other":18446744073709551613,"n":1}}"#);
        assert_eq!(ran(".n = 2", &doc), doc.replace("\"n\":1", "\"n\":2"));
        assert_eq!(ran(".copy = .id", &doc), format!(r#"{},"copy":{id}}}"#, &doc[..doc.len() - 1]));
        assert_eq!(ran("del(.other)\n.all = [.id]", &doc), format!(r#"{{"id":{id},"n":1,"all":[{id}]}}"#));
        let sorted = format!(r#"{{"id":{id},"n":1,"other":18446744073709551613,"z":1}}"#);
        assert_eq!(ran(". |= {\"z\": 1}", &doc), sorted);
        assert_eq!(ran(". = {\"inner\": .}", &doc), format!(r#"{{"inner":{}}}"#, sorted.replace(",\"z\":1", "")));
        assert_eq!(
            ran(".at = t'2024-01-01T00:00:00Z'", &doc),
            format!(r#"{{"at":"2024-01-01T00:00:00Z",{}"#, &sorted[1..].replace(",\"z\":1", ""))
        );
        let text = format!(r#"{{"message":"{{\"id\":{id}}}"}}"#);
        assert_eq!(ran(". = parse_json!(.message)", &text), format!(r#"{{"id":{id}}}"#));
        assert_eq!(ran(".message = parse_json!(.message)", &text), format!(r#"{{"message":{{"id":{id}}}}}"#));
    }
    let mut event = Event { body: Body::Raw(r#"{"id":18446744073709551615}"#.into(), Codec::Text), ..raw("{}") };
    Script::compile(". = parse_json!(.message)").unwrap().0.run(&mut event, &origin(OriginKind::Other)).unwrap();
    assert_eq!(raw_bytes(&event), r#"{"id":18446744073709551615}"#);
    let mut event = Event { body: Body::Parsed(value_of(&event.body)), ..raw("{}") };
    event.body = Body::Parsed(Value::Object([("message".into(), r#"{"id":18446744073709551615}"#.into())].into()));
    Script::compile(". = parse_json!(.message)").unwrap().0.run(&mut event, &origin(OriginKind::Other)).unwrap();
    assert_eq!(raw_bytes(&event), r#"{"id":18446744073709551615}"#);
}

#[test]
fn bytes_that_are_no_text_cannot_stand_beside_such_a_number() {
    let run = |doc: &str| {
        let mut event = raw(doc);
        let flow =
            Script::compile(".bytes = decode_base64!(\"/w==\")").unwrap().0.run(&mut event, &origin(OriginKind::Other));
        (flow.map_err(|failure| failure.code), matches!(event.body, Body::Parsed(_)))
    };
    assert_eq!(run(r#"{"id":18446744073709551615}"#), (Err("invalid_utf8"), false));
    assert_eq!(run(r#"{"id":1844674407370955161}"#), (Ok(Flow::Keep), true));
}

#[test]
fn numbers_of_one_event_are_compared_by_their_digits() {
    let origin = origin(OriginKind::Other);
    let event = raw(r#"{"a":18446744073709551615,"b":18446744073709551614,"c":18446744073709551615,"d":2.50,"e":2.5}"#);
    for (condition, holds) in [
        (".a == .b", false),
        (".a == .c", true),
        (".d == .e", true),
        ("to_string(.a) == \"18446744073709551615\" ?? false", true),
        (".a != .b && .a == .c", true),
    ] {
        for source in [condition.to_owned(), format!("length(.) == 5 && ({condition})")] {
            assert_eq!(Condition::compile(&source).unwrap().0.holds(&event, &origin).unwrap(), holds, "{source}");
        }
    }
    // VRL compares a float with an integer as floats, so no float stands in for a number that an integer becomes.
    for (doc, condition, holds) in [
        (r#"{"k":9223372036854775807}"#, ".k == 9223372036854775807", true),
        (r#"{"k":9223372036854775808}"#, ".k == 9223372036854775807", false),
        (r#"{"k":9223372036854775809}"#, ".k == 9223372036854775807", false),
        (r#"{"k":9223372036854775808,"l":9223372036854775809}"#, ".k == 9223372036854775807 || .l == .k", false),
        (r#"{"k":-9223372036854775808,"l":-9223372036854775809}"#, ".k == .l", false),
        (r#"{"k":9223372036854775808,"l":9223372036854775807}"#, ".k == .l", false),
        (r#"{"k":9223372036854775808,"l":9223372036854775807}"#, "to_float!(.k) > int!(.l)", true),
    ] {
        let found = Condition::compile(condition).map(|mut condition| condition.0.holds(&raw(doc), &origin).unwrap());
        assert_eq!(found, Ok(holds), "{condition} of {doc}");
    }
    // Arithmetic is done with the nearest float.
    assert_eq!(ran(".a = float!(.a) / 2", r#"{"a":18446744073709551615}"#), r#"{"a":9.223372036854776e+18}"#);
}

#[test]
fn an_integer_of_more_than_64_bits_is_no_other_integer() {
    let fails = |doc: &str| {
        let mut event = raw(doc);
        let run = Script::compile(".n = to_int!(.k)").unwrap().0.run(&mut event, &origin(OriginKind::Other));
        run.unwrap_err().message
    };
    for digits in
        ["18446744073709551615", "9223372036854775808", "-9223372036854775809", "1e19", "9223372036854775808.5"]
    {
        let message = fails(&format!(r#"{{"k":{digits}}}"#));
        assert!(message.contains("does not fit into 64 bits; use to_string or to_float"), "{message}");
    }
    for (digits, integer) in [
        ("9223372036854775807.5", "9223372036854775807"),
        ("9007199254740993.5", "9007199254740993"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("2.9", "2"),
        ("-0.5", "0"),
        ("\"12\"", "12"),
        ("true", "1"),
        ("null", "0"),
    ] {
        assert_eq!(ran(".n = to_int!(.k)\ndel(.k)", &format!(r#"{{"k":{digits}}}"#)), format!(r#"{{"n":{integer}}}"#));
    }
}

#[test]
fn functions_that_write_pairs_write_all_digits() {
    for id in IDS {
        let doc = format!(r#"{{"o":{{"id":{id},"in":[{id}],"t":true}}}}"#);
        let written = |call: &str| ran(&format!(". = {{\"m\": {call}}}"), &doc);
        assert_eq!(written("encode_logfmt!(.o)"), format!(r#"{{"m":"id={id} in.0={id} t"}}"#));
        let pairs = "encode_key_value!(.o, [\"t\"], key_value_delimiter: \":\", field_delimiter: \",\")";
        assert_eq!(written(pairs), format!(r#"{{"m":"t:true,id:{id},in.0:{id}"}}"#));
    }
}

#[test]
fn no_text_is_made_of_a_time_that_rfc_3339_does_not_have() {
    for call in ["to_string!(.t)", "encode_json(.t)", "encode_logfmt!({\"t\": .t})"] {
        let source = format!(".t = from_unix_timestamp!(300000000000)\n.m = {call}");
        let run = Script::compile(&source).map(|mut script| {
            let flow = script.0.run(&mut raw("{}"), &origin(OriginKind::Other));
            flow.map_err(|failure| failure.message)
        });
        let failed = run.unwrap().unwrap_err();
        assert!(failed.contains("as RFC 3339 has the years 0000 to 9999"), "{call}: {failed}");
    }
    let mut template = Template::compile("{{ from_unix_timestamp!(.t) }}").unwrap().0;
    let failed = template.render(&raw(r#"{"t":300000000000}"#), &origin(OriginKind::Other)).unwrap_err();
    assert!(failed.message.contains("RFC 3339 has the years"), "{failed}");
}
