//! The floor of the side-by-side benchmark as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    if weir_benches::floor::run() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
