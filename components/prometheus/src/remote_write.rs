//! Prometheus's remote write, both versions of its messages: what a receiver has to know of a request, and the codec.
//!
//! In come bytes that nobody has looked at; out go requests of which every part is known to be good, single points, and
//! errors. Nothing here reads from a socket, and no message is built in memory: a request is walked where it lies. Whatever is
//! kept while walking has a bound.
//!
//! The messages are those of `prompb/remote.proto` (1.0) and `io/prometheus/write/v2/types.proto` (2.0) of Prometheus; of 2.0
//! both places are read where a time of creation may stand, `TimeSeries.created_timestamp` up to release candidate 3 and
//! `start_timestamp` from 4 on.

mod admit;
mod codec;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod fuzz;
mod histogram;
mod put;
mod record;
pub(crate) mod request;
mod series;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;

pub use admit::admit;
pub use codec::{Compression, MessageVersion, RemoteWriteDecoding, RemoteWriteEncoding, decoder};

/// As many events as one record may become: the step of an event's ordinal has 16 bits.
pub(crate) const MAX_EVENTS: usize = 1 << 16;

/// The bytes that all points of a request may take with what they share repeated in each: otherwise one large text and
/// many series that refer to it would fill the memory.
pub(crate) const MAX_EXPANDED: usize = 256 << 20;

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The content type of a request that holds such a message.
    pub fn content_type(self) -> &'static str {
        match self {
            Version::V1 => "application/x-protobuf",
            Version::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The message's full name, as in the content type's parameter `proto`.
    pub fn message(self) -> &'static str {
        match self {
            Version::V1 => "prometheus.WriteRequest",
            Version::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// What a request may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Series of a request, entries of metadata included; beyond it all is refused. Default: 65,536.
    pub series: usize,
    /// Labels of a series; one with more is refused. Default: 256.
    pub labels: usize,
    /// Samples, histograms, exemplars and entries of metadata of a request together; beyond it all is refused. Default: 65,536,
    /// and no more are ever taken, as a record of the log is no more events.
    pub points: usize,
    /// Bytes of all names and values of a series' labels, and of its metadata; one with more is refused. Default: 64 KiB.
    pub label_bytes: usize,
    /// Entries of the symbol table of 2.0; beyond it all is refused. Default: 1,048,576.
    pub symbols: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { series: MAX_EVENTS, labels: 256, points: MAX_EVENTS, label_bytes: 64 << 10, symbols: 1 << 20 }
    }
}

/// What of a request is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Samples in `record`.
    pub samples: usize,
    /// Native histograms in `record`.
    pub histograms: usize,
    /// Exemplars in `record` that can be read. One that cannot is not counted; in 2.0 it makes the request one that is taken
    /// in part.
    pub exemplars: usize,
    /// The request without what is refused, and the request itself where nothing is; none: nothing is left, or nothing was
    /// there.
    pub record: Option<Bytes>,
    /// What is refused and why, as far as one wants to read it; none: nothing is.
    pub refused: Option<String>,
}

/// Why a request is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no such message: 400.
    #[error("{0}")]
    Malformed(String),
    /// It is above a limit: 413, or 400 where a sender knows only that.
    #[error("{0}")]
    TooLarge(String),
}

/// The bytes of a snappy block. The length that it declares is compared with `limit`, and with what so many bytes can be at
/// all, before memory is taken for it.
pub fn decompress(body: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    /// How a stream of the framing format begins, which other programs write.
    const FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";
    let malformed = |what: String| Refusal::Malformed(format!("the body is no snappy block: {what}"));
    if body.starts_with(FRAMED) {
        return Err(malformed("it is snappy's framing format; remote write takes the block format".to_owned()));
    }
    if body.is_empty() {
        return Err(malformed("it is empty".to_owned()));
    }
    let declared = snap::raw::decompress_len(body).map_err(|error| malformed(error.to_string()))?;
    if declared > limit {
        return Err(Refusal::TooLarge(format!("the request is {declared} bytes when decompressed; {limit} are taken")));
    }
    // Nothing in the format gives more than 64 bytes for 3.
    if declared > body.len().saturating_mul(64) / 3 {
        return Err(malformed(format!("it declares {declared} bytes, which its {} cannot hold", body.len())));
    }
    let mut out = vec![0; declared];
    let written = snap::raw::Decoder::new().decompress(body, &mut out).map_err(|error| malformed(error.to_string()))?;
    out.truncate(written);
    Ok(out.into())
}
