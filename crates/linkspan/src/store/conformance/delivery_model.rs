//! Any sequence of calls on deliveries, against a simple model whose moves are [`DeliveryState::after`].

use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{DeliveryId, DeliveryState, InvocationId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::deliveries::{by, failed_try, succeeded};
use super::{Open, Site, at, bill, clerk, seconds};
use crate::store::{
    Command, Delivery, DeliveryAttempt, DeliveryClaim, DeliveryCommand, DeliveryEnd,
    DeliveryOutcome, DeliveryQuery, Endpoint, Finished, Start,
};

const CHANNELS: [&str; 2] = ["crm", "mail"];

#[derive(Clone, Debug)]
enum Call {
    SendOut {
        channels: Vec<usize>,
        wait: i64,
    },
    Claim {
        channel: usize,
        limit: u32,
    },
    Finish {
        delivery: usize,
        stale: bool,
        end: End,
    },
    Renew {
        delivery: usize,
    },
    Recover {
        all: bool,
    },
    Command {
        delivery: usize,
        command: DeliveryCommand,
    },
    Pause {
        channel: usize,
        pause: bool,
    },
    Wait {
        seconds: i64,
    },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Retry,
    Dead,
    Pause,
    Released,
}

/// A delivery as the model sees it.
#[derive(Clone, Debug)]
struct Modelled {
    id: DeliveryId,
    channel: usize,
    state: DeliveryState,
    attempts: u32,
    cut_off: u32,
    attempt: Option<DeliveryAttempt>,
    due: i64,
    lease: i64,
    tries: usize,
    /// As the store showed it last.
    seen: Option<Delivery>,
}

struct Model {
    now: i64,
    integration: String,
    jobs: Vec<InvocationId>,
    deliveries: Vec<Modelled>,
    paused: [bool; 2],
}

pub(in crate::store) async fn any_sequence_of_calls_on_deliveries_agrees_with_the_model(
    site: &dyn Site,
) {
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
                    now: 0,
                    integration: InvocationId::new().to_string(),
                    jobs: Vec::new(),
                    deliveries: Vec::new(),
                    paused: [false; 2],
                };
                for call in &calls {
                    model.make(&open, call).await?;
                    model.agree(&open).await?;
                }
                // Recovery sees the whole store: leave nothing to the next case.
                for job in &model.jobs {
                    open.command(*job, Command::Delete, model.now).await;
                }
                for channel in 0..CHANNELS.len() {
                    let endpoint = model.endpoint(channel);
                    open.store
                        .set_pause(endpoint, None, clerk(), at(model.now))
                        .await
                        .unwrap();
                }
                prop_assert!(model.status(&open).await.is_empty());
                Ok(())
            })
        })
        .unwrap();
}

fn call() -> impl Strategy<Value = Call> {
    let end = prop_oneof![
        4 => Just(End::Delivered),
        4 => Just(End::Retry),
        2 => Just(End::Dead),
        1 => Just(End::Pause),
        1 => Just(End::Released),
    ];
    let command = prop::sample::select(vec![DeliveryCommand::Replay, DeliveryCommand::GiveUp]);
    prop_oneof![
        4 => (prop::collection::vec(0..2usize, 1..4), 0..20i64)
            .prop_map(|(channels, wait)| Call::SendOut { channels, wait }),
        5 => (0..2usize, 0..4u32).prop_map(|(channel, limit)| Call::Claim { channel, limit }),
        7 => (0..8usize, prop::bool::weighted(0.2), end)
            .prop_map(|(delivery, stale, end)| Call::Finish { delivery, stale, end }),
        1 => (0..8usize).prop_map(|delivery| Call::Renew { delivery }),
        1 => any::<bool>().prop_map(|all| Call::Recover { all }),
        3 => (0..8usize, command).prop_map(|(delivery, command)| Call::Command { delivery, command }),
        2 => (0..2usize, any::<bool>()).prop_map(|(channel, pause)| Call::Pause { channel, pause }),
        3 => prop::sample::select(vec![1, 10, 50]).prop_map(|seconds| Call::Wait { seconds }),
    ]
}

