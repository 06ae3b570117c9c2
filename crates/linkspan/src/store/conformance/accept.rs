//! Accepting, looking up, listing; keys and audit.

use std::io::Read;

use linkspan_model::{InvocationId, JobState};

use super::{Site, at, bill, clerk, content, held, key, seconds};
use crate::store::{
    Actor, AuditLine, AuditQuery, Content, Counts, Enqueued, Filter, KeyRecord, Sight, Tally,
};

pub(in crate::store) async fn an_accepted_job_is_there_after_a_restart(site: &dyn Site) {
    for size in [0, 10, 64 * 1024, 64 * 1024 + 1, 900_000] {
        let open = site.open();
        let bytes = content("a bill ", size);
        let mut new = bill();
        new.document = Some(open.document(&bytes).await);
        new.traceparent =
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let (job, attempt) = open.created(new.clone()).await;
        assert_eq!(
            (job.state, job.version, attempt),
            (JobState::Queued, 1, None)
        );
        drop(open);

        let open = site.open();
        assert_eq!(open.job(new.id).await, job);
        let document = open.store.document(new.id).await.unwrap().unwrap();
        assert_eq!(Some(&document), new.document.as_ref());
        let kept = match &document.content {
            Content::Inline(bytes) => bytes.to_vec(),
            Content::Blob(blob) => {
                let mut kept = Vec::new();
                let mut file = open.blobs.open(blob).await.unwrap();
                file.read_to_end(&mut kept).unwrap();
                kept
            }
        };
        assert!(kept == bytes, "{size} bytes came back different");
        let claimed = open.claim(10, 0).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].request, new.request);
        assert_eq!(claimed[0].document, new.document);
        open.succeed(claimed[0].attempt, 1).await;
    }
    assert!(
        site.open()
            .store
            .get(InvocationId::new())
            .await
            .unwrap()
            .is_none()
    );
}

pub(in crate::store) async fn the_same_key_gives_the_first_job_and_never_runs_another_request(
    site: &dyn Site,
) {
    let open = site.open();
    let mut first = bill();
    first.idempotency = key("k", 1);
    let (job, _) = open.created(first.clone()).await;
    drop(open);
    let open = site.open();
    let again = |caller: &str, integration: &str, request| {
        let mut new = bill();
        new.caller = caller.to_owned();
        new.integration = integration.to_owned();
        new.idempotency = key("k", request);
        open.store.enqueue(new)
    };
    match again("finance", "bills", 1).await.unwrap() {
        Enqueued::Existing(found) => assert_eq!(found, job),
        other => panic!("not the first job: {other:?}"),
    }
    assert!(matches!(
        again("finance", "bills", 2).await.unwrap(),
        Enqueued::KeyMismatch
    ));
    assert!(matches!(
        again("sales", "bills", 2).await.unwrap(),
        Enqueued::Created { .. }
    ));
    assert!(matches!(
        again("finance", "letters", 2).await.unwrap(),
        Enqueued::Created { .. }
    ));
    assert_eq!(
        open.store
            .list(Filter {
                limit: 10,
                ..Filter::default()
            })
            .await
            .unwrap()
            .jobs
            .len(),
        3
    );
}

pub(in crate::store) async fn a_key_is_free_when_it_has_expired_and_its_job_has_ended(
    site: &dyn Site,
) {
    let open = site.open();
    let mut first = bill();
    first.idempotency = key("k", 1);
    first.start = held();
    let (job, attempt) = open.created(first).await;
    let later = |request| {
        let mut new = bill();
        new.idempotency = key("k", request);
        new.now = at(101);
        open.store.enqueue(new)
    };
    assert!(matches!(later(1).await.unwrap(), Enqueued::Existing(found) if found.id == job.id));
    open.succeed(attempt.unwrap(), 2).await;
    assert!(matches!(later(2).await.unwrap(), Enqueued::Created { .. }));
}

pub(in crate::store) async fn pages_stay_in_place_while_jobs_come_in(site: &dyn Site) {
    let open = site.open();
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(open.created(bill()).await.0.id);
    }
    all.reverse();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = open
            .store
            .list(Filter {
                after,
                limit: 3,
                ..Filter::default()
            })
            .await
            .unwrap();
        seen.extend(page.jobs.iter().map(|job| job.id));
        open.created(bill()).await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
}

