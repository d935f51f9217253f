//! Messages and values, into each other.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, Utc};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Proto};
use vrl::value::{KeyString, ObjectMap, Value};
use weir::event::{CodecError, rfc3339};

use crate::text::{self, not_finite, number};

/// Messages inside one another, at most: what the reader of messages allows.
const MAX_DEPTH: usize = 100;

/// What nodes see of a message: its fields by their names. A field without presence has its default where the message
/// has none; any other is absent.
pub(super) fn of_message(message: &DynamicMessage) -> Value {
    use prost_reflect::ReflectMessage as _;
    let descriptor = message.descriptor();
    if let Some(value) = known(message, &descriptor) {
        return value;
    }
    let mut fields = ObjectMap::new();
    for field in descriptor.fields() {
        if !field.supports_presence() || message.has_field(&field) {
            fields.insert(field.name().into(), of_value(&message.get_field(&field), &field.kind()));
        }
    }
    Value::Object(fields)
}

/// Messages of `google.protobuf` that stand for plain values.
fn known(message: &DynamicMessage, descriptor: &MessageDescriptor) -> Option<Value> {
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    let get = |name: &str| descriptor.get_field_by_name(name).map(|field| (message.get_field(&field), field.kind()));
    let seconds_and_nanos = || Some((get("seconds")?.0.as_i64()?, get("nanos")?.0.as_i32()?));
    match name {
        "Timestamp" => {
            let (seconds, nanos) = seconds_and_nanos()?;
            DateTime::from_timestamp(seconds, u32::try_from(nanos).ok()?).map(Value::Timestamp)
        }
        "Duration" => {
            let (seconds, nanos) = seconds_and_nanos()?;
            let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
            let part = match nanos.unsigned_abs() {
                0 => String::new(),
                nanos => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
            };
            Some(format!("{sign}{}{part}s", seconds.unsigned_abs()).into())
        }
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => get("value").map(|(value, kind)| of_value(&value, &kind)),
        "Struct" => get("fields").map(|(value, kind)| of_value(&value, &kind)),
        "ListValue" => get("values").map(|(value, kind)| of_value(&value, &kind)),
        "Value" => {
            let set = descriptor.fields().find(|field| message.has_field(field));
            Some(match set.filter(|field| field.name() != "null_value") {
                Some(field) => of_value(&message.get_field(&field), &field.kind()),
                None => Value::Null,
            })
        }
        _ => None,
    }
}

