//! What is deep or large must neither overflow the stack nor take the memory: as an event, or as a program.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use vrl::compiler::value::kind;
use vrl::compiler::{Function, Parameter};
use vrl::value::Value;

use super::*;
use crate::script::{Expression, bounds};

/// So deep that every recursion without a limit overflows a stack of 2 MiB.
const DEEP: usize = 8_000;

fn nested(open: &str, inner: &str, close: &str, levels: usize) -> String {
    format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
}

/// Texts that are deep to somebody.
fn deep_texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        nested("[", "1", "]", DEEP),
        "[".repeat(DEEP),
        "{".repeat(DEEP),
        "(".repeat(DEEP),
        nested("{\"a\":", "1", "}", DEEP),
        nested("{a=>", "1", "}", DEEP),
        nested("{\"a\"=>[", "1", "]}", DEEP),
        nested("<a>", "1", "</a>", DEEP),
        nested("<a b=\"1\">x", "1", "</a>", DEEP),
        "<a>".repeat(DEEP),
        // Entities that unfold: each stands for the one before, ten times.
        format!(
            "<!DOCTYPE a [<!ENTITY e0 \"<b>x</b>\">{}]><a>&e9;</a>",
            (1..10)
                .map(|level| format!("<!ENTITY e{level} \"{}\">", format!("&e{};", level - 1).repeat(10)))
                .collect::<String>()
        ),
        "- ".repeat(2_000) + "1",
        "a: &a [x]\n".to_owned() + &(0..20).map(|n| format!("b{n}: &b{n} [*a, *a]\n")).collect::<String>(),
        vec!["a"; DEEP].join("."),
        vec!["a"; DEEP].join("/"),
        vec!["a=1"; DEEP].join(" "),
        nested("a=(", "1", ")", DEEP),
        nested("'", "\\", "\"", DEEP),
        "a,".repeat(DEEP),
        "%{".repeat(DEEP),
        "!".repeat(DEEP),
        "NOT ".repeat(DEEP) + "a",
        "?a=b&".repeat(DEEP),
        "\u{1b}[".repeat(DEEP),
        "xn--".repeat(DEEP),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    // Arrays, maps and tags of CBOR, each around the next.
    texts.extend([0x81, 0x9f, 0xc1].map(|byte| vec![byte; DEEP]));
    texts.push(b"\xa1\x61a".repeat(DEEP));
    texts
}

fn as_deep_as_may_be() -> Value {
    (0..100).fold(Value::from(1), |inner, level| match level % 2 {
        0 => Value::Array(vec![inner]),
        _ => Value::Object([("a".into(), inner)].into()),
    })
}

/// Lists and objects that become deep, or are walked deep.
fn deep_values() -> Vec<Value> {
    let object = |members: Vec<(String, Value)>| {
        Value::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    vec![
        as_deep_as_may_be(),
        object(vec![("a".to_owned(), as_deep_as_may_be())]),
        Value::Array(vec![as_deep_as_may_be(), as_deep_as_may_be()]),
        Value::Array(vec![Value::Array(Vec::new()); DEEP]),
        object((0..DEEP).map(|n| (format!("k{n}"), Value::Object(Default::default()))).collect()),
        object(vec![(vec!["a"; DEEP].join("."), Value::from(1))]),
        object(vec![(vec!["a"; DEEP].join("."), Value::from(1)), (vec!["a"; DEEP].join(".") + ".b", Value::from(1))]),
        object(vec![("a".to_owned(), Value::from(1)), ("b".to_owned(), Value::from(1))]),
        Value::Array(vec![Value::from("a"); DEEP]),
        Value::Array(vec![Value::from(0); DEEP]),
        Value::Array(vec![Value::from(1_000_000_000)]),
        Value::Array(vec![Value::from(-1_000_000_000)]),
    ]
}

/// Arguments that a parameter takes, one for each of its kinds.
fn arguments(parameter: &Parameter) -> Vec<&'static str> {
    let kinds = [
        (kind::BYTES, "string!(.text)"),
        (kind::OBJECT, "object!(.value)"),
        (kind::ARRAY, "array!(.value)"),
        (kind::INTEGER, "2"),
        (kind::FLOAT, "2.0"),
        (kind::BOOLEAN, "true"),
        (kind::TIMESTAMP, "t'2024-01-01T00:00:00Z'"),
        (kind::REGEX, "r'.'"),
        (kind::NULL, "null"),
    ];
    kinds.into_iter().filter(|(kind, _)| parameter.kind & kind == *kind).map(|(_, argument)| argument).collect()
}

