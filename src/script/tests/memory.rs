//! What a program holds is bounded, whatever it makes of an event; and compiling is, whatever the program.

use vrl::value::Value;

use super::*;
use crate::script::functions::growth;
use crate::script::plan::ON_THE_WHOLE;
use crate::script::{Expression, bounds};

#[test]
fn every_function_has_one_bound_for_its_memory() {
    for function in vrl::stdlib::all() {
        let name = function.identifier();
        if LEFT_OUT.contains(&name) {
            continue;
        }
        let ways = [
            growth::LITTLE.contains(&name),
            growth::COLLECT.contains(&name),
            growth::of(name).is_some() && !functions::is_own(name),
            functions::is_own(name) || ON_THE_WHOLE.contains(&name),
        ];
        let count = ways.into_iter().filter(|way| *way).count();
        assert_eq!(
            count, 1,
            "{name} has {count} bounds in script/functions/growth.rs: find out how much memory it takes for what it is given"
        );
        if let Some(growth) = growth::of(name) {
            let parameters = function.parameters();
            assert!(parameters.iter().any(|given| given.keyword == growth.parameter), "{name}: {}", growth.parameter);
        }
    }
}

fn run(source: &str, doc: &str) -> Result<Event, Failure> {
    let mut script = match Script::compile(source) {
        Ok((script, _)) => script,
        Err(problems) => panic!("{source}\n{problems:?}"),
    };
    let mut event = raw(doc);
    script.run(&mut event, &origin(OriginKind::Other)).map(|_| event)
}

fn assert_refused(source: &str, doc: &str) {
    let failure = run(source, doc).expect_err(source);
    assert_eq!(failure.code, "vrl_error");
    let message = &failure.message;
    assert!(
        message.contains("in memory") || message.contains("repeated") || message.contains("..."),
        "{source}\n{message}"
    );
}

