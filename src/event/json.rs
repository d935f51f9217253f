//! JSON without taking it apart: one check of the whole document that also finds a few top-level fields.
//!
//! Bytes come in, as a source read them; [`scan`] says whether they are one JSON document (RFC 8259) and where
//! the wanted top-level fields stand in it. [`parse`] turns a document, or one value of it, into a VRL value and
//! [`splice`] puts changed fields back between the untouched bytes. What is accepted and what a value becomes is
//! what VRL's `parse_json` says, with three differences, all on purpose: depth is at most 128 (serde_json: 127),
//! invalid UTF-8 is an error instead of being replaced, and a byte order mark is an error.
//!
//! The check has two steps. `blocks` finds the unescaped quotes of 64 bytes at a time by SIMD comparisons, and
//! notes whether there are backslashes, control characters or bytes above ASCII at all. `walk` then goes over
//! the grammar, and jumps from the quote that opens a string to the one that closes it. So the cost follows the
//! number of tokens, not of bytes. Nothing here trusts the input: no unchecked index, no recursion while checking.

mod blocks;
mod numbers;
mod parse;
mod splice;
mod walk;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

pub use numbers::Numbers;
pub use parse::{parse, parse_range, parse_range_with, parse_with};
pub(crate) use parse::{parse_as_is, same_after_json, string_at};
pub use splice::{Edit, splice};
pub use walk::{check, scan};
pub(crate) use write::write_as_is;
pub use write::{write, write_str};

/// Arrays and objects inside one another, at most.
pub const MAX_DEPTH: usize = 128;

/// Why some bytes are not one JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid json at byte {offset}: {kind}")]
pub struct JsonError {
    /// Where in the bytes, counted from 0.
    pub offset: usize,
    /// What is wrong there.
    pub kind: JsonErrorKind,
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// Nothing but whitespace.
    #[error("the document is empty")]
    Empty,
    /// A value was due.
    #[error("expected a value")]
    ExpectedValue,
    /// A key was due.
    #[error("expected a key in quotes")]
    ExpectedKey,
    /// A colon was due.
    #[error("expected ':' after a key")]
    ExpectedColon,
    /// An object goes on or ends.
    #[error("expected ',' or '}}' in an object")]
    ExpectedCommaOrBrace,
    /// An array goes on or ends.
    #[error("expected ',' or ']' in an array")]
    ExpectedCommaOrBracket,
    /// A string without its closing quote.
    #[error("a string has no end")]
    UnclosedString,
    /// A raw control character inside a string.
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    /// A backslash with something else behind it than JSON knows.
    #[error("invalid escape in a string")]
    InvalidEscape,
    /// `\ud800` to `\udfff` other than as a pair.
    #[error("a \\u escape is half of a surrogate pair")]
    LoneSurrogate,
    /// Not UTF-8.
    #[error("a byte is not utf-8")]
    InvalidUtf8,
    /// Not a number as JSON spells them.
    #[error("this is no number of JSON; write it as 1, -2.5 or 1e3, and anything else, such as NaN or 0x1f, in quotes")]
    InvalidNumber,
    /// A number too large for 64-bit floating point.
    #[error("a number is larger than a 64-bit float holds (about 1.8e308); write it in quotes")]
    NumberOutOfRange,
    /// Deeper than [`MAX_DEPTH`].
    #[error("nested deeper than 128 levels")]
    TooDeep,
    /// Something follows the document.
    #[error("unexpected text after the document")]
    TrailingText,
}

/// The top-level fields someone wants to see, prepared for comparison.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    names: Vec<String>,
    /// Bit `n` is set when a name of `n` bytes is wanted; bit 63 stands for all longer ones.
    lengths: u64,
}

impl Fields {
    /// The set of these names, in this order; a name given twice counts once.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Fields {
        let mut fields = Fields::default();
        for name in names {
            let name = name.into();
            if !fields.names.contains(&name) {
                fields.lengths |= Self::length_bit(name.len());
                fields.names.push(name);
            }
        }
        fields
    }

    /// The wanted names; their places here are the indexes [`Found`] and [`Edit`]s use.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index of a name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|wanted| wanted == name)
    }

    fn length_bit(length: usize) -> u64 {
        1 << length.min(63)
    }

    /// The index of a key as it stands in the document, without escapes.
    #[inline]
    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.lengths & Self::length_bit(key.len()) == 0 {
            return None;
        }
        self.names.iter().position(|name| name.as_bytes() == key)
    }
}

/// What a [`scan`] found. Reuse one for many documents: it keeps its memory.
#[derive(Debug, Default)]
pub struct Found {
    blocks: blocks::Blocks,
    /// Every occurrence of a wanted name, in document order.
    entries: Vec<Entry>,
    /// The last occurrence of each wanted name, as an index into `entries`.
    last: Vec<Option<u32>>,
    /// The document's own braces, when it is an object.
    object: Option<Range<usize>>,
    members: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    field: usize,
    /// Of the `{` or `,` before the key.
    before: usize,
    value: Range<usize>,
    /// Of the `,` or `}` behind the value.
    after: usize,
}

impl Found {
    /// Where the value of the wanted name number `field` stands; of several, the last.
    pub fn get(&self, field: usize) -> Option<Range<usize>> {
        let entry = (*self.last.get(field)?)?;
        Some(self.entries.get(entry as usize)?.value.clone())
    }

    /// Whether the document is an object. If it is not, nothing can be found.
    pub fn is_object(&self) -> bool {
        self.object.is_some()
    }

    fn reset(&mut self, wanted: usize) {
        self.entries.clear();
        self.last.clear();
        self.last.resize(wanted, None);
        self.object = None;
        self.members = 0;
    }
}

/// A valid document on one line: for sinks that put a newline between documents.
///
/// In valid JSON a raw newline or carriage return is only ever whitespace, so it is left out and nothing else changes.
pub fn compact(doc: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr2(b'\n', b'\r', doc) else { return Cow::Borrowed(doc) };
    let mut line = Vec::with_capacity(doc.len());
    line.extend_from_slice(&doc[..first]);
    line.extend(doc[first..].iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')));
    Cow::Owned(line)
}