/// Programs that call a function with each of its parameters as deep as an event can make it.
fn calls(function: &dyn Function) -> Vec<String> {
    let name = function.identifier();
    let closure = function.closure().map_or(String::new(), |closure| {
        let variables = closure.inputs.first().map_or(0, |input| input.variables.len());
        let gives = match name {
            "filter" => "true",
            "replace_with" => "\"b\"",
            _ => ["a", "b"][variables - 1],
        };
        format!(" -> |{}| {{ {gives} }}", ["a", "b"][..variables].join(", "))
    });
    let parameters = function.parameters();
    let fixed = |parameter: &Parameter| match (name, parameter.keyword) {
        ("unnest" | "del" | "exists", _) => Some(".value"),
        (_, "algorithm") => Some("\"AES-256-CFB\""),
        (_, "charset" | "from_charset" | "to_charset") => Some("\"utf-8\""),
        (_, "separator" | "delimiter") => Some("\"\""),
        ("parse_grok", "pattern") => Some("\"%{GREEDYDATA:a}\""),
        ("parse_groks", "patterns") => Some("[\"%{GREEDYDATA:a}\"]"),
        ("match_datadog_query", "query") => Some("\"a\""),
        (_, "filters") => Some("[r'a']"),
        (_, "bits") => Some("128"),
        ("parse_apache_log", "format") => Some("\"common\""),
        ("parse_nginx_log", "format") => Some("\"combined\""),
        ("match_any", "patterns") => Some("[r'a']"),
        ("random_int", "max") => Some("9"),
        ("random_float", "max") => Some("9.0"),
        _ => None,
    };
    let mut calls = Vec::new();
    for (at, varied) in parameters.iter().enumerate() {
        for argument in arguments(varied) {
            let given = parameters.iter().enumerate().filter(|(other, given)| *other == at || given.required);
            let given = given.map(|(other, given)| {
                let usual = fixed(given).or(arguments(given).first().copied()).unwrap_or(".value");
                let usual = if other == at && fixed(given).is_none() { argument } else { usual };
                format!("{}: {usual}", given.keyword)
            });
            let given: Vec<String> = given.collect();
            let call = |bang| format!("{name}{bang}({}){closure}", given.join(", "));
            let compiles = |call: &String| Script::compile(call).is_ok();
            calls.extend(["!", ""].map(call).into_iter().find(compiles));
        }
    }
    calls
}

#[test]
fn no_function_overflows_the_stack_or_returns_what_is_too_deep() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (texts, values) = (deep_texts(), deep_values());
    let event = |text: &[u8], value: &Value| {
        let fields = [("text".into(), Value::Bytes(text.to_vec().into())), ("value".into(), value.clone())];
        Event { body: Body::Parsed(Value::Object(fields.into())), ..raw("{}") }
    };
    let texts: Vec<Event> = texts.iter().map(|text| event(text, &values[0])).collect();
    let values: Vec<Event> = values.iter().map(|value| event(b"a", value)).collect();
    let origin = origin(OriginKind::Other);
    let mut uncalled = Vec::new();
    for function in functions::available().iter().filter(|function| !function.identifier().contains(' ')) {
        let calls = calls(&**function);
        if calls.is_empty() && !function.parameters().is_empty() {
            uncalled.push(function.identifier());
        }
        for call in calls {
            let events = texts
                .iter()
                .filter(|_| call.contains(".text"))
                .chain(values.iter().filter(|_| call.contains(".value")));
            match Expression::compile(&call) {
                Ok((mut expression, _)) => events.for_each(|event| {
                    // Where the library panics, a batch rejects the event.
                    let out = catch_unwind(AssertUnwindSafe(|| expression.value(event, &origin)));
                    if let Ok(Ok(out)) = out {
                        assert!(bounds::check(&out).is_ok(), "{call}");
                    }
                }),
                // It changes the event.
                Err(_) => {
                    let mut script = Script::compile(&call).unwrap().0;
                    events.for_each(|event| drop(script.run(&mut event.clone(), &origin)));
                }
            }
        }
    }
    assert!(uncalled.is_empty(), "no call of these compiled: {uncalled:?}");
}

