//! Requests that chance has damaged, as many as one likes: none of them makes a reader panic or give more than it says.
//!
//! `WEIR_FUZZ_CASES` is how many (20,000), `WEIR_FUZZ_SEED` repeats a run; both are printed.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::codec_tests::{assert_taken_is_read, read, request_v1, request_v2};
use super::record::split;
use super::*;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Some place in a body, and some stretch.
fn stretch(body: &[u8], random: &mut StdRng) -> std::ops::Range<usize> {
    let start = random.random_range(0..=body.len());
    let longest = (body.len() - start).min(64);
    start..start + random.random_range(0..=longest)
}

/// A varint as nobody should write it, or as large as there is.
fn odd_varint(random: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    match random.random_range(0..4) {
        0 => put::varint(&mut out, u64::MAX >> random.random_range(0..64)),
        1 => put::varint(&mut out, 1 << random.random_range(0..64)),
        // Longer than it has to be, and longer than it may be.
        2 => out.extend([[0x80].repeat(random.random_range(0..12)), vec![1]].concat()),
        _ => put::varint(&mut out, random.random()),
    }
    out
}

/// One damage: bits, bytes, lengths that lie, types that are others, repeats, messages within messages.
fn damage(body: &mut Vec<u8>, others: &[Vec<u8>], random: &mut StdRng) {
    if body.is_empty() {
        body.push(random.random());
    }
    let at = random.random_range(0..body.len());
    match random.random_range(0..11) {
        0 => body[at] ^= 1 << random.random_range(0..8),
        1 => body[at] = random.random(),
        2 => body.truncate(at),
        3 => drop(body.drain(stretch(body, random))),
        4 => body.insert(at, random.random()),
        // The key of a field with another wire type.
        5 => body[at] = body[at] & !7 | random.random_range(0..8),
        6 => drop(body.splice(at..=at, odd_varint(random))),
        7 => {
            let stretch = stretch(body, random);
            let repeated = body[stretch.clone()].repeat(1 << random.random_range(0..9));
            drop(body.splice(stretch, repeated));
        }
        8 => {
            let other = &others[random.random_range(0..others.len())];
            let piece = other[stretch(other, random)].to_vec();
            drop(body.splice(at..at, piece));
        }
        9 => {
            let numbers = [1, 2, 3, 4, 5, 8, 11, 12, 16];
            let number = numbers[random.random_range(0..numbers.len())];
            for _ in 0..1 << random.random_range(0..6) {
                let inside = std::mem::take(body);
                put::bytes(body, number, &inside);
            }
        }
        _ => {
            let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
            let mut lying = vec![[0x0a, 0x1a, 0x22, 0x2a][random.random_range(0..4)]];
            put::varint(&mut lying, length.wrapping_add(random.random_range(0..5)).wrapping_sub(2));
            drop(body.splice(0..0, lying));
        }
    }
    body.truncate(1 << 20);
}

/// What a receiver and a node do with a body, whatever it is.
fn is_read_or_refused(body: &Bytes) {
    for version in [Version::V1, Version::V2] {
        assert_taken_is_read(version, body);
    }
    let parts = split(body).unwrap_or_else(|| vec![body.clone()]);
    assert!(parts.len() <= MAX_EVENTS, "{} parts", parts.len());
    for part in parts.iter().take(64) {
        let _either = read(part);
    }
}

#[test]
fn requests_damaged_by_chance_are_read_or_refused() {
    let cases = number("WEIR_FUZZ_CASES").unwrap_or(20_000);
    let seed = number("WEIR_FUZZ_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("{cases} damaged requests; repeat them with WEIR_FUZZ_CASES={cases} WEIR_FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let whole = [request_v1(), request_v2()];
    let (mut taken, mut compressed) = (0, 0);
    for _ in 0..cases {
        let mut body = whole[random.random_range(0..whole.len())].clone();
        for _ in 0..random.random_range(1..6) {
            damage(&mut body, &whole, &mut random);
        }
        let body = Bytes::from(body);
        taken +=
            usize::from([Version::V1, Version::V2].iter().any(|version| {
                admit(*version, &body, &Limits::default()).is_ok_and(|admitted| admitted.record.is_some())
            }));
        is_read_or_refused(&body);
        // The same for a block that is damaged in its compressed form.
        let mut block = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        damage(&mut block, &whole, &mut random);
        let limit = random.random_range(0..1 << 20);
        if let Ok(out) = decompress(&block, limit) {
            assert!(out.len() <= limit);
            compressed += 1;
            is_read_or_refused(&out);
        }
        let _either = read(&block.into());
    }
    println!("of {taken} something was taken, and {compressed} blocks could be decompressed");
    assert!(taken as u64 > cases / 100, "hardly anything was taken: the damage is too great to find anything");
}
