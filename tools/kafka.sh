#!/bin/sh
# Fetches Apache Kafka from Maven's artifacts into target/kafka, once: `libs/*.jar` is a class path with the broker, its tools and
# MirrorMaker. Where the artifacts come from is Maven's own affair (its settings.xml). Prints the folder.
set -eu

# The newest of which all four artifacts are there.
version=4.3.1
logging=2.25.3 # log4j-slf4j-impl: where Kafka's own messages go

cd "$(dirname "$0")/.."
folder=${CARGO_TARGET_DIR:-target}/kafka
marker=$folder/.fetched-$version

if [ -e "$marker" ]; then
    echo "$folder"
    exit 0
fi
for program in java mvn; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "there is no \`$program\` here, and Kafka needs it: run \`make setup\`, or install Java 17 (a headless JRE does) and Maven" >&2
        exit 1
    fi
done
# It tells itself as "17.0.15", and long ago as "1.8.0_402".
java=$(java -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
if [ "${java:-0}" -lt 17 ]; then
    echo "Kafka $version needs Java 17 or later, and \`java\` is ${java:-of an unknown version}: install openjdk-17-jre-headless" >&2
    exit 1
fi

# Two that fetch at once: each into a folder of its own, and the first to be ready wins.
mkdir -p "$(dirname "$folder")"
parent=$(cd "$(dirname "$folder")" && pwd)
work=$(mktemp -d "$parent/kafka.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

artifact() { # GROUP NAME VERSION
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"
}
cat >"$work/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>linkspan</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
$(artifact org.apache.kafka kafka_2.13 "$version")
$(artifact org.apache.kafka kafka-tools "$version")
$(artifact org.apache.kafka connect-runtime "$version")
$(artifact org.apache.kafka connect-mirror "$version")
$(artifact org.apache.logging.log4j log4j-slf4j-impl "$logging")
</dependencies>
</project>
XML

echo "fetching Apache Kafka $version by Maven into $folder" >&2
if ! mvn -B -q -Dstyle.color=never -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/libs" -DincludeScope=runtime >"$work/log" 2>&1; then
    echo "Maven could not fetch Kafka. It said:" >&2
    head -n 12 "$work/log" | cut -c1-1000 >&2
    exit 1
fi
for jar in "kafka_2.13-$version" "kafka-tools-$version" "connect-runtime-$version" "connect-mirror-$version"; do
    if [ ! -s "$work/libs/$jar.jar" ]; then
        echo "Maven said nothing, but $jar.jar is not among what it fetched" >&2
        exit 1
    fi
done
rm -f "$work/log"
: >"$work/.fetched-$version"
if [ ! -e "$marker" ]; then
    rm -rf "$folder"
    # A folder that another one made in this moment is as good.
    mv -T "$work" "$folder" 2>/dev/null || [ -e "$marker" ]
fi
echo "$folder"
