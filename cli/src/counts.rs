//! What became of the events of a run, as a table.

use weir::delivery::BookTotals;

use crate::screen::{Screen, Style};
use crate::table::{Table, grouped, number, text};

/// A row for each node; what is not as it should be stands out.
pub(crate) fn table(nodes: &[(String, BookTotals)], screen: Screen) -> String {
    let mut columns = vec![
        text("node"),
        number("received"),
        number("passed"),
        number("filtered"),
        number("in state"),
        number("emitted"),
        number("dead letters"),
    ];
    // Columns that are zero in a run that went well.
    let (any_failed, any_in_flight) = nodes
        .iter()
        .fold((false, false), |(failed, open), (_, books)| (failed || books.failed > 0, open || books.in_flight() > 0));
    columns.extend(any_failed.then(|| number("failed")));
    columns.extend(any_in_flight.then(|| number("in flight")));
    let mut table = Table::new(columns);
    table.indent = 2;
    for (node, books) in nodes {
        let plain = |count: u64| (grouped(count), Style::Plain);
        let bad = |count: u64, style: Style| (grouped(count), if count > 0 { style } else { Style::Plain });
        let BookTotals { received, passed, filtered, absorbed, dead_lettered, failed, emitted } = *books;
        let mut row = vec![(node.clone(), Style::Plain)];
        row.extend([received, passed, filtered, absorbed, emitted].map(plain));
        row.push(bad(dead_lettered, Style::Bad));
        row.extend(any_failed.then(|| bad(failed, Style::Bad)));
        row.extend(any_in_flight.then(|| bad(books.in_flight(), Style::Doubtful)));
        table.styled(row);
    }
    table.render(screen)
}

/// The sum of what became dead letters.
pub(crate) fn dead_letters(nodes: &[(String, BookTotals)]) -> u64 {
    nodes.iter().map(|(_, books)| books.dead_lettered).sum()
}
