//! `weir schema`

use crate::Exit;
use crate::print::dataln;

pub(super) fn run() -> Exit {
    dataln!("{:#}", weir::config::schema());
    Exit::Ok
}
