//! The codecs of lines, over real files and pipes: records that span lines, restarts, and what comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use weir::component::{
    BuildContext, DecodingOption, EncodingOption, Lanes, Origin, Problems, Read, ReadLimit, SourceConfig, Stream,
    codecs, conformance,
};
use weir::event::{Body, Codec, Encoding, Layout, Position};
use weir_cli as _;
use weir_tests::command::{Done, weir, weir_with};
use weir_tests::process::Home;

/// Parts of lines of both streams, one between the other.
const CRI: &str = "\
2024-01-01T00:00:00Z stdout P a1\n\
2024-01-01T00:00:01Z stderr F whole\n\
2024-01-01T00:00:02Z stdout P a2\n\
2024-01-01T00:00:03Z stderr P b1\n\
2024-01-01T00:00:04Z stdout F a3\n\
2024-01-01T00:00:05Z stdout F single\n\
2024-01-01T00:00:06Z stderr F b2\n\
no such line\n\
2024-01-01T00:00:07Z stdout P c1\n\
2024-01-01T00:00:08Z stdout F c2\n\
2024-01-01T00:00:09Z stdout P unfinished\n";

const CRI_RECORDS: [&str; 7] = [
    "2024-01-01T00:00:04Z stdout F a1a2a3",
    "2024-01-01T00:00:01Z stderr F whole",
    "2024-01-01T00:00:06Z stderr F b1b2",
    "2024-01-01T00:00:05Z stdout F single",
    "no such line",
    "2024-01-01T00:00:08Z stdout F c1c2",
    "2024-01-01T00:00:09Z stdout P unfinished",
];

const CSV: &str = "id,text\n1,\"two\nlines\"\n2,plain\n\n3,\"say \"\"a\n\"\"\"\n";
const CSV_RECORDS: [&str; 3] = ["1,\"two\nlines\"", "2,plain", "3,\"say \"\"a\n\"\"\""];

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    member.write_all(text).unwrap();
    member.finish().unwrap()
}

fn source(path: &Path, decoding: &Value) -> Box<dyn SourceConfig> {
    serde_json::from_value(json!({"type": "file", "paths": [path], "decoding": decoding})).unwrap()
}

async fn open(config: &dyn SourceConfig, context: &BuildContext) -> Box<dyn Origin> {
    let (lanes, mut opened) = Lanes::detached();
    tokio::spawn(config.build(context).await.unwrap().run(lanes));
    opened.next().await.unwrap().origin
}

async fn rest(origin: &mut dyn Origin, events: usize) -> Vec<(Position, String)> {
    let mut all = Vec::new();
    while let Read::Events(events) = origin.read(ReadLimit { events, bytes: 1 << 20 }).await.unwrap() {
        for event in events {
            let Body::Raw(bytes, _) = &event.body else { panic!("{event:?}") };
            all.push((event.position, String::from_utf8(bytes.to_vec()).unwrap()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_several_lines_pass_the_kit_also_compressed() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, text, records) in [(json!("cri"), CRI, CRI_RECORDS.len()), (json!("csv"), CSV, CSV_RECORDS.len())] {
        for (name, bytes) in [("plain", text.as_bytes().to_vec()), ("hidden", gzip(text.as_bytes()))] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            conformance::source(&*source(&path, &codec), records).await;
        }
    }
}

#[tokio::test]
async fn wherever_a_run_is_cut_off_the_next_goes_on_with_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [(json!("cri"), CRI, &CRI_RECORDS[..]), (json!("csv"), CSV, &CSV_RECORDS)];
    for (codec, text, records) in cases {
        for (name, bytes) in [("a.log", text.as_bytes().to_vec()), ("a.log.gz", gzip(text.as_bytes()))] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let config = source(&path, &codec);
            let (context, _rejected) = BuildContext::detached("in");
            let all = rest(&mut *open(&*config, &context).await, 100).await;
            let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(texts, records, "{codec} {name}");
            assert!(all.is_sorted(), "positions rise: {all:?}");
            for settled in 1..all.len() {
                let (context, _rejected) = BuildContext::detached("in");
                let mut first = open(&*config, &context).await;
                // Reads of one event, as after a panic, and of all that is there.
                let limit = if settled % 2 == 0 { 1 } else { 100 };
                assert_eq!(rest(&mut *first, limit).await, all, "{codec}: reads of {limit}");
                first.seek(all[settled].0).await.unwrap();
                assert_eq!(rest(&mut *first, limit).await, all[settled..], "{codec}: back to {settled}");
                first.commit(all[settled - 1].0.next()).await.unwrap();
                drop(first);
                let again = rest(&mut *open(&*config, &context).await, limit).await;
                assert_eq!(again, all[settled..], "{codec}: cut off after {settled}");
            }
        }
    }
}

