//! `weir schema`

use crate::Exit;

pub(super) fn run() -> Exit {
    println!("{:#}", weir::config::schema());
    Exit::Ok
}
