//! The sender: claims due deliveries for endpoints with places free, sends them in tasks of their own, and keeps their leases.
//!
//! An attempt's start is durable before its receiver is called; its end carries the attempt's fencing token. What was cut off (a kill,
//! a lost lease) is tried again, with the same id. The claim names only endpoints that have places: what waits for a slow one, or for
//! one whose breaker is open, waits in the store and uses up no attempt.

mod attempt;
mod ends;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use linkspan_model::DeliveryState;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::endpoint::Place;
use super::{Clock, Deliveries, Opened};
use crate::logging;
use crate::metrics::Metrics;
use crate::store::{
    ClaimedDelivery, DeliveryAttempt, DeliveryClaim, DeliveryEnd, Endpoint, Store, StoreError,
    signed,
};
use ends::Ends;

/// How long the sender sleeps at most when nothing tells it of work: other gateways on the same store do not.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// How many deliveries of one endpoint are claimed at once at most, but for a channel that takes more in one call.
const CLAIMED_AT_ONCE: usize = 64;

/// What sends a gateway's deliveries.
#[derive(Debug)]
pub struct Sender {
    deliveries: Arc<Deliveries>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    lifetime: Lifetime,
    in_flight: Mutex<HashMap<DeliveryAttempt, CancellationToken>>,
    /// Told of each place that gets free.
    freed: Arc<Notify>,
    ends: Ends,
}

/// What a sender shares with its gateway.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// The gateway's name in the store.
    pub owner: String,
    /// How long an attempt may go without a sign of life.
    pub lease: Duration,
    /// The tasks that the drain waits for.
    pub tasks: TaskTracker,
    /// Cancelled first: claim no more.
    pub stop: CancellationToken,
    /// Cancelled when the drain time is over: give attempts back.
    pub abandon: CancellationToken,
    /// Cancelled last: nothing is under way any more.
    pub closed: CancellationToken,
}

impl Lifetime {
    /// A new one, for a gateway of this name, whose attempts have leases this long.
    #[must_use]
    pub fn new(owner: String, lease: Duration) -> Self {
        Self {
            owner,
            lease,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }
}

/// An attempt that this gateway holds: its lease is renewed until this is dropped.
#[derive(Debug)]
struct Held {
    sender: Arc<Sender>,
    attempt: DeliveryAttempt,
    lost: CancellationToken,
}

/// What is free at one endpoint, and how much is claimed for it.
struct Room {
    opened: Arc<Opened>,
    places: Vec<Place>,
    /// How many deliveries one call takes.
    batch: usize,
    /// How many are claimed.
    limit: usize,
}

impl Sender {
    /// A sender. It does nothing until [`Sender::start`].
    pub fn new(
        deliveries: Arc<Deliveries>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        lifetime: Lifetime,
    ) -> Arc<Self> {
        Arc::new(Self {
            deliveries,
            store,
            clock,
            metrics,
            lifetime,
            in_flight: Mutex::default(),
            freed: Arc::default(),
            ends: Ends::default(),
        })
    }

    /// Starts sending, until the gateway stops.
    pub fn start(self: &Arc<Self>) {
        tokio::spawn(self.clone().run());
        tokio::spawn(self.clone().keep_leases());
        tokio::spawn(self.clone().store_ends());
    }

    /// How many deliveries are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.in_flight().len()
    }

    /// Makes deliveries whose attempt is dead pending again. `all`: this gateway has just started and is the only one.
    ///
    /// # Errors
    ///
    /// Nothing was recovered.
    pub async fn recover(&self, all: bool) -> Result<(), StoreError> {
        let recovered = self.store.recover_deliveries(all, self.clock.now()).await?;
        if recovered > 0 {
            tracing::info!(
                deliveries = recovered,
                "recovered deliveries whose attempts were cut off; they are sent again"
            );
        }
        Ok(())
    }