#[tokio::test]
async fn a_part_that_waits_too_long_passes_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.log");
    let part = |end: char| format!("2024-01-01T00:00:00Z stdout {end} {}\n", "x".repeat(100));
    std::fs::write(&path, part('P').repeat(5) + &part('F')).unwrap();
    let options = json!({"type": "file", "paths": [path], "decoding": "cri", "max_line_size": "300B"});
    let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let all = rest(&mut *open(&*config, &context).await, 100).await;
    assert_eq!(
        all.iter().map(|(_, text)| text.matches('x').count()).collect::<Vec<_>>(),
        [300, 300],
        "nothing is lost"
    );
    assert!(all[0].1.contains(" P ") && all[1].1.contains(" F "));
}

fn run(graph: &str, input: &[u8]) -> (Home, Done) {
    let home = Home::new(graph);
    let done = weir_with(home.path("").as_path(), &["run", "--once", "graph.yaml"], &[], input).exits(0);
    (home, done)
}

/// A graph from standard input to standard output with a program between.
fn pipe(decoding: &str, program: &str, encoding: &str) -> String {
    format!(
        "name: pipe\nsources:\n  in: {{type: stdin, decoding: {decoding}}}\n\
         transforms:\n  change: {{type: remap, inputs: [in], source: '{program}'}}\n\
         sinks:\n  out: {{type: console, inputs: [change], encoding: {encoding}}}\n"
    )
}

#[test]
fn every_codec_of_lines_goes_through_a_graph() {
    let cases = [
        ("csv", "n,t\n1,\"a\nb\"\n", "{codec: csv, columns: [t, n]}", "\"a\nb!\",1\n"),
        ("{codec: csv, columns: [n, t], delimiter: ;}", "1;x\n", "logfmt", "n=1 t=x!\n"),
        ("logfmt", "n=1 t=\"a b\"\n", "json", "{\"n\":\"1\",\"t\":\"a b!\"}\n"),
        ("cri", "2024-01-01T00:00:00Z stdout P a\n2024-01-01T00:00:01Z stdout F b\n", "text", "ab\n"),
        (
            "syslog",
            "<34>Oct 11 22:14:15 host su[1]: text\n",
            "{codec: csv, columns: [severity, hostname, appname, procid, message]}",
            "crit,host,su,1,text\n",
        ),
    ];
    let program = "if exists(.t) { .t = string!(.t) + \"!\" }";
    for (decoding, input, encoding, expected) in cases {
        let (_, done) = run(&pipe(decoding, program, encoding), input.as_bytes());
        assert_eq!(done.out, expected, "{decoding} to {encoding}\n{}", done.err);
        let (_, packed) = run(&pipe(decoding, program, encoding), &gzip(input.as_bytes()));
        assert_eq!(packed.out, expected, "the same from gzip");
    }
    let timed = pipe("syslog", ".severity = \"error\"", "syslog");
    let input = b"<165>1 2003-10-11T22:14:15.003Z host app - ID47 [a@1 b=\"c\"] text\n";
    let expected = "<163>1 2003-10-11T22:14:15.003000Z host app - ID47 [a@1 b=\"c\"] text\n";
    assert_eq!(run(&timed, input).1.out, expected);
}

#[test]
fn what_nobody_changes_leaves_as_it_came_and_what_is_no_record_is_a_dead_letter() {
    let odd = "b=\"\\u0041\"  a=1\n";
    assert_eq!(run(&pipe("logfmt", "x = .b", "logfmt"), odd.as_bytes()).1.out, odd);
    let (home, done) = run(&pipe("logfmt", "x = .b", "json"), b"a=\"1\nb=2\n");
    assert_eq!(done.out, "{\"b\":\"2\"}\n");
    let letters = weir(home.path("").as_path(), &["dlq", "list", "graph.yaml"]).exits(0).out;
    assert!(letters.contains("invalid_logfmt"), "{letters}");
}

