//! Any sequence of calls, against a simple model in memory.

use std::collections::HashMap;

use linkspan_model::job::JobEvent;
use linkspan_model::{InvocationId, JobState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Open, Site, at, bill, clerk, key, problem, seconds};
use crate::store::{
    Attempt, Claim, Command, Commanded, Enqueued, Finished, Outcome, Places, Retention, Start,
};

#[derive(Clone, Debug)]
enum Call {
    Enqueue {
        key: Option<u8>,
        request: u8,
        start: bool,
    },
    Claim {
        limit: u32,
    },
    Finish {
        job: usize,
        stale: bool,
        end: End,
    },
    Command {
        job: usize,
        command: Command,
    },
    Recover {
        all: bool,
    },
    Sweep,
    Wait {
        seconds: i64,
    },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Succeeded,
    Failed { release_key: bool },
    Retry,
    Cancelled,
    Released,
}

/// A job as the model sees it.
#[derive(Clone, Debug)]
struct Modelled {
    id: InvocationId,
    state: JobState,
    version: u64,
    attempts: u32,
    attempt: Option<Attempt>,
    due: i64,
    lease: i64,
    expires: i64,
    has_result: bool,
    key: Option<String>,
}

#[derive(Default)]
struct Model {
    now: i64,
    integration: String,
    jobs: Vec<Modelled>,
    keys: HashMap<String, (u8, InvocationId)>,
}

pub(in crate::store) async fn any_sequence_of_calls_agrees_with_the_model(site: &dyn Site) {
    // proptest is synchronous: a thread of its own, with a runtime of its own.
    std::thread::scope(|scope| scope.spawn(|| check(site)).join().unwrap());
}

fn check(site: &dyn Site) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let open = site.open();
    let config = Config {
        cases: 16,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(call(), 1..50), |calls| {
            runtime.block_on(async {
                let mut model = Model {
                    integration: InvocationId::new().to_string(),
                    ..Model::default()
                };
                for call in &calls {
                    model.make(&open, call).await?;
                    model.agree(&open).await?;
                }
                // Recovery and the sweep see the whole store: leave nothing to the next case.
                for job in &model.jobs {
                    open.command(job.id, Command::Delete, model.now).await;
                }
                Ok(())
            })
        })
        .unwrap();
}

fn call() -> impl Strategy<Value = Call> {
    let end = prop_oneof![
        4 => Just(End::Succeeded),
        2 => any::<bool>().prop_map(|release_key| End::Failed { release_key }),
        2 => Just(End::Retry),
        1 => Just(End::Cancelled),
        1 => Just(End::Released),
    ];
    let command = prop::sample::select(vec![Command::Cancel, Command::Retry, Command::Delete]);
    prop_oneof![
        5 => (prop::option::of(0..2u8), 0..2u8, any::<bool>())
            .prop_map(|(key, request, start)| Call::Enqueue { key, request, start }),
        4 => (0..4u32).prop_map(|limit| Call::Claim { limit }),
        6 => (0..6usize, prop::bool::weighted(0.2), end).prop_map(|(job, stale, end)| Call::Finish { job, stale, end }),
        3 => (0..6usize, command).prop_map(|(job, command)| Call::Command { job, command }),
        1 => any::<bool>().prop_map(|all| Call::Recover { all }),
        1 => Just(Call::Sweep),
        3 => prop::sample::select(vec![1, 10, 50, 4000]).prop_map(|seconds| Call::Wait { seconds }),
    ]
}

impl Model {
    async fn make(&mut self, open: &Open, call: &Call) -> Result<(), TestCaseError> {
        match *call {
            Call::Enqueue {
                key,
                request,
                start,
            } => self.enqueue(open, key, request, start).await,
            Call::Claim { limit } => self.claim(open, limit).await,
            Call::Finish { job, stale, end } => self.finish(open, job, stale, end).await,
            Call::Command { job, command } => self.command(open, job, command).await,
            Call::Recover { all } => {
                let got = open.recover(all, self.now).await;
                prop_assert_eq!(got, self.recover(all));
                Ok(())
            }
            Call::Sweep => {
                let retention = Retention {
                    rows: seconds(5000),
                    audit: seconds(1_000_000),
                };
                open.store.sweep(retention, at(self.now)).await.unwrap();
                self.sweep();
                Ok(())
            }
            Call::Wait { seconds } => {
                self.now += seconds;
                Ok(())
            }
        }
    }

