//! The second step of a check: the grammar, from token to token.

use std::ops::Range;

use super::blocks::Blocks;
use super::{Entry, Fields, Found, JsonError, JsonErrorKind, MAX_DEPTH};

/// Checks that the bytes are one JSON document.
pub fn check(doc: &[u8]) -> Result<(), JsonError> {
    scan(doc, &Fields::default(), &mut Found::default())
}

/// Checks that the bytes are one JSON document, and finds the wanted top-level fields on the way.
///
/// A name that occurs more than once is found where it occurs last. A key is compared by what it says, so
/// `"\u0061"` is `a`.
pub fn scan(doc: &[u8], fields: &Fields, found: &mut Found) -> Result<(), JsonError> {
    found.reset(fields.names.len());
    let mut blocks = std::mem::take(&mut found.blocks);
    blocks.read(doc);
    let checked = walk_all(doc, &blocks, fields, found);
    found.blocks = blocks;
    checked
}

fn walk_all(doc: &[u8], blocks: &Blocks, fields: &Fields, found: &mut Found) -> Result<(), JsonError> {
    let quotes = blocks.quotes(0).unwrap_or(0);
    Walk { doc, blocks, at: 0, block: 0, quotes }.document(fields, found)?;
    // These two lean on what the walk has shown: quotes pair up, and backslashes are inside strings.
    blocks.check_controls()?;
    blocks.check_escapes(doc)?;
    if blocks.non_ascii
        && let Err(error) = std::str::from_utf8(doc)
    {
        return Err(JsonError { offset: error.valid_up_to(), kind: JsonErrorKind::InvalidUtf8 });
    }
    Ok(())
}

/// The open arrays and objects, one bit each.
#[derive(Default)]
struct Nesting {
    depth: usize,
    /// The lowest bit is the innermost; 1 is an object.
    objects: u128,
}

impl Nesting {
    #[inline]
    fn open(&mut self, object: bool) -> bool {
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.depth <= MAX_DEPTH
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

struct Walk<'a> {
    doc: &'a [u8],
    blocks: &'a Blocks,
    at: usize,
    /// The block `quotes` belongs to.
    block: usize,
    /// The quotes of this block that have not been passed.
    quotes: u64,
}

impl Walk<'_> {
    fn document(mut self, fields: &Fields, found: &mut Found) -> Result<(), JsonError> {
        let mut nesting = Nesting::default();
        let mut byte = self.token();
        if self.at >= self.doc.len() {
            return self.fail(JsonErrorKind::Empty);
        }
        // The wanted field whose value is being walked, and where its member and its value begin.
        let mut open: Option<(usize, usize, usize)> = None;

        'value: loop {
            // `byte`, at `self.at`, must begin a value.
            let mut object_begins = false;
            match byte {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    object_begins = byte == b'{';
                    let begin = self.at;
                    if !nesting.open(object_begins) {
                        return self.fail(JsonErrorKind::TooDeep);
                    }
                    if nesting.depth == 1 && object_begins {
                        found.object = Some(begin..begin);
                    }
                    self.at += 1;
                    byte = self.token();
                    let close = if object_begins { b'}' } else { b']' };
                    if byte != close {
                        if !object_begins {
                            continue 'value;
                        }
                    } else {
                        if nesting.depth == 1 && object_begins {
                            found.object = Some(begin..self.at);
                        }
                        object_begins = false;
                        nesting.close();
                        self.at += 1;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return self.fail(JsonErrorKind::ExpectedValue),
            }

            if !object_begins {
                // A value has ended right before `self.at`.
                loop {
                    if nesting.depth == 0 {
                        self.token();
                        if self.at < self.doc.len() {
                            return self.fail(JsonErrorKind::TrailingText);
                        }
                        return Ok(());
                    }
                    let end = self.at;
                    byte = self.token();
                    if nesting.depth == 1
                        && let Some((field, before, start)) = open.take()
                    {
                        found.last[field] = Some(found.entries.len() as u32);
                        found.entries.push(Entry { field, before, value: start..end, after: self.at });
                    }
                    if byte == b',' {
                        break;
                    }
                    if nesting.in_object() {
                        if byte != b'}' {
                            return self.fail(JsonErrorKind::ExpectedCommaOrBrace);
                        }
                        if nesting.depth == 1
                            && let Some(object) = &mut found.object
                        {
                            object.end = self.at;
                        }
                    } else if byte != b']' {
                        return self.fail(JsonErrorKind::ExpectedCommaOrBracket);
                    }
                    nesting.close();
                    self.at += 1;
                }
                if !nesting.in_object() {
                    self.at += 1;
                    byte = self.token();
                    continue 'value;
                }
            }

            // A key is due. Behind a comma `self.at` is the comma; behind `{` it is the first token.
            let before = self.at;
            if !object_begins {
                self.at += 1;
                byte = self.token();
            }
            if byte != b'"' {
                return self.fail(JsonErrorKind::ExpectedKey);
            }
            let key = self.string()?;
            byte = self.token();
            if byte != b':' {
                return self.fail(JsonErrorKind::ExpectedColon);
            }
            self.at += 1;
            byte = self.token();
            if nesting.depth == 1 {
                found.members += 1;
                if let Some(field) = self.wanted(fields, key) {
                    // The first member begins behind the brace, wherever its key stands.
                    let before = match &found.object {
                        Some(object) if object_begins => object.start,
                        _ => before,
                    };
                    open = Some((field, before, self.at));
                }
            }
        }
    }

