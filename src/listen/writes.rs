//! A stream that fails when its peer does not read.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream whose peer has to read what is written within a time: from the moment a write first has to wait until all that
/// was written is flushed. Reading a byte now and then does not prolong it.
pub struct WriteLimit<S> {
    stream: S,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimit<S> {
    /// Limits the time of writes to `stream`.
    pub fn new(stream: S, limit: Duration) -> WriteLimit<S> {
        WriteLimit { stream, limit, deadline: None }
    }

    /// Fails a write that waits beyond the deadline.
    fn judge<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimit<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            self.deadline = None;
        }
        self.judge(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_write_fails_if_the_peer_reads_nothing_and_if_it_reads_too_slowly() {
        let limit = Duration::from_millis(20);
        let (near, mut far) = tokio::io::duplex(1);
        let mut near = WriteLimit::new(near, limit);
        let error = near.write_all(b"ab").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "nothing was read");
        let (near, mut slow) = tokio::io::duplex(1);
        let mut near = WriteLimit::new(near, limit);
        let reader = tokio::spawn(async move { while slow.read_u8().await.is_ok() {} });
        // A gigabyte byte by byte takes minutes.
        let error = near.write_all(&vec![0; 1 << 30]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "every byte was read, but not in time");
        drop(near);
        reader.await.unwrap();
        far.read_u8().await.unwrap();
    }

    #[tokio::test]
    async fn the_time_between_answers_does_not_count() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut near = WriteLimit::new(near, Duration::from_secs(3600));
        for answer in [b"ab", b"cd"] {
            let mut read = [0; 2];
            let (written, _) = tokio::join!(near.write_all(answer), far.read_exact(&mut read));
            written.unwrap();
            assert!(near.deadline.is_some(), "the second byte had to wait");
            near.flush().await.unwrap();
            assert!(near.deadline.is_none());
        }
    }
}
