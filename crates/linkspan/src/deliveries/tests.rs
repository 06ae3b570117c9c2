//! The sender against a real store, with channels that do what a test says and a clock that a test moves.

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use linkspan_model::{Code, DeliveryState, InvocationId, Problem, ResultDocument};

use crate::channels::{Verdict, VerdictKind};
use crate::store::{Actor, DeliveryCommand, DeliveryQuery, NewDelivery, TryOutcome};
use rig::{Rig, Script, settings};

const HOUR: i64 = 3600;

/// The default waits between attempts, in seconds.
const WAITS: [i64; 9] = [
    5,
    5 * 60,
    30 * 60,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_for_three_days_gets_everything_in_the_end() {
    let mut rig = Rig::new();
    let back = rig.start + jiff::SignedDuration::from_hours(72);
    let clock = rig.clock.clone();
    let script = rig.channel("crm", settings(""), move |_| {
        if clock.time() < back {
            Verdict::retry(Some(503), "503 Service Unavailable")
        } else {
            Verdict::delivered(Some(200), "200 OK")
        }
    });
    rig.run();
    rig.finish_job(1).await;
    for (nth, wait) in WAITS.into_iter().enumerate() {
        let waiting = rig
            .delivery_where(|delivery| {
                delivery.state == DeliveryState::Pending && delivery.attempts as usize == nth + 1
            })
            .await;
        let waited = waiting.due.duration_since(rig.clock.time()).as_secs_f64();
        assert!(
            waited >= wait as f64 - 0.001 && waited <= wait as f64 * 1.2 + 0.001,
            "attempt {}: {waited}",
            nth + 1
        );
        rig.clock.set(waiting.due);
    }
    let delivered = rig
        .delivery_where(|delivery| delivery.state == DeliveryState::Delivered)
        .await;
    assert_eq!((delivered.attempts, delivered.tries.len()), (10, 10));
    assert!(
        delivered.tries[..9]
            .iter()
            .all(|tried| tried.outcome == TryOutcome::Failed && tried.status == Some(503))
    );
    let calls = script.calls();
    assert_eq!(calls.len(), 10);
    assert!(calls.iter().all(|call| call.id == delivered.id));
    assert_eq!(
        calls.iter().map(|call| call.attempt).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_made_while_a_receiver_is_down_for_three_days_arrives_in_the_end() {
    const STEP: i64 = HOUR / 4;
    let mut rig = Rig::new();
    let back = rig.start + jiff::SignedDuration::from_hours(72);
    let clock = rig.clock.clone();
    let failed = Arc::new(AtomicUsize::new(0));
    let count = failed.clone();
    let script = rig.channel("crm", settings(""), move |_| {
        if clock.time() < back {
            count.fetch_add(1, Ordering::Relaxed);
            Verdict::retry(None, "cannot connect")
        } else {
            Verdict::delivered(Some(200), "200 OK")
        }
    });
    rig.run();
    for hour in 0..72 {
        // While the sender sleeps: one that is about to claim could do so after its death was noticed.
        if hour == 36 {
            rig.die().await;
            rig.run();
            rig.recover(true).await;
        }
        rig.finish_job(hour).await;
        for _ in 0..HOUR / STEP {
            rig.advance(STEP);
            rig.idle().await;
        }
    }
    assert!(rig.clock.time() >= back);
    // The last wait is the longest: a day, and a fifth of it.
    for _ in 0..30 * HOUR / STEP {
        rig.advance(STEP);
        rig.idle().await;
    }
    let deliveries = rig.deliveries().await;
    assert_eq!(deliveries.len(), 72);
    for delivery in &deliveries {
        assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
    }
    let calls = script.calls();
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed > 72, "{failed}");
    assert_eq!(calls.len() - failed, 72, "each is taken once");
    let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| (call.nth, call.id)).collect();
    assert_eq!(ids.len(), 72, "one id for each result");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_never_takes_is_a_dead_letter_after_the_last_attempt_and_can_be_replayed() {
    let mut rig = Rig::new();
    let script = rig.channel("crm", settings(""), |_| {
        Verdict::retry(None, "cannot connect")
    });
    rig.run();
    rig.finish_job(1).await;
    for nth in 1..=9 {
        let waiting = rig
            .delivery_where(|delivery| {
                delivery.state == DeliveryState::Pending && delivery.attempts == nth
            })
            .await;
        rig.clock.set(waiting.due);
    }
    let dead = rig
        .delivery_where(|delivery| delivery.state == DeliveryState::Dead)
        .await;
    assert_eq!(
        dead.reason.as_deref(),
        Some("given up after 10 attempts: cannot connect")
    );
    assert_eq!(script.calls().len(), 10);
    rig.advance(10 * 24 * HOUR);
    rig.idle().await;
    assert_eq!(script.calls().len(), 10, "nothing is sent any more");
    let replayed = rig
        .store
        .command_deliveries(
            DeliveryQuery {
                id: Some(dead.id),
                ..DeliveryQuery::default()
            },
            DeliveryCommand::Replay,
            actor(),
            rig.clock.time(),
        )
        .await
        .unwrap();
    assert_eq!(replayed.changed, 1);
    let again = rig
        .delivery_where(|delivery| {
            delivery.state == DeliveryState::Pending && delivery.attempts == 1
        })
        .await;
    assert_eq!((again.id, again.tries.len()), (dead.id, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_for_one_receiver_goes_to_no_other_until_somebody_replays_it() {
    let mut rig = Rig::new();
    let script = rig.channel("crm", settings(""), |parcel| match parcel.attempt {
        1 => Verdict::retry(Some(503), "503"),
        _ => Verdict::delivered(Some(200), "200"),
    });
    rig.finish_job(1).await;
    script.lead_to("https://other.example.com");
    rig.run();
    let dead = rig
        .delivery_where(|delivery| delivery.state == DeliveryState::Dead)
        .await;
    let told = "it was made for https://crm.example.com, and its channel now leads to https://other.example.com; replay it to send it there";
    assert_eq!(dead.reason.as_deref(), Some(told));
    assert_eq!(script.calls().len(), 0);
    let replay = DeliveryCommand::Replay;
    let (all, now) = (DeliveryQuery::default(), rig.clock.time());
    rig.store
        .command_deliveries(all, replay, actor(), now)
        .await
        .unwrap();
    let waiting = rig
        .delivery_where(|delivery| delivery.attempts == 1 && delivery.due > now)
        .await;
    rig.clock.set(waiting.due);
    let delivered = rig
        .delivery_where(|delivery| delivery.state == DeliveryState::Delivered)
        .await;
    let details: Vec<_> = delivered.tries.iter().map(|tried| &tried.detail).collect();
    let other = "https://other.example.com";
    assert_eq!(
        details,
        [told, &format!("{other}: 503"), &format!("{other}: 200")]
    );
    // What is made from now on is for the other.
    rig.finish_job(1).await;
    rig.until_count(DeliveryState::Pending, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_breaker_is_open_due_deliveries_wait_and_use_up_no_attempt() {
    let mut rig = Rig::new();
    let back = rig.start + jiff::SignedDuration::from_mins(30);
    let clock = rig.clock.clone();
    let failed = Arc::new(AtomicUsize::new(0));
    let count = failed.clone();
    let retry = vec!["10h"; 8];
    let script = rig.channel(
        "crm",
        settings(&format!("concurrency = 1\nretry = {retry:?}")),
        move |_| {
            if clock.time() < back {
                count.fetch_add(1, Ordering::Relaxed);
                Verdict::retry(Some(500), "500")
            } else {
                Verdict::delivered(Some(200), "200")
            }
        },
    );
    for job in 0..30 {
        rig.finish_job(job).await;
    }
    rig.run();
    rig.until(|| script.calls().len() == 5).await;
    rig.idle().await;
    assert_eq!(script.calls().len(), 5, "the breaker is open");
    while rig.clock.time() < back {
        rig.advance(5);
        rig.idle().await;
    }
    let failed = failed.load(Ordering::Relaxed);
    // The rests: 5, 10, 20, 40, 80, 160 s, then 300 s each: 10 probes in 30 minutes.
    assert!((5 + 8..=5 + 11).contains(&failed), "{failed} failed");
    rig.advance(300);
    rig.until_count(DeliveryState::Delivered, 30 - failed).await;
    rig.idle().await;
    let calls = script.calls();
    assert_eq!(calls.len(), 30);
    assert!(
        calls.iter().all(|call| call.attempt == 1),
        "what waited has used up no attempt"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_is_left_alone_until_then_by_all_of_its_deliveries() {
    let mut rig = Rig::new();
    let clock = rig.clock.clone();
    let back = rig.start + jiff::SignedDuration::from_secs(1800);
    let script = rig.channel(
        "crm",
        settings("concurrency = 1\nretry = [\"5s\", \"5s\"]"),
        move |_| match back.duration_since(clock.time()).try_into() {
            Ok(asked) if asked > Duration::ZERO => Verdict {
                kind: VerdictKind::Rest { asked },
                status: Some(429),
                detail: "429".to_owned(),
            },
            _ => Verdict::delivered(Some(200), "200"),
        },
    );
    for job in 0..10 {
        rig.finish_job(job).await;
    }
    rig.run();
    rig.until(|| script.calls().len() == 1).await;
    for _ in 0..17 {
        rig.idle().await;
        rig.advance(100);
    }
    rig.idle().await;
    assert_eq!(script.calls().len(), 1);
    rig.clock.set(back);
    rig.until_count(DeliveryState::Delivered, 9).await;
    rig.advance(2);
    rig.until_count(DeliveryState::Delivered, 10).await;
    assert_eq!(script.calls().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_receiver_among_fifty_holds_up_no_other() {
    let mut rig = Rig::new();
    let slow = rig.slow_channel("slow", settings("concurrency = 2\ntimeout = \"10m\""));
    let others: Vec<Script> = (1..50)
        .map(|nth| {
            rig.channel(
                &format!("fast-{nth:02}"),
                settings("concurrency = 2"),
                |_| Verdict::delivered(None, "taken"),
            )
        })
        .collect();
    rig.run();
    for job in 0..10 {
        rig.finish_job(job).await;
    }
    rig.until(|| others.iter().all(|script| script.calls().len() == 10))
        .await;
    assert_eq!(slow.calls().len(), 2, "its places, and no more");
    rig.until_count(DeliveryState::Delivered, 490).await;
    assert_eq!(rig.count(DeliveryState::Delivered).await, 490);
    slow.release();
    rig.until_count(DeliveryState::Delivered, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_wants_no_more_pauses_its_endpoint_until_somebody_resumes_it() {
    let mut rig = Rig::new();
    let script = rig.channel("crm", settings("concurrency = 1"), |parcel| {
        if parcel.attempt == 1 && parcel.result["answers"]["nth"] == 0 {
            Verdict {
                kind: VerdictKind::Gone,
                status: Some(410),
                detail: "410 Gone".to_owned(),
            }
        } else {
            Verdict::delivered(Some(200), "200 OK")
        }
    });
    rig.run();
    rig.finish_job(0).await;
    rig.until_count(DeliveryState::Paused, 1).await;
    rig.finish_job(1).await;
    rig.until_count(DeliveryState::Paused, 2).await;
    rig.advance(24 * HOUR);
    rig.idle().await;
    assert_eq!(script.calls().len(), 1);
    let endpoint = script.endpoint();
    rig.store
        .set_pause(endpoint, None, actor(), rig.clock.time())
        .await
        .unwrap();
    rig.until_count(DeliveryState::Delivered, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_gives_back_what_it_cannot_finish() {
    let mut rig = Rig::new();
    let slow = rig.slow_channel("crm", settings("timeout = \"10m\""));
    rig.run();
    rig.finish_job(1).await;
    rig.until(|| slow.calls().len() == 1).await;
    rig.lifetime.stop.cancel();
    rig.finish_job(2).await;
    rig.lifetime.tasks.close();
    rig.lifetime.abandon.cancel();
    rig.lifetime.tasks.wait().await;
    let all = rig.deliveries().await;
    assert!(
        all.iter()
            .all(|delivery| (delivery.state, delivery.attempts) == (DeliveryState::Pending, 0)),
        "{all:?}"
    );
    let tries: Vec<_> = all
        .iter()
        .flat_map(|delivery| &delivery.tries)
        .map(|tried| tried.outcome)
        .collect();
    assert_eq!(tries, [TryOutcome::Lost]);
    assert_eq!(slow.calls().len(), 1, "a stopping gateway claims no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_left_behind_is_sent_by_the_next_one_with_the_same_id() {
    let mut rig = Rig::new();
    let slow = rig.slow_channel("crm", settings("timeout = \"10m\""));
    rig.run();
    rig.finish_job(1).await;
    rig.until(|| slow.calls().len() == 1).await;
    let first = slow.calls()[0].id;
    rig.die().await;
    slow.release();
    rig.run();
    rig.idle().await;
    assert_eq!(
        rig.count(DeliveryState::Sending).await,
        1,
        "its lease holds"
    );
    rig.advance(31);
    rig.recover(false).await;
    let delivered = rig
        .delivery_where(|delivery| delivery.state == DeliveryState::Delivered)
        .await;
    assert_eq!(
        delivered
            .tries
            .iter()
            .map(|tried| tried.outcome)
            .collect::<Vec<_>>(),
        [TryOutcome::Lost, TryOutcome::Delivered]
    );
    assert!(slow.calls().iter().all(|call| call.id == first));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_the_gateways_end_cut_off_use_up_no_wait_and_have_a_bound_of_their_own() {
    let settings = || settings("timeout = \"10m\"\nretry = [\"1m\", \"1h\"]");
    for kills in [2, 20] {
        let mut rig = Rig::new();
        let script = rig.gated_channel("crm", settings(), |_| {
            Verdict::retry(Some(503), "503 Service Unavailable")
        });
        rig.run();
        rig.finish_job(1).await;
        for kill in 1..=kills {
            rig.until(|| script.calls().len() == kill).await;
            rig.die().await;
            rig.run();
            rig.recover(true).await;
        }
        script.release();
        if kills == 20 {
            let dead = rig
                .delivery_where(|one| one.state == DeliveryState::Dead)
                .await;
            assert!(dead.reason.unwrap().contains("cut off"));
            assert_eq!(script.calls().len(), 20);
            continue;
        }
        for (answered, wait) in [(1, 60.0), (2, 3600.0)] {
            let waiting = rig
                .delivery_where(|one| {
                    one.state == DeliveryState::Pending && one.attempts == 2 + answered
                })
                .await;
            let waited = waiting.due.duration_since(rig.clock.time()).as_secs_f64();
            assert!((wait..=wait * 1.2 + 0.001).contains(&waited), "{waited}");
            rig.clock.set(waiting.due);
        }
        let dead = rig
            .delivery_where(|one| one.state == DeliveryState::Dead)
            .await;
        assert_eq!((dead.attempts, dead.cut_off), (5, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_takes_as_many_as_it_can_in_one_call_and_each_has_its_own_end() {
    let mut rig = Rig::new();
    let script = rig.batching_channel("file", settings("concurrency = 1"), 3, |parcel| {
        if parcel.attempt == 1 && parcel.result["answers"]["nth"] == 4 {
            Verdict::retry(None, "the disk is full")
        } else {
            Verdict::delivered(None, "written")
        }
    });
    for job in 0..8 {
        rig.finish_job(job).await;
    }
    rig.run();
    rig.until_count(DeliveryState::Delivered, 7).await;
    assert_eq!(script.sizes(), [3, 3, 2]);
    let order: Vec<_> = script.calls().iter().map(|call| call.nth).collect();
    assert_eq!(order, (0..8).collect::<Vec<_>>());
    rig.advance(6);
    rig.until_count(DeliveryState::Delivered, 8).await;
    assert_eq!(script.sizes(), [3, 3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_out_together_is_tried_again_together() {
    let mut rig = Rig::new();
    let down = |_: &crate::channels::Parcel| Verdict::retry(None, "the mail server is down");
    let settings = settings(
        "concurrency = 1\nretry = [\"1h\", \"1h\", \"1h\", \"1h\", \"1h\", \"1h\", \"1h\"]",
    );
    let script = rig.batching_channel("mail", settings, 10, down);
    for job in 0..5 {
        rig.finish_job(job).await;
    }
    rig.run();
    // Six attempts: after the fifth the breaker lets a single call through, which takes them all as well.
    for attempt in 1..=6 {
        rig.until(|| script.sizes().len() == attempt).await;
        rig.idle().await;
        let mut dues: Vec<_> = rig.deliveries().await.iter().map(|one| one.due).collect();
        dues.dedup();
        assert_eq!(dues.len(), 1, "{dues:?}");
        rig.advance(2 * 3600);
    }
    assert!(
        script.sizes().iter().all(|size| *size == 5),
        "{:?}",
        script.sizes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_wait_together_each_have_a_call_and_an_end_of_their_own() {
    let mut rig = Rig::new();
    let (concurrency, groups) = (2, 7_u64);
    let settings = settings(&format!("concurrency = {concurrency}"));
    let script = rig.batching_channel("mail", settings, 50, move |parcel| {
        match parcel.result["answers"]["nth"].as_u64() {
            Some(3) if parcel.attempt == 1 => Verdict::retry(None, "no answer within 15s"),
            _ => Verdict::delivered(None, "taken"),
        }
    });
    for group in 0..groups {
        for _ in 0..=group {
            rig.finish_job(group as usize).await;
        }
        rig.advance(1);
    }
    rig.run();
    rig.until_count(DeliveryState::Delivered, 28 - 4).await;
    rig.idle().await;
    let mut sizes = script.sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, (1..=7).collect::<Vec<_>>(), "a call a group");
    let waiting = rig.count(DeliveryState::Pending).await;
    assert_eq!(waiting, 4, "only the group whose call failed is sent again");
    rig.advance(6);
    rig.until_count(DeliveryState::Delivered, 28).await;
    assert_eq!(script.sizes().last(), Some(&4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_one_group_and_the_others_go_after_it_or_keep_their_attempts() {
    let mut rig = Rig::new();
    let (clock, back) = (
        rig.clock.clone(),
        rig.start + jiff::SignedDuration::from_mins(1),
    );
    let settings = settings("concurrency = 1\nretry = [\"10h\"]");
    let script = rig.batching_channel("mail", settings, 10, move |_| {
        if clock.time() < back {
            Verdict::retry(None, "the mail server is down")
        } else {
            Verdict::delivered(None, "taken")
        }
    });
    for group in 0..20 {
        rig.finish_job(group).await;
        rig.advance(1);
    }
    rig.run();
    rig.until(|| script.sizes().len() == 5).await;
    rig.idle().await;
    rig.advance(5);
    rig.until(|| script.sizes().len() == 6).await;
    rig.idle().await;
    let tried = rig.deliveries().await;
    let tried = tried.iter().filter(|one| one.attempts > 0).count();
    assert_eq!(tried, 6, "five, then the probe's alone");
    rig.clock.set(back);
    rig.until_count(DeliveryState::Delivered, 14).await;
    assert_eq!(script.sizes(), [1; 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_and_shape_what_is_sent() {
    let mut rig = Rig::new();
    let even = rig.channel(
        "even",
        settings("when = '.answers.nth % 2 == 0'\nmap = '{n: .answers.nth}'"),
        taken,
    );
    let broken = rig.channel("broken", settings("when = '.answers.nth | keys'"), taken);
    let lost = rig.channel("lost", settings("map = 'empty'"), taken);
    let faulty = rig.channel("faulty", settings("map = '.answers.nth | keys'"), taken);
    rig.run();
    for job in 0..4 {
        rig.finish_job(job).await;
    }
    rig.until_count(DeliveryState::Dead, 12).await;
    rig.until_count(DeliveryState::Delivered, 2).await;
    let mut contents: Vec<_> = even.calls().into_iter().map(|call| call.content).collect();
    contents.sort_by_key(|content| content["n"].as_i64());
    assert_eq!(
        contents,
        [serde_json::json!({"n": 0}), serde_json::json!({"n": 2})]
    );
    assert!(broken.calls().is_empty() && lost.calls().is_empty() && faulty.calls().is_empty());
    let reasons = [
        (
            "broken",
            "when: it uses a number as iterable (array or object)",
            0,
        ),
        ("lost", "map: the filter gives no output", 1),
        (
            "faulty",
            "map: it uses a number as iterable (array or object)",
            1,
        ),
    ];
    for (channel, reason, attempts) in reasons {
        for delivery in rig.deliveries().await {
            if delivery.endpoint.channel == channel {
                assert_eq!(delivery.reason.as_deref(), Some(reason));
                assert_eq!(delivery.attempts, attempts);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_asks_a_filter_that_never_gave_true() {
    let never = "when: it gives a number, not true or false";
    let unwanted = "when: the result is not wanted by this channel";
    for (repaired, reason, sent) in [
        (".answers.nth", Some(never), 0),
        (".answers.nth == 2", Some(unwanted), 0),
        (".answers.nth == 1", None, 2),
    ] {
        let mut rig = Rig::new();
        rig.channel("crm", settings("when = '.answers.nth'"), taken);
        rig.finish_job(1).await;
        let dead = rig.delivery_where(|one| one.tries.len() == 1).await;
        assert_eq!(dead.reason.as_deref(), Some(never));
        rig.forget_channels();
        let script = rig.channel("crm", settings(&format!("when = '{repaired}'")), taken);
        rig.run();
        for replay in 1..=2 {
            rig.idle().await; // it then hears that there is work
            let query = DeliveryQuery::default();
            let (store, now) = (rig.store.clone(), rig.clock.time());
            let done = store.command_deliveries(query, DeliveryCommand::Replay, actor(), now);
            assert_eq!(done.await.unwrap().changed, 1);
            let ended = rig
                .delivery_where(|one| one.tries.len() == 1 + replay)
                .await;
            assert_eq!(ended.reason.as_deref(), reason, "{repaired}");
        }
        assert_eq!(script.calls().len(), sent, "{repaired}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_hangs_panics_or_says_too_little_costs_an_attempt() {
    let mut rig = Rig::new();
    rig.slow_channel("hangs", settings("timeout = \"100ms\""));
    rig.channel("panics", settings(""), |_| panic!("a channel's own fault"));
    rig.batching_channel("mute", settings(""), 0, taken);
    rig.run();
    rig.finish_job(1).await;
    while !rig
        .deliveries()
        .await
        .iter()
        .all(|delivery| delivery.tries.len() == 1)
    {
        tokio::task::yield_now().await;
    }
    let expected = [
        ("hangs", "no answer within 100ms"),
        ("panics", "the channel met a fault of its own"),
        ("mute", "the channel said nothing of it"),
    ];
    for delivery in rig.deliveries().await {
        let (_, detail) = expected
            .into_iter()
            .find(|(channel, _)| *channel == delivery.endpoint.channel)
            .unwrap();
        assert_eq!(delivery.reason.as_deref(), Some(detail));
        assert_eq!(delivery.state, DeliveryState::Pending);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_channel_is_configured_for_stays_where_it_is() {
    let mut rig = Rig::new();
    rig.channel("old", settings(""), taken);
    rig.finish_job(1).await;
    rig.forget_channels();
    rig.channel("new", settings(""), taken);
    rig.run();
    rig.finish_job(2).await;
    rig.until_count(DeliveryState::Delivered, 1).await;
    rig.advance(HOUR);
    rig.idle().await;
    let left = rig.deliveries().await;
    let left: Vec<_> = left
        .iter()
        .filter(|delivery| delivery.state == DeliveryState::Pending)
        .map(|delivery| delivery.endpoint.channel.as_str())
        .collect();
    assert_eq!(left, ["old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_gives_up_while_it_is_sent_stays_given_up() {
    let mut rig = Rig::new();
    let slow = rig.slow_channel("crm", settings("timeout = \"10m\""));
    rig.run();
    rig.finish_job(1).await;
    rig.until(|| slow.calls().len() == 1).await;
    let given_up = rig
        .store
        .command_deliveries(
            DeliveryQuery::default(),
            DeliveryCommand::GiveUp,
            actor(),
            rig.clock.time(),
        )
        .await
        .unwrap();
    assert_eq!(given_up.changed, 1);
    slow.release();
    rig.idle().await;
    assert_eq!(rig.count(DeliveryState::Dead).await, 1);
}

#[tokio::test]
async fn a_result_makes_a_delivery_for_each_channel_that_wants_it_or_cannot_tell() {
    let mut rig = Rig::new();
    rig.channel("all", settings(""), taken);
    rig.channel("none", settings("when = '.status == \"succeeded\"'"), taken);
    rig.channel(
        "failed",
        settings("when = '.error.code == \"internal\"'"),
        taken,
    );
    rig.channel("broken", settings("when = '.status | keys'"), taken);
    let problem = Problem::new(
        Code::Internal,
        "the gateway ended during each of its attempts",
    );
    let result = ResultDocument::failed(InvocationId::new(), "calls", problem);
    let made = rig.outbox(&result).await;
    let shape = |deliveries: &[NewDelivery]| {
        let shape = deliveries
            .iter()
            .map(|new| (new.channel.clone(), new.dead.is_some(), new.due));
        shape.collect::<Vec<_>>()
    };
    let expected = [("all", false), ("broken", true), ("failed", false)];
    let expected = expected.map(|(channel, dead)| (channel.to_owned(), dead, rig.start));
    assert_eq!(shape(&made), expected);
}

#[tokio::test]
async fn a_delivery_whose_result_is_gone_is_given_up() {
    let rig = Rig::new();
    let opened = rig.opened("crm", &settings(""), taken);
    let error = opened.content_of(None).await.unwrap_err();
    assert_eq!(error, "its result is no longer there");
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let schedule = super::schedule::Schedule::new(vec![Duration::from_secs(5)]);
    let now = jiff::Timestamp::from_second(1_790_000_000).unwrap();
    let asked = Some(Duration::from_secs(90));
    let super::schedule::Next::Due(due) = schedule.after(1, asked, 0.0, now) else {
        panic!("dead too early");
    };
    assert_eq!(due.duration_since(now).as_secs(), 90);
}

fn taken(_: &crate::channels::Parcel) -> Verdict {
    Verdict::delivered(None, "taken")
}

fn actor() -> Actor {
    Actor {
        name: "olena".to_owned(),
        request_id: None,
        remote: None,
    }
}
