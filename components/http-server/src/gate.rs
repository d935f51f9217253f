//! Accepted connections, whatever is spoken over them: decrypted where there is TLS, and handed to a service.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use weir::listen::{self, Guest};

/// Speaks with who has connected.
pub trait Service: Send + Sync + 'static {
    /// Serves one connection until it ends. Once [`Guest::stopping`] says so it takes nothing new, and ends when what has begun
    /// is answered. It is dropped where another one needs its place, see [`listen::Doing`].
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
    /// Another connection needed the place.
    #[error("another connection needed the place")]
    Displaced,
}

/// Takes connections.
pub struct Gate {
    pub(crate) gate: listen::Gate,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Gate {
    /// Lets in who connects until it is to stop; then waits for what is under way.
    pub async fn open<S: Service>(self, service: Arc<S>, stopping: impl Future<Output = ()>) {
        let Gate { gate, tls } = self;
        if let Ok(address) = gate.listener.local_addr() {
            tracing::info!(node = &*gate.node, %address, "listening");
        }
        let timeout = gate.timeout;
        gate.open(Arc::new(Decrypted { service, tls, timeout }), stopping).await;
    }
}

/// The service behind TLS, where there is TLS.
struct Decrypted<S> {
    service: Arc<S>,
    tls: Option<TlsAcceptor>,
    /// For the handshake.
    timeout: Duration,
}

impl<S: Service> listen::Service for Decrypted<S> {
    async fn serve(&self, stream: TcpStream, guest: &Guest) {
        let Some(tls) = &self.tls else { return self.service.serve(stream, guest).await };
        match tokio::time::timeout(guest.patience(self.timeout), tls.accept(stream)).await {
            Ok(Ok(stream)) => self.service.serve(stream, guest).await,
            Ok(Err(error)) => self.service.lost(guest.peer, &Lost::Handshake(error)),
            Err(_) => self.service.lost(guest.peer, &Lost::SlowHandshake),
        }
    }

    fn displaced(&self, peer: SocketAddr) {
        self.service.lost(peer, &Lost::Displaced);
    }
}
