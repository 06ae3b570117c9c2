//! What shards there are, and which of them are read here: one task that lists, takes, renews, gives and lets go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::StreamStatus;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::balance::{Plan, plan};
use super::leases::{Holder, Known, Leases, Takeable, Taken};
use super::pace::Pace;
use super::place::Sequence;
use super::queue::Queue;
use super::reader::Reader;
use super::shards::{ANEW, DELETED, Shard, begins, fault, forgettable, is_outdated, readable};
use super::{Reading, Settings};
use crate::kinesis::amazon::{AmazonError, AmazonErrorKind};
use crate::kinesis::decode::{Decoder, Range};
use crate::record::Lane;
use crate::source::{Release, SourceError};

/// The most shards of a page.
const PAGE: i32 = 1000;
/// How often a list is begun anew because the place in it was too old.
const LISTS: usize = 5;

/// What all of a source's tasks have in common.
pub(super) struct Common {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) decoder: Decoder,
    pub(super) leases: Arc<dyn Leases>,
    pub(super) queue: Arc<Queue>,
    pub(super) reading: Reading,
    pub(super) hints: mpsc::UnboundedSender<Hint>,
    retention_hours: AtomicI64,
    /// In milliseconds since 1970.
    created: AtomicI64,
}

/// What a reader tells.
pub(super) enum Hint {
    /// A shard has children.
    Resharded,
    /// A shard is not there.
    Absent,
    /// All of a lane is committed, and that is noted.
    Ended(Lane),
    /// A lane is somebody else's.
    Lost(Lane),
}

/// The coordinating task.
pub(super) struct Coordinator {
    common: Arc<Common>,
    hints: mpsc::UnboundedReceiver<Hint>,
    /// The readers of the lanes that are held, and of one that is given up.
    held: HashMap<Lane, Option<AbortOnDropHandle<()>>>,
    giving: Option<(Lane, oneshot::Receiver<()>)>,
    shards: Vec<Shard>,
    /// When each of the shards was not there yet, as far as that is known.
    before: HashMap<Lane, Option<Timestamp>>,
    listed: Option<Timestamp>,
    created: Option<Timestamp>,
    /// When the list of shards is too old, the leases are to be prolonged, the lanes are to be shared.
    list_at: Instant,
    renew_at: Instant,
    share_at: Instant,
    trouble: Pace,
    /// Nothing more is read: the flow was told why.
    is_over: bool,
}

impl Common {
    /// How long the stream keeps records.
    pub(super) fn retention(&self) -> SignedDuration {
        SignedDuration::from_hours(self.retention_hours.load(Ordering::Relaxed))
    }

