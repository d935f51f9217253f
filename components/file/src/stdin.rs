//! The `stdin` source.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{
    BuildContext, DecodingOption, Lanes, Problems, Resource, Source, SourceConfig, Stream, async_trait,
};
use weir::config::ByteSize;
use weir::event::{Codec, OriginId, OriginKind};

use crate::compression::Compression;
use crate::piped::{Piped, Reader};

/// Reads lines from standard input to its end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// Decoding of lines: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// Compression of the input; `auto` detects it by the first bytes. Default: `auto`.
    #[serde(default)]
    compression: Compression,
    /// Maximum line length; longer lines are truncated and passed on. Default: `16MiB`.
    #[serde(default = "default_max_line_size")]
    max_line_size: ByteSize,
}

fn default_max_line_size() -> ByteSize {
    ByteSize(16 << 20)
}

weir::register_source!("stdin", Stdin, "{type: stdin, decoding: text}");

#[typetag::deserialize(name = "stdin")]
#[async_trait]
impl SourceConfig for Stdin {
    fn has_one_lane(&self) -> bool {
        true
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn check(&self, problems: &mut Problems) {
        self.decoding.check(Stream::Lines, problems);
    }

    fn knows_time(&self) -> bool {
        false
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn resources(&self) -> Vec<Resource> {
        vec![Resource::owned("standard input")]
    }

    fn explain(&self) -> String {
        "one lane; cannot be read twice: what is not settled at a crash is the sender's to send again".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let id =
            OriginId { node: context.node.to_string(), log: "stdin".to_owned(), partition: 0, kind: OriginKind::Other };
        let longest = usize::try_from(self.max_line_size.0).unwrap_or(usize::MAX);
        let open = Box::new(|| Ok(Box::new(std::io::stdin()) as Box<dyn std::io::Read + Send>));
        let reader = Reader { open, compression: self.compression, longest };
        Ok(Box::new(Input(Piped::new(Arc::new(id), self.codec()?, reader))))
    }
}

struct Input(Piped);

#[async_trait]
impl Source for Input {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        lanes.run_one(Box::new(self.0)).await
    }
}
