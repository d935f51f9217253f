//! Accepts connections of one listener within limits, and keeps one peer from starving the others.
//!
//! A [`Gate`] never stops accepting. A connection takes one of `max_connections` seats; if all are taken it enters a small
//! lobby. From there [`Guest::admitted`] moves it to a seat once it has a request: at that moment, and not before, a
//! connection that deserves its seat less is closed. So a peer that opens thousands of connections and sends nothing
//! displaces its own connections, not those of others. See [`Doing`] for the order in which connections are closed.
//!
//! This module knows neither TLS nor HTTP: [`Service`] gets the TCP connection.

mod seats;
mod writes;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use seats::Doing;
pub(crate) use seats::{Network, Seat, Seats};
pub use writes::WriteLimit;

use crate::state::Clock;

/// Connections above `max_connections` that are open at the same time.
const LOBBY: usize = 64;
/// Time in which a connection in the lobby has to send a request.
const LOBBY_PATIENCE: Duration = Duration::from_secs(1);
/// Pause after `accept` failed, as when file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for requests under way when the listener closes.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves the connections that a [`Gate`] accepts.
pub trait Service: Send + Sync + 'static {
    /// Serves one connection until it ends. Once [`Guest::stopping`] resolves it takes nothing new, and ends when what has
    /// begun is answered. The future is dropped when another connection needs the seat.
    fn serve(&self, stream: TcpStream, guest: &Guest) -> impl Future<Output = ()> + Send;

    /// A connection was closed because another needed its seat.
    fn displaced(&self, peer: SocketAddr);
}

/// An accepted connection.
pub struct Guest {
    /// The address of the peer.
    pub peer: SocketAddr,
    seat: Seat,
    seats: Arc<Seats>,
    stopping: watch::Receiver<bool>,
}

impl Guest {
    /// Moves the connection from the lobby to a seat, if it is still in the lobby. False: all seats are in use. Call it when
    /// a request is there: other connections may be closed for it.
    pub async fn admitted(&self) -> bool {
        self.seat.is_in(&self.seats) || self.seat.move_to(&self.seats).await
    }

    /// States what the connection does from now on.
    pub fn is(&self, doing: Doing) {
        self.seat.is(doing);
    }

    /// Time for the next request: all of `timeout` on a seat, little in the lobby.
    pub fn patience(&self, timeout: Duration) -> Duration {
        if self.seat.is_in(&self.seats) { timeout } else { timeout.min(LOBBY_PATIENCE) }
    }

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

/// A bound listener and its limits.
pub struct Gate {
    /// The listener.
    pub listener: TcpListener,
    /// Connections that are served at the same time.
    pub max_connections: u32,
    /// Time for a request; a stop waits no longer than that.
    pub timeout: Duration,
    /// Time without a request after which a connection makes room for others.
    pub idle: Duration,
    /// Name of the node in logs.
    pub node: Arc<str>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Gate {
    /// Accepts connections until it is to stop; then waits for what is under way.
    pub async fn open<S: Service>(self, service: Arc<S>, stopping: impl Future<Output = ()>) {
        let mut asked_to_stop = pin!(stopping);
        let Gate { listener, max_connections, timeout, idle, node, clock } = self;
        let affordable = Gate::affordable();
        let count = (max_connections as usize).min(affordable);
        if count < max_connections as usize {
            let remedy = "raise the limit of open files (ulimit -n, LimitNOFILE=), of which a listener takes a quarter";
            tracing::info!(node = &*node, max_connections, served = count, remedy, "fewer connections are served");
        }
        let seats = Seats::new(count, idle);
        let lobby = Seats::new(LOBBY, Duration::ZERO);
        let (stop, stopping) = watch::channel(false);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut asked_to_stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(node = &*node, %error, "cannot take a connection");
                    lobby.make_room(None);
                    seats.make_room(None);
                    clock.sleep(PAUSE).await;
                    continue;
                }
            };
            let network = Network::of(peer.ip());
            let seat = match seats.free(network) {
                Some(seat) => Some(seat),
                None => lobby.take(network).await,
            };
            // Even the lobby is busy with requests: the peer finds the connection closed.
            let Some(seat) = seat else { continue };
            let guest = Guest { peer, seat, seats: seats.clone(), stopping: stopping.clone() };
            tokio::spawn(receive(service.clone(), stream, guest));
        }
        drop(listener);
        stop.send_replace(true);
        if tokio::time::timeout(LAST_ANSWERS.min(timeout), seats.empty()).await.is_err() {
            tracing::warn!(node = &*node, "stopped before everything that had begun was answered");
        }
    }

    /// Connections that leave files and other listeners enough file descriptors; proc(5) tells the limit of the process.
    fn affordable() -> usize {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        soft.map_or(usize::MAX, |soft| (soft / 4).max(1))
    }
}

/// One connection, as long as it lasts.
async fn receive<S: Service>(service: Arc<S>, stream: TcpStream, guest: Guest) {
    // Answers are small and somebody waits for them.
    let _ = stream.set_nodelay(true);
    tokio::select! {
        // A request that has come in already counts.
        biased;
        () = service.serve(stream, &guest) => {}
        () = guest.seat.asked_to_leave() => service.displaced(guest.peer),
    }
}
