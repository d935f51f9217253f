//! Text from outside, made safe to show on a terminal.
//!
//! Events, dead letters and answers of peers may hold escape sequences, which move the cursor, change the title of the
//! window or answer as if the user had typed, and characters that change the order in which text is read. All text that
//! weir prints for people passes one of these functions.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes what a terminal would act on, but for tabs and newlines. Within a JSON document only strings can hold such
/// characters, and what is written instead means the same there.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n')
}

/// Escapes what a terminal would act on, and newlines, so that a value cannot pass for further lines of output.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same as [`line()`] for a line with colours of our own, whose values have no escape sequences any more.
pub fn coloured_line(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\u{1b}')
}

/// The character, or a blank in place of one that a terminal would act on: for text whose columns count.
pub(crate) fn blank(c: char) -> char {
    if is_acted_on(c) || c == '\t' { ' ' } else { c }
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| is_acted_on(c) && !is_kept(c);
    let Some(first) = text.find(acts) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            c if !acts(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // All of them have one UTF-16 unit, so this is how JSON escapes them, too. Writing to a String cannot fail.
            c => drop(write!(out, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Control characters (C0 without tab, DEL, C1), and invisible ones that change the order of text or hide in it. U+200C and
/// U+200D stay: scripts and emoji need them.
fn is_acted_on(c: char) -> bool {
    let is_invisible = matches!(
        c,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    (c.is_control() && c != '\t') || is_invisible
}

/// Text that does what [`line`] prevents, for tests of what prints: the title of the window, a cleared screen by ESC and by
/// C1, a backspace, DEL, a carriage return, a reversed reading order, and a forged line.
#[doc(hidden)]
pub const HOSTILE: &str = "a\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}2J\u{8}\u{7f}\rb\u{202e}c\u{200b}\nok  forged";

/// What is left in a printed text that [`lines`] would escape.
#[doc(hidden)]
pub fn hostile_in(text: &str) -> String {
    text.chars().filter(|c| is_acted_on(*c) && *c != '\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_hidden_ones_are_escaped_and_text_is_not() {
        for harmless in
            ["", "plain\ttext", "gr\u{fc}\u{df}e \u{645}\u{6cc}\u{200c}\u{62e} \u{1f469}\u{200d}\u{1f680}", "\\u001b"]
        {
            assert!(matches!(line(harmless), Cow::Borrowed(same) if same == harmless), "{harmless}");
        }
        for c in (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).filter(|c| *c != '\t') {
            assert!(!line(&c.to_string()).contains(c), "{c:?}");
        }
        let escaped = r"a\u001b]0;x\u0007\u001b[2J\u009b2J\u0008\u007f\rb\u202ec\u200b\nok  forged";
        assert_eq!(line(HOSTILE), escaped);
        assert_eq!(lines(HOSTILE), escaped.replace(r"\n", "\n"));
        assert_eq!((hostile_in(HOSTILE).chars().count(), hostile_in(escaped).len()), (9, 0));
    }

    #[test]
    fn a_json_document_still_says_the_same() {
        let value = serde_json::json!({ "text": HOSTILE });
        let shown = format!("{value:#}");
        let safe = lines(&shown);
        assert_eq!(hostile_in(&safe), "");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
