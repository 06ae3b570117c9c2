//! The channel `kafka` of the other patterns.

use linkspan_testkit::{KafkaCluster, Setup};
use serde_json::json;

use super::PROGRAM;
use super::kafka::{shows, topic, unique};

#[tokio::test(flavor = "multi_thread")]
async fn results_of_jobs_go_to_a_topic_and_what_no_topic_takes_is_a_dead_delivery() {
    let kafka = KafkaCluster::shared();
    let to = topic(kafka, "sent", 2).await;
    let nowhere = unique("nowhere");
    let brokers = kafka.brokers();
    let toml = format!(
        r#"
[kafka.estate]
brokers = "{brokers}"
[service.mood]
task = "sentiment"
[integration.calls]
pattern = "async"
steps = ["mood"]
deliver = [
  {{ name = "all", kafka = "{to}" }},
  {{ name = "labels", kafka = "{to}", key = '.answers.mood.label', map = '{{label: .answers.mood.label}}' }},
  {{ name = "nowhere", kafka = "{nowhere}", retry = ["1h"] }},
]
"#
    );
    let setup = Setup::new(PROGRAM, &toml);
    let key = setup.key("crm", &["invoke", "read", "admin"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let mut jobs = Vec::new();
    for text in ["I love it.", "I hate it, it is awful."] {
        let sent = client.invocation("calls").json(&json!({ "text": text }));
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        let job: serde_json::Value = answer.json().await.expect("JSON");
        jobs.push(job["id"].as_str().expect("an id").to_owned());
    }
    let seen = shows(kafka, &to, 4).await;
    assert_eq!(seen.len(), 4);
    for job in &jobs {
        let of_job: Vec<_> = seen
            .iter()
            .filter(|record| record.header("linkspan-id") == job)
            .collect();
        assert_eq!(of_job.len(), 2);
        let whole = of_job.iter().find(|record| record.key() == job);
        let whole = whole.expect("the invocation's id is the key");
        assert_eq!(whole.json()["id"], *job);
        let label = of_job.iter().find(|record| record.key() != job);
        let label = label.expect("the label is the key").json();
        assert_eq!(label.as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(label["label"], whole.json()["answers"]["mood"]["label"]);
        for record in of_job {
            assert_eq!(record.header("linkspan-integration"), "calls");
            assert_eq!(record.header("linkspan-status"), "succeeded");
            assert_eq!(record.header("content-type"), "application/json");
            assert_eq!(record.header("linkspan-delivery-id").len(), 36);
            assert_eq!(record.header("traceparent").len(), 55);
        }
    }
    super::kafka::says(&gateway, "is not there").await;
    let dead = setup
        .command(&["deliveries", "list", "--output", "json"])
        .env("LINKSPAN_URL", &gateway.url)
        .env("LINKSPAN_KEY", &key)
        .output()
        .expect("the program runs");
    let listed = String::from_utf8_lossy(&dead.stdout).into_owned();
    let of = |channel: &str, state: &str| {
        let rows = listed
            .lines()
            .map(serde_json::from_str::<serde_json::Value>);
        rows.filter_map(Result::ok)
            .filter(|row| row["channel"] == channel && row["state"] == state)
            .count()
    };
    assert_eq!(
        (of("all", "delivered"), of("labels", "delivered")),
        (2, 2),
        "{listed}"
    );
    assert_eq!(of("nowhere", "dead"), 2, "{listed}");
    assert_eq!(gateway.stop(), Some(0));
}
