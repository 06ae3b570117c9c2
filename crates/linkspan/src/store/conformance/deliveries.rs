//! Deliveries as the sender sees them: claimed, ended, taken for dead.

use jiff::Timestamp;
use linkspan_model::{DeliveryId, DeliveryState, InvocationId};

use super::{Open, Site, at, bill, problem, seconds};
use crate::store::deliveries::REMEMBERED_TRIES;
use crate::store::{
    Attempt, AttemptEnd, ClaimedDelivery, Delivery, DeliveryAttempt, DeliveryClaim, DeliveryClaims,
    DeliveryEnd, DeliveryOutcome, Endpoint, Finished, NewDelivery, Outcome, Start, Try, TryOutcome,
};

/// A delivery by a channel of the integration `bills`, due at once.
pub(in crate::store) fn by(channel: &str) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::new(),
        channel: channel.to_owned(),
        kind: "webhook".to_owned(),
        receiver: "https://crm.example.com".to_owned(),
        due: at(0),
        dead: None,
    }
}

/// A try that failed.
pub(in crate::store) fn failed_try(now: i64) -> Try {
    Try {
        at: at(now),
        took_ms: 12.5,
        outcome: TryOutcome::Failed,
        status: Some(503),
        detail: "the receiver answered 503".to_owned(),
    }
}

impl Open {
    /// A job of `bills` with its first attempt.
    pub(in crate::store) async fn running(&self) -> (InvocationId, Attempt) {
        let mut new = bill();
        new.start = Some(Start {
            owner: "gateway".to_owned(),
            lease: seconds(60),
            held: false,
        });
        let (job, attempt) = self.created(new).await;
        (job.id, attempt.unwrap())
    }

    pub(in crate::store) async fn finish_with(
        &self,
        attempt: Attempt,
        outcome: Outcome,
        deliveries: &[NewDelivery],
        now: i64,
    ) -> Finished {
        let end = AttemptEnd {
            attempt,
            outcome,
            deliveries: deliveries.to_vec(),
            now: at(now),
        };
        self.store.finish(end).await.unwrap()
    }

    pub(in crate::store) async fn fail_with(
        &self,
        attempt: Attempt,
        deliveries: &[NewDelivery],
        now: i64,
    ) -> Finished {
        self.finish_with(attempt, failed(), deliveries, now).await
    }

    /// A job that has succeeded with these deliveries.
    pub(in crate::store) async fn sent_out(
        &self,
        deliveries: &[NewDelivery],
        now: i64,
    ) -> InvocationId {
        let (id, attempt) = self.running().await;
        let done = self
            .finish_with(attempt, succeeded(), deliveries, now)
            .await;
        assert!(matches!(done, Finished::Done(_)));
        id
    }

    pub(in crate::store) async fn delivery(&self, id: DeliveryId) -> Delivery {
        let found = self.store.get_delivery(id).await.unwrap();
        found.expect("the delivery is there")
    }

    pub(in crate::store) async fn states(&self, ids: &[DeliveryId]) -> Vec<DeliveryState> {
        let mut states = Vec::new();
        for id in ids {
            states.push(self.delivery(*id).await.state);
        }
        states
    }

    pub(in crate::store) async fn claim_of(
        &self,
        places: &[(&str, u32)],
        now: i64,
    ) -> DeliveryClaims {
        let claim = DeliveryClaim {
            owner: "gateway".to_owned(),
            places: places
                .iter()
                .map(|(channel, places)| (Endpoint::new("bills", channel), *places))
                .collect(),
            lease: seconds(60),
            now: at(now),
        };
        self.store.claim_deliveries(claim).await.unwrap()
    }

    /// Starts the deliveries of a channel that are due.
    pub(in crate::store) async fn send(&self, channel: &str, now: i64) -> Vec<ClaimedDelivery> {
        self.claim_of(&[(channel, 100)], now).await.claimed
    }

    /// Ends an attempt, with a try that failed or was a success.
    pub(in crate::store) async fn end(
        &self,
        attempt: DeliveryAttempt,
        outcome: DeliveryOutcome,
        now: i64,
    ) -> bool {
        let stored = self
            .store
            .finish_deliveries(vec![ended(attempt, outcome, now)], at(now))
            .await
            .unwrap();
        assert_eq!(stored.len(), 1);
        stored[0]
    }
}

fn ended(attempt: DeliveryAttempt, outcome: DeliveryOutcome, now: i64) -> DeliveryEnd {
    let tried = match outcome {
        DeliveryOutcome::Released => None,
        DeliveryOutcome::Delivered => Some(Try {
            outcome: TryOutcome::Delivered,
            status: Some(204),
            detail: "the receiver answered 204".to_owned(),
            ..failed_try(now)
        }),
        _ => Some(failed_try(now)),
    };
    DeliveryEnd {
        attempt,
        outcome,
        tried,
    }
}

