//! Deliveries: the outbox that is written with a job's end, as the sender and as people see it.
//!
//! A delivery is one result on its way through one channel. Its row is written in the transaction that ends the job
//! ([`AttemptEnd::deliveries`](super::AttemptEnd)), so there is no moment at which a result is there and its deliveries are not. It
//! holds no copy of the result: the job's is kept, past its retention, for as long as an open delivery needs it, and for its retention
//! anew after a delivery died, so that it can be replayed. Both until the row's own retention at most; then what is open is given up.
//!
//! A delivery arrives at least once: an attempt whose end was not stored is made again, with the same id.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::{DeliveryId, DeliveryState, InvocationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::Actor;
use super::error::StoreError;
use super::jobs::Sight;

/// How many tries a delivery's row remembers; older ones are left out.
pub const REMEMBERED_TRIES: usize = 50;

/// How many deliveries one [`DeliveryStore::command_deliveries`] changes at most.
pub const COMMANDED_AT_ONCE: usize = 1000;

/// So many deliveries follow their endpoint's pause, or its end, in one transaction.
pub(super) const FOLLOW_AT_ONCE: u64 = 1000;

/// For how long they follow at once: the rest does so with the store's upkeep.
pub(super) const FOLLOW_FOR: Duration = Duration::from_secs(5);

/// The sender's side of the store.
#[async_trait]
pub trait DeliveryQueue: Send + Sync {
    /// Starts attempts of due deliveries, the longest due first for each endpoint (of several, the one made first). Called by the sender whenever an endpoint has places
    /// free and work is due. The starts are durable on return (state `sending`, `attempts` raised): call the receiver only then.
    /// Deliveries of endpoints that are not named, or that are paused, stay where they are.
    ///
    /// # Errors
    ///
    /// Nothing was started. `Full`, `Busy`: try again after the hint. Others: stop claiming.
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<DeliveryClaims, StoreError>;

    /// Ends attempts, all in one transaction. Says for each, in order, whether it was stored: false where the attempt is no longer the
    /// delivery's (replayed, taken for dead, or its job erased). Safe to call again.
    ///
    /// # Errors
    ///
    /// Nothing was stored. Without an end, the attempt is taken for dead when its lease is over, and made again.
    async fn finish_deliveries(
        &self,
        ends: Vec<DeliveryEnd>,
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError>;

    /// Prolongs the leases of attempts that are under way, and gives back those that are no longer held.
    ///
    /// # Errors
    ///
    /// No lease was prolonged.
    async fn renew_deliveries(
        &self,
        attempts: Vec<DeliveryAttempt>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<DeliveryAttempt>, StoreError>;

    /// Makes deliveries whose attempt is dead pending again, due at once. `all`: this gateway has just started and is the only one;
    /// else those whose lease is over. Gives how many.
    ///
    /// # Errors
    ///
    /// Nothing was recovered.
    async fn recover_deliveries(&self, all: bool, now: Timestamp) -> Result<u64, StoreError>;
}

/// What people see of deliveries, and do to them.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// One delivery, whoever owns it: the caller checks that.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn get_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// A page of deliveries, newest first.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<DeliveryPage, StoreError>;

    /// Replays or gives up the deliveries that a query finds, newest first, up to its `limit` and [`COMMANDED_AT_ONCE`] of them, and
    /// writes one audit line in the same transaction. Those whose state or result does not allow it are left as they are and counted. `next` is the
    /// `after` of the next call. A replayed delivery is pending and due now, its attempts start from 0, its id and its tries stay; where
    /// its endpoint is paused it is paused. One that was pending is due now, and its attempts go on.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    async fn command_deliveries(
        &self,
        query: DeliveryQuery,
        command: DeliveryCommand,
        actor: Actor,
        now: Timestamp,
    ) -> Result<DeliveriesCommanded, StoreError>;

    /// Every endpoint that has deliveries or is paused, with its health, by integration and channel.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn endpoints(&self) -> Result<Vec<EndpointStatus>, StoreError>;

