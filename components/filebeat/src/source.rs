//! The `filebeat` source: its options, and how it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{
    BuildContext, Finding, ProbeContext, Problems, PushLog, Resource, Source, SourceConfig, async_trait,
};
use weir::config::{ByteSize, Span};
use weir::event::Codec;
use weir_http_server::{Memory, Place, Receiver, Tls};

use crate::codec::decoder;
use crate::lumberjack::Limits;
use crate::server::Lumberjack;
use crate::session::WindowLimits;

/// Events that are gathered before they are written, in bytes, where the log is large enough.
const PIECE: u64 = 4 << 20;
/// Memory for what all connections hold together, unless large events need more.
const MEMORY: u64 = 64 << 20;
/// The largest event that can be allowed.
const LARGEST_EVENT: u64 = 128 << 20;
/// What an event takes in the log beside itself, and more.
const RECORD: u64 = 1024;

/// Receives events from Filebeat and other Beats (Lumberjack protocol); acknowledges them once they are on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilebeatSource {
    /// Address to listen on. Default: `0.0.0.0:5044`.
    #[serde(default = "default_listen")]
    #[schemars(with = "String", extend("format" = "address"))]
    listen: SocketAddr,
    /// TLS options. Default: no encryption.
    #[serde(default)]
    tls: Option<Tls>,
    /// Maximum concurrent connections; further ones are closed. Default: 1024.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 100_000))]
    max_connections: u32,
    /// Maximum events per window, the unit of acknowledgement (`bulk_max_size` in Filebeat); a larger window closes the
    /// connection. Default: 65536.
    #[serde(default = "default_max_window")]
    #[schemars(range(min = 1, max = 10_000_000))]
    max_window: u32,
    /// Maximum size of an event as JSON; a larger one closes the connection. Default: `16MiB`.
    #[serde(default = "default_max_frame_size")]
    max_frame_size: ByteSize,
    /// Maximum decompressed size of a window and of a compressed frame; more closes the connection. Default: `256MiB`.
    #[serde(default = "default_max_decompressed_size")]
    max_decompressed_size: ByteSize,
    /// Time limit for the TLS handshake, and for each further 64 KiB of an incomplete window or frame. Default: `30s`.
    #[serde(default = "default_timeout")]
    timeout: Span,
    /// Time after which an idle connection is closed; Filebeat reconnects when it has events. Default: `5m`.
    #[serde(default = "default_idle_timeout")]
    idle_timeout: Span,
    /// Maximum size of the log on disk; while it is full, senders wait and keep their events. Default: `1GiB`.
    #[serde(default = "default_max_size")]
    max_size: ByteSize,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5044))
}

fn default_max_connections() -> u32 {
    1024
}

fn default_max_window() -> u32 {
    1 << 16
}

fn default_max_frame_size() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_max_decompressed_size() -> ByteSize {
    ByteSize(256 << 20)
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

fn default_idle_timeout() -> Span {
    Span(Duration::from_secs(300))
}

fn default_max_size() -> ByteSize {
    ByteSize(1 << 30)
}

weir::register_source!("filebeat", FilebeatSource, "{type: filebeat, listen: \"0.0.0.0:5044\"}");

#[typetag::deserialize(name = "filebeat")]
#[async_trait]
impl SourceConfig for FilebeatSource {
    fn check(&self, problems: &mut Problems) {
        let mut out_of_range = |option: &str, message: &str, help: &str| {
            problems.error(option, "out_of_range", message, help);
        };
        if self.max_frame_size.0 == 0 || self.max_frame_size.0 > LARGEST_EVENT {
            out_of_range(
                "max_frame_size",
                "lets nothing in, or too much",
                "give a size of at most 128MiB, such as `16MiB`",
            );
        }
        if self.max_decompressed_size.0 < self.max_frame_size.0 {
            out_of_range(
                "max_decompressed_size",
                "has no room for the largest event",
                "make it `max_frame_size` at least",
            );
        }
        if self.idle_timeout.0.is_zero() {
            out_of_range("idle_timeout", "leaves no time to send", "give a time such as `5m`");
        }
        // A piece of a window and the largest event behind it are written at once, which may be a quarter of the log.
        if self.max_size.0 < self.max_frame_size.0.saturating_add(RECORD).saturating_mul(8) {
            let help = "give it more than eight times `max_frame_size`";
            out_of_range("max_size", "has no room for the largest events", help);
        }
        self.place().check(problems);
    }

    fn has_one_lane(&self) -> bool {
        true
    }

    fn codec(&self) -> Result<Codec> {
        Ok(Codec::Other(decoder()))
    }

    fn resources(&self) -> Vec<Resource> {
        Resource::address(self.listen).into_iter().collect()
    }

    fn explain(&self) -> String {
        let FilebeatSource { listen, max_size, .. } = self;
        format!(
            "listens on {listen}, acknowledges events once they are in its log on disk (at most {max_size}), and lets senders wait \
             when that is full; one lane reads the log; an event's id is that of its line, wherever it comes in again"
        )
    }

    async fn probe(&self, _context: &ProbeContext) -> Vec<Finding> {
        // Nobody can be asked who he is by this protocol.
        self.place().probe(async { false }).await
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        Lumberjack::describe();
        let (log, origin) = PushLog::open(context, self.max_size.0, self.codec()?)?;
        let piece = PIECE.min(self.max_size.0 / 8);
        let memory = MEMORY.max(4 * (self.max_frame_size.0 + piece));
        let lumberjack = Lumberjack {
            node: Arc::clone(&context.node),
            log,
            clock: context.clock.clone(),
            limits: Limits { frame: size(self.max_frame_size), decompressed: size(self.max_decompressed_size) },
            windows: WindowLimits { events: self.max_window, bytes: size(self.max_decompressed_size), piece },
            timeout: self.timeout.0,
            idle_timeout: self.idle_timeout.0,
            memory: Memory::new(usize::try_from(memory).unwrap_or(usize::MAX)),
        };
        Ok(Box::new(Receiver::new(context, &self.place(), origin, lumberjack).await?))
    }
}

fn size(bytes: ByteSize) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}

impl FilebeatSource {
    fn place(&self) -> Place<'_> {
        Place {
            address: self.listen,
            tls: self.tls.as_ref(),
            max_connections: self.max_connections,
            timeout: self.timeout,
        }
    }
}
