//! The `file` sink against real files.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use weir::component::{BuildContext, Sink, SinkConfig};
use weir::delivery::{Outcome, Receipt, Settlements};
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir::state::{MemoryStorage, Storage};
use {weir_codecs as _, weir_file as _};

async fn try_sink(context: &BuildContext, path: &Path, options: Value) -> weir::Result<Arc<dyn Sink>> {
    let mut node = json!({"type": "file", "path": path});
    node.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value::<Box<dyn SinkConfig>>(node).unwrap().build(context).await
}

async fn sink(context: &BuildContext, path: &Path, options: Value) -> Arc<dyn Sink> {
    try_sink(context, path, options).await.unwrap()
}

/// Writes the lines as one batch; settled when it returns.
async fn write(sink: &dyn Sink, lines: &[&str]) -> Outcome {
    let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
    let event = |(at, line): (usize, &&str)| {
        let body = Body::Raw(line.as_bytes().to_vec().into(), Codec::Json);
        Event::new(body, Position(at as u64), Timestamp(0))
    };
    let settlements = Arc::new(Settlements::default());
    sink.write(Batch {
        origin: Arc::new(origin),
        receipt: Receipt::new(0, settlements.clone(), None),
        watermark: Timestamp::MIN,
        events: lines.iter().enumerate().map(event).collect(),
    })
    .await;
    settlements.changed().await;
    settlements.take()[0].outcome
}

fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let mut text = String::new();
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => drop(flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
        "zst" => drop(zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap()),
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    text
}

fn tear(path: &Path, tail: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(tail).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_do_not_write_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (first, _rejected) = BuildContext::detached("first");
    let (second, _rejected) = BuildContext::detached("second");
    let one = sink(&first, &path, json!({})).await;
    let refused = try_sink(&second, &path, json!({"overwrite": true})).await.err().unwrap();
    assert!(refused.to_string().contains("another weir, or another sink of this graph, writes it"), "{refused}");
    assert_eq!(write(&*one, &["{}"]).await, Outcome::Delivered);
    drop(one);
    // Its writer ends soon.
    let two = sink(&second, &path, json!({"append": true})).await;
    assert_eq!(write(&*two, &["{}"]).await, Outcome::Delivered);
    assert_eq!(text(&path), "{}\n{}\n");
}

#[tokio::test]
async fn after_a_crash_a_torn_tail_is_cut_and_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for (name, encoding, tail) in [
        ("a.ndjson", "json", &b"{\"torn"[..]),
        ("a.txt", "text", b"torn"),
        ("a.gz", "json", b"\x1f\x8b\x08torn\n"),
        ("a.zst", "json", b"\x28\xb5\x2f\xfdtorn\n"),
    ] {
        let path = dir.path().join(name);
        let (context, _rejected) = BuildContext::detached("out");
        let line = |at: usize| format!("{{\"message\":\"{at}\"}}");
        let mut whole = String::new();
        for round in 0..5 {
            let sink = sink(&context, &path, json!({"encoding": encoding})).await;
            for at in round * 10..round * 10 + 10 {
                assert_eq!(write(&*sink, &[&line(at)]).await, Outcome::Delivered);
                whole += &if encoding == "json" { line(at) + "\n" } else { format!("{at}\n") };
            }
            drop(sink);
            tear(&path, tail);
        }
        drop(sink(&context, &path, json!({"encoding": encoding})).await);
        assert_eq!(text(&path), whole, "{name}");
    }
}

