//! Where records come from.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::flow::Progress;
use crate::record::{Lane, Record};

/// A stream that is read: at least once from what was committed, in order within a lane.
///
/// One flow calls [`Source::next`] in a loop, also when it has no room for records. Where a source must go on speaking to its cluster
/// between calls it does so in a task or thread of its own, and stops fetching (pauses) by itself when what it has fetched is not taken.
/// Where reading begins is the source's business: it knows where its committed progress is kept (Kafka's group, the store).
#[async_trait]
pub trait Source: Send {
    /// The next thing that happened; without `room`, anything but records. Dropping the future loses nothing: the event comes with the
    /// next call.
    ///
    /// # Errors
    ///
    /// [`SourceError::Passing`]: the source tries again by itself; call again. [`SourceError::Lasting`]: nothing more will come from
    /// it as it is; the flow settles what it has and stops, and whoever owns it says so and starts it anew later.
    /// [`SourceError::Broken`]: records are missing, or the lane is not what it was: never read past in silence.
    async fn next(&mut self, room: bool) -> Result<Event, SourceError>;
}

#[async_trait]
impl<S: Source + ?Sized> Source for Box<S> {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        (**self).next(room).await
    }
}

/// What a source says.
#[derive(Debug)]
pub enum Event {
    /// These lanes are read from here on. Always before their first record.
    Gained(Vec<Gained>),
    /// Records of one lane, in order, never empty.
    Records(Vec<Record>),
    /// Records of these lanes are another's from now on, as soon as `release` is done or dropped: the flow starts nothing more of
    /// them, waits a bounded time for what runs, commits what is done of them, forgets the rest, and releases.
    Revoked {
        /// The lanes.
        lanes: Vec<Lane>,
        /// To be called when nothing of the lanes will be committed any more.
        release: Release,
    },
    /// These lanes are another's already: nothing of them may be committed any more.
    Lost(Vec<Lane>),
    /// The lane has no more records (a shard that was split or merged). `release` is done when its last one is committed; dropped
    /// before that, it is not.
    Ended {
        /// The lane.
        lane: Lane,
        /// To be called when all of the lane is committed.
        release: Release,
    },
}

/// A lane that is read from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gained {
    /// The lane.
    pub lane: Lane,
    /// Under which term. What is committed of the lane's records is committed under this one, whatever was taken since.
    pub term: Term,
    /// How far it is committed. Reading begins after the prefix; what was given on beyond it may come again and is passed over.
    pub progress: Progress,
}

/// A lane, as whoever keeps how far lanes are done gives it to a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The term that begins.
    pub term: Term,
    /// How far the lane is done; none where nothing was ever committed.
    pub progress: Option<Progress>,
}

/// One holding of a lane, from its being taken to its being lost: higher each time the lane is taken, whoever takes it. It fences:
/// what was read in one term is never committed in another. Where nobody but the source can take a lane (Kafka's group has
/// generations of its own) it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Tells the source that revoked lanes are free.
pub struct Release(Option<oneshot::Sender<()>>);

impl Release {
    /// A release, and what tells that it was called or dropped.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Nothing of the lanes will be committed any more.
    pub fn done(mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release")
    }
}

/// Why a source gives nothing. Its text is for the log and the health page, and holds no content of a record.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It can pass, and the source goes on by itself.
    #[error("{0}")]
    Passing(String),
    /// It does not pass by itself: a refused login, a topic that is not there.
    #[error("{0}")]
    Lasting(String),
    /// Records that were there are gone (retention overtook the reader), or the stream was made anew.
    #[error("{lane}: {detail}")]
    Broken {
        /// The lane.
        lane: Lane,
        /// What happened and what to do.
        detail: String,
    },
}
