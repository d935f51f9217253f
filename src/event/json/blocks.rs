//! The first step of a check: bitmaps over 64 bytes at a time.

use wide::u8x16;

use super::{JsonError, JsonErrorKind};

const BLOCK: usize = 64;

/// Bitmaps of one document: bit `i` of word `b` speaks of byte `64 * b + i`.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Quotes without a backslash that escapes them.
    quotes: Vec<u64>,
    /// Backslashes that begin an escape. Empty when the document has no backslash.
    escapes: Vec<u64>,
    /// Control characters, whether inside a string or not. Empty when there are none.
    controls: Vec<u64>,
    /// Whether there is a byte above 0x7f.
    pub(super) non_ascii: bool,
}

/// What a block of 64 bytes holds.
struct Masks {
    quotes: u64,
    backslashes: u64,
    controls: u64,
    non_ascii: u64,
}

#[inline]
fn masks(block: &[u8; BLOCK]) -> Masks {
    let quote = u8x16::splat(b'"');
    let backslash = u8x16::splat(b'\\');
    let last_control = u8x16::splat(0x1f);
    let mut masks = Masks { quotes: 0, backslashes: 0, controls: 0, non_ascii: 0 };
    let (parts, _) = block.as_chunks::<16>();
    for (part, bytes) in parts.iter().enumerate() {
        let bytes = u8x16::new(*bytes);
        let shift = 16 * part;
        masks.quotes |= u64::from(bytes.simd_eq(quote).to_bitmask()) << shift;
        masks.backslashes |= u64::from(bytes.simd_eq(backslash).to_bitmask()) << shift;
        masks.controls |= u64::from(bytes.min(last_control).simd_eq(bytes).to_bitmask()) << shift;
        masks.non_ascii |= u64::from(bytes.to_bitmask()) << shift;
    }
    masks
}

impl Blocks {
    /// Reads the document once.
    pub(super) fn read(&mut self, doc: &[u8]) {
        self.quotes.clear();
        self.escapes.clear();
        self.controls.clear();
        let mut non_ascii = 0;
        // Whether the last backslash of the block before escapes the first byte of this one.
        let mut escaped = false;

        let (blocks, rest) = doc.as_chunks::<BLOCK>();
        for block in blocks {
            non_ascii |= self.push(&masks(block), &mut escaped);
        }
        if !rest.is_empty() {
            let mut last = [b' '; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            non_ascii |= self.push(&masks(&last), &mut escaped);
        }
        self.non_ascii = non_ascii != 0;
    }

    #[inline]
    fn push(&mut self, masks: &Masks, escaped: &mut bool) -> u64 {
        let mut quotes = masks.quotes;
        if masks.backslashes != 0 || *escaped {
            let (escapes, escaped_bytes) = escapes(masks.backslashes, escaped);
            quotes &= !escaped_bytes;
            self.escapes.resize(self.quotes.len(), 0);
            self.escapes.push(escapes);
        }
        if masks.controls != 0 {
            self.controls.resize(self.quotes.len(), 0);
            self.controls.push(masks.controls);
        }
        self.quotes.push(quotes);
        masks.non_ascii
    }

    /// Word `block` of the quotes.
    #[inline]
    pub(super) fn quotes(&self, block: usize) -> Option<u64> {
        self.quotes.get(block).copied()
    }

    /// Whether an escape begins in a range of bytes.
    pub(super) fn escape_in(&self, start: usize, end: usize) -> bool {
        if self.escapes.is_empty() || start >= end {
            return false;
        }
        let (first, last) = (start / BLOCK, (end - 1) / BLOCK);
        (first..=last).any(|block| {
            let mut word = self.escapes.get(block).copied().unwrap_or(0);
            if block == first {
                word &= u64::MAX << (start % BLOCK);
            }
            if block == last {
                word &= u64::MAX >> (BLOCK - 1 - (end - 1) % BLOCK);
            }
            word != 0
        })
    }

    /// No control character stands inside a string. Only for a document whose quotes pair up.
    pub(super) fn check_controls(&self) -> Result<(), JsonError> {
        // All ones while the block begins inside a string.
        let mut inside = 0u64;
        for (block, controls) in self.controls.iter().enumerate() {
            let mut mask = self.quotes.get(block).copied().unwrap_or(0);
            // Prefix xor: bit `i` becomes the parity of the quotes up to `i`, which is 1 inside a string.
            for shift in [1, 2, 4, 8, 16, 32] {
                mask ^= mask << shift;
            }
            mask ^= inside;
            let bad = controls & mask;
            if bad != 0 {
                let offset = BLOCK * block + bad.trailing_zeros() as usize;
                return Err(JsonError { offset, kind: JsonErrorKind::ControlCharacter });
            }
            inside = 0u64.wrapping_sub(mask >> 63);
        }
        Ok(())
    }

    /// Every escape is one that JSON knows. Only for a document whose backslashes are all inside strings.
    pub(super) fn check_escapes(&self, doc: &[u8]) -> Result<(), JsonError> {
        // Where the second half of a surrogate pair has been seen already.
        let mut second_half = usize::MAX;
        for (block, word) in self.escapes.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                let offset = BLOCK * block + word.trailing_zeros() as usize;
                word &= word - 1;
                if offset == second_half {
                    continue;
                }
                match doc.get(offset + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => match code_unit(doc, offset) {
                        None => return Err(JsonError { offset, kind: JsonErrorKind::InvalidEscape }),
                        Some(0xd800..=0xdbff) => {
                            second_half = offset + 6;
                            if !matches!(code_unit(doc, second_half), Some(0xdc00..=0xdfff)) {
                                return Err(JsonError { offset, kind: JsonErrorKind::LoneSurrogate });
                            }
                        }
                        Some(0xdc00..=0xdfff) => {
                            return Err(JsonError { offset, kind: JsonErrorKind::LoneSurrogate });
                        }
                        Some(_) => {}
                    },
                    _ => return Err(JsonError { offset, kind: JsonErrorKind::InvalidEscape }),
                }
            }
        }
        Ok(())
    }
}

/// Splits backslashes into those that begin an escape, and gives the bytes they escape.
fn escapes(backslashes: u64, escaped: &mut bool) -> (u64, u64) {
    let mut starts = 0;
    let mut escaped_bytes = u64::from(*escaped);
    *escaped = false;
    // Only the few backslashes there are cost time, and each escape takes the byte behind it out.
    let mut left = backslashes & !escaped_bytes;
    while left != 0 {
        let start = left & left.wrapping_neg();
        starts |= start;
        match start.checked_shl(1).filter(|next| *next != 0) {
            Some(next) => {
                escaped_bytes |= next;
                left &= !(start | next);
            }
            None => {
                *escaped = true;
                left = 0;
            }
        }
    }
    (starts, escaped_bytes)
}

/// The four hexadecimal digits of `\uXXXX` at `offset`.
pub(super) fn code_unit(doc: &[u8], offset: usize) -> Option<u16> {
    let escape = doc.get(offset..offset.checked_add(6)?)?;
    if escape[0] != b'\\' || escape[1] != b'u' {
        return None;
    }
    escape[2..].iter().try_fold(0u16, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}
