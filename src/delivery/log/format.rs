//! Bytes of heads and records, both ways; the format is explained in [`super`].

/// Bytes of a file's head.
pub(super) const HEAD: u64 = 36;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEAD: u64 = 28;
/// The same in version 1.
pub(super) const HEAD_1: u64 = 16;
pub(super) const RECORD_HEAD_1: u64 = 8;

const NAME: &[u8; 7] = b"WEIRLOG";
const VERSION: u8 = 2;

/// What every record of a file begins with.
pub(super) type Marker = [u8; 8];

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Version 1.
    One,
    /// Version 2.
    Two {
        /// The number behind the last record of the files before it.
        after: u64,
        marker: Marker,
    },
    /// Of ours, and damaged: what may be the marker.
    Damaged(Marker),
    /// Of another version, or of another number than its name says.
    Unknown(&'static str),
}

pub(super) fn head(first: u64, after: u64, marker: Marker) -> Vec<u8> {
    let mut bytes = NAME.to_vec();
    bytes.push(VERSION);
    bytes.extend(first.to_le_bytes());
    bytes.extend(after.to_le_bytes());
    bytes.extend(marker);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Reads the first bytes of the file that is named by `first`; they may be fewer than a head.
pub(super) fn read_head(bytes: &[u8], first: u64) -> Head {
    if bytes.starts_with(NAME) && bytes.get(7) == Some(&1) {
        return match bytes.get(8..16) {
            Some(number) if number == first.to_le_bytes() => Head::One,
            Some(_) => Head::Unknown("the file's name and its head disagree"),
            None => Head::Damaged(Marker::default()),
        };
    }
    let Some(bytes) = bytes.first_chunk::<{ HEAD as usize }>() else { return Head::Damaged(Marker::default()) };
    let is_whole = |bytes: &[u8]| crc32fast::hash(&bytes[..32]).to_le_bytes() == bytes[32..];
    let (number, after, marker) = (u64_at(bytes, 8), u64_at(bytes, 16), marker_at(bytes, 24));
    if bytes.starts_with(NAME) && bytes[7] == VERSION && is_whole(bytes) {
        return match number == first {
            true => Head::Two { after, marker },
            false => Head::Unknown("the file's name and its head disagree"),
        };
    }
    // Every version from 2 on has its checksum there: another version that is whole is no flipped bit.
    match bytes.starts_with(NAME) && bytes[7] != VERSION && is_whole(bytes) {
        true => Head::Unknown("not a weir log of version 1 or 2"),
        false => Head::Damaged(marker),
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub number: u64,
    pub length: u32,
    payload_crc: u32,
}

impl RecordHead {
    /// Bytes of the whole record.
    pub fn size(self) -> u64 {
        RECORD_HEAD + u64::from(self.length)
    }

    pub fn fits(self, payload: &[u8]) -> bool {
        crc32fast::hash(payload) == self.payload_crc
    }
}

/// Appends the record to `out`. The caller has checked the length.
pub(super) fn record(marker: Marker, number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(marker);
    out.extend(number.to_le_bytes());
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend(crc.to_le_bytes());
    out.extend(payload);
}

/// Reads what stands before a payload; `None` where it is not whole.
pub(super) fn read_record_head(marker: Marker, bytes: &[u8]) -> Option<RecordHead> {
    let bytes = bytes.first_chunk::<{ RECORD_HEAD as usize }>()?;
    let is_whole = bytes[..8] == marker && crc32fast::hash(&bytes[..24]).to_le_bytes() == bytes[24..];
    is_whole.then(|| RecordHead { number: u64_at(bytes, 8), length: u32_at(bytes, 16), payload_crc: u32_at(bytes, 20) })
}

/// Length and checksum of a record of version 1.
pub(super) fn read_record_head_1(bytes: &[u8]) -> Option<(u32, u32)> {
    let bytes = bytes.first_chunk::<{ RECORD_HEAD_1 as usize }>()?;
    Some((u32_at(bytes, 0), u32_at(bytes, 4)))
}

/// The checksum of a record of version 1.
pub(super) fn checksum_1(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The marker at a place; zeros behind the end.
pub(super) fn marker_at(bytes: &[u8], at: usize) -> Marker {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(marker_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
