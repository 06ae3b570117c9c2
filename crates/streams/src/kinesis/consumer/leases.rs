//! Who reads which shard: kept where the progress is kept, so that several gateways share a stream's shards.

use std::sync::Arc;

use async_trait::async_trait;

use crate::flow::Progress;
use crate::record::Lane;
use crate::source::Term;

/// The lanes of one stream as a store keeps them: who holds each under a lease, how far it is done, and whether all of it is.
///
/// Called by one task of a source and, for [`Leases::list`] and [`Leases::note`], by its readers; not often: a few times in the time of a
/// lease, and where a lane is first seen, begins and ends. An error is a sentence for the log, without content of a record; nothing is known to
/// have changed, and the call is made again.
///
/// Whoever commits progress does so under the term in which the records were read: a lane that was taken since, by whomever, takes
/// nothing more from an earlier term.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes lanes; gives those that it got. [`Takeable::Free`] leaves out what somebody else holds.
    ///
    /// # Errors
    ///
    /// Nothing was taken.
    async fn take(&self, lanes: &[Lane], which: Takeable) -> Result<Vec<Taken>, String>;

    /// Prolongs the leases of all lanes that were taken and not released. Gives those that are somebody else's by now.
    ///
    /// # Errors
    ///
    /// No lease was prolonged.
    async fn renew(&self) -> Result<Vec<Lane>, String>;

    /// Returns when somebody's commit was refused because lanes are somebody else's: then [`Leases::renew`] tells at once which they
    /// are. Until the source says so to the flow, the refusal is to be one that passes
    /// ([`CommitError::Passing`](crate::flow::CommitError::Passing)): what else is in that commit is still this one's. Dropping the
    /// future loses nothing.
    async fn refused(&self);

    /// Lets lanes go. Called when nothing of them will be committed any more.
    ///
    /// # Errors
    ///
    /// They become free when their leases end.
    async fn release(&self, lanes: &[Lane]) -> Result<(), String>;

    /// Every lane that is known, whoever holds it.
    ///
    /// # Errors
    ///
    /// Unknown.
    async fn list(&self) -> Result<Vec<Known>, String>;

    /// Writes down how far a lane is done that is held under that term, or that all of it is; durable on return. False: the term is over.
    ///
    /// # Errors
    ///
    /// Unknown whether it was written.
    async fn note(&self, lane: &Lane, term: Term, note: Note) -> Result<bool, String>;

    /// Writes down where lanes begin that were just taken, all at once or nothing; durable on return. False: nothing was written, for
    /// some of them are somebody else's.
    ///
    /// # Errors
    ///
    /// Unknown whether it was written.
    async fn begin(&self, begins: Vec<(Taken, Note)>) -> Result<bool, String>;

    /// Forgets lanes that are done and whose shards are gone.
    ///
    /// # Errors
    ///
    /// They stay.
    async fn forget(&self, lanes: &[Lane]) -> Result<(), String>;
}

/// Which lanes can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeable {
    /// Those that nobody holds, or whose lease is over.
    Free,
    /// All.
    Any,
}

/// A lane that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The lane.
    pub lane: Lane,
    /// The term that begins.
    pub term: Term,
    /// How far it is done; none where nothing was ever noted or committed.
    pub progress: Option<Progress>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// A lane, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The lane.
    pub lane: Lane,
    /// Who holds it.
    pub holder: Holder,
    /// How far it is done.
    pub progress: Option<Progress>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// Who holds a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody, or its lease is over.
    Nobody,
    /// This process.
    Me,
    /// Another one, by its name.
    Other(Arc<str>),
}

/// What is written down of a lane besides the flow's commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Reading goes on there.
    Progress(Progress),
    /// All of it is done.
    Ended,
}