#[tokio::test]
async fn a_record_of_several_lines_that_was_torn_leaves_no_line_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    let (context, _rejected) = BuildContext::detached("out");
    let out = sink(&context, &path, encoding("csv")).await;
    write(&*out, &[r#"{"v":"a\nb"}"#]).await;
    drop(out);
    tear(&path, b"torn\nre");
    drop(sink(&context, &path, encoding("csv")).await);
    assert_eq!(text(&path), "\"a\nb\"\n");
}

#[tokio::test]
async fn a_foreign_file_is_refused_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    for (options, expected) in
        [(json!({}), None), (json!({"append": true}), Some("foreign\n1\n")), (json!({"overwrite": true}), Some("1\n"))]
    {
        let path = dir.path().join("out.ndjson");
        std::fs::write(&path, "foreign\n").unwrap();
        let (context, _rejected) = BuildContext::detached("out");
        match (try_sink(&context, &path, options).await, expected) {
            (Err(error), None) => assert!(error.to_string().contains(
                "out.ndjson exists and was not written by this graph; set append: true or overwrite: true, or remove it"
            )),
            (Ok(sink), Some(expected)) => {
                write(&*sink, &["1"]).await;
                assert_eq!(text(&path), expected);
            }
            _ => panic!("expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_that_took_the_place_of_a_completed_one_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    let out = sink(&context, &path, json!({})).await;
    write(&*out, &["1"]).await;
    out.complete().await.unwrap();
    drop(out);
    std::fs::write(&path, "someone's work\n").unwrap();
    let Err(error) = try_sink(&context, &path, json!({})).await else { panic!("the file is not ours") };
    assert!(error.to_string().contains("was not written by this graph"), "{error}");
    assert_eq!(text(&path), "someone's work\n");
    // Without the file the next run begins as the first did.
    std::fs::remove_file(&path).unwrap();
    write(&*sink(&context, &path, json!({})).await, &["2"]).await;
    assert_eq!(text(&path), "2\n");
}

#[tokio::test]
async fn a_foreign_file_that_took_the_place_of_one_that_is_written_is_not_touched() {
    for (options, expected) in [
        (json!({}), None),
        (json!({"append": true}), Some("someone's work\n3\n")),
        (json!({"overwrite": true}), Some("3\n")),
    ] {
        // In the place of the file, and in the file itself: a file system may even give a new one the same inode.
        for in_place in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out.ndjson");
            let (context, _rejected) = BuildContext::detached("out");
            let out = sink(&context, &path, options.clone()).await;
            write(&*out, &["1", "2"]).await;
            drop(out);
            if !in_place {
                std::fs::remove_file(&path).unwrap();
            }
            std::fs::write(&path, "someone's work\n").unwrap();
            match (try_sink(&context, &path, options.clone()).await, expected) {
                (Err(error), None) => {
                    assert!(error.to_string().contains("was not written by this graph; set append"), "{error}");
                    assert_eq!(text(&path), "someone's work\n");
                }
                (Ok(out), Some(expected)) => {
                    write(&*out, &["3"]).await;
                    assert_eq!(text(&path), expected);
                }
                (result, _) => panic!("{:?}", result.err()),
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_file_that_takes_the_place_meanwhile_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    let out = sink(&context, &path, json!({})).await;
    write(&*out, &["1"]).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "someone's work\n").unwrap();
    let trouble = context.trouble.clone();
    let (outcome, seen) = tokio::join!(write(&*out, &["2"]), async {
        loop {
            tokio::task::yield_now().await;
            if let Some(seen) = trouble.get() {
                let theirs = text(&path);
                std::fs::remove_file(&path).unwrap();
                break (seen, theirs);
            }
        }
    });
    assert_eq!((outcome, context.trouble.get()), (Outcome::Delivered, None));
    assert!(seen.0.contains("did not write took its place; move that away, or set append: true"), "{}", seen.0);
    assert_eq!((&*seen.1, &*text(&path)), ("someone's work\n", "2\n"));
    // The new one is known to be ours although nothing else was noted since.
    drop(out);
    assert_eq!(write(&*sink(&context, &path, json!({})).await, &["3"]).await, Outcome::Delivered);
    assert_eq!(text(&path), "2\n3\n");
}

#[tokio::test]
async fn a_copy_of_the_file_is_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("out.ndjson"), dir.path().join("copy"));
    let (context, _rejected) = BuildContext::detached("out");
    drop({
        let out = sink(&context, &path, json!({})).await;
        write(&*out, &["1"]).await;
        out
    });
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    write(&*sink(&context, &path, json!({})).await, &["2"]).await;
    assert_eq!(text(&path), "1\n2\n");
}

#[tokio::test]
async fn a_line_of_others_without_an_end_is_ended_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    std::fs::write(&path, "no end").unwrap();
    let (context, _rejected) = BuildContext::detached("out");
    for line in ["1", "2"] {
        write(&*sink(&context, &path, json!({"append": true})).await, &[line]).await;
    }
    assert_eq!(text(&path), "no end\n1\n2\n");
}

#[tokio::test]
async fn a_run_after_a_completed_one_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    for _ in 0..3 {
        let sink = sink(&context, &path, json!({})).await;
        write(&*sink, &["1", "2"]).await;
        sink.flush().await;
        sink.complete().await.unwrap();
        assert_eq!(text(&path), "1\n2\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_concurrent_writers_stay_whole_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    let sink = sink(&context, &path, json!({})).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let sink = sink.clone();
        writers.spawn(async move {
            let line = format!("\"{}\"", writer.to_string().repeat(5000));
            for _ in 0..20 {
                assert_eq!(write(&*sink, &[&line, &line]).await, Outcome::Delivered);
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let text = text(&path);
    assert_eq!(text.lines().count(), 320);
    assert!(
        text.lines().all(|line| line.len() == 5002 && line[1..5001].bytes().all(|byte| byte == line.as_bytes()[1]))
    );
}

#[tokio::test]
async fn what_cannot_be_encoded_is_rejected_and_its_neighbours_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.txt");
    let (context, mut rejected) = BuildContext::detached("out");
    let sink = sink(&context, &path, json!({"encoding": "text"})).await;
    let dead = tokio::spawn(async move {
        let batch = rejected.recv().await.unwrap();
        let found: Vec<_> = batch.rejected.iter().map(|one| (one.event.position.0, one.code)).collect();
        batch.receipt.resolve(Outcome::DeadLettered);
        found
    });
    let outcome = write(&*sink, &[r#"{"message":"a"}"#, r#"{"x":1}"#, "{", r#"{"message":"b"}"#]).await;
    assert_eq!(outcome, Outcome::DeadLettered);
    assert_eq!(dead.await.unwrap(), [(1, "no_message"), (2, "invalid_json")]);
    assert_eq!(text(&path), "a\nb\n");
}

/// What a test of others' hands on the file writes in, and what is in the file then.
const FORMS: [(&str, &str, &[&str; 4], &[&str; 4]); 4] = [
    ("a.ndjson", "json", &["1", "2", "3", "4"], &["1\n", "2\n", "3\n", "4\n"]),
    ("a.gz", "json", &["1", "2", "3", "4"], &["1\n", "2\n", "3\n", "4\n"]),
    ("a.zst", "json", &["1", "2", "3", "4"], &["1\n", "2\n", "3\n", "4\n"]),
    (
        "a.csv",
        "csv",
        &[r#"{"v":"a\nb"}"#, r#"{"v":"c\nd"}"#, r#"{"v":"e"}"#, r#"{"v":"f\ng"}"#],
        &["\"a\nb\"\n", "\"c\nd\"\n", "e\n", "\"f\ng\"\n"],
    ),
];

/// The option `encoding`; of the forms only `csv` has records of several lines.
fn encoding(name: &str) -> Value {
    match name {
        "csv" => json!({"encoding": {"codec": "csv", "columns": ["v"]}}),
        name => json!({"encoding": name}),
    }
}

#[tokio::test]
async fn a_file_that_is_renamed_keeps_what_was_acknowledged_and_a_new_one_takes_the_rest() {
    for (name, codec, lines, written) in FORMS {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join(name), dir.path().join(format!("1{name}")));
        let (context, _rejected) = BuildContext::detached("out");
        let out = sink(&context, &path, encoding(codec)).await;
        write(&*out, &[lines[0]]).await;
        write(&*out, &[lines[1]]).await;
        std::fs::rename(&path, &rotated).unwrap();
        assert_eq!(write(&*out, &[lines[2]]).await, Outcome::Delivered);
        assert_eq!((text(&rotated), text(&path)), (written[..2].concat(), written[2].to_owned()), "{name}");
        // As logrotate's `create` does.
        std::fs::rename(&path, &rotated).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(out);
        let out = sink(&context, &path, encoding(codec)).await;
        assert_eq!(write(&*out, &[lines[3]]).await, Outcome::Delivered);
        assert_eq!((text(&rotated), text(&path)), (written[2].to_owned(), written[3].to_owned()), "{name}");
        assert_eq!(context.trouble.get(), None);
    }
}

#[tokio::test]
async fn a_file_that_is_cut_is_written_on_at_its_new_end_without_zeros() {
    for (name, codec, lines, written) in FORMS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let (context, _rejected) = BuildContext::detached("out");
        let out = sink(&context, &path, encoding(codec)).await;
        write(&*out, &[lines[0]]).await;
        let whole = path.metadata().unwrap().len();
        write(&*out, &[lines[1]]).await;
        let cut = |length| OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        cut(0);
        assert_eq!(write(&*out, &[lines[2]]).await, Outcome::Delivered);
        assert_eq!(text(&path), written[2], "{name}");
        cut(0);
        drop(out);
        let out = sink(&context, &path, encoding(codec)).await;
        write(&*out, &[lines[0]]).await;
        write(&*out, &[lines[1]]).await;
        // In the middle of a record: what is left of it goes.
        cut(whole + 1);
        assert_eq!(write(&*out, &[lines[3]]).await, Outcome::Delivered);
        assert_eq!(text(&path), [written[0], written[3]].concat(), "{name}");
    }
}

#[tokio::test]
async fn a_file_or_folder_that_is_removed_is_made_again() {
    for (name, codec, lines, written) in FORMS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er").join(name);
        let (context, _rejected) = BuildContext::detached("out");
        let out = sink(&context, &path, encoding(codec)).await;
        write(&*out, &[lines[0]]).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(write(&*out, &[lines[1]]).await, Outcome::Delivered);
        assert_eq!(text(&path), written[1], "{name}");
        std::fs::remove_dir_all(dir.path().join("deep")).unwrap();
        assert_eq!(write(&*out, &[lines[2]]).await, Outcome::Delivered);
        assert_eq!(text(&path), written[2], "{name}");
        std::fs::remove_file(&path).unwrap();
        drop(out);
        let out = sink(&context, &path, encoding(codec)).await;
        assert_eq!(write(&*out, &[lines[3]]).await, Outcome::Delivered);
        assert_eq!(text(&path), written[3], "{name}");
    }
}

#[tokio::test]
async fn while_something_else_is_at_its_path_the_sink_waits_and_says_so_and_goes_on_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out/a.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    let out = sink(&context, &path, json!({})).await;
    write(&*out, &["1"]).await;
    let folder = dir.path().join("out");
    std::fs::rename(&folder, dir.path().join("gone")).unwrap();
    // A folder cannot be made where a file is.
    std::fs::write(&folder, "").unwrap();
    let trouble = context.trouble.clone();
    let (outcome, seen) = tokio::join!(write(&*out, &["2"]), async {
        loop {
            tokio::task::yield_now().await;
            if let Some(seen) = trouble.get() {
                std::fs::remove_file(&folder).unwrap();
                break seen;
            }
        }
    });
    assert_eq!((outcome, context.trouble.get()), (Outcome::Delivered, None));
    assert!(seen.contains("a.ndjson cannot be written, and is tried again"), "{seen}");
    assert_eq!((text(&dir.path().join("gone/a.ndjson")), text(&path)), ("1\n".to_owned(), "2\n".to_owned()));
}

#[tokio::test]
async fn what_others_add_stays_and_what_is_written_does_not_run_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ndjson");
    let (context, _rejected) = BuildContext::detached("out");
    let out = sink(&context, &path, json!({})).await;
    write(&*out, &["1"]).await;
    tear(&path, b"theirs");
    write(&*out, &["2"]).await;
    assert_eq!(text(&path), "1\ntheirs\n2\n");
}

#[tokio::test]
async fn only_regular_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, what) in [(&*fifo, "a FIFO"), (Path::new("/dev/null"), "a device"), (dir.path(), "a folder")] {
        let (context, _rejected) = BuildContext::detached("out");
        let error = try_sink(&context, path, json!({"overwrite": true})).await.err().unwrap().to_string();
        assert!(error.contains(what) && error.contains("only regular files are written"), "{error}");
    }
}

