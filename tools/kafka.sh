#!/bin/sh
# Fetches Apache Kafka from Maven's artifacts into target/kafka, once: `libs/*.jar` is a class path with the broker, its tools and
# MirrorMaker. Prints the folder.
set -eu

# The newest of which all four artifacts are there.
version=4.3.1
logging=2.25.3 # log4j-slf4j-impl: where Kafka's own messages go

cd "$(dirname "$0")/.."
. tools/maven.sh
fetch kafka "$version" "Apache Kafka $version" \
    "org.apache.kafka:kafka_2.13:$version" \
    "org.apache.kafka:kafka-tools:$version" \
    "org.apache.kafka:connect-runtime:$version" \
    "org.apache.kafka:connect-mirror:$version" \
    "org.apache.logging.log4j:log4j-slf4j-impl:$logging"
