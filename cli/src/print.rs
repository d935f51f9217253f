//! Printing to those who may have stopped reading: `println!` and `eprintln!` would panic then.
//!
//! Text for people never has characters that a terminal would act on, wherever they came from: [`outln`] and [`errln`] escape
//! them, but for newlines. A value that may hold newlines passes `terminal::line` first, so that it stays on its line.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use weir::terminal;

/// Something that was to be printed is lost, other than because nobody wants it.
static LOST: AtomicBool = AtomicBool::new(false);

/// A line for standard output.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($argument)*))) };
}

/// A line for programs, such as a JSON document: its bytes arrive as they are, unless a terminal shows them.
macro_rules! dataln {
    ($($argument:tt)*) => { $crate::print::data(&format!("{}\n", format_args!($($argument)*))) };
}

/// A line for standard error.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use {dataln, errln, outln};

/// Text for people, to standard output.
pub(crate) fn out(text: Arguments<'_>) {
    write(&terminal::lines(&text.to_string()));
}

/// Text for programs, to standard output.
pub(crate) fn data(text: &str) {
    if std::io::stdout().is_terminal() { write(&terminal::lines(text)) } else { write(text) }
}

/// Text that [`Screen`](crate::screen::Screen) has made safe, with colours of our own, to standard output.
pub(crate) fn out_as_is(text: &str) {
    write(text);
}

/// Clears the screen, where standard output is one.
pub(crate) fn clear() {
    if std::io::stdout().is_terminal() {
        write("\x1b[H\x1b[2J");
    }
}

/// A reader that has gone, as in `weir list | head -1`, has seen what it wanted.
fn write(text: &str) {
    let mut stream = std::io::stdout().lock();
    if let Err(error) = stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Relaxed)
    {
        errln!("cannot write to standard output: {error}");
    }
}

/// Text for people, to standard error.
pub(crate) fn err(text: Arguments<'_>) {
    err_as_is(&terminal::lines(&text.to_string()));
}

/// Text with colours of our own, to standard error. Where that is gone there is nobody left to tell.
pub(crate) fn err_as_is(text: &str) {
    let progress = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = match progress.as_str() {
        "" => std::borrow::Cow::Borrowed(text),
        progress => format!("{CLEAR_LINE}{text}{progress}").into(),
    };
    let _nobody_reads = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The last line of a terminal, which stays below what is printed meanwhile. Empty: there is none.
static PROGRESS: Mutex<String> = Mutex::new(String::new());

/// Back to the first column, and nothing on the line (ECMA-48, EL).
const CLEAR_LINE: &str = "\r\x1b[K";

/// Shows how far something is, in the place of what it said before; an empty text removes it. Only for terminals.
pub(crate) fn progress(text: &str) {
    let mut progress = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    if progress.is_empty() && text.is_empty() {
        return;
    }
    text.clone_into(&mut progress);
    let _nobody_reads = std::io::stderr().lock().write_all(format!("{CLEAR_LINE}{text}").as_bytes());
}

/// Whether all that was to be printed is where it was sent to.
pub(crate) fn is_complete() -> bool {
    !LOST.load(Relaxed)
}
