//! Kafka by librdkafka.
