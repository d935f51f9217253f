//! `remote_write`: requests of Prometheus's remote write as records.

use std::sync::Arc;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use vrl::value::Value;
use weir::Result;
use weir::component::{DecodingConfig, EncodingConfig, Problems, Stream};
use weir::event::{CodecError, Decoder, Encoder};

use super::record::{KINDS, invalid, read_into, split};
use super::series::NAME;
use super::{Version, histogram, put};
use crate::codec::{Format, PointCodec, absolute};
use crate::point::{Exemplar, Measured, Point};

/// Prometheus remote-write requests, version 1.0 or 2.0, snappy-compressed or not; detected from the content.
///
/// Each sample and native histogram is a point. Exemplars belong to the last point of their series, or are events
/// without a value; metadata of version 1.0 are events `{name, type, help, unit}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteDecoding {}

/// One Prometheus remote-write request per point, without loss in version 2.
///
/// Unchanged records are written byte for byte unless `version` or `compression` is set. Timestamps are in
/// milliseconds; points without one are rejected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteEncoding {
    /// Message version: `1` (`prometheus.WriteRequest`) or `2` (`io.prometheus.write.v2.Request`, the default). Version
    /// 1 omits types, help texts, units and creation times.
    #[serde(default)]
    pub version: Option<MessageVersion>,
    /// Compression of the request. Default: `none`.
    #[serde(default)]
    pub compression: Option<Compression>,
}

/// `1` or `2`.
#[derive(Debug, Clone, Copy)]
pub struct MessageVersion(pub Version);

impl<'de> Deserialize<'de> for MessageVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(MessageVersion(Version::V1)),
            2 => Ok(MessageVersion(Version::V2)),
            _ => Err(D::Error::custom("there are the versions 1 and 2")),
        }
    }
}

impl JsonSchema for MessageVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MessageVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "enum": [1, 2] })
    }
}

/// Compression of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    None,
    /// Snappy block format, as senders use over HTTP.
    Snappy,
}

weir::register_decoding!("remote_write", RemoteWriteDecoding);
weir::register_encoding!("remote_write", RemoteWriteEncoding);

fn check(stream: Stream, problems: &mut Problems) {
    if stream == Stream::Lines {
        let message = "remote_write has no lines: its records may hold any bytes";
        problems.error("", "bad_value", message, "use it with kafka, or another codec here");
    }
}

#[typetag::deserialize(name = "remote_write")]
impl DecodingConfig for RemoteWriteDecoding {
    fn check(&self, stream: Stream, problems: &mut Problems) {
        check(stream, problems);
    }

    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(decoder())
    }
}

/// The decoder of `remote_write`, for a source that receives such requests.
pub fn decoder() -> Arc<dyn Decoder> {
    Arc::new(PointCodec(RemoteWrite { version: Version::V2, is_compressed: false, is_free: true }))
}

#[typetag::deserialize(name = "remote_write")]
impl EncodingConfig for RemoteWriteEncoding {
    fn check(&self, stream: Stream, problems: &mut Problems) {
        check(stream, problems);
    }

    fn build(&self) -> Result<Arc<dyn Encoder>> {
        Ok(Arc::new(PointCodec(RemoteWrite {
            version: self.version.map_or(Version::V2, |version| version.0),
            is_compressed: self.compression == Some(Compression::Snappy),
            is_free: self.version.is_none() && self.compression.is_none(),
        })))
    }
}

#[derive(Debug)]
pub(super) struct RemoteWrite {
    pub version: Version,
    pub is_compressed: bool,
    /// Whether records of the other version, or compressed otherwise, may pass.
    pub is_free: bool,
}

impl Format for RemoteWrite {
    const NAME: &'static str = "remote_write";

    fn read(&self, record: &Bytes) -> Result<Value, CodecError> {
        let mut value = Value::Null;
        read_into(record, None, &mut value)?;
        Ok(value)
    }

    fn read_into(&self, record: &Bytes, wanted: Option<&[String]>, value: &mut Value) -> Result<(), CodecError> {
        read_into(record, wanted, value)
    }

    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if !self.is_compressed {
            return write(self.version, point, out);
        }
        let mut request = Vec::new();
        write(self.version, point, &mut request)?;
        let compressed = snap::raw::Encoder::new().compress_vec(&request);
        out.extend_from_slice(&compressed.map_err(invalid)?);
        Ok(())
    }

    fn split(&self, record: &Bytes) -> Option<Vec<Bytes>> {
        split(record)
    }

    fn keeps(&self) -> bool {
        self.is_free
    }
}

pub(super) fn unsupported(what: impl Into<String>) -> CodecError {
    CodecError::new("unsupported_value", what)
}

/// Appends the request of a point.
pub(crate) fn write(version: Version, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError> {
    absolute(point, RemoteWrite::NAME)?;
    let said = Said::of(point)?;
    match version {
        Version::V1 if point.measured == Measured::Nothing && point.exemplars.is_empty() => {
            put::message(out, 3, |out| {
                put::number(out, 1, said.kind);
                put::text(out, 2, point.name.as_bytes());
                put::text(out, 4, point.metadata.help.as_bytes());
                put::text(out, 5, point.metadata.unit.as_bytes());
            });
        }
        Version::V1 => put::message(out, 1, |out| {
            put_labels(out, &said.labels);
            put_measured(version, point, &said, out);
            for exemplar in &said.exemplars {
                put::message(out, 3, |out| {
                    put_labels(out, &exemplar.labels);
                    put::double(out, 2, exemplar.value);
                    put::int(out, 3, exemplar.timestamp);
                });
            }
        }),
        Version::V2 => {
            put::bytes(out, 4, b"");
            let referred = Referred::of(&said, point, &mut InOrder { next: 1, out });
            put_series(point, &said, &referred, out);
        }
    }
    Ok(())
}

/// What gives a text its number in a symbol table.
pub(super) trait Texts {
    fn refer(&mut self, text: &str) -> u64;
}

/// A symbol table that is written: every text anew, but for the empty one.
struct InOrder<'o> {
    next: u64,
    out: &'o mut Vec<u8>,
}

