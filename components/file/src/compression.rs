//! Compressed streams: how one is known, and read.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use schemars::JsonSchema;
use serde::Deserialize;
use zstd::stream::read::Decoder as ZstdDecoder;

/// The largest window of a zstd frame, as a power of two: what the frame may make us keep in memory.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes that tell a gzip member, or a zstd frame, by its beginning.
const MAGIC: usize = 4;

/// Compression of a file or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// By the file name: `.gz` is gzip, `.zst` is zstd; for input, otherwise by the first bytes.
    #[default]
    Auto,
    /// No compression.
    None,
    /// gzip, with one or more members.
    Gzip,
    /// zstd, with one or more frames.
    Zstd,
}

impl Compression {
    /// What a file's name says, where nothing else was said.
    pub(crate) fn of(self, path: &Path) -> Compression {
        match (self, path.extension().and_then(|extension| extension.to_str())) {
            (Compression::Auto, Some("gz")) => Compression::Gzip,
            (Compression::Auto, Some("zst")) => Compression::Zstd,
            (other, _) => other,
        }
    }

    /// What the first bytes say, where nothing else was said. No text begins like this.
    pub(crate) fn or_by(self, head: &[u8]) -> Compression {
        match self {
            Compression::Auto => Format::by(head).map_or(Compression::Auto, |format| match format {
                Format::Gzip => Compression::Gzip,
                Format::Zstd => Compression::Zstd,
            }),
            other => other,
        }
    }

    /// Whether there is any.
    pub(crate) fn is_some(self) -> bool {
        self.format().is_some()
    }

    fn format(self) -> Option<Format> {
        match self {
            Compression::Gzip => Some(Format::Gzip),
            Compression::Zstd => Some(Format::Zstd),
            Compression::Auto | Compression::None => None,
        }
    }

    /// The stream decompressed; `place` names it in warnings.
    pub(crate) fn reader(self, stream: impl Read + Send + 'static, place: &str) -> Box<dyn Read + Send> {
        match self.format() {
            Some(format) => Box::new(Members::new(format, stream, place)),
            None => Box::new(stream),
        }
    }

    /// A stream without a name, decompressed by its first bytes where nothing else was said.
    pub(crate) fn reader_by_head(
        self,
        mut stream: impl Read + Send + 'static,
        place: &str,
    ) -> io::Result<Box<dyn Read + Send>> {
        let mut head = Vec::new();
        // A person's first line shall not wait for more than what tells.
        while self == Compression::Auto && [Format::Gzip, Format::Zstd].iter().any(|format| format.may_begin(&head)) {
            if (&mut stream).take(1).read_to_end(&mut head)? == 0 {
                break;
            }
        }
        let compression = self.or_by(&head);
        Ok(compression.reader(io::Cursor::new(head).chain(stream), place))
    }

    /// Where the last whole member or frame of a stream ends, in compressed bytes.
    pub(crate) fn end_of_last_member(self, stream: impl Read, place: &str) -> u64 {
        let Some(format) = self.format() else { return 0 };
        let mut members = Members::new(format, stream, place);
        // What follows the last whole one is torn, or nothing of ours.
        let _torn = io::copy(&mut members, &mut io::sink());
        members.whole
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
}

impl Format {
    /// Whether a member or frame begins so. A frame may be one that readers skip.
    fn begins(self, head: &[u8]) -> bool {
        match self {
            Format::Gzip => head.starts_with(b"\x1f\x8b"),
            Format::Zstd => {
                head.starts_with(b"\x28\xb5\x2f\xfd") || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
            }
        }
    }

    /// Whether these bytes become such a beginning if the right ones follow.
    fn may_begin(self, head: &[u8]) -> bool {
        match self {
            Format::Gzip => matches!(head, [] | [0x1f]),
            Format::Zstd => {
                head.len() < MAGIC
                    && (b"\x28\xb5\x2f\xfd".starts_with(head)
                        || matches!(head, [0x50..=0x5f, rest @ ..] if b"\x2a\x4d\x18".starts_with(rest)))
            }
        }
    }

    fn by(head: &[u8]) -> Option<Format> {
        [Format::Gzip, Format::Zstd].into_iter().find(|format| format.begins(head))
    }

    fn name(self) -> &'static str {
        match self {
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
        }
    }
}

/// Compressed bytes that are counted, and of which some can be looked at before they are taken.
struct Input<R> {
    stream: BufReader<R>,
    ahead: Vec<u8>,
    taken: u64,
}

impl<R: Read> Input<R> {
    /// The next bytes: [`MAGIC`] of them, or all that are left.
    fn peek(&mut self) -> io::Result<&[u8]> {
        while self.ahead.len() < MAGIC {
            let Some(&byte) = self.stream.fill_buf()?.first() else { break };
            self.stream.consume(1);
            self.ahead.push(byte);
        }
        Ok(&self.ahead)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead.is_empty() { self.stream.fill_buf() } else { Ok(&self.ahead) }
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        if self.ahead.is_empty() {
            self.stream.consume(amount);
        } else {
            self.ahead.drain(..amount);
        }
    }
}

/// Decompresses one member or frame after the other. Zeros behind one are padding, as tapes and block devices leave it;
/// other bytes that begin none end the stream with a warning.
struct Members<R: Read> {
    format: Format,
    at: At<R>,
    place: String,
    /// Compressed bytes up to the end of the last whole one.
    whole: u64,
}

