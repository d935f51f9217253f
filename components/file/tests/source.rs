//! The `file` source against real files.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::path::Path;

use serde_json::json;
use weir::component::{BuildContext, Lanes, Origin, Read, ReadLimit, SourceConfig};
use weir::event::{Body, Position};
use weir_file as _;

const ALL: ReadLimit = ReadLimit { events: 1000, bytes: 1 << 20 };

async fn start(context: &BuildContext, options: serde_json::Value, lanes: Lanes) {
    let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
    let source = config.build(context).await.unwrap();
    tokio::spawn(source.run(lanes));
}

async fn origin(context: &BuildContext, path: &Path) -> Box<dyn Origin> {
    let options = json!({"type": "file", "paths": [path], "decoding": "text", "max_line_size": "8B"});
    let (lanes, mut opened) = Lanes::detached();
    start(context, options, lanes).await;
    opened.next().await.unwrap().origin
}

async fn rest(origin: &mut dyn Origin) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while let Read::Events(events) = origin.read(ALL).await.unwrap() {
        for event in events {
            let Body::Raw(bytes, _) = event.body else { panic!("not raw") };
            all.push((event.position.0, String::from_utf8(bytes.to_vec()).unwrap()));
        }
    }
    all
}

fn expected(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
    lines.iter().map(|(offset, line)| (*offset, (*line).to_owned())).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    member.write_all(text).unwrap();
    member.finish().unwrap()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let zstd = |text: &[u8]| zstd::bulk::compress(text, 1).unwrap();
    let parts: [&[u8]; 2] = [b"one\r\n\ntw", b"o\nmuch too long\nend"];
    let forms = [
        ("a.log", parts.concat()),
        ("a.log.gz", [gzip(parts[0]), gzip(parts[1])].concat()),
        ("a.log.zst", [zstd(parts[0]), zstd(parts[1])].concat()),
    ];
    let write = |(name, bytes): (&str, Vec<u8>)| {
        std::fs::write(dir.join(name), bytes).unwrap();
        dir.join(name)
    };
    forms.map(write).to_vec()
}

#[tokio::test]
async fn plain_gzip_and_zstd_give_the_same_lines_and_resume_behind_the_last_settled_one() {
    let dir = tempfile::tempdir().unwrap();
    for path in files(dir.path()) {
        let (context, _rejected) = BuildContext::detached("in");
        let lines = expected(&[(0, "one"), (6, "two"), (10, "much too"), (24, "end")]);
        let mut first = origin(&context, &path).await;
        assert_eq!(rest(&mut *first).await, lines, "{path:?}");

        for (settled, (offset, _)) in lines.iter().enumerate() {
            // What a lane commits: the position behind the last settled event's.
            first.commit(Position(*offset).next()).await.unwrap();
            drop(std::mem::replace(&mut first, origin(&context, &path).await));
            assert_eq!(rest(&mut *first).await, lines[settled + 1..], "{path:?} from {offset}");
            first.seek(Position(*offset)).await.unwrap();
            assert_eq!(rest(&mut *first).await, lines[settled..], "{path:?} back to {offset}");
        }
        first.complete().await.unwrap();
        drop(first);
        assert_eq!(rest(&mut *origin(&context, &path).await).await, lines, "a completed run begins anew");
    }
}

