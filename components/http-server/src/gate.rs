//! Where connections come in, whatever is spoken over them: within a limit, over TLS, until it is to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use weir::state::Clock;

use crate::idle::{Idle, Seat};

/// Connections above the limit that are served at the same time, to be told so; further ones wait to be let in.
const TURNED_AWAY: usize = 16;
/// How long such a connection may take.
pub(crate) const TURNED_AWAY_AFTER: Duration = Duration::from_secs(1);
/// Who has been idle for so long makes room for others.
const IDLE: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be taken, as when file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what is under way may take when the graph stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Speaks with who has connected.
pub trait Service: Send + Sync + 'static {
    /// Serves one connection until it ends. Once [`Guest::stopping`] says so it takes nothing new, and ends when what has begun
    /// is answered. It is dropped where another one needs its place, see [`Seat`].
    fn serve<S>(&self, stream: S, guest: &Guest) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A connection ended without the service's doing.
    fn lost(&self, peer: SocketAddr, why: &Lost);
}

/// Why a connection ended that was not served to its end.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The handshake of TLS failed.
    #[error("the handshake of TLS failed: {0}")]
    Handshake(io::Error),
    /// It took too long.
    #[error("the handshake of TLS was not finished in time")]
    SlowHandshake,
    /// It was idle, and another needed the place.
    #[error("it was idle, and another needed the place")]
    Displaced,
}

/// Who has connected, and on what terms he is served.
pub struct Guest {
    /// From where.
    pub peer: SocketAddr,
    /// There are too many: he is only told so, as far as what is spoken has words for it.
    pub is_busy: bool,
    /// His place.
    pub seat: Seat,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Guest {
    /// Whether nothing new is taken any more.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when nothing new is taken any more.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.clone();
        let _gone = stopping.wait_for(|value| *value).await;
    }
}

/// Takes connections.
pub struct Gate {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) max_connections: u32,
    /// For the handshake.
    pub(crate) timeout: Duration,
    pub(crate) node: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Gate {
    /// Lets in who connects until it is to stop; then waits for what is under way.
    pub async fn open<S: Service>(self, service: Arc<S>, stopping: impl Future<Output = ()>) {
        let mut asked_to_stop = pin!(stopping);
        let Gate { listener, tls, max_connections, timeout, node, clock } = self;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(node = &*node, %address, "listening");
        }
        let connections = Arc::new(Semaphore::new(max_connections as usize));
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
        let idle = Arc::new(Idle::default());
        let least = IDLE.min(timeout / 2);
        let (stop, stopping) = watch::channel(false);
        loop {
            // The semaphores are never closed.
            let Ok(spare) = turned_away.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut asked_to_stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(node = &*node, %error, "cannot take a connection");
                    idle.ask_to_go(least);
                    clock.sleep(PAUSE).await;
                    continue;
                }
            };
            let (permit, is_busy) = match let_in(&connections, &idle, least).await {
                Some(permit) => (permit, false),
                None => (spare, true),
            };
            // Who is turned away has no place to give.
            let seat = if is_busy { Arc::new(Idle::default()).seat() } else { idle.seat() };
            let guest = Guest { peer, is_busy, seat, stopping: stopping.clone(), _permit: permit };
            let timeout = if is_busy { timeout.min(TURNED_AWAY_AFTER) } else { timeout };
            tokio::spawn(receive(service.clone(), stream, tls.clone(), guest, timeout));
        }
        drop(listener);
        stop.send_replace(true);
        let ended = connections.acquire_many(max_connections);
        if tokio::time::timeout(LAST_ANSWERS.min(timeout), ended).await.is_err() {
            tracing::warn!(node = &*node, "stopped before everything that had begun was answered");
        }
    }
}

/// A place among the connections: a free one, or that of one who has not used it for some time.
async fn let_in(connections: &Arc<Semaphore>, idle: &Idle, least: Duration) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = connections.clone().try_acquire_owned() {
        return Some(permit);
    }
    if !idle.ask_to_go(least) {
        return None;
    }
    tokio::time::timeout(PAUSE, connections.clone().acquire_owned()).await.ok()?.ok()
}

/// One connection, as long as it lasts.
async fn receive<S: Service>(
    service: Arc<S>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    guest: Guest,
    timeout: Duration,
) {
    // Answers are small and somebody waits for them.
    let _ = stream.set_nodelay(true);
    let served = async {
        let Some(tls) = tls else {
            service.serve(stream, &guest).await;
            return Ok(());
        };
        let shaken = tokio::time::timeout(timeout, tls.accept(stream)).await;
        let stream = shaken.map_err(|_| Lost::SlowHandshake)?.map_err(Lost::Handshake)?;
        service.serve(stream, &guest).await;
        Ok(())
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = guest.seat.asked_to_go() => Err(Lost::Displaced),
    };
    if let Err(why) = ended {
        service.lost(guest.peer, &why);
    }
}
