#!/bin/sh
# Installs what linkspan needs from the system and cargo does not bring: says what and why; uses apt where this is root or sudo asks
# for no password, else prints the one command to run. With the argument `kafka`, also what runs Apache Kafka; with `tests`, also what only
# the tests need: servers and a browser.
set -eu

if ! command -v cargo >/dev/null 2>&1; then
    echo "linkspan is built with Rust 1.95 or later and there is no cargo here: install it from https://rustup.rs" >&2
    exit 1
fi

missing=""
need() { # PACKAGE WHY TEST…
    package=$1 why=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        echo "missing: $package ($why)"
        missing="$missing $package"
    fi
}

library() { ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1"; }
data() {
    for folder in "${TESSDATA_PREFIX:-/usr/share/tesseract-ocr/5/tessdata}" /usr/share/tesseract-ocr/*/tessdata /usr/share/tessdata; do
        [ -f "$folder/$1.traineddata" ] && return 0
    done
    return 1
}

pooler() { command -v pgbouncer || test -x /usr/sbin/pgbouncer; }
postgres_server() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; }

# Java tells itself as "17.0.15", and long ago as "1.8.0_402".
java_17() { [ "$(java -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)" -ge 17 ]; }

need gcc "compiles SQLite and ring into the program" command -v cc
need libc6-dev "compiles SQLite and ring into the program" test -f /usr/include/stdio.h
need cmake "builds librdkafka, the Kafka client, into the program" command -v cmake
need g++ "builds librdkafka, the Kafka client, into the program" command -v c++
need make "builds librdkafka, the Kafka client, into the program" command -v make
need perl "builds OpenSSL for the Kafka client" command -v perl
need libtesseract5 "reads text from pictures" library libtesseract.so
need tesseract-ocr-eng "English for the OCR" data eng
need tesseract-ocr-osd "finds how a scan is turned" data osd
if [ -n "${1:-}" ]; then
    need default-jre-headless "runs Apache Kafka" java_17
    need maven "fetches that Kafka (tools/kafka.sh)" command -v mvn
fi
if [ "${1:-}" = tests ]; then
    need chromium "the browser of the console's tests" command -v chromium
    need chromium-driver "drives that browser" command -v chromedriver
    need python3-aiosmtpd "the mail server of the tests" /usr/bin/python3 -c "import aiosmtpd"
    need python3-boto3 "the tests' client of the Kinesis API" /usr/bin/python3 -c "import boto3"
    need postgresql "the server that the tests start for themselves" postgres_server
    need pgbouncer "the pooler of the tests" pooler
fi

[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "this is no Debian; install the equivalents of:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "run this once, then the same command again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# The tests start servers of their own: the package need not make one for the whole machine, and start it.
clusters=/etc/postgresql-common/createcluster.conf
case $missing in *postgresql*)
    if [ ! -e "$clusters" ]; then
        $as_root mkdir -p "${clusters%/*}"
        echo "create_main_cluster = false" | $as_root tee "$clusters" >/dev/null
    fi
    ;;
esac
# shellcheck disable=SC2086  # a list of packages
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
