//! Claiming, ending, fencing, recovering, commanding.

use linkspan_model::{Code, JobState};

use super::{Site, at, bill, held, key, problem, seconds};
use crate::store::jobs::REMEMBERED_ATTEMPTS;
use crate::store::{
    AttemptOutcome, AuditQuery, Claim, Command, Commanded, Content, Detach, Enqueued, Filter,
    Finished, Outcome, Places,
};

pub(in crate::store) async fn due_jobs_start_in_order_and_within_their_places(site: &dyn Site) {
    let open = site.open();
    let mut ids = Vec::new();
    for due in [30, 20, 10, 99] {
        let mut new = bill();
        new.due = at(due);
        ids.push(open.created(new).await.0.id);
    }
    let mut letter = bill();
    letter.integration = "letters".to_owned();
    let (letter, _) = open.created(letter).await;
    assert!(open.claim(10, 9).await.is_empty(), "nothing is due");

    let places = |integration: &str, limit| Places {
        integration: integration.to_owned(),
        limit,
    };
    let claim = |bills, letters| Claim {
        owner: "gateway".to_owned(),
        places: vec![
            places("bills", bills),
            places("letters", letters),
            places("none", 5),
        ],
        lease: seconds(60),
        now: at(30),
    };
    let started = open.store.claim(claim(2, 0)).await.unwrap();
    let order: Vec<_> = started
        .claimed
        .iter()
        .map(|claimed| claimed.job.id)
        .collect();
    assert_eq!(order, [ids[2], ids[1]]);
    assert_eq!(started.next, Some(at(0)), "the letter is due");
    let job = &started.claimed[0].job;
    assert_eq!(
        (job.state, job.attempts, job.started, job.version),
        (JobState::Running, 1, Some(at(30)), 2)
    );
    let started = open.store.claim(claim(9, 9)).await.unwrap();
    let order: Vec<_> = started
        .claimed
        .iter()
        .map(|claimed| claimed.job.id)
        .collect();
    assert_eq!(order, [ids[0], letter.id]);
    assert_eq!(started.next, Some(at(99)));
}

pub(in crate::store) async fn a_stale_attempt_changes_nothing(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    let first = open.claim(1, 0).await.remove(0).attempt;
    assert_eq!(open.recover(true, 1).await, (1, 0));
    let second = open.claim(1, 11).await.remove(0).attempt;
    assert!(second.token > first.token);
    let before = open.job(job.id).await;
    assert!(matches!(open.succeed(first, 12).await, Finished::Fenced));
    assert!(matches!(
        open.finish(first, Outcome::Released, 12).await,
        Finished::Fenced
    ));
    assert_eq!(open.job(job.id).await, before);
    assert_eq!(open.store.result(job.id).await.unwrap(), None);
    let renewed = open
        .store
        .renew(vec![first, second], seconds(60), at(12))
        .await
        .unwrap();
    assert_eq!(renewed, [first], "the stale one is lost");

    assert!(
        matches!(open.succeed(second, 13).await, Finished::Done(job) if job.state == JobState::Succeeded)
    );
    let done = open.job(job.id).await;
    assert_eq!(
        (done.finished, done.expires),
        (Some(at(13)), Some(at(13 + 3600)))
    );
    assert!(
        matches!(open.fail(second, true, 14).await, Finished::Fenced),
        "it has ended already"
    );
    assert_eq!(open.job(job.id).await, done);
    assert_eq!(
        open.store.result(job.id).await.unwrap().unwrap(),
        r#"{"status":"succeeded"}"#
    );
}

pub(in crate::store) async fn a_job_whose_gateway_died_runs_again_and_then_fails(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    assert_eq!(open.claim(1, 0).await.len(), 1);
    drop(open);

    let open = site.open();
    assert_eq!(open.recover(true, 1).await, (1, 0));
    assert_eq!(open.job(job.id).await.state, JobState::Waiting);
    assert!(
        open.claim(1, 10).await.is_empty(),
        "it waits for its next attempt"
    );
    assert_eq!(open.claim(1, 11).await[0].job.attempts, 2);
    drop(open);

    let open = site.open();
    assert_eq!(open.recover(true, 12).await, (0, 1));
    let failed = open.job(job.id).await;
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(failed.problem.as_ref().unwrap().code, Code::EngineCrashed);
    let result: linkspan_model::ResultDocument =
        serde_json::from_str(&open.store.result(job.id).await.unwrap().unwrap()).unwrap();
    assert_eq!((result.id, result.error), (job.id, failed.problem));
    assert!(open.claim(1, 1000).await.is_empty());
}

pub(in crate::store) async fn only_attempts_without_a_sign_of_life_are_recovered(site: &dyn Site) {
    let open = site.open();
    let (silent, _) = open.created(bill()).await;
    let (lively, _) = open.created(bill()).await;
    let started = open.claim(2, 0).await;
    assert_eq!(open.recover(false, 59).await, (0, 0));
    let version = open.job(lively.id).await.version;
    let lost = open
        .store
        .renew(vec![started[1].attempt], seconds(60), at(59))
        .await
        .unwrap();
    assert!(lost.is_empty());
    assert_eq!(open.job(lively.id).await.version, version);
    assert_eq!(open.recover(false, 60).await, (1, 0));
    assert_eq!(open.job(silent.id).await.state, JobState::Waiting);
    assert_eq!(open.job(lively.id).await.state, JobState::Running);
}

