//! The file source and sink and the stdin source.