/// A program, by how deep it is.
type Program = fn(usize) -> String;

/// Programs of each kind.
const PROGRAMS: &[(&str, Program)] = &[
    ("not", |n| nested("!", "true", "", n)),
    ("group", |n| nested("(", "1", ")", n)),
    ("array", |n| nested("[", "1", "]", n)),
    ("object", |n| nested("{\"a\":", "1", "}", n)),
    ("block", |n| nested("{ ", "1", " }", n)),
    ("minus", |n| nested("-", "1", "", n)),
    ("or", |n| vec![".a == 1"; n].join(" || ")),
    ("or over lines", |n| vec![".a == 1"; n].join(" ||\n")),
    ("and", |n| vec!["true"; n].join(" && ")),
    ("plus", |n| vec!["1"; n].join(" + ")),
    ("minus in a row", |n| vec!["1"; n].join(" - ")),
    ("times", |n| vec!["1"; n].join(" * ")),
    ("coalesce", |n| format!("{} ?? 1", vec!["to_int(.a)"; n].join(" ?? "))),
    ("merge", |n| vec!["{}"; n].join(" | ")),
    ("if", |n| nested("if true { ", "1", " }", n)),
    ("else", |n| nested("if .a == 1 { 1 } else { ", "1", " }", n)),
    ("else if", |n| format!("if .a == 1 {{ 1 }}{}", " else if .a == 2 { 2 }".repeat(n))),
    ("condition", |n| nested("if (", "true", ") { true } else { false }", n)),
    ("call", |n| nested("to_string(", "1", ")", n)),
    ("call and path", |n| format!("{}1{}", "to_string(".repeat(n), ").a".repeat(n))),
    ("closure", |n| nested("for_each([1]) -> |_i, v| { ", "v", " }", n)),
    ("template", |n| format!("a = \"x\"\n\"{}\"", "{{ a }}".repeat(n))),
    ("path", |n| format!(".{} = 1", vec!["a"; n].join("."))),
    ("index", |n| format!(".a{} = 1", "[0]".repeat(n))),
    ("path of a variable", |n| format!("a = {{}}\na.{} = 1\na", vec!["a"; n].join("."))),
    ("read path", |n| format!(".{}", vec!["a"; n].join("."))),
    ("assignment", |n| format!("{}1", "a = ".repeat(n))),
    ("abort", |n| format!("{}\"x\"", "abort ".repeat(n))),
    ("return", |n| format!("{}\"x\"", "return ".repeat(n))),
    ("open", |n| "(".repeat(n)),
    ("open array", |n| "[".repeat(n)),
    ("open block", |n| "{".repeat(n)),
    ("open if", |n| "if ".repeat(n)),
    ("open call", |n| "f(".repeat(n)),
    ("not and an error", |n| nested("!", "true )", "", n)),
    ("or and an error", |n| format!("{} )", vec!["a"; n].join(" || "))),
    ("regex", |n| format!("match(\"a\", r'{}')", nested("(", "a", ")", n))),
    ("alternatives", |n| format!("match(\"a\", r'{}')", vec!["a"; n].join("|"))),
    ("search", |n| format!("match_datadog_query(., \"{}\")", nested("(", "a:b", ")", n))),
    ("negative search", |n| format!("match_datadog_query(., \"{}a:b\")", "NOT ".repeat(n))),
    ("search in a row", |n| format!("match_datadog_query(., \"{}\")", vec!["a:b"; n].join(" OR "))),
    ("grok", |n| format!("parse_grok!(\"a\", \"{}\")", nested("(", "a", ")", n))),
    ("lines", |n| ".a = 1\n".repeat(n.min(2_000))),
    ("comments", |n| "#\n".repeat(n) + "1"),
];