pub(in crate::store) async fn a_held_job_fails_with_its_gateway_and_frees_its_key(site: &dyn Site) {
    let open = site.open();
    let mut new = bill();
    new.start = held();
    new.idempotency = key("k", 1);
    let (job, attempt) = open.created(new.clone()).await;
    assert!(attempt.is_some());
    assert_eq!(
        (job.state, job.attempts, job.held),
        (JobState::Running, 1, true)
    );
    assert_eq!(open.store.document(job.id).await.unwrap(), None);
    drop(open);

    let open = site.open();
    assert_eq!(open.recover(true, 1).await, (0, 1));
    let failed = open.job(job.id).await;
    assert!(failed.problem.unwrap().retryable);
    assert!(
        matches!(
            open.command(job.id, Command::Retry, 2).await,
            Commanded::WrongState(_)
        ),
        "nothing is there to retry"
    );
    new.id = linkspan_model::InvocationId::new();
    assert!(matches!(
        open.store.enqueue(new).await.unwrap(),
        Enqueued::Created { .. }
    ));
}

pub(in crate::store) async fn a_held_job_that_was_detached_survives_its_gateway(site: &dyn Site) {
    let open = site.open();
    let mut new = bill();
    new.start = held();
    new.idempotency = key("k", 1);
    let (job, attempt) = open.created(new).await;
    let body = open.body(&vec![7; 100_000]).await;
    let detach = Detach {
        attempt: attempt.unwrap(),
        document: Some(body.keep(None, None).await.unwrap()),
        request: r#"{"params":{}}"#.to_owned(),
        now: at(1),
    };
    let done = open.store.detach(detach.clone()).await.unwrap();
    assert!(matches!(done, Finished::Done(job) if !job.held && job.state == JobState::Running));
    drop((open, body));

    let open = site.open();
    assert_eq!(open.recover(true, 2).await, (1, 0));
    let claimed = open.claim(1, 12).await.remove(0);
    assert_eq!(
        (claimed.job.id, claimed.request.as_str()),
        (job.id, r#"{"params":{}}"#)
    );
    let Some(Content::Blob(blob)) = claimed.document.map(|document| document.content) else {
        panic!("the document is a blob");
    };
    assert_eq!(
        open.blobs
            .open(&blob)
            .await
            .unwrap()
            .metadata()
            .unwrap()
            .len(),
        100_000
    );
    assert!(matches!(
        open.store.detach(detach).await.unwrap(),
        Finished::Fenced
    ));
}

pub(in crate::store) async fn cancelling_fences_the_running_attempt_and_tells_it(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    let attempt = open.claim(1, 0).await.remove(0).attempt;
    let mut watch = open.store.watchers().watch(job.id);
    assert!(matches!(
        open.command(job.id, Command::Cancel, 1).await,
        Commanded::Done(_)
    ));
    let change = watch.changed().await;
    assert_eq!(
        (change.state, change.version),
        (Some(JobState::Cancelled), 3)
    );
    assert!(matches!(open.succeed(attempt, 2).await, Finished::Fenced));
    let cancelled = open.job(job.id).await;
    assert_eq!(
        (cancelled.state, cancelled.version),
        (JobState::Cancelled, 3)
    );
    assert_eq!(open.store.result(job.id).await.unwrap(), None);

    assert!(matches!(
        open.command(job.id, Command::Delete, 3).await,
        Commanded::Deleted
    ));
    assert_eq!(watch.changed().await.state, None);
}

pub(in crate::store) async fn an_attempt_given_back_does_not_count(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    let first = open.claim(1, 0).await.remove(0).attempt;
    assert!(matches!(
        open.finish(first, Outcome::Released, 1).await,
        Finished::Done(_)
    ));
    let released = open.job(job.id).await;
    assert_eq!((released.state, released.attempts), (JobState::Queued, 0));
    let second = open.claim(1, 1).await.remove(0);
    assert_eq!(second.job.attempts, 1);
    assert_ne!(second.attempt, first);
    assert!(matches!(open.succeed(first, 2).await, Finished::Fenced));
}

pub(in crate::store) async fn a_failed_job_is_retried_from_the_start(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    let first = open.claim(1, 0).await.remove(0).attempt;
    let again = Outcome::Retry {
        due: at(5),
        problem: problem(),
    };
    open.finish(first, again, 1).await;
    let waiting = open.job(job.id).await;
    assert_eq!(
        (waiting.state, waiting.due, waiting.problem),
        (JobState::Waiting, at(5), Some(problem()))
    );
    let second = open.claim(1, 5).await.remove(0);
    assert_eq!(second.job.attempts, 2);
    open.fail(second.attempt, false, 6).await;
    assert!(open.store.result(job.id).await.unwrap().is_some());

    assert!(matches!(
        open.command(job.id, Command::Retry, 7).await,
        Commanded::Done(_)
    ));
    let queued = open.job(job.id).await;
    assert_eq!(
        (queued.state, queued.attempts, queued.due),
        (JobState::Queued, 0, at(7))
    );
    assert_eq!(
        (queued.problem, queued.finished, queued.expires),
        (None, None, None)
    );
    assert_eq!(open.store.result(job.id).await.unwrap(), None);
    let third = open.claim(1, 7).await.remove(0);
    assert!(third.attempt.token > second.attempt.token);
    assert!(matches!(
        open.succeed(third.attempt, 8).await,
        Finished::Done(_)
    ));
}

pub(in crate::store) async fn a_job_remembers_how_its_latest_attempts_ended(site: &dyn Site) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    let start = async |now| open.claim(1, now).await.remove(0).attempt;
    open.finish(start(0).await, Outcome::Released, 1).await;
    let again = |due| Outcome::Retry {
        due: at(due),
        problem: problem(),
    };
    open.finish(start(2).await, again(3), 3).await;
    start(4).await;
    assert_eq!(
        open.recover(false, 64).await,
        (0, 1),
        "its attempts are used up"
    );
    open.command(job.id, Command::Retry, 65).await;
    start(66).await;
    open.command(job.id, Command::Cancel, 67).await;
    open.command(job.id, Command::Retry, 68).await;
    open.command(job.id, Command::Cancel, 69).await;
    open.command(job.id, Command::Retry, 70).await;
    open.fail(start(71).await, false, 72).await;
    open.command(job.id, Command::Retry, 73).await;
    open.succeed(start(74).await, 75).await;
    let history = open.job(job.id).await.history;
    let code = problem().code;
    let found: Vec<_> = history
        .iter()
        .map(|record| (record.started, record.ended, record.outcome))
        .collect();
    let expected = [
        (at(0), at(1), AttemptOutcome::Released),
        (at(2), at(3), AttemptOutcome::Retried),
        (at(4), at(64), AttemptOutcome::Lost),
        (at(66), at(67), AttemptOutcome::Cancelled),
        (at(71), at(72), AttemptOutcome::Failed),
        (at(74), at(75), AttemptOutcome::Succeeded),
    ];
    assert_eq!(found, expected);
    let codes: Vec<_> = history.iter().map(|record| record.code).collect();
    assert_eq!(
        (codes[1], codes[4], codes[5]),
        (Some(code), Some(code), None)
    );

    let (job, _) = open.created(bill()).await;
    let rounds = REMEMBERED_ATTEMPTS as i64 + 3;
    for now in 0..rounds {
        open.finish(start(100 + now).await, again(0), 100 + now)
            .await;
    }
    let history = open.job(job.id).await.history;
    assert_eq!(history.len(), REMEMBERED_ATTEMPTS);
    assert_eq!(
        (history[0].started, history[19].started),
        (at(103), at(100 + rounds - 1))
    );
    let listed = open.store.list(Filter::default()).await.unwrap();
    assert_eq!(listed.jobs[0].history, history);
}

