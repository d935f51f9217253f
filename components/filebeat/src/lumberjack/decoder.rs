//! From bytes to frames, as they come.

use flate2::{Decompress, FlushDecompress, Status};

use super::buffer::Buffer;
use super::frame::{Broken, Frame, VERSION};

/// Bytes that are decompressed at once.
const STEP: usize = 32 << 10;
/// Bytes of one frame that are decompressed without being allowed.
const ALLOWANCE: usize = 2 * STEP;
/// Memory of what decompresses: its window, and its tables.
const INFLATER: usize = 48 << 10;

/// How large things may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of an event.
    pub frame: usize,
    /// Bytes of a compressed frame, compressed or not.
    pub decompressed: usize,
}

/// Takes bytes in any portions, and gives out whole frames. It holds what belongs to one frame that is not whole, and no more
/// than a step of what is decompressed besides.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// As they came.
    wire: Buffer,
    /// What the compressed frame holds that is being read.
    inner: Buffer,
    compressed: Option<Compressed>,
    /// Kept from frame to frame.
    inflater: Option<Box<Decompress>>,
    /// Bytes that `inner` may hold.
    allowance: usize,
    /// More would be decompressed if it might hold more.
    is_starved: bool,
}

/// A compressed frame that is being read.
#[derive(Debug)]
struct Compressed {
    /// Bytes of it that have not been taken from the wire.
    left: usize,
    /// Bytes it may still become.
    allowed: usize,
    /// Nothing more comes of it.
    is_ended: bool,
}

/// What stands at the beginning of some bytes.
enum Head {
    Window(u32),
    Event {
        sequence: u32,
        length: usize,
    },
    Compressed {
        length: usize,
    },
    /// More bytes have to come.
    Part,
}

/// Bytes before an event's own.
const EVENT_HEAD: usize = 10;
/// Bytes before a compressed frame's own, and of a window.
const SHORT_HEAD: usize = 6;

impl Decoder {
    /// One for a connection that begins.
    pub fn new(limits: Limits) -> Decoder {
        Decoder {
            limits,
            wire: Buffer::default(),
            inner: Buffer::default(),
            compressed: None,
            inflater: None,
            allowance: ALLOWANCE,
            is_starved: false,
        }
    }

    /// Where the bytes that come next are put, behind those that are there: at least `least` fit.
    pub fn room(&mut self, least: usize) -> &mut Vec<u8> {
        self.wire.room(least)
    }

