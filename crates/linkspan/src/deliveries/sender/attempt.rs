//! The calls of a channel: each with one delivery, or with as many of one group as the channel takes.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::{Held, Sender};
use crate::channels::{Parcel, Verdict, VerdictKind};
use crate::deliveries::Opened;
use crate::deliveries::endpoint::{BreakerState, Place};
use crate::deliveries::schedule::Next;
use crate::logging::in_ms;
use crate::store::{
    ClaimedDelivery, Delivery, DeliveryAttempt, DeliveryEnd, DeliveryOutcome, Try, TryOutcome,
};

/// How much of a channel's sentence is kept.
const LONGEST_DETAIL: usize = 500;

/// How many attempts may be cut off by the gateway's own end before a delivery is given up: one that kills the gateway does not do so
/// for ever.
const CUT_OFF: u32 = 20;

/// A delivery with what its channel takes, or the end of one that cannot be sent.
struct Prepared {
    delivery: Delivery,
    attempt: DeliveryAttempt,
    parcel: Result<Parcel, Unsent>,
}

/// Why a delivery cannot be sent.
struct Unsent {
    reason: String,
    /// Whether the channel's `when` said so.
    withheld: bool,
}

/// When one call of a channel ended, and its chance: the same for all that it took, so that what went out together (a digest) is tried
/// again together.
struct Ended {
    now: Timestamp,
    spread: f64,
}

impl Sender {
    /// Makes the calls of one place, one after the other, and ends each durably. What is left when the receiver gets a rest, or the
    /// gateway stops, is given back.
    pub(super) async fn attempts(
        self: Arc<Self>,
        opened: Arc<Opened>,
        calls: Vec<Vec<ClaimedDelivery>>,
        mut place: Place,
    ) {
        let hold = |call: Vec<ClaimedDelivery>| {
            let held = call.iter().map(|claimed| self.hold(claimed.attempt));
            (held.collect::<Vec<_>>(), call)
        };
        let mut calls: VecDeque<_> = calls.into_iter().map(hold).collect();
        while let Some((held, call)) = calls.pop_front() {
            let ends = tokio::select! {
                biased;
                () = all_lost(&held) => continue, // erased, or another's: dropping the work stops it
                ends = self.send(&opened, call, &mut place) => ends,
            };
            let goes_on = opened.limits.breaker() == BreakerState::Closed
                && !self.lifetime.abandon.is_cancelled();
            if calls.is_empty() || !goes_on {
                drop(place); // the receiver is free, whatever the store takes
                let (held, left): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
                let left = left.iter().flatten();
                let left = left.map(|claimed| self.released(&opened, claimed.attempt, None));
                self.end(ends.into_iter().chain(left).collect()).await;
                drop(held);
                return;
            }
            self.end(ends).await;
        }
    }

    async fn send(
        &self,
        opened: &Opened,
        claimed: Vec<ClaimedDelivery>,
        place: &mut Place,
    ) -> Vec<DeliveryEnd> {
        let abandon = &self.lifetime.abandon;
        if abandon
            .run_until_cancelled(opened.limits.pace())
            .await
            .is_none()
        {
            return claimed
                .iter()
                .map(|claimed| self.released(opened, claimed.attempt, None))
                .collect();
        }
        let prepared = join_all(claimed.into_iter().map(|claimed| opened.prepare(claimed))).await;
        let parcels: Vec<_> = prepared
            .iter()
            .filter_map(|prepared| prepared.parcel.as_ref().ok().cloned())
            .collect();
        let (at, start) = (self.clock.now(), Instant::now());
        let verdicts = if parcels.is_empty() {
            Vec::new()
        } else {
            let call = AssertUnwindSafe(opened.channel.send(&parcels)).catch_unwind();
            let call = tokio::time::timeout(opened.timeout, call);
            match abandon.run_until_cancelled(call).await {
                None => {
                    let tried = |prepared: &Prepared| {
                        prepared.parcel.is_ok().then(|| Try {
                            at,
                            took_ms: in_ms(start.elapsed()),
                            outcome: TryOutcome::Lost,
                            status: None,
                            detail: "the gateway stopped during the attempt; whether it arrived is unknown"
                                .to_owned(),
                        })
                    };
                    return prepared
                        .iter()
                        .map(|prepared| self.released(opened, prepared.attempt, tried(prepared)))
                        .collect();
                }
                Some(Ok(Ok(verdicts))) => verdicts,
                Some(Ok(Err(_panic))) => same(&parcels, "the channel met a fault of its own"),
                Some(Err(_late)) => {
                    let detail = format!("no answer within {:?}", opened.timeout);
                    same(&parcels, &detail)
                }
            }
        };
        let took = start.elapsed();
        self.tell_breaker(opened, &verdicts, place);
        let mut verdicts = verdicts.into_iter();
        let ended = Ended {
            now: self.clock.now(),
            spread: fastrand::f64(),
        };
        let ends = prepared.into_iter().map(|prepared| {
            let verdict = match &prepared.parcel {
                Ok(_) => verdicts
                    .next()
                    .unwrap_or_else(|| Verdict::retry(None, "the channel said nothing of it")),
                Err(unsent) => Verdict::dead(None, &unsent.reason),
            };
            self.end_of(opened, &prepared, verdict, at, (took, &ended))
        });
        ends.collect()
    }