    /// Skips whitespace; gives the byte there, or 0 at the end. (0 begins no token.)
    #[inline(always)]
    fn token(&mut self) -> u8 {
        let mut byte = self.peek();
        while byte <= b' ' && matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
            byte = self.peek();
        }
        byte
    }

    #[inline(always)]
    fn peek(&self) -> u8 {
        self.doc.get(self.at).copied().unwrap_or(0)
    }

    /// Passes a string that begins at `self.at`; gives the range between its quotes.
    #[inline(always)]
    fn string(&mut self) -> Result<Range<usize>, JsonError> {
        let start = self.at + 1;
        // The first quote not passed is the one that opens this string.
        self.next_quote();
        match self.next_quote() {
            Some(end) => {
                self.at = end + 1;
                Ok(start..end)
            }
            None => self.fail(JsonErrorKind::UnclosedString),
        }
    }

    #[inline(always)]
    fn next_quote(&mut self) -> Option<usize> {
        while self.quotes == 0 {
            self.quotes = self.blocks.quotes(self.block + 1)?;
            self.block += 1;
        }
        let quote = 64 * self.block + self.quotes.trailing_zeros() as usize;
        self.quotes &= self.quotes - 1;
        Some(quote)
    }

    #[inline]
    fn wanted(&self, fields: &Fields, key: Range<usize>) -> Option<usize> {
        if fields.names.is_empty() {
            return None;
        }
        if self.blocks.escape_in(key.start, key.end) {
            // An invalid escape gives no key here, and an error at the end of the check.
            let quoted = self.doc.get(key.start - 1..key.end + 1)?;
            let key: String = serde_json::from_slice(quoted).ok()?;
            return fields.find(key.as_bytes());
        }
        fields.find(self.doc.get(key)?)
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if self.doc.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        self.fail(JsonErrorKind::ExpectedValue)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return self.fail(JsonErrorKind::InvalidNumber),
        }
        let whole = self.at - start;
        if self.peek() == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        let mut exponent = false;
        if matches!(self.peek(), b'e' | b'E') {
            exponent = true;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        // Below 1e300 nothing overflows; what is left is rare, and serde_json judges it.
        if exponent || whole > 300 {
            let spelled = self.doc.get(start..self.at).unwrap_or_default();
            if serde_json::from_slice::<f64>(spelled).is_err() {
                return Err(JsonError { offset: start, kind: JsonErrorKind::NumberOutOfRange });
            }
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_ascii_digit() {
            return self.fail(JsonErrorKind::InvalidNumber);
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }

    #[cold]
    fn fail<T>(&self, kind: JsonErrorKind) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at.min(self.doc.len()), kind })
    }
}
