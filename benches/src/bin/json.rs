//! What a check of a document costs, beside serde_json on the same documents.
//!
//! usage: `json [FILE]`; FILE holds one document a line, such as `gen_events.py 1000` writes. Prints ns per document.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use weir::event::json::{self, Fields, Found};

const TYPICAL: &str = r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"svc-ledger-3f1c0a9b2-77d1e.9c0b1a2d3e4f5a6b","namespace":"team-07-prod","uid":"3f1c0a9b-277d-1e9c-0b1a-2d3e4f5a6b7c","resourceVersion":"100042"},"involvedObject":{"kind":"Pod","name":"svc-ledger-3f1c0a9b2-77d1e"},"reason":"BackOff","message":"Back-off restarting failed container main in pod","source":{"component":"kubelet","host":"node-42"},"lastTimestamp":"2026-11-01T00:00:00Z","count":3,"type":"Warning"}"#;

fn time(name: &str, docs: &[Bytes], mut run: impl FnMut(&Bytes)) {
    let rounds = (400_000 / docs.len()).max(1);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..rounds {
                docs.iter().for_each(&mut run);
            }
            start.elapsed().as_nanos() as f64 / (rounds * docs.len()) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<40}{best:>8.0} ns/doc");
}

fn main() -> std::io::Result<()> {
    let docs: Vec<Bytes> = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?.lines().map(|line| Bytes::from(line.to_owned())).collect(),
        None => vec![Bytes::from_static(TYPICAL.as_bytes())],
    };
    let size: usize = docs.iter().map(Bytes::len).sum();
    println!("{} documents of {} bytes on average", docs.len(), size / docs.len().max(1));

    let mut found = Found::default();
    let fields = Fields::new(["reason"]);
    time("scan for one field", &docs, |doc| {
        let _ = black_box(json::scan(black_box(doc), &fields, &mut found));
    });
    time("check", &docs, |doc| {
        let _ = black_box(json::check(black_box(doc)));
    });
    time("parse", &docs, |doc| {
        let _ = black_box(json::parse(black_box(doc)));
    });
    time("serde_json IgnoredAny", &docs, |doc| {
        let _ = black_box(serde_json::from_slice::<serde::de::IgnoredAny>(black_box(doc)));
    });
    time("serde_json Value", &docs, |doc| {
        let _ = black_box(serde_json::from_slice::<serde_json::Value>(black_box(doc)));
    });
    Ok(())
}
