//! The codec `filebeat`: what Filebeat writes, whether it comes by Lumberjack, over Kafka or out of a file.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use vrl::value::Value;
use weir::Result;
use weir::component::DecodingConfig;
use weir::event::json;
use weir::event::{Body, Codec, CodecError, Decoder, Event};

use crate::identity;

/// JSON of Filebeat and other Beats, on one or several lines. The event's time is `@timestamp`; its id identifies the
/// log line, so that repeated transmissions are recognised.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filebeat {}

weir::register_decoding!("filebeat", Filebeat);

#[typetag::deserialize(name = "filebeat")]
impl DecodingConfig for Filebeat {
    fn build(&self) -> Result<Arc<dyn Decoder>> {
        Ok(decoder())
    }
}

/// The decoder, which has no options.
pub(crate) fn decoder() -> Arc<dyn Decoder> {
    Arc::new(FilebeatDecoder)
}

#[derive(Debug)]
struct FilebeatDecoder;

impl Decoder for FilebeatDecoder {
    fn name(&self) -> &'static str {
        "filebeat"
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, CodecError> {
        json::parse(bytes).map_err(CodecError::from)
    }

    fn admit(&self, event: &mut Event) {
        let Body::Raw(bytes, codec) = &mut event.body else { return };
        // From here on it is JSON like any other. What is not even that is found out by the node that looks.
        *codec = Codec::Json;
        let Ok(known) = identity::of(bytes) else { return };
        if let Some(time) = known.time {
            event.time = time;
        }
        if let Some(identity) = known.identity {
            event.set_identity(identity);
        }
    }
}
