//! Deliveries as people see them: listed, replayed, given up.

use linkspan_model::{DeliveryId, DeliveryState};

use super::deliveries::{by, succeeded};
use super::retention::sweep;
use super::{Open, Site, at, bill, clerk};
use crate::store::{
    AuditQuery, Command, DeliveriesCommanded, DeliveryCommand, DeliveryOutcome, DeliveryQuery,
    Endpoint, Finished, NewDelivery, Sight, Start, TryOutcome,
};

pub(in crate::store) fn crm() -> Endpoint {
    Endpoint::new("bills", "crm")
}

pub(in crate::store) fn only(id: DeliveryId) -> DeliveryQuery {
    DeliveryQuery {
        id: Some(id),
        limit: 10,
        ..DeliveryQuery::default()
    }
}

impl Open {
    pub(in crate::store) async fn replay(
        &self,
        query: DeliveryQuery,
        now: i64,
    ) -> DeliveriesCommanded {
        self.store
            .command_deliveries(query, DeliveryCommand::Replay, clerk(), at(now))
            .await
            .unwrap()
    }

    pub(in crate::store) async fn give_up(
        &self,
        query: DeliveryQuery,
        now: i64,
    ) -> DeliveriesCommanded {
        self.store
            .command_deliveries(query, DeliveryCommand::GiveUp, clerk(), at(now))
            .await
            .unwrap()
    }

    pub(in crate::store) async fn set_pause(&self, reason: Option<&str>, now: i64) -> u64 {
        let reason = reason.map(str::to_owned);
        self.store
            .set_pause(crm(), reason, clerk(), at(now))
            .await
            .unwrap()
    }

    /// One delivery by `crm` that has ended so.
    pub(in crate::store) async fn ended(&self, outcome: DeliveryOutcome, now: i64) -> DeliveryId {
        let new = by("crm");
        self.sent_out(std::slice::from_ref(&new), now).await;
        let sent = self.send("crm", now).await;
        assert_eq!((sent.len(), sent[0].delivery.id), (1, new.id));
        assert!(self.end(sent[0].attempt, outcome, now).await);
        new.id
    }
}

pub(in crate::store) fn refused() -> DeliveryOutcome {
    DeliveryOutcome::Dead {
        reason: "the receiver refused it".to_owned(),
    }
}

pub(in crate::store) fn changed(changed: u64, left: u64) -> DeliveriesCommanded {
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
        assert_eq!(
            open.replay(only(id), 51).await,
            changed(0, 1),
            "it is under way"
        );
        assert!(open.end(sent.attempt, DeliveryOutcome::Delivered, 52).await);
        let done = open.delivery(id).await;
        assert_eq!(done.tries.len(), 2);
        assert_eq!(done.tries[1].outcome, TryOutcome::Delivered);
    }
    let unknown = open.replay(only(DeliveryId::new()), 60).await;
    assert_eq!(unknown, changed(0, 0));
    let lines = open
        .store
        .list_audit(AuditQuery::newest(3))
        .await
        .unwrap()
        .lines;
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

pub(in crate::store) async fn a_replay_tries_now_what_waits_and_its_schedule_goes_on(
    site: &dyn Site,
) {
    let open = site.open();
    let id = open
        .ended(DeliveryOutcome::Retry { due: at(9000) }, 1)
        .await;
    let before = open.delivery(id).await;
    assert!(open.send("crm", 50).await.is_empty());
    assert_eq!(open.replay(only(id), 50).await, changed(1, 0));
    let after = open.delivery(id).await;
    assert_eq!(
        (after.state, after.attempts, after.due),
        (DeliveryState::Pending, before.attempts, at(50))
    );
    assert_eq!((after.tries, after.reason), (before.tries, before.reason));
    let sent = open.send("crm", 50).await.remove(0);
    assert_eq!((sent.delivery.id, sent.delivery.attempts), (id, 2));
}

pub(in crate::store) async fn what_has_no_result_any_more_is_not_replayed(site: &dyn Site) {
    let open = site.open();
    let old = open.ended(refused(), 0).await;
    assert_eq!(sweep(&open, 3600).await.expired, 1);
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
        open.store
            .list_audit(AuditQuery::newest(10))
            .await
            .unwrap()
            .lines
            .len(),
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
    let sight = |own: Option<Vec<String>>, whole: &[&str]| DeliveryQuery {
        sight: Some(Sight {
            caller: "finance".to_owned(),
            own,
            whole: whole.iter().map(|one| (*one).to_owned()).collect(),
        }),
        ..DeliveryQuery::default()
    };
    let cases = [
        (sight(None, &[]), vec![last, mail, crm]),
        (sight(Some(vec![]), &["letters"]), vec![other]),
        (sight(None, &["letters"]), vec![last, other, mail, crm]),
        (sight(Some(vec!["letters".to_owned()]), &[]), vec![]),
        (
            DeliveryQuery {
                job: Some(job),
                ..sight(Some(vec![]), &["letters"])
            },
            vec![],
        ),
        (
            DeliveryQuery {
                job: Some(job),
                ..sight(None, &["letters"])
            },
            vec![mail, crm],
        ),
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