    /// The next frame; `None`: more bytes have to come first, or [`wants`](Self::wants) says how much memory. After an error it
    /// is of no use any more.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        loop {
            let is_inner = self.compressed.is_some();
            let source = if is_inner { &self.inner } else { &self.wire };
            match head(source.bytes(), &self.limits)? {
                Head::Window(count) => {
                    self.source(is_inner).take(SHORT_HEAD);
                    return Ok(Some(Frame::Window(count)));
                }
                Head::Event { sequence, length } => {
                    let source = self.source(is_inner);
                    source.take(EVENT_HEAD);
                    return Ok(Some(Frame::Event { sequence, body: source.take(length) }));
                }
                Head::Compressed { .. } if is_inner => return Err(Broken::Nested),
                Head::Compressed { length } => {
                    self.wire.take(SHORT_HEAD);
                    self.inflater.get_or_insert_with(|| Box::new(Decompress::new(true))).reset(true);
                    self.compressed =
                        Some(Compressed { left: length, allowed: self.limits.decompressed, is_ended: false });
                }
                Head::Part => match self.inflate()? {
                    true => {}
                    false => return Ok(None),
                },
            }
        }
    }

    fn source(&mut self, is_inner: bool) -> &mut Buffer {
        if is_inner { &mut self.inner } else { &mut self.wire }
    }

    /// Decompresses a step of the compressed frame, or ends it. False: that takes more bytes.
    fn inflate(&mut self) -> Result<bool, Broken> {
        let (Some(frame), Some(inflater)) = (&mut self.compressed, &mut self.inflater) else { return Ok(false) };
        let there = frame.left.min(self.wire.bytes().len());
        if frame.is_ended {
            // What stands behind the end of the zlib stream means nothing.
            self.wire.take(there);
            frame.left -= there;
            if frame.left > 0 {
                return Ok(false);
            }
            if !self.inner.bytes().is_empty() {
                return Err(Broken::Torn);
            }
            self.compressed = None;
            self.allowance = ALLOWANCE;
            return Ok(true);
        }
        if self.inner.bytes().len() + STEP > self.allowance {
            self.is_starved = true;
            return Ok(false);
        }
        if there == 0 && frame.left > 0 {
            return Ok(false);
        }
        let input = self.wire.bytes().get(..there).unwrap_or_default();
        let output = self.inner.room(STEP);
        let (read, written) = (inflater.total_in(), output.len());
        let status = inflater.decompress_vec(input, output, FlushDecompress::None).map_err(|_| Broken::Zlib)?;
        let written = output.len() - written;
        let read = usize::try_from(inflater.total_in() - read).unwrap_or(there);
        self.wire.take(read);
        frame.left -= read.min(frame.left);
        frame.allowed = frame.allowed.checked_sub(written).ok_or(Broken::Decompressed(self.limits.decompressed))?;
        // A sender may flush the stream and not end it: it is over when nothing comes of it any more.
        frame.is_ended = status == Status::StreamEnd || (frame.left == 0 && written == 0);
        if read == 0 && written == 0 && !frame.is_ended {
            return Err(Broken::Zlib);
        }
        Ok(true)
    }

    /// What it has to be [allowed](Self::allow) to go on, where it is not for bytes that it waits: a few bytes become many.
    pub fn wants(&self) -> Option<usize> {
        self.is_starved.then_some(2 * self.allowance)
    }

    /// It may hold so much of a frame that is being decompressed.
    pub fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
        self.is_starved = false;
    }

    /// Whether no part of a frame waits for its rest.
    pub fn is_between_frames(&self) -> bool {
        self.compressed.is_none() && self.wire.bytes().is_empty()
    }

    /// Gives back the memory that is not needed between frames.
    pub fn rest(&mut self) {
        if self.is_between_frames() {
            self.wire.rest();
            self.inner.rest();
            self.inflater = None;
        }
    }

    /// Bytes of memory it holds.
    pub fn footprint(&self) -> usize {
        self.wire.footprint() + self.inner.footprint() + self.inflater.as_ref().map_or(0, |_| INFLATER)
    }
}

/// What is wrong with a frame is said as soon as the bytes that show it are there.
fn head(bytes: &[u8], limits: &Limits) -> Result<Head, Broken> {
    let Some(version) = bytes.first() else { return Ok(Head::Part) };
    if *version != VERSION {
        return Err(Broken::version(*version));
    }
    let Some(kind) = bytes.get(1) else { return Ok(Head::Part) };
    let (first, second) = (number(bytes, 2), number(bytes, 6));
    match (kind, first, second) {
        (b'W', Some(count), _) => Ok(Head::Window(count)),
        (b'C', Some(length), _) => match size(length) {
            length if length > limits.decompressed => Err(Broken::Decompressed(limits.decompressed)),
            length => Ok(Head::Compressed { length }),
        },
        (b'J', Some(_), Some(0)) => Err(Broken::EmptyEvent),
        (b'J', Some(sequence), Some(length)) => match size(length) {
            size if size > limits.frame => Err(Broken::Frame(length, limits.frame)),
            length if bytes.len() - EVENT_HEAD < length => Ok(Head::Part),
            length => Ok(Head::Event { sequence, length }),
        },
        (b'W' | b'C' | b'J', _, _) => Ok(Head::Part),
        (other, _, _) => Err(Broken::Type(*other)),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
