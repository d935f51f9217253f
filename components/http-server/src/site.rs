//! A server without a log: of a sink, which others read from.

use std::sync::Arc;

use tokio::sync::oneshot;
use weir::Result;
use weir::component::BuildContext;

use crate::listen::Listen;
use crate::server::Handler;

/// It listens as long as this is held; requests under way are answered then.
pub struct Site {
    /// Dropped, it tells the server to stop.
    _stop: oneshot::Sender<()>,
}

impl Site {
    /// Listens, and lets `handler` answer.
    pub async fn open(context: &BuildContext, listen: &Listen<'_>, handler: impl Handler) -> Result<Site> {
        let server = listen.bind(context, listen.max_body_size.0, Arc::new(handler)).await?;
        let (stop, stopping) = oneshot::channel();
        tokio::spawn(server.serve(async move {
            let _dropped = stopping.await;
        }));
        Ok(Site { _stop: stop })
    }
}
