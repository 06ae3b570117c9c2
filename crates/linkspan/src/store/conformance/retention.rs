//! Erasing, expiring, and what keeps a blob or a result in place.

use std::io::Read;
use std::sync::Arc;

use linkspan_model::{DeliveryState, JobState};

use super::commands::{only, refused};
use super::deliveries::{by, succeeded};
use super::{Open, Site, at, bill, content, key, seconds};
use crate::store::blobs::INLINE_LIMIT;
use crate::store::{
    AuditQuery, Command, Commanded, Content, DeliveryOutcome, Digest, DocumentRef, ErrorKind,
    Intake, IntakeError, Outcome, Retention, Start, Swept,
};

const RETENTION: Retention = Retention {
    rows: jiff::SignedDuration::from_secs(1000),
    audit: jiff::SignedDuration::from_secs(100_000),
};

pub(in crate::store) async fn sweep(open: &Open, now: i64) -> Swept {
    open.store.sweep(RETENTION, at(now)).await.unwrap()
}

async fn is_kept(open: &Open, document: &DocumentRef) -> bool {
    let Content::Blob(blob) = &document.content else {
        panic!("not a blob");
    };
    match open.blobs.open(blob).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Corrupt);
            false
        }
    }
}

pub(in crate::store) async fn a_deleted_job_leaves_no_byte_behind(site: &dyn Site) {
    let open = site.open();
    let marks = [
        "inlined-marker",
        "spooled-marker",
        "request-marker",
        "answers-marker",
        "filname-marker",
        "idemkey-marker",
    ];
    for (mark, size) in [(marks[0], 5000), (marks[1], 200_000)] {
        let mut new = bill();
        let mut document = open.document(&content(mark, size)).await;
        document.file_name = Some(format!("{}.pdf", marks[4]));
        new.document = Some(document);
        new.request = format!("{{\"password\":\"{}\"}}", marks[2]);
        new.idempotency = key(&format!("{}{size}", marks[5]), 1);
        open.created(new).await;
    }
    let jobs = open.claim(2, 0).await;
    for claimed in &jobs {
        let result = marks[3].repeat(2000);
        open.finish(claimed.attempt, Outcome::Succeeded { result }, 1)
            .await;
    }
    for mark in marks {
        assert!(
            !site.files_with(mark.as_bytes()).is_empty(),
            "{mark} is on the disk before"
        );
    }
    for claimed in &jobs {
        assert!(matches!(
            open.command(claimed.job.id, Command::Delete, 2).await,
            Commanded::Deleted
        ));
        assert!(open.store.get(claimed.job.id).await.unwrap().is_none());
        assert!(open.store.result(claimed.job.id).await.unwrap().is_none());
        assert!(open.store.document(claimed.job.id).await.unwrap().is_none());
    }
    sweep(&open, 3).await;
    for mark in marks {
        assert_eq!(
            site.files_with(mark.as_bytes()),
            Vec::<std::path::PathBuf>::new(),
            "{mark} is gone"
        );
    }
    assert_eq!(
        open.store
            .list_audit(AuditQuery::newest(10))
            .await
            .unwrap()
            .lines
            .len(),
        2,
        "the audit lines stay"
    );
}

pub(in crate::store) async fn a_blob_stays_while_another_job_names_it(site: &dyn Site) {
    let open = site.open();
    let bytes = content("shared ", 100_000);
    let (mut first, mut second) = (bill(), bill());
    let document = open.document(&bytes).await;
    first.document = Some(document.clone());
    second.document = Some(open.document(&bytes).await);
    let ids = [first.id, second.id];
    open.created(first).await;
    open.created(second).await;
    drop(open);

    // The pins are gone with the process; the rows are what keeps it.
    let open = site.open();
    open.command(ids[0], Command::Delete, 1).await;
    sweep(&open, 2).await;
    assert!(is_kept(&open, &document).await);
    open.command(ids[1], Command::Delete, 3).await;
    assert!(!is_kept(&open, &document).await, "a delete erases at once");
}

pub(in crate::store) async fn a_blob_on_its_way_to_a_row_is_not_swept(site: &dyn Site) {
    let open = site.open();
    let bytes = content("twice ", 100_000);
    let mut first = bill();
    first.document = Some(open.document(&bytes).await);
    let id = first.id;
    open.created(first).await;
    // The same content comes in again just when its only row goes.
    let coming = open.document(&bytes).await;
    open.command(id, Command::Delete, 1).await;
    sweep(&open, 2).await;
    assert!(is_kept(&open, &coming).await);
    let mut second = bill();
    second.document = Some(coming.clone());
    let id = second.id;
    open.created(second).await;
    sweep(&open, 3).await;
    assert!(is_kept(&open, &coming).await);
    open.command(id, Command::Delete, 4).await;
    let unpinned = DocumentRef {
        content: match coming.content.clone() {
            Content::Blob(mut blob) => {
                blob.pin = None;
                Content::Blob(blob)
            }
            inline => inline,
        },
        ..coming.clone()
    };
    drop(coming);
    sweep(&open, 5).await;
    assert!(!is_kept(&open, &unpinned).await);
}

