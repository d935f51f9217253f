//! `csv`: RFC 4180.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::{KeyString, ObjectMap, Value};
use weir::component::{DecodingConfig, EncodingConfig, Problems, Stream};
use weir::event::json::Numbers;
use weir::event::{CodecError, Decoder, Encoder, Framing, Layout};
use weir::{Error, Result};

use crate::text::{self, utf8};

const QUOTE: u8 = b'"';

/// Comma-separated values (RFC 4180). Events are objects with one text per column.
///
/// Quoted values may contain newlines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvDecoding {
    /// Column names, in order. Default: taken from the first line of each file or of standard input.
    #[schemars(length(min = 1))]
    columns: Option<Vec<String>>,
    /// Delimiter: one ASCII character. Default: `,`.
    #[serde(default = "comma")]
    delimiter: String,
}

/// Comma-separated values (RFC 4180).
///
/// Writes the named columns in order. Missing and null fields are empty; objects and lists are written as JSON; other
/// fields are omitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvEncoding {
    /// Fields to write as columns, in order.
    #[schemars(length(min = 1))]
    columns: Option<Vec<String>>,
    /// Delimiter: one ASCII character. Default: `,`.
    #[serde(default = "comma")]
    delimiter: String,
    /// Which values are quoted. Default: `necessary`.
    #[serde(default)]
    quoting: Quoting,
    /// Start a new file with a header line; only for the `file` sink. Default: false.
    #[serde(default)]
    header: bool,
}

/// Which values are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quoting {
    /// Values that contain a delimiter, a quote or a line break.
    #[default]
    Necessary,
    /// All events.
    Always,
}

fn comma() -> String {
    ",".to_owned()
}

weir::register_decoding!("csv", CsvDecoding);
weir::register_encoding!("csv", CsvEncoding);

/// The delimiter, if it is one that can be.
fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Some(*byte),
        _ => None,
    }
}

fn check(columns: Option<&Vec<String>>, written: &str, problems: &mut Problems) {
    if delimiter(written).is_none() {
        let help = r#"write one ASCII character that is no quote and no line break: ";" or "\t""#;
        problems.error("delimiter", "bad_value", format!("{written:?} cannot separate values"), help);
    }
    let columns = columns.map(Vec::as_slice).unwrap_or_default();
    for (at, column) in columns.iter().enumerate().filter(|(at, column)| columns[..*at].contains(column)) {
        let message = format!("column {column:?} is named twice");
        problems.error(&format!("columns.{at}"), "duplicate", message, "give each column a name of its own");
    }
}

#[typetag::deserialize(name = "csv")]
impl DecodingConfig for CsvDecoding {
    fn check(&self, stream: Stream, problems: &mut Problems) {
        check(self.columns.as_ref(), &self.delimiter, problems);
        if self.columns.is_none() && stream == Stream::Messages {
            let help = "name them: `decoding: {codec: csv, columns: [time, host]}`";
            problems.error("columns", "missing_field", "no line names the columns of these records", help);
        }
    }

    fn build(&self) -> Result<Arc<dyn Decoder>> {
        let delimiter = delimiter(&self.delimiter).ok_or_else(|| Error::unchecked("delimiter"))?;
        let columns = self.columns.iter().flatten().map(|name| KeyString::from(name.as_str())).collect();
        Ok(Arc::new(Csv { delimiter, columns, wants_header: self.columns.is_none() }))
    }
}

#[typetag::deserialize(name = "csv")]
impl EncodingConfig for CsvEncoding {
    fn check(&self, _: Stream, problems: &mut Problems) {
        check(self.columns.as_ref(), &self.delimiter, problems);
        if self.columns.is_none() {
            let help = "name them: `encoding: {codec: csv, columns: [time, host]}`";
            problems.error("columns", "missing_field", "csv does not know its columns", help);
        }
    }