#[test]
fn no_program_overflows_the_stack() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let origin = origin(OriginKind::Other);
    for (name, program) in PROGRAMS {
        for depth in [10, 100, DEEP] {
            let source = program(depth);
            match Script::compile(&source) {
                Ok((mut script, _)) => {
                    drop(script.clone().run(&mut raw(r#"{"a":2}"#), &origin).and(script.run(&mut raw("{}"), &origin)))
                }
                Err(problems) => {
                    let problem = &problems[0];
                    assert!(problem.span.end <= source.len(), "{name} {depth}");
                    assert!(depth > 10 || !problem.code.contains("deep"), "{name}: {problem:?}");
                }
            }
            if depth == DEEP {
                let _ = Condition::compile(&source);
                let _ = Template::compile(&format!("a{{{{ {source} }}}}b"));
            }
        }
    }
}

#[test]
fn a_program_that_is_nested_too_deep_is_refused_with_the_place() {
    let refused = |source: &str| {
        let problems = Condition::compile(source).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].code, "program_too_deep");
        problems[0].span.clone()
    };
    assert_eq!(refused(&format!("\n{}true", "!".repeat(30_000))), 129..130);
    assert_eq!(refused(&format!("{}1", "(".repeat(30_000))), 128..129);
    assert!(!refused(&vec![".a == 1"; 1_000].join(" || ")).is_empty());
    assert!(!refused(&nested("upcase(", "\"a\"", ")", 20)).is_empty());
    assert!(!refused(&format!("{} true", " ".repeat(300 << 10))).is_empty());
    assert_eq!(Script::compile(".a[1000000000] = 1").unwrap_err()[0].code, "program_too_deep");
    // As many as anybody writes.
    assert!(Condition::compile(&vec![".a == 1"; 200].join(" || ")).is_ok());
    let brackets_in_texts =
        format!("# {0}\n.a == \"{0}\" || .b == s'{0}' || match(\"a\", r'\\(') # {0}", "([{".repeat(100));
    assert!(Condition::compile(&brackets_in_texts).is_ok());
    let template = Template::compile(&format!("{{{{ {}true }}}}", "!".repeat(30_000))).unwrap_err();
    assert_eq!(template[0].code, "program_too_deep");
}

#[test]
fn what_grows_in_a_loop_ends_at_the_bounds() {
    let items = format!("{{\"items\":[{}]}}", vec!["1"; 20_000].join(","));
    let origin = origin(OriginKind::Other);
    for (source, says) in [
        (
            "acc = {}\nfor_each(array!(.items)) -> |_i, v| { acc = {\"before\": acc, \"v\": v} }\n.all = acc",
            "nested deeper",
        ),
        ("acc = []\nfor_each(array!(.items)) -> |_i, v| { acc = [acc] }\n.all = acc", "nested deeper"),
        ("acc = {}\nfor_each(array!(.items)) -> |_i, v| { acc.a = acc }\n.all = acc", "nested deeper"),
        ("for_each(array!(.items)) -> |_i, _v| { .all = {\"before\": .all} }", "nested deeper"),
        ("for_each(array!(.items)) -> |_i, _v| { .all.a = .all }", "nested deeper"),
        (". = map_values(.) -> |v| { x = v\nfor_each(array!(.items)) -> |_i, _v| { x = [x] }\nx }", "nested deeper"),
        (
            "text = \"0123456789\"\nfor_each(array!(.items)) -> |_i, _v| { text = text + text }\n.text = text",
            "in memory",
        ),
        ("list = [1]\nfor_each(array!(.items)) -> |_i, _v| { list = append(list, list) }\n.list = list", "larger than"),
        (
            "for_each(array!(.items)) -> |_i, _v| { .text = (string(.text) ?? \"0123456789\") + (string(.text) ?? \"0123456789\") }",
            "larger than",
        ),
        (". = set!(., [\"a\", 1000000000], 1)", "larger than"),
        (
            ".text = replace(join!(map_values(array!(.items)) -> |_v| { \"aa\" }), \"a\", join!(map_values(array!(.items)) -> |_v| { \"aa\" }))",
            "larger than",
        ),
        (
            ".text = replace(join!(map_values(array!(.items)) -> |_v| { \"aa\" }), r'a', join!(map_values(array!(.items)) -> |_v| { \"aa\" }))",
            "larger than",
        ),
        (
            ".text = replace(join!(map_values(array!(.items)) -> |_v| { \"aa\" }), r'(?P<all>a+)', \"$all\" + join!(map_values(range!(0, 1000)) -> |_v| { \"$all\" }))",
            "larger than",
        ),
        (". = {\"items\": .items, \"rest\": .items}\n. = unnest!(.items)", "larger than"),
    ] {
        let mut script = match Script::compile(source) {
            Ok((script, _)) => script,
            Err(problems) => panic!("{source}\n{problems:?}"),
        };
        let mut event = raw(&items);
        let failure = script.run(&mut event, &origin).unwrap_err();
        assert!(failure.message.contains(says), "{source}\n{}", failure.message);
        assert_eq!(raw_bytes(&event), items, "an event that is refused stays as it was");
    }
    // A loop that stays small does what it did.
    let sum = "sum = 0\nfor_each(array!(.items)) -> |_i, v| { sum = sum + int!(v) }\n.sum = sum";
    let mut event = raw(&items);
    Script::compile(sum).unwrap().0.run(&mut event, &origin).unwrap();
    assert!(raw_bytes(&event).ends_with(",\"sum\":20000}"));
}

