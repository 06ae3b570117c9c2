#!/bin/sh
# Fetches Amazon's SDK for Java 2 (Kinesis) and Groovy, which runs a script of it without a compiler, from Maven's artifacts into
# target/aws-java, once: `libs/*.jar` is a class path. Where the artifacts come from is Maven's own affair. Prints the folder.
set -eu

sdk=2.32.0
groovy=4.0.27

cd "$(dirname "$0")/.."
folder=${CARGO_TARGET_DIR:-target}/aws-java
marker=$folder/.fetched-$sdk-$groovy

if [ -e "$marker" ]; then
    echo "$folder"
    exit 0
fi
for program in java mvn; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "there is no \`$program\` here: run \`make setup\`, or install Java 17 (a headless JRE does) and Maven" >&2
        exit 1
    fi
done

# Two that fetch at once: each into a folder of its own, and the first to be ready wins.
mkdir -p "$(dirname "$folder")"
parent=$(cd "$(dirname "$folder")" && pwd)
work=$(mktemp -d "$parent/aws-java.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

artifact() { # GROUP NAME VERSION
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"
}
cat >"$work/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>linkspan</groupId><artifactId>aws-java</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
$(artifact software.amazon.awssdk kinesis "$sdk")
$(artifact software.amazon.awssdk url-connection-client "$sdk")
$(artifact org.apache.groovy groovy "$groovy")
</dependencies>
</project>
XML

echo "fetching the AWS SDK for Java $sdk by Maven into $folder" >&2
if ! mvn -B -q -Dstyle.color=never -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/libs" -DincludeScope=runtime >"$work/log" 2>&1; then
    echo "Maven could not fetch it. It said:" >&2
    head -n 12 "$work/log" | cut -c1-1000 >&2
    exit 1
fi
for jar in "kinesis-$sdk" "url-connection-client-$sdk" "groovy-$groovy"; do
    if [ ! -s "$work/libs/$jar.jar" ]; then
        echo "Maven said nothing, but $jar.jar is not among what it fetched" >&2
        exit 1
    fi
done
rm -f "$work/log"
: >"$work/.fetched-$sdk-$groovy"
if [ ! -e "$marker" ]; then
    rm -rf "$folder"
    # A folder that another one made in this moment is as good.
    mv -T "$work" "$folder" 2>/dev/null || [ -e "$marker" ]
fi
echo "$folder"
