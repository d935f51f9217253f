//! `weir completions`

use clap::CommandFactory;

use crate::Exit;
use crate::args::{Args, Completions};

pub(super) fn run(args: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "weir", &mut script);
    crate::print::out(format_args!("{}", String::from_utf8_lossy(&script)));
    Exit::Ok
}
