//! The frames of senders, for those who play one.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::frame::VERSION;

/// Appends the frame that begins a window.
pub fn window(count: u32, out: &mut Vec<u8>) {
    head(b'W', [count], out);
}

/// Appends an event.
pub fn event(sequence: u32, body: &[u8], out: &mut Vec<u8>) {
    head(b'J', [sequence, length(body)], out);
    out.extend_from_slice(body);
}

/// Appends these frames as a compressed one.
pub fn compressed(frames: &[u8], level: u32, out: &mut Vec<u8>) {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::new(level));
    // A `Vec` takes every write.
    let zlib = zlib.write_all(frames).and_then(|()| zlib.finish()).unwrap_or_default();
    head(b'C', [length(&zlib)], out);
    out.extend_from_slice(&zlib);
}

/// A window of these events, numbered from 1, compressed at a level of zlib or not.
pub fn batch<'a>(events: impl IntoIterator<Item = &'a [u8]>, level: Option<u32>) -> Vec<u8> {
    let (mut frames, mut count) = (Vec::new(), 0);
    for body in events {
        count += 1;
        event(count, body, &mut frames);
    }
    let mut out = Vec::new();
    window(count, &mut out);
    match level {
        Some(level) => compressed(&frames, level, &mut out),
        None => out.extend(frames),
    }
    out
}

fn head<const N: usize>(kind: u8, numbers: [u32; N], out: &mut Vec<u8>) {
    out.extend([VERSION, kind]);
    numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
