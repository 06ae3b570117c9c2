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
