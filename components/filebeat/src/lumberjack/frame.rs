//! The frames, and what can be wrong with them.

/// The version's byte, which every frame begins with.
pub(super) const VERSION: u8 = b'2';

/// What a sender says.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// So many events come.
    Window(u32),
    /// One of them.
    Event {
        /// Its number in the window.
        sequence: u32,
        /// Its JSON, not looked at.
        body: &'a [u8],
    },
}

/// The frame that acknowledges an event, and all before it in its window.
pub fn acknowledgement(sequence: u32) -> [u8; 6] {
    let [a, b, c, d] = sequence.to_be_bytes();
    [VERSION, b'A', a, b, c, d]
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The protocol's first version.
    #[error(
        "it speaks version 1 of Lumberjack, as logstash-forwarder did, and only version 2 is taken; send by Filebeat"
    )]
    Version1,
    /// TLS, where none is expected.
    #[error("it speaks TLS, and this source has no `tls`; set `tls`, or send without `output.logstash.ssl`")]
    Tls,
    /// Something else.
    #[error("a frame begins with byte {0:#04x}, which is no version of Lumberjack; only Beats may send here")]
    Version(u8),
    /// A frame of another type.
    #[error("a frame has type {0:#04x}, and only windows, JSON events and compressed frames are taken")]
    Type(u8),
    /// A window with too many events.
    #[error(
        "a window is of {0} events, and at most {1} are taken; raise `max_window`, or lower the sender's `bulk_max_size`"
    )]
    Window(u32, u32),
    /// An event without a byte, which is no JSON.
    #[error("an event is of 0 bytes, which is no JSON; no Beat sends that")]
    EmptyEvent,
    /// An event that is too large.
    #[error("an event is of {0} bytes, and at most {1} are taken; raise `max_frame_size`")]
    Frame(u32, usize),
    /// A compressed frame, or a window, that is too large when it is decompressed.
    #[error("a window is above {0} bytes; raise `max_decompressed_size`, or lower the sender's `bulk_max_size`")]
    Decompressed(usize),
    /// A compressed frame in a compressed frame.
    #[error("a compressed frame is inside another one")]
    Nested,
    /// Bytes that are not zlib.
    #[error("a compressed frame is not zlib")]
    Zlib,
    /// A compressed frame ends within a frame.
    #[error("a compressed frame ends within a frame")]
    Torn,
    /// An event without a window.
    #[error("an event comes outside of a window")]
    NoWindow,
    /// A window begins before the last one has ended.
    #[error("a window begins and {0} events of the last one have not come")]
    Unfinished(u32),
}

impl Broken {
    /// What to call a first byte that is not [`VERSION`].
    pub(super) fn version(byte: u8) -> Broken {
        match byte {
            b'1' => Broken::Version1,
            // A record of the type "handshake".
            0x16 => Broken::Tls,
            other => Broken::Version(other),
        }
    }

    /// One stable word for it, in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Broken::Version1 => "version_1",
            Broken::Tls => "tls_not_expected",
            Broken::Version(_) | Broken::Type(_) => "not_lumberjack",
            Broken::Window(..) => "window_too_large",
            Broken::EmptyEvent => "empty_event",
            Broken::Frame(..) => "frame_too_large",
            Broken::Decompressed(_) => "decompressed_too_large",
            Broken::Nested => "nested",
            Broken::Zlib | Broken::Torn => "bad_compression",
            Broken::NoWindow | Broken::Unfinished(_) => "bad_window",
        }
    }
}
