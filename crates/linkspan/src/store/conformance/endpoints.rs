//! Endpoints: paused, let go on, and their health.

use linkspan_model::DeliveryState;

use super::commands::{changed, crm, only, refused};
use super::deliveries::by;
use super::{Site, at, clerk};
use crate::store::{
    AuditQuery, Command, DeliveryOutcome, Endpoint, EndpointStatus, NewDelivery, Pause,
};

pub(in crate::store) async fn a_receiver_that_wants_no_more_pauses_its_endpoint(site: &dyn Site) {
    let open = site.open();
    let deliveries = [by("crm"), by("crm"), by("crm"), by("crm"), by("mail")];
    open.sent_out(&deliveries, 0).await;
    let mut ids = deliveries.map(|new| new.id).to_vec();
    let sending = open.claim_of(&[("crm", 3)], 1).await.claimed;
    let gone = DeliveryOutcome::Pause {
        reason: "the receiver answered 410 Gone".to_owned(),
    };
    assert!(open.end(sending[0].attempt, gone, 2).await);
    // What is under way when the pause comes ends as it ends; what would be tried again waits.
    assert!(
        open.end(sending[1].attempt, DeliveryOutcome::Retry { due: at(5) }, 3)
            .await
    );
    assert_eq!(
        open.store.recover_deliveries(false, at(61)).await.unwrap(),
        1
    );
    let late = by("crm");
    ids.push(late.id);
    open.sent_out(std::slice::from_ref(&late), 62).await;
    use DeliveryState::{Paused, Pending};
    assert_eq!(
        open.states(&ids).await,
        [Paused, Paused, Paused, Paused, Pending, Paused]
    );
    let claims = open.claim_of(&[("crm", 9)], 1000).await;
    assert_eq!((claims.claimed.len(), claims.next), (0, None));
    drop(open);

    let open = site.open();
    let status = open.store.endpoints().await.unwrap();
    let pause = Pause {
        since: at(2),
        reason: "the receiver answered 410 Gone".to_owned(),
    };
    let expected = [
        EndpointStatus {
            endpoint: crm(),
            pause: Some(pause),
            tallies: vec![(Paused, 5)],
            oldest_due: None,
        },
        EndpointStatus {
            endpoint: Endpoint::new("bills", "mail"),
            pause: None,
            tallies: vec![(Pending, 1)],
            oldest_due: Some(at(0)),
        },
    ];
    assert_eq!(status, expected);

    assert_eq!(open.set_pause(None, 100).await, 5);
    let sent = open.send("crm", 100).await;
    assert_eq!(sent.len(), 5, "all of them are due now");
    assert_eq!(
        sent.iter().map(|sent| sent.delivery.attempts).max(),
        Some(2)
    );
    assert!(open.store.endpoints().await.unwrap()[0].pause.is_none());
}

pub(in crate::store) async fn an_operator_pauses_an_endpoint_and_lets_it_go_on(site: &dyn Site) {
    let open = site.open();
    assert_eq!(open.set_pause(Some("upkeep"), 1).await, 0);
    let status = open.store.endpoints().await.unwrap();
    assert_eq!(
        (status.len(), status[0].tallies.len()),
        (1, 0),
        "paused before its first delivery"
    );
    let new = by("crm");
    open.sent_out(std::slice::from_ref(&new), 2).await;
    assert!(open.send("crm", 3).await.is_empty());
    assert_eq!(open.set_pause(None, 4).await, 1);
    assert_eq!(open.set_pause(None, 5).await, 0);
    let sent = open.send("crm", 6).await.remove(0);
    assert!(open.end(sent.attempt, DeliveryOutcome::Delivered, 7).await);
    open.set_pause(Some("upkeep"), 8).await;
    assert_eq!(open.delivery(new.id).await.state, DeliveryState::Delivered);
    assert_eq!(open.replay(only(new.id), 9).await, changed(1, 0));
    assert_eq!(
        open.delivery(new.id).await.state,
        DeliveryState::Paused,
        "replayed, and held back"
    );
    assert_eq!(open.set_pause(None, 10).await, 1);
    assert_eq!(open.send("crm", 10).await.len(), 1);
    let lines = open
        .store
        .list_audit(AuditQuery::newest(10))
        .await
        .unwrap()
        .lines;
    let pauses = lines.iter().filter(|line| line.action == "endpoint.pause");
    assert_eq!(pauses.clone().count(), 2);
    assert!(
        pauses
            .clone()
            .all(|line| line.target == "bills/crm" && line.actor == clerk())
    );
    let resumes = lines.iter().filter(|line| line.action == "endpoint.resume");
    assert_eq!(resumes.count(), 3);
}

pub(in crate::store) async fn an_endpoints_health_agrees_with_its_deliveries(site: &dyn Site) {
    let open = site.open();
    assert!(open.store.endpoints().await.unwrap().is_empty());
    open.ended(refused(), 1).await;
    open.ended(DeliveryOutcome::Delivered, 2).await;
    let retried = open.ended(DeliveryOutcome::Retry { due: at(40) }, 3).await;
    let later = NewDelivery {
        due: at(70),
        ..by("crm")
    };
    let job = open.sent_out(std::slice::from_ref(&later), 4).await;
    let check = |dead, delivered, pending: &[i64]| {
        let mut tallies = Vec::new();
        let counts = [
            (DeliveryState::Pending, pending.len() as u64),
            (DeliveryState::Delivered, delivered),
            (DeliveryState::Dead, dead),
        ];
        tallies.extend(counts.into_iter().filter(|(_, count)| *count > 0));
        let expected = EndpointStatus {
            endpoint: crm(),
            pause: None,
            tallies,
            oldest_due: pending.iter().min().copied().map(at),
        };
        let store = open.store.clone();
        async move {
            let mut found = store.endpoints().await.unwrap();
            for status in &mut found {
                status.tallies.sort_by_key(|(state, _)| {
                    DeliveryState::ALL.iter().position(|other| other == state)
                });
            }
            assert_eq!(found, [expected]);
        }
    };
    check(1, 1, &[40, 70]).await;
    open.give_up(only(retried), 5).await;
    check(2, 1, &[70]).await;
    open.replay(only(retried), 6).await;
    check(1, 1, &[6, 70]).await;
    open.command(job, Command::Delete, 7).await;
    check(1, 1, &[6]).await;
}

pub(in crate::store) async fn a_pause_takes_every_delivery_along_however_many(site: &dyn Site) {
    let open = site.open();
    let deliveries: Vec<_> = (0..2100).map(|_| by("crm")).collect();
    open.sent_out(&deliveries, 0).await;
    let tallies = async || open.store.endpoints().await.unwrap()[0].tallies.clone();
    assert_eq!(open.set_pause(Some("upkeep"), 1).await, 2100);
    assert_eq!(tallies().await, [(DeliveryState::Paused, 2100)]);
    assert_eq!(open.set_pause(None, 2).await, 2100);
    assert_eq!(tallies().await, [(DeliveryState::Pending, 2100)]);
    assert_eq!(open.claim_of(&[("crm", 9)], 2).await.claimed.len(), 9);
}
