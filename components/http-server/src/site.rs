//! A server without a log: of a sink, which others read from.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weir::Result;
use weir::component::BuildContext;

use crate::listen::Listen;
use crate::server::Handler;

/// How often it is looked whether one that was dropped just before has let go of the address; it may be answering still.
const PATIENCE: u32 = 40;
/// The time between.
const PAUSE: Duration = Duration::from_millis(50);

async fn is_in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).await.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// It listens as long as this is held; requests under way are answered then.
pub struct Site {
    /// Dropped, it tells the server to stop.
    _stop: oneshot::Sender<()>,
}

impl Site {
    /// Listens, and lets `handler` answer.
    pub async fn open(context: &BuildContext, listen: &Listen<'_>, handler: impl Handler) -> Result<Site> {
        for _ in 0..PATIENCE {
            if !is_in_use(listen.address).await {
                break;
            }
            context.clock.sleep(PAUSE).await;
        }
        let gate = listen.place().bind(context).await?;
        let door = listen.door(context, listen.max_body_size.0, Arc::new(handler));
        let (stop, stopping) = oneshot::channel();
        tokio::spawn(gate.open(Arc::new(door), async move {
            let _dropped = stopping.await;
        }));
        Ok(Site { _stop: stop })
    }
}
