//! The loop of a flow: one task owns all of its state, so that nothing is locked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use thiserror::Error;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lane::LaneState;
use super::limit::Limit;
use super::{Commit, CommitError, Committer, Failure, LaneCommit, Meter, Process, Settings};
use crate::record::{Lane, Record};
use crate::source::{Event, Release, Source, SourceError, Term};

/// How often lanes are looked at for a record that holds them up.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// A flow: a source, a process, a committer, and how they go together.
pub struct Flow<S, P: Process, C> {
    /// Where records come from.
    pub source: S,
    /// What is done with them.
    pub process: Arc<P>,
    /// Who takes what comes out.
    pub committer: C,
    /// How it goes.
    pub settings: Settings,
    /// What it counts.
    pub meter: Arc<Meter>,
    /// Cancelled: takes nothing more, lets what runs end for [`Settings::drain`], commits what is done, and ends.
    pub stop: CancellationToken,
}

/// Why a flow ended by itself. Everything that was done before is committed; the rest comes again.
#[derive(Debug, Error)]
pub enum FlowError {
    /// The source.
    #[error("{0}")]
    Source(SourceError),
    /// The committer.
    #[error("{0}")]
    Commit(CommitError),
}

impl<S, P, C> Flow<S, P, C>
where
    S: Source,
    P: Process,
    C: Committer<P::Output> + 'static,
{
    /// Runs until it is stopped or cannot go on.
    ///
    /// # Errors
    ///
    /// The source's or committer's error that does not pass by itself.
    pub async fn run(self) -> Result<(), FlowError> {
        let mut running = Running::new(self);
        running.run().await
    }
}

/// A lane of the running flow. The same lane gained anew is another one.
type Epoch = u64;

/// Records of one lane that one call takes.
struct Piece {
    epoch: Epoch,
    sequences: Vec<u64>,
}

/// A call that ended.
struct Ended<O> {
    outcomes: Vec<Result<O, Failure>>,
    took: Duration,
}

struct Call {
    piece: Piece,
    abort: AbortHandle,
}

struct Held<O> {
    term: Term,
    state: LaneState<O>,
    /// Taken and not committed.
    records: usize,
    bytes: usize,
    /// How many of its records are being worked on.
    under_way: usize,
    /// The begun record that holds up the lane, and since when.
    head: Option<(u64, Instant)>,
    /// Nothing more of it is begun.
    closing: bool,
    /// To be called when all of it is committed.
    ended: Option<Release>,
}

struct Revoking {
    epochs: Vec<Epoch>,
    release: Release,
    until: Instant,
}

/// A commit that is offered again.
struct Again<O> {
    commit: Commit<O>,
    due: Instant,
}

type Committing<O, C> = BoxFuture<'static, (C, Commit<O>, Result<(), CommitError>)>;

struct Running<S, P: Process, C> {
    source: S,
    process: Arc<P>,
    settings: Settings,
    meter: Arc<Meter>,
    stop: CancellationToken,
    limit: Limit,
    lanes: HashMap<Epoch, Held<P::Output>>,
    epochs: HashMap<Lane, Epoch>,
    next_epoch: Epoch,
    waiting: VecDeque<Piece>,
    /// What is tried again, by when.
    resting: BinaryHeap<Reverse<(Instant, Epoch, u64)>>,
    calls: HashMap<Id, Call>,
    tasks: JoinSet<Ended<P::Output>>,
    records: usize,
    bytes: usize,
    /// Done and not given.
    done: usize,
    /// When the first of them was done.
    done_since: Option<Instant>,
    /// At rest, or away with a commit.
    committer: Option<C>,
    committing: Option<Committing<P::Output, C>>,
    again: Option<Again<P::Output>>,
    refusals: u32,
    /// The lanes of the commit under way.
    offered: HashMap<Lane, Epoch>,
    revoking: Option<Revoking>,
    /// Until when what runs may go on.
    stopping: Option<Instant>,
    failed: Option<FlowError>,
    look: Instant,
}

