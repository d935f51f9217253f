//! The body of an answer, read and decompressed within a limit.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::CONTENT_ENCODING;

use crate::answer::Cut;

/// Keeps bytes up to a limit; the write that exceeds it fails.
struct Bounded {
    kept: Vec<u8>,
    limit: usize,
    is_exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (self.limit - self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.is_exceeded |= room < bytes.len();
        if self.is_exceeded { Err(io::Error::other("too long")) } else { Ok(room) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the bytes of a body go.
enum Decoder {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Decoder {
    fn of(headers: &HeaderMap, limit: usize) -> Result<Decoder, Cut> {
        let bounded = Bounded { kept: Vec::new(), limit, is_exceeded: false };
        let encoding = headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase());
        match encoding.as_deref() {
            None | Some(b"" | b"identity") => Ok(Decoder::Plain(bounded)),
            Some(b"gzip" | b"x-gzip") => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(bounded)))),
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                Err(Cut::Broken(format!("its encoding is {other:?}, and none was asked for")))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Decoder::Plain(bounded) => bounded.write_all(bytes),
            Decoder::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn bounded(&self) -> &Bounded {
        match self {
            Decoder::Plain(bounded) => bounded,
            Decoder::Gzip(decoder) => decoder.get_ref(),
        }
    }

    /// All bytes of the body were written.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Decoder::Plain(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
        }
    }

    fn cut(&self, error: &io::Error) -> Cut {
        let bounded = self.bounded();
        if bounded.is_exceeded { Cut::TooLong(bounded.limit) } else { Cut::Broken(error.to_string()) }
    }

    fn into_bytes(mut self) -> Bytes {
        match &mut self {
            Decoder::Plain(bounded) => std::mem::take(&mut bounded.kept).into(),
            Decoder::Gzip(decoder) => std::mem::take(&mut decoder.get_mut().kept).into(),
        }
    }
}

/// The body, decompressed, up to `limit` bytes; and why it is incomplete, if it is.
pub(crate) async fn read(mut body: Incoming, headers: &HeaderMap, limit: usize) -> (Bytes, Option<Cut>) {
    let mut decoder = match Decoder::of(headers, limit) {
        Ok(decoder) => decoder,
        Err(cut) => return (Bytes::new(), Some(cut)),
    };
    let mut is_empty = true;
    while let Some(frame) = body.frame().await {
        let written = match frame {
            Ok(frame) => match frame.data_ref() {
                Some(data) => {
                    is_empty &= data.is_empty();
                    decoder.write(data)
                }
                None => Ok(()),
            },
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = written {
            let cut = decoder.cut(&error);
            return (decoder.into_bytes(), Some(cut));
        }
    }
    // The answer to HEAD has no body, whatever its headers say.
    let finished = if is_empty { Ok(()) } else { decoder.finish() };
    let cut = finished.err().map(|error| decoder.cut(&error));
    (decoder.into_bytes(), cut)
}