    async fn enqueue(
        &mut self,
        open: &Open,
        name: Option<u8>,
        request: u8,
        start: bool,
    ) -> Result<(), TestCaseError> {
        let mut new = bill();
        new.integration = self.integration.clone();
        new.now = at(self.now);
        new.due = at(self.now);
        new.start = start.then(|| Start {
            owner: "gateway".to_owned(),
            lease: seconds(60),
            held: false,
        });
        let name = name.map(|name| name.to_string());
        new.idempotency = name
            .as_ref()
            .and_then(|name| key(name, request))
            .map(|mut key| {
                key.expires = at(1_000_000);
                key
            });
        let id = new.id;
        let got = open.store.enqueue(new).await.unwrap();
        match name.as_ref().and_then(|name| self.keys.get(name)) {
            Some((first, id)) if *first == request => {
                prop_assert!(matches!(got, Enqueued::Existing(job) if job.id == *id));
            }
            Some(_) => prop_assert!(matches!(got, Enqueued::KeyMismatch)),
            None => {
                let Enqueued::Created { attempt, .. } = got else {
                    return Err(TestCaseError::fail("not created"));
                };
                prop_assert_eq!(attempt.is_some(), start);
                if let Some(name) = &name {
                    self.keys.insert(name.clone(), (request, id));
                }
                self.jobs.push(Modelled {
                    id,
                    state: if start {
                        JobState::Running
                    } else {
                        JobState::Queued
                    },
                    version: 1,
                    attempts: u32::from(start),
                    attempt,
                    due: self.now,
                    lease: self.now + 60,
                    expires: 0,
                    has_result: false,
                    key: name,
                });
            }
        }
        Ok(())
    }

    async fn claim(&mut self, open: &Open, limit: u32) -> Result<(), TestCaseError> {
        let claim = Claim {
            owner: "gateway".to_owned(),
            places: vec![Places {
                integration: self.integration.clone(),
                limit,
            }],
            lease: seconds(60),
            now: at(self.now),
        };
        let got = open.store.claim(claim).await.unwrap();
        let now = self.now;
        let mut due: Vec<&mut Modelled> = self
            .jobs
            .iter_mut()
            .filter(|job| {
                matches!(job.state, JobState::Queued | JobState::Waiting) && job.due <= now
            })
            .collect();
        due.sort_by_key(|job| job.due);
        due.truncate(limit as usize);
        let expected: Vec<_> = due.iter().map(|job| job.id).collect();
        let ids: Vec<_> = got.claimed.iter().map(|claimed| claimed.job.id).collect();
        prop_assert_eq!(ids, expected);
        for (job, claimed) in due.into_iter().zip(&got.claimed) {
            prop_assert!(
                job.attempt
                    .is_none_or(|last| last.token < claimed.attempt.token)
            );
            job.state = JobState::Running;
            job.attempts += 1;
            job.attempt = Some(claimed.attempt);
            job.version += 1;
            job.lease = now + 60;
        }
        Ok(())
    }