fn of_value(value: &Proto, kind: &Kind) -> Value {
    match value {
        Proto::Bool(value) => Value::Boolean(*value),
        Proto::I32(value) => Value::Integer((*value).into()),
        Proto::I64(value) => Value::Integer(*value),
        Proto::U32(value) => Value::Integer((*value).into()),
        // Beyond what a whole number holds, its digits.
        Proto::U64(value) => i64::try_from(*value).map_or_else(|_| value.to_string().into(), Value::Integer),
        Proto::F32(value) => number((*value).into()),
        Proto::F64(value) => number(*value),
        Proto::String(text) => Value::from(text.as_str()),
        Proto::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
        Proto::EnumNumber(chosen) => match kind {
            Kind::Enum(of) => {
                of.get_value(*chosen).map_or(Value::Integer((*chosen).into()), |value| value.name().into())
            }
            _ => Value::Integer((*chosen).into()),
        },
        Proto::Message(message) => of_message(message),
        Proto::List(items) => items.iter().map(|item| of_value(item, kind)).collect::<Vec<Value>>().into(),
        Proto::Map(entries) => {
            let of = match kind {
                Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            Value::Object(entries.iter().map(|(key, value)| (of_key(key), of_value(value, &of))).collect())
        }
    }
}

fn of_key(key: &MapKey) -> KeyString {
    match key {
        MapKey::Bool(key) => key.to_string().into(),
        MapKey::I32(key) => key.to_string().into(),
        MapKey::I64(key) => key.to_string().into(),
        MapKey::U32(key) => key.to_string().into(),
        MapKey::U64(key) => key.to_string().into(),
        MapKey::String(key) => key.as_str().into(),
    }
}

/// The message with the fields of an object, by their names in the schema or in its JSON. Fields that the schema does
/// not know are left out.
pub(super) fn message_of(value: &Value, descriptor: &MessageDescriptor) -> Result<DynamicMessage, CodecError> {
    message(value, descriptor, &mut Vec::new())
}

type Way<'a> = Vec<&'a str>;

fn refuse<T>(way: &Way<'_>, what: &str) -> Result<T, CodecError> {
    let way: String = way.iter().flat_map(|name| [".", name]).collect();
    Err(CodecError::new("does_not_fit_schema", format!("the event{way} {what}")))
}

fn message<'a>(
    value: &'a Value,
    descriptor: &MessageDescriptor,
    way: &mut Way<'a>,
) -> Result<DynamicMessage, CodecError> {
    if way.len() >= MAX_DEPTH {
        return refuse(way, &format!("has more than {MAX_DEPTH} messages inside one another"));
    }
    if let Some(message) = known_message(value, descriptor, way)? {
        return Ok(message);
    }
    let Value::Object(fields) = value else {
        return refuse(way, &format!("is {}; the schema wants a {}", text::kind(value), descriptor.full_name()));
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in fields {
        let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
        let Some(field) = field.filter(|_| *value != Value::Null) else { continue };
        way.push(name);
        message.set_field(&field, field_value(value, &field, way)?);
        way.pop();
    }
    Ok(message)
}

/// The ways back of [`known`].
fn known_message<'a>(
    value: &'a Value,
    descriptor: &MessageDescriptor,
    way: &mut Way<'a>,
) -> Result<Option<DynamicMessage>, CodecError> {
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else { return Ok(None) };
    let mut made = DynamicMessage::new(descriptor.clone());
    let mut put = |name: &str, value: &'a Value, way: &mut Way<'a>| -> Result<(), CodecError> {
        if let Some(field) = descriptor.get_field_by_name(name) {
            made.set_field(&field, field_value(value, &field, way)?);
        }
        Ok(())
    };
    match (name, value) {
        ("Timestamp" | "Duration", value) => {
            let found = if name == "Timestamp" { seconds_of_time(value) } else { seconds_of_span(value) };
            let Some((seconds, nanos)) = found else {
                let wanted = if name == "Timestamp" { "a timestamp" } else { "a span of seconds such as 1.5s" };
                return refuse(way, &format!("is {}; the schema wants {wanted}", text::kind(value)));
            };
            made.set_field_by_name("seconds", Proto::I64(seconds));
            made.set_field_by_name("nanos", Proto::I32(nanos));
        }
        (_, value) if name.ends_with("Value") && !matches!(name, "Value" | "ListValue" | "NullValue") => {
            put("value", value, way)?;
        }
        ("Struct", value) => put("fields", value, way)?,
        ("ListValue", value) => put("values", value, way)?,
        ("Value", Value::Null) => made.set_field_by_name("null_value", Proto::EnumNumber(0)),
        ("Value", Value::Boolean(_)) => put("bool_value", value, way)?,
        ("Value", Value::Integer(_) | Value::Float(_)) => put("number_value", value, way)?,
        ("Value", Value::Object(_)) => put("struct_value", value, way)?,
        ("Value", Value::Array(_)) => put("list_value", value, way)?,
        ("Value", _) => put("string_value", value, way)?,
        _ => return Ok(None),
    }
    Ok(Some(made))
}

fn seconds_of_time(value: &Value) -> Option<(i64, i32)> {
    let time: DateTime<Utc> = match value {
        Value::Timestamp(time) => *time,
        value => DateTime::parse_from_rfc3339(value.to_str()?).ok()?.to_utc(),
    };
    Some((time.timestamp(), i32::try_from(time.timestamp_subsec_nanos()).ok()?))
}

/// `1.5s` as seconds and nanoseconds, both with the sign.
fn seconds_of_span(value: &Value) -> Option<(i64, i32)> {
    let text = value.to_str()?.strip_suffix('s')?;
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let nanos: i32 = format!("{part:0<9}").parse().ok()?;
    Some((whole.parse::<i64>().ok()? * sign, nanos * sign as i32))
}