    /// Pauses an endpoint (its pending deliveries become paused, those that come are paused from the start) or lets it go on (its paused
    /// deliveries become pending, due now), with an audit line. Gives how many deliveries change by it. From the return on no paused
    /// endpoint's delivery is claimed; where there are very many, the last change their states only after it.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    async fn set_pause(
        &self,
        endpoint: Endpoint,
        pause: Option<String>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
}

/// Where a delivery goes: a channel of an integration. It has its own queue, limits and health.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Endpoint {
    /// The integration.
    pub integration: String,
    /// The channel's name within it.
    pub channel: String,
}

/// A delivery to be stored with its job's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// The channel's name within the job's integration.
    pub channel: String,
    /// The kind of channel: `webhook`, `email`, `http`, `file`.
    pub kind: String,
    /// Where it goes, without secrets: an origin, a domain, a file's name.
    pub receiver: String,
    /// When its first attempt may start.
    pub due: Timestamp,
    /// Given: it is a dead letter from the start, for this reason (its `when` cannot be evaluated).
    pub dead: Option<String>,
}

/// A delivery, without its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The delivery.
    pub id: DeliveryId,
    /// The job whose result it carries.
    pub job: InvocationId,
    /// Who invoked that.
    pub caller: String,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// The kind of channel.
    pub kind: String,
    /// Where it goes, without secrets.
    pub receiver: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Grows at each change; starts at 1.
    pub version: u64,
    /// Attempts started since it was made or replayed last, without those given back.
    pub attempts: u32,
    /// How many of these attempts the gateway's own end cut off: nobody knows whether they arrived, and they use up no wait between attempts.
    pub cut_off: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
    /// When its next attempt may start (pending).
    pub due: Timestamp,
    /// When it arrived or was given up.
    pub finished: Option<Timestamp>,
    /// The latest [`REMEMBERED_TRIES`] tries, oldest first, over all replays.
    pub tries: Vec<Try>,
    /// Why it is dead or was paused, or what its last try met. None once it has arrived or is replayed.
    pub reason: Option<String>,
    /// True where its job was retried since: its result is no longer there, and it cannot be replayed.
    pub superseded: bool,
}

/// One attempt that ended. Holds no secret, no document and no text of a receiver's body but a short, printable part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Try {
    /// When it started (RFC 3339).
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What became of it.
    pub outcome: TryOutcome,
    /// The receiver's status, where it gave one: HTTP's or SMTP's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened, in a sentence: the receipt, or why it failed.
    pub detail: String,
}

impl NewDelivery {
    /// What its row remembers from the start: why nothing was sent.
    pub(super) fn tries(&self, now: Timestamp) -> Vec<Try> {
        let withheld = self.dead.iter().map(|reason| Try {
            at: now,
            took_ms: 0.0,
            outcome: TryOutcome::Withheld,
            status: None,
            detail: reason.clone(),
        });
        withheld.collect()
    }
}

impl Delivery {
    /// Whether its channel's `when` has never given true, so that it is still to be asked.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        let withheld = |tried: &Try| tried.outcome == TryOutcome::Withheld;
        !self.tries.is_empty() && self.tries.iter().all(withheld)
    }
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TryOutcome {
    /// The receiver has it.
    Delivered,
    /// It failed and is tried again, or was the last try.
    Failed,
    /// The gateway ended, or stopped, while it was under way.
    Lost,
    /// The channel's `when` did not give true: nothing was sent.
    Withheld,
}

/// One attempt of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryAttempt {
    /// The delivery.
    pub id: DeliveryId,
    /// The fencing token: higher at each attempt, never used twice.
    pub token: u64,
}

