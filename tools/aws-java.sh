#!/bin/sh
# Fetches Amazon's SDK for Java 2 (Kinesis) and Groovy, which runs a script of it without a compiler, from Maven's artifacts into
# target/aws-java, once: `libs/*.jar` is a class path. Prints the folder.
set -eu

sdk=2.32.0
groovy=4.0.27

cd "$(dirname "$0")/.."
. tools/maven.sh
fetch aws-java "$sdk-$groovy" "the AWS SDK for Java $sdk" \
    "software.amazon.awssdk:kinesis:$sdk" \
    "software.amazon.awssdk:url-connection-client:$sdk" \
    "org.apache.groovy:groovy:$groovy"
