//! Deliveries as people see them: listed, replayed, given up, paused; and how long a result is kept for them.

use linkspan_model::{DeliveryId, DeliveryState, JobState};

use super::deliveries::{by, succeeded};
use super::{Open, Site, at, bill, clerk};
use crate::store::{
    Command, DeliveriesCommanded, DeliveryCommand, DeliveryOutcome, DeliveryQuery, Endpoint,
    EndpointStatus, Finished, NewDelivery, Pause, Retention, Start, TryOutcome,
};

const RETENTION: Retention = Retention {
    rows: jiff::SignedDuration::from_secs(1000),
    audit: jiff::SignedDuration::from_secs(100_000),
};

fn crm() -> Endpoint {
    Endpoint::new("bills", "crm")
}

fn only(id: DeliveryId) -> DeliveryQuery {
    DeliveryQuery {
        id: Some(id),
        limit: 10,
        ..DeliveryQuery::default()
    }
}

impl Open {
    async fn replay(&self, query: DeliveryQuery, now: i64) -> DeliveriesCommanded {
        self.store
            .command_deliveries(query, DeliveryCommand::Replay, clerk(), at(now))
            .await
            .unwrap()
    }

    async fn give_up(&self, query: DeliveryQuery, now: i64) -> DeliveriesCommanded {
        self.store
            .command_deliveries(query, DeliveryCommand::GiveUp, clerk(), at(now))
            .await
            .unwrap()
    }

    async fn set_pause(&self, reason: Option<&str>, now: i64) -> u64 {
        let reason = reason.map(str::to_owned);
        self.store
            .set_pause(crm(), reason, clerk(), at(now))
            .await
            .unwrap()
    }

    /// One delivery by `crm` that has ended so.
    async fn ended(&self, outcome: DeliveryOutcome, now: i64) -> DeliveryId {
        let new = by("crm");
        self.sent_out(std::slice::from_ref(&new), now).await;
        let sent = self.send("crm", now).await;
        assert_eq!((sent.len(), sent[0].delivery.id), (1, new.id));
        assert!(self.end(sent[0].attempt, outcome, now).await);
        new.id
    }

    async fn sweep_at(&self, now: i64) -> u64 {
        self.store.sweep(RETENTION, at(now)).await.unwrap().expired
    }
}

fn refused() -> DeliveryOutcome {
    DeliveryOutcome::Dead {
        reason: "the receiver refused it".to_owned(),
    }
}

fn changed(changed: u64, left: u64) -> DeliveriesCommanded {
    DeliveriesCommanded {
        changed,
        left,
        next: None,
    }
}

pub(in crate::store) async fn a_replay_sends_the_same_delivery_again(site: &dyn Site) {
    let open = site.open();
    for outcome in [DeliveryOutcome::Delivered, refused()] {
        let id = open.ended(outcome, 1).await;
        let before = open.delivery(id).await;
        assert_eq!(open.replay(only(id), 50).await, changed(1, 0));
        assert_eq!(
            open.replay(only(id), 51).await,
            changed(0, 1),
            "it is pending already"
        );
        let after = open.delivery(id).await;
        assert_eq!(
            (after.state, after.attempts, after.due, after.finished),
            (DeliveryState::Pending, 0, at(50), None)
        );
        assert_eq!((after.tries, after.reason), (before.tries, None));
        assert!(after.version > before.version);
        let sent = open.send("crm", 50).await.remove(0);
        assert_eq!((sent.delivery.id, sent.delivery.attempts), (id, 1));
        assert!(sent.result.is_some());
        assert!(open.end(sent.attempt, DeliveryOutcome::Delivered, 52).await);
        let done = open.delivery(id).await;
        assert_eq!(done.tries.len(), 2);
        assert_eq!(done.tries[1].outcome, TryOutcome::Delivered);
    }
    let unknown = open.replay(only(DeliveryId::new()), 60).await;
    assert_eq!(unknown, changed(0, 0));
    let lines = open.store.list_audit(None, 3).await.unwrap().lines;
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.action.as_str(), line.outcome.as_str()))
        .collect();
    let expected = [
        ("delivery.replay", "not-found"),
        ("delivery.replay", "wrong-state"),
        ("delivery.replay", "done"),
    ];
    assert_eq!(found, expected);
}

