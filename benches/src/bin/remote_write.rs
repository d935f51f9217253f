//! What a point of a remote-write request costs, from the request's bytes on: nanoseconds of CPU to look at it as a receiver
//! does, to take it apart, and to decode each part: anew, in the place of the one before, and for
//! somebody who looks at the name alone.
//!
//! usage: `remote_write [SERIES [POINTS]]`

use bytes::Bytes;
use weir_prometheus::remote_write::{Limits, Version, admit, decoder};

const LABELS: usize = 10;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nanoseconds that this thread was running.
fn cpu() -> u128 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |at: usize, default: usize| std::env::args().nth(at).map_or(Ok(default), |count| count.parse());
    let (series, points) = (number(1, 2_000)?, number(2, 2_000_000)?);
    println!("requests of {series} series with {LABELS} labels and a sample each; nanoseconds a point");
    for (version, body) in [(Version::V1, v1(series)), (Version::V2, v2(series))] {
        let body = Bytes::from(body);
        let rounds = (points / series).max(1);
        let nanos = |begun: u128| (cpu() - begun) / (rounds * series) as u128;
        let decoder = decoder();

        let begun = cpu();
        for _ in 0..rounds {
            let admitted = admit(version, &body, &Limits::default())?;
            assert!(admitted.samples == series && admitted.refused.is_none());
        }
        let admitted = nanos(begun);

        let begun = cpu();
        for _ in 0..rounds {
            assert_eq!(decoder.split(&body).map_or(0, |parts| parts.len()), series);
        }
        let split = nanos(begun);

        let parts = decoder.split(&body).unwrap_or_default();
        let begun = cpu();
        for _ in 0..rounds {
            for part in &parts {
                let event = decoder.decode(part)?;
                assert!(event.is_object());
            }
        }
        let decoded = nanos(begun);

        let name = ["name".to_owned()];
        let mut again = Vec::new();
        for fields in [None, Some(&name[..])] {
            let mut event = decoder.decode(&parts[0])?;
            let begun = cpu();
            for _ in 0..rounds {
                for part in &parts {
                    decoder.decode_into(part, fields, &mut event)?;
                }
            }
            again.push(nanos(begun));
        }
        println!(
            "{version:?}: {} bytes; admitted {admitted}, taken apart {split}, decoded {decoded}, in the place of the one before \
             {}, for its name alone {}",
            body.len(),
            again[0],
            again[1]
        );
    }
    Ok(())
}

/// Label names and values as a cluster has them, the name first.
fn labels(at: usize) -> Vec<(String, String)> {
    let mut all = vec![("__name__".to_owned(), format!("container_requests_total_{}", at % 50))];
    let names = ["cluster", "container", "endpoint", "instance", "job", "method", "namespace", "pod", "status"];
    all.extend(names[..LABELS - 1].iter().map(|name| ((*name).to_owned(), format!("{name}-value-{}", at % 700))));
    all
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn sample(at: usize) -> Vec<u8> {
    let mut out = vec![9];
    #[allow(clippy::cast_precision_loss, reason = "a value like any other")]
    out.extend_from_slice(&(at as f64 * 1.5).to_le_bytes());
    out.push(16);
    varint(&mut out, 1_700_000_000_000);
    out
}

fn v1(series: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for at in 0..series {
        let mut one = Vec::new();
        for (name, value) in labels(at) {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut one, 1, &label);
        }
        field(&mut one, 2, &sample(at));
        field(&mut body, 1, &one);
    }
    body
}

fn v2(series: usize) -> Vec<u8> {
    let mut symbols = std::collections::HashMap::from([(String::new(), 0)]);
    let mut table = vec![String::new()];
    let mut all = Vec::new();
    for at in 0..series {
        let mut references = Vec::new();
        for text in labels(at).into_iter().flat_map(|(name, value)| [name, value]) {
            let next = symbols.len() as u64;
            let reference = *symbols.entry(text.clone()).or_insert(next);
            if reference == next {
                table.push(text);
            }
            varint(&mut references, reference);
        }
        let mut one = Vec::new();
        field(&mut one, 1, &references);
        field(&mut one, 2, &sample(at));
        field(&mut all, 5, &one);
    }
    let mut body = Vec::new();
    table.iter().for_each(|text| field(&mut body, 4, text.as_bytes()));
    body.extend_from_slice(&all);
    body
}
