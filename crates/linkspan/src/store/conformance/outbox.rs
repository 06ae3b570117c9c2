//! The outbox: what becomes of deliveries in the transactions that change their job.

use std::sync::Arc;

use linkspan_model::{DeliveryState, JobState};

use super::deliveries::{by, failed, succeeded};
use super::{Open, Site, at, bill, clerk, held, problem, seconds};
use crate::store::{
    Command, Delivery, DeliveryOutcome, DeliveryQuery, Endpoint, Event, Finished, Outcome, Recover,
};

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
        cut_off: 0,
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
    assert!(
        unfit.is_withheld() && unfit.tries.len() == 1,
        "what it met is remembered"
    );
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
    let attempt = open.claim(1, 70).await.remove(0).attempt;
    let mut waits = bill();
    waits.start = held();
    open.created(waits).await;
    // No transaction is open meanwhile: others write, and an attempt that shows a sign of life keeps its job.
    for (now, failed) in [(130, 1), (190, 1)] {
        let store = open.store.clone();
        let recover = Recover {
            all: false,
            backoff: Arc::new(|_| seconds(10)),
            outbox: Arc::new(move |result| {
                assert_eq!((result.id, result.error.is_some()), (id, true));
                let store = store.clone();
                Box::pin(async move {
                    if now == 130 {
                        let lost = store.renew(vec![attempt], seconds(60), at(130)).await;
                        assert!(lost.unwrap().is_empty());
                    }
                    vec![by("crm")]
                })
            }),
            now: at(now),
        };
        let recovered = open.store.recover(recover).await.unwrap();
        assert_eq!((recovered.waiting, recovered.failed), (0, failed), "{now}");
    }
    let job = open.job(id).await;
    assert_eq!((job.state, job.problem.is_some()), (JobState::Failed, true));
    let sent = open.send("crm", 190).await;
    assert_eq!(sent.len(), 1, "nobody but its connection wants a held job");
    assert_eq!(sent[0].delivery.job, id);
    assert_eq!(sent[0].result, open.store.result(id).await.unwrap());
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
    // The pause, and then its deliveries, that have followed.
    for _ in 0..2 {
        assert_eq!(
            events.recv().await.unwrap(),
            Event::Endpoint(endpoint.clone())
        );
    }
    open.command(id, Command::Delete, 5).await;
    assert!(matches!(
        events.recv().await.unwrap(),
        Event::Job { state: None, .. }
    ));
}
