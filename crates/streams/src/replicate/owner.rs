//! Whose turn it is: of all processes that replicate under one name, one copies and the others stand by.
//!
//! Who takes the transactional id fences whoever had it. What the brokers then answer to the fenced process is also what they answer to
//! one whose transaction took too long; if it took the id back, the newcomer would be fenced, and so back and forth. So the progress says
//! whose turn it is: the record `owner`, which a process writes in its first transaction, and again and again as a sign of life. A process
//! looks there before it takes the id and after, and stands by where it finds somebody who came later. A process that ends removes the
//! record. One that dies leaves it; when nothing of it was heard for [`SIGNS`] signs of life, whoever stands by takes its place. A
//! sign of life in a transaction that is still open is one, too: over a slow link a transaction may be long on its way.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clients::{self, Reader};
use super::{ReplicateError, Settings, progress};

/// The key of the record.
pub(super) const KEY: &str = "owner";

/// A process that has missed so many signs of life is taken for dead.
const SIGNS: u32 = 4;

/// Who copies, as it stands in the progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// A random name, one for each [`Replicator`](super::Replicator).
    process: String,
    /// How many signs of life it has given.
    beat: u64,
}

/// What a process knows of its own turn.
pub(super) struct Place {
    process: String,
    beat: u64,
    /// Whom it replaces: whoever was there when it came, then itself. None before it has looked.
    replaces: Option<Option<String>>,
}

/// How long nothing was heard of the process that copies.
pub(super) struct Silence {
    last: Option<Claim>,
    since: Instant,
}

/// Looks who copies, again and again, each time from where it looked last.
pub(super) struct Lookout {
    committed: Tail,
    all: Tail,
}

/// The record as one reader has it.
struct Tail {
    reader: Reader,
    next: i64,
    owner: Option<Claim>,
}

/// Reads who copies.
pub(super) fn read(
    settings: &Settings,
    reader: &Reader,
    go_on: progress::GoOn<'_>,
) -> Result<Option<Claim>, ReplicateError> {
    let mut owner = None;
    read_on(settings, reader, 0, &mut owner, go_on)?;
    Ok(owner)
}

/// Reads from an offset on, and gives the end.
fn read_on(
    settings: &Settings,
    reader: &Reader,
    from: i64,
    owner: &mut Option<Claim>,
    go_on: progress::GoOn<'_>,
) -> Result<i64, ReplicateError> {
    let (topic, partition) = (settings.progress_topic(), progress::TOPICS);
    progress::scan(reader, &topic, partition, from, go_on, |key, value| {
        if key == KEY {
            *owner = value.and_then(|value| serde_json::from_slice(value).ok());
        }
    })
}

impl Lookout {
    pub(super) fn new(settings: &Settings) -> Result<Self, ReplicateError> {
        let (target, group) = (&settings.target, settings.transactional_id());
        Ok(Self {
            committed: Tail::new(clients::reader(target, &group, "target")?),
            all: Tail::new(clients::uncommitted(target, &group, "target")?),
        })
    }

    /// Who has the place, and the last sign of life, be it committed or not.
    pub(super) fn look(
        &mut self,
        settings: &Settings,
        go_on: progress::GoOn<'_>,
    ) -> Result<(Option<Claim>, Option<Claim>), ReplicateError> {
        let owner = self.committed.look(settings, go_on)?;
        Ok((owner, self.all.look(settings, go_on)?))
    }
}

impl Tail {
    fn new(reader: Reader) -> Self {
        Self {
            reader,
            next: 0,
            owner: None,
        }
    }

