//! What all connections of a source share, and what is said of those that had to be ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use tokio::io::{AsyncRead, AsyncWrite};
use weir::component::PushLog;
use weir::state::Clock;
use weir_http_server::{Guest, Lost, Memory, Service};

use crate::connection::{Connection, Cut};
use crate::lumberjack::Limits;
use crate::session::WindowLimits;

/// Counts connections that were ended for a reason.
const ENDED: &str = "weir_filebeat_ended_connections_total";

/// Speaks Lumberjack with whoever connects.
pub(crate) struct Lumberjack {
    pub node: Arc<str>,
    pub log: PushLog,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub windows: WindowLimits,
    pub timeout: Duration,
    pub idle_timeout: Duration,
    /// What all connections take beside the memory that each has.
    pub memory: Memory,
}

impl Service for Lumberjack {
    async fn serve<S>(&self, stream: S, guest: &Guest)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if !guest.admitted().await {
            // Lumberjack has no words for it; the sender comes again.
            return self.complain("too_many_connections", guest.peer, &"there are more than `max_connections`");
        }
        match Connection::new(self, guest, stream).run().await {
            Ok(()) => {}
            Err(Cut::Io(error)) => {
                tracing::debug!(node = &*self.node, peer = %guest.peer, %error, "a connection broke off");
            }
            Err(cut) => {
                let word = match &cut {
                    Cut::Broken(broken) => broken.word(),
                    Cut::Slow => "slow",
                    Cut::NoMemory => "no_memory",
                    Cut::Deaf => "does_not_read",
                    Cut::Idle => "idle",
                    Cut::Io(_) => "broken_off",
                };
                self.complain(word, guest.peer, &cut);
            }
        }
    }

    fn lost(&self, peer: SocketAddr, why: &Lost) {
        let word = match why {
            Lost::Handshake(_) => "handshake",
            Lost::SlowHandshake => "slow",
            Lost::Displaced => "displaced",
        };
        self.complain(word, peer, why);
    }
}

impl Lumberjack {
    /// Says what the metric counts, once.
    pub fn describe() {
        describe_counter!(ENDED, "Connections of the filebeat source that it ended, by reason");
    }

    fn complain(&self, word: &'static str, peer: SocketAddr, why: &(dyn std::fmt::Display + Sync)) {
        counter!(ENDED, "node" => self.node.to_string(), "reason" => word).increment(1);
        // That someone is quiet, or makes room, is nobody's fault.
        if matches!(word, "idle" | "displaced") {
            tracing::debug!(node = &*self.node, %peer, reason = word, %why, "a connection was ended");
        } else {
            tracing::warn!(node = &*self.node, %peer, reason = word, %why, "a connection was ended");
        }
    }
}
