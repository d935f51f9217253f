//! The decoder against what senders write, in any portions, and against what nobody should write.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::Write;

use super::encode::{batch, compressed, event, window};
use super::{Broken, Decoder, Frame, Limits, acknowledgement};

const LIMITS: Limits = Limits { frame: 64 << 10, decompressed: 1 << 20 };

/// A frame on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Window(u32),
    Event(u32, Vec<u8>),
}

impl From<Frame<'_>> for Owned {
    fn from(frame: Frame<'_>) -> Owned {
        match frame {
            Frame::Window(count) => Owned::Window(count),
            Frame::Event { sequence, body } => Owned::Event(sequence, body.to_vec()),
        }
    }
}

/// All that comes of these portions, up to what is wrong; memory stays within its bounds.
fn decoded<'a>(limits: Limits, portions: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Owned>, Result<bool, Broken>) {
    let mut decoder = Decoder::new(limits);
    let mut frames = Vec::new();
    let (mut largest, mut portion_most) = (0, 0);
    for portion in portions {
        decoder.room(portion.len()).extend_from_slice(portion);
        portion_most = portion_most.max(portion.len());
        loop {
            match decoder.frame() {
                Ok(Some(frame)) => frames.push(frame.into()),
                Ok(None) => match decoder.wants() {
                    Some(bytes) => decoder.allow(bytes),
                    None => break,
                },
                Err(broken) => return (frames, Err(broken)),
            }
            largest = largest.max(decoder.footprint());
        }
    }
    // Two buffers, which grow to twice what has to be in them, and what decompresses.
    let bound = 2 * (2 * limits.frame + 64 * 1024) + 2 * portion_most + (256 << 10);
    assert!(largest <= bound, "{largest} bytes are held, {bound} are needed");
    let is_between = decoder.is_between_frames();
    (frames, Ok(is_between))
}

fn whole(bytes: &[u8]) -> (Vec<Owned>, Result<bool, Broken>) {
    decoded(LIMITS, [bytes])
}

fn why(bytes: &[u8]) -> Broken {
    whole(bytes).1.unwrap_err()
}

/// A compressed frame of any bytes.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compressed(bytes, 3, &mut out);
    out
}

#[test]
fn a_window_comes_as_its_events_compressed_or_not() {
    let events: Vec<Vec<u8>> = (0..2048).map(|n| format!("{{\"n\":{n},\"pad\":\"{:->470}\"}}", "").into()).collect();
    for level in [None, Some(0), Some(3), Some(9)] {
        let (frames, end) = whole(&batch(events.iter().map(Vec::as_slice), level));
        assert_eq!(end, Ok(true));
        assert_eq!(frames[0], Owned::Window(2048));
        let expected = (1..).zip(&events).map(|(sequence, body)| Owned::Event(sequence, body.clone()));
        assert!(frames[1..].iter().cloned().eq(expected), "at {level:?}");
    }
}

#[test]
fn a_window_may_be_inside_its_compressed_frame_or_of_several() {
    let mut inner = Vec::new();
    window(2, &mut inner);
    event(1, b"{}", &mut inner);
    let mut bytes = packed(&inner);
    inner.clear();
    event(u32::MAX, b"1", &mut inner);
    bytes.extend(packed(&inner));
    let expected = vec![Owned::Window(2), Owned::Event(1, b"{}".to_vec()), Owned::Event(u32::MAX, b"1".to_vec())];
    assert_eq!(whole(&bytes), (expected, Ok(true)));
}

#[test]
fn a_stream_that_was_flushed_and_not_ended_is_taken_and_what_stands_behind_its_end_means_nothing() {
    let mut frames = Vec::new();
    event(1, b"{\"a\":1}", &mut frames);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&frames).unwrap();
    zlib.flush().unwrap();
    let expected = || vec![Owned::Event(1, b"{\"a\":1}".to_vec())];
    let framed = |zlib: &[u8]| [b"2C", &u32::try_from(zlib.len()).unwrap().to_be_bytes()[..], zlib].concat();
    assert_eq!(whole(&framed(zlib.get_ref())), (expected(), Ok(true)));
    let ended = [&zlib.finish().unwrap()[..], b"behind it"].concat();
    assert_eq!(whole(&framed(&ended)), (expected(), Ok(true)));
    assert_eq!(whole(b"2C\0\0\0\0"), (Vec::new(), Ok(true)));
}

#[test]
fn what_is_wrong_is_said_at_the_first_byte_that_shows_it() {
    assert_eq!(why(b"1"), Broken::Version1);
    assert_eq!(why(b"\x16\x03\x01"), Broken::Tls);
    assert_eq!(why(b"GET / HTTP/1.1\r\n"), Broken::Version(b'G'));
    assert_eq!(why(b"2A"), Broken::Type(b'A'));
    assert_eq!(why(b"2D\0\0\0\x01"), Broken::Type(b'D'));
    assert_eq!(why(b"2J\0\0\0\x01\xff\xff\xff\xff"), Broken::Frame(u32::MAX, LIMITS.frame));
    assert_eq!(why(b"2J\0\0\0\x01\0\0\0\0"), Broken::EmptyEvent);
    assert_eq!(why(&packed(b"2J\0\0\0\x01\0\0\0\0")), Broken::EmptyEvent);
    assert_eq!(why(b"2C\xff\xff\xff\xff"), Broken::Decompressed(LIMITS.decompressed));
    assert_eq!(why(b"2C\0\0\0\x04zlib"), Broken::Zlib);
    assert_eq!(why(&packed(&packed(b"2W\0\0\0\x01"))), Broken::Nested);
    assert_eq!(why(&packed(b"2W\0\0")), Broken::Torn);
    assert_eq!(why(&packed(b"2J\0\0\0\x01\0\0\0\x09{\"a\":1}")), Broken::Torn);
    for part in [&b"2"[..], b"2W\0\0\0", b"2J\0\0\0\x01\0\0\0\x02{", b"2C\0\0\0\x04"] {
        assert_eq!(whole(part), (Vec::new(), Ok(false)), "{part:?}");
    }
    assert_eq!(&acknowledgement(0x0102_0304), b"2A\x01\x02\x03\x04");
}

