//! Schemas of both formats, as the codecs use them.

use std::path::Path;

use bytes::Bytes;
use vrl::value::Value;
use weir::event::CodecError;

use crate::{avro, protobuf};

/// Bytes of a schema file, at most.
const LONGEST: u64 = 4 << 20;

/// What a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Avro,
    Protobuf,
}

impl Format {
    /// As a registry calls it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Avro => "AVRO",
            Format::Protobuf => "PROTOBUF",
        }
    }

    /// As the codec is called.
    pub fn codec(self) -> &'static str {
        match self {
            Format::Avro => "avro",
            Format::Protobuf => "protobuf",
        }
    }
}

/// A schema, and those it refers to, by the names it uses.
#[derive(Debug, Clone)]
pub(crate) struct SchemaText {
    pub text: String,
    pub references: Vec<(String, String)>,
}

/// A schema ready for use.
#[derive(Debug)]
pub(crate) enum Schema {
    Avro(avro::Schema),
    Protobuf(protobuf::Schema),
}

impl Schema {
    /// `message` names the message of a Protobuf schema; its first one otherwise.
    pub fn compile(format: Format, text: &SchemaText, message: Option<&str>) -> Result<Schema, String> {
        Ok(match format {
            Format::Avro => {
                let references: Vec<String> = text.references.iter().map(|(_, text)| text.clone()).collect();
                Schema::Avro(avro::Schema::parse(&text.text, &references)?)
            }
            Format::Protobuf => Schema::Protobuf(protobuf::Schema::compile(text, message)?),
        })
    }

    /// From a file; a Protobuf file's imports are looked for beside it.
    pub fn read(format: Format, path: &Path, message: Option<&str>) -> Result<(Schema, SchemaText), String> {
        let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let bytes = weir::files::read(path, LONGEST).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is no UTF-8 text", path.display()))?;
        let text = SchemaText { text, references: Vec::new() };
        let schema = match format {
            Format::Avro => Schema::compile(format, &text, message),
            Format::Protobuf => protobuf::Schema::read(path, message).map(Schema::Protobuf),
        };
        Ok((schema.map_err(|why| format!("{}: {why}", path.display()))?, text))
    }

    /// The full name of the record or message.
    pub fn name(&self) -> Option<&str> {
        match self {
            Schema::Avro(schema) => schema.name(),
            Schema::Protobuf(schema) => Some(schema.name()),
        }
    }

    /// The value of a record. `is_framed`: it comes from behind a schema id.
    pub fn decode(&self, bytes: &Bytes, is_framed: bool) -> Result<Value, CodecError> {
        match self {
            Schema::Avro(schema) => schema.decode(bytes),
            Schema::Protobuf(schema) => schema.decode(bytes, is_framed),
        }
    }

    /// Appends a record. `is_framed`: it stands behind a schema id.
    pub fn encode(&self, value: &Value, is_framed: bool, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Schema::Avro(schema) => schema.encode(value, out),
            Schema::Protobuf(schema) => schema.encode(value, is_framed, out),
        }
    }
}