pub(in crate::store) async fn a_filter_narrows_the_list_and_the_counts_agree(site: &dyn Site) {
    let open = site.open();
    assert_eq!(open.store.counts().await.unwrap(), Counts::default());
    let mut letter = bill();
    letter.integration = "letters".to_owned();
    letter.caller = "sales".to_owned();
    letter.due = at(5);
    let (letter, _) = open.created(letter).await;
    let (mine, _) = open.created(bill()).await;
    let claimed = open.claim(1, 0).await;
    open.succeed(claimed[0].attempt, 1).await;
    let mut late = bill();
    late.request_id = "r-9".to_owned();
    late.now = at(7);
    let (second, _) = open.created(late).await;
    let list = |caller: Option<&str>, integration: Option<&str>, state| {
        let filter = Filter {
            caller: caller.map(str::to_owned),
            integration: integration.map(str::to_owned),
            state,
            limit: 10,
            ..Filter::default()
        };
        let store = &open.store;
        async move {
            let page = store.list(filter).await.unwrap();
            assert_eq!(page.next, None);
            page.jobs.iter().map(|job| job.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(
        list(None, None, None).await,
        [second.id, mine.id, letter.id]
    );
    assert_eq!(
        list(Some("finance"), None, None).await,
        [second.id, mine.id]
    );
    assert_eq!(list(None, Some("letters"), None).await, [letter.id]);
    assert_eq!(
        list(None, None, Some(JobState::Queued)).await,
        [second.id, letter.id]
    );
    assert_eq!(
        list(Some("finance"), Some("bills"), Some(JobState::Succeeded)).await,
        [mine.id]
    );
    assert!(list(Some("sales"), Some("bills"), None).await.is_empty());

    let any = Filter::default;
    let of =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let sight = |own: Option<&[&str]>, whole: &[&str]| Filter {
        sight: Some(Sight {
            caller: "finance".to_owned(),
            own: own.map(of),
            whole: of(whole),
        }),
        ..Filter::default()
    };
    let narrowed = [
        (sight(None, &[]), vec![second.id, mine.id]),
        (sight(Some(&["bills"]), &[]), vec![second.id, mine.id]),
        (sight(Some(&["letters"]), &[]), vec![]),
        (sight(Some(&[]), &["letters"]), vec![letter.id]),
        (
            sight(None, &["letters"]),
            vec![second.id, mine.id, letter.id],
        ),
        (
            sight(Some(&[]), &["letters", "bills"]),
            vec![second.id, mine.id, letter.id],
        ),
        (
            Filter {
                caller: Some("sales".to_owned()),
                ..sight(None, &["letters"])
            },
            vec![letter.id],
        ),
        (
            Filter {
                caller: Some("sales".to_owned()),
                ..sight(None, &[])
            },
            vec![],
        ),
        (
            Filter {
                request_id: Some("r-9".to_owned()),
                ..any()
            },
            vec![second.id],
        ),
        (
            Filter {
                request_id: Some("r-8".to_owned()),
                ..any()
            },
            vec![],
        ),
        (
            Filter {
                from: Some(at(7)),
                ..any()
            },
            vec![second.id],
        ),
        (
            Filter {
                until: Some(at(7)),
                ..any()
            },
            vec![mine.id, letter.id],
        ),
        (
            Filter {
                from: Some(at(8)),
                ..any()
            },
            vec![],
        ),
        (
            Filter {
                from: Some(at(0)),
                until: Some(at(1)),
                integration: Some("letters".to_owned()),
                ..any()
            },
            vec![letter.id],
        ),
    ];
    for (filter, expected) in narrowed {
        let page = open
            .store
            .list(Filter {
                limit: 10,
                ..filter.clone()
            })
            .await
            .unwrap();
        let found: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
        assert_eq!(found, expected, "{filter:?}");
    }

    let mut counts = open.store.counts().await.unwrap();
    counts
        .tallies
        .sort_by_key(|tally| (tally.integration.clone(), tally.state.name()));
    let tally = |integration: &str, state| Tally {
        integration: integration.to_owned(),
        state,
        jobs: 1,
    };
    let expected = [
        tally("bills", JobState::Queued),
        tally("bills", JobState::Succeeded),
        tally("letters", JobState::Queued),
    ];
    assert_eq!(
        (counts.tallies.as_slice(), counts.oldest_due),
        (&expected[..], Some(at(0)))
    );
    counts.oldest.sort();
    let integrations: Vec<_> = counts
        .oldest
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(integrations, ["bills", "letters"]);
    let first = counts.oldest.iter().map(|(_, due)| *due).min();
    assert_eq!(first, counts.oldest_due);
}

pub(in crate::store) async fn keys_and_their_audit_lines_go_together(site: &dyn Site) {
    let record = KeyRecord {
        id: "k1".to_owned(),
        name: "finance".to_owned(),
        hash: vec![7; 32],
        sealed: Some(vec![7, 0, 255]),
        scopes: r#"["invoke"]"#.to_owned(),
        rate: Some(10),
        created: at(0),
        expires: None,
        revoked: None,
    };
    let open = site.open();
    let store = &open.store;
    assert!(store.insert_key(record.clone(), clerk()).await.unwrap());
    let mut other = record.clone();
    other.hash = vec![8; 32];
    assert!(
        !store.insert_key(other, clerk()).await.unwrap(),
        "the id is taken"
    );
    assert_eq!(store.find_key("k1").await.unwrap(), Some(record.clone()));
    assert_eq!(store.find_key("k2").await.unwrap(), None);
    assert!(
        store
            .set_key_expiry("k1", Some(at(9)), clerk(), at(1))
            .await
            .unwrap()
    );
    assert!(
        !store
            .set_key_expiry("k2", None, clerk(), at(1))
            .await
            .unwrap()
    );
    assert!(store.revoke_key("k1", clerk(), at(2)).await.unwrap());
    assert!(
        !store.revoke_key("k1", clerk(), at(3)).await.unwrap(),
        "revoked already"
    );
    drop(open);
    let open = site.open();
    let expected = KeyRecord {
        expires: Some(at(9)),
        revoked: Some(at(2)),
        ..record
    };
    assert_eq!(open.store.list_keys().await.unwrap(), [expected]);
    let lines = open
        .store
        .list_audit(AuditQuery::newest(10))
        .await
        .unwrap()
        .lines;
    let actions: Vec<_> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["key.revoke", "key.expire", "key.add"]);
    assert!(
        lines
            .iter()
            .all(|line| line.target == "finance (k1)" && line.actor == clerk())
    );
}

pub(in crate::store) async fn an_audit_log_is_read_page_by_page(site: &dyn Site) {
    let open = site.open();
    for number in 0..5 {
        let line = AuditLine {
            at: at(number),
            actor: clerk(),
            action: "request.refused".to_owned(),
            target: "bills".to_owned(),
            outcome: "forbidden".to_owned(),
        };
        open.store.append_audit(line).await.unwrap();
    }
    let first = open.store.list_audit(AuditQuery::newest(3)).await.unwrap();
    let next = AuditQuery {
        after: first.next,
        ..AuditQuery::newest(3)
    };
    let second = open.store.list_audit(next).await.unwrap();
    let times: Vec<_> = first
        .lines
        .iter()
        .chain(&second.lines)
        .map(|line| line.at)
        .collect();
    assert_eq!(times, [at(4), at(3), at(2), at(1), at(0)]);
    assert_eq!((first.lines.len(), second.next), (3, None));
    let other = AuditLine {
        at: at(6),
        actor: Actor {
            name: "root".to_owned(),
            ..Actor::default()
        },
        action: "key.add".to_owned(),
        target: "crm (k1)".to_owned(),
        outcome: "done".to_owned(),
    };
    open.store.append_audit(other).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let any = || AuditQuery::newest(10);
    for (query, found) in [
        (
            AuditQuery {
                actor: text("root"),
                ..any()
            },
            vec![6],
        ),
        (
            AuditQuery {
                actor: text("nobody"),
                ..any()
            },
            vec![],
        ),
        (
            AuditQuery {
                action: text("key.add"),
                ..any()
            },
            vec![6],
        ),
        (
            AuditQuery {
                action: text("request.refused"),
                limit: 2,
                ..any()
            },
            vec![4, 3],
        ),
        (
            AuditQuery {
                from: Some(at(4)),
                ..any()
            },
            vec![6, 4],
        ),
        (
            AuditQuery {
                until: Some(at(2)),
                ..any()
            },
            vec![1, 0],
        ),
        (
            AuditQuery {
                actor: text(&clerk().name),
                from: Some(at(1)),
                until: Some(at(3)),
                after: first.next,
                ..any()
            },
            vec![1],
        ),
    ] {
        let page = open.store.list_audit(query.clone()).await.unwrap();
        let times: Vec<_> = page.lines.iter().map(|line| line.at).collect();
        let found: Vec<_> = found.into_iter().map(at).collect();
        assert_eq!(times, found, "{query:?}");
    }
    let retention = crate::store::Retention {
        rows: seconds(1),
        audit: seconds(10),
    };
    assert_eq!(open.store.sweep(retention, at(12)).await.unwrap().audit, 3);
    assert_eq!(
        open.store
            .list_audit(AuditQuery::newest(10))
            .await
            .unwrap()
            .lines
            .len(),
        3
    );
}
