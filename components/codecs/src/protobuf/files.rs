//! Where the files of a schema come from, and what is left of them.
//!
//! Bytes depend on messages, enums and their fields. Services, extensions, options, defaults and reserved numbers do not matter
//! to them, and an import may be there for nothing else: such details are left out, so that a mistake in them, or a file that is
//! not there, costs nobody a record.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FieldDescriptorProto, FieldOptions, FileDescriptorProto,
    UninterpretedOption,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::schema::SchemaText;

/// The name under which a registry's schema is compiled.
pub(super) const MAIN: &str = "the schema";

/// Imports that were not found.
pub(super) type Missing = Arc<Mutex<Vec<String>>>;

/// Finds files with `own`, then among those that come with Protobuf; what is nowhere is an empty file, and noted.
pub(super) fn resolver(own: impl FileResolver + 'static) -> (ChainFileResolver, Missing) {
    let missing = Missing::default();
    let mut chain = ChainFileResolver::new();
    chain.add(Plain(own));
    chain.add(GoogleFileResolver::new());
    chain.add(Absent(missing.clone()));
    (chain, missing)
}

/// Texts by the names that imports have for them.
pub(super) struct Texts(pub SchemaText);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = if name == MAIN {
            Some(&self.0.text)
        } else {
            self.0.references.iter().find(|(other, _)| other == name).map(|(_, text)| text)
        };
        match text {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }

    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }
}

struct Absent(Missing);

impl FileResolver for Absent {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        Ok(File::from(FileDescriptorProto { name: Some(name.to_owned()), ..FileDescriptorProto::default() }))
    }
}

/// Files without what does not matter.
struct Plain<R>(R);

impl<R: FileResolver> FileResolver for Plain<R> {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let mut file = FileDescriptorProto::from(self.0.open_file(name)?);
        file.options = None;
        file.service.clear();
        file.extension.clear();
        // It counts what was left out.
        file.source_code_info = None;
        file.message_type.iter_mut().for_each(strip_message);
        file.enum_type.iter_mut().for_each(strip_enum);
        Ok(File::from(file))
    }

    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.0.resolve_path(path)
    }
}

fn strip_message(message: &mut DescriptorProto) {
    message.extension.clear();
    message.extension_range.clear();
    message.reserved_range.clear();
    message.reserved_name.clear();
    if let Some(options) = &mut message.options {
        // That it is an entry of a map is no option that somebody wrote.
        options.uninterpreted_option.clear();
    }
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.field.iter_mut().for_each(strip_field);
    message.enum_type.iter_mut().for_each(strip_enum);
    message.nested_type.iter_mut().for_each(strip_message);
}

fn strip_field(field: &mut FieldDescriptorProto) {
    field.default_value = None;
    let packed = field.options.take().and_then(|options| flag("packed", options.uninterpreted_option));
    field.options = packed.map(|packed| FieldOptions { packed: Some(packed), ..FieldOptions::default() });
}

fn strip_enum(of: &mut EnumDescriptorProto) {
    of.reserved_range.clear();
    of.reserved_name.clear();
    of.value.iter_mut().for_each(|value| value.options = None);
    let alias = of.options.take().and_then(|options| flag("allow_alias", options.uninterpreted_option));
    of.options = alias.map(|alias| EnumOptions { allow_alias: Some(alias), ..EnumOptions::default() });
}

/// The value of the flag with this name, if it is set.
fn flag(name: &str, options: Vec<UninterpretedOption>) -> Option<bool> {
    let is_it =
        |option: &UninterpretedOption| matches!(&*option.name, [part] if !part.is_extension && part.name_part == name);
    let found = options.into_iter().find(is_it)?;
    found.identifier_value.map(|value| value == "true")
}