#[tokio::test]
async fn a_missing_file_and_one_that_shrank_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in files(dir.path()) {
        let (context, _rejected) = BuildContext::detached("in");
        let mut first = origin(&context, &path).await;
        let last = rest(&mut *first).await.last().unwrap().0;
        first.commit(Position(last).next()).await.unwrap();
        drop(first);
        let short =
            if path.extension().unwrap() == "gz" { gzip(b"x\n") } else { zstd::bulk::compress(b"x\n", 1).unwrap() };
        let short = if path.extension().unwrap() == "log" { b"x\n".to_vec() } else { short };
        std::fs::write(&path, short).unwrap();
        let error = origin(&context, &path).await.read(ALL).await.unwrap_err().to_string();
        assert!(error.contains("was cut or replaced") && error.contains("remove the node's folder"), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");

        std::fs::remove_file(&path).unwrap();
        let config: Box<dyn SourceConfig> = serde_json::from_value(json!({"type": "file", "paths": [path]})).unwrap();
        let error = config.build(&context).await.err().unwrap().to_string();
        assert!(error.contains("there is no such file") && error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn under_once_files_come_one_by_one_and_none_is_read_twice_after_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("2.log"), "c\n").unwrap();
    std::fs::write(dir.path().join("1.log"), "a\nb\n").unwrap();
    std::fs::write(dir.path().join(".3.log"), "hidden\n").unwrap();
    let star = dir.path().join("*.log");
    let options = json!({"type": "file", "paths": [star, dir.path().join("1.log")], "decoding": "text"});
    let (context, _rejected) = BuildContext::detached("in");

    // The run is cut off when the first file is done.
    let (opening, mut lanes) = Lanes::detached();
    start(&context, options.clone(), opening).await;
    let mut lane = lanes.next().await.unwrap();
    assert_eq!(rest(&mut *lane.origin).await, expected(&[(0, "a"), (2, "b")]));
    lane.origin.commit(Position(3)).await.unwrap();
    lane.origin.complete().await.unwrap();
    drop((lane, lanes));

    for lines in [&[][..], &[(0, "a"), (2, "b")]] {
        let (opening, mut lanes) = Lanes::detached();
        start(&context, options.clone(), opening).await;
        for lines in [lines, &[(0, "c")]] {
            let mut lane = lanes.next().await.unwrap();
            assert_eq!(rest(&mut *lane.origin).await, expected(lines));
            lane.origin.complete().await.unwrap();
            lane.end.clean();
        }
        assert!(lanes.next().await.is_none(), "the same file is read once");
    }
}

#[tokio::test]
async fn what_stands_before_a_damaged_place_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log.gz");
    let torn = gzip(b"lost\n");
    std::fs::write(&path, [gzip(b"one\ntwo\n"), torn[..torn.len() - 9].to_vec()].concat()).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let mut origin = origin(&context, &path).await;
    let Read::Events(events) = origin.read(ALL).await.unwrap() else { panic!("the file has lines") };
    assert_eq!(events.iter().map(|event| event.position.0).take(2).collect::<Vec<_>>(), [0, 4]);
    let error = origin.read(ALL).await.unwrap_err().to_string();
    assert!(error.contains("breaks off or is damaged") && error.contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_file_that_took_the_place_of_another_is_refused_and_one_that_grew_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let (context, _rejected) = BuildContext::detached("in");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let mut first = origin(&context, &path).await;
    assert_eq!(rest(&mut *first).await.len(), 2);
    first.commit(Position(5)).await.unwrap();
    drop(first);
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    assert_eq!(rest(&mut *origin(&context, &path).await).await, expected(&[(8, "three")]));
    std::fs::write(&path, "another file, and a longer one\n").unwrap();
    let error = origin(&context, &path).await.read(ALL).await.unwrap_err().to_string();
    assert!(error.contains("was cut or replaced") && error.contains("remove the node's folder"), "{error}");
}

#[tokio::test]
async fn many_files_are_read_eight_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    for at in 0..20 {
        std::fs::write(dir.path().join(format!("{at:02}.log")), "x\n").unwrap();
    }
    let (mut context, _rejected) = BuildContext::detached("in");
    context.once = false;
    let (opening, mut lanes) = Lanes::detached();
    start(&context, json!({"type": "file", "paths": [dir.path().join("*")], "decoding": "text"}), opening).await;
    let mut open = std::collections::VecDeque::new();
    for _ in 0..8 {
        open.push_back(lanes.next().await.unwrap());
    }
    for _ in 8..20 {
        let idle = tokio::time::timeout(std::time::Duration::from_millis(5), lanes.next()).await;
        assert!(idle.is_err(), "the ninth waits for one to end");
        // Not the oldest: any end makes room.
        open.remove(3).unwrap().end.clean();
        open.push_back(lanes.next().await.unwrap());
    }
    open.into_iter().for_each(|lane| lane.end.clean());
    assert!(lanes.next().await.is_none());
}

/// `cargo test --release -p weir-file --test source -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.ndjson");
    let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(185));
    std::fs::write(&path, line.repeat((1 << 30) / line.len())).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    for _ in 0..3 {
        let options = json!({"type": "file", "paths": [path]});
        let (lanes, mut opened) = Lanes::detached();
        start(&context, options, lanes).await;
        let mut origin = opened.next().await.unwrap().origin;
        let (mut bytes, begun) = (0, std::time::Instant::now());
        let limit = ReadLimit { events: 1024, bytes: 256 << 10 };
        while let Read::Events(events) = origin.read(limit).await.unwrap() {
            bytes += events.iter().map(|event| event.body.size() + 1).sum::<usize>();
        }
        println!("{:.0} MB/s", bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
    }
}
