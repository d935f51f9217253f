//! The command line of weir, one file a verb.
//!
//! A third party builds its own binary: `use my_plugin as _; fn main() -> ExitCode { weir_cli::main() }`.

mod args;
mod counts;
mod keys;
mod logging;
mod plugins;
mod print;
pub mod reference;
mod screen;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Events and buffers come and go by the million: the allocator was chosen by measurement, see
/// docs/architecture.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a verb ends; the numbers are the process's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok = 0,
    /// It failed at run time.
    Failed = 1,
    /// The arguments are wrong, as clap has it.
    Usage = 2,
    /// The configuration is bad (`EX_CONFIG`).
    BadConfig = 78,
}

/// Reads the arguments and does what they say. Wrong usage exits with 2.
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    let exit = match verbs::dispatch(args.verb) {
        Exit::Ok if !print::is_complete() => Exit::Failed,
        exit => exit,
    };
    ExitCode::from(exit as u8)
}

/// The command line, for whoever documents it or checks what is documented.
pub fn command() -> clap::Command {
    args::Args::command()
}