    fn look(
        &mut self,
        settings: &Settings,
        go_on: progress::GoOn<'_>,
    ) -> Result<Option<Claim>, ReplicateError> {
        let (reader, owner) = (&self.reader, &mut self.owner);
        self.next = read_on(settings, reader, self.next, owner, go_on)?;
        Ok(self.owner.clone())
    }
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            process: uuid::Uuid::new_v4().to_string(),
            beat: 0,
            replaces: None,
        }
    }

    /// Whether it is this process' turn, by who has it now.
    pub(super) fn admits(&mut self, owner: Option<&Claim>) -> bool {
        let owner = owner.map(|claim| &claim.process);
        let replaces = self.replaces.get_or_insert_with(|| owner.cloned());
        owner.is_none_or(|owner| *owner == self.process || Some(owner) == replaces.as_ref())
    }

    /// The next sign of life, to be written.
    pub(super) fn sign(&mut self) -> Claim {
        self.beat += 1;
        Claim {
            process: self.process.clone(),
            beat: self.beat,
        }
    }

    /// Its claim is committed: nobody but itself is replaced any more.
    pub(super) fn took(&mut self) {
        self.replaces = Some(Some(self.process.clone()));
    }

    /// It takes the place of one that is dead or has gone.
    pub(super) fn follows(&mut self, owner: Option<Claim>) {
        self.replaces = Some(owner.map(|claim| claim.process));
    }
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: None,
            since: now,
        }
    }

    /// Whether the place is free, by who was found to have it now, and by the last sign of life. A record that is removed in a
    /// transaction that is still open is a sign of life as well: its process is about to go, and has not gone.
    pub(super) fn is_over(
        &mut self,
        owner: Option<&Claim>,
        last: Option<&Claim>,
        now: Instant,
        sign: Duration,
    ) -> bool {
        if owner.is_none() {
            return true;
        }
        if self.last.as_ref() != last {
            self.last = last.cloned();
            self.since = now;
        }
        now.duration_since(self.since) >= sign * SIGNS
    }

    /// It could not be looked: that says nothing of who copies.
    pub(super) fn unknown(&mut self, now: Instant) {
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_replaces_who_was_there_and_nobody_who_came_after_it() {
        let (mut first, mut second) = (Place::new(), Place::new());
        assert!(first.admits(None));
        let of_first = first.sign();
        // Its commit was not acknowledged, and was done all the same.
        assert!(first.admits(Some(&of_first)));
        first.took();
        assert!(second.admits(Some(&of_first)));
        // The first begins again before the second has written its claim, and then after.
        assert!(first.admits(Some(&of_first)));
        assert!(second.admits(Some(&of_first)));
        let of_second = second.sign();
        second.took();
        assert!(!first.admits(Some(&of_second)));
        assert!(second.admits(Some(&of_second)));
        // Two newcomers at once: whoever was slower stands by.
        let mut third = Place::new();
        assert!(third.admits(Some(&of_first)));
        assert!(!third.admits(Some(&of_second)));
        // Whoever has gone is missed by nobody.
        assert!(first.admits(None));
        first.follows(Some(of_second.clone()));
        assert!(first.admits(Some(&of_second)));
    }

    #[test]
    fn a_place_is_free_when_its_process_has_gone_or_says_nothing_for_long() {
        let (begun, sign) = (Instant::now(), Duration::from_secs(5));
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut place = Place::new();
        let mut silence = Silence::new(begun);
        assert!(silence.is_over(None, None, begun, sign));
        let (one, two, three) = (place.sign(), place.sign(), place.sign());
        let mut over = |owner, last, at| silence.is_over(Some(owner), last, after(at), sign);
        assert!(!over(&one, Some(&one), 60));
        assert!(!over(&two, Some(&two), 75));
        assert!(!over(&two, Some(&two), 94));
        // A transaction that takes long goes on giving signs of life.
        assert!(!over(&two, Some(&three), 95));
        assert!(!over(&two, Some(&three), 114));
        // It is about to go, and does not come to it.
        assert!(!over(&two, None, 114));
        assert!(!over(&two, None, 133));
        // While the target does not answer, nothing of the other one is known.
        silence.unknown(after(133));
        assert!(!silence.is_over(Some(&two), None, after(152), sign));
        assert!(silence.is_over(Some(&two), None, after(153), sign));
    }
}
