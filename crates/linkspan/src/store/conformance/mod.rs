//! The cases that every store passes. A store's tests give a [`Site`] and list the cases with `conformance!`.

pub(in crate::store) mod accept;
pub(in crate::store) mod attempts;
pub(in crate::store) mod blobs;
pub(in crate::store) mod commands;
pub(in crate::store) mod deliveries;
pub(in crate::store) mod delivery_model;
pub(in crate::store) mod endpoints;
pub(in crate::store) mod lanes;
pub(in crate::store) mod model;
pub(in crate::store) mod outbox;
pub(in crate::store) mod results;
pub(in crate::store) mod retention;
pub(in crate::store) mod sessions;
pub(in crate::store) mod streams;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use linkspan_model::{Code, InvocationId, Problem};

use super::{
    Actor, Attempt, AttemptEnd, Blobs, Body, Claim, Claimed, Command, Commanded, DocumentRef,
    Enqueued, Finished, Idempotency, Intake, Job, NewJob, Outcome, Places, Recover, Start, Store,
};

/// Where a store lives. It outlives the store: opening it again is the restart of a gateway.
pub(in crate::store) trait Site: Sync {
    /// Opens the store and its blobs. What was opened before must have been dropped.
    fn open(&self) -> Open;

    /// The files, of all that the store wrote, that hold these bytes.
    fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf>;
}

/// An open store.
pub(in crate::store) struct Open {
    pub(in crate::store) store: Arc<dyn Store>,
    pub(in crate::store) blobs: Arc<dyn Blobs>,
}

/// Makes a test of each case: `conformance!(site)`, where `site` makes a new [`Site`].
macro_rules! conformance {
    ($site:expr; $($module:ident: $($case:ident)+;)+) => {
        $(mod $module {
            use super::*;

            $(#[tokio::test]
            async fn $case() {
                crate::store::conformance::$module::$case(&$site).await;
            })+
        })+
    };
    ($site:expr) => {
        conformance!($site;
            accept:
                an_accepted_job_is_there_after_a_restart
                the_same_key_gives_the_first_job_and_never_runs_another_request
                a_key_is_free_when_it_has_expired_and_its_job_has_ended
                pages_stay_in_place_while_jobs_come_in
                a_filter_narrows_the_list_and_the_counts_agree
                keys_and_their_audit_lines_go_together
                an_audit_log_is_read_page_by_page;
            attempts:
                due_jobs_start_in_order_and_within_their_places
                a_stale_attempt_changes_nothing
                a_job_whose_gateway_died_runs_again_and_then_fails
                only_attempts_without_a_sign_of_life_are_recovered
                a_held_job_fails_with_its_gateway_and_frees_its_key
                a_held_job_that_was_detached_survives_its_gateway
                cancelling_fences_the_running_attempt_and_tells_it
                an_attempt_given_back_does_not_count
                a_failed_job_is_retried_from_the_start
                a_job_remembers_how_its_latest_attempts_ended
                a_failure_that_can_pass_frees_the_key
                a_command_that_does_not_fit_changes_nothing_and_is_audited;
            retention:
                a_deleted_job_leaves_no_byte_behind
                a_blob_stays_while_another_job_names_it
                a_blob_on_its_way_to_a_row_is_not_swept
                results_expire_and_rows_follow
                a_result_is_kept_while_a_delivery_needs_it
                a_dead_letter_can_be_replayed_for_a_retention_after_its_end
                a_delivery_that_never_arrives_is_given_up_with_its_result
                a_body_is_the_same_in_memory_and_in_a_file;
            model:
                any_sequence_of_calls_agrees_with_the_model;
            outbox:
                deliveries_are_stored_with_the_end_that_has_a_result
                a_job_that_recovery_fails_is_delivered_too
                an_erased_job_takes_its_deliveries_with_it
                a_job_that_runs_again_supersedes_its_deliveries
                changes_are_told_to_whoever_listens;
            deliveries:
                due_deliveries_start_in_order_and_within_their_places
                a_stale_delivery_attempt_changes_nothing
                each_end_makes_of_a_delivery_what_it_says
                a_delivery_remembers_its_latest_tries
                an_attempt_without_a_sign_of_life_is_made_again;
            commands:
                a_replay_sends_the_same_delivery_again
                a_replay_tries_now_what_waits_and_its_schedule_goes_on
                what_has_no_result_any_more_is_not_replayed
                a_delivery_that_is_given_up_is_not_tried_again
                a_command_goes_through_page_by_page
                a_query_narrows_the_list_page_by_page;
            endpoints:
                a_receiver_that_wants_no_more_pauses_its_endpoint
                an_operator_pauses_an_endpoint_and_lets_it_go_on
                a_pause_takes_every_delivery_along_however_many
                an_endpoints_health_agrees_with_its_deliveries;
            delivery_model:
                any_sequence_of_calls_on_deliveries_agrees_with_the_model;
            sessions:
                a_session_is_found_until_its_end
                a_session_is_removed_once
                what_is_settled_first_stays;
            lanes:
                a_lane_is_one_readers_and_its_tokens_only_grow
                a_lease_is_prolonged_by_who_holds_the_lane;
            streams:
                what_came_out_and_the_progress_are_stored_together_or_not_at_all
                what_came_of_a_record_is_a_job_that_has_ended
                a_failed_record_runs_again_with_its_bytes
                a_records_result_is_delivered_and_told;
            results:
                results_are_listed_newest_first_and_within_sight
                a_listing_looks_at_so_many_rows_and_says_where_to_go_on
                labels_are_counted_by_minute_and_swept;
        );
    };
}
pub(in crate::store) use conformance;

