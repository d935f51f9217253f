//! The wire format of Protocol Buffers, as far as these messages use it: fields from left to right, in the bytes they lie in.

/// A stretch of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Its bytes; those of another body are none.
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start..self.end).unwrap_or_default()
    }

    pub fn len(self) -> usize {
        self.end - self.start
    }
}

/// Bytes that are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub(crate) struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint(u64),
    Fixed64(u64),
    /// A text, a message, or numbers behind one another.
    Bytes(Span),
    Fixed32,
}

/// A field: where it begins, its number, its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub at: usize,
    pub number: u32,
    pub wire: Wire,
}

impl Field {
    fn wrong(self) -> Malformed {
        Malformed { at: self.at, what: "a field has the wrong wire type" }
    }

    pub fn bytes(self) -> Result<Span, Malformed> {
        if let Wire::Bytes(span) = self.wire { Ok(span) } else { Err(self.wrong()) }
    }

    pub fn varint(self) -> Result<u64, Malformed> {
        if let Wire::Varint(number) = self.wire { Ok(number) } else { Err(self.wrong()) }
    }

    /// An `int64`.
    #[allow(clippy::cast_possible_wrap, reason = "negative numbers are written as their two's complement")]
    pub fn int(self) -> Result<i64, Malformed> {
        Ok(self.varint()? as i64)
    }

    pub fn double(self) -> Result<f64, Malformed> {
        if let Wire::Fixed64(bits) = self.wire { Ok(f64::from_bits(bits)) } else { Err(self.wrong()) }
    }

    /// The numbers of a `repeated` field of varints: one, or packed, several.
    pub fn varints(self, body: &[u8], mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        match self.wire {
            Wire::Varint(number) => each(number),
            Wire::Bytes(span) => {
                let mut fields = Fields::new(body, span);
                while fields.at < fields.end {
                    each(fields.varint()?);
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// The numbers of a `repeated double`: one, or packed, several.
    pub fn doubles(self, body: &[u8], mut each: impl FnMut(f64)) -> Result<(), Malformed> {
        match self.wire {
            Wire::Fixed64(bits) => each(f64::from_bits(bits)),
            Wire::Bytes(span) => {
                let (all, rest) = span.of(body).as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Malformed { at: self.at, what: "packed doubles are no multiple of 8 bytes" });
                }
                all.iter().for_each(|bytes| each(f64::from_le_bytes(*bytes)));
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }
}

/// A `sint32` or `sint64`.
#[allow(clippy::cast_possible_wrap, reason = "that is how the format is defined")]
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The fields of a message.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    body: &'a [u8],
    pub at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// Those of a message that lies there.
    pub fn new(body: &'a [u8], span: Span) -> Fields<'a> {
        let end = span.end.min(body.len());
        Fields { body: &body[..end], at: span.start.min(end), end }
    }

    /// Those of a message that is the whole.
    pub fn all(body: &'a [u8]) -> Fields<'a> {
        Fields { body, at: 0, end: body.len() }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.body.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for at in 0..10 {
            let byte = *self.body.get(self.at + at).ok_or_else(|| self.malformed("the message breaks off"))?;
            if at == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.at += at + 1;
                return Ok(number);
            }
        }
        Err(self.malformed("a number has more than 64 bits"))
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    fn take(&mut self, bytes: u64) -> Result<Span, Malformed> {
        let left = (self.end - self.at) as u64;
        if bytes > left {
            return Err(self.malformed("the message breaks off"));
        }
        let start = self.at;
        self.at += usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Span { start, end: self.at })
    }

    /// The next one.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<Field>, Malformed> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(Malformed { at, what: "this is no number of a field" })?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.of(self.body);
                Wire::Fixed64(bytes.try_into().map_or(0, u64::from_le_bytes))
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            3 | 4 => return Err(Malformed { at, what: "a group, which these messages do not have" }),
            _ => return Err(Malformed { at, what: "this is no wire type" }),
        };
        Ok(Some(Field { at, number, wire }))
    }
}
