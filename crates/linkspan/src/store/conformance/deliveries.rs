//! The outbox, and deliveries as the sender sees them: claimed, ended, taken for dead.

use std::sync::Arc;

use jiff::Timestamp;
use linkspan_model::{DeliveryId, DeliveryState, InvocationId, JobState};

use super::{Open, Site, at, bill, clerk, held, problem, seconds};
use crate::store::deliveries::REMEMBERED_TRIES;
use crate::store::{
    Attempt, AttemptEnd, ClaimedDelivery, Command, Delivery, DeliveryAttempt, DeliveryClaim,
    DeliveryClaims, DeliveryEnd, DeliveryOutcome, DeliveryQuery, Endpoint, Event, Finished,
    NewDelivery, Outcome, Recover, Start, Try, TryOutcome,
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

fn failed() -> Outcome {
    Outcome::Failed {
        problem: problem(),
        result: r#"{"status":"failed"}"#.to_owned(),
        release_key: false,
    }
}

async fn count(open: &Open) -> usize {
    let query = DeliveryQuery {
        limit: 1000,
        ..DeliveryQuery::default()
    };
    let page = open.store.list_deliveries(query).await.unwrap();
    page.deliveries.len()
}

pub(in crate::store) async fn deliveries_are_stored_with_the_end_that_has_a_result(
    site: &dyn Site,
) {
    let open = site.open();
    let (id, attempt) = open.running().await;
    let mut fenced = attempt;
    fenced.token += 1;
    let done = open.finish_with(fenced, succeeded(), &[by("crm")], 1).await;
    assert!(matches!(done, Finished::Fenced));
    let again = Outcome::Retry {
        due: at(2),
        problem: problem(),
    };
    open.finish_with(attempt, again, &[by("crm")], 1).await;
    for outcome in [Outcome::Released, Outcome::Cancelled] {
        let (_, attempt) = open.running().await;
        open.finish_with(attempt, outcome, &[by("crm")], 1).await;
    }
    assert_eq!(count(&open).await, 0, "an end without a result has none");

    let (hook, mut mail) = (by("crm"), by("mail"));
    mail.due = at(500);
    let mut unfit = by("unfit");
    unfit.dead = Some("its filter cannot be evaluated".to_owned());
    let claimed = open.claim(9, 2).await;
    let attempt = claimed
        .iter()
        .find(|claimed| claimed.job.id == id)
        .unwrap()
        .attempt;
    let all = [hook.clone(), mail.clone(), unfit.clone()];
    let done = open.finish_with(attempt, succeeded(), &all, 3).await;
    assert!(matches!(done, Finished::Done(_)));
    let done = open
        .finish_with(attempt, succeeded(), &[by("crm")], 3)
        .await;
    assert!(matches!(done, Finished::Fenced), "the same end again");
    drop(open);

    let open = site.open();
    assert_eq!(count(&open).await, 3);
    let expected = Delivery {
        id: mail.id,
        job: id,
        caller: "finance".to_owned(),
        endpoint: Endpoint::new("bills", "mail"),
        kind: "webhook".to_owned(),
        receiver: "https://crm.example.com".to_owned(),
        state: DeliveryState::Pending,
        version: 1,
        attempts: 0,
        created: at(3),
        updated: at(3),
        due: at(500),
        finished: None,
        tries: Vec::new(),
        reason: None,
        superseded: false,
    };
    assert_eq!(open.delivery(mail.id).await, expected);
    let unfit = open.delivery(unfit.id).await;
    assert_eq!(
        (unfit.state, unfit.finished, unfit.reason.as_deref()),
        (
            DeliveryState::Dead,
            Some(at(3)),
            Some("its filter cannot be evaluated")
        )
    );
    assert!(open.send("unfit", 1000).await.is_empty());

    let (_, attempt) = open.running().await;
    let failure = by("failures");
    open.finish_with(attempt, failed(), std::slice::from_ref(&failure), 4)
        .await;
    let sent = open.send("failures", 4).await.remove(0);
    assert_eq!(sent.delivery.id, failure.id);
    assert_eq!(sent.result.as_deref(), Some(r#"{"status":"failed"}"#));
}

pub(in crate::store) async fn a_job_that_recovery_fails_is_delivered_too(site: &dyn Site) {
    let open = site.open();
    let (id, _) = open.running().await;
    assert_eq!(open.recover(false, 60).await, (1, 0));
    assert_eq!(open.claim(1, 70).await.len(), 1);
    let mut waits = bill();
    waits.start = held();
    open.created(waits).await;
    let recover = Recover {
        all: false,
        backoff: Arc::new(|_| seconds(10)),
        outbox: Arc::new(|job, result| {
            assert_eq!((job.id, job.state), (result.id, JobState::Failed));
            assert_eq!(job.problem, result.error);
            vec![by("crm")]
        }),
        now: at(130),
    };
    let recovered = open.store.recover(recover).await.unwrap();
    assert_eq!((recovered.waiting, recovered.failed), (0, 2));
    let sent = open.send("crm", 130).await;
    assert_eq!(sent.len(), 1, "nobody but its connection wants a held job");
    assert_eq!(sent[0].delivery.job, id);
    assert_eq!(sent[0].result, open.store.result(id).await.unwrap());
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
    assert_eq!(
        (lost.tries[0].outcome, lost.tries[0].at),
        (TryOutcome::Lost, at(5))
    );
    assert_eq!(lost.reason.as_deref(), Some(lost.tries[0].detail.as_str()));
    let again = open.send("crm", 65).await;
    assert_eq!((again.len(), again[0].delivery.attempts), (1, 2));
    drop(open);

    let open = site.open();
    assert_eq!(
        open.store.recover_deliveries(true, at(66)).await.unwrap(),
        2
    );
    assert_eq!(open.send("crm", 66).await.len(), 2, "a gateway that ended");
}

pub(in crate::store) async fn an_erased_job_takes_its_deliveries_with_it(site: &dyn Site) {
    let open = site.open();
    let deliveries = [by("crm"), by("mail")];
    let id = open.sent_out(&deliveries, 0).await;
    let attempt = open.send("crm", 1).await.remove(0).attempt;
    open.command(id, Command::Delete, 2).await;
    for new in &deliveries {
        assert_eq!(open.store.get_delivery(new.id).await.unwrap(), None);
    }
    assert!(!open.end(attempt, DeliveryOutcome::Delivered, 3).await);
    let lost = open
        .store
        .renew_deliveries(vec![attempt], seconds(60), at(3))
        .await
        .unwrap();
    assert_eq!(lost, [attempt]);
    assert!(open.store.endpoints().await.unwrap().is_empty());
}

pub(in crate::store) async fn a_job_that_runs_again_supersedes_its_deliveries(site: &dyn Site) {
    let open = site.open();
    let deliveries = ["arrived", "sending", "pending", "dead"].map(by);
    let (id, attempt) = open.running().await;
    open.finish_with(attempt, failed(), &deliveries, 1).await;
    let arrived = open.send("arrived", 1).await.remove(0).attempt;
    assert!(open.end(arrived, DeliveryOutcome::Delivered, 2).await);
    let sending = open.send("sending", 2).await.remove(0).attempt;
    let dead = open.send("dead", 2).await.remove(0).attempt;
    let reason = "the receiver refused it".to_owned();
    assert!(open.end(dead, DeliveryOutcome::Dead { reason }, 2).await);

    open.command(id, Command::Retry, 3).await;
    assert_eq!(count(&open).await, 1);
    let record = open.delivery(deliveries[0].id).await;
    assert_eq!(
        (record.state, record.superseded),
        (DeliveryState::Delivered, true)
    );
    assert!(!open.end(sending, DeliveryOutcome::Delivered, 4).await);

    let again = open.claim(1, 5).await.remove(0).attempt;
    let new = by("arrived");
    open.finish_with(again, succeeded(), std::slice::from_ref(&new), 6)
        .await;
    let sent = open.send("arrived", 6).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].delivery.id, new.id);
    assert_eq!(sent[0].result.as_deref(), Some(r#"{"status":"succeeded"}"#));
    assert!(!sent[0].delivery.superseded);
}

pub(in crate::store) async fn changes_are_told_to_whoever_listens(site: &dyn Site) {
    let open = site.open();
    let (id, attempt) = open.running().await;
    let new = by("crm");
    let mut events = open.store.watchers().subscribe();
    open.finish_with(attempt, succeeded(), std::slice::from_ref(&new), 1)
        .await;
    open.store.watchers().delivery_work().await;
    let told = [events.recv().await.unwrap(), events.recv().await.unwrap()];
    let job = Event::Job {
        id,
        integration: "bills".to_owned(),
        caller: "finance".to_owned(),
        state: Some(JobState::Succeeded),
        version: 2,
    };
    let delivery = |state, version| Event::Delivery {
        id: new.id,
        job: id,
        endpoint: Endpoint::new("bills", "crm"),
        caller: "finance".to_owned(),
        state,
        version,
    };
    assert!(told.contains(&job), "{told:?}");
    assert!(
        told.contains(&delivery(DeliveryState::Pending, 1)),
        "{told:?}"
    );

    let attempt = open.send("crm", 2).await.remove(0).attempt;
    assert_eq!(
        events.recv().await.unwrap(),
        delivery(DeliveryState::Sending, 2)
    );
    open.end(attempt, DeliveryOutcome::Retry { due: at(9) }, 3)
        .await;
    open.store.watchers().delivery_work().await;
    assert_eq!(
        events.recv().await.unwrap(),
        delivery(DeliveryState::Pending, 3)
    );
    let reason = Some("upkeep of the receiver".to_owned());
    let endpoint = Endpoint::new("bills", "crm");
    let paused = open
        .store
        .set_pause(endpoint.clone(), reason, clerk(), at(4))
        .await;
    assert_eq!(paused.unwrap(), 1);
    assert_eq!(events.recv().await.unwrap(), Event::Endpoint(endpoint));
    open.command(id, Command::Delete, 5).await;
    assert!(matches!(
        events.recv().await.unwrap(),
        Event::Job { state: None, .. }
    ));
}
