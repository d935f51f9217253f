//! What the codecs of points share: a decoder and an encoder around two functions.

use bytes::Bytes;
use vrl::value::Value;
use weir::event::json::{self, Numbers};
use weir::event::{CodecError, Decoder, Encoder, Layout};

use crate::exposition::put_series;
use crate::point::Point;

/// A format of points.
pub(crate) trait Format: std::fmt::Debug + Send + Sync + 'static {
    /// Its name in YAML.
    const NAME: &'static str;

    /// What nodes see of one record.
    fn read(&self, record: &Bytes) -> Result<Value, CodecError>;

    /// The same in the place of a value, with these fields of it at least; `None`: with all.
    fn read_into(&self, record: &Bytes, _wanted: Option<&[String]>, value: &mut Value) -> Result<(), CodecError> {
        *value = self.read(record)?;
        Ok(())
    }

    /// Appends the record of a point.
    fn write(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends the record of an event that is no point, but of this format all the same; false: it is not.
    fn write_other(&self, _value: &Value, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Whether a record that nobody changed is fit to be written as it came.
    fn keeps(&self) -> bool {
        true
    }

    /// How its records lie in a stream of lines.
    const LAYOUT: Layout = Layout::Line;

    /// The records of one event each that this record holds; none: it is one.
    fn split(&self, _record: &Bytes) -> Option<Vec<Bytes>> {
        None
    }
}

/// The codec of a format.
#[derive(Debug)]
pub(crate) struct PointCodec<F>(pub F);

impl<F: Format> Decoder for PointCodec<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        self.0.read(bytes)
    }

    fn decode_into(&self, bytes: &Bytes, fields: Option<&[String]>, value: &mut Value) -> Result<(), CodecError> {
        self.0.read_into(bytes, fields, value)
    }

    fn split(&self, bytes: &Bytes) -> Option<Vec<Bytes>> {
        self.0.split(bytes)
    }
}

impl<F: Format> PointCodec<F> {
    /// Does something with the point that a value is. What is of the format and no point is written.
    fn with_point(
        &self,
        value: &Value,
        out: &mut Vec<u8>,
        does: impl FnOnce(&Point, &mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        match Point::try_from(value) {
            Ok(point) => does(&point, out),
            Err(_) if self.0.write_other(value, out) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<F: Format> Encoder for PointCodec<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn encode(&self, value: &Value, _: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.with_point(value, out, |point, out| self.0.write(point, out))
    }

    fn encode_exact(&self, value: &Value, numbers: &Numbers, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode(&numbers.as_texts(value, false), topic, out)
    }

    fn has_subjects(&self) -> bool {
        true
    }

    fn encode_with_subject(
        &self,
        value: &Value,
        _: &str,
        out: &mut Vec<u8>,
        subject: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        self.with_point(value, out, |point, out| {
            put_series(&point.name, &point.labels, subject);
            self.0.write(point, out)
        })
    }

    fn subject(&self, value: &Value, subject: &mut Vec<u8>) -> Result<(), CodecError> {
        self.with_point(value, &mut Vec::new(), |point, _| {
            put_series(&point.name, &point.labels, subject);
            Ok(())
        })
    }

    fn keeps(&self, decoder: &dyn Decoder) -> bool {
        decoder.name() == F::NAME && self.0.keeps()
    }

    fn layout(&self) -> Layout {
        F::LAYOUT
    }
}

/// Registers a format whose options are empty structs.
macro_rules! register {
    ($format:ident, $name:literal, $decoding:ident, $encoding:ident) => {
        weir::register_decoding!($name, $decoding);
        weir::register_encoding!($name, $encoding);

        #[typetag::deserialize(name = $name)]
        impl weir::component::DecodingConfig for $decoding {
            fn build(&self) -> weir::Result<std::sync::Arc<dyn weir::event::Decoder>> {
                Ok(std::sync::Arc::new($crate::codec::PointCodec($format)))
            }
        }

        #[typetag::deserialize(name = $name)]
        impl weir::component::EncodingConfig for $encoding {
            fn build(&self) -> weir::Result<std::sync::Arc<dyn weir::event::Encoder>> {
                Ok(std::sync::Arc::new($crate::codec::PointCodec($format)))
            }
        }
    };
}

pub(crate) use register;

/// A JSON document in which numbers are texts that neither a 64-bit integer nor a float holds: labels keep their digits.
pub(crate) fn exact_json(document: &Bytes) -> Result<Value, CodecError> {
    let mut numbers = Numbers::default();
    let value = json::parse_with(document, &mut numbers)?;
    Ok(if numbers.are_exact() { numbers.as_texts(&value, false) } else { value })
}

/// A point that is added to what was before cannot be said in every format.
pub(crate) fn absolute(point: &Point, format: &str) -> Result<(), CodecError> {
    if point.is_incremental {
        let message = format!("{format} has no way to say that a value is added to the one before; aggregate it first");
        return Err(CodecError::new("unsupported_value", message));
    }
    Ok(())
}

/// A number as Prometheus writes it, without an exponent.
pub(crate) fn number_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

/// The lines of a record that has several, but for empty ones.
pub(crate) fn lines(record: &Bytes) -> Option<Vec<Bytes>> {
    let end = record.iter().rposition(|byte| *byte != b'\n')? + 1;
    if !record[..end].contains(&b'\n') {
        return None;
    }
    let lines = record[..end].split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    Some(lines.map(|line| record.slice_ref(line)).collect())
}
