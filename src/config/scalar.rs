//! From bytes of a YAML text's value back to bytes of its file.
//!
//! The parser says where a text stands, not which of its bytes became which. The text is read a second time
//! here, and the result is only used when it comes to the same value: an unforeseen case costs precision,
//! never truth.

/// For every byte of `value`, and for its end, the byte of `raw` it comes from. `raw` is what stands in the
/// file: quotes included, a block text from its first character on.
pub(crate) fn origins(raw: &str, value: &str) -> Option<Vec<usize>> {
    let quoted = match raw.as_bytes().first() {
        Some(b'"') => double_quoted(raw),
        Some(b'\'') => single_quoted(raw),
        _ => None,
    };
    match quoted {
        Some(read) if read.value == value => Some(read.origins),
        _ => lines(raw, value),
    }
}

/// A value as it is put together.
#[derive(Default)]
struct Reading {
    value: String,
    origins: Vec<usize>,
}

impl Reading {
    fn push(&mut self, c: char, from: usize) {
        self.value.push(c);
        self.origins.extend(std::iter::repeat_n(from, c.len_utf8()));
    }

    /// A line break within quotes, with the blanks around it: one is a blank, more are one line break fewer.
    /// Gives the byte behind it.
    fn fold(&mut self, raw: &str, at: usize) -> usize {
        let rest = &raw[at..];
        let gap = &rest[..rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len()];
        while self.value.ends_with([' ', '\t']) && self.origins.last().is_some_and(|from| is_blank(raw, *from)) {
            self.value.pop();
            self.origins.pop();
        }
        match gap.matches('\n').count() {
            0 | 1 => self.push(' ', at),
            breaks => (1..breaks).for_each(|_| self.push('\n', at)),
        }
        at + gap.len()
    }

    fn end(mut self, at: usize) -> Option<Reading> {
        self.origins.push(at);
        Some(self)
    }
}

fn is_blank(raw: &str, at: usize) -> bool {
    matches!(raw.as_bytes().get(at), Some(b' ' | b'\t'))
}

fn single_quoted(raw: &str) -> Option<Reading> {
    let mut read = Reading::default();
    let mut at = 1;
    loop {
        let c = raw.get(at..)?.chars().next()?;
        match c {
            '\'' if raw[at + 1..].starts_with('\'') => {
                read.push('\'', at);
                at += 2;
            }
            '\'' => return read.end(at),
            '\r' | '\n' => at = read.fold(raw, at),
            other => {
                read.push(other, at);
                at += other.len_utf8();
            }
        }
    }
}

fn double_quoted(raw: &str) -> Option<Reading> {
    let mut read = Reading::default();
    let mut at = 1;
    loop {
        let c = raw.get(at..)?.chars().next()?;
        match c {
            '"' => return read.end(at),
            '\r' | '\n' => at = read.fold(raw, at),
            '\\' => at = escape(raw, at, &mut read)?,
            other => {
                read.push(other, at);
                at += other.len_utf8();
            }
        }
    }
}

/// Reads the escape at `at`; gives the byte behind it.
fn escape(raw: &str, at: usize, read: &mut Reading) -> Option<usize> {
    let c = raw.get(at + 1..)?.chars().next()?;
    let behind = at + 1 + c.len_utf8();
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let plain = match c {
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\x0b',
        'f' => '\x0c',
        'r' => '\r',
        'e' => '\x1b',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        'x' | 'u' | 'U' => char::from_u32(u32::from_str_radix(raw.get(behind..behind + digits)?, 16).ok()?)?,
        '\r' | '\n' => {
            // The break is nothing, and so is the indentation behind it.
            let rest = &raw[at + 1..];
            let rest = rest.strip_prefix('\r').unwrap_or(rest);
            let rest = rest.strip_prefix('\n').unwrap_or(rest);
            return Some(raw.len() - rest.trim_start_matches([' ', '\t']).len());
        }
        other => other,
    };
    read.push(plain, at);
    Some(behind + digits)
}

/// Plain and block texts: line by line, for only the white space between them differs.
fn lines(raw: &str, value: &str) -> Option<Vec<usize>> {
    let mut origins: Vec<usize> = Vec::with_capacity(value.len() + 1);
    let mut start = 0;
    for line in raw.split_inclusive('\n') {
        let words = line.trim_matches([' ', '\t', '\r', '\n']);
        let begin = start + line.len() - line.trim_start_matches([' ', '\t', '\r', '\n']).len();
        if !words.is_empty() {
            let rest = value.get(origins.len()..)?;
            let gap = rest.len() - rest.trim_start_matches([' ', '\t', '\n']).len();
            rest[gap..].starts_with(words).then_some(())?;
            // White space before the words is the indentation that belongs to the value.
            origins.extend((0..gap).rev().map(|back| begin.saturating_sub(back + 1).max(start.saturating_sub(1))));
            origins.extend(begin..begin + words.len());
        }
        start += line.len();
    }
    let rest = value.get(origins.len()..)?;
    rest.trim_matches([' ', '\t', '\n']).is_empty().then_some(())?;
    let last = origins.last().map_or(0, |last| last + 1);
    origins.extend((0..=rest.len()).map(|more| (last + more).min(raw.len())));
    Some(origins)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::origins;

    /// Where `needle` of the value stands in the raw text.
    fn found(raw: &str, value: &str, needle: &str) -> String {
        let origins = origins(raw, value).unwrap();
        assert_eq!(origins.len(), value.len() + 1);
        assert!(origins.is_sorted(), "{origins:?}");
        let at = value.find(needle).unwrap();
        raw[origins[at]..origins[at + needle.len()]].to_owned()
    }

    #[test]
    fn bytes_of_a_value_lead_to_the_bytes_they_were_written_as() {
        assert_eq!(found("a b", "a b", "b"), "b");
        assert_eq!(found("a\n   b", "a b", "b"), "b");
        assert_eq!(found("'x''y z'", "x'y z", "z"), "z");
        assert_eq!(found("'x''y z'", "x'y z", "'"), "''");
        assert_eq!(found(r#""x\"y\u00e4 z""#, "x\"yä z", "ä"), r"\u00e4");
        assert_eq!(found("\"x \\\n   y z\"", "x y z", "z"), "z");
        assert_eq!(found("'a  \n\n  b c'", "a\nb c", "c"), "c");
        assert_eq!(found("one\n   two\n\n  three\n", "one\n two\n\nthree\n", "three"), "three");
        assert_eq!(found("f\r\n  g\r\n\r\n  h\r\n", "f g\nh", "h"), "h");
        assert_eq!(found("\"q\" == x\n", "\"q\" == x\n", "x"), "x");
    }

    #[test]
    fn a_value_that_is_not_the_text_has_no_origins() {
        assert_eq!(origins("*alias", "value"), None);
        assert_eq!(origins("\"open", "open"), None);
    }
}
