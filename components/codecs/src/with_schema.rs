//! `avro` and `protobuf`: records that are read and written by a schema, from a file or from a schema registry.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::component::{DecodingConfig, EncodingConfig, Problems, Stream, async_trait};
use weir::event::{CodecError, Decoder, Encoder};
use weir::{Error, ErrorKind, Result};

use crate::registry::{Http, Known, Registry, SchemaRegistry};
use crate::schema::{Format, Schema, SchemaText};
use crate::wire;

/// How long the newest schema of a subject counts as the newest.
const LATEST: Duration = Duration::from_secs(300);
/// Subjects that are remembered.
const SUBJECTS: usize = 1000;

/// Avro records, with the schema from a registry (Confluent wire format) or a file (plain records).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvroDecoding {
    /// Registry of the schemas. Default: none, see `schema`.
    schema_registry: Option<SchemaRegistry>,
    /// Schema file (`.avsc`) for records without a wire-format header. Default: none.
    #[schemars(extend("format" = "input-file"))]
    schema: Option<PathBuf>,
}

/// Protobuf messages, with the schema from a registry (Confluent wire format) or a file (plain messages).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtobufDecoding {
    /// Registry of the schemas. Default: none, see `schema`.
    schema_registry: Option<SchemaRegistry>,
    /// Schema file (`.proto`) for messages without a wire-format header; imports are resolved in its directory.
    /// Default: none.
    #[schemars(extend("format" = "input-file"))]
    schema: Option<PathBuf>,
    /// Full name of the message in the file, such as `shop.Order`. Default: the first message.
    message: Option<String>,
}

/// Avro records, with the schema from a registry (Confluent wire format) or a file (plain records).
///
/// Fields that are not in the schema are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvroEncoding {
    /// Registry; records start with the id of their schema. Default: none, see `schema`.
    schema_registry: Option<SchemaRegistry>,
    /// Schema file (`.avsc`). Default: the latest schema of the subject in the registry.
    #[schemars(extend("format" = "input-file"))]
    schema: Option<PathBuf>,
    /// How the subject name is derived. Default: `topic`.
    subject_name_strategy: Option<SubjectNameStrategy>,
    /// Subject name, independent of the topic. Default: none, see `subject_name_strategy`.
    subject: Option<String>,
    /// Register the schema of the file if it is not in the registry. Default: false.
    #[serde(default)]
    auto_register: bool,
}

/// Protobuf messages, with the schema from a registry (Confluent wire format) or a file (plain messages).
///
/// Fields that are not in the schema are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtobufEncoding {
    /// Registry; records start with the id of their schema. Default: none, see `schema`.
    schema_registry: Option<SchemaRegistry>,
    /// Schema file (`.proto`); imports are resolved in its directory. Default: the latest schema of the subject in the
    /// registry.
    #[schemars(extend("format" = "input-file"))]
    schema: Option<PathBuf>,
    /// Full name of the message in the file, such as `shop.Order`. Default: the first message.
    message: Option<String>,
    /// How the subject name is derived. Default: `topic`.
    subject_name_strategy: Option<SubjectNameStrategy>,
    /// Subject name, independent of the topic. Default: none, see `subject_name_strategy`.
    subject: Option<String>,
    /// Register the schema of the file if it is not in the registry. Default: false.
    #[serde(default)]
    auto_register: bool,
}

/// How the subject name is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectNameStrategy {
    /// From the topic: `orders-value`.
    #[default]
    Topic,
    /// From the full name of the record or message in the schema file.
    Record,
}

weir::register_decoding!("avro", AvroDecoding);
weir::register_decoding!("protobuf", ProtobufDecoding);
weir::register_encoding!("avro", AvroEncoding);
weir::register_encoding!("protobuf", ProtobufEncoding);

/// The options that both formats and both directions have.
struct Options<'a> {
    format: Format,
    schema_registry: Option<&'a SchemaRegistry>,
    schema: Option<&'a Path>,
    message: Option<&'a str>,
}

