//! Kafka as a source and as a sink, against a real Apache Kafka.

#[test]
fn starts() {
    let t = std::time::Instant::now();
    let c = linkspan_testkit::KafkaCluster::start(&[]);
    eprintln!("{:?} {}", t.elapsed(), c.brokers());
    c.kill(); c.run(); eprintln!("{:?}", t.elapsed());
    c.stop(); eprintln!("{:?}", t.elapsed());
}