/// A disk that is full for a while.
#[derive(Default)]
struct FullFor {
    stores: AtomicUsize,
    memory: MemoryStorage,
}

impl Storage for FullFor {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.memory.load(name)
    }
    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // The first is made when the sink is built.
        match self.stores.fetch_add(1, Ordering::Relaxed) {
            1..=2 => Err(io::ErrorKind::StorageFull.into()),
            _ => self.memory.store(name, bytes),
        }
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_the_group_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gz");
    let (mut context, _rejected) = BuildContext::detached("out");
    context.storage = Arc::new(FullFor::default());
    let sink = sink(&context, &path, json!({})).await;
    let trouble = context.trouble.clone();
    let (outcome, seen) = tokio::join!(write(&*sink, &["1"]), async {
        loop {
            tokio::task::yield_now().await;
            if let Some(seen) = trouble.get() {
                break seen;
            }
        }
    });
    assert_eq!(outcome, Outcome::Delivered);
    assert!(seen.contains("out.gz cannot be written, and is tried again"), "{seen}");
    assert_eq!((text(&path), context.trouble.get()), ("1\n".to_owned(), None));
}

/// `cargo test --release -p weir-file --test sink -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let (context, _rejected) = BuildContext::detached("out");
    let sink = sink(&context, &dir.path().join("out.ndjson"), json!({})).await;
    let line = format!("{{\"message\":\"{}\"}}", "x".repeat(185));
    let lines = vec![&*line; 1024];
    let begun = std::time::Instant::now();
    let writes = (0..2048).map(|_| write(&*sink, &lines));
    // 32 batches under way, as from as many lanes.
    let mut writes = writes.collect::<Vec<_>>();
    while !writes.is_empty() {
        let rest = writes.split_off(writes.len().min(32));
        join(std::mem::replace(&mut writes, rest)).await;
    }
    println!("{:.0} MB/s", 2048.0 * 1024.0 * (line.len() + 1) as f64 / 1e6 / begun.elapsed().as_secs_f64());
}

async fn join<F: Future>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
