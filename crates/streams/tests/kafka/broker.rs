//! The broker dies in the middle.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use linkspan_testkit::KafkaCluster;
use tokio::sync::watch;

use crate::common::{self, Copier, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_started_again_loses_and_repeats_nothing() {
    const PARTITIONS: i32 = 3;
    const COUNT: u32 = 60_000;
    static KAFKA: OnceLock<KafkaCluster> = OnceLock::new();
    let kafka = KAFKA.get_or_init(|| KafkaCluster::start(&[]));
    let from = common::topic(kafka, "killed", PARTITIONS, &[]).await;
    let to = common::topic(kafka, "killed-out", PARTITIONS, &[]).await;
    common::fill(kafka, &from, PARTITIONS, 0..COUNT);
    let (stop, stopped) = watch::channel(false);
    let mut copier = Copier::new(kafka, "killed", &common::unique("group"), &from, &to);
    copier.source.session_timeout = Duration::from_secs(10);
    let copier = tokio::spawn(copier.run(stopped));
    for count in [1, 10_000] {
        common::shows(kafka, &to, count).await;
        tokio::task::spawn_blocking(|| {
            kafka.kill();
            kafka.run();
        })
        .await
        .expect("the broker is back");
    }
    let since = Instant::now();
    let seen = common::shows(kafka, &to, COUNT as usize).await;
    assert!(since.elapsed() < PATIENCE);
    stop.send_replace(true);
    copier.await.expect("the copier");
    common::assert_each_once(&seen, PARTITIONS, COUNT);
}
