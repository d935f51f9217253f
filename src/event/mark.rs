//! What the first bytes of a text say of its encoding.

/// U+FEFF in UTF-8.
const UTF8: &[u8] = b"\xef\xbb\xbf";
/// U+FEFF in UTF-16, of either byte order; UTF-32 of the lower one begins like this, too.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Bytes of `head`, the beginning of a text, that are a byte order mark and no part of the text.
///
/// # Errors
/// The text is no UTF-8: what it is, and what to do about it.
pub fn byte_order_mark(head: &[u8]) -> Result<usize, &'static str> {
    if UTF16.iter().any(|mark| head.starts_with(mark)) {
        return Err(
            "it begins with the byte order mark of UTF-16; convert it to UTF-8, as by `iconv -f UTF-16 -t UTF-8`",
        );
    }
    Ok(if head.starts_with(UTF8) { UTF8.len() } else { 0 })
}
