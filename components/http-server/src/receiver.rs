//! A source that is sent events: its log, the lane that reads it, and who lets senders in.

use std::pin::pin;
use std::sync::Arc;

use hyper::StatusCode;
use weir::Result;
use weir::component::{BuildContext, Lanes, PushLog, PushOrigin, Pushed, Source, async_trait};
use weir::delivery::JournalError;
use weir::event::{Codec, Timestamp};
use weir::state::Clock;

use crate::answer::{Answer, come_back, refused};
use crate::gate::{Gate, Service};
use crate::listen::{Listen, Place};
use crate::server::{Door, Handler};

/// Why the log of a source does not take events, and what helps.
fn why_not_kept(error: &JournalError) -> String {
    match error {
        JournalError::Full(_) => format!("{error}: it waits for what is behind this source; raise max_size"),
        _ => error.to_string(),
    }
}

/// The log that makes an answer true.
#[derive(Clone)]
pub struct Ledger {
    log: PushLog,
    clock: Arc<dyn Clock>,
}

impl Ledger {
    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Appends all of it, durable when it returns; otherwise the answer to give.
    pub async fn append(&self, pushed: Pushed) -> Result<(), Answer> {
        match self.log.append(pushed).await {
            Ok(()) => Ok(()),
            Err(JournalError::TooLarge(..)) => {
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "there are too many events for the log; send fewer at once"))
            }
            Err(error) => Err(come_back(&why_not_kept(&error), 5)),
        }
    }
}

/// A source whose events are sent to it: the lane that reads its log, and the gate.
pub struct Receiver<S> {
    origin: PushOrigin,
    /// None under `--once`.
    gate: Option<(Gate, Arc<S>)>,
}

impl Receiver<Door> {
    /// One over HTTP: opens the log, which may hold `max_size` bytes of records that `codec` reads, and begins to listen, unless
    /// it runs `--once`. `largest` is the most memory that one request takes.
    pub async fn open<H: Handler>(
        context: &BuildContext,
        listen: &Listen<'_>,
        max_size: u64,
        codec: Codec,
        largest: u64,
        handler: impl FnOnce(Ledger) -> H,
    ) -> Result<Receiver<Door>> {
        let (log, origin) = PushLog::open(context, max_size, codec)?;
        let ledger = Ledger { log, clock: context.clock.clone() };
        let door = listen.door(context, largest, Arc::new(handler(ledger)));
        Receiver::new(context, &listen.place(), origin, door).await
    }
}

impl<S: Service> Receiver<S> {
    /// Begins to listen, unless it runs `--once`. What the service appends to its log is read by `origin`.
    pub async fn new(context: &BuildContext, place: &Place<'_>, origin: PushOrigin, service: S) -> Result<Receiver<S>> {
        let gate = match context.once {
            true => None,
            false => Some((place.bind(context).await?, Arc::new(service))),
        };
        Ok(Receiver { origin, gate })
    }
}

#[async_trait]
impl<S: Service> Source for Receiver<S> {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let mut lane = lanes.open_one(Box::new(self.origin)).await?;
        let Some((gate, service)) = self.gate else { return lane.ended().await.map(drop) };
        let mut serving = pin!(gate.open(service, lanes.stopping()));
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