    fn build(&self) -> Result<Arc<dyn Encoder>> {
        let delimiter = delimiter(&self.delimiter).ok_or_else(|| Error::unchecked("delimiter"))?;
        let columns = self.columns.as_ref().ok_or_else(|| Error::unchecked("columns"))?;
        let mut writer = CsvWriter {
            delimiter,
            columns: columns.iter().map(|name| KeyString::from(name.as_str())).collect(),
            quoting: self.quoting,
            header: Vec::new(),
        };
        if self.header {
            let mut header = Vec::new();
            writer.record(columns.iter().map(String::as_bytes), &mut header);
            header.push(b'\n');
            writer.header = header;
        }
        Ok(Arc::new(writer))
    }
}

#[derive(Debug)]
struct Csv {
    delimiter: u8,
    columns: Vec<KeyString>,
    wants_header: bool,
}

/// A record without the end of its line. A carriage return alone is none: where lines are read, they have lost theirs.
fn without_end(record: &Bytes) -> Bytes {
    let line = record.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    record.slice_ref(line.unwrap_or(record))
}

/// Calls `each` with every value of a record.
fn each_field(record: &Bytes, delimiter: u8, mut each: impl FnMut(Bytes)) -> Result<(), CodecError> {
    let invalid = |at: usize, what: &str| Err(CodecError::new("invalid_csv", format!("byte {at}: {what}")));
    let mut at = 0;
    loop {
        if record.get(at) == Some(&QUOTE) {
            let (start, mut doubled) = (at + 1, false);
            let mut end = start;
            loop {
                match memchr::memchr(QUOTE, &record[end..]) {
                    None => return invalid(at, "a quote is not closed"),
                    Some(found) if record.get(end + found + 1) == Some(&QUOTE) => {
                        (doubled, end) = (true, end + found + 2);
                    }
                    Some(found) => {
                        end += found;
                        break;
                    }
                }
            }
            each(match doubled {
                false => record.slice(start..end),
                true => undoubled(&record[start..end]),
            });
            at = end + 1;
            if at < record.len() && record[at] != delimiter {
                return invalid(at, "something stands behind a closing quote");
            }
        } else {
            let end = memchr::memchr(delimiter, &record[at..]).map_or(record.len(), |found| at + found);
            if let Some(found) = memchr::memchr2(b'\r', b'\n', &record[at..end]) {
                let what = "a line break outside of quotes; end each line by a newline, not by a carriage return alone";
                return invalid(at + found, what);
            }
            each(record.slice(at..end));
            at = end;
        }
        if at == record.len() {
            return Ok(());
        }
        at += 1;
    }
}

fn undoubled(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == QUOTE {
            bytes.next();
        }
    }
    out.into()
}

impl Decoder for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        utf8(bytes, "invalid_csv")?;
        let mut fields = ObjectMap::new();
        let mut count = 0;
        each_field(&without_end(bytes), self.delimiter, |value| {
            if let Some(column) = self.columns.get(count) {
                fields.insert(column.clone(), Value::Bytes(value));
            }
            count += 1;
        })?;
        if count != self.columns.len() {
            let what = format!("the record has {count} values for {} columns", self.columns.len());
            return Err(CodecError::new("invalid_csv", what));
        }
        Ok(Value::Object(fields))
    }

    fn framing(&self) -> Framing {
        Framing::Quoted(self.delimiter)
    }

    fn wants_header(&self) -> bool {
        self.wants_header
    }

    fn has_blank_records(&self) -> bool {
        true
    }

    fn with_header(&self, header: &[u8]) -> Result<Arc<dyn Decoder>, CodecError> {
        let header = Bytes::copy_from_slice(header);
        let mut columns: Vec<KeyString> = Vec::new();
        let text = utf8(&header, "invalid_csv")?.to_owned();
        if text.contains('\0') {
            return Err(CodecError::new("invalid_csv", "the header holds zero bytes; is it UTF-16? write it as UTF-8"));
        }
        each_field(&header, self.delimiter, |name| {
            columns.push(std::str::from_utf8(&name).unwrap_or_default().into());
        })?;
        if let Some(name) =
            columns.iter().enumerate().find_map(|(at, name)| columns[..at].contains(name).then_some(name))
        {
            return Err(CodecError::new("invalid_csv", format!("the header {text:?} names {:?} twice", name.as_str())));
        }
        Ok(Arc::new(Csv { delimiter: self.delimiter, columns, wants_header: false }))
    }
}