impl Options<'_> {
    fn read(&self) -> Option<std::result::Result<(Schema, SchemaText), String>> {
        self.schema.map(|path| Schema::read(self.format, path, self.message))
    }

    /// The schema in the file, if there is one.
    fn schema(&self) -> Result<Option<(Schema, SchemaText)>> {
        self.read().transpose().map_err(|why| Error::new(ErrorKind::Config, "read a schema", why))
    }

    fn registry(&self) -> Result<Option<Registry>> {
        let http = self.schema_registry.map(Http::new).transpose()?;
        Ok(http.map(|http| Registry::new(http, self.format)))
    }

    fn check(&self, stream: Stream, problems: &mut Problems) {
        if stream == Stream::Lines {
            let message = format!("{} has no lines: its records may hold any bytes", self.format.codec());
            problems.error("", "bad_value", message, "use it with kafka, or another codec here");
        }
        if self.schema_registry.is_none() && self.schema.is_none() {
            let help = "add `schema_registry: {url: ...}` or `schema: file`";
            problems.error("", "missing_field", format!("{} needs a schema", self.format.codec()), help);
        }
        if let Some(registry) = self.schema_registry {
            registry.check(problems);
        }
        if let Some(Err(why)) = self.read() {
            problems.error("schema", "bad_schema", why, "correct the file, or the path to it");
        }
        if self.message.is_some() && self.schema.is_none() {
            problems.error("message", "bad_value", "it names a message of a file, and there is none", "add `schema:`");
        }
    }

    fn check_decoding(&self, stream: Stream, problems: &mut Problems) {
        self.check(stream, problems);
        if self.schema_registry.is_some() && self.schema.is_some() {
            let help = "leave one out: with a registry, each record says which schema it was written with";
            problems.error("schema", "bad_value", "contradicts `schema_registry`", help);
        }
    }

    fn decoder(&self) -> Result<Arc<dyn Decoder>> {
        if let Some(registry) = self.registry()? {
            return Ok(Arc::new(ByRegistry { registry: Arc::new(registry), format: self.format }));
        }
        let (schema, _) = self.schema()?.ok_or_else(|| Error::unchecked("schema"))?;
        Ok(Arc::new(BySchema { format: self.format, schema: Ok(Arc::new(schema)), is_framed: false }))
    }
}

/// The options of encodings beside them.
struct Subject<'a> {
    strategy: Option<SubjectNameStrategy>,
    fixed: Option<&'a str>,
    auto_register: bool,
}

impl Subject<'_> {
    fn check(&self, options: &Options<'_>, problems: &mut Problems) {
        let mut error = |option: &str, message: &str, help: &str| problems.error(option, "bad_value", message, help);
        let without_registry = "there is no schema registry";
        let add = "add `schema_registry: {url: ...}`, or leave it out";
        if options.schema_registry.is_none() {
            if self.strategy.is_some() {
                error("subject_name_strategy", without_registry, add);
            }
            if self.fixed.is_some() {
                error("subject", without_registry, add);
            }
            if self.auto_register {
                error("auto_register", without_registry, add);
            }
        } else if options.schema.is_none() {
            if self.auto_register {
                error("auto_register", "there is no schema to register", "add `schema: file`");
            }
            if self.strategy == Some(SubjectNameStrategy::Record) {
                let help = "add `schema: file`, or name the subject with `subject:`";
                error("subject_name_strategy", "the name of the record is that of a schema file", help);
            }
        }
        if self.strategy.is_some() && self.fixed.is_some() {
            error("subject", "contradicts `subject_name_strategy`", "leave one out");
        }
    }

    fn encoder(&self, options: &Options<'_>) -> Result<Arc<dyn Encoder>> {
        let format = options.format;
        let own = options.schema()?.map(|(schema, text)| (Arc::new(schema), text));
        let Some(registry) = options.registry()? else {
            let (schema, _) = own.ok_or_else(|| Error::unchecked("schema"))?;
            return Ok(Arc::new(BySchema { format, schema: Ok(schema), is_framed: false }));
        };
        let record = || own.as_ref().and_then(|(schema, _)| schema.name()).map(str::to_owned);
        let subject = match (self.fixed, self.strategy.unwrap_or_default()) {
            (Some(subject), _) => Some(subject.to_owned()),
            (None, SubjectNameStrategy::Record) => Some(record().ok_or_else(|| Error::unchecked("schema"))?),
            (None, SubjectNameStrategy::Topic) => None,
        };
        let auto_register = self.auto_register;
        Ok(Arc::new(BySubject { format, registry, own, subject, auto_register, subjects: RwLock::default() }))
    }
}

macro_rules! codec {
    ($name:literal, $format:expr, $decoding:ident, $encoding:ident, $message:expr, $encoding_message:expr) => {
        impl $decoding {
            fn options(&self) -> Options<'_> {
                let message: fn(&Self) -> Option<&str> = $message;
                Options {
                    format: $format,
                    schema_registry: self.schema_registry.as_ref(),
                    schema: self.schema.as_deref(),
                    message: message(self),
                }
            }
        }

        #[typetag::deserialize(name = $name)]
        impl DecodingConfig for $decoding {
            fn check(&self, stream: Stream, problems: &mut Problems) {
                self.options().check_decoding(stream, problems);
            }

            fn build(&self) -> Result<Arc<dyn Decoder>> {
                self.options().decoder()
            }
        }

        impl $encoding {
            fn options(&self) -> (Options<'_>, Subject<'_>) {
                let message: fn(&Self) -> Option<&str> = $encoding_message;
                let options = Options {
                    format: $format,
                    schema_registry: self.schema_registry.as_ref(),
                    schema: self.schema.as_deref(),
                    message: message(self),
                };
                let subject = Subject {
                    strategy: self.subject_name_strategy,
                    fixed: self.subject.as_deref(),
                    auto_register: self.auto_register,
                };
                (options, subject)
            }
        }

        #[typetag::deserialize(name = $name)]
        impl EncodingConfig for $encoding {
            fn check(&self, stream: Stream, problems: &mut Problems) {
                let (options, subject) = self.options();
                options.check(stream, problems);
                subject.check(&options, problems);
            }

            fn build(&self) -> Result<Arc<dyn Encoder>> {
                let (options, subject) = self.options();
                subject.encoder(&options)
            }
        }
    };
}

