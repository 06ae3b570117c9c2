//! Sources, clusters, channels of streams, replications.

use super::parse;
use crate::config::stream::{Order, Start, Stream, Wrapping};
use crate::config::{Config, Faults};

/// A file with two clusters and an integration of that pattern with those keys.
fn stream(pattern: &str, keys: &str) -> Result<Config, Faults> {
    parse(&format!(
        "kafka.here.brokers = \"a:9092\"\nkafka.there.brokers = \"b:9092\"\n\
         service.mood.task = \"sentiment\"\n[integration.it]\npattern = \"{pattern}\"\nsteps = [\"mood\"]\n{keys}"
    ))
}

#[test]
fn a_source_is_one_of_its_forms_with_what_all_of_them_have() {
    let config = stream(
        "stream-in",
        "source = { kafka = \"in\", cluster = \"here\", order = \"key\", unwrap = [\"base64\", \"gzip\"], start = \"latest\" }",
    )
    .unwrap();
    let source = config.integrations["it"].source.clone().unwrap();
    assert_eq!(
        (source.common.order, source.common.start),
        (Order::Key, Start::Latest)
    );
    assert_eq!(source.common.unwrap, [Wrapping::Base64, Wrapping::Gzip]);
    let Stream::KafkaSource(kafka) = source.stream else {
        panic!("{source:?}");
    };
    assert_eq!(kafka.kafka.as_str(), "in");
}

#[test]
fn the_pattern_changes_alone() {
    let keys = "source = { kafka = \"in\", cluster = \"here\" }\ndeliver = [{ kafka = \"out\", cluster = \"here\" }]\n";
    for pattern in ["sync", "async", "stream-in", "full-stream"] {
        stream(pattern, keys).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_stream_is_named() {
    let at = "linkspan.toml:7: integration.it.";
    for (pattern, keys, fault) in [
        (
            "full-stream",
            "deliver = [{ kafka = \"out\", cluster = \"here\" }]",
            "linkspan.toml:5: integration.it.pattern: \"full-stream\" reads records: say where from, such as source = { kafka = \"TOPIC\" }"
                .to_owned(),
        ),
        (
            "stream-in",
            "source = { kafka = \"in\", kinesis = \"in\" }",
            format!("{at}source: names 2 sources (kafka, kinesis); give one"),
        ),
        (
            "stream-in",
            "source = { kafak = \"in\" }",
            format!("{at}source.kafak: unknown key; did you mean \"kafka\"?"),
        ),
        (
            "stream-in",
            "source = { kafka = \"in\" }",
            format!("{at}source: there are several Kafka clusters: name one in cluster"),
        ),
        (
            "stream-in",
            "source = { kafka = \"in\", cluster = \"hree\" }",
            format!("{at}source.cluster: there is no Kafka cluster \"hree\"; did you mean \"here\"?"),
        ),
        (
            "stream-in",
            "source = { kinesis = \"a b\" }",
            format!(
                "{at}source.kinesis: \"a b\" is not the name of a stream: 1 to 128 letters, digits, \".\", \"_\" and \"-\""
            ),
        ),
        (
            "stream-in",
            "source = { kinesis = \"in\", aws = { region = \"eu-west-1\", endpoint = \"http://kinesis.example.com\" } }",
            format!(
                "{at}source.aws.endpoint: records would go there unencrypted: use https, or an address of this machine"
            ),
        ),
        (
            "full-stream",
            "source = { kafka = \"in\", cluster = \"here\" }",
            "linkspan.toml:4: integration.it.deliver: \"full-stream\" writes its results to Kafka topics: add deliver = [{ kafka = \"TOPIC\" }]"
                .to_owned(),
        ),
        (
            "full-stream",
            "source = { kafka = \"in\", cluster = \"here\" }\ndeliver = [{ kafka = \"out\" }, { file = \"out\" }]",
            "linkspan.toml:8: integration.it.deliver[1]: a file cannot be part of a Kafka transaction: use pattern = \"stream-in\", or read \
             the output topic by another integration"
                .to_owned(),
        ),
        (
            "full-stream",
            "source = { kafka = \"in\", cluster = \"here\" }\ndeliver = [{ kafka = \"out\", cluster = \"there\" }]",
            "linkspan.toml:8: integration.it.deliver[0].cluster: the records come from the cluster \"here\", and one transaction cannot \
             span two clusters: deliver to a topic of \"here\" and copy it by [replicate.NAME], or use pattern = \"stream-in\""
                .to_owned(),
        ),
        (
            "full-stream",
            "source = { kinesis = \"in\" }\ndeliver = [{ kafka = \"out\", cluster = \"there\" }]",
            format!(
                "{at}source: results and progress are one Kafka transaction with \"full-stream\": read a Kafka topic, or use pattern = \
                 \"stream-in\""
            ),
        ),
        (
            "full-stream",
            "source = { kafka = \"in\", cluster = \"here\" }\ndeliver = [{ kafka = \"out\", name = \"first\" }, { kafka = \"in\", name = \"again\" }]",
            "linkspan.toml:8: integration.it.deliver[1].kafka: the records come from this topic: the integration would read its own \
             results again, for ever"
                .to_owned(),
        ),
        (
            "stream-in",
            "source = { kafka = \"in\", cluster = \"here\" }\ndeliver = [{ kafka = \"in\", cluster = \"here\" }]",
            "linkspan.toml:8: integration.it.deliver[0].kafka: the records come from this topic: the integration would read its own \
             results again, for ever"
                .to_owned(),
        ),
        (
            "full-stream",
            "source = { kafka = \"in\", cluster = \"here\", dead_letters = \"in\", unwrap = [\"gzip\", \"kpl\"] }\ndeliver = [{ kafka = \"out\" }]",
            format!(
                "{at}source.dead_letters: the records come from this topic: the integration would read its own dead letters again, for ever\n\
                 {at}source.unwrap: \"kpl\" makes several records of one, and with \"full-stream\" each record is one result or one dead \
                 letter: use pattern = \"stream-in\""
            ),
        ),
        (
            "stream-in",
            "source = { kinesis = \"in\" }\n[replicate.both]\nfrom = \"here\"\nto = \"here\"\ntopics = [\"!a\"]\nprefix = \"a b\"",
            "linkspan.toml:10: replicate.both.to: a cluster is not copied to itself: name another one\n\
             linkspan.toml:11: replicate.both.topics: names no topic to copy: [\"*\"] copies all\n\
             linkspan.toml:12: replicate.both.prefix: is part of topics' names: use up to 100 letters, digits, \".\", \"_\" and \"-\""
                .to_owned(),
        ),
        (
            "stream-in",
            "source = { kinesis = \"in\" }\n[streams]\nenabled = false",
            format!(
                "{at}source.kinesis: the gateway's own streams are off (streams.enabled): say in aws where Amazon's are"
            ),
        ),
    ] {
        let found = stream(pattern, keys).unwrap_err().to_string();
        assert_eq!(found, fault, "{keys}");
    }
}

#[test]
fn an_own_stream_of_several_gateways_is_worth_a_look() {
    let config = stream(
        "stream-in",
        "source = { kinesis = \"in\" }\n[store]\njobs = \"postgres://db/linkspan\"\nblobs = \"s3://bucket\"\n",
    )
    .unwrap();
    let warnings: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["kafka.here", "kafka.there", "integration.it.source"]
    );
}