#[derive(Debug)]
struct CsvWriter {
    delimiter: u8,
    columns: Vec<KeyString>,
    quoting: Quoting,
    header: Vec<u8>,
}

impl CsvWriter {
    fn record<'a>(&self, values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        let before = out.len();
        for (at, value) in values.enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            self.value(value, out);
        }
        // A blank line would be no record.
        if out.len() == before {
            out.extend_from_slice(b"\"\"");
        }
    }

    fn value(&self, value: &[u8], out: &mut Vec<u8>) {
        let is_special = |byte: &u8| *byte == self.delimiter || matches!(byte, b'"' | b'\r' | b'\n');
        if self.quoting == Quoting::Necessary && !value.iter().any(is_special) {
            return out.extend_from_slice(value);
        }
        out.push(QUOTE);
        for byte in value {
            if *byte == QUOTE {
                out.push(QUOTE);
            }
            out.push(*byte);
        }
        out.push(QUOTE);
    }
}

impl Encoder for CsvWriter {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn encode(&self, value: &Value, topic: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_exact(value, &Numbers::default(), topic, out)
    }

    fn encode_exact(&self, value: &Value, numbers: &Numbers, _: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let fields = text::object(value)?;
        let text = |value| text::of(value, numbers);
        let values = self.columns.iter().map(|column| fields.get(column).map_or(Ok(Bytes::new()), text));
        let values = values.collect::<Result<Vec<Bytes>, CodecError>>()?;
        self.record(values.iter().map(|value| &value[..]), out);
        Ok(())
    }

    fn keeps(&self, decoder: &dyn Decoder) -> bool {
        let same = |csv: &Csv| csv.delimiter == self.delimiter && csv.columns == self.columns;
        self.quoting == Quoting::Necessary && (decoder as &dyn Any).downcast_ref::<Csv>().is_some_and(same)
    }

    fn layout(&self) -> Layout {
        Layout::Quoted
    }