#[test]
fn raw_is_the_message_of_what_was_changed_with_a_buffer_and_without() {
    for (decoding, program, input, expected) in [
        ("json", ".message = upcase(string!(.message))", "{\"message\":\"a\",\"n\":1}\n", "A\n"),
        ("json", ".x = 18446744073709551615.0", "{\"message\":\"a\",\"n\":18446744073709551615}\n", "a\n"),
        ("json", "x = .n", "{\"message\":\"a\",\"n\":1}\n", "{\"message\":\"a\",\"n\":1}\n"),
        ("raw", ".message = upcase(string!(.message))", "a b\n", "A B\n"),
        ("text", ".at = from_unix_timestamp!(1)", "a b\n", "a b\n"),
        ("logfmt", ".message = .a", "a=1\n", "1\n"),
    ] {
        let plain = pipe(decoding, &program.replace('"', "\\\""), "raw")
            .replace("source: '", "source: \"")
            .replace("'}\nsinks", "\"}\nsinks");
        let buffered = plain.replace("inputs: [change],", "inputs: [change], buffer: {type: disk},");
        assert_ne!(plain, buffered);
        for graph in [plain, buffered] {
            let done = run(&graph, input.as_bytes()).1;
            assert_eq!(done.out, expected, "{graph}{}", done.err);
        }
    }
}

#[test]
fn lines_of_blanks_are_events_where_blanks_are_content() {
    for (decoding, record, is_event) in [
        ("json", "{\"a\":1}", false),
        ("text", "x", true),
        ("raw", "x", true),
        ("{codec: csv, columns: [a]}", "x", true),
        ("logfmt", "a=1", false),
        ("syslog", "<13>x", false),
        ("cri", "2024-01-01T00:00:00Z stdout F a", false),
        ("vector_text", "n{} = 1", false),
        ("exposition", "n 1", false),
        ("influx", "n value=1", false),
        ("points_json", "{\"name\":\"n\",\"value\":1}", false),
    ] {
        let (home, done) = run(&pipe(decoding, ".x = 1", "json"), format!("\n \n\t \r\n\r\n{record}\n").as_bytes());
        let letters = weir(home.path("").as_path(), &["dlq", "list", "graph.yaml"]).exits(0).out;
        let events = if is_event { 3 } else { 1 };
        assert_eq!(done.out.lines().count(), events, "{decoding}: {}{}", done.out, done.err);
        assert!(letters.lines().all(|line| !line.contains("invalid")), "{decoding}: {letters}");
    }
}

#[test]
fn a_csv_file_begins_with_its_header_and_is_read_by_it() {
    let graph = "name: csv\nsources:\n  in: {type: stdin}\nsinks:\n  \
                 out: {type: file, inputs: [in], path: out.csv.gz, encoding: {codec: csv, columns: [a, b], header: true}}\n";
    let (home, _) = run(graph, b"{\"a\":1,\"b\":\"x,y\"}\n{\"a\":2}\n");
    let back = "name: back\nsources:\n  in: {type: file, paths: [out.csv.gz], decoding: csv}\nsinks:\n  out: {type: console, inputs: [in]}\n";
    std::fs::write(home.path("back.yaml"), back).unwrap();
    let done = weir(home.path("").as_path(), &["run", "--once", "back.yaml"]).exits(0);
    assert_eq!(done.out, "{\"a\":\"1\",\"b\":\"x,y\"}\n{\"a\":\"2\",\"b\":\"\"}\n");
}

#[test]
fn an_input_that_breaks_off_is_an_error_that_names_it() {
    let whole = gzip(b"{}\n");
    let graph = "name: cut\nsources:\n  in: {type: stdin}\nsinks:\n  out: {type: console, inputs: [in]}\n";
    let home = Home::new(graph);
    let done = weir_with(home.path("").as_path(), &["run", "--once", "graph.yaml"], &[], &whole[..whole.len() - 4]);
    assert_ne!(done.code, 0);
    assert!(done.err.contains("it broke off, or cannot be opened (stream: stdin)"), "{}", done.err);
}

