//! The wire format, written: fields appended to a buffer. What is a message's default is left out, as proto3 has it.

/// Appends a varint.
#[inline]
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A number as `sint32` and `sint64` have it.
#[allow(clippy::cast_sign_loss, reason = "that is how the format is defined")]
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Appends the key of a field: 0 varint, 1 64 bits, 2 bytes.
#[inline]
pub(crate) fn key(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

/// A varint that is not 0.
pub(crate) fn number(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        always(out, number, value);
    }
}

/// A varint, also where it is 0.
pub(crate) fn always(out: &mut Vec<u8>, number: u32, value: u64) {
    key(out, number, 0);
    varint(out, value);
}

/// An `int64` that is not 0.
#[allow(clippy::cast_sign_loss, reason = "negative numbers are written as their two's complement")]
pub(crate) fn int(out: &mut Vec<u8>, field: u32, value: i64) {
    number(out, field, value as u64);
}

/// A double of which any bit is set.
pub(crate) fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    if value.to_bits() != 0 {
        double_always(out, number, value);
    }
}

/// A double, also where it is 0.
pub(crate) fn double_always(out: &mut Vec<u8>, number: u32, value: f64) {
    key(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Bytes, also where there are none.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    key(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A text that is not empty.
pub(crate) fn text(out: &mut Vec<u8>, number: u32, text: &[u8]) {
    if !text.is_empty() {
        bytes(out, number, text);
    }
}

/// A message, or packed numbers, whose bytes `write` appends.
pub(crate) fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, number, 2);
    let at = out.len();
    // Room for the length of most.
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    match u8::try_from(length) {
        Ok(length) if length < 0x80 => out[at] = length,
        _ => {
            let mut prefix = Vec::with_capacity(10);
            varint(&mut prefix, length as u64);
            out.splice(at..=at, prefix);
        }
    }
}

/// Packed numbers, where there are any.
pub(crate) fn packed<T: Copy>(out: &mut Vec<u8>, number: u32, all: &[T], one: impl Fn(&mut Vec<u8>, T)) {
    if !all.is_empty() {
        message(out, number, |out| all.iter().for_each(|value| one(out, *value)));
    }
}