impl Model {
    async fn make(&mut self, open: &Open, call: &Call) -> Result<(), TestCaseError> {
        match call {
            Call::SendOut { channels, wait } => self.send_out(open, channels, *wait).await,
            Call::Claim { channel, limit } => self.claim(open, *channel, *limit).await,
            Call::Finish {
                delivery,
                stale,
                end,
            } => self.finish(open, *delivery, *stale, *end).await,
            Call::Renew { delivery } => self.renew(open, *delivery).await,
            Call::Recover { all } => self.recover(open, *all).await,
            Call::Command { delivery, command } => self.command(open, *delivery, *command).await,
            Call::Pause { channel, pause } => self.pause(open, *channel, *pause).await,
            Call::Wait { seconds } => {
                self.now += seconds;
                Ok(())
            }
        }
    }

    async fn send_out(
        &mut self,
        open: &Open,
        channels: &[usize],
        wait: i64,
    ) -> Result<(), TestCaseError> {
        let mut job = bill();
        job.integration = self.integration.clone();
        job.start = Some(Start {
            owner: "gateway".to_owned(),
            lease: seconds(60),
            held: false,
        });
        let (job, attempt) = open.created(job).await;
        self.jobs.push(job.id);
        let due = self.now + wait;
        let mut deliveries = Vec::new();
        for channel in channels {
            let mut new = by(CHANNELS[*channel]);
            new.due = at(due);
            self.deliveries.push(Modelled {
                id: new.id,
                channel: *channel,
                state: if self.paused[*channel] {
                    DeliveryState::Paused
                } else {
                    DeliveryState::Pending
                },
                attempts: 0,
                cut_off: 0,
                attempt: None,
                due,
                lease: 0,
                tries: 0,
                seen: None,
            });
            deliveries.push(new);
        }
        let done = open
            .finish_with(attempt.unwrap(), succeeded(), &deliveries, self.now)
            .await;
        prop_assert!(matches!(done, Finished::Done(_)));
        Ok(())
    }

    async fn claim(
        &mut self,
        open: &Open,
        channel: usize,
        limit: u32,
    ) -> Result<(), TestCaseError> {
        let claim = DeliveryClaim {
            owner: "gateway".to_owned(),
            places: vec![(self.endpoint(channel), limit)],
            lease: seconds(60),
            now: at(self.now),
        };
        let got = open.store.claim_deliveries(claim).await.unwrap();
        let now = self.now;
        let pending = |delivery: &&mut Modelled| {
            delivery.channel == channel && delivery.state == DeliveryState::Pending
        };
        let mut due: Vec<&mut Modelled> = self
            .deliveries
            .iter_mut()
            .filter(pending)
            .filter(|delivery| delivery.due <= now)
            .collect();
        due.sort_by_key(|delivery| delivery.due);
        // Of those that are due at the same time, whichever.
        let latest = due
            .get((limit as usize).min(due.len()).wrapping_sub(1))
            .map(|last| last.due);
        prop_assert_eq!(got.claimed.len(), due.len().min(limit as usize));
        let mut order = Vec::new();
        for claimed in &got.claimed {
            let found = due
                .iter_mut()
                .find(|delivery| delivery.id == claimed.delivery.id);
            let Some(delivery) = found else {
                return Err(TestCaseError::fail("it is not due"));
            };
            prop_assert!(Some(delivery.due) <= latest, "one was due for longer");
            prop_assert!(
                delivery
                    .attempt
                    .is_none_or(|last| last.token < claimed.attempt.token)
            );
            prop_assert!(claimed.result.is_some());
            order.push(delivery.due);
            delivery.step(DeliveryEvent::Start);
            delivery.attempts += 1;
            delivery.attempt = Some(claimed.attempt);
            delivery.lease = now + 60;
        }
        prop_assert!(order.is_sorted());
        let next = self
            .deliveries
            .iter_mut()
            .filter(pending)
            .map(|delivery| delivery.due)
            .min();
        prop_assert_eq!(got.next, next.map(at));
        Ok(())
    }

