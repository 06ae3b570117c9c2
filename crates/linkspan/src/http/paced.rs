//! A form's body, given to its parser no faster than the parser makes something of it.
//!
//! The parser takes all that is there into memory, and keeps what is no part yet: the text before the first part, and a part's
//! headers, however long. Here it gets one chunk a turn, and only so much of what comes to nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::Stream;

/// So many bytes may come without a part, or a piece of one, in them.
const MOST_UNUSED: u64 = 64 * 1024;

/// The stream that the parser reads.
pub(super) struct Paced {
    chunks: BodyDataStream,
    pace: Arc<Pace>,
    left: u64,
    pause: bool,
}

/// What the reader of the parts tells the stream, and the stream the reader.
#[derive(Debug, Default)]
pub(super) struct Pace {
    unused: AtomicU64,
    body_too_large: AtomicBool,
    headers_too_large: AtomicBool,
}

/// Why a stream ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// The form is larger than its limit.
    Body,
    /// Too much came before or between the parts.
    Headers,
}

impl Paced {
    /// A body of at most `limit` bytes.
    pub(super) fn new(chunks: BodyDataStream, limit: u64) -> (Self, Arc<Pace>) {
        let pace = Arc::new(Pace::default());
        let paced = Self {
            chunks,
            pace: pace.clone(),
            left: limit,
            pause: false,
        };
        (paced, pace)
    }
}

impl Pace {
    /// Something came of what was read so far.
    pub(super) fn used(&self) {
        self.unused.store(0, Ordering::Release);
    }

    /// Whether, and why, the stream ended early.
    pub(super) fn excess(&self) -> Option<Excess> {
        if self.body_too_large.load(Ordering::Acquire) {
            return Some(Excess::Body);
        }
        self.headers_too_large
            .load(Ordering::Acquire)
            .then_some(Excess::Headers)
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.pace.unused.load(Ordering::Acquire) > MOST_UNUSED {
            self.pace.headers_too_large.store(true, Ordering::Release);
            return Poll::Ready(Some(Err(axum::Error::new(
                "the form's headers are too large",
            ))));
        }
        let next = ready!(Pin::new(&mut self.chunks).poll_next(context));
        if let Some(Ok(chunk)) = &next {
            let size = chunk.len() as u64;
            let Some(left) = self.left.checked_sub(size) else {
                self.pace.body_too_large.store(true, Ordering::Release);
                return Poll::Ready(Some(Err(axum::Error::new("the form is too large"))));
            };
            self.left = left;
            self.pace.unused.fetch_add(size, Ordering::AcqRel);
            self.pause = true;
        }
        Poll::Ready(next)
    }
}