    /// Sets the gauges of deliveries from the store.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn measure(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for status in self.store.endpoints().await? {
            for state in DeliveryState::ALL {
                let tally = status.tallies.iter().find(|(of, _)| *of == state);
                let count = tally.map_or(0, |(_, count)| *count);
                self.metrics
                    .set_deliveries(&status.endpoint, state.name(), count);
            }
            let age = status.oldest_due.map(|due| now.duration_since(due));
            let age = age.and_then(|age| Duration::try_from(age).ok());
            self.metrics
                .set_oldest_delivery(&status.endpoint, age.unwrap_or_default());
        }
        for opened in self.deliveries.channels() {
            self.metrics.set_breaker(&opened.endpoint, opened.breaker());
        }
        Ok(())
    }

    /// Warns of deliveries for which no channel is configured: they stay where they are.
    pub async fn note_unknown(&self) {
        let endpoints = self.store.endpoints().await.unwrap_or_default();
        for status in endpoints {
            let open = status.tallies.iter().filter(|(state, _)| state.is_open());
            let open: u64 = open.map(|(_, count)| count).sum();
            if open > 0 && self.deliveries.get(&status.endpoint).is_none() {
                tracing::warn!(
                    endpoint = %status.endpoint,
                    deliveries = open,
                    "deliveries wait for a channel that is not configured; configure it again, or give them up"
                );
            }
        }
    }

    /// Sends deliveries until the gateway stops. Waits for no attempt: the drain does.
    async fn run(self: Arc<Self>) {
        loop {
            let until = match self.claim().await {
                Ok(until) => until,
                Err(error) => {
                    tracing::warn!(
                        error = logging::chain(&error),
                        "no deliveries can be claimed"
                    );
                    let wait = error.kind.retry_after().unwrap_or(LONGEST_SLEEP);
                    after(self.clock.now(), wait)
                }
            };
            let woken = async {
                tokio::select! {
                    () = self.store.watchers().delivery_work() => {}
                    () = self.freed.notified() => {}
                    () = self.clock.sleep_until(until) => {}
                }
            };
            if self
                .lifetime
                .stop
                .run_until_cancelled(woken)
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Starts what is due where places are free; says when to look again.
    async fn claim(self: &Arc<Self>) -> Result<Timestamp, StoreError> {
        let now = self.clock.now();
        let mut again = after(now, LONGEST_SLEEP);
        let mut rooms: HashMap<Endpoint, Room> = HashMap::new();
        for opened in self.deliveries.channels() {
            let free = opened.limits.free(now);
            again = free.again.map_or(again, |time| again.min(time));
            if free.places.is_empty() {
                continue; // a freed place wakes the sender
            }
            let batch = opened.channel.batch().max(1);
            let limit = if free.probe {
                batch // of these, the first call is the probe
            } else {
                (free.places.len() * batch).min(CLAIMED_AT_ONCE.max(batch))
            };
            let room = Room {
                opened: opened.clone(),
                places: free.places,
                batch,
                limit,
            };
            rooms.insert(opened.endpoint.clone(), room);
        }
        if rooms.is_empty() {
            return Ok(again);
        }
        let claims = self
            .store
            .claim_deliveries(DeliveryClaim {
                owner: self.lifetime.owner.clone(),
                places: rooms
                    .iter()
                    .map(|(endpoint, room)| {
                        (
                            endpoint.clone(),
                            u32::try_from(room.limit).unwrap_or(u32::MAX),
                        )
                    })
                    .collect(),
                lease: signed(self.lifetime.lease),
                now,
            })
            .await?;
        let mut by_endpoint: HashMap<Endpoint, Vec<ClaimedDelivery>> = HashMap::new();
        for claimed in claims.claimed {
            let endpoint = claimed.delivery.endpoint.clone();
            by_endpoint.entry(endpoint).or_default().push(claimed);
        }
        for (endpoint, claimed) in by_endpoint {
            let Some(room) = rooms.get_mut(&endpoint) else {
                tracing::error!(%endpoint, "the store started deliveries for which there is no place; they are sent when their leases are over");
                continue;
            };
            let full = claimed.len() >= room.limit;
            self.send_out(room, claimed);
            if full && !room.places.is_empty() {
                again = now; // more may be due than was claimed at once
            }
        }
        // Where more is due than there were places, a freed place wakes the sender.
        Ok(match claims.next {
            Some(next) if next > now => again.min(next),
            _ => again,
        })
    }

    /// Sends what was claimed for an endpoint: a task a place, each with its calls one after the other.
    fn send_out(self: &Arc<Self>, room: &mut Room, claimed: Vec<ClaimedDelivery>) {
        let calls = into_calls(claimed, room.batch, |claimed| {
            room.opened.channel.group(claimed.delivery.created)
        });
        let used = room.places.len().min(calls.len());
        let mut lines: Vec<Vec<_>> = room.places.iter().take(used).map(|_| Vec::new()).collect();
        for (nth, call) in calls.into_iter().enumerate() {
            lines[nth % used].push(call);
        }
        for (mut place, calls) in room.places.drain(..used).zip(lines) {
            place.occupy(self.freed.clone());
            self.lifetime
                .tasks
                .spawn(self.clone().attempts(room.opened.clone(), calls, place));
        }
    }

    /// Renews the leases of what is under way, until the last of it has ended after the stop.
    async fn keep_leases(self: Arc<Self>) {
        let closed = self.lifetime.closed.clone();
        let lease = self.lifetime.lease;
        while closed
            .run_until_cancelled(tokio::time::sleep(lease / 3))
            .await
            .is_some()
        {
            let attempts: Vec<_> = self.in_flight().keys().copied().collect();
            if attempts.is_empty() {
                continue;
            }
            match self
                .store
                .renew_deliveries(attempts, signed(lease), self.clock.now())
                .await
            {
                Ok(lost) => {
                    let in_flight = self.in_flight();
                    for attempt in lost {
                        if let Some(token) = in_flight.get(&attempt) {
                            token.cancel();
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = logging::chain(&error),
                        "the leases of deliveries cannot be renewed"
                    );
                }
            }
        }
    }

    /// Holds an attempt: renews its lease until the answer is dropped.
    fn hold(self: &Arc<Self>, attempt: DeliveryAttempt) -> Held {
        let lost = CancellationToken::new();
        self.in_flight().insert(attempt, lost.clone());
        Held {
            sender: self.clone(),
            attempt,
            lost,
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<DeliveryAttempt, CancellationToken>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sender.in_flight().remove(&self.attempt);
    }
}

/// Cuts what was claimed into calls: each of one group, and of so many at most.
fn into_calls<T, G: PartialEq>(
    claimed: Vec<T>,
    most: usize,
    group: impl Fn(&T) -> G,
) -> Vec<Vec<T>> {
    let mut groups: Vec<(G, Vec<Vec<T>>)> = Vec::new();
    for one in claimed {
        let of = group(&one);
        let place = groups.iter().position(|(known, _)| *known == of);
        match place.map(|place| &mut groups[place].1) {
            None => groups.push((of, vec![vec![one]])),
            Some(calls) => match calls.last_mut() {
                Some(call) if call.len() < most => call.push(one),
                _ => calls.push(vec![one]),
            },
        }
    }
    groups.into_iter().flat_map(|(_, calls)| calls).collect()
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(signed(wait)).unwrap_or(Timestamp::MAX)
}