    async fn finish(
        &mut self,
        open: &Open,
        job: usize,
        stale: bool,
        end: End,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(job) else {
            return Ok(());
        };
        let Some(mut attempt) = job.attempt else {
            return Ok(());
        };
        if stale {
            attempt.token -= 1;
        }
        let result = "{}".to_owned();
        let (event, outcome) = match end {
            End::Succeeded => (JobEvent::Succeed, Outcome::Succeeded { result }),
            End::Failed { release_key } => (
                JobEvent::Fail,
                Outcome::Failed {
                    problem: problem(),
                    result,
                    release_key,
                },
            ),
            End::Retry => (
                JobEvent::Postpone,
                Outcome::Retry {
                    due: at(now + 5),
                    problem: problem(),
                },
            ),
            End::Cancelled => (JobEvent::Cancel, Outcome::Cancelled),
            End::Released => (JobEvent::Postpone, Outcome::Released),
        };
        let got = open.finish(attempt, outcome, now).await;
        if stale || job.state != JobState::Running {
            prop_assert!(matches!(got, Finished::Fenced));
            return Ok(());
        }
        job.step(event, now);
        job.has_result = matches!(end, End::Succeeded | End::Failed { .. });
        match end {
            End::Retry => job.due = now + 5,
            End::Released => {
                job.state = JobState::Queued;
                job.attempts -= 1;
            }
            End::Failed { release_key: true } | End::Cancelled => {
                let id = job.id;
                self.keys.retain(|_, (_, owner)| *owner != id);
            }
            _ => {}
        }
        Ok(())
    }

    async fn command(
        &mut self,
        open: &Open,
        index: usize,
        command: Command,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(());
        };
        let got = open
            .store
            .command(job.id, command, clerk(), at(now))
            .await
            .unwrap();
        let event = match command {
            Command::Cancel => JobEvent::Cancel,
            Command::Retry => JobEvent::Retry,
            Command::Delete => {
                prop_assert!(matches!(got, Commanded::Deleted));
                let gone = self.jobs.remove(index);
                self.keys.retain(|_, (_, owner)| *owner != gone.id);
                prop_assert!(open.store.get(gone.id).await.unwrap().is_none());
                return Ok(());
            }
        };
        if job.state.after(event).is_none() {
            prop_assert!(matches!(got, Commanded::WrongState(_)));
            return Ok(());
        }
        prop_assert!(matches!(got, Commanded::Done(_)));
        job.step(event, now);
        if command == Command::Retry {
            job.attempts = 0;
            job.due = now;
            job.has_result = false;
        }
        Ok(())
    }

    fn recover(&mut self, all: bool) -> (u64, u64) {
        let (now, mut waiting, mut failed) = (self.now, 0, 0);
        for job in &mut self.jobs {
            if job.state != JobState::Running || !(all || job.lease <= now) {
                continue;
            }
            if job.attempts >= 2 {
                job.step(JobEvent::Fail, now);
                job.has_result = true;
                failed += 1;
            } else {
                job.step(JobEvent::Postpone, now);
                job.due = now + 10;
                waiting += 1;
            }
        }
        (waiting, failed)
    }

    fn sweep(&mut self) {
        let now = self.now;
        for job in &mut self.jobs {
            if job.state.is_terminal() && job.state != JobState::Expired && job.expires <= now {
                job.step(JobEvent::Expire, now);
                job.has_result = false;
            }
        }
        let keys = &mut self.keys;
        self.jobs.retain(|job| {
            let kept = job.state != JobState::Expired || job.expires + 5000 > now;
            if !kept
                && let Some(key) = &job.key
                && keys.get(key).is_some_and(|(_, owner)| *owner == job.id)
            {
                keys.remove(key);
            }
            kept
        });
    }

    async fn agree(&self, open: &Open) -> Result<(), TestCaseError> {
        for job in &self.jobs {
            let stored = open.job(job.id).await;
            prop_assert_eq!(
                (stored.state, stored.version, stored.attempts),
                (job.state, job.version, job.attempts)
            );
            prop_assert_eq!(
                open.store.result(job.id).await.unwrap().is_some(),
                job.has_result
            );
            prop_assert_eq!(stored.expires.is_some(), job.state.is_terminal());
        }
        Ok(())
    }
}

impl Modelled {
    fn step(&mut self, event: JobEvent, now: i64) {
        self.state = self.state.after(event).expect("the model asked before");
        self.version += 1;
        if matches!(
            self.state,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled
        ) {
            self.expires = now + 3600;
        }
    }
}