#[test]
fn a_bomb_is_stopped_at_the_limit_and_a_lie_about_its_length_at_once() {
    // Windows of none, and an event that never ends.
    let windows = b"2W\0\0\0\0".repeat(1 << 20);
    let (frames, end) = whole(&packed(&windows));
    assert_eq!(end, Err(Broken::Decompressed(LIMITS.decompressed)));
    assert!(frames.len() <= LIMITS.decompressed / 6);
    let mut event_head = b"2J\0\0\0\x01".to_vec();
    event_head.extend(u32::try_from(LIMITS.frame).unwrap().to_be_bytes());
    event_head.extend(vec![b' '; LIMITS.frame - 1]);
    assert_eq!(why(&packed(&event_head)), Broken::Torn);
}

#[test]
fn it_takes_no_more_memory_for_a_frame_than_it_is_allowed_to() {
    let limits = Limits { frame: 8 << 20, decompressed: 16 << 20 };
    let mut decoder = Decoder::new(limits);
    let mut frame = Vec::new();
    event(1, &vec![b' '; 8 << 20], &mut frame);
    let bomb = packed(&frame);
    assert!(bomb.len() < 16 << 10);
    decoder.room(bomb.len()).extend_from_slice(&bomb);
    assert_eq!(decoder.frame(), Ok(None));
    assert!(decoder.footprint() < 512 << 10, "{}", decoder.footprint());
    while let Some(bytes) = decoder.wants() {
        decoder.allow(bytes);
        if decoder.frame().unwrap().is_some() {
            break;
        }
    }
    decoder.room(1);
    assert_eq!(decoder.frame(), Ok(None));
    assert!(decoder.is_between_frames());
    decoder.rest();
    assert_eq!(decoder.footprint(), 0);
}

/// Frames, some of them compressed.
fn stream() -> impl Strategy<Value = (Vec<Owned>, Vec<u8>)> {
    let body = vec(any::<u8>(), 1..300);
    let frame = prop_oneof![
        any::<u32>().prop_map(Owned::Window),
        (any::<u32>(), body).prop_map(|(sequence, body)| Owned::Event(sequence, body)),
    ];
    vec((vec(frame, 0..12), proptest::option::of(0..10_u32)), 0..8).prop_map(|groups| {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        for (frames, level) in groups {
            let mut group = Vec::new();
            for frame in &frames {
                match frame {
                    Owned::Window(count) => window(*count, &mut group),
                    Owned::Event(sequence, body) => event(*sequence, body, &mut group),
                }
            }
            match level {
                Some(level) => compressed(&group, level, &mut bytes),
                None => bytes.extend(group),
            }
            all.extend(frames);
        }
        (all, bytes)
    })
}

/// The bytes cut at these places.
fn portions<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_portions_give_the_same_frames((frames, bytes) in stream(), cuts in vec(any::<prop::sample::Index>(), 0..40)) {
        prop_assert_eq!(decoded(LIMITS, portions(&bytes, &cuts)), (frames.clone(), Ok(true)));
        prop_assert_eq!(decoded(LIMITS, bytes.chunks(1)), (frames, Ok(true)));
    }

    #[test]
    fn mutated_bytes_are_refused_or_taken_alike_in_any_portions(
        (_, mut bytes) in stream(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let (frames, end) = decoded(LIMITS, portions(&bytes, &cuts));
        let (all_frames, all_end) = whole(&bytes);
        // Where a stream of zlib is damaged, how much of it comes out before that is seen depends on the portions.
        match (end, all_end) {
            (Ok(end), Ok(all_end)) => prop_assert_eq!((end, frames), (all_end, all_frames)),
            (Err(_), Err(_)) => {}
            (end, all_end) => prop_assert!(false, "{end:?} and {all_end:?}"),
        }
    }
}

/// A longer campaign: `WEIR_FUZZ_ROUNDS` says how long, `WEIR_FUZZ_SEED` repeats one.
#[test]
fn nothing_that_comes_makes_it_panic_or_hold_more_than_it_may() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("WEIR_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("WEIR_FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let limits = Limits { frame: 4 << 10, decompressed: 64 << 10 };
    for _ in 0..number("WEIR_FUZZ_ROUNDS").unwrap_or(3000) {
        let mut frames = Vec::new();
        for _ in 0..random.random_range(0..20) {
            let body = vec![random.random_range(b' '..b'z'); random.random_range(0..6000)];
            let mut frame = Vec::new();
            match random.random_range(0..4) {
                0 => window(random.random(), &mut frame),
                1 => event(random.random(), &body, &mut frame),
                2 => frame.extend(batch([&body[..], b"{}"], Some(6))),
                _ => frame.extend(packed(&packed(&body))),
            }
            frames.extend(frame);
        }
        if random.random_bool(0.5) {
            frames = packed(&frames);
        }
        for _ in 0..random.random_range(0..10) {
            if !frames.is_empty() {
                let at = random.random_range(0..frames.len());
                frames[at] = random.random();
            }
        }
        if random.random_bool(0.2) {
            frames.truncate(random.random_range(0..=frames.len()));
        }
        let portion = random.random_range(1..5000);
        // What is decompressed was never longer than allowed; the bound on memory is checked inside.
        let (_, _end) = decoded(limits, frames.chunks(portion));
    }
}
