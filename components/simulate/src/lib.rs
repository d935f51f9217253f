#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod content;
mod source;

pub use content::Content;
pub use source::Generate;