    /// When the stream was made.
    pub(super) fn created(&self) -> Timestamp {
        let created = self.created.load(Ordering::Relaxed);
        Timestamp::from_millisecond(created).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl Coordinator {
    pub(super) fn new(
        client: Client,
        leases: Arc<dyn Leases>,
        settings: Settings,
        queue: Arc<Queue>,
        reading: Reading,
    ) -> Self {
        let (sender, hints) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self {
            common: Arc::new(Common {
                client,
                decoder: settings.decoder.clone().with_kpl(),
                settings,
                leases,
                queue,
                reading,
                hints: sender,
                retention_hours: AtomicI64::new(24),
                created: AtomicI64::new(0),
            }),
            hints,
            held: HashMap::new(),
            giving: None,
            shards: Vec::new(),
            before: HashMap::new(),
            listed: None,
            created: None,
            list_at: now,
            renew_at: now,
            share_at: now,
            trouble: Pace::new(now),
            is_over: false,
        }
    }

    /// Runs until the source is dropped, then lets everything go.
    pub(super) async fn run(mut self, closed: CancellationToken) {
        let leases = self.common.leases.clone();
        loop {
            let waits = self.is_over;
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                Some(hint) = self.hints.recv() => self.heard(hint).await,
                lane = given(&mut self.giving) => self.let_go(&lane).await,
                () = leases.refused() => self.renew().await,
                () = sleep_until(self.renew_at) => self.renew().await,
                () = sleep_until(self.share_at), if !waits => {
                    // A list takes time: nobody waits for it longer than for the source.
                    let shared = closed.run_until_cancelled(self.share()).await;
                    match shared {
                        None => break,
                        Some(Ok(())) => {
                            self.trouble = Pace::new(Instant::now());
                            self.share_at = Instant::now() + about(self.common.settings.renew);
                        }
                        Some(Err(fault)) => self.trouble(fault),
                    }
                }
            }
        }
        let lanes: Vec<_> = self.held.drain().map(|(lane, _)| lane).collect();
        if let Err(why) = self.common.leases.release(&lanes).await {
            tracing::warn!("lanes of a stream are free only when their leases end: {why}");
        }
        self.common.reading.left.cancel();
    }

    async fn heard(&mut self, hint: Hint) {
        let now = Instant::now();
        match hint {
            Hint::Ended(lane) => {
                self.list_at = now;
                self.share_at = now;
                self.close(&lane);
                self.let_go(&lane).await;
            }
            Hint::Lost(lane) => self.lose(lane),
            Hint::Resharded => {
                self.list_at = now;
                self.share_at = now;
            }
            Hint::Absent => {
                // Not at once: each of the readers may say so again and again.
                self.list_at = now;
                self.share_at = self.share_at.min(now + Duration::from_secs(1));
            }
        }
    }

    /// Prolongs the leases.
    async fn renew(&mut self) {
        self.renew_at = Instant::now() + about(self.common.settings.renew);
        if self.held.is_empty() {
            return;
        }
        match self.common.leases.renew().await {
            Ok(lost) => lost.into_iter().for_each(|lane| self.lose(lane)),
            Err(why) => self.common.queue.fault(SourceError::Passing(why)),
        }
    }

    /// Takes, gives and starts to read what is this one's to read.
    async fn share(&mut self) -> Result<(), SourceError> {
        let leases = self.common.leases.clone();
        let mut known = self.known().await?;
        // Whatever is known by now is in a list that is made now, unless it is gone.
        let lists = self.list_at <= Instant::now() || is_outdated(&self.shards, &known);
        if lists {
            self.list().await?;
        }
        let created = self.created.unwrap_or(Timestamp::MIN);
        if let Some((lane, detail)) = fault(&self.shards, &known, created) {
            let detail = detail.to_owned();
            return Err(SourceError::Broken { lane, detail });
        }
        if lists {
            let over = forgettable(&self.shards, &known);
            if !over.is_empty() {
                leases.forget(&over).await.map_err(SourceError::Passing)?;
            }
            if self.begin(&known).await? {
                known = self.known().await?;
            }
            self.list_at = Instant::now() + self.common.settings.refresh;
        }
        let shards = self.shards.clone();
        let can_be_read = readable(&shards, &known);
        let can_be_read: HashMap<_, _> = can_be_read
            .into_iter()
            .map(|shard| (&shard.lane, shard))
            .collect();
        let mut lanes: Vec<_> = can_be_read
            .keys()
            .map(|lane| ((*lane).clone(), self.holder(lane, known.get(*lane))))
            .collect();
        lanes.sort_by(|one, other| one.0.cmp(&other.0));
        let Plan { take, steal, give } = plan(&lanes, fastrand::f64());
        // What this gateway held before it was started anew is its own.
        let (own, free): (Vec<_>, Vec<_>) = take.into_iter().partition(|lane| {
            let known = known.get(lane);
            known.is_some_and(|known| known.holder == Holder::Me)
        });
        let own = own.into_iter().chain(steal).collect::<Vec<_>>();
        for (lanes, which) in [(own, Takeable::Any), (free, Takeable::Free)] {
            if lanes.is_empty() {
                continue;
            }
            let taken = leases.take(&lanes, which).await;
            let taken = taken.map_err(SourceError::Passing)?;
            // Another gateway ended it since.
            let (ended, taken): (Vec<_>, Vec<_>) = taken.into_iter().partition(|one| one.ended);
            for taken in taken {
                if let Some(shard) = can_be_read.get(&taken.lane) {
                    self.start(shard, taken);
                }
            }
            let ended: Vec<_> = ended.into_iter().map(|one| one.lane).collect();
            if !ended.is_empty() {
                leases.release(&ended).await.map_err(SourceError::Passing)?;
            }
        }
        if let Some(lane) = give.filter(|_| self.giving.is_none()) {
            self.give(lane);
        }
        Ok(())
    }

    /// Every lane that is known.
    async fn known(&self) -> Result<HashMap<Lane, Known>, SourceError> {
        let known = self.common.leases.list().await;
        let known = known.map_err(SourceError::Passing)?.into_iter();
        Ok(known.map(|known| (known.lane.clone(), known)).collect())
    }

    /// Writes down where shards begin that nobody has seen before; whether there were any. The list is newer than `known`: nothing in it
    /// is what another gateway has forgotten.
    async fn begin(&self, known: &HashMap<Lane, Known>) -> Result<bool, SourceError> {
        let before = |lane: &Lane| self.before.get(lane).copied().flatten();
        let mut begins = begins(&self.shards, known, self.common.settings.start, before);
        if begins.is_empty() {
            return Ok(false);
        }
        let leases = &self.common.leases;
        let mine = |lane: &&Lane| {
            let known = known.get(*lane);
            known.is_some_and(|known| known.holder == Holder::Me)
        };
        let (own, free): (Vec<&Lane>, Vec<_>) = begins.keys().partition(mine);
        let mut taken = Vec::new();
        for (lanes, which) in [(own, Takeable::Any), (free, Takeable::Free)] {
            let lanes: Vec<_> = lanes.into_iter().cloned().collect();
            if !lanes.is_empty() {
                let some = leases.take(&lanes, which).await;
                taken.extend(some.map_err(SourceError::Passing)?);
            }
        }
        let lanes: Vec<_> = taken.iter().map(|taken| taken.lane.clone()).collect();
        // What another gateway has written down since stays.
        let new = taken
            .into_iter()
            .filter(|taken| !taken.ended && taken.progress.is_none());
        let new = new.filter_map(|taken| begins.remove(&taken.lane).map(|note| (taken, note)));
        let new: Vec<_> = new.collect();
        if !new.is_empty() {
            leases.begin(new).await.map_err(SourceError::Passing)?;
        }
        leases.release(&lanes).await.map_err(SourceError::Passing)?;
        Ok(true)
    }

    /// Who holds a lane, as this process knows it.
    fn holder(&self, lane: &Lane, known: Option<&Known>) -> Holder {
        if self.held.contains_key(lane) {
            return Holder::Me;
        }
        match known.map(|known| &known.holder) {
            Some(Holder::Other(name)) => Holder::Other(name.clone()),
            _ => Holder::Nobody,
        }
    }

    fn start(&mut self, shard: &Shard, taken: Taken) {
        let lane = taken.lane;
        let reader = Reader {
            common: self.common.clone(),
            lane: lane.clone(),
            term: taken.term,
            range: shard.range,
            ticket: self.common.queue.open(&lane),
            start: taken.progress.unwrap_or_default(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(reader.run()));
        self.held.insert(lane, Some(task));
    }

    /// Gives a lane up, as soon as what is under way of it is done.
    fn give(&mut self, lane: Lane) {
        self.close(&lane);
        let (release, released) = Release::new();
        self.common.queue.revoked(lane.clone(), release);
        if let Some(reader) = self.held.get_mut(&lane) {
            *reader = None;
        }
        self.giving = Some((lane, released));
    }

    /// A lane is somebody else's already.
    fn lose(&mut self, lane: Lane) {
        if self.held.remove(&lane).is_some() {
            self.close(&lane);
            self.common.queue.lost(lane);
        }
    }

    async fn let_go(&mut self, lane: &Lane) {
        self.held.remove(lane);
        let lanes = std::slice::from_ref(lane);
        if let Err(why) = self.common.leases.release(lanes).await {
            self.common.queue.fault(SourceError::Passing(why));
        }
    }

    fn close(&self, lane: &Lane) {
        self.common.queue.close(lane);
        self.common.reading.is_behind(lane, None);
    }

    fn trouble(&mut self, fault: SourceError) {
        let now = Instant::now();
        self.is_over = !matches!(fault, SourceError::Passing(_));
        self.trouble.failed(now, fastrand::f64());
        self.share_at = self.trouble.next();
        self.common.queue.fault(fault);
    }

    /// Lists the stream's shards, all pages, and looks whether it is still the same stream.
    async fn list(&mut self) -> Result<(), SourceError> {
        let described = self.describe().await.map_err(|error| self.sorted(&error))?;
        if self.created.is_some_and(|created| created != described) {
            return Err(self.broken(ANEW));
        }
        self.created = Some(described);
        let now = Timestamp::now();
        for _ in 0..LISTS {
            match self.pages().await {
                Ok(shards) => {
                    let before = shards.iter().map(|shard| {
                        let lane = shard.lane.clone();
                        let before = self.before.get(&lane).copied().unwrap_or(self.listed);
                        (lane, before)
                    });
                    self.before = before.collect();
                    self.listed = Some(now.max(described));
                    self.shards = shards;
                    return Ok(());
                }
                Err(error) if error.kind == AmazonErrorKind::Expired => {}
                Err(error) => return Err(self.sorted(&error)),
            }
        }
        Err(SourceError::Passing(
            "ListShards: the place in the list is too old again and again".to_owned(),
        ))
    }

    /// When the stream was made.
    async fn describe(&self) -> Result<Timestamp, AmazonError> {
        let stream = &self.common.settings.stream;
        let attempted = format!("DescribeStreamSummary of the stream {stream}");
        let call = self.common.client.describe_stream_summary();
        let answer = call.stream_name(stream).send().await;
        let answer = answer.map_err(|error| AmazonError::of(&attempted, &error))?;
        let failed = |kind| AmazonError {
            kind,
            attempted: attempted.clone(),
            code: None,
        };
        let Some(summary) = answer.stream_description_summary else {
            return Err(failed(AmazonErrorKind::Unreachable));
        };
        if summary.stream_status == StreamStatus::Creating {
            return Err(failed(AmazonErrorKind::Busy));
        }
        let hours = i64::from(summary.retention_period_hours).max(1);
        self.common.retention_hours.store(hours, Ordering::Relaxed);
        let created = summary.stream_creation_timestamp.to_millis().ok();
        let created = created
            .and_then(|created| Timestamp::from_millisecond(created).ok())
            .ok_or_else(|| failed(AmazonErrorKind::Unreachable))?;
        let milliseconds = created.as_millisecond();
        self.common.created.store(milliseconds, Ordering::Relaxed);
        Ok(created)
    }

    async fn pages(&self) -> Result<Vec<Shard>, AmazonError> {
        let stream = &self.common.settings.stream;
        let mut shards = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let call = self.common.client.list_shards().max_results(PAGE);
            // A token comes without the stream's name.
            let call = match &token {
                Some(token) => call.next_token(token),
                None => call.stream_name(stream),
            };
            let page = call.send().await.map_err(|error| {
                AmazonError::of(format!("ListShards of the stream {stream}"), &error)
            })?;
            shards.extend(page.shards.into_iter().flatten().map(described));
            token = page.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
    }

    fn sorted(&self, error: &AmazonError) -> SourceError {
        match error.kind {
            AmazonErrorKind::Absent if self.created.is_some() => self.broken(DELETED),
            AmazonErrorKind::Absent
            | AmazonErrorKind::Refused
            | AmazonErrorKind::Key
            | AmazonErrorKind::Argument => SourceError::Lasting(error.to_string()),
            _ => SourceError::Passing(error.to_string()),
        }
    }

    /// The whole stream is broken: told of one of its lanes.
    fn broken(&self, detail: &str) -> SourceError {
        let held = self.held.keys().min();
        let lane = held.or_else(|| self.shards.first().map(|shard| &shard.lane));
        let stream = &self.common.settings.stream;
        SourceError::Broken {
            lane: lane.cloned().unwrap_or_else(|| Lane::new(stream.as_str())),
            detail: detail.to_owned(),
        }
    }
}

/// Waits for the lane that is given up.
async fn given(giving: &mut Option<(Lane, oneshot::Receiver<()>)>) -> Lane {
    let Some((_, released)) = giving else {
        return std::future::pending().await;
    };
    // Done or dropped: nothing more of it is committed.
    let _ = released.await;
    match giving.take() {
        Some((lane, _)) => lane,
        None => std::future::pending().await,
    }
}

/// Such a time, up to a fifth less, so that gateways do not go in step.
fn about(time: Duration) -> Duration {
    time.mul_f64(1.0 - fastrand::f64() / 5.0)
}

fn described(shard: aws_sdk_kinesis::types::Shard) -> Shard {
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    let keys = shard.hash_key_range;
    let numbers = shard.sequence_number_range;
    Shard {
        lane: Lane::new(shard.shard_id),
        parents: parents.into_iter().flatten().map(Lane::new).collect(),
        range: keys.and_then(|keys| Range::new(&keys.starting_hash_key, &keys.ending_hash_key)),
        first: numbers
            .as_ref()
            .and_then(|numbers| Sequence::new(&numbers.starting_sequence_number)),
        closed: numbers.is_some_and(|numbers| numbers.ending_sequence_number.is_some()),
    }
}