    async fn finish(
        &mut self,
        open: &Open,
        index: usize,
        stale: bool,
        end: End,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(index) else {
            return Ok(());
        };
        let Some(mut attempt) = delivery.attempt else {
            return Ok(());
        };
        if stale {
            attempt.token -= 1;
        }
        let reason = "the receiver refused it".to_owned();
        let outcome = match end {
            End::Delivered => DeliveryOutcome::Delivered,
            End::Retry => DeliveryOutcome::Retry { due: at(now + 5) },
            End::Dead => DeliveryOutcome::Dead { reason },
            End::Pause => DeliveryOutcome::Pause { reason },
            End::Released => DeliveryOutcome::Released,
        };
        let end_of = DeliveryEnd {
            attempt,
            outcome,
            tried: (!matches!(end, End::Released)).then(|| failed_try(now)),
        };
        let got = open
            .store
            .finish_deliveries(vec![end_of], at(now))
            .await
            .unwrap();
        let fits = !stale && delivery.state == DeliveryState::Sending;
        prop_assert_eq!(got, [fits]);
        if !fits {
            return Ok(());
        }
        delivery.tries += usize::from(!matches!(end, End::Released));
        match end {
            End::Delivered => delivery.step(DeliveryEvent::Deliver),
            End::Dead => delivery.step(DeliveryEvent::GiveUp),
            End::Pause => {
                delivery.step(DeliveryEvent::Pause);
                let channel = delivery.channel;
                self.hold_back(channel);
            }
            End::Retry => delivery.postpone(now + 5, &self.paused),
            End::Released => {
                delivery.attempts -= 1;
                delivery.postpone(now, &self.paused);
            }
        }
        Ok(())
    }

    async fn renew(&mut self, open: &Open, index: usize) -> Result<(), TestCaseError> {
        let now = self.now;
        let Some((delivery, attempt)) = self
            .deliveries
            .get_mut(index)
            .and_then(|delivery| delivery.attempt.map(|attempt| (delivery, attempt)))
        else {
            return Ok(());
        };
        let lost = open
            .store
            .renew_deliveries(vec![attempt], seconds(60), at(now))
            .await
            .unwrap();
        if delivery.state == DeliveryState::Sending {
            prop_assert!(lost.is_empty());
            delivery.lease = now + 60;
        } else {
            prop_assert_eq!(lost, [attempt]);
        }
        Ok(())
    }

    async fn recover(&mut self, open: &Open, all: bool) -> Result<(), TestCaseError> {
        let now = self.now;
        let got = open.store.recover_deliveries(all, at(now)).await.unwrap();
        let mut count = 0;
        for delivery in &mut self.deliveries {
            if delivery.state == DeliveryState::Sending && (all || delivery.lease <= now) {
                delivery.tries += 1;
                delivery.cut_off += 1;
                delivery.postpone(now, &self.paused);
                count += 1;
            }
        }
        prop_assert_eq!(got, count);
        Ok(())
    }

    async fn command(
        &mut self,
        open: &Open,
        index: usize,
        command: DeliveryCommand,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let Some(delivery) = self.deliveries.get_mut(index) else {
            return Ok(());
        };
        let query = DeliveryQuery {
            id: Some(delivery.id),
            limit: 1,
            ..DeliveryQuery::default()
        };
        let got = open
            .store
            .command_deliveries(query, command, clerk(), at(now))
            .await
            .unwrap();
        let event = match command {
            DeliveryCommand::Replay => DeliveryEvent::Replay,
            DeliveryCommand::GiveUp => DeliveryEvent::GiveUp,
        };
        let fits = delivery.state.after(event).is_some();
        prop_assert_eq!((got.changed, got.left), (u64::from(fits), u64::from(!fits)));
        if fits {
            let waited = delivery.state == DeliveryState::Pending;
            delivery.step(event);
            if command == DeliveryCommand::Replay && waited {
                delivery.due = now;
            } else if command == DeliveryCommand::Replay {
                delivery.attempts = 0;
                delivery.cut_off = 0;
                delivery.due = now;
                if self.paused[delivery.channel] {
                    delivery.step(DeliveryEvent::Pause);
                }
            }
        }
        Ok(())
    }

