#!/bin/sh
# Starts two Apache Kafka clusters of one broker each, on ports of this machine and in a folder of their own, runs the demo between them,
# and stops them. Arguments go to `linkspan demo`.
set -eu

cd "$(dirname "$0")/.."
kafka=$(./tools/kafka.sh)
folder=$(mktemp -d)
brokers=""
stop() {
    trap - EXIT HUP INT TERM
    # shellcheck disable=SC2086  # a list of processes
    [ -z "$brokers" ] || kill $brokers 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' HUP INT TERM

java() { command java -XX:+UseSerialGC -Djava.awt.headless=true -Dlog4j2.level=INFO -cp "$kafka/libs/*" "$@"; }

start() { # NAME PORT
    name=$1 port=$2 controller=$(($2 + 1))
    sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER@|$controller|g" -e "s|@FOLDER@|$folder/$name|g" \
        tools/kafka.properties >"$folder/$name.properties"
    id=$(java -Xmx128m kafka.tools.StorageTool random-uuid 2>/dev/null)
    if ! java -Xmx128m kafka.tools.StorageTool format --standalone --cluster-id "$id" --config "$folder/$name.properties" >"$folder/$name.log" 2>&1; then
        cat "$folder/$name.log" >&2
        exit 1
    fi
    # Not by the function: the process number would be that of a shell around it.
    command java -Xmx512m -XX:+UseSerialGC -Djava.awt.headless=true -Dlog4j2.level=INFO -cp "$kafka/libs/*" \
        kafka.Kafka "$folder/$name.properties" >"$folder/$name.log" 2>&1 &
    brokers="$brokers $!"
    last=$!
}

ready() { # NAME PROCESS
    tries=0
    until grep -q "Kafka Server started" "$folder/$1.log"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$2" 2>/dev/null; then
            echo "the cluster $1 does not start:" >&2
            tail -n 20 "$folder/$1.log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

here=${LINKSPAN_DEMO_KAFKA_PORT:-19092}
there=$((here + 10))
echo "starting two Apache Kafka clusters: estate on 127.0.0.1:$here, cloud on 127.0.0.1:$there" >&2
start estate "$here"
estate=$last
start cloud "$there"
cloud=$last
ready estate "$estate"
ready cloud "$cloud"
"${CARGO_TARGET_DIR:-target}/release/linkspan" demo --estate "127.0.0.1:$here" --cloud "127.0.0.1:$there" "$@"
