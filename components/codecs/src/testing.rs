//! What the tests of all codecs share.

use std::sync::Arc;

use serde_json::Value as Json;
use vrl::value::Value;
use weir::component::{DecodingConfig, EncodingConfig};
use weir::event::{Decoder, Encoder};

pub(crate) fn decoder(options: Json) -> Arc<dyn Decoder> {
    serde_json::from_value::<Box<dyn DecodingConfig>>(options).unwrap().build().unwrap()
}

pub(crate) fn encoder(options: Json) -> Arc<dyn Encoder> {
    serde_json::from_value::<Box<dyn EncodingConfig>>(options).unwrap().build().unwrap()
}

pub(crate) fn as_json(value: Value) -> Json {
    serde_json::to_value(value).unwrap()
}