fn compressed(name: &str, data: &[u8]) -> Vec<u8> {
    match name {
        "decode_gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "decode_zlib" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "decode_zstd" => zstd::encode_all(data, 3).unwrap(),
        "decode_snappy" => snap::raw::Encoder::new().compress_vec(data).unwrap(),
        _ => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// As large as a value may be, and one more.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'a'; bounds::max_value() + 1]);

fn decoded(program: &str, data: Vec<u8>) -> Result<Value, Failure> {
    let event = Event { body: Body::Raw(data.into(), Codec::Raw), ..raw("{}") };
    Expression::compile(program).unwrap().0.value(&event, &origin(OriginKind::Other))
}

#[test]
fn what_decompresses_to_more_than_a_value_may_have_is_refused() {
    for name in ["decode_gzip", "decode_zlib", "decode_zstd", "decode_snappy", "decode_lz4"] {
        let program = format!("{name}!(.message)");
        let most = &LARGE[1..];
        assert_eq!(decoded(&program, compressed(name, most)).unwrap(), Value::from(most), "{name}");
        let failure = decoded(&program, compressed(name, &LARGE)).unwrap_err();
        assert_eq!(failure.code, "vrl_error");
        assert!(failure.message.contains("`max_value`"), "{name}: {}", failure.message);
    }
    // Small objects take a hundred times the memory that their text takes.
    let objects = format!("[{}{{}}]", "{\"\":1},".repeat(1 << 20));
    let failure = decoded("parse_json!(.message)", objects.into_bytes()).unwrap_err();
    assert!(failure.message.contains("`max_value`"), "{}", failure.message);
    let one = format!("[\"{}\"]", "{,".repeat(1 << 20));
    assert!(decoded("parse_json!(.message)", one.into_bytes()).is_ok());
    // A size of almost 4 GiB in front of some bytes.
    let bomb = [&[0xff, 0xff, 0xff, 0xef][..], &[0x1f, b'a', 1, 0], &[0xff; 24]].concat();
    let failure = decoded("decode_lz4!(.message, prepended_size: true)", bomb).unwrap_err();
    assert!(failure.message.contains("`max_value`"), "{}", failure.message);
    let failure = decoded("decode_lz4!(.message, buf_size: 4000000000)", vec![0x1f, b'a', 1, 0, 255, 255]).unwrap_err();
    assert!(failure.message.contains("lz4 block decoder"), "{}", failure.message);
    let header = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert!(decoded("decode_snappy!(.message)", header.to_vec()).unwrap_err().message.contains("`max_value`"));
}
