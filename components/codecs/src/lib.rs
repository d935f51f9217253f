#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod avro;
mod cri;
mod csv;
mod logfmt;
mod protobuf;
mod registry;
mod schema;
mod syslog;
#[cfg(test)]
mod testing;
mod text;
mod wire;
mod with_schema;

pub use cri::CriDecoding;
pub use csv::{CsvDecoding, CsvEncoding, Quoting};
pub use logfmt::{LogfmtDecoding, LogfmtEncoding};
pub use registry::{RegistryTls, SchemaRegistry};
pub use syslog::{SyslogDecoding, SyslogEncoding};
pub use with_schema::{AvroDecoding, AvroEncoding, ProtobufDecoding, ProtobufEncoding, SubjectNameStrategy};