pub(in crate::store) async fn results_expire_and_rows_follow(site: &dyn Site) {
    let open = site.open();
    let bytes = content("aging-marker ", 100_000);
    let mut new = bill();
    new.document = Some(open.document(&bytes).await);
    new.idempotency = key("k", 1);
    let id = new.id;
    open.created(new).await;
    let (queued, _) = open.created(bill()).await;
    let attempt = open.claim(1, 0).await.remove(0).attempt;
    open.succeed(attempt, 10).await;
    assert_eq!(sweep(&open, 99).await, Swept::default());
    assert_eq!(
        sweep(&open, 3609).await,
        Swept {
            keys: 1,
            ..Swept::default()
        }
    );
    let before = open.job(id).await;
    let swept = sweep(&open, 3610).await;
    assert_eq!((swept.expired, swept.blobs, swept.more), (1, 1, false));
    let expired = open.job(id).await;
    assert_eq!(
        (expired.state, expired.version),
        (JobState::Expired, before.version + 1)
    );
    assert_eq!(open.store.result(id).await.unwrap(), None);
    assert_eq!(open.store.document(id).await.unwrap(), None);
    assert!(site.files_with(b"aging-marker").is_empty());
    assert_eq!(sweep(&open, 4609).await.rows, 0);
    assert_eq!(sweep(&open, 4610).await.rows, 1);
    assert!(open.store.get(id).await.unwrap().is_none());
    assert_eq!(
        open.job(queued.id).await.state,
        JobState::Queued,
        "a job that has not ended stays"
    );
}

pub(in crate::store) async fn a_body_is_the_same_in_memory_and_in_a_file(site: &dyn Site) {
    let open = site.open();
    for size in [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 1_000_000] {
        let bytes = content("body ", size);
        let body = open.body(&bytes).await;
        assert_eq!(
            (body.size(), body.digest()),
            (size as u64, Digest::of(&bytes))
        );
        assert_eq!(
            (body.inline().is_some(), body.path().is_some()),
            (size <= INLINE_LIMIT, size > INLINE_LIMIT)
        );
        assert!(body.bytes().await.unwrap() == bytes);
        let Some(path) = body.path().map(std::path::Path::to_owned) else {
            continue;
        };
        let kept = body.keep(None, None).await.unwrap();
        assert!(path.exists(), "a worker may be reading it");
        assert!(is_kept(&open, &kept).await);
        let clone = body.clone();
        drop(body);
        assert!(path.exists());
        drop(clone);
        assert!(!path.exists(), "the temporary file goes with its body");
        let Content::Blob(blob) = &kept.content else {
            panic!("not a blob");
        };
        let mut found = Vec::new();
        open.blobs
            .open(blob)
            .await
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        assert!(found == bytes);
    }
    let mut intake = Intake::new(Arc::clone(&open.blobs), 100_000);
    intake.write(&[0; 100_000]).await.unwrap();
    let refused = intake.write(&[0]).await;
    assert!(matches!(
        refused,
        Err(IntakeError::TooLarge { limit: 100_000 })
    ));
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
        sweep(&open, 3600).await.expired,
        0,
        "its time is over, and it is needed"
    );
    assert_eq!(open.job(job).await.state, JobState::Succeeded);
    let sent = open.send("crm", 4000).await.remove(0);
    assert_eq!(sent.delivery.id, slow);
    assert!(sent.result.is_some());
    assert_eq!(sweep(&open, 4001).await.expired, 0, "under way");
    assert!(
        open.end(sent.attempt, DeliveryOutcome::Delivered, 4002)
            .await
    );
    assert_eq!(sweep(&open, 4003).await.expired, 1);
    assert_eq!(open.job(job).await.state, JobState::Expired);
    assert_eq!(
        open.states(&[slow, quick]).await,
        [DeliveryState::Delivered; 2]
    );
}

pub(in crate::store) async fn a_dead_letter_can_be_replayed_for_a_retention_after_its_end(
    site: &dyn Site,
) {
    let open = site.open();
    let mut new = bill();
    new.keep = seconds(100);
    new.start = Some(Start {
        owner: "gateway".to_owned(),
        lease: seconds(60),
        held: false,
    });
    let (job, attempt) = open.created(new).await;
    let letter = by("crm");
    open.finish_with(
        attempt.unwrap(),
        succeeded(),
        std::slice::from_ref(&letter),
        0,
    )
    .await;
    for (died, replayed) in [(90, 189), (200, 299)] {
        let sent = open.send("crm", died).await.remove(0);
        assert!(sent.result.is_some());
        assert!(open.end(sent.attempt, refused(), died).await);
        assert_eq!(sweep(&open, replayed).await.expired, 0);
        assert_eq!(open.replay(only(letter.id), replayed).await.changed, 1);
    }
    let sent = open.send("crm", 300).await.remove(0);
    assert!(open.end(sent.attempt, refused(), 300).await);
    assert_eq!(sweep(&open, 399).await.expired, 0);
    assert_eq!(sweep(&open, 400).await.expired, 1);
    assert_eq!(open.job(job.id).await.state, JobState::Expired);
    let dead = open.delivery(letter.id).await;
    assert_eq!(
        (dead.state, dead.finished),
        (DeliveryState::Dead, Some(at(300)))
    );
    assert_eq!(open.replay(only(letter.id), 401).await.left, 1);

    let letter = by("crm");
    let job = open.sent_out(std::slice::from_ref(&letter), 401).await;
    let sent = open.send("crm", 4900).await.remove(0);
    assert!(open.end(sent.attempt, refused(), 4900).await);
    assert_eq!(sweep(&open, 5000).await.expired, 0);
    assert_eq!(
        sweep(&open, 5001).await.expired,
        1,
        "for as long as a row is kept, at most"
    );
    assert!(open.store.get(job).await.unwrap().is_none());
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
    assert_eq!(sweep(&open, 4599).await.expired, 0);
    assert_eq!(sweep(&open, 4600).await.expired, 1);
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
    assert_eq!(sweep(&open, 5599).await.expired, 0);
    assert!(
        open.store.get(job).await.unwrap().is_some(),
        "it says why for as long again"
    );
    sweep(&open, 5600).await;
    assert!(open.store.get(job).await.unwrap().is_none());
    for id in ids {
        assert!(open.store.get_delivery(id).await.unwrap().is_none());
    }
}