pub(in crate::store) async fn what_has_no_result_any_more_is_not_replayed(site: &dyn Site) {
    let open = site.open();
    let old = open.ended(refused(), 0).await;
    assert_eq!(open.sweep_at(3600).await, 1);
    let expired = open.delivery(old).await;
    assert_eq!(open.replay(only(old), 3601).await, changed(0, 1));

    let new = by("crm");
    let (job, attempt) = open.running().await;
    let done = open
        .fail_with(attempt, std::slice::from_ref(&new), 3601)
        .await;
    assert!(matches!(done, Finished::Done(_)));
    let sent = open.send("crm", 3601).await.remove(0).attempt;
    assert!(open.end(sent, DeliveryOutcome::Delivered, 3602).await);
    open.command(job, Command::Retry, 3603).await;
    let again = open.claim(1, 3603).await.remove(0).attempt;
    open.succeed(again, 3604).await;
    let superseded = open.delivery(new.id).await;
    assert!(superseded.superseded);
    assert_eq!(open.replay(only(new.id), 3605).await, changed(0, 1));
    assert_eq!(open.delivery(old).await, expired);
    assert_eq!(open.delivery(new.id).await, superseded);
}

pub(in crate::store) async fn a_delivery_that_is_given_up_is_not_tried_again(site: &dyn Site) {
    let open = site.open();
    let deliveries = [by("crm"), by("crm"), by("mail")];
    let job = open.sent_out(&deliveries, 0).await;
    let ids = deliveries.map(|new| new.id);
    let attempt = open.claim_of(&[("crm", 1)], 1).await.claimed[0].attempt;
    open.set_pause(Some("upkeep"), 2).await;
    assert_eq!(
        open.states(&ids).await,
        [
            DeliveryState::Sending,
            DeliveryState::Paused,
            DeliveryState::Pending
        ]
    );
    let all = DeliveryQuery {
        job: Some(job),
        limit: 10,
        ..DeliveryQuery::default()
    };
    assert_eq!(open.give_up(all.clone(), 3).await, changed(3, 0));
    assert_eq!(open.give_up(all, 4).await, changed(0, 3));
    for id in ids {
        let found = open.delivery(id).await;
        assert_eq!(
            (found.state, found.finished),
            (DeliveryState::Dead, Some(at(3)))
        );
        assert!(found.reason.is_some());
    }
    assert!(!open.end(attempt, DeliveryOutcome::Delivered, 5).await);
    open.set_pause(None, 6).await;
    assert!(open.send("crm", 9).await.is_empty());
}

pub(in crate::store) async fn a_command_goes_through_page_by_page(site: &dyn Site) {
    let open = site.open();
    let deliveries: Vec<_> = (0..1005).map(|_| by("crm")).collect();
    open.sent_out(&deliveries, 0).await;
    let mut query = DeliveryQuery {
        state: Some(DeliveryState::Pending),
        limit: 1000,
        ..DeliveryQuery::default()
    };
    let first = open.give_up(query.clone(), 1).await;
    assert_eq!((first.changed, first.left), (1000, 0));
    assert_eq!(first.next, Some(deliveries[5].id), "the newest first");
    query.after = first.next;
    assert_eq!(open.give_up(query, 2).await, changed(5, 0));
    assert!(open.send("crm", 3).await.is_empty());
    assert_eq!(
        open.store.list_audit(None, 10).await.unwrap().lines.len(),
        2
    );
}