/// What is written of an event that holds this, in all the places that encoders look at; and of what came as these bytes.
fn hostile(text: &str) -> Vec<Body> {
    let events = [
        json!(text),
        json!({ "message": text }),
        json!({"message": text, "name": text, "a": text}),
        json!({"message": "m", "hostname": text, "structured_data": {"id": {"p": text}}}),
        json!({"name": "n", "labels": {"l": text}, "timestamp": "2024-01-01T00:00:00Z", "value": 1}),
        json!({"name": text, "labels": {text: "v"}, "timestamp": "2024-01-01T00:00:00Z", "value": 1}),
        json!({"name": "n", "type": "gauge", "help": text, "unit": text}),
        json!({ text: "v" }),
    ];
    let parsed = events.iter().map(|event| Body::Parsed(Codec::Json.decode(&event.to_string().into()).unwrap()));
    let decoders = codecs(true).into_iter().filter_map(|(name, _)| decoder(name));
    parsed.chain(decoders.map(|codec| Body::Raw(text.to_owned().into(), codec))).collect()
}

/// The options of codecs that cannot do without; the others are tried by their names alone.
fn options(name: &str) -> Value {
    match name {
        "csv" => json!({"codec": name, "columns": ["message", "name", "a"]}),
        _ => json!({ "codec": name }),
    }
}

fn decoder(name: &str) -> Option<Codec> {
    serde_json::from_value::<DecodingOption>(options(name)).unwrap().build().ok()
}

/// All encoders that the program has, but for those that have no lines.
fn encoders_of_lines() -> Vec<(&'static str, Encoding)> {
    let mut all = Vec::new();
    for (name, _) in codecs(false) {
        let option: EncodingOption = serde_json::from_value(options(name)).unwrap();
        let problems = |stream| {
            let mut found = Problems::default();
            option.check(stream, &mut found);
            found.into_vec().len()
        };
        if problems(Stream::Lines) > problems(Stream::Messages) {
            continue;
        }
        assert_eq!(problems(Stream::Lines), 0, "{name} needs options: add them to the table");
        all.push((name, option.build().unwrap()));
    }
    all
}

/// The lines as any reader may see them: most take a carriage return for the end of one, too.
fn records(written: &[u8], layout: Layout) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut is_quoted = false;
    for byte in written {
        is_quoted ^= layout == Layout::Quoted && *byte == b'"';
        match byte {
            b'\n' | b'\r' if !is_quoted => all.push(Vec::new()),
            byte => all.last_mut().unwrap().push(*byte),
        }
    }
    assert_eq!(all.pop(), Some(Vec::new()), "the last line ends with a newline");
    all
}

#[test]
fn every_encoder_writes_a_record_that_stays_one_among_lines_or_refuses_it() {
    let texts = [
        "",
        " ",
        "\n",
        "a\nb",
        "a\n",
        "\na",
        "a\rb",
        "a\r",
        "\r\n",
        "a\r\nb",
        "a\0b",
        "\0",
        "#",
        "# a",
        "# a\rb 1",
        "\"",
        "\"a\nb",
        "a\"\nb\"",
        "a,\"",
        "\"a\" b",
        "\\",
        "a\\",
        "a\\nb",
        "=",
        "a=b c=\"\nd\"",
        "<13>x\n<14>y",
        "\u{85}\u{2028}",
        "\u{feff}a",
        "{\"a\":\n1}",
        "n 1\nforged 2",
        "n value=1\nforged value=2",
        "2024-01-01T00:00:00Z n{} = 1\nforged{} = 2",
    ];
    let benign = json!({"message": "benign", "name": "benign", "timestamp": "2024-01-01T00:00:00Z", "value": 1});
    let benign = Body::Parsed(Codec::Json.decode(&benign.to_string().into()).unwrap());
    let encoders = encoders_of_lines();
    assert!(encoders.len() >= 10, "{encoders:?}");
    for (name, encoding) in encoders {
        let layout = match &encoding {
            Encoding::Other(encoder) => encoder.layout(),
            _ => Layout::Line,
        };
        let mut neighbour = Vec::new();
        encoding.encode_line(&benign, &mut neighbour).unwrap_or_else(|error| panic!("{name}: {error}"));
        let neighbour = records(&neighbour, layout).remove(0);
        let mut accepted = 0;
        for body in texts.iter().flat_map(|text| hostile(text)) {
            let mut out = Vec::new();
            encoding.encode_line(&benign, &mut out).unwrap();
            let before = out.len();
            if let Err(error) = encoding.encode_line(&body, &mut out) {
                assert_eq!(out.len(), before, "{name}: {body:?}: {error}");
                continue;
            }
            accepted += 1;
            encoding.encode_line(&benign, &mut out).unwrap();
            let all = records(&out, layout);
            let what = format!("{name}: {body:?} became {:?}", String::from_utf8_lossy(&out[before..]));
            assert!(all.len() == 3 || (layout == Layout::Lines && all.len() > 3), "{what}");
            assert!(all[0] == neighbour && all[all.len() - 1] == neighbour, "{what}");
            for line in &all[1..all.len() - 1] {
                assert!(!line.is_empty(), "{what}");
                if let (Body::Parsed(_), Some(codec)) = (&body, decoder(name)) {
                    let read = codec.decode(&line.clone().into());
                    assert!(read.is_ok(), "{what}: {read:?}");
                }
            }
        }
        assert!(accepted > texts.len() / 2, "{name} takes something: {accepted}");
    }
}

