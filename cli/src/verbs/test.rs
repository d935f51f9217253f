//! `weir test`

use weir::graph::{Plan, run_tests};
use weir::terminal::line;

use crate::Exit;
use crate::args::Graph;
use crate::print::{errln, out_as_is, outln};
use crate::screen::{Screen, Style};

pub(super) fn run(args: &Graph) -> Exit {
    let graph = match super::graph_or_exit(super::load(args)) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let outcomes = match run_tests(&Plan::new(graph)) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            errln!("cannot run the tests: {error}");
            return Exit::Failed;
        }
    };
    let screen = Screen::out();
    let mut failed = 0;
    for outcome in &outcomes {
        let passed = outcome.differences.is_empty();
        failed += usize::from(!passed);
        let (word, style) = if passed { ("ok", Style::Good) } else { ("FAILED", Style::Bad) };
        out_as_is(&format!("{}{:pad$} {}\n", screen.paint(style, word), "", line(&outcome.name), pad = 6 - word.len()));
        for difference in &outcome.differences {
            outln!("  {difference}");
        }
    }
    if outcomes.is_empty() {
        outln!(
            "the graph has no tests; write some below `tests:`, each with the events to feed in and the events to expect"
        );
    }
    let style = if failed == 0 { Style::Good } else { Style::Bad };
    out_as_is(&format!("{}\n", screen.paint(style, &format!("{} passed, {failed} failed", outcomes.len() - failed))));
    if failed == 0 { Exit::Ok } else { Exit::Failed }
}
