//! Compressed streams: how one is known, and read.

use std::io::{self, BufReader, Read};
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

/// The largest window of a zstd frame, as a power of two: what the frame may make us keep in memory.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What gzip members and zstd frames begin with.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// How a file or stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// By its name: `.gz` is gzip, `.zst` is zstd; where it is read, otherwise by its first bytes.
    #[default]
    Auto,
    /// Plain.
    None,
    /// gzip, one member or several.
    Gzip,
    /// zstd, one frame or several.
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
            Compression::Auto if head.starts_with(GZIP) => Compression::Gzip,
            Compression::Auto if head.starts_with(ZSTD) => Compression::Zstd,
            other => other,
        }
    }

    /// Whether there is any.
    pub(crate) fn is_some(self) -> bool {
        !matches!(self, Compression::Auto | Compression::None)
    }

    /// The stream decompressed.
    pub(crate) fn reader(self, stream: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(stream))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(stream)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::Auto | Compression::None => Box::new(stream),
        })
    }

    /// A stream without a name, decompressed by its first bytes where nothing else was said.
    pub(crate) fn reader_by_head(self, mut stream: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let mut head = Vec::new();
        // A person's first line shall not wait for more than what tells.
        let may_be = |head: &[u8]| [GZIP, ZSTD].iter().any(|magic| magic.len() > head.len() && magic.starts_with(head));
        while self == Compression::Auto && may_be(&head) {
            if (&mut stream).take(1).read_to_end(&mut head)? == 0 {
                break;
            }
        }
        let compression = self.or_by(&head);
        compression.reader(io::Cursor::new(head).chain(stream))
    }
}
