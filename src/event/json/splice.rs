//! Changed fields go back between the bytes nobody touched.

use vrl::value::Value;

use super::{Fields, Found, Numbers, write_str};
use crate::event::CodecError;

/// What becomes of one wanted field.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'a> {
    /// It has this value; it is appended when it was not there.
    Set(usize, &'a Value),
    /// It is gone.
    Remove(usize),
}

impl Edit<'_> {
    fn field(&self) -> usize {
        match self {
            Edit::Set(field, _) | Edit::Remove(field) => *field,
        }
    }
}

/// A copy of an object document with some of its top-level fields set or removed.
///
/// `found` is what [`scan`](super::scan) has just found in this very document with these `fields`. Every other
/// byte stays: the order, the spelling of numbers, duplicates of other names. A set field stands where it stood
/// last and exactly once, new ones at the end, in the order of the edits. A field has at most one edit.
/// A document that is not an object is returned as it is; a value that JSON has no way to say is an error. The values of the
/// edits may have floats that stand in for `numbers`.
pub fn splice(
    doc: &[u8],
    fields: &Fields,
    found: &Found,
    edits: &[Edit<'_>],
    numbers: &Numbers,
) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(doc.len() + 64 * edits.len());
    let Some(object) = &found.object else {
        out.extend_from_slice(doc);
        return Ok(out);
    };

    let mut at = 0;
    let mut removed = 0;
    // Where a member would be the first of the object: behind the brace, or behind removed ones.
    let mut first = object.start;
    for (number, entry) in found.entries.iter().enumerate() {
        let Some(edit) = edits.iter().find(|edit| edit.field() == entry.field) else { continue };
        let is_last = found.last.get(entry.field).copied().flatten() == Some(number as u32);
        match edit {
            Edit::Set(_, value) if is_last => {
                out.extend_from_slice(&doc[at..entry.value.start]);
                numbers.write(value, &mut out)?;
                at = entry.value.end;
            }
            _ => {
                removed += 1;
                if entry.before == first {
                    // No member is left before this one, so the comma behind it goes as well.
                    if first == object.start {
                        out.extend_from_slice(&doc[at..=object.start]);
                    }
                    first = entry.after;
                    at = entry.after + usize::from(entry.after != object.end);
                } else {
                    out.extend_from_slice(&doc[at..entry.before]);
                    at = entry.after;
                }
            }
        }
    }
    out.extend_from_slice(&doc[at..object.end]);

    let mut empty = removed == found.members;
    for edit in edits {
        let Edit::Set(field, value) = edit else { continue };
        if found.get(*field).is_some() {
            continue;
        }
        let Some(name) = fields.names().get(*field) else { continue };
        if !empty {
            out.push(b',');
        }
        empty = false;
        write_str(name, &mut out);
        out.push(b':');
        numbers.write(value, &mut out)?;
    }
    out.extend_from_slice(&doc[object.end..]);
    Ok(out)
}