enum At<R: Read> {
    Between(Input<R>),
    Gzip(Box<GzDecoder<Input<R>>>),
    Zstd(ZstdDecoder<'static, Input<R>>),
    End,
}

impl<R: Read> Members<R> {
    fn new(format: Format, stream: R, place: &str) -> Members<R> {
        let input = Input { stream: BufReader::new(stream), ahead: Vec::new(), taken: 0 };
        Members { format, at: At::Between(input), place: place.to_owned(), whole: 0 }
    }

    /// Begins the next member or frame, if there is one.
    fn begin(&mut self) -> io::Result<()> {
        let At::Between(input) = &mut self.at else { return Ok(()) };
        let is_first = input.taken == 0;
        while !is_first && input.fill_buf()?.first() == Some(&0) {
            let zeros = input.fill_buf()?.iter().take_while(|byte| **byte == 0).count();
            input.consume(zeros);
        }
        let head = input.peek()?;
        let (is_end, begins, may_begin) = (head.is_empty(), self.format.begins(head), self.format.may_begin(head));
        let name = self.format.name();
        match std::mem::replace(&mut self.at, At::End) {
            At::Between(input) if begins => self.at = self.format.decoder(input)?,
            _ if is_end => {}
            _ if may_begin => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} that breaks off")));
            }
            _ if is_first => {
                let what = format!("it is no {name}; correct `compression`, or the file's name");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            _ => tracing::warn!(
                path = self.place,
                byte = self.whole,
                "other bytes follow the {name} data and are not read; if they are data, send them in a file of their own"
            ),
        }
        Ok(())
    }

    /// Behind a whole member or frame.
    fn end(&mut self) {
        let input = match std::mem::replace(&mut self.at, At::End) {
            At::Gzip(decoder) => decoder.into_inner(),
            At::Zstd(decoder) => decoder.finish(),
            other => return self.at = other,
        };
        self.whole = input.taken;
        self.at = At::Between(input);
    }
}

impl Format {
    fn decoder<R: Read>(self, input: Input<R>) -> io::Result<At<R>> {
        Ok(match self {
            Format::Gzip => At::Gzip(Box::new(GzDecoder::new(input))),
            Format::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                At::Zstd(decoder)
            }
        })
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.at {
                At::End => return Ok(0),
                At::Between(_) => {
                    self.begin()?;
                    continue;
                }
                At::Gzip(decoder) => decoder.read(buffer),
                At::Zstd(decoder) => decoder.read(buffer),
            };
            match read {
                Ok(0) => self.end(),
                // A decoder that failed would tell of a clean end the next time.
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    self.at = At::End;
                    return Err(error);
                }
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn member(compression: Compression, text: &[u8]) -> Vec<u8> {
        if compression == Compression::Zstd {
            return zstd::bulk::compress(text, 1).unwrap();
        }
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(text).unwrap();
        member.finish().unwrap()
    }

    /// What is read of the stream, and how reading ends.
    fn read(compression: Compression, stream: &[u8]) -> (String, Result<(), io::ErrorKind>) {
        let mut reader = compression.reader(io::Cursor::new(stream.to_vec()), "here");
        let mut text = Vec::new();
        let end = reader.read_to_end(&mut text).map(drop).map_err(|error| error.kind());
        (String::from_utf8(text).unwrap(), end)
    }

    #[test]
    fn members_are_read_through_padding_and_up_to_bytes_that_begin_none() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (one, two) = (member(compression, b"one\n"), member(compression, b"two\n"));
            let both = ("one\ntwo\n".to_owned(), Ok(()));
            assert_eq!(read(compression, &[&*one, &two].concat()), both);
            assert_eq!(read(compression, &[&*one, &[0; 70_000], &two, &[0; 3]].concat()), both);
            for garbage in [&b"garbage"[..], b"g", b"\x1f\x8c", b"\x28\xb5\x00\x00", b"\0\0g"] {
                let stream = [&*one, &two, garbage, &one].concat();
                assert_eq!(read(compression, &stream), both, "{garbage:?}");
                let end = compression.end_of_last_member(&*stream, "here");
                assert_eq!(end, (one.len() + two.len()) as u64, "{garbage:?}");
            }
            assert_eq!(read(compression, b""), (String::new(), Ok(())));
            assert_eq!(read(compression, b"plain\n").1, Err(io::ErrorKind::InvalidData));
            for length in 1..two.len() {
                let stream = [&*one, &two[..length]].concat();
                let (text, end) = read(compression, &stream);
                assert!(both.0.starts_with(&text) && text.starts_with("one\n"), "{text}");
                assert_eq!(end, Err(io::ErrorKind::UnexpectedEof), "{length} bytes of the second");
                assert_eq!(compression.end_of_last_member(&*stream, "here"), one.len() as u64);
            }
        }
    }

    #[test]
    fn frames_that_zstd_readers_skip_are_skipped_and_a_stream_is_known_by_one() {
        let skipped = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
        let stream = [&skipped[..], &member(Compression::Zstd, b"one\n"), skipped].concat();
        assert_eq!(read(Compression::Zstd, &stream), ("one\n".to_owned(), Ok(())));
        assert_eq!(Compression::Auto.or_by(&stream), Compression::Zstd);
    }
}