    /// The end of one attempt, logged and counted.
    fn end_of(
        &self,
        opened: &Opened,
        prepared: &Prepared,
        mut verdict: Verdict,
        at: Timestamp,
        (took, ended): (Duration, &Ended),
    ) -> DeliveryEnd {
        let delivery = &prepared.delivery;
        let receiver = opened.channel.receiver();
        if prepared.parcel.is_ok() && receiver != delivery.receiver {
            verdict.detail = format!("{receiver}: {}", verdict.detail); // the row names another
        }
        if let Some((end, _)) = verdict.detail.char_indices().nth(LONGEST_DETAIL) {
            verdict.detail.truncate(end);
        }
        let Verdict {
            kind,
            status,
            detail,
        } = verdict;
        let outcome = match kind {
            VerdictKind::Delivered => DeliveryOutcome::Delivered,
            VerdictKind::Dead => DeliveryOutcome::Dead {
                reason: detail.clone(),
            },
            VerdictKind::Gone => DeliveryOutcome::Pause {
                reason: detail.clone(),
            },
            VerdictKind::Retry { .. } | VerdictKind::Rest { .. } => {
                let after = match kind {
                    VerdictKind::Rest { asked } => Some(asked),
                    VerdictKind::Retry { after } => after,
                    _ => None,
                };
                let schedule = &opened.schedule;
                let answered = delivery.attempts.saturating_sub(delivery.cut_off);
                match schedule.after(answered, after, ended.spread, ended.now) {
                    Next::Due(due) => DeliveryOutcome::Retry { due },
                    Next::Dead => DeliveryOutcome::Dead {
                        reason: format!("given up after {} attempts: {detail}", delivery.attempts),
                    },
                }
            }
        };
        self.note(delivery, &outcome, status, &detail);
        let endpoint = &opened.endpoint;
        self.metrics.delivery(endpoint, name(&outcome));
        if prepared.parcel.is_ok() {
            self.metrics.delivery_attempt(endpoint, took);
        }
        let tried = Try {
            at,
            took_ms: in_ms(took),
            outcome: match &prepared.parcel {
                Err(Unsent { withheld: true, .. }) => TryOutcome::Withheld,
                _ if outcome == DeliveryOutcome::Delivered => TryOutcome::Delivered,
                _ => TryOutcome::Failed,
            },
            status,
            detail,
        };
        DeliveryEnd {
            attempt: prepared.attempt,
            outcome,
            tried: Some(tried),
        }
    }

    fn note(
        &self,
        delivery: &Delivery,
        outcome: &DeliveryOutcome,
        status: Option<u16>,
        detail: &str,
    ) {
        let (id, endpoint, attempt) = (delivery.id, &delivery.endpoint, delivery.attempts);
        match outcome {
            DeliveryOutcome::Delivered | DeliveryOutcome::Released => {
                tracing::debug!(delivery = %id, %endpoint, attempt, status, detail, "delivered");
            }
            DeliveryOutcome::Retry { due } => {
                tracing::warn!(delivery = %id, %endpoint, attempt, status, detail, next = %due, "a delivery failed and is tried again");
            }
            DeliveryOutcome::Pause { .. } => {
                tracing::error!(delivery = %id, %endpoint, attempt, status, detail, "the receiver wants no more: its endpoint is paused");
            }
            DeliveryOutcome::Dead { reason } => {
                tracing::error!(delivery = %id, %endpoint, attempt, status, reason, "a delivery is a dead letter");
            }
        }
    }

    /// One success in a call shows that the receiver is there; so does its own refusal.
    fn tell_breaker(&self, opened: &Opened, verdicts: &[Verdict], place: &mut Place) {
        let answers = |verdict: &Verdict| match verdict.kind {
            VerdictKind::Delivered | VerdictKind::Gone => Some(true),
            VerdictKind::Dead => verdict.status.map(|_| true),
            VerdictKind::Retry { .. } | VerdictKind::Rest { .. } => Some(false),
        };
        let asked = |verdict: &Verdict| match verdict.kind {
            VerdictKind::Rest { asked } => Some(asked),
            _ => None,
        };
        let Some(success) = verdicts.iter().filter_map(answers).reduce(|a, b| a || b) else {
            return; // nothing was learnt
        };
        let endpoint = &opened.endpoint;
        let asked = verdicts.iter().filter_map(asked).max();
        match place.record(success, asked, self.clock.now()) {
            Some(BreakerState::Open) => {
                let why = match asked {
                    Some(_) => "asks for time",
                    None => "keeps failing",
                };
                tracing::warn!(%endpoint, "the receiver {why}: it is given a rest, and its deliveries wait");
            }
            Some(BreakerState::Closed) => {
                tracing::info!(%endpoint, "the receiver is back: its deliveries go on");
            }
            Some(BreakerState::HalfOpen) | None => {}
        }
        self.metrics.set_breaker(endpoint, opened.breaker());
    }