    async fn pause(
        &mut self,
        open: &Open,
        channel: usize,
        pause: bool,
    ) -> Result<(), TestCaseError> {
        let reason = pause.then(|| "upkeep".to_owned());
        let endpoint = self.endpoint(channel);
        let got = open
            .store
            .set_pause(endpoint, reason, clerk(), at(self.now))
            .await
            .unwrap();
        let expected = if pause {
            self.hold_back(channel)
        } else {
            self.paused[channel] = false;
            let mut count = 0;
            for delivery in &mut self.deliveries {
                if delivery.channel == channel && delivery.state == DeliveryState::Paused {
                    delivery.step(DeliveryEvent::Resume);
                    delivery.due = self.now;
                    count += 1;
                }
            }
            count
        };
        prop_assert_eq!(got, expected);
        Ok(())
    }

    /// Pauses an endpoint with what is pending.
    fn hold_back(&mut self, channel: usize) -> u64 {
        self.paused[channel] = true;
        let mut count = 0;
        for delivery in &mut self.deliveries {
            if delivery.channel == channel && delivery.state == DeliveryState::Pending {
                delivery.step(DeliveryEvent::Pause);
                count += 1;
            }
        }
        count
    }

    async fn agree(&mut self, open: &Open) -> Result<(), TestCaseError> {
        for delivery in &mut self.deliveries {
            let stored = open.delivery(delivery.id).await;
            prop_assert_eq!(
                (stored.state, stored.attempts, stored.cut_off),
                (delivery.state, delivery.attempts, delivery.cut_off)
            );
            prop_assert_eq!(stored.tries.len(), delivery.tries);
            if stored.state == DeliveryState::Pending {
                prop_assert_eq!(stored.due, at(delivery.due));
            }
            prop_assert_eq!(stored.finished.is_some(), !stored.state.is_open());
            if let Some(seen) = &delivery.seen {
                prop_assert!(*seen == stored || seen.version < stored.version);
            }
            delivery.seen = Some(stored);
        }
        let mut tallied = 0;
        for (endpoint, paused, tallies) in self.status(open).await {
            tallied += tallies.iter().map(|(_, count)| *count).sum::<u64>();
            let channel = CHANNELS
                .iter()
                .position(|channel| *channel == endpoint.channel);
            let channel = channel.expect("one of ours");
            prop_assert_eq!(paused, self.paused[channel]);
            for state in DeliveryState::ALL {
                let expected = self
                    .deliveries
                    .iter()
                    .filter(|delivery| delivery.channel == channel && delivery.state == state)
                    .count() as u64;
                let found = tallies.iter().find(|(other, _)| *other == state);
                prop_assert_eq!(found.map_or(0, |(_, count)| *count), expected);
            }
        }
        prop_assert_eq!(tallied, self.deliveries.len() as u64);
        Ok(())
    }

    /// This case's endpoints, whether each is paused, and its tallies.
    async fn status(&self, open: &Open) -> Vec<(Endpoint, bool, Vec<(DeliveryState, u64)>)> {
        let all = open.store.endpoints().await.unwrap();
        all.into_iter()
            .filter(|status| status.endpoint.integration == self.integration)
            .map(|status| (status.endpoint, status.pause.is_some(), status.tallies))
            .collect()
    }

    fn endpoint(&self, channel: usize) -> Endpoint {
        Endpoint::new(&self.integration, CHANNELS[channel])
    }
}

impl Modelled {
    fn step(&mut self, event: DeliveryEvent) {
        self.state = self.state.after(event).expect("the model asked before");
    }

    fn postpone(&mut self, due: i64, paused: &[bool; 2]) {
        self.step(if paused[self.channel] {
            DeliveryEvent::Pause
        } else {
            DeliveryEvent::Postpone
        });
        self.due = due;
    }
}
