//! What becomes of a record.

use linkspan_testkit::{KafkaCluster, Setup};

use super::kafka::{self, Seen, shows, topic, unique, write};
use super::{PROGRAM, toml};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn review(partition: i32, key: Option<&str>, text: &str) -> Seen {
    Seen {
        partition,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(text.as_bytes().to_vec()),
        ..Seen::default()
    }
}

fn header(name: &str, value: Option<&str>) -> (String, Option<Vec<u8>>) {
    (
        name.to_owned(),
        value.map(|value| value.as_bytes().to_vec()),
    )
}

const GOOD: &str = "I love this kettle, it is wonderful and the tea tastes great.";
const BAD: &str = "I hate this awful kettle, it is horrible and it broke on the first day.";

#[tokio::test(flavor = "multi_thread")]
async fn a_result_keeps_what_its_record_came_with_and_says_whose_it_is() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "kept", 3).await;
    let to = topic(kafka, "kept-out", 3).await;
    let of_the_record = vec![
        header("trace", Some("one")),
        header("nothing", None),
        header("traceparent", Some(TRACE)),
        header("trace", Some("two")),
        header("idempotency-key", Some("order-17")),
        header("empty", Some("")),
    ];
    let records = [
        Seen {
            headers: of_the_record.clone(),
            timestamp: Some(1_700_000_000_123),
            ..review(0, Some("kettle"), GOOD)
        },
        Seen {
            timestamp: Some(1_600_000_000_000),
            ..review(2, None, BAD)
        },
        Seen {
            timestamp: Some(1_650_000_000_000),
            ..review(
                2,
                Some(""),
                "{\"text\": \"It was a truly wonderful day by the sea.\"}",
            )
        },
    ];
    write(kafka, &from, &records);
    let deliver = format!("source = {{ kafka = \"{from}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]");
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let out = shows(kafka, &to, 3).await;
    assert_eq!(gateway.stop(), Some(0));

    assert_eq!(out.len(), 3);
    for (out, record) in out.iter().zip(&records) {
        assert_eq!(out.partition, record.partition);
        assert_eq!(out.key, record.key);
        assert_eq!(out.timestamp, record.timestamp);
        let result = out.json();
        assert_eq!(result["status"], "succeeded");
        assert_eq!(result["integration"], "reviews");
        assert_eq!(result["id"], out.header("linkspan-id"));
        assert_eq!(out.header("linkspan-integration"), "reviews");
        assert_eq!(out.header("linkspan-status"), "succeeded");
        assert_eq!(out.header("content-type"), "application/json");
        let services: Vec<_> = result["steps"].as_array().expect("steps").iter().collect();
        assert_eq!(services.len(), 2);
        assert!(result["answers"]["mood"]["label"].is_string(), "{result}");
    }
    let (first, added) = out[0].headers.split_at(of_the_record.len());
    assert_eq!(first, of_the_record);
    assert_eq!(added.len(), 4, "{added:?}");
    assert_eq!(out[0].header("traceparent"), TRACE);
    // A record without one gets one.
    let made = out[1].header("traceparent");
    assert_eq!((made.len(), &made[..3]), (TRACE.len(), "00-"));
    assert_ne!(made, out[2].header("traceparent"));
    assert_eq!(out[2].json()["answers"]["language"]["language"], "en");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_go_by_their_label_to_topics_that_are_made_like_the_sources() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "routed", 2).await;
    let (praise, blame) = (unique("praise"), unique("blame"));
    let records: Vec<_> = (0..40)
        .map(|number: i32| {
            let text = if number % 4 == 0 { BAD } else { GOOD };
            let mut record = review(number % 2, Some(&number.to_string()), text);
            // Older than what a topic keeps by itself: the new ones keep it as the source's does.
            record.timestamp = Some(1_500_000_000_000);
            record
        })
        .collect();
    write(kafka, &from, &records);
    let deliver = format!(
        r#"
source = {{ kafka = "{from}", order = "none" }}
deliver = [
  {{ name = "praise", kafka = "{praise}", when = '.answers.mood.label == "positive"', map = '{{mood: .answers.mood.label, language: .answers.language.language}}' }},
  {{ name = "blame", kafka = "{blame}", when = '.answers.mood.label == "negative"', key = '.answers.mood.label' }},
]
"#
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let praised = shows(kafka, &praise, 30).await;
    let blamed = shows(kafka, &blame, 10).await;
    assert_eq!(gateway.stop(), Some(0));

    assert_eq!((praised.len(), blamed.len()), (30, 10));
    for record in &praised {
        let number: i32 = record.key().parse().expect("the record's key");
        assert_ne!(number % 4, 0);
        assert_eq!(record.partition, number % 2);
        let mapped = record.json();
        assert_eq!(mapped.as_object().expect("an object").len(), 2);
        assert_eq!(
            (&mapped["mood"], &mapped["language"]),
            (&"positive".into(), &"en".into())
        );
    }
    for record in &blamed {
        assert_eq!(record.key(), "negative");
        assert_eq!(record.partition, 0);
        assert_eq!(record.json()["status"], "succeeded");
    }
    for made in [praise, blame, format!("{from}.dead")] {
        assert_eq!(kafka::partitions(kafka, &made), 2, "{made}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nothing_can_be_made_of_is_a_dead_letter_as_it_came() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "spoilt", 1).await;
    let (to, dead) = (unique("spoilt-out"), unique("spoilt-dead"));
    let mine = vec![
        header("colour", Some("red")),
        header("colour", Some("blue")),
    ];
    let spoilt = |value: Option<&[u8]>, key: &str| Seen {
        key: Some(key.as_bytes().to_vec()),
        value: value.map(<[u8]>::to_vec),
        headers: mine.clone(),
        timestamp: Some(1_700_000_000_000),
        ..Seen::default()
    };
    let records = [
        review(0, Some("first"), GOOD),
        spoilt(None, "tombstone"),
        spoilt(Some(b"\xff\xfe\x00 not a text"), "bytes"),
        // The filter of the second topic fails of it: no topic has it.
        spoilt(Some(BAD.as_bytes()), "filter"),
        review(0, Some("last"), GOOD),
    ];
    write(kafka, &from, &records);
    let deliver = format!(
        r#"
source = {{ kafka = "{from}", dead_letters = "{dead}" }}
deliver = [
  {{ name = "all", kafka = "{to}" }},
  {{ name = "some", kafka = "{to}", when = 'if .answers.mood.label == "negative" then error("secret " + .answers.mood.label) else false end' }},
]
"#
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let letters = shows(kafka, &dead, 3).await;
    let out = shows(kafka, &to, 2).await;
    assert_eq!(gateway.stop(), Some(0));

    let keys: Vec<_> = out.iter().map(Seen::key).collect();
    assert_eq!(keys, ["first", "last"], "the stream goes on");
    let codes = ["bad-request", "unsupported-media-type", "filter-failed"];
    for ((letter, record), code) in letters.iter().zip(&records[1..4]).zip(codes) {
        assert_eq!(letter.key, record.key);
        assert_eq!(letter.value, record.value);
        assert_eq!(letter.timestamp, record.timestamp);
        assert_eq!(letter.headers[..2], record.headers[..]);
        assert_eq!(letter.header("linkspan-error-code"), code);
        assert_eq!(letter.header("linkspan-source"), format!("{from}/0"));
        assert_eq!(letter.header("linkspan-attempts"), "1");
        assert!(letter.all("linkspan-id").is_empty());
    }
    let reason = letters[2].header("linkspan-error-reason");
    assert!(reason.starts_with("some: when: "), "{reason}");
    assert!(!reason.contains("negative"), "{reason}");
    assert_eq!(letters[2].header("linkspan-offset"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_its_topic_does_not_take_leaves_its_value_out_and_says_where_it_is() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "heavy", 1).await;
    let (to, dead) = (unique("heavy-out"), unique("heavy-dead"));
    // Compressed it is small; the copy is written as it is.
    let producer = kafka::client(kafka)
        .set("compression.type", "zstd")
        .set("message.max.bytes", "8000000")
        .create()
        .expect("a producer");
    let heavy = vec![0xff; 3_000_000];
    kafka::write_with(
        &producer,
        &from,
        &Seen {
            value: Some(heavy),
            ..review(0, Some("heavy"), "")
        },
    );
    write(kafka, &from, &[review(0, Some("light"), GOOD)]);
    let deliver = format!(
        "source = {{ kafka = \"{from}\", dead_letters = \"{dead}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]"
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let letters = shows(kafka, &dead, 1).await;
    let out = shows(kafka, &to, 1).await;
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(out[0].key(), "light");
    assert_eq!((letters[0].key(), &letters[0].value), ("heavy", &None));
    assert_eq!(letters[0].header("linkspan-value-left-out"), "3000000");
    assert_eq!(letters[0].header("linkspan-source"), format!("{from}/0"));
    assert_eq!(letters[0].header("linkspan-offset"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_is_told_and_waited_for() {
    let kafka = KafkaCluster::shared();
    let (from, to) = (unique("later"), unique("later-out"));
    let deliver = format!("source = {{ kafka = \"{from}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]");
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    kafka::says(
        &gateway,
        &format!("the topic {from}, where the records are to come from, is not there"),
    )
    .await;
    kafka::make(kafka, &from, 1).await;
    write(kafka, &from, &[review(0, Some("late"), GOOD)]);
    assert_eq!(shows(kafka, &to, 1).await[0].key(), "late");
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_inside_of_what_producers_wrapped_is_found() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "wrapped", 1).await;
    let (to, dead) = (unique("wrapped-out"), unique("wrapped-dead"));
    // base64 of {"review":{"body":"I love it."}}
    let wrapped = "eyJyZXZpZXciOnsiYm9keSI6IkkgbG92ZSBpdC4ifX0=";
    let records = [
        review(0, Some("one"), wrapped),
        review(0, Some("open"), "{\"review\":{}}"),
        // {"review":{}}
        review(0, Some("none"), "eyJyZXZpZXciOnt9fQ=="),
    ];
    write(kafka, &from, &records);
    let deliver = format!(
        "source = {{ kafka = \"{from}\", dead_letters = \"{dead}\", unwrap = [\"base64\"], text = '.review.body' }}\ndeliver = [{{ kafka = \"{to}\" }}]"
    );
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));
    let gateway = setup.serve();
    let out = shows(kafka, &to, 1).await;
    let letters = shows(kafka, &dead, 2).await;
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(out[0].json()["answers"]["mood"]["label"], "positive");
    // As they came, not as they were read.
    let values: Vec<_> = letters.iter().map(|letter| letter.value.clone()).collect();
    assert_eq!(values, [records[1].value.clone(), records[2].value.clone()]);
}