/// A list of so many objects of one field each: a byte of it takes a hundred in memory.
fn objects(count: usize) -> String {
    format!(r#"{{"a":[{}]}}"#, vec![r#"{"":1}"#; count].join(","))
}

#[test]
fn what_a_program_holds_together_is_bounded() {
    // Some 15 MiB.
    let doc = objects(20_000);
    let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let many = |line: fn(usize) -> String| (0..40).map(line).collect::<Vec<_>>().join("\n");
    for source in [
        format!(".b = [{}]", vec![".a"; 40].join(", ")),
        format!(".b = {{{}}}", (0..40).map(|n| format!("\"k{n}\": .a")).collect::<Vec<_>>().join(", ")),
        format!("x = .a\nx = [{}]\n.n = 1", vec!["x"; 40].join(", ")),
        many(|n| format!("x{n} = .a")),
        many(|n| format!(".b{n} = .a")),
        format!("t = encode_json(.a)\n{}", many(|n| format!("x{n} = parse_json!(t)"))),
        format!("t = encode_json(.a)\n.b = [{}]", vec!["parse_json!(t)"; 40].join(", ")),
        format!("x = .a\n.b = {}", vec!["merge({\"x\": x}, {\"y\": 1}) "; 40].join(" | ")),
        "x = {\"a\": 1}\nfor_each(array!(.a)) -> |_i, _v| { x = {\"a\": x, \"b\": x} }".to_owned(),
        "x = [1]\nfor_each(array!(.a)) -> |_i, _v| { if true { x = [x[0], x] } else { x = [] } \n y = [x, x, x] \n x = y }".to_owned(),
        "for_each(array!(.a)) -> |i, _v| { if i < 40 { .x = {\"a\": .x, \"b\": .x} } }".to_owned(),
        "x = .a\n.b = map_values(array!(.a)) -> |_v| { x }".to_owned(),
        "x = .a\n.b = map_values(array!(.a)) -> |v| { if v == 1 { v } else { [x] } }".to_owned(),
        "x = encode_json(.a)\n.b = map_values(array!(.a)) -> |_v| { parse_json!(x) }".to_owned(),
        "x = encode_json(.a)\n.b = replace_with(x, r'.') -> |_m| { x }".to_owned(),
        "x = encode_json(.a)\n.b = map_values(array!(.a)) -> |_v| { \"{{x}}{{x}}\" }".to_owned(),
        ".b = to_entries(array!(.a))\n.b = map_values(array!(.b)) -> |v| { [v, v, v, v] }".to_owned(),
        ".b = tag_types_externally(flatten([.a, .a]))\n.c = .b\n.d = .b".to_owned(),
    ] {
        assert_refused(&source, &doc);
    }
    for source in [
        ".b = string!(.a) * 1000".to_owned(),
        ".b = 1000 * string!(.a)".to_owned(),
        "x = string!(.a)\nn = 1000\n.b = x * n".to_owned(),
        "n = 1000000000\n.b = \"0123456789\" * n".to_owned(),
        ".b = \"0123456789\" * 1000000000".to_owned(),
        "x = string!(.a)\n.b = (x * 10) * 10".to_owned(),
        "x = string!(.a)\n.b = (x + x) * 100".to_owned(),
        "x = string!(.a)\n.b = x * strlen(x)".to_owned(),
        "x = string!(.a)\n.b = { x } * 100".to_owned(),
        format!("x = string!(.a)\n.b = {}", vec!["x"; 100].join(" + ")),
        format!("x = string!(.a)\n.b = \"{}\"", "{{x}}".repeat(100)),
        format!(".b = {}", vec!["string!(.a)"; 100].join(" + ")),
    ] {
        assert_refused(&source, &text);
    }
}

#[test]
fn ordinary_programs_pass_over_documents_of_some_mib() {
    // Each some hundred bytes with a dozen fields, as logs have.
    let one = r#"{"time":"2026-01-01T00:00:00Z","level":"info","host":"node-1","pid":4711,"labels":{"app":"shop","team":"a","zone":"eu-1"},"message":"GET /index.html HTTP/1.1 200 took 17 ms for 10.0.0.1","bytes":17043}"#;
    let doc = format!(r#"{{"items":[{}],"n":1}}"#, vec![one; 12_000].join(","));
    assert!(doc.len() > 2 << 20);
    for source in [
        ".n = 2",
        ".count = length(array!(.items))",
        ".items = filter(array!(.items)) -> |_i, v| { v.level == \"info\" }",
        ".texts = map_values(array!(.items)) -> |v| { v.message }",
        "hosts = []\nfor_each(array!(slice!(.items, 0, 100))) -> |_i, v| { hosts = push(hosts, v.host) }\n.hosts = hosts",
        ".text = encode_json(.items)\n.n = length(array!(parse_json!(.text)))\ndel(.text)",
    ] {
        if let Err(failure) = run(source, &doc) {
            panic!("{source}\n{failure}");
        }
    }
    let text = format!(r#"{{"a":"{}"}}"#, "word, ".repeat(200_000));
    for source in [
        ".b = split(string!(.a), \",\")",
        ".b = parse_csv!(.a)",
        ".b = upcase(string!(.a)) + downcase(string!(.a))",
        ".b = replace(string!(.a), \"w\", \"W\")",
        ".b = length(parse_tokens!(.a))",
        ".b = encode_base64(encode_zstd(string!(.a)))",
        ".b = redact(string!(.a), filters: [r'nothing'])",
        ".b = string!(.a) * 3",
        ".b = parse_regex!(.a, r'^(?P<first>\\w+)')",
    ] {
        if let Err(failure) = run(source, &text) {
            panic!("{source}\n{failure}");
        }
    }
}

#[test]
fn functions_that_expand_are_refused_before_they_do() {
    let value = |name: &str, text: Vec<u8>| {
        let fields = [("s".into(), Value::Bytes(text.into())), ("name".into(), name.into())];
        Event { body: Body::Parsed(Value::Object(fields.into())), ..raw("{}") }
    };
    let size = 8 << 20;
    let unit = |unit: &[u8]| unit.repeat(size / unit.len());
    for (call, text) in [
        ("split(string!(.s), \"\")", unit(b"a")),
        ("split(string!(.s), \",\")", unit(b",")),
        ("split(string!(.s), r',')", unit(b",")),
        ("parse_csv!(.s)", unit(b",")),
        ("parse_regex_all!(.s, r'(?P<x>.)')", unit(b"a")),
        ("parse_json!(.s)", [&b"["[..], &unit(b"1,"), b"1]"].concat()),
        ("parse_json!(.s, max_depth: 9)", [&b"["[..], &unit(b"{\"\":1},"), b"1]"].concat()),
        ("parse_yaml!(.s)", [&b"["[..], &unit(b"1,"), b"1]"].concat()),
        ("parse_yaml!(.s)", unit(b"- a: b\n")),
        ("parse_cbor!(.s)", [&b"\x9a\x00\x20\x00\x00"[..], &unit(b"\xa1\x60\x01")].concat()),
        ("parse_key_value!(.s)", unit(b"a=1 ")),
        ("parse_logfmt!(.s)", unit(b"a=1 ")),
        ("parse_query_string!(.s)", unit(b"a=1&")),
        ("parse_xml!(.s)", [&b"<r>"[..], &unit(b"<a/>"), b"</r>"].concat()),
        ("parse_ruby_hash!(.s)", [&b"{"[..], &unit(b"\"a\"=>[1],"), b"\"b\"=>1}"].concat()),
        ("parse_tokens!(.s)", unit(b"a ")),
        ("parse_influxdb!(.s)", unit(b"m,a=1 b=1\n")),
        ("snakecase(string!(.s))", unit(b"aB")),
        ("split_path(string!(.s))", unit(b"/a")),
        ("redact(string!(.s), filters: [r'a', r'[A-Z]'])", unit(b"a")),
        ("sieve(string!(.s), permitted_characters: r'[b]', replace_single: \"0123456789\")", unit(b"ab")),
        ("replace(string!(.s), \"a\", \"0123456789\")", unit(b"a")),
        ("replace_with(string!(.s), r'a') -> |_m| { \"b\" }", unit(b"a")),
        ("split(upcase(string!(.s)), \"\")", unit(b"a")),
        ("split((upcase(string!(.s))), \",\")", unit(b",")),
        ("split({ .name\n string!(.s) }, \",\")", unit(b",")),
        ("format_number(1.5, scale: 10000000000)", Vec::new()),
        ("format_number(1.5, scale: -5)", Vec::new()),
        ("encode_zstd(string!(.s), compression_level: 22)", Vec::new()),
    ] {
        let mut expression = match Expression::compile(call) {
            Ok((expression, _)) => expression,
            Err(problems) => panic!("{call}\n{problems:?}"),
        };
        let failure = expression.value(&value("a", text), &origin(OriginKind::Other)).expect_err(call);
        assert!(failure.message.contains("in memory"), "{call}\n{}", failure.message);
    }
}

#[test]
fn an_event_that_is_too_large_as_a_value_is_refused_before_it_is_one() {
    let large = objects(200_000);
    for source in [".b = .", ".b = length(array!(.a))"] {
        let failure = run(source, &large).unwrap_err();
        assert!(failure.message.contains("`max_value`"), "{}", failure.message);
    }
    // A program that does not look at it does not mind.
    assert!(run(".b = 1", &large).is_ok());
}

#[test]
fn programs_whose_types_explode_are_refused_before_they_are_compiled() {
    let lines = |line: &str| vec![line; 30].join("\n");
    for source in [
        format!("x = [1]\n{}", lines("x = [x, x, x, x]")),
        format!("x = {{\"a\": 1}}\n{}", lines("x = {\"a\": x, \"b\": x, \"c\": x}")),
        lines(". = {\"a\": ., \"b\": ., \"c\": .}"),
        format!(".a = 1\n{}", lines(".a = [.a, .a, .a]")),
        format!("x = [1]\n{}", lines("x.a = {\"b\": x, \"c\": x}")),
        format!("x = {{\"a\": 1}}\n{}", lines("x = {\"a\": x} | {\"b\": x} | {\"c\": x}")),
        format!("x = [1]\n{}", lines("x |= {\"b\": [x, x]}")),
        format!("x = {{\"a\": 1}}\n{}", lines("x = merge({\"a\": x}, {\"b\": x})")),
        format!("x = [1]\n{}", lines("if .c == 1 { x = [x, x, x] } else { x = [x, [x, x]] }")),
        format!("x = [1]\n{}", lines("x = [x, x, x] ?? x")),
        format!("x = [1]\ny = [1]\n{}", lines("x = [y, y, y]\ny = [x, x, x]")),
        format!("x = [1]\nfor_each([1]) -> |_i, _v| {{ {} }}", lines("x = [x, x, x]")),
        format!("x = {{}}\n{}", (0..100).map(|n| format!("x.a{n}[1000] = 1\n")).collect::<String>()),
        format!("x = [1]\n{}\nx", lines("x = (([x, [x], x]))")),
        // Each expression copies all that is known.
        format!("{}{}", (0..4_000).map(|n| format!("x{n} = {n}\n")).collect::<String>(), "y = 1\n".repeat(12_000)),
    ] {
        let begun = std::time::Instant::now();
        let problems = Script::compile(&source).err().unwrap_or_else(|| panic!("{}", &source[..source.len().min(200)]));
        assert_eq!(problems[0].code, "program_too_large", "{}\n{problems:?}", &source[..source.len().min(200)]);
        assert!(problems[0].span.end <= source.len() && !problems[0].notes.is_empty());
        assert!(begun.elapsed().as_secs() < 20, "it is refused before it is compiled");
    }
    // As large as anybody writes: three hundred fields, branches that each add some, and a list of texts.
    let fields = (0..300).map(|n| format!(".f{n} = upcase(string!(.g{n}))\n")).collect::<String>();
    let branches =
        (0..50).map(|n| format!("if .kind == \"k{n}\" {{ x.f{n} = .a\n.b.c{n} = x }}\n")).collect::<String>();
    let list = (0..1_000).map(|n| format!("\"text {n}\"")).collect::<Vec<_>>().join(", ");
    for source in [fields, format!("x = {{}}\n{branches}"), format!(".is = includes([{list}], .a)")] {
        if let Err(problems) = Script::compile(&source) {
            panic!("{}\n{problems:?}", &source[..200]);
        }
    }
}

#[test]
fn far_indexes_are_refused_wherever_they_stand() {
    for source in [
        "x = []\nx[100000000] = 1",
        "x = []\nx[-100000000] = 1",
        ".a[100000000] = 1",
        ".a.b[-100000000].c = 1",
        ".a[100000000], err = to_int(.b)",
        "x, .b[100000000] = to_int(.b)",
        ".b = .a[100000000]",
        "x = [1]\n.b = x[100000000]",
        ".b = {\"a\": [1]}.a[100000000]",
        ".b = parse_json!(.a)[100000000]",
        ".b = del(.a[100000000])",
        ".b = exists(.a[-100000000])",
        "x = {}\nx.a[100000000] |= {\"a\": 1}",
        "for_each([1]) -> |_i, _v| { .a[100000000] = 1 }",
    ] {
        let problems = Script::compile(source).expect_err(source);
        assert_eq!(problems[0].code, "program_too_deep", "{source}\n{problems:?}");
    }
    for source in [
        ". = set!(., [\"a\", 100000000], 1)",
        ". = set!(., [\"a\", -100000000], 1)",
        ". = set!(., [\"a\", 9223372036854775807], 1)",
        "x = 100000000\n. = set!(., [\"a\", x, \"b\"], 1)",
    ] {
        assert_refused(source, r#"{"a":[1]}"#);
    }
    // Many that are not far each.
    let often = (0..60).map(|n| format!(". = set!(., [\"a{n}\", 500000], 1)")).collect::<Vec<_>>().join("\n");
    assert_refused(&often, r#"{"a":[1]}"#);
    assert!(bounds::check_items(1_000).is_ok());
}