/// Which deliveries to start.
#[derive(Clone, Debug)]
pub struct DeliveryClaim {
    /// Who sends them: this gateway's name.
    pub owner: String,
    /// How many for which endpoints.
    pub places: Vec<(Endpoint, u32)>,
    /// How long an attempt may go without a sign of life.
    pub lease: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// What was started.
#[derive(Clone, Debug, Default)]
pub struct DeliveryClaims {
    /// The started attempts.
    pub claimed: Vec<ClaimedDelivery>,
    /// When the next delivery of the named endpoints is due. May be past: more were due than there were places.
    pub next: Option<Timestamp>,
}

/// One started attempt, with all that it needs.
#[derive(Clone)]
pub struct ClaimedDelivery {
    /// The delivery, sending; `attempts` counts this attempt.
    pub delivery: Delivery,
    /// The attempt.
    pub attempt: DeliveryAttempt,
    /// The result document as JSON text. None where it is no longer there: give the delivery up.
    pub result: Option<String>,
    /// The W3C trace context of the job's request.
    pub traceparent: Option<String>,
    /// Until when the result is kept; longer only as long as a delivery of it is open.
    pub kept_until: Option<Timestamp>,
}

/// The end of one attempt.
#[derive(Clone, Debug)]
pub struct DeliveryEnd {
    /// The attempt.
    pub attempt: DeliveryAttempt,
    /// What becomes of the delivery.
    pub outcome: DeliveryOutcome,
    /// What the row remembers; none where the attempt was given back before it called anybody.
    pub tried: Option<Try>,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Delivered,
    /// Another attempt follows.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: String,
    },
    /// The receiver wants no more: the endpoint is paused, with all that is pending for it.
    Pause {
        /// Why.
        reason: String,
    },
    /// It was given back, because the gateway stops: pending, due now, and the attempt does not count.
    Released,
}

/// Which deliveries are meant.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// Only this one.
    pub id: Option<DeliveryId>,
    /// Only this job's.
    pub job: Option<InvocationId>,
    /// Only what whoever asks may see; none: everything.
    pub sight: Option<Sight>,
    /// Only those of this caller's jobs.
    pub caller: Option<String>,
    /// Only this integration's.
    pub integration: Option<String>,
    /// Only this channel's (a name within an integration).
    pub channel: Option<String>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only those made at this time or later.
    pub from: Option<Timestamp>,
    /// Only those made before this time.
    pub until: Option<Timestamp>,
    /// Only those older than this one: the `next` of the page before.
    pub after: Option<DeliveryId>,
    /// At most so many; 0 counts as 1, and more than 1,000 as 1,000.
    pub limit: u32,
}

impl DeliveryQuery {
    /// What a command on these is about, for the audit log.
    pub(super) fn target(&self) -> String {
        if let Some(id) = self.id {
            return id.to_string();
        }
        if let Some(job) = self.job {
            return format!("deliveries of job {job}");
        }
        match (&self.integration, &self.channel, &self.sight) {
            (Some(integration), Some(channel), _) => format!("{integration}/{channel}"),
            (Some(integration), None, _) => integration.clone(),
            (None, Some(channel), _) => format!("*/{channel}"),
            (None, None, Some(sight)) => sight.whole.join(", "),
            (None, None, None) => "*".to_owned(),
        }
    }
}

/// A page of deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPage {
    /// The deliveries, newest first.
    pub deliveries: Vec<Delivery>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<DeliveryId>,
}

/// What people can do to deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryCommand {
    /// Send again what arrived or is dead; send now what waits for its next attempt.
    Replay,
    /// Give up what is pending, sending or paused.
    GiveUp,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveriesCommanded {
    /// How many were changed.
    pub changed: u64,
    /// How many were found and could not be.
    pub left: u64,
    /// The `after` of the next call; none where all were seen.
    pub next: Option<DeliveryId>,
}

/// An endpoint and its health.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStatus {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Since when and why it is paused.
    pub pause: Option<Pause>,
    /// How many deliveries are in which state, without zeros.
    pub tallies: Vec<(DeliveryState, u64)>,
    /// When the pending delivery that has been due for longest was due; it may lie ahead.
    pub oldest_due: Option<Timestamp>,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pause {
    /// Since when (RFC 3339).
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

impl Endpoint {
    /// An endpoint by its names.
    #[must_use]
    pub fn new(integration: &str, channel: &str) -> Self {
        Self {
            integration: integration.to_owned(),
            channel: channel.to_owned(),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.integration, self.channel)
    }
}

impl std::fmt::Debug for ClaimedDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the result.
        f.debug_struct("ClaimedDelivery")
            .field("attempt", &self.attempt)
            .field("endpoint", &self.delivery.endpoint)
            .finish_non_exhaustive()
    }
}
