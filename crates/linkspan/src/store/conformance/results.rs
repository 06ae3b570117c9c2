//! Results and labels as people see them.

use linkspan_model::InvocationId;

use super::retention::sweep;
use super::streams::{all, label, scored, spoiled};
use super::{Site, at, bill, seconds};
use crate::store::{
    Command, LabelCount, LabelQuery, RecordOutcome, ResultPage, ResultQuery, Sight,
};

fn ids(page: &ResultPage) -> Vec<InvocationId> {
    page.results.iter().map(|(job, _)| job.id).collect()
}

pub(in crate::store) async fn results_are_listed_newest_first_and_within_sight(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let mut made = Vec::new();
    for number in 0..7 {
        let mut outcome = match number % 3 {
            2 => spoiled(open.document(b"x").await),
            _ => scored(),
        };
        outcome.result = format!("{{\"number\":{number}}}");
        if number >= 5 {
            outcome.integration = "orders".to_owned();
        }
        if number == 3 {
            outcome.record = "reviews-1@3".to_owned();
        }
        made.push(outcome);
    }
    let id: Vec<_> = made.iter().map(|outcome| outcome.id).collect();
    // The order of the commit is not that of the ids.
    made.reverse();
    open.commit(&[&hold], "7", made, 1).await;
    // Jobs of callers have results too; those that have not ended have none.
    let (asked, attempt) = open.running().await;
    open.succeed(attempt, 2).await;
    open.created(bill()).await;

    let page = open.results(all(3)).await;
    assert_eq!(ids(&page), [asked, id[6], id[5]]);
    assert_eq!(page.results[1].1, r#"{"number":6}"#);
    assert_eq!(page.results[1].0, open.job(id[6]).await);
    let rest = ResultQuery {
        after: page.next,
        ..all(1000)
    };
    let page = open.results(rest).await;
    assert_eq!(
        (ids(&page), page.next),
        (vec![id[4], id[3], id[2], id[1], id[0]], None)
    );

    let bills = || ResultQuery {
        integration: Some("bills".to_owned()),
        ..all(100)
    };
    let sight = |own: Option<&[&str]>, whole: &[&str]| {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Some(Sight {
            caller: "finance".to_owned(),
            own: own.map(texts),
            whole: texts(whole),
        })
    };
    let created = open.job(id[0]).await.created;
    let hour = seconds(3600);
    let cases = [
        (bills(), vec![asked, id[4], id[3], id[2], id[1], id[0]]),
        (
            ResultQuery {
                failed: Some(true),
                ..bills()
            },
            vec![id[2]],
        ),
        (
            ResultQuery {
                failed: Some(true),
                ..all(100)
            },
            vec![id[5], id[2]],
        ),
        (
            ResultQuery {
                failed: Some(false),
                after: Some(id[3]),
                ..bills()
            },
            vec![id[1], id[0]],
        ),
        (
            ResultQuery {
                record: Some("reviews-1@3".to_owned()),
                ..all(100)
            },
            vec![id[3]],
        ),
        (
            ResultQuery {
                sight: sight(None, &[]),
                ..all(100)
            },
            vec![asked],
        ),
        (
            ResultQuery {
                sight: sight(Some(&["orders"]), &["orders"]),
                ..all(100)
            },
            vec![id[6], id[5]],
        ),
        (
            ResultQuery {
                sight: sight(None, &["orders"]),
                ..bills()
            },
            vec![asked],
        ),
        (
            // The caller's job was accepted long before.
            ResultQuery {
                from: Some(created),
                until: Some(created + hour),
                ..bills()
            },
            vec![id[4], id[3], id[2], id[1], id[0]],
        ),
        (
            ResultQuery {
                from: Some(created + hour),
                ..all(100)
            },
            Vec::new(),
        ),
        (
            ResultQuery {
                until: Some(created),
                failed: Some(true),
                ..all(100)
            },
            Vec::new(),
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(
            ids(&open.results(query.clone()).await),
            expected,
            "{query:?}"
        );
    }
    open.command(id[4], Command::Delete, 3).await;
    open.command(id[2], Command::Retry, 3).await;
    assert_eq!(
        ids(&open.results(bills()).await),
        [asked, id[3], id[1], id[0]]
    );
}

pub(in crate::store) async fn a_listing_looks_at_so_many_rows_and_says_where_to_go_on(
    site: &dyn Site,
) {
    let open = site.open();
    let hold = open.hold("a").await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(match number {
            0 | 3 => spoiled(open.document(b"x").await),
            _ => scored(),
        });
    }
    made[2].integration = "orders".to_owned();
    let id: Vec<_> = made.iter().map(|outcome| outcome.id).collect();
    open.commit(&[&hold], "7", made, 1).await;
    // The newest of all have no result.
    for _ in 0..6 {
        open.created(bill()).await;
    }
    let look = async |query: ResultQuery| {
        let (mut found, mut calls, mut query) = (Vec::new(), 0, query);
        loop {
            let page = open.results(query.clone()).await;
            assert!(page.looked <= query.look, "{query:?}: {}", page.looked);
            found.extend(ids(&page));
            calls += 1;
            assert!(
                page.next
                    .is_none_or(|next| query.after.is_none_or(|after| next < after))
            );
            query.after = page.next;
            if query.after.is_none() {
                return (found, calls);
            }
        }
    };
    let asked = |look, failed, integration: Option<&str>| ResultQuery {
        integration: integration.map(str::to_owned),
        failed,
        look,
        ..all(100)
    };
    let first = open.results(asked(4, None, None)).await;
    assert_eq!((ids(&first), first.looked), (Vec::new(), 4));
    assert!(first.next.is_some(), "an empty page is not the last one");

    let newest_first: Vec<_> = id.iter().rev().copied().collect();
    let bills: Vec<_> = newest_first
        .iter()
        .copied()
        .filter(|one| *one != id[2])
        .collect();
    let good: Vec<_> = bills
        .iter()
        .copied()
        .filter(|one| ![id[0], id[3]].contains(one))
        .collect();
    for (query, expected, calls) in [
        (asked(4, None, None), &newest_first, 4),
        (asked(1, None, None), &newest_first, 14),
        (asked(5, None, Some("bills")), &bills, 3),
        (asked(5, Some(false), Some("bills")), &good, 3),
        // These have an index of their own: nothing else is looked at.
        (asked(3, Some(true), Some("bills")), &vec![id[3], id[0]], 1),
        (asked(3, Some(true), None), &vec![id[3], id[0]], 1),
    ] {
        let found = look(query.clone()).await;
        assert_eq!(found, (expected.clone(), calls), "{query:?}");
    }
    // A page that is full before ends there.
    let page = open
        .results(ResultQuery {
            limit: 2,
            ..asked(9, None, None)
        })
        .await;
    assert_eq!((ids(&page), page.next), (vec![id[6], id[5]], Some(id[5])));
}

pub(in crate::store) async fn labels_are_counted_by_minute_and_swept(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let with = |labels: &[&str]| RecordOutcome {
        labels: labels.iter().map(|name| label(name)).collect(),
        ..scored()
    };
    let foreign = RecordOutcome {
        integration: "orders".to_owned(),
        ..with(&["good"])
    };
    // 1,790,000,000 is 20 seconds past a full minute.
    let commits = [
        (5, vec![with(&["good"]), with(&["bad", "good"]), foreign]),
        (39, vec![with(&["good"])]),
        (40, vec![with(&["bad"]), with(&[])]),
    ];
    for (now, outcomes) in commits {
        open.commit(&[&hold], "1", outcomes, now).await;
    }
    let count = |minute, name, count| LabelCount {
        minute: at(minute),
        label: label(name),
        count,
    };
    let asked = |from, until| {
        let query = LabelQuery {
            integration: "bills".to_owned(),
            from: at(from),
            until: at(until),
        };
        open.store.label_counts(query)
    };
    let expected = [
        count(-20, "bad", 1),
        count(-20, "good", 3),
        count(40, "bad", 1),
    ];
    assert_eq!(asked(-20, 41).await.unwrap(), expected);
    assert_eq!(asked(-19, 41).await.unwrap(), expected[2..]);
    assert_eq!(asked(-20, 40).await.unwrap(), expected[..2]);
    sweep(&open, 979).await;
    assert_eq!(asked(-20, 41).await.unwrap(), expected);
    sweep(&open, 980).await;
    assert_eq!(asked(-20, 41).await.unwrap(), expected[2..]);
}