codec!("avro", Format::Avro, AvroDecoding, AvroEncoding, |_| None, |_| None);
codec!(
    "protobuf",
    Format::Protobuf,
    ProtobufDecoding,
    ProtobufEncoding,
    |options| options.message.as_deref(),
    |options| options.message.as_deref()
);

/// Reads and writes by one schema; or knows why there is none.
#[derive(Debug)]
struct BySchema {
    format: Format,
    schema: std::result::Result<Arc<Schema>, CodecError>,
    /// Records begin with a schema id.
    is_framed: bool,
}

impl Decoder for BySchema {
    fn name(&self) -> &'static str {
        self.format.codec()
    }

    fn decode(&self, bytes: &Bytes) -> std::result::Result<Value, CodecError> {
        let schema = self.schema.as_ref().map_err(Clone::clone)?;
        match self.is_framed {
            true => schema.decode(&bytes.slice(wire::HEADER.min(bytes.len())..), true),
            false => schema.decode(bytes, false),
        }
    }
}

impl Encoder for BySchema {
    fn name(&self) -> &'static str {
        self.format.codec()
    }

    fn encode(&self, value: &Value, _: &str, out: &mut Vec<u8>) -> std::result::Result<(), CodecError> {
        self.schema.as_ref().map_err(Clone::clone)?.encode(value, false, out)
    }
}

/// Reads each record by the schema it was written with.
#[derive(Debug)]
struct ByRegistry {
    format: Format,
    registry: Arc<Registry>,
}

#[async_trait]
impl Decoder for ByRegistry {
    fn name(&self) -> &'static str {
        self.format.codec()
    }

    fn decode(&self, _: &Bytes) -> std::result::Result<Value, CodecError> {
        let what = "the record's schema was not asked for; in tests of a graph, give events as JSON";
        Err(CodecError::new("unknown_schema", what))
    }

    fn must_prepare(&self) -> bool {
        true
    }

    async fn prepare(&self, bytes: &Bytes) -> Result<Arc<dyn Decoder>> {
        let schema = match wire::schema_id(bytes) {
            Ok(id) => match self.registry.by_id(id).await? {
                Known::Schema(schema) => Ok(schema),
                Known::Unusable(code, why) => Err(CodecError::new(code, why)),
            },
            Err(refused) => Err(refused),
        };
        Ok(Arc::new(BySchema { format: self.format, schema, is_framed: true }))
    }
}

/// Writes each record by the schema of its subject.
#[derive(Debug)]
struct BySubject {
    format: Format,
    registry: Registry,
    /// The schema of the file, if there is one.
    own: Option<(Arc<Schema>, SchemaText)>,
    /// Where it does not follow from the topic.
    subject: Option<String>,
    auto_register: bool,
    /// What is known of subjects, by topic.
    subjects: RwLock<HashMap<String, Written>>,
}

/// What records of a subject are written with.
#[derive(Debug, Clone)]
struct Written {
    id: u32,
    schema: Arc<Schema>,
    /// When it is time to ask again.
    until: Option<Instant>,
}

impl BySubject {
    fn remember(&self, topic: &str, written: Written) {
        let mut subjects = self.subjects.write().unwrap_or_else(PoisonError::into_inner);
        if subjects.len() >= SUBJECTS {
            subjects.clear();
        }
        subjects.insert(topic.to_owned(), written);
    }

    fn known(&self, topic: &str) -> Option<Written> {
        self.subjects.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }
}

#[async_trait]
impl Encoder for BySubject {
    fn name(&self) -> &'static str {
        self.format.codec()
    }

    fn encode(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> std::result::Result<(), CodecError> {
        let known = self.known(topic).filter(|known| known.until.is_none_or(|until| until > Instant::now()));
        let Some(Written { id, schema, .. }) = known else {
            return Err(CodecError::unprepared("the schema of the subject is not known yet"));
        };
        wire::put_schema_id(id, out);
        schema.encode(value, true, out)
    }

    async fn prepare(&self, topic: &str) -> Result<()> {
        let subject = self.subject.clone().unwrap_or_else(|| format!("{topic}-value"));
        let asked = match &self.own {
            Some((schema, text)) => {
                let id = self.registry.id_of(&subject, text, self.auto_register).await;
                id.map(|id| Written { id, schema: schema.clone(), until: None })
            }
            None => {
                let until = Some(Instant::now() + LATEST);
                self.registry.latest(&subject).await.map(|(id, schema)| Written { id, schema, until })
            }
        };
        match (asked, self.known(topic)) {
            (Ok(written), _) => self.remember(topic, written),
            // What was the newest a while ago is good enough while the registry is away.
            (Err(error), Some(stale)) => {
                tracing::warn!(%error, subject, "the newest schema is not known; going on with the last one");
                self.remember(topic, Written { until: Some(Instant::now() + LATEST / 10), ..stale });
            }
            (Err(error), None) => return Err(error),
        }
        Ok(())
    }
}