fn field_value<'a>(value: &'a Value, field: &FieldDescriptor, way: &mut Way<'a>) -> Result<Proto, CodecError> {
    let kind = field.kind();
    match (value, &kind) {
        (Value::Object(entries), Kind::Message(entry)) if field.is_map() => {
            let (key_kind, of) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let mut map = std::collections::HashMap::new();
            for (name, value) in entries {
                way.push(name);
                let Some(key) = map_key(name, &key_kind) else {
                    return refuse(way, &format!("is no key: the schema wants {}", wanted(&key_kind)));
                };
                map.insert(key, single(value, &of, way)?);
                way.pop();
            }
            Ok(Proto::Map(map))
        }
        (Value::Array(items), _) if field.is_list() => {
            let items = items.iter().map(|item| single(item, &kind, way));
            Ok(Proto::List(items.collect::<Result<_, _>>()?))
        }
        _ if field.is_map() || field.is_list() => {
            let wanted = if field.is_map() { "an object" } else { "a list" };
            refuse(way, &format!("is {}; the schema wants {wanted}", text::kind(value)))
        }
        (value, kind) => single(value, kind, way),
    }
}

fn map_key(name: &str, kind: &Kind) -> Option<MapKey> {
    Some(match kind {
        Kind::String => MapKey::String(name.to_owned()),
        Kind::Bool => MapKey::Bool(name.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(name.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(name.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(name.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(name.parse().ok()?),
        _ => return None,
    })
}

/// One value; of a repeated field or a map, one of its items.
fn single<'a>(value: &'a Value, kind: &Kind, way: &mut Way<'a>) -> Result<Proto, CodecError> {
    let converted = match (kind, value) {
        (Kind::Message(of), value) => return message(value, of, way).map(Proto::Message),
        (Kind::Bool, Value::Boolean(value)) => Some(Proto::Bool(*value)),
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, Value::Integer(value)) => {
            i32::try_from(*value).ok().map(Proto::I32)
        }
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, Value::Integer(value)) => Some(Proto::I64(*value)),
        (Kind::Uint32 | Kind::Fixed32, Value::Integer(value)) => u32::try_from(*value).ok().map(Proto::U32),
        (Kind::Uint64 | Kind::Fixed64, Value::Integer(value)) => u64::try_from(*value).ok().map(Proto::U64),
        (Kind::Uint64 | Kind::Fixed64, value) => value.to_str().and_then(|text| text.parse().ok()).map(Proto::U64),
        (Kind::Double, Value::Float(value)) => Some(Proto::F64(value.into_inner())),
        (Kind::Double, Value::Integer(value)) => Some(Proto::F64(*value as f64)),
        (Kind::Float, Value::Float(value)) => Some(Proto::F32(value.into_inner() as f32)),
        (Kind::Float, Value::Integer(value)) => Some(Proto::F32(*value as f32)),
        (Kind::Double, value) => not_finite(value).map(Proto::F64),
        (Kind::Float, value) => not_finite(value).map(|value| Proto::F32(value as f32)),
        (Kind::String, Value::Timestamp(time)) => Some(Proto::String(rfc3339(time)?)),
        (Kind::String, value) => value.to_str().map(|text| Proto::String(text.to_owned())),
        (Kind::Bytes, value) => value.to_str().and_then(base64_bytes).map(|bytes| Proto::Bytes(bytes.into())),
        (Kind::Enum(_), Value::Integer(value)) => i32::try_from(*value).ok().map(Proto::EnumNumber),
        (Kind::Enum(of), value) => {
            let chosen = value.to_str().and_then(|name| of.get_value_by_name(name));
            chosen.map(|chosen| Proto::EnumNumber(chosen.number()))
        }
        _ => None,
    };
    match converted {
        Some(converted) => Ok(converted),
        None => refuse(way, &format!("is {}, which does not fit {}", text::kind(value), wanted(kind))),
    }
}

/// A kind, for messages.
fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Enum(of) => {
            let names: Vec<String> = of.values().take(20).map(|value| value.name().to_owned()).collect();
            format!("the enum of {}", names.join(", "))
        }
        Kind::Bytes => "bytes, which are base64 text".to_owned(),
        Kind::Message(of) => format!("the message {}", of.full_name()),
        scalar => scalar_name(scalar).to_owned(),
    }
}

/// A scalar kind, as a schema spells it.
fn scalar_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "an enum",
        Kind::Message(_) => "a message",
    }
}

/// Bytes by the JSON mapping: base64, also that for URLs, with padding or without.
fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_for_urls = text.contains(['-', '_']);
    let alphabet = if is_for_urls { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}
