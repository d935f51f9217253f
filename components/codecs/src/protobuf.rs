//! Protobuf messages: schemas from `.proto` texts, and messages as the values that nodes see.

mod files;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;
use std::sync::PoisonError;

use bytes::Bytes;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{FileResolver, IncludeFileResolver};
use vrl::value::Value;
use weir::event::CodecError;

use self::files::{MAIN, Texts};
use crate::schema::SchemaText;
use crate::wire;

/// The messages of one file.
#[derive(Debug)]
pub(crate) struct Schema {
    file: FileDescriptor,
    message: MessageDescriptor,
    /// Where `message` is among the messages of the file.
    way: Vec<usize>,
}

impl Schema {
    /// Compiles a schema, and those it imports. The message is the first one unless it is named in full.
    pub fn compile(text: &SchemaText, message: Option<&str>) -> Result<Schema, String> {
        Schema::from_file(Texts(text.clone()), Path::new(MAIN), message)
    }

    /// Compiles a file; imports are looked for beside it.
    pub fn read(path: &Path, message: Option<&str>) -> Result<Schema, String> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Schema::from_file(IncludeFileResolver::new(folder.to_owned()), path, message)
    }

    fn from_file(own: impl FileResolver + 'static, path: &Path, message: Option<&str>) -> Result<Schema, String> {
        let (resolver, missing) = files::resolver(own);
        let mut compiler = Compiler::with_file_resolver(resolver);
        let failed = |error: protox::Error| {
            let missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
            let absent = if missing.is_empty() { "" } else { "; these imports are not there: " };
            format!("the schema cannot be used: {error}{absent}{}", missing.join(", "))
        };
        compiler.include_imports(true).open_file(path).map_err(failed)?;
        let name = compiler.files().last().map(|file| file.name().to_owned()).unwrap_or_default();
        let pool: DescriptorPool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(&name).ok_or("the schema cannot be used: it is not there")?;
        let found = match message {
            Some(message) => file.messages().enumerate().find_map(|(at, of)| find(of, message, vec![at])),
            None => file.messages().next().map(|of| (of, vec![0])),
        };
        let (message, way) = found.ok_or_else(|| match message {
            Some(message) => format!("the schema has no message {message}"),
            None => "the schema has no message".to_owned(),
        })?;
        Ok(Schema { file, message, way })
    }

    /// The full name of its message.
    pub fn name(&self) -> &str {
        self.message.full_name()
    }

    /// The value of one message. `is_framed`: it comes from behind a schema id, and the way to its message before it.
    pub fn decode(&self, bytes: &Bytes, is_framed: bool) -> Result<Value, CodecError> {
        let invalid = |what: String| CodecError::new("invalid_protobuf", what);
        let (message, bytes) = if is_framed {
            let found = wire::message_way(&bytes[..]);
            let (way, rest) = found.ok_or_else(|| invalid("the record does not say which message it is".to_owned()))?;
            let message = self.at(&way).ok_or_else(|| {
                let way: Vec<String> = way.iter().map(usize::to_string).collect();
                invalid(format!("the schema has no message at the indexes {} of the record", way.join(", ")))
            })?;
            (message, bytes.slice_ref(rest))
        } else {
            (self.message.clone(), bytes.clone())
        };
        let message = DynamicMessage::decode(message, bytes).map_err(|error| invalid(error.to_string()))?;
        Ok(value::of_message(&message))
    }

    /// Appends one message. `is_framed`: it stands behind a schema id.
    pub fn encode(&self, value: &Value, is_framed: bool, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let message = value::message_of(value, &self.message)?;
        if is_framed {
            wire::put_message_way(&self.way, out);
        }
        message.encode(out).map_err(|error| CodecError::new("does_not_fit_schema", error.to_string()))
    }

    /// The message at the end of a way.
    fn at(&self, way: &[usize]) -> Option<MessageDescriptor> {
        let (first, rest) = way.split_first()?;
        rest.iter().try_fold(self.file.messages().nth(*first)?, |message, at| children(&message).nth(*at))
    }
}

/// The messages inside a message, as its author wrote them: those that stand for maps are not counted.
fn children(message: &MessageDescriptor) -> impl Iterator<Item = MessageDescriptor> {
    message.child_messages().filter(|child| !child.is_map_entry()).collect::<Vec<_>>().into_iter()
}

fn find(message: MessageDescriptor, name: &str, way: Vec<usize>) -> Option<(MessageDescriptor, Vec<usize>)> {
    if message.full_name() == name {
        return Some((message, way));
    }
    children(&message).enumerate().find_map(|(at, child)| find(child, name, [&way[..], &[at]].concat()))
}