#[test]
fn bytes_that_are_not_text_never_become_other_bytes_on_their_way_to_json() {
    let graph = "name: bytes\nsources:\n  in: {type: stdin, decoding: raw}\n\
                 transforms:\n  change: {type: remap, inputs: [in], source: .n = 1}\n\
                 sinks:\n  out: {type: console, inputs: [change]}\n";
    let (home, done) = run(graph, b"caf\xe9\nplain\ncaf\xc3\xa9\n");
    assert_eq!(done.out, "{\"message\":\"plain\",\"n\":1}\n{\"message\":\"caf\u{e9}\",\"n\":1}\n");
    let letters = weir(home.path("").as_path(), &["dlq", "export", "graph.yaml"]).exits(0).out;
    let letter: Value = serde_json::from_str(letters.trim_end()).unwrap();
    assert_eq!((&letter["code"], &letter["codec"]), (&json!("invalid_utf8"), &json!("value")));
    let body = BASE64_STANDARD.decode(letter["body_base64"].as_str().unwrap()).unwrap();
    assert_eq!(body, b"{\"message\":\"caf\xe9\",\"n\":1}");
}

#[test]
fn what_influx_calls_a_comment_is_no_event_and_a_text_beside_a_number_costs_nothing() {
    let input = "# comment\n \nm a=1,b=\"x\"\nm v=2,w=NaN\n";
    let (home, done) = run(&pipe("influx", "del(.labels)", "json"), input.as_bytes());
    assert_eq!(done.out, "{\"name\":\"m_a\",\"value\":1.0}\n{\"name\":\"m_v\",\"value\":2.0}\n", "{}", done.err);
    let letters = weir(home.path("").as_path(), &["dlq", "export", "graph.yaml"]).exits(0).out;
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(letters.contains("the field `w` is no number"), "{letters}");
}

#[test]
fn a_csv_file_with_carriage_returns_alone_is_an_error_and_no_silence() {
    let input = b"id,text\r1,a\r2,b\r";
    let graph = pipe("csv", "x = 1", "json");
    let done = weir_with(Home::new(&graph).path("").as_path(), &["run", "--once", "graph.yaml"], &[], input);
    assert_ne!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("not by a carriage return alone"), "{}", done.err);
    let (home, done) = run(&pipe("{codec: csv, columns: [id, text]}", "x = .id", "json"), input);
    assert_eq!(done.out, "");
    let letters = weir(home.path("").as_path(), &["dlq", "export", "graph.yaml"]).exits(0).out;
    assert!(letters.contains("not by a carriage return alone"), "{letters}");
}

#[test]
fn decoding_is_a_word_or_a_map() {
    for (written, name) in [(json!("csv"), "csv"), (json!({"codec": "json"}), "json"), (json!({"codec": "cri"}), "cri")]
    {
        let option: DecodingOption = serde_json::from_value(written).unwrap();
        assert_eq!(option.build().unwrap().name(), name);
    }
    assert!(serde_json::from_value::<DecodingOption>(json!(1)).is_err());
}