    fn released(
        &self,
        opened: &Opened,
        attempt: DeliveryAttempt,
        tried: Option<Try>,
    ) -> DeliveryEnd {
        let outcome = DeliveryOutcome::Released;
        self.metrics.delivery(&opened.endpoint, name(&outcome));
        DeliveryEnd {
            attempt,
            outcome,
            tried,
        }
    }
}

impl Opened {
    /// What the channel takes.
    async fn prepare(&self, claimed: ClaimedDelivery) -> Prepared {
        let ClaimedDelivery {
            delivery,
            attempt,
            result,
            traceparent,
            kept_until,
        } = claimed;
        let parcel = if delivery.cut_off >= CUT_OFF {
            let reason = "its attempts were cut off by the gateway's end too often".to_owned();
            Err(reason.into())
        } else {
            let made = self.made(&delivery, result.as_deref()).await;
            made.map(|(result, content)| Parcel {
                id: delivery.id,
                job: delivery.job,
                endpoint: delivery.endpoint.clone(),
                attempt: delivery.attempts,
                created: delivery.created,
                result,
                content,
                mapped: self.map.is_some(),
                kept_until,
                traceparent,
            })
        };
        Prepared {
            delivery,
            attempt,
            parcel,
        }
    }

    /// Why a delivery must not be sent: it was made for another receiver than its channel has now, and nobody has decided yet that this
    /// one may have it. Who replays it after that does: the refusal is among its tries.
    fn led_elsewhere(&self, delivery: &Delivery) -> Option<String> {
        let (then, now) = (&delivery.receiver, self.channel.receiver());
        if *then == now {
            return None;
        }
        let sentence = format!(
            "it was made for {then}, and its channel now leads to {now}; replay it to send it there"
        );
        let sentence: String = sentence.chars().take(LONGEST_DETAIL).collect();
        let told = delivery.tries.iter().any(|tried| tried.detail == sentence);
        (!told).then_some(sentence)
    }

    /// The result document, and what is sent of it; nothing as long as `when` has never given true.
    async fn made(
        &self,
        delivery: &Delivery,
        result: Option<&str>,
    ) -> Result<(Value, Value), Unsent> {
        let result = read(result)?;
        if let Some(when) = self.when.as_ref().filter(|_| delivery.is_withheld()) {
            let withheld = match when.is_true_limited(&result).await {
                Ok(true) => None,
                Ok(false) => Some("when: the result is not wanted by this channel".to_owned()),
                Err(error) => Some(format!("when: {error}")),
            };
            if let Some(reason) = withheld {
                let withheld = true;
                return Err(Unsent { reason, withheld });
            }
        }
        // After `when`: this refusal is a try like any other, and `when` would not be asked again.
        if let Some(sentence) = self.led_elsewhere(delivery) {
            return Err(sentence.into());
        }
        let content = self.content(&result).await?;
        Ok((result, content))
    }

    /// What is sent of a result document.
    async fn content(&self, result: &Value) -> Result<Value, String> {
        let Some(map) = &self.map else {
            return Ok(result.clone());
        };
        map.run_limited(result)
            .await
            .map_err(|error| format!("map: {error}"))?
            .ok_or_else(|| "map: the filter gives no output".to_owned())
    }

    /// What is sent of a result document, given as the store has it.
    ///
    /// # Errors
    ///
    /// Why there is none, in a sentence that holds nothing of the result.
    pub async fn content_of(&self, result: Option<&str>) -> Result<Value, String> {
        self.content(&read(result)?).await
    }
}

impl From<String> for Unsent {
    fn from(reason: String) -> Self {
        Self {
            reason,
            withheld: false,
        }
    }
}

fn read(result: Option<&str>) -> Result<Value, String> {
    let result = result.ok_or("its result is no longer there")?;
    serde_json::from_str(result).map_err(|_| "its result cannot be read".to_owned())
}

/// Resolves when none of the attempts is this gateway's any more. One of several goes on: its end is dropped by the store.
async fn all_lost(held: &[Held]) {
    join_all(held.iter().map(|held| held.lost.cancelled())).await;
}

fn same(parcels: &[Parcel], detail: &str) -> Vec<Verdict> {
    parcels
        .iter()
        .map(|_| Verdict::retry(None, detail))
        .collect()
}

/// An outcome's name, in metrics.
fn name(outcome: &DeliveryOutcome) -> &'static str {
    match outcome {
        DeliveryOutcome::Delivered => "delivered",
        DeliveryOutcome::Retry { .. } => "retried",
        DeliveryOutcome::Dead { .. } => "dead",
        DeliveryOutcome::Pause { .. } => "paused",
        DeliveryOutcome::Released => "released",
    }
}