pub(in crate::store) async fn a_failure_that_can_pass_frees_the_key(site: &dyn Site) {
    let open = site.open();
    for release in [false, true] {
        let mut new = bill();
        new.idempotency = key(if release { "free" } else { "taken" }, 1);
        open.created(new.clone()).await;
        let attempt = open.claim(1, 0).await.remove(0).attempt;
        open.fail(attempt, release, 1).await;
        new.id = linkspan_model::InvocationId::new();
        new.due = at(1000);
        let created = matches!(
            open.store.enqueue(new).await.unwrap(),
            Enqueued::Created { .. }
        );
        assert_eq!(created, release);
    }
}

pub(in crate::store) async fn a_command_that_does_not_fit_changes_nothing_and_is_audited(
    site: &dyn Site,
) {
    let open = site.open();
    let (job, _) = open.created(bill()).await;
    assert!(matches!(
        open.command(job.id, Command::Retry, 1).await,
        Commanded::WrongState(_)
    ));
    let attempt = open.claim(1, 1).await.remove(0).attempt;
    open.succeed(attempt, 2).await;
    let done = open.job(job.id).await;
    for command in [Command::Retry, Command::Cancel] {
        assert!(
            matches!(open.command(job.id, command, 3).await, Commanded::WrongState(found) if found == done)
        );
    }
    assert_eq!(open.job(job.id).await, done);
    assert!(matches!(
        open.command(job.id, Command::Delete, 4).await,
        Commanded::Deleted
    ));
    assert!(matches!(
        open.command(job.id, Command::Delete, 5).await,
        Commanded::NotFound
    ));
    let lines = open
        .store
        .list_audit(AuditQuery::newest(10))
        .await
        .unwrap()
        .lines;
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.action.as_str(), line.outcome.as_str()))
        .collect();
    let expected = [
        ("job.delete", "not-found"),
        ("job.delete", "done"),
        ("job.cancel", "wrong-state"),
        ("job.retry", "wrong-state"),
        ("job.retry", "wrong-state"),
    ];
    assert_eq!(found, expected);
    assert!(lines.iter().all(|line| line.target == job.id.to_string()));
}
