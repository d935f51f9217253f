//! `weir schema`

use crate::Exit;
use crate::print::outln;

pub(super) fn run() -> Exit {
    outln!("{:#}", weir::config::schema());
    Exit::Ok
}
