//! The stream under a conversation with the mail server, as the mail library takes it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that is connected, and encrypted where it has to be.
pub(super) struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    /// What is read before the stream's own bytes.
    before: &'static [u8],
}

impl<S> Wire<S> {
    /// A stream on which the server has yet to greet.
    pub(super) const fn new(stream: S, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            before: b"",
        }
    }

    /// A stream on which the server has greeted before TLS: the library waits for a greeting and is given one.
    pub(super) const fn greeted(stream: S, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            before: b"220 encrypted\r\n",
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.before.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let (now, later) = this
            .before
            .split_at(this.before.len().min(buffer.remaining()));
        buffer.put_slice(now);
        this.before = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S> fmt::Debug for Wire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