pub(in crate::store) async fn a_query_narrows_the_list_page_by_page(site: &dyn Site) {
    let open = site.open();
    let first = [by("crm"), by("mail")];
    let job = open.sent_out(&first, 10).await;
    let mut letter = bill();
    letter.integration = "letters".to_owned();
    letter.caller = "sales".to_owned();
    letter.start = Some(Start {
        owner: "gateway".to_owned(),
        lease: super::seconds(60),
        held: false,
    });
    let (_, attempt) = open.created(letter).await;
    let other = by("crm");
    open.finish_with(
        attempt.unwrap(),
        succeeded(),
        std::slice::from_ref(&other),
        20,
    )
    .await;
    let last = NewDelivery {
        dead: Some("its filter cannot be evaluated".to_owned()),
        ..by("crm")
    };
    open.sent_out(std::slice::from_ref(&last), 30).await;
    let [crm, mail] = first.map(|new| new.id);
    let (other, last) = (other.id, last.id);
    let text = |text: &str| Some(text.to_owned());
    let any = DeliveryQuery::default;
    let cases = [
        (any(), vec![last, other, mail, crm]),
        (
            DeliveryQuery {
                id: Some(mail),
                ..any()
            },
            vec![mail],
        ),
        (
            DeliveryQuery {
                job: Some(job),
                ..any()
            },
            vec![mail, crm],
        ),
        (
            DeliveryQuery {
                caller: text("finance"),
                ..any()
            },
            vec![last, mail, crm],
        ),
        (
            DeliveryQuery {
                integration: text("letters"),
                ..any()
            },
            vec![other],
        ),
        (
            DeliveryQuery {
                channel: text("crm"),
                ..any()
            },
            vec![last, other, crm],
        ),
        (
            DeliveryQuery {
                state: Some(DeliveryState::Dead),
                ..any()
            },
            vec![last],
        ),
        (
            DeliveryQuery {
                state: Some(DeliveryState::Sending),
                ..any()
            },
            vec![],
        ),
        (
            DeliveryQuery {
                from: Some(at(20)),
                ..any()
            },
            vec![last, other],
        ),
        (
            DeliveryQuery {
                until: Some(at(20)),
                ..any()
            },
            vec![mail, crm],
        ),
        (
            DeliveryQuery {
                integration: text("bills"),
                channel: text("crm"),
                state: Some(DeliveryState::Pending),
                from: Some(at(10)),
                until: Some(at(11)),
                ..any()
            },
            vec![crm],
        ),
        (
            DeliveryQuery {
                caller: text("sales"),
                job: Some(job),
                ..any()
            },
            vec![],
        ),
    ];
    for (query, expected) in cases {
        for limit in [1, 10] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let query = DeliveryQuery {
                    after,
                    limit,
                    ..query.clone()
                };
                let page = open.store.list_deliveries(query).await.unwrap();
                assert!(page.deliveries.len() <= limit as usize);
                found.extend(page.deliveries.iter().map(|delivery| delivery.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{query:?}");
        }
    }
}

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
    let lines = open.store.list_audit(None, 10).await.unwrap().lines;
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

pub(in crate::store) async fn a_result_is_kept_while_a_delivery_needs_it(site: &dyn Site) {
    let open = site.open();
    let deliveries = [by("crm"), by("crm")];
    let job = open.sent_out(&deliveries, 0).await;
    let [slow, quick] = deliveries.map(|new| new.id);
    let sent = open.send("crm", 0).await;
    assert!(
        open.end(sent[0].attempt, DeliveryOutcome::Retry { due: at(4000) }, 1)
            .await
    );
    assert!(
        open.end(sent[1].attempt, DeliveryOutcome::Delivered, 1)
            .await
    );
    assert_eq!(
        open.sweep_at(3600).await,
        0,
        "its time is over, and it is needed"
    );
    assert_eq!(open.job(job).await.state, JobState::Succeeded);
    let sent = open.send("crm", 4000).await.remove(0);
    assert_eq!(sent.delivery.id, slow);
    assert!(sent.result.is_some());
    assert_eq!(open.sweep_at(4001).await, 0, "under way");
    assert!(
        open.end(sent.attempt, DeliveryOutcome::Delivered, 4002)
            .await
    );
    assert_eq!(open.sweep_at(4003).await, 1);
    assert_eq!(open.job(job).await.state, JobState::Expired);
    assert_eq!(
        open.states(&[slow, quick]).await,
        [DeliveryState::Delivered; 2]
    );
}

pub(in crate::store) async fn a_delivery_that_never_arrives_is_given_up_with_its_result(
    site: &dyn Site,
) {
    let open = site.open();
    let deliveries = [by("crm"), by("crm"), by("mail")];
    let job = open.sent_out(&deliveries, 0).await;
    let ids = deliveries.map(|new| new.id);
    let attempt = open.claim_of(&[("crm", 1)], 0).await.claimed[0].attempt;
    open.set_pause(Some("upkeep"), 1).await;
    assert_eq!(open.sweep_at(4599).await, 0);
    assert_eq!(open.sweep_at(4600).await, 1);
    assert_eq!(open.job(job).await.state, JobState::Expired);
    assert_eq!(open.store.result(job).await.unwrap(), None);
    for id in ids {
        let found = open.delivery(id).await;
        assert_eq!(
            (found.state, found.finished),
            (DeliveryState::Dead, Some(at(4600)))
        );
        assert!(found.reason.unwrap().contains("erased"));
    }
    assert!(!open.end(attempt, DeliveryOutcome::Delivered, 4601).await);
    assert_eq!(open.sweep_at(5599).await, 0);
    assert!(
        open.store.get(job).await.unwrap().is_some(),
        "it says why for as long again"
    );
    open.sweep_at(5600).await;
    assert!(open.store.get(job).await.unwrap().is_none());
    for id in ids {
        assert!(open.store.get_delivery(id).await.unwrap().is_none());
    }
}