pub(in crate::store) fn succeeded() -> Outcome {
    Outcome::Succeeded {
        result: r#"{"status":"succeeded"}"#.to_owned(),
    }
}

pub(in crate::store) fn failed() -> Outcome {
    Outcome::Failed {
        problem: problem(),
        result: r#"{"status":"failed"}"#.to_owned(),
        release_key: false,
    }
}

pub(in crate::store) async fn due_deliveries_start_in_order_and_within_their_places(
    site: &dyn Site,
) {
    let open = site.open();
    let mut deliveries: Vec<_> = [30, 20, 10, 99]
        .map(|due| NewDelivery {
            due: at(due),
            ..by("crm")
        })
        .into();
    deliveries.push(by("mail"));
    open.sent_out(&deliveries, 1).await;
    let ids: Vec<_> = deliveries.iter().map(|new| new.id).collect();
    let order = |claims: &DeliveryClaims| {
        claims
            .claimed
            .iter()
            .map(|claimed| claimed.delivery.id)
            .collect::<Vec<_>>()
    };
    let claims = open.claim_of(&[("crm", 9)], 9).await;
    assert_eq!((order(&claims), claims.next), (vec![], Some(at(10))));
    let claims = open
        .claim_of(&[("crm", 2), ("mail", 0), ("none", 5)], 30)
        .await;
    assert_eq!(order(&claims), [ids[2], ids[1]]);
    assert_eq!(claims.next, Some(at(0)), "the mail is due");
    let first = &claims.claimed[0];
    assert_eq!(
        (
            first.delivery.state,
            first.delivery.attempts,
            first.delivery.version
        ),
        (DeliveryState::Sending, 1, 2)
    );
    assert_eq!(open.delivery(ids[2]).await, first.delivery);
    assert_eq!(first.result.as_deref(), Some(r#"{"status":"succeeded"}"#));
    let claims = open.claim_of(&[("crm", 9), ("mail", 9)], 30).await;
    assert_eq!(order(&claims), [ids[0], ids[4]]);
    assert_eq!(claims.next, Some(at(99)));
    let elsewhere = DeliveryClaim {
        owner: "gateway".to_owned(),
        places: vec![(Endpoint::new("letters", "crm"), 9)],
        lease: seconds(60),
        now: at(999),
    };
    let claims = open.store.claim_deliveries(elsewhere).await.unwrap();
    assert_eq!((claims.claimed.len(), claims.next), (0, None));
}

pub(in crate::store) async fn a_stale_delivery_attempt_changes_nothing(site: &dyn Site) {
    let open = site.open();
    let new = by("crm");
    open.sent_out(std::slice::from_ref(&new), 0).await;
    let first = open.send("crm", 0).await.remove(0).attempt;
    assert_eq!(
        open.store.recover_deliveries(false, at(60)).await.unwrap(),
        1
    );
    let second = open.send("crm", 60).await.remove(0).attempt;
    assert!(second.token > first.token);
    let before = open.delivery(new.id).await;
    let again = || DeliveryOutcome::Retry { due: at(99) };
    for outcome in [
        DeliveryOutcome::Delivered,
        DeliveryOutcome::Released,
        again(),
    ] {
        assert!(!open.end(first, outcome, 61).await);
    }
    assert_eq!(open.delivery(new.id).await, before);
    let renewed = open
        .store
        .renew_deliveries(vec![first, second], seconds(60), at(62))
        .await
        .unwrap();
    assert_eq!(renewed, [first], "the stale one is lost");

    assert!(open.end(second, DeliveryOutcome::Delivered, 63).await);
    let done = open.delivery(new.id).await;
    assert_eq!(
        (done.state, done.finished),
        (DeliveryState::Delivered, Some(at(63)))
    );
    assert!(!open.end(second, again(), 64).await, "it has ended already");
    assert_eq!(open.delivery(new.id).await, done);
    let unknown = DeliveryAttempt {
        id: DeliveryId::new(),
        token: 1,
    };
    assert!(!open.end(unknown, DeliveryOutcome::Delivered, 65).await);
}

pub(in crate::store) async fn each_end_makes_of_a_delivery_what_it_says(site: &dyn Site) {
    let open = site.open();
    let cases = [
        (
            DeliveryOutcome::Delivered,
            DeliveryState::Delivered,
            None,
            1,
            0,
        ),
        (
            DeliveryOutcome::Retry { due: at(70) },
            DeliveryState::Pending,
            Some("the receiver answered 503"),
            1,
            70,
        ),
        (
            DeliveryOutcome::Dead {
                reason: "the receiver refused it".to_owned(),
            },
            DeliveryState::Dead,
            Some("the receiver refused it"),
            1,
            0,
        ),
        (
            DeliveryOutcome::Released,
            DeliveryState::Pending,
            None,
            0,
            9,
        ),
    ];
    let deliveries: Vec<_> = cases.iter().map(|_| by("crm")).collect();
    open.sent_out(&deliveries, 1).await;
    let started = open.send("crm", 5).await;
    let mut ends: Vec<_> = started
        .iter()
        .zip(&cases)
        .map(|(claimed, (outcome, ..))| ended(claimed.attempt, outcome.clone(), 9))
        .collect();
    let mut stale = ends[1].clone();
    stale.attempt.token += 1;
    ends.insert(1, stale);
    let stored = open
        .store
        .finish_deliveries(ends.clone(), at(9))
        .await
        .unwrap();
    assert_eq!(stored, [true, false, true, true, true], "each in its order");
    for (new, (outcome, state, reason, attempts, due)) in deliveries.iter().zip(cases) {
        let found = open.delivery(new.id).await;
        assert_eq!(
            (found.state, found.reason.as_deref(), found.attempts),
            (state, reason, attempts),
            "{outcome:?}"
        );
        if state == DeliveryState::Pending {
            assert_eq!((found.due, found.finished), (at(due), None), "{outcome:?}");
        } else {
            assert_eq!(found.finished, Some(at(9)), "{outcome:?}");
        }
        assert_eq!((found.version, found.updated), (3, at(9)), "{outcome:?}");
        let tries = usize::from(outcome != DeliveryOutcome::Released);
        assert_eq!(found.tries.len(), tries, "{outcome:?}");
    }
    let stored = open.store.finish_deliveries(ends, at(10)).await.unwrap();
    assert_eq!(stored, [false; 5], "the same ends again");
}

pub(in crate::store) async fn a_delivery_remembers_its_latest_tries(site: &dyn Site) {
    let open = site.open();
    let new = by("crm");
    open.sent_out(std::slice::from_ref(&new), 0).await;
    let rounds = REMEMBERED_TRIES as i64 + 3;
    for now in 0..rounds {
        let attempt = open.send("crm", now).await.remove(0).attempt;
        let due = at(now + 1);
        assert!(open.end(attempt, DeliveryOutcome::Retry { due }, now).await);
    }
    let found = open.delivery(new.id).await;
    assert_eq!(i64::from(found.attempts), rounds);
    let times: Vec<Timestamp> = found.tries.iter().map(|tried| tried.at).collect();
    assert_eq!(times, (3..rounds).map(at).collect::<Vec<_>>());
    assert_eq!(found.tries[0], failed_try(3));
}

pub(in crate::store) async fn an_attempt_without_a_sign_of_life_is_made_again(site: &dyn Site) {
    let open = site.open();
    let deliveries = [by("crm"), by("crm")];
    open.sent_out(&deliveries, 0).await;
    let started = open.send("crm", 5).await;
    assert_eq!(
        open.store.recover_deliveries(false, at(64)).await.unwrap(),
        0
    );
    let version = open.delivery(deliveries[1].id).await.version;
    let renewed = open
        .store
        .renew_deliveries(vec![started[1].attempt], seconds(60), at(64))
        .await
        .unwrap();
    assert!(renewed.is_empty());
    assert_eq!(open.delivery(deliveries[1].id).await.version, version);
    assert_eq!(
        open.store.recover_deliveries(false, at(65)).await.unwrap(),
        1
    );
    let ids = deliveries.map(|new| new.id);
    assert_eq!(
        open.states(&ids).await,
        [DeliveryState::Pending, DeliveryState::Sending]
    );
    let lost = open.delivery(ids[0]).await;
    assert_eq!((lost.due, lost.attempts, lost.tries.len()), (at(65), 1, 1));
    assert_eq!(lost.cut_off, 1);
    assert_eq!(
        (lost.tries[0].outcome, lost.tries[0].at),
        (TryOutcome::Lost, at(5))
    );
    assert_eq!(lost.reason.as_deref(), Some(lost.tries[0].detail.as_str()));
    let again = open.send("crm", 65).await;
    assert_eq!((again.len(), again[0].delivery.attempts), (1, 2));
    assert_eq!(again[0].delivery.cut_off, 1);
    drop(open);

    let open = site.open();
    assert_eq!(
        open.store.recover_deliveries(true, at(66)).await.unwrap(),
        2
    );
    assert_eq!(open.send("crm", 66).await.len(), 2, "a gateway that ended");
}
