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
async fn a_missing_file_is_named_and_one_that_was_cut_is_read_anew() {
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
        assert_eq!(rest(&mut *origin(&context, &path).await).await, expected(&[(0, "x")]), "{path:?}");

        std::fs::remove_file(&path).unwrap();
        let config: Box<dyn SourceConfig> = serde_json::from_value(json!({"type": "file", "paths": [path]})).unwrap();
        let error = config.build(&context).await.err().unwrap().to_string();
        assert!(error.contains("there is no such file") && error.contains(path.to_str().unwrap()), "{error}");
    }
}

/// Reads the file to its end, as a run without `--once` does, and commits all of it.
async fn run(context: &BuildContext, options: &serde_json::Value) -> Vec<(u64, String)> {
    let (lanes, mut opened) = Lanes::detached();
    start(context, options.clone(), lanes).await;
    let mut all = Vec::new();
    while let Some(mut lane) = opened.next().await {
        let lines = rest(&mut *lane.origin).await;
        if let Some((last, _)) = lines.last() {
            lane.origin.commit(Position(*last).next()).await.unwrap();
        }
        all.extend(lines);
        lane.end.clean();
    }
    all
}

fn resumable() -> BuildContext {
    let (mut context, _rejected) = BuildContext::detached("in");
    context.once = false;
    context
}

#[tokio::test]
async fn a_file_with_the_same_beginning_in_the_place_of_another_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let options = json!({"type": "file", "paths": [path], "decoding": "text"});
    let head = "the same beginning, as of a table\n".repeat(200);
    let text = |name: &str, lines: usize| head.clone() + &format!("{name} has lines of one length\n").repeat(lines);
    let count = |text: &str| text.lines().count();
    let (old, new) = (text("old", 1000), text("new", 5000));
    for replaces in ["rename", "write", "write of the same length"] {
        let context = resumable();
        std::fs::write(&path, &old).unwrap();
        assert_eq!(run(&context, &options).await.len(), count(&old));
        let new = if replaces.ends_with("length") { text("new", 1000) } else { new.clone() };
        let place = if replaces == "rename" { dir.path().join("new") } else { path.clone() };
        std::fs::write(&place, &new).unwrap();
        std::fs::rename(&place, &path).unwrap();
        assert_eq!(run(&context, &options).await.len(), count(&new), "{replaces}");
        assert_eq!(run(&context, &options).await, []);
    }
}

#[tokio::test]
async fn a_file_that_was_emptied_and_begins_as_before_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let options = json!({"type": "file", "paths": [path], "decoding": "text"});
    let context = resumable();
    std::fs::write(&path, "start\nready\n").unwrap();
    assert_eq!(run(&context, &options).await.len(), 2);
    std::fs::write(&path, "").unwrap();
    assert_eq!(run(&context, &options).await, []);
    std::fs::write(&path, "start\nready\nnext\n").unwrap();
    assert_eq!(
        run(&context, &options).await.len(),
        3,
        "a run that reads nothing remembers that the file is another one"
    );
}

#[tokio::test]
async fn marks_of_earlier_versions_are_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let options = json!({"type": "file", "paths": [path], "decoding": "text"});
    let position = 5_u64.to_le_bytes().to_vec();
    let head = [&position[..], &8_u32.to_le_bytes(), &crc32fast::hash(b"one\ntwo\n").to_le_bytes()].concat();
    for mark in [position, head] {
        let context = resumable();
        context.storage.store(path.to_str().unwrap(), &mark).unwrap();
        assert_eq!(run(&context, &options).await, expected(&[(8, "three")]));
        assert_eq!(run(&context, &options).await, []);
    }
}

