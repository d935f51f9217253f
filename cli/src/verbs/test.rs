//! `weir test`

use weir::graph::{Plan, run_tests};
use weir::terminal::line;

use crate::Exit;
use crate::args::Graph;
use crate::print::{errln, outln};

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
    let mut failed = 0;
    for outcome in &outcomes {
        let passed = outcome.differences.is_empty();
        failed += usize::from(!passed);
        outln!("{} {}", if passed { "ok    " } else { "FAILED" }, line(&outcome.name));
        for difference in &outcome.differences {
            outln!("  {difference}");
        }
    }
    if outcomes.is_empty() {
        outln!("the graph has no tests; they stand under `tests:`, each with what is fed in and what is to come out");
    }
    outln!("{} passed, {failed} failed", outcomes.len() - failed);
    if failed == 0 { Exit::Ok } else { Exit::Failed }
}
