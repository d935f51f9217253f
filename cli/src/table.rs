//! Tables with aligned columns.

use crate::screen::{Screen, Style};

/// A column. Where a terminal is too narrow for all, those with the highest `spare` go first; 0 stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub heading: &'static str,
    pub align: Align,
    pub spare: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A column of text.
pub(crate) const fn text(heading: &'static str) -> Column {
    Column { heading, align: Align::Left, spare: 0 }
}

/// A column of numbers.
pub(crate) const fn number(heading: &'static str) -> Column {
    Column { heading, align: Align::Right, spare: 0 }
}

impl Column {
    /// The same column, which may go.
    pub const fn spare(self, spare: u8) -> Column {
        Column { spare, ..self }
    }
}

/// Columns and rows; a row has a cell for each column.
#[derive(Debug)]
pub(crate) struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<(String, Style)>>,
    /// Blanks in front of each line.
    pub indent: usize,
}

/// Blanks between columns; one where the terminal is too narrow.
const GAP: usize = 2;
/// A cell of text is cut to no less.
const SHORTEST: usize = 8;

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<Column>) -> Table {
        Table { columns, rows: Vec::new(), indent: 0 }
    }

    /// Adds a row of plain cells.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.styled(cells.into_iter().map(|cell| (cell, Style::Plain)));
    }

    /// Adds a row.
    pub fn styled(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        let safe = |(text, style): (String, Style)| (weir::terminal::line(&text).into_owned(), style);
        self.rows.push(cells.into_iter().map(safe).collect());
    }

    /// The table as lines, each with its newline, which fit the screen as far as the columns that have to stay let them.
    pub fn render(&self, screen: Screen) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.heading.len()).collect();
        for row in &self.rows {
            for (width, (cell, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let mut gap = GAP;
        if let Some(width) = screen.width {
            gap = self.fit(width.saturating_sub(self.indent), &mut shown, &mut widths);
        }
        let mut out = String::new();
        let headings = shown.iter().map(|at| (self.columns[*at].heading, Style::Heading));
        self.line(&mut out, headings, (&shown, &widths, gap), screen);
        for row in &self.rows {
            let cells =
                shown.iter().map(|at| row.get(*at).map_or(("", Style::Plain), |(cell, style)| (&**cell, *style)));
            self.line(&mut out, cells, (&shown, &widths, gap), screen);
        }
        out
    }

    /// Leaves out and cuts columns until they fit; gives the gap between them.
    fn fit(&self, width: usize, shown: &mut Vec<usize>, widths: &mut [usize]) -> usize {
        let taken = |shown: &[usize], widths: &[usize], gap: usize| {
            shown.iter().map(|at| widths[*at]).sum::<usize>() + gap * shown.len().saturating_sub(1)
        };
        loop {
            if taken(shown, widths, GAP) <= width {
                return GAP;
            }
            let next = (0..shown.len()).max_by_key(|at| (self.columns[shown[*at]].spare, *at));
            match next.filter(|at| self.columns[shown[*at]].spare > 0) {
                Some(at) if taken(shown, widths, 1) > width => drop(shown.remove(at)),
                _ => break,
            }
        }
        // Columns of text can be cut.
        let excess = taken(shown, widths, 1).saturating_sub(width);
        let longest = shown.iter().copied().filter(|at| self.columns[*at].align == Align::Left);
        if let Some(at) = longest.max_by_key(|at| widths[*at]) {
            widths[at] = widths[at].saturating_sub(excess).max(SHORTEST.min(widths[at]));
        }
        1
    }

    fn line<'a>(
        &self,
        out: &mut String,
        cells: impl Iterator<Item = (&'a str, Style)>,
        (shown, widths, gap): (&[usize], &[usize], usize),
        screen: Screen,
    ) {
        let mut line = " ".repeat(self.indent);
        for (number, ((cell, style), at)) in cells.zip(shown).enumerate() {
            if number > 0 {
                line.push_str(&" ".repeat(gap));
            }
            let cell = cut(cell, widths[*at]);
            let blanks = " ".repeat(widths[*at] - cell.chars().count());
            let painted = screen.paint(style, &cell);
            match self.columns[*at].align {
                Align::Left => line.extend([&*painted, &*blanks]),
                Align::Right => line.extend([&*blanks, &*painted]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The text, or its beginning.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let begin: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{begin}…")
}

/// A number with commas between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most five characters.
pub(crate) fn short(number: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut number, mut unit) = (number, 0);
    // A number that rounds to four digits uses the next unit.
    while number >= 999.5 && unit + 1 < units.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    match (unit, number) {
        (0, _) => format!("{number:.0}"),
        (_, number) if number < 9.995 => format!("{number:.2}{}", units[unit]),
        (_, number) if number < 99.95 => format!("{number:.1}{}", units[unit]),
        (_, number) => format!("{number:.0}{}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![text("node"), text("type").spare(2), number("in/s"), number("lag").spare(1)];
        let mut table = Table::new(columns);
        table.row(["a-long-name-of-a-node", "kafka", "1", "20"].map(str::to_owned));
        table
            .styled([("b", Style::Bad), ("file", Style::Plain), ("123", Style::Plain)].map(|(c, s)| (c.to_owned(), s)));
        table
    }

    #[test]
    fn columns_are_aligned_and_the_spare_ones_go_first() {
        let at = |width: Option<usize>| table().render(Screen { width, has_colour: false });
        let wide = "node                   type   in/s  lag\na-long-name-of-a-node  kafka     1   20\nb                      file    123\n";
        assert_eq!(at(None), wide);
        assert_eq!(at(Some(80)), wide);
        assert_eq!(
            at(Some(33)),
            "node                   in/s  lag\na-long-name-of-a-node     1   20\nb                       123\n"
        );
        assert_eq!(at(Some(14)), "node      in/s\na-long-n…    1\nb          123\n");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table().render(Screen { width: Some(80), has_colour: true });
        assert!(coloured.contains("\x1b[1;31mb\x1b[0m                      file"), "{coloured:?}");
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 7.4, 999.4, 999.6, 1234.0, 12_345.0, 999_949.0, 999_999.0, 12_345_678.0, 1e15];
        let expected = ["0", "7", "999", "1.00k", "1.23k", "12.3k", "1.00M", "1.00M", "12.3M", "1.00P"];
        assert_eq!(numbers.map(short), expected);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
