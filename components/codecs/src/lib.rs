#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod cri;
mod csv;
mod logfmt;
mod syslog;
#[cfg(test)]
mod testing;
mod text;

pub use cri::CriDecoding;
pub use csv::{CsvDecoding, CsvEncoding, Quoting};
pub use logfmt::{LogfmtDecoding, LogfmtEncoding};
pub use syslog::{SyslogDecoding, SyslogEncoding};
