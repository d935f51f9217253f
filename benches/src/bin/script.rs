//! What conditions and scripts cost on raw JSON events. usage: `script [FILE]`; FILE holds one document a line.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use weir::event::{Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir::script::{Condition, Script, Template};

const TYPICAL: &str = r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"svc-ledger-3f1c0a9b2-77d1e.9c0b1a2d3e4f5a6b","namespace":"team-07-prod","uid":"3f1c0a9b-277d-1e9c-0b1a-2d3e4f5a6b7c","resourceVersion":"100042"},"involvedObject":{"kind":"Pod","name":"svc-ledger-3f1c0a9b2-77d1e"},"reason":"BackOff","message":"Back-off restarting failed container main in pod","source":{"component":"kubelet","host":"node-42"},"lastTimestamp":"2026-11-01T00:00:00Z","count":3,"type":"Warning"}"#;

fn time(name: &str, events: &[Event], mut run: impl FnMut(&Event)) {
    let rounds = (300_000 / events.len()).max(1);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..rounds {
                events.iter().for_each(&mut run);
            }
            start.elapsed().as_nanos() as f64 / (rounds * events.len()) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<60}{best:>8.0} ns/event");
}

fn main() -> std::io::Result<()> {
    let docs: Vec<Bytes> = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?.lines().map(|line| Bytes::from(line.to_owned())).collect(),
        None => vec![Bytes::from_static(TYPICAL.as_bytes())],
    };
    let events: Vec<Event> = docs
        .into_iter()
        .map(|doc| Event::new(Body::Raw(doc, Codec::Json), Position(1), Timestamp(1_700_000_000_000)))
        .collect();
    let origin = OriginId { node: "in".into(), log: "t".into(), partition: 0, kind: OriginKind::Kafka };

    for source in [r#".reason == "BackOff""#, r#"!(.reason != "BackOff")"#, r#".metadata.namespace == "team-07-prod""#]
    {
        let Ok((mut condition, _)) = Condition::compile(source) else { continue };
        time(source, &events, |event| {
            let _ = black_box(condition.holds(black_box(event), &origin));
        });
    }
    for source in
        [".seen = true\n.type = upcase!(.type)", ".count = .count", "del(.message)", ". = map_values(.) -> |v| { v }"]
    {
        let Ok((mut script, _)) = Script::compile(source) else { continue };
        time(&source.replace('\n', "; "), &events, |event| {
            let mut event = event.clone();
            let _ = black_box(script.run(&mut event, &origin));
            black_box(event);
        });
    }
    let Ok((mut template, _)) = Template::compile("logs-{{ .type }}-%Y.%m.%d") else { return Ok(()) };
    time("template logs-{{ .type }}-%Y.%m.%d", &events, |event| {
        let _ = black_box(template.render(black_box(event), &origin));
    });
    Ok(())
}
