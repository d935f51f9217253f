//! Printing to those who may have stopped reading: `println!` and `eprintln!` would panic then.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Something that was to be printed is lost, other than because nobody wants it.
static LOST: AtomicBool = AtomicBool::new(false);

/// A line for standard output.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($argument)*))) };
}

/// A line for standard error.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use {errln, outln};

/// To standard output. A reader that has gone, as in `weir list | head -1`, has seen what it wanted.
pub(crate) fn out(text: Arguments<'_>) {
    let mut stream = std::io::stdout().lock();
    if let Err(error) = stream.write_fmt(text).and_then(|()| stream.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Relaxed)
    {
        errln!("cannot write to standard output: {error}");
    }
}

/// To standard error. Where that is gone there is nobody left to tell.
pub(crate) fn err(text: Arguments<'_>) {
    let _nobody_reads = std::io::stderr().lock().write_fmt(text);
}

/// Whether all that was to be printed is where it was sent to.
pub(crate) fn is_complete() -> bool {
    !LOST.load(Relaxed)
}
