//! What is printed to: how wide it is, and whether it shows colours.

use std::borrow::Cow;
use std::io::IsTerminal;

use weir::terminal;

/// Columns of a terminal whose size is not known.
const DEFAULT_WIDTH: usize = 80;

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns of the terminal; `None`: no terminal, lines may be as long as they are.
    pub width: Option<usize>,
    pub has_colour: bool,
}

/// Role of a text, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
    Faint,
}

impl Style {
    /// The number of an SGR sequence (ECMA-48).
    fn code(self) -> Option<&'static str> {
        match self {
            Style::Plain => None,
            Style::Heading => Some("1"),
            Style::Good => Some("32"),
            Style::Doubtful => Some("33"),
            Style::Bad => Some("1;31"),
            Style::Faint => Some("2"),
        }
    }
}

impl Screen {
    /// Standard output.
    pub fn out() -> Screen {
        Screen::of(&std::io::stdout(), terminal_size::terminal_size_of(std::io::stdout()))
    }

    /// Standard error.
    pub fn err() -> Screen {
        Screen::of(&std::io::stderr(), terminal_size::terminal_size_of(std::io::stderr()))
    }

    fn of(stream: &impl IsTerminal, size: Option<(terminal_size::Width, terminal_size::Height)>) -> Screen {
        let is_terminal = stream.is_terminal();
        let width = size.map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0)).max(1);
        Screen { width: is_terminal.then_some(width), has_colour: is_terminal && wants_colour() }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(self) -> bool {
        self.width.is_some()
    }

    /// Text from anywhere as it may be printed, on one line.
    pub fn paint(self, style: Style, text: &str) -> Cow<'_, str> {
        let text = terminal::line(text);
        match style.code().filter(|_| self.has_colour && !text.is_empty()) {
            Some(code) => Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")),
            None => text,
        }
    }

    /// Text broken at blanks so that each line fits behind `indent` columns; the first line is not indented. Where there is no
    /// terminal it stays on one line.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let text = terminal::line(text);
        let Some(width) = self.width.filter(|width| *width > indent + 20) else { return text.into_owned() };
        let mut lines = vec![String::new()];
        let mut used = indent;
        for word in text.split(' ') {
            let length = word.chars().count();
            if used > indent && used + 1 + length > width {
                lines.push(String::new());
                used = indent;
            }
            if let Some(line) = lines.last_mut() {
                if used > indent {
                    line.push(' ');
                    used += 1;
                }
                line.push_str(word);
            }
            used += length;
        }
        lines.join(&format!("\n{:indent$}", ""))
    }
}

/// By the conventions of no-color.org: any value of `NO_COLOR` turns colours off. So does a terminal that knows none.
pub(crate) fn wants_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Screen = Screen { width: Some(40), has_colour: true };
    const FILE: Screen = Screen { width: None, has_colour: false };

    #[test]
    fn text_has_colour_on_a_terminal_alone_and_never_that_of_others() {
        assert_eq!(NARROW.paint(Style::Good, "ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(NARROW.paint(Style::Good, "\x1b[31mred"), "\x1b[32m\\u001b[31mred\x1b[0m");
        assert_eq!((FILE.paint(Style::Bad, "ok"), NARROW.paint(Style::Plain, "ok")), ("ok".into(), "ok".into()));
    }

    #[test]
    fn text_is_broken_at_blanks_where_the_terminal_ends() {
        let text = "one two three four five six seven eight nine ten";
        assert_eq!(NARROW.wrap(text, 10), "one two three four five six\n          seven eight nine ten");
        assert_eq!(FILE.wrap(text, 10), text);
        let long = "a".repeat(100);
        assert_eq!(NARROW.wrap(&format!("{long} b"), 10), format!("{long}\n          b"));
    }
}