/// A file's name, what is in it at first and what is added, and the lines of both readings.
type Growing = (&'static str, Vec<u8>, Vec<u8>, &'static [&'static str], &'static [&'static str]);

#[tokio::test]
async fn a_last_line_without_an_end_is_left_to_the_next_run_and_is_whole_there() {
    let dir = tempfile::tempdir().unwrap();
    let zstd = |text: &[u8]| zstd::bulk::compress(text, 1).unwrap();
    let half = gzip(b"th and more than half of it\n");
    let cases: [Growing; 4] = [
        ("a.log", b"one\ntwo\nthr".to_vec(), b"ee\nfour".to_vec(), &["one", "two"], &["three"]),
        ("b.log", b"thr".to_vec(), b"ee\n".to_vec(), &[], &["three"]),
        ("a.gz", gzip(b"one\nthr"), gzip(b"ee\n"), &["one"], &["three"]),
        ("a.zst", zstd(b"one\nthr"), zstd(b"ee\n"), &["one"], &["three"]),
    ];
    for (name, first, more, before, behind) in cases {
        let path = dir.path().join(name);
        let options = json!({"type": "file", "paths": [path], "decoding": "text"});
        let context = resumable();
        std::fs::write(&path, &first).unwrap();
        let texts = |lines: Vec<(u64, String)>| lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(texts(run(&context, &options).await), before, "{name}");
        assert_eq!(texts(run(&context, &options).await), [""; 0], "{name}: nothing new");
        std::fs::write(&path, [first, more].concat()).unwrap();
        assert_eq!(texts(run(&context, &options).await), behind, "{name}");
    }
    // A member that is being written.
    let path = dir.path().join("growing.gz");
    let options = json!({"type": "file", "paths": [path], "decoding": "text"});
    let context = resumable();
    let whole = [gzip(b"one\nfour"), half].concat();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let mut lines = run(&context, &options).await;
    std::fs::write(&path, &whole).unwrap();
    lines.extend(run(&context, &options).await);
    assert_eq!(lines, expected(&[(0, "one"), (4, "fourth and more than half of it")]));
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_first_line_and_reading_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = b"\xef\xbb\xbf{\"a\":1}\n{\"a\":2}\n".to_vec();
    for (name, bytes) in [("a.log", text.clone()), ("a.log.gz", gzip(&text))] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let lines = expected(&[(0, r#"{"a":1}"#), (11, r#"{"a":2}"#)]);
        let options = json!({"type": "file", "paths": [path]});
        let (lanes, mut opened) = Lanes::detached();
        let context = resumable();
        start(&context, options.clone(), lanes).await;
        let mut lane = opened.next().await.unwrap();
        assert_eq!(rest(&mut *lane.origin).await, lines, "{name}");
        lane.origin.seek(Position(0)).await.unwrap();
        assert_eq!(rest(&mut *lane.origin).await, lines, "{name}, back to the first");
        lane.origin.commit(Position(1)).await.unwrap();
        drop((lane, opened));
        assert_eq!(run(&context, &options).await, lines[1..], "{name}, behind the first");
    }
    text.splice(..3, *b"\xff\xfe");
    let path = dir.path().join("utf16");
    std::fs::write(&path, text).unwrap();
    let (context, _rejected) = BuildContext::detached("in");
    let error = origin(&context, &path).await.read(ALL).await.unwrap_err().to_string();
    assert!(error.contains("UTF-16; convert it to UTF-8"), "{error}");
}

#[tokio::test]
async fn padding_and_garbage_behind_compressed_data_end_the_file_and_not_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let zstd = |text: &[u8]| zstd::bulk::compress(text, 1).unwrap();
    for (name, member) in [("a.gz", gzip(b"one\n")), ("a.zst", zstd(b"one\n"))] {
        for rest_of_it in [&[0; 512][..], b"garbage\n"] {
            let path = dir.path().join(name);
            std::fs::write(&path, [&member[..], rest_of_it].concat()).unwrap();
            let (context, _rejected) = BuildContext::detached("in");
            assert_eq!(rest(&mut *origin(&context, &path).await).await, expected(&[(0, "one")]), "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_with_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let zero = Path::new("/dev/zero");
    for (path, what) in
        [(&*fifo, "a FIFO (named pipe)"), (&socket, "a socket"), (zero, "a device"), (dir.path(), "a folder")]
    {
        let (mut context, _rejected) = BuildContext::detached("in");
        let options = json!({"type": "file", "paths": [path], "decoding": "text"});
        let config: Box<dyn SourceConfig> = serde_json::from_value(options).unwrap();
        let once = config.build(&context).await.err().unwrap();
        context.once = false;
        let later = origin(&context, path).await.read(ALL).await.unwrap_err();
        for error in [once, later] {
            let error = error.to_string();
            assert!(error.contains(what) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_fifo_is_read_where_it_is_asked_for_and_waiting_for_it_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (context, _rejected) = BuildContext::detached("in");
    let options = json!({"type": "file", "paths": [dir.path().join("*")], "decoding": "text", "fifo": true});
    let (lanes, mut opened) = Lanes::detached();
    start(&context, options, lanes).await;
    let mut lane = opened.next().await.unwrap();
    // Nobody writes yet: the read waits, and goes when it is dropped.
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(5), lane.origin.read(ALL)).await;
    assert!(dropped.is_err());
    let writer = tokio::task::spawn_blocking(move || {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
        pipe.write_all(b"one\ntwo\nno end").unwrap();
    });
    assert_eq!(rest(&mut *lane.origin).await, expected(&[(0, "one"), (1, "two"), (2, "no end")]));
    writer.await.unwrap();
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_read_is_missed_only_where_it_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    for (named, is_missed) in [(dir.path().join("*"), false), (path.clone(), true)] {
        std::fs::write(&path, "one\n").unwrap();
        let (lanes, mut opened) = Lanes::detached();
        start(&resumable(), json!({"type": "file", "paths": [named], "decoding": "text"}), lanes).await;
        let mut lane = opened.next().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lane.origin.read(ALL).await.is_err(), is_missed, "{named:?}");
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
async fn a_file_that_took_the_place_of_another_is_read_anew_and_one_that_grew_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let options = json!({"type": "file", "paths": [path], "decoding": "text"});
    let context = resumable();
    std::fs::write(&path, "one\ntwo\n").unwrap();
    assert_eq!(run(&context, &options).await.len(), 2);
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    assert_eq!(run(&context, &options).await, expected(&[(8, "three")]));
    std::fs::write(&path, "another file\nand a longer one\n").unwrap();
    assert_eq!(run(&context, &options).await, expected(&[(0, "another file"), (13, "and a longer one")]));
}

#[tokio::test]
async fn what_a_graph_remembers_of_a_file_is_not_carried_over_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let (context, _rejected) = BuildContext::detached("in");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let mut first = origin(&context, &path).await;
    rest(&mut *first).await;
    let bookmark = first.bookmark(Position(1));
    let mut again = origin(&context, &path).await;
    again.resume(Position(1), &bookmark).await.unwrap();
    assert_eq!(rest(&mut *again).await, expected(&[(4, "two")]));
    std::fs::write(&path, "another\n").unwrap();
    let error = origin(&context, &path).await.resume(Position(1), &bookmark).await.unwrap_err().to_string();
    assert!(error.contains("was cut or replaced") && error.contains("remove the graph's folder"), "{error}");
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