/// So many seconds into the test.
pub(in crate::store) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(in crate::store) fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A queued job of the integration `bills`.
pub(in crate::store) fn bill() -> NewJob {
    NewJob {
        id: InvocationId::new(),
        integration: "bills".to_owned(),
        caller: "finance".to_owned(),
        document: None,
        request: r#"{"text":"pay me"}"#.to_owned(),
        request_id: "r-1".to_owned(),
        traceparent: None,
        idempotency: None,
        start: None,
        max_attempts: 2,
        due: at(0),
        keep: seconds(3600),
        now: at(0),
    }
}

pub(in crate::store) fn held() -> Option<Start> {
    Some(Start {
        owner: "gateway".to_owned(),
        lease: seconds(60),
        held: true,
    })
}

pub(in crate::store) fn key(key: &str, request: u8) -> Option<Idempotency> {
    Some(Idempotency {
        key: key.to_owned(),
        fingerprint: [request; 32],
        expires: at(100),
    })
}

pub(in crate::store) fn problem() -> Problem {
    Problem::new(Code::EngineTimeout, "the engine took too long")
}

pub(in crate::store) fn clerk() -> Actor {
    Actor {
        name: "clerk".to_owned(),
        request_id: Some("r-2".to_owned()),
        remote: Some("192.0.2.7".to_owned()),
    }
}

/// A document of a size with a marker in it.
pub(in crate::store) fn content(marker: &str, size: usize) -> Vec<u8> {
    let mut bytes = marker.as_bytes().repeat(size / marker.len() + 1);
    bytes.truncate(size);
    bytes
}

impl Open {
    pub(in crate::store) async fn created(&self, job: NewJob) -> (Job, Option<Attempt>) {
        match self.store.enqueue(job).await.unwrap() {
            Enqueued::Created { job, attempt } => (job, attempt),
            other => panic!("not created: {other:?}"),
        }
    }

    pub(in crate::store) async fn job(&self, id: InvocationId) -> Job {
        self.store.get(id).await.unwrap().expect("the job is there")
    }

    pub(in crate::store) async fn claim(&self, limit: u32, now: i64) -> Vec<Claimed> {
        let claim = Claim {
            owner: "gateway".to_owned(),
            places: vec![Places {
                integration: "bills".to_owned(),
                limit,
            }],
            lease: seconds(60),
            now: at(now),
        };
        self.store.claim(claim).await.unwrap().claimed
    }

    pub(in crate::store) async fn finish(
        &self,
        attempt: Attempt,
        outcome: Outcome,
        now: i64,
    ) -> Finished {
        let end = AttemptEnd {
            attempt,
            outcome,
            deliveries: Vec::new(),
            now: at(now),
        };
        self.store.finish(end).await.unwrap()
    }

    pub(in crate::store) async fn succeed(&self, attempt: Attempt, now: i64) -> Finished {
        let result = r#"{"status":"succeeded"}"#.to_owned();
        self.finish(attempt, Outcome::Succeeded { result }, now)
            .await
    }

    pub(in crate::store) async fn fail(
        &self,
        attempt: Attempt,
        release_key: bool,
        now: i64,
    ) -> Finished {
        let outcome = Outcome::Failed {
            problem: problem(),
            result: r#"{"status":"failed"}"#.to_owned(),
            release_key,
        };
        self.finish(attempt, outcome, now).await
    }

    /// Recovers, with ten seconds between attempts.
    pub(in crate::store) async fn recover(&self, all: bool, now: i64) -> (u64, u64) {
        let recover = Recover {
            all,
            backoff: Arc::new(|_| seconds(10)),
            outbox: Arc::new(|_| Box::pin(async { Vec::new() })),
            now: at(now),
        };
        let recovered = self.store.recover(recover).await.unwrap();
        (recovered.waiting, recovered.failed)
    }

    pub(in crate::store) async fn command(
        &self,
        id: InvocationId,
        command: Command,
        now: i64,
    ) -> Commanded {
        self.store
            .command(id, command, clerk(), at(now))
            .await
            .unwrap()
    }

    pub(in crate::store) async fn body(&self, bytes: &[u8]) -> Body {
        let mut intake = Intake::new(Arc::clone(&self.blobs), u64::MAX);
        for piece in bytes.chunks(10_000) {
            intake.write(piece).await.unwrap();
        }
        intake.finish().await.unwrap()
    }

    pub(in crate::store) async fn document(&self, bytes: &[u8]) -> DocumentRef {
        let body = self.body(bytes).await;
        let name = Some("bill.pdf".to_owned());
        body.keep(Some("application/pdf".to_owned()), name)
            .await
            .unwrap()
    }
}