    fn header(&self) -> &[u8] {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{as_json, decoder, encoder};

    fn csv(columns: &[&str]) -> Arc<dyn Decoder> {
        decoder(json!({"codec": "csv", "columns": columns}))
    }

    fn read(decoder: &dyn Decoder, record: &str) -> Result<serde_json::Value, String> {
        decoder.decode(&Bytes::from(record.to_owned())).map(as_json).map_err(|error| error.message)
    }

    #[test]
    fn records_of_the_rfc_are_read() {
        let abc = csv(&["a", "b", "c"]);
        assert_eq!(read(&*abc, "aaa,bbb,ccc").unwrap(), json!({"a": "aaa", "b": "bbb", "c": "ccc"}));
        assert_eq!(read(&*abc, "\"aaa\",\"b \nbb\",").unwrap(), json!({"a": "aaa", "b": "b \nbb", "c": ""}));
        assert_eq!(read(&*abc, "\"aaa\",\"b\"\"bb\",\"\"").unwrap(), json!({"a": "aaa", "b": "b\"bb", "c": ""}));
        assert_eq!(read(&*abc, "5\" disk, x ,1").unwrap(), json!({"a": "5\" disk", "b": " x ", "c": "1"}));
    }

    #[test]
    fn what_is_no_record_says_where_and_why() {
        let ab = csv(&["a", "b"]);
        assert_eq!(read(&*ab, "1,2,3").unwrap_err(), "the record has 3 values for 2 columns");
        assert_eq!(read(&*ab, "").unwrap_err(), "the record has 1 values for 2 columns");
        assert_eq!(read(&*ab, "1,\"2").unwrap_err(), "byte 2: a quote is not closed");
        assert_eq!(read(&*ab, "\"1\"x,2").unwrap_err(), "byte 3: something stands behind a closing quote");
        let line_break = ": a line break outside of quotes; end each line by a newline, not by a carriage return alone";
        for (record, at) in
            [("1,2\r", 3), ("1,2\r\r\n", 3), ("1,2\r3,4", 3), ("1\r2,3", 1), ("1,2\n3", 3), ("\"1\",\r2", 4)]
        {
            assert_eq!(read(&*ab, record).unwrap_err(), format!("byte {at}{line_break}"));
        }
        for record in ["1,\"\r\"\r\n", "1,\"\r\"\n", "1,\"\r\""] {
            assert_eq!(read(&*ab, record).unwrap(), json!({"a": "1", "b": "\r"}), "{record:?}");
        }
        let broken = ab.decode(&Bytes::from_static(b"1,\xff")).unwrap_err();
        assert_eq!(broken.code, "invalid_csv");
    }

    #[test]
    fn a_header_names_the_columns() {
        let unnamed = decoder(json!({"codec": "csv", "delimiter": ";"}));
        assert!(unnamed.wants_header());
        let named = unnamed.with_header(b"id;\"full \"\"name\"\"\"").unwrap();
        assert_eq!(read(&*named, "7;x").unwrap(), json!({"id": "7", "full \"name\"": "x"}));
        let twice = unnamed.with_header(b"id;id").unwrap_err().message;
        assert_eq!(twice, "the header \"id;id\" names \"id\" twice");
        let old = unnamed.with_header(b"id;text\r1;a\r2;b\r").unwrap_err();
        assert!(old.message.contains("not by a carriage return alone"), "{old}");
        for wide in [&b"\xff\xfei\0d\0"[..], b"i\0d\0"] {
            assert_eq!(unnamed.with_header(wide).unwrap_err().code, "invalid_csv");
        }
    }

    #[test]
    fn values_are_written_as_texts_and_quoted_where_asked() {
        let value = Value::from(json!({"t": "a,b", "n": 1.5, "o": {"x": [true]}, "left out": 1, "z": null}));
        let columns = json!(["t", "n", "o", "z", "absent"]);
        let mut out = Vec::new();
        encoder(json!({"codec": "csv", "columns": columns})).encode(&value, "", &mut out).unwrap();
        assert_eq!(out, br#""a,b",1.5,"{""x"":[true]}",,"#);
        let always = encoder(json!({"codec": "csv", "columns": ["n", "z"], "quoting": "always", "header": true}));
        out.clear();
        always.encode(&value, "", &mut out).unwrap();
        assert_eq!(out, br#""1.5","""#);
        assert_eq!(always.header(), b"\"n\",\"z\"\n");
        out.clear();
        encoder(json!({"codec": "csv", "columns": ["z"]})).encode(&value, "", &mut out).unwrap();
        assert_eq!(out, b"\"\"", "not a blank line");
        let mut numbers = Numbers::default();
        let doc = Bytes::from(r#"{"n":18446744073709551615,"z":[0.1000000000000000055]}"#);
        let exact = weir::event::json::parse_with(&doc, &mut numbers).unwrap();
        out.clear();
        always.encode_exact(&exact, &numbers, "", &mut out).unwrap();
        assert_eq!(out, br#""18446744073709551615","[0.1000000000000000055]""#);
        let refused = always.encode(&Value::from("text"), "", &mut out).unwrap_err();
        assert_eq!(refused.code, "no_object");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(values in prop::collection::vec("\\PC{0,8}|[\",\r\n;a]{0,6}", 3), always: bool) {
            let columns = ["a", "b", "c"];
            let value: ObjectMap = columns.iter().zip(&values).map(|(column, text)| ((*column).into(), text.as_str().into())).collect();
            let quoting = if always { "always" } else { "necessary" };
            let mut out = Vec::new();
            encoder(json!({"codec": "csv", "columns": columns, "quoting": quoting})).encode(&Value::Object(value.clone()), "", &mut out).unwrap();
            prop_assert_eq!(csv(&columns).decode(&out.into()).unwrap(), Value::Object(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), any::<u8>()], 0..40)) {
            let _either = csv(&["a", "b"]).decode(&bytes.into());
        }
    }
}
