//! Requests of Prometheus's remote write, written by hand: what is tested has a part of its own for that, and must not vouch
//! for itself.

use std::io;

use crate::push::{Answer, Sender};

/// The content type of 1.0.
pub const V1: &str = "Content-Type: application/x-protobuf";
/// The content type of 2.0.
pub const V2: &str = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// The encoding of both.
pub const SNAPPY: &str = "Content-Encoding: snappy";

/// A message of Protobuf.
#[derive(Debug, Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// An empty one.
    pub fn new() -> Message {
        Message::default()
    }

    /// With a number as a varint; negative ones take ten bytes.
    #[must_use]
    pub fn int(mut self, field: u32, number: i64) -> Message {
        varint(&mut self.0, u64::from(field) << 3);
        varint(&mut self.0, number as u64);
        self
    }

    /// With a number in zigzag.
    #[must_use]
    pub fn sint(self, field: u32, number: i64) -> Message {
        self.int(field, (number << 1) ^ (number >> 63))
    }

    /// With a double of these bits.
    #[must_use]
    pub fn double(mut self, field: u32, bits: u64) -> Message {
        varint(&mut self.0, u64::from(field) << 3 | 1);
        self.0.extend(bits.to_le_bytes());
        self
    }

    /// With bytes, a text, or a message.
    #[must_use]
    pub fn bytes(mut self, field: u32, bytes: impl AsRef<[u8]>) -> Message {
        varint(&mut self.0, u64::from(field) << 3 | 2);
        varint(&mut self.0, bytes.as_ref().len() as u64);
        self.0.extend(bytes.as_ref());
        self
    }

    /// With packed varints.
    #[must_use]
    pub fn packed(self, field: u32, numbers: &[u64]) -> Message {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| varint(&mut bytes, *number));
        self.bytes(field, bytes)
    }

    /// With packed varints in zigzag.
    #[must_use]
    pub fn packed_sint(self, field: u32, numbers: &[i64]) -> Message {
        let numbers: Vec<u64> = numbers.iter().map(|number| ((number << 1) ^ (number >> 63)) as u64).collect();
        self.packed(field, &numbers)
    }

    /// With one of several messages of the same field.
    #[must_use]
    pub fn each<T>(self, all: impl IntoIterator<Item = T>, add: impl Fn(Message, T) -> Message) -> Message {
        all.into_iter().fold(self, add)
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Labels as 1.0 has them, in field 1.
pub fn labels(message: Message, labels: &[(&str, &str)]) -> Message {
    message.each(labels, |message, (name, value)| message.bytes(1, Message::new().bytes(1, name).bytes(2, value)))
}

/// A sample, of both versions.
pub fn sample(bits: u64, millis: i64) -> Message {
    Message::new().double(1, bits).int(2, millis)
}

/// A series of 1.0 with samples: value and milliseconds.
pub fn series(name_and_labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Message {
    labels(Message::new(), name_and_labels)
        .each(samples, |series, (value, millis)| series.bytes(2, sample(value.to_bits(), *millis)))
}

/// A request of 1.0.
pub fn request(series: impl IntoIterator<Item = Message>) -> Message {
    Message::new().each(series, |request, series| request.bytes(1, series))
}

/// A request of 2.0: symbols, of which the empty one is put in front, and series.
pub fn request_2(symbols: &[&str], series: impl IntoIterator<Item = Message>) -> Message {
    let symbols = Message::new().bytes(4, "").each(symbols, |request, symbol| request.bytes(4, symbol));
    symbols.each(series, |request, series| request.bytes(5, series))
}

/// A block of snappy that holds these bytes, and compresses nothing.
pub fn snappy(bytes: &[u8]) -> Vec<u8> {
    declared(bytes.len() as u64, bytes)
}

/// The same with another length in front.
pub fn declared(length: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, length);
    for chunk in bytes.chunks(1 << 16) {
        // A literal whose length stands in two bytes.
        out.push(61 << 2);
        out.extend(((chunk.len() - 1) as u16).to_le_bytes());
        out.extend(chunk);
    }
    out
}

/// A block of snappy that holds one byte so many times, and is far smaller.
pub fn bomb(byte: u8, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, length as u64);
    out.extend([0, byte]);
    let mut rest = length - 1;
    while rest > 0 {
        let copied = rest.min(64);
        // A copy of what is one byte behind, by an offset of two bytes.
        out.extend([(copied as u8 - 1) << 2 | 2, 1, 0]);
        rest -= copied;
    }
    out
}

/// Sends a request to where Prometheus would, with the content type of its version.
pub fn post(sender: &mut Sender, version: &str, body: &[u8]) -> io::Result<Answer> {
    sender.post_to("/api/v1/write", &[version, SNAPPY, "X-Prometheus-Remote-Write-Version: 0.1.0"], body)
}

/// What an answer says was written: samples, histograms, exemplars.
pub fn written(answer: &Answer) -> [Option<u64>; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|kind| answer.header(&format!("x-prometheus-remote-write-{kind}-written"))?.parse().ok())
}
