//! A source that is sent events over HTTP: its log, the lane that reads it, and the server.

use std::pin::pin;
use std::sync::Arc;

use hyper::StatusCode;
use weir::Result;
use weir::component::{BuildContext, Lanes, PushLog, PushOrigin, Pushed, Source, Trouble, async_trait};
use weir::delivery::JournalError;
use weir::event::{Codec, Timestamp};
use weir::state::Clock;

use crate::answer::{Answer, come_back, refused};
use crate::listen::Listen;
use crate::server::{Handler, Server};

/// The log that makes an answer true.
#[derive(Clone)]
pub struct Ledger {
    log: PushLog,
    clock: Arc<dyn Clock>,
    trouble: Trouble,
}

impl Ledger {
    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Appends all of it, durable when it returns; otherwise the answer to give.
    pub async fn append(&self, pushed: Pushed) -> Result<(), Answer> {
        match self.log.append(pushed).await {
            Ok(()) => {
                self.trouble.clear();
                Ok(())
            }
            Err(JournalError::TooLarge(..)) => {
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "there are too many events for the log; send fewer at once"))
            }
            Err(error) => {
                let what = match &error {
                    JournalError::Full(_) => {
                        format!("{error}: it waits for what is behind this source; raise max_size")
                    }
                    _ => error.to_string(),
                };
                self.trouble.set(&*what);
                Err(come_back(&what, 5))
            }
        }
    }
}

/// A source whose events are sent to it.
pub struct Receiver {
    origin: PushOrigin,
    /// None under `--once`.
    server: Option<Server>,
}

impl Receiver {
    /// Opens the log, which may hold `max_size` bytes of records that `codec` reads, and begins to listen, unless it runs
    /// `--once`. `largest` is the most memory that one request takes.
    pub async fn open<H: Handler>(
        context: &BuildContext,
        listen: &Listen<'_>,
        max_size: u64,
        codec: Codec,
        largest: u64,
        handler: impl FnOnce(Ledger) -> H,
    ) -> Result<Receiver> {
        let (log, origin) = PushLog::open(context, max_size, codec)?;
        if context.once {
            return Ok(Receiver { origin, server: None });
        }
        let ledger = Ledger { log, clock: context.clock.clone(), trouble: context.trouble.clone() };
        let server = listen.bind(context, largest, Arc::new(handler(ledger))).await?;
        Ok(Receiver { origin, server: Some(server) })
    }
}

#[async_trait]
impl Source for Receiver {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let mut lane = lanes.open_one(Box::new(self.origin)).await?;
        let Some(server) = self.server else { return lane.ended().await.map(drop) };
        let mut serving = pin!(server.serve(lanes.stopping()));
        tokio::select! {
            () = &mut serving => lane.ended().await.map(drop),
            end = lane.ended() => {
                // The lane may be done before every request has its answer. Where it ended by itself nobody reads any
                // more, and what comes in would wait for the next start.
                if lanes.is_stopping() {
                    serving.await;
                }
                end.map(drop)
            }
        }
    }
}