impl<S, P, C> Running<S, P, C>
where
    S: Source,
    P: Process,
    C: Committer<P::Output> + 'static,
{
    fn new(flow: Flow<S, P, C>) -> Self {
        Self {
            limit: Limit::new(flow.settings.concurrency),
            source: flow.source,
            process: flow.process,
            settings: flow.settings,
            meter: flow.meter,
            stop: flow.stop,
            lanes: HashMap::new(),
            epochs: HashMap::new(),
            next_epoch: 0,
            waiting: VecDeque::new(),
            resting: BinaryHeap::new(),
            calls: HashMap::new(),
            tasks: JoinSet::new(),
            records: 0,
            bytes: 0,
            done: 0,
            done_since: None,
            committer: Some(flow.committer),
            committing: None,
            again: None,
            refusals: 0,
            offered: HashMap::new(),
            revoking: None,
            stopping: None,
            failed: None,
            look: Instant::now(),
        }
    }

    async fn run(&mut self) -> Result<(), FlowError> {
        loop {
            self.begin();
            self.offer();
            self.let_go();
            self.meter.holds(self.records, self.bytes, self.limit.get());
            if self.is_over() {
                self.tasks.shutdown().await;
                return self.failed.take().map_or(Ok(()), Err);
            }
            let room = self.stopping.is_none()
                && self.revoking.is_none()
                && self.records < self.settings.in_flight
                && self.bytes < self.settings.in_flight_bytes;
            let wake = self.wake();
            tokio::select! {
                biased;
                (committer, commit, result) = async {
                    match &mut self.committing {
                        Some(committing) => committing.await,
                        None => std::future::pending().await,
                    }
                } => self.committed(committer, commit, result)?,
                () = self.stop.cancelled(), if self.stopping.is_none() => self.wind_down(None),
                Some(joined) = self.tasks.join_next_with_id() => self.returned(joined),
                event = self.source.next(room), if self.stopping.is_none() => match event {
                    Ok(event) => self.happened(event),
                    Err(SourceError::Passing(why)) => tracing::warn!("the source gives nothing for now: {why}"),
                    Err(error) => self.wind_down(Some(FlowError::Source(error))),
                },
                () = sleep_until(wake) => self.look(),
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Gained(gained) => {
                for gained in gained {
                    self.lose(&gained.lane);
                    let epoch = self.next_epoch;
                    self.next_epoch += 1;
                    self.epochs.insert(gained.lane.clone(), epoch);
                    self.lanes.insert(
                        epoch,
                        Held {
                            term: gained.term,
                            state: LaneState::new(
                                gained.lane,
                                self.settings.order,
                                gained.progress,
                            ),
                            records: 0,
                            bytes: 0,
                            under_way: 0,
                            head: None,
                            closing: false,
                            ended: None,
                        },
                    );
                }
            }
            Event::Records(records) => self.take(records),
            Event::Revoked { lanes, release } => {
                let epochs = lanes.iter().filter_map(|lane| self.epochs.get(lane));
                let epochs: Vec<_> = epochs.copied().collect();
                for epoch in &epochs {
                    if let Some(held) = self.lanes.get_mut(epoch) {
                        held.closing = true;
                    }
                }
                self.revoking = Some(Revoking {
                    epochs,
                    release,
                    until: Instant::now() + self.settings.drain,
                });
            }
            Event::Lost(lanes) => lanes.iter().for_each(|lane| self.lose(lane)),
            Event::Ended { lane, release } => {
                let epoch = self.epochs.get(&lane);
                if let Some(held) = epoch.and_then(|epoch| self.lanes.get_mut(epoch)) {
                    held.ended = Some(release);
                }
            }
        }
    }

    fn take(&mut self, records: Vec<Record>) {
        let Some(epoch) = records
            .first()
            .and_then(|record| self.epochs.get(&record.lane))
            .copied()
        else {
            return;
        };
        let Some(held) = self.lanes.get_mut(&epoch).filter(|held| !held.closing) else {
            return;
        };
        let now = Timestamp::now();
        self.meter.took(records.len());
        let batch = self.process.batch().max(1);
        let mut sequences = Vec::with_capacity(records.len());
        let mut defects = Vec::new();
        for record in records {
            let size = record.size();
            let defect = record.defect.clone();
            let Some(sequence) = held.state.take(Arc::new(record), now) else {
                continue;
            };
            held.records += 1;
            held.bytes += size;
            self.records += 1;
            self.bytes += size;
            match defect {
                None => sequences.push(sequence),
                Some(reason) => defects.push((sequence, reason)),
            }
        }
        let pieces = sequences.chunks(batch).map(|piece| Piece {
            epoch,
            sequences: piece.to_vec(),
        });
        self.waiting.extend(pieces);
        for (sequence, reason) in defects {
            self.settle(epoch, sequence, Err(given_up("undecodable", &reason)));
        }
    }

    /// Begins as many calls as the limit allows.
    fn begin(&mut self) {
        while self.calls.len() < self.limit.get()
            && let Some(mut piece) = self.waiting.pop_front()
        {
            let held = self.lanes.get_mut(&piece.epoch);
            let Some(held) = held.filter(|held| !held.closing) else {
                continue;
            };
            let mut records = Vec::with_capacity(piece.sequences.len());
            piece.sequences.retain(|sequence| {
                let record = held.state.begin(*sequence);
                let open = record.is_some();
                records.extend(record);
                open
            });
            if records.is_empty() {
                continue;
            }
            held.under_way += records.len();
            let process = Arc::clone(&self.process);
            let abort = self.tasks.spawn(async move {
                let start = Instant::now();
                let outcomes = process.process(&records).await;
                Ended {
                    outcomes,
                    took: start.elapsed(),
                }
            });
            self.calls.insert(abort.id(), Call { piece, abort });
        }
    }

    fn returned(&mut self, joined: Result<(Id, Ended<P::Output>), JoinError>) {
        let (id, mut ended) = match joined {
            Ok((id, ended)) => (id, Some(ended)),
            Err(error) => (error.id(), None),
        };
        // A call that was given up is not in the list any more.
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        if let Some(ended) = &ended {
            let overloaded = ended
                .outcomes
                .iter()
                .any(|outcome| matches!(outcome, Err(failure) if failure.overloaded));
            self.limit
                .ended(ended.took, self.calls.len() + 1, overloaded);
        }
        let mut outcomes = ended
            .as_mut()
            .map(|ended| std::mem::take(&mut ended.outcomes))
            .unwrap_or_default()
            .into_iter();
        for sequence in call.piece.sequences {
            let outcome = outcomes.next().unwrap_or_else(|| Err(broke_off()));
            self.conclude(call.piece.epoch, sequence, outcome);
        }
    }

    /// One record of a call that ended.
    fn conclude(&mut self, epoch: Epoch, sequence: u64, outcome: Result<P::Output, Failure>) {
        let Some(held) = self.lanes.get_mut(&epoch) else {
            return;
        };
        held.under_way -= 1;
        let Some(attempts) = held.state.attempts(sequence) else {
            return;
        };
        if let Err(failure) = &outcome
            && failure.retryable
            && (attempts < self.settings.attempts || held.closing)
        {
            // A closing lane's record is left as it is: it comes again, to whoever has the lane then.
            if !held.closing {
                let rest = self.settings.rest(attempts);
                let rest = rest.max(failure.after.unwrap_or_default());
                self.resting
                    .push(Reverse((Instant::now() + rest, epoch, sequence)));
                self.meter.retries();
            }
            return;
        }
        self.settle(epoch, sequence, outcome);
    }

    fn settle(&mut self, epoch: Epoch, sequence: u64, outcome: Result<P::Output, Failure>) {
        let held = self.lanes.get_mut(&epoch);
        if held.is_some_and(|held| held.state.settle(sequence, outcome)) {
            self.done += 1;
            self.done_since.get_or_insert_with(Instant::now);
        }
    }

    /// Offers what is done to the committer, when it is time.
    fn offer(&mut self) {
        if self.committing.is_some() || self.committer.is_none() {
            return;
        }
        let now = Instant::now();
        let commit = match self.again.take_if(|again| again.due <= now) {
            Some(again) => again.commit,
            None if self.again.is_some() => return,
            None => {
                let hurried = self.revoking.is_some()
                    || self.stopping.is_some()
                    || self.done >= self.settings.commit_records;
                let due = self.done_since.map(|since| since + self.settings.linger);
                if !hurried && due.is_none_or(|due| now < due) {
                    return;
                }
                let commit = self.gather();
                if commit.lanes.is_empty() {
                    // Done out of order: nothing can be given before the head of the lane is done, and then it is looked at again.
                    self.done_since = None;
                    return;
                }
                commit
            }
        };
        let Some(mut committer) = self.committer.take() else {
            return;
        };
        self.committing = Some(
            async move {
                let result = committer.commit(&commit).await;
                (committer, commit, result)
            }
            .boxed(),
        );
    }

    fn gather(&mut self) -> Commit<P::Output> {
        let mut lanes = Vec::new();
        self.offered.clear();
        let mut left = false;
        for (epoch, held) in &mut self.lanes {
            let outputs = held.state.gather(self.settings.commit_records);
            if outputs.is_empty() {
                continue;
            }
            self.done -= outputs.len();
            left |= held.state.has_ready();
            self.offered.insert(held.state.lane().clone(), *epoch);
            lanes.push(LaneCommit {
                lane: held.state.lane().clone(),
                term: held.term,
                outputs,
                progress: held.state.progress(),
            });
        }
        self.done_since = left.then(Instant::now);
        Commit { lanes }
    }

    fn committed(
        &mut self,
        committer: C,
        mut commit: Commit<P::Output>,
        result: Result<(), CommitError>,
    ) -> Result<(), FlowError> {
        self.committing = None;
        self.committer = Some(committer);
        match result {
            Ok(()) => {
                self.refusals = 0;
                self.settled(&commit);
                self.offered.clear();
            }
            Err(CommitError::Passing(why)) => {
                self.refusals += 1;
                let rest = self.settings.rest(self.refusals);
                tracing::warn!("a commit was refused and is offered again: {why}");
                // What was lost meanwhile is not ours to commit.
                commit.lanes.retain(|part| {
                    let offered = self.offered.get(&part.lane);
                    offered.is_some() && offered == self.epochs.get(&part.lane)
                });
                if commit.lanes.is_empty() {
                    self.offered.clear();
                } else {
                    let due = Instant::now() + rest;
                    self.again = Some(Again { commit, due });
                }
            }
            Err(CommitError::Fenced(why)) => {
                tracing::info!("lanes went to another one before a commit: {why}");
                for epoch in std::mem::take(&mut self.offered).into_values() {
                    self.forget(epoch);
                }
            }
            Err(error) => return Err(FlowError::Commit(error)),
        }
        Ok(())
    }

    /// A commit is durable.
    fn settled(&mut self, commit: &Commit<P::Output>) {
        let mut records = 0;
        let mut dead = 0;
        for part in &commit.lanes {
            records += part.outputs.len();
            dead += part
                .outputs
                .iter()
                .filter(|output| output.outcome.is_err())
                .count();
            let epoch = self.offered.get(&part.lane);
            if let Some(held) = epoch.and_then(|epoch| self.lanes.get_mut(epoch)) {
                let bytes: usize = part.outputs.iter().map(|output| output.record.size()).sum();
                held.records -= part.outputs.len();
                held.bytes -= bytes;
                self.records -= part.outputs.len();
                self.bytes -= bytes;
            }
        }
        self.meter.commits(records, dead);
    }

    /// Lets go of lanes that are revoked or at their end, as soon as nothing more of them is to be committed.
    fn let_go(&mut self) {
        let ended: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, held)| held.ended.is_some())
            .filter(|(_, held)| {
                held.state.is_empty() && !self.offered.contains_key(held.state.lane())
            })
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in ended {
            let release = self
                .lanes
                .get_mut(&epoch)
                .and_then(|held| held.ended.take());
            self.forget(epoch);
            if let Some(release) = release {
                release.done();
            }
        }
        let Some(revoking) = &self.revoking else {
            return;
        };
        let late = revoking.until <= Instant::now();
        let busy_with = revoking
            .epochs
            .iter()
            .filter_map(|epoch| self.lanes.get(epoch))
            .any(|held| {
                let waits = held.under_way > 0 || held.state.has_ready();
                let away =
                    self.committing.is_some() && self.offered.contains_key(held.state.lane());
                // A commit that is away is not taken back, however late it is.
                away || !late && (waits || self.offered.contains_key(held.state.lane()))
            });
        if busy_with {
            return;
        }
        if let Some(revoking) = self.revoking.take() {
            for epoch in revoking.epochs {
                self.forget(epoch);
            }
            revoking.release.done();
        }
    }

    fn lose(&mut self, lane: &Lane) {
        if let Some(epoch) = self.epochs.get(lane) {
            self.forget(*epoch);
        }
    }

    /// Nothing more of the lane is done or committed.
    fn forget(&mut self, epoch: Epoch) {
        let Some(held) = self.lanes.remove(&epoch) else {
            return;
        };
        self.records -= held.records;
        self.bytes -= held.bytes;
        self.done -= held.state.done();
        let lane = held.state.lane();
        if self.epochs.get(lane) == Some(&epoch) {
            self.epochs.remove(lane);
        }
        if let Some(again) = &mut self.again {
            again.commit.lanes.retain(|part| part.lane != *lane);
            self.offered.remove(lane);
            if again.commit.lanes.is_empty() {
                self.again = None;
            }
        }
        self.calls.retain(|_, call| {
            let stays = call.piece.epoch != epoch;
            if !stays {
                call.abort.abort();
            }
            stays
        });
    }

    /// Begins to stop.
    fn wind_down(&mut self, failed: Option<FlowError>) {
        self.failed = failed;
        self.stopping = Some(Instant::now() + self.settings.drain);
        for held in self.lanes.values_mut() {
            held.closing = true;
        }
    }

    fn is_over(&self) -> bool {
        let Some(until) = self.stopping else {
            return false;
        };
        if self.committing.is_some() {
            return false;
        }
        let ready = self.lanes.values().any(|held| held.state.has_ready());
        until <= Instant::now() || self.calls.is_empty() && self.again.is_none() && !ready
    }

    /// When there is something to look at, without anything happening before.
    fn wake(&self) -> Instant {
        let home = self.committer.is_some();
        // What waits for the end of a commit is looked at when that has come.
        let settled = self.committing.is_none();
        let times = [
            self.resting.peek().map(|Reverse((due, ..))| *due),
            self.done_since
                .filter(|_| home && self.again.is_none())
                .map(|since| since + self.settings.linger),
            self.again.as_ref().map(|again| again.due),
            self.revoking
                .as_ref()
                .map(|revoking| revoking.until)
                .filter(|_| settled),
            self.stopping.filter(|_| settled),
        ];
        times.into_iter().flatten().fold(self.look, Instant::min)
    }

    /// Time has passed.
    fn look(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, epoch, sequence))) = self.resting.peek().copied()
            && due <= now
        {
            self.resting.pop();
            self.waiting.push_front(Piece {
                epoch,
                sequences: vec![sequence],
            });
        }
        if self.look <= now {
            self.look = now + (self.settings.deadline / 10).clamp(SHORTEST_LOOK, LONGEST_LOOK);
            self.free_lanes(now);
        }
    }

    /// Gives up the records that hold up their lanes for too long.
    fn free_lanes(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (epoch, held) in &mut self.lanes {
            let head = held.state.head();
            let begun = head.filter(|head| held.state.attempts(*head).is_some_and(|n| n > 0));
            held.head = match (begun, held.head) {
                (Some(head), Some((before, since))) if head == before => Some((head, since)),
                (Some(head), _) => Some((head, now)),
                (None, _) => None,
            };
            if let Some((head, since)) = held.head
                && now - since >= self.settings.deadline
            {
                late.push((*epoch, head));
            }
        }
        for (epoch, sequence) in late {
            self.abandon(epoch, sequence);
            let held_up = self.settings.deadline;
            let reason = format!("given up: it held up the records after it for {held_up:?}");
            self.settle(epoch, sequence, Err(given_up("deadline", &reason)));
        }
    }

    /// Breaks off the call that works on a record. The call's other records are tried one by one.
    fn abandon(&mut self, epoch: Epoch, sequence: u64) {
        let call = self.calls.iter().find(|(_, call)| {
            call.piece.epoch == epoch && call.piece.sequences.contains(&sequence)
        });
        let Some(call) = call
            .map(|(id, _)| *id)
            .and_then(|id| self.calls.remove(&id))
        else {
            return;
        };
        call.abort.abort();
        if let Some(held) = self.lanes.get_mut(&epoch) {
            held.under_way -= call.piece.sequences.len();
        }
        let others = call.piece.sequences.into_iter().rev();
        for other in others.filter(|other| *other != sequence) {
            self.waiting.push_front(Piece {
                epoch,
                sequences: vec![other],
            });
        }
    }
}

/// A call that gave no outcome: it panicked.
fn broke_off() -> Failure {
    given_up(
        "internal",
        "the work broke off: a fault in linkspan, see the log",
    )
}

/// A failure that no further try can mend.
fn given_up(code: &str, reason: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        reason: reason.to_owned(),
        retryable: false,
        after: None,
        overloaded: false,
    }
}
