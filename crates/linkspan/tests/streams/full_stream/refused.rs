//! What topics do not take.

use linkspan_testkit::{KafkaCluster, Setup};

use super::kafka::{self, Seen, make_with, shows, topic, unique, write};
use super::{PROGRAM, toml};

const GOOD: &str = "I love this kettle, it is wonderful and the tea tastes great.";

fn review(key: Option<&str>) -> Seen {
    Seen {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(GOOD.as_bytes().to_vec()),
        ..Seen::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_result_its_topic_does_not_take_is_a_dead_letter_and_the_stream_goes_on() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "refused", 1).await;
    let (to, dead) = (unique("refused-out"), unique("refused-dead"));
    make_with(kafka, &to, 1, &[("cleanup.policy", "compact")]).await;
    // Only the reasons and the value fit into the topic of the dead letters.
    make_with(kafka, &dead, 1, &[("max.message.bytes", "4000")]).await;
    let heavy = Seen {
        headers: vec![("colour".to_owned(), Some(vec![b'x'; 9_000]))],
        ..review(None)
    };
    let first = review(Some("first"));
    write(
        kafka,
        &from,
        &[first, review(None), heavy, review(Some("last"))],
    );
    let deliver = format!(
        "source = {{ kafka = \"{from}\", dead_letters = \"{dead}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]"
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let out = shows(kafka, &to, 2).await;
    let letters = shows(kafka, &dead, 2).await;
    assert_eq!(gateway.stop(), Some(0));

    let keys: Vec<_> = out.iter().map(Seen::key).collect();
    assert_eq!(keys, ["first", "last"]);
    for (letter, offset) in letters.iter().zip(["1", "2"]) {
        assert_eq!(letter.header("linkspan-error-code"), "output-without-key");
        assert_eq!(letter.header("linkspan-offset"), offset);
        assert_eq!(letter.value.as_deref(), Some(GOOD.as_bytes()));
    }
    assert!(letters[0].all("linkspan-headers-left-out").is_empty());
    assert_eq!(letters[1].header("linkspan-headers-left-out"), "1");
    assert!(letters[1].all("colour").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_dead_letters_is_not_used_for_them() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "lossy", 1).await;
    let (to, dead) = (unique("lossy-out"), unique("lossy-dead"));
    make_with(kafka, &dead, 1, &[("cleanup.policy", "compact")]).await;
    let deliver = format!(
        "source = {{ kafka = \"{from}\", dead_letters = \"{dead}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]"
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let sentence = format!("the topic {dead} of the dead letters is compacted");
    kafka::says(&gateway, &sentence).await;
    assert_eq!(gateway.stop(), Some(0));
}