impl Texts for InOrder<'_> {
    fn refer(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        put::bytes(self.out, 4, text.as_bytes());
        self.next += 1;
        self.next - 1
    }
}

/// The numbers of a series' texts.
pub(super) struct Referred {
    labels: Vec<u64>,
    help: u64,
    unit: u64,
    exemplars: Vec<Vec<u64>>,
}

impl Referred {
    pub fn of(said: &Said<'_>, point: &Point, texts: &mut impl Texts) -> Referred {
        let mut pairs = |labels: &[(&str, &str)]| -> Vec<u64> {
            labels.iter().flat_map(|(name, value)| [*name, *value]).map(|text| texts.refer(text)).collect()
        };
        let labels = pairs(&said.labels);
        let exemplars = said.exemplars.iter().map(|exemplar| pairs(&exemplar.labels)).collect();
        let (help, unit) = (texts.refer(&point.metadata.help), texts.refer(&point.metadata.unit));
        Referred { labels, help, unit, exemplars }
    }
}

/// Appends a series of 2.0.
pub(super) fn put_series(point: &Point, said: &Said<'_>, referred: &Referred, out: &mut Vec<u8>) {
    put::message(out, 5, |out| {
        put::packed(out, 1, &referred.labels, put::varint);
        put_measured(Version::V2, point, said, out);
        for (exemplar, labels) in said.exemplars.iter().zip(&referred.exemplars) {
            put::message(out, 4, |out| {
                put::packed(out, 1, labels, put::varint);
                put::double(out, 2, exemplar.value);
                put::int(out, 3, exemplar.timestamp);
            });
        }
        if !point.metadata.is_empty() {
            put::message(out, 5, |out| {
                put::number(out, 1, said.kind);
                put::number(out, 3, referred.help);
                put::number(out, 4, referred.unit);
            });
        }
        // Where there is no point that could say it.
        if point.measured == Measured::Nothing {
            put::int(out, 6, said.created);
        }
    });
}

/// A point in the words of a request.
pub(super) struct Said<'a> {
    /// In order, the name among them.
    labels: Vec<(&'a str, &'a str)>,
    timestamp: i64,
    created: i64,
    kind: u64,
    exemplars: Vec<SaidExemplar<'a>>,
}

struct SaidExemplar<'a> {
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
    timestamp: i64,
}

impl<'a> Said<'a> {
    pub fn of(point: &'a Point) -> Result<Said<'a>, CodecError> {
        let mut labels = pairs(&point.labels)?;
        match labels.binary_search_by_key(&NAME, |(name, _)| name) {
            Ok(_) => return Err(unsupported(format!("the point has a label `{NAME}` beside its `name`"))),
            Err(at) => labels.insert(at, (NAME, &point.name)),
        }
        let timestamp = match (&point.measured, point.timestamp) {
            (Measured::Nothing, _) => 0,
            (_, Some(at)) => at.timestamp_millis(),
            (_, None) => {
                let message = "the point has no `timestamp`, and this format cannot do without";
                return Err(CodecError::new("no_timestamp", message));
            }
        };
        let exemplar = |exemplar: &'a Exemplar| {
            let timestamp = exemplar.timestamp.map_or(0, |at| at.timestamp_millis());
            Ok(SaidExemplar { labels: pairs(&exemplar.labels)?, value: exemplar.value, timestamp })
        };
        Ok(Said {
            labels,
            timestamp,
            created: point.created.map_or(0, |at| at.timestamp_millis()),
            kind: kind(&point.metadata.kind)?,
            exemplars: point.exemplars.iter().map(exemplar).collect::<Result<_, CodecError>>()?,
        })
    }
}

fn pairs(labels: &crate::point::Labels) -> Result<Vec<(&str, &str)>, CodecError> {
    if labels.contains_key("") {
        return Err(unsupported("a label has no name"));
    }
    Ok(labels.iter().map(|(name, value)| (&**name, &**value)).collect())
}

/// The number of a type; one that Prometheus has no number for is no type.
fn kind(name: &str) -> Result<u64, CodecError> {
    if matches!(name, "unknown" | "untyped") {
        return Ok(0);
    }
    let known = KINDS.iter().position(|kind| *kind == name).map(|kind| kind as u64);
    let number = known.or_else(|| name.parse().ok());
    number.ok_or_else(|| unsupported(format!("the type `{name}` is none that remote write has")))
}

fn put_labels(out: &mut Vec<u8>, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        put::message(out, 1, |out| {
            put::text(out, 1, name.as_bytes());
            put::text(out, 2, value.as_bytes());
        });
    }
}

fn put_measured(version: Version, point: &Point, said: &Said<'_>, out: &mut Vec<u8>) {
    let created = if version == Version::V2 { said.created } else { 0 };
    match &point.measured {
        Measured::Nothing => {}
        Measured::Value(value) => put::message(out, 2, |out| {
            put::double(out, 1, *value);
            put::int(out, 2, said.timestamp);
            put::int(out, 3, created);
        }),
        Measured::Histogram(all) => put::message(out, if version == Version::V1 { 4 } else { 3 }, |out| {
            histogram::write(all, said.timestamp, created, out);
        }),
    }
}
