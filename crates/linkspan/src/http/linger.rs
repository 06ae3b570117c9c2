//! Closing a connection so that its last answer arrives.
//!
//! A request may be refused while its body is still coming. Closing then would reset the connection, and the caller would see that
//! and not the answer (RFC 9112 section 9.6). So the gateway ends its own side, and passes over what still comes, for a while.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// So long nothing may come.
const SILENCE: Duration = Duration::from_secs(2);

/// So long it may take in all.
const LONGEST: Duration = Duration::from_secs(10);

/// A connection that lingers when it is shut down.
pub(super) struct Lingering<I> {
    io: I,
    closing: Option<Closing>,
}

struct Closing {
    end: Instant,
    silence: Pin<Box<Sleep>>,
}

impl<I> Lingering<I> {
    pub(super) const fn new(io: I) -> Self {
        Self { io, closing: None }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lingering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
        }
        let now = Instant::now();
        let closing = this.closing.get_or_insert_with(|| Closing {
            end: now + LONGEST,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
        });
        let mut bytes = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.io).poll_read(context, &mut buffer) {
                // The other side is done, or gone.
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if Instant::now() >= closing.end => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => closing.silence.as_mut().reset(Instant::now() + SILENCE),
                Poll::Pending => {
                    ready!(closing.silence.as_mut().poll(context));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
