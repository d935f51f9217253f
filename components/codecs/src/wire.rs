//! Confluent's wire format: a zero byte, the schema's id (u32, big-endian), and the record behind it.
//!
//! For Protobuf the record begins with the way to its message among the messages of the schema: a count and as many
//! indexes, each a zigzag varint; the first message of all is a single zero.

use weir::event::CodecError;

/// Bytes before the record.
pub(crate) const HEADER: usize = 5;
/// Messages inside one another, at most.
const MAX_WAY: i64 = 32;

/// The id of the schema a record was written with.
pub(crate) fn schema_id(bytes: &[u8]) -> Result<u32, CodecError> {
    match bytes {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => {
            let what = "the record does not begin with a zero byte and a schema's id; it was not written with a schema registry";
            Err(CodecError::new("no_schema_id", what))
        }
    }
}

pub(crate) fn put_schema_id(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

/// A zigzag varint, and what is behind it. Avro's `long` is the same.
pub(crate) fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        if at == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[at + 1..]));
        }
    }
    None
}

pub(crate) fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The way to a message, and the message.
pub(crate) fn message_way(bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (count, mut rest) = varint(bytes)?;
    match count {
        0 => Some((vec![0], rest)),
        1..=MAX_WAY => {
            let mut way = Vec::new();
            for _ in 0..count {
                let (index, behind) = varint(rest)?;
                way.push(usize::try_from(index).ok()?);
                rest = behind;
            }
            Some((way, rest))
        }
        _ => None,
    }
}

pub(crate) fn put_message_way(way: &[usize], out: &mut Vec<u8>) {
    if way == [0] {
        return out.push(0);
    }
    for number in [way.len()].iter().chain(way) {
        put_varint(i64::try_from(*number).unwrap_or(i64::MAX), out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_begin_as_confluent_s_do() {
        let mut out = Vec::new();
        put_schema_id(258, &mut out);
        assert_eq!(out, [0, 0, 0, 1, 2]);
        assert_eq!(schema_id(&[0, 0, 0, 1, 2, 9]).unwrap(), 258);
        assert_eq!(schema_id(&[0, 0, 0, 1]).unwrap_err().code, "no_schema_id");
        assert_eq!(schema_id(b"{\"a\":1}").unwrap_err().code, "no_schema_id");
        assert_eq!(message_way(&[0, 7]), Some((vec![0], &[7][..])));
        assert_eq!(message_way(&[4, 2, 0, 7]), Some((vec![1, 0], &[7][..])));
        assert_eq!(message_way(&[4, 2]), None);
        assert_eq!(message_way(&[1, 2]), None, "a negative count");
        assert_eq!(message_way(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), None, "a large count");
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(value: i64, way in prop::collection::vec(0..1000_usize, 1..5)) {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            prop_assert_eq!(varint(&out), Some((value, &[][..])));
            out.clear();
            put_message_way(&way, &mut out);
            prop_assert_eq!(message_way(&out), Some((way, &[][..])));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _either = (varint(&bytes), message_way(&bytes), schema_id(&bytes));
        }
    }
}
