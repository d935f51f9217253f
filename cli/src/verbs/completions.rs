//! `weir completions`

use crate::Exit;
use crate::args::Completions;

pub(super) fn run(args: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "weir", &mut script);
    crate::print::data(&String::from_utf8_lossy(&script));
    Exit::Ok
}
