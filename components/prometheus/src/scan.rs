//! Reading one line of text from left to right.

use weir::event::CodecError;

/// A line and how far it is read.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    pub line: &'a str,
    pub at: usize,
    /// The code of errors.
    pub code: &'static str,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8], code: &'static str) -> Result<Scan<'a>, CodecError> {
        let line = std::str::from_utf8(bytes)
            .map_err(|error| CodecError::new(code, format!("byte {}: not utf-8", error.valid_up_to())))?;
        Ok(Scan { line: line.trim_end_matches(['\r', '\n']), at: 0, code })
    }

    /// An error at this place.
    pub fn error(&self, what: impl std::fmt::Display) -> CodecError {
        CodecError::new(self.code, format!("byte {}: {what}", self.at))
    }

    pub fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    pub fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    /// Steps over this byte, if it is next.
    pub fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Steps over this byte, which must be next.
    pub fn needs(&mut self, byte: u8) -> Result<(), CodecError> {
        if self.takes(byte) { Ok(()) } else { Err(self.error(format_args!("expected `{}`", char::from(byte)))) }
    }

    pub fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Everything up to the next character for which `ends` holds; it is of ASCII.
    pub fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        &self.line[start..self.at]
    }

    /// The text between quotes that begins here; `escape` gives the character for what stands behind a backslash, and
    /// leaves the place behind it.
    pub fn quoted(&mut self, escape: impl Fn(&mut Scan<'a>) -> Option<char>) -> Result<String, CodecError> {
        let open = self.at;
        self.needs(b'"')?;
        let mut text = String::new();
        loop {
            text.push_str(self.until(|byte| matches!(byte, b'"' | b'\\')));
            if self.takes(b'"') {
                return Ok(text);
            }
            let at = self.at;
            if !self.takes(b'\\') {
                self.at = open;
                return Err(self.error("a quote is not closed"));
            }
            match escape(self) {
                Some(character) => text.push(character),
                None => {
                    self.at = at;
                    return Err(self.error("this is no escape"));
                }
            }
        }
    }

    /// The character that is next.
    pub fn character(&mut self) -> Option<char> {
        let character = self.rest().chars().next()?;
        self.at += character.len_utf8();
        Some(character)
    }
}

/// The escapes of Prometheus: `\\`, `\"` and `\n`.
pub(crate) fn prometheus_escape(scan: &mut Scan<'_>) -> Option<char> {
    match scan.character()? {
        'n' => Some('\n'),
        character @ ('"' | '\\') => Some(character),
        _ => None,
    }
}
