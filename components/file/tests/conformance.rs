//! The shared kit, and what is special about files.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use weir::component::{BuildContext, SinkConfig, SourceConfig, conformance};
use weir::delivery::Receipt;
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_file as _;

fn source(paths: &[&Path]) -> Box<dyn SourceConfig> {
    serde_json::from_value(json!({ "type": "file", "paths": paths })).unwrap()
}

fn sink(path: &Path, more: Value) -> Box<dyn SinkConfig> {
    let mut options = json!({ "type": "file", "path": path });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(options).unwrap()
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_a_gzip_and_a_zstd_file() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, gzip, zstandard) = (dir.path().join("a.ndjson"), dir.path().join("b.gz"), dir.path().join("c.zst"));
    std::fs::write(&plain, lines(100)).unwrap();
    let mut two_members = Vec::new();
    for _ in 0..2 {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(lines(50).as_bytes()).unwrap();
        two_members.extend(member.finish().unwrap());
    }
    std::fs::write(&gzip, two_members).unwrap();
    std::fs::write(&zstandard, zstd::bulk::compress(lines(100).as_bytes(), 1).unwrap()).unwrap();
    conformance::source(&*source(&[&plain, &gzip, &zstandard]), 300).await;
    conformance::source(&*source(&[&dir.path().join("*")]), 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_in_every_compression() {
    let dir = tempfile::tempdir().unwrap();
    let good: Vec<Body> = (0..5).map(|n| Body::Raw(format!("{{\"n\":{n}}}").into(), Codec::Json)).collect();
    for name in ["o.ndjson", "o.gz", "o.zst"] {
        let path = dir.path().join(name);
        conformance::sink(&*sink(&path, json!({})), &good, Some(Body::Raw("{\n".into(), Codec::Json))).await;
        let (context, _rejected) = BuildContext::detached("read back");
        let read = source(&[&path]).build(&context).await;
        assert!(read.is_ok());
        // 200 batches, one with a poison event, and 20 of a sink that was dropped.
        conformance::source(&*source(&[&path]), 221 * 5).await;
    }
}

fn batch(texts: &[&str]) -> Batch {
    let event = |(at, text): (usize, &&str)| {
        Event::new(Body::Raw(text.to_string().into(), Codec::Json), Position(at as u64), Timestamp(0))
    };
    let origin = OriginId { node: "in".into(), log: "l".into(), partition: 0, kind: OriginKind::Other };
    Batch {
        origin: origin.into(),
        receipt: Receipt::detached(),
        watermark: Timestamp(0),
        events: texts.iter().enumerate().map(event).collect(),
    }
}

/// Builds the sink on the same storage, as a restart does, and writes.
async fn write(config: &dyn SinkConfig, context: &BuildContext, texts: &[&str], complete: bool) -> Result<(), String> {
    let sink = config.build(context).await.map_err(|error| error.to_string())?;
    sink.write(batch(texts)).await;
    sink.flush().await;
    if complete {
        sink.complete().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("sink");
    let config = sink(&path, json!({}));
    write(&*config, &context, &["1", "2"], false).await.unwrap();
    // The process died in the middle of a write.
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"torn\":").unwrap();
    write(&*config, &context, &["3"], false).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_run_begins_anew_and_a_file_of_others_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let (context, _rejected) = BuildContext::detached("sink");
    for _ in 0..2 {
        write(&*sink(&path, json!({})), &context, &["1"], true).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }
    std::fs::write(&path, "mine\n").unwrap();
    let (stranger, _rejected) = BuildContext::detached("stranger");
    let refused = write(&*sink(&path, json!({})), &stranger, &["1"], true).await.unwrap_err();
    assert!(refused.contains("set append: true or overwrite: true, or remove it"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n");
    write(&*sink(&path, json!({ "append": true })), &stranger, &["1"], true).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_or_renamed_while_the_sink_was_away_is_gone_on_with() {
    for name in ["out.ndjson", "out.gz"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let (context, _rejected) = BuildContext::detached("sink");
        let config = sink(&path, json!({}));
        write(&*config, &context, &["1", "2"], false).await.unwrap();
        let first = std::fs::read(&path).unwrap();
        std::fs::write(&path, &first[..first.len() - 1]).unwrap();
        write(&*config, &context, &["3"], false).await.unwrap();
        std::fs::rename(&path, dir.path().join("rotated")).unwrap();
        write(&*config, &context, &["4"], false).await.unwrap();
        let left = std::fs::read(dir.path().join("rotated")).unwrap();
        let (left, last) = (text(name, &left), text(name, &std::fs::read(&path).unwrap()));
        let expected = if name == "out.gz" { "3\n" } else { "1\n3\n" };
        assert_eq!((&*left, &*last), (expected, "4\n"), "{name}");
    }
}

fn text(name: &str, bytes: &[u8]) -> String {
    if !name.ends_with("gz") {
        return String::from_utf8(bytes.to_vec()).unwrap();
    }
    std::io::read_to_string(flate2::read::MultiGzDecoder::new(bytes)).unwrap()
}
