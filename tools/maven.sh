# shellcheck shell=sh
# Java libraries by Maven, for scripts that source this from the project's folder. Where the artifacts come from is Maven's own affair
# (its settings.xml).

# fetch NAME MARK WHAT GROUP:ARTIFACT:VERSION...
# Fetches the artifacts, and all that they need, into target/NAME, once: `libs/*.jar` is a class path. MARK tells these versions from
# others, WHAT is their name for people. Prints the folder. It runs in a shell of its own, so that its variables and traps are its own.
fetch() (
    name=$1 mark=$2 what=$3
    shift 3
    folder=${CARGO_TARGET_DIR:-target}/$name
    marker=$folder/.fetched-$mark
    if [ -e "$marker" ]; then
        echo "$folder"
        exit 0
    fi
    for program in java mvn; do
        if ! command -v "$program" >/dev/null 2>&1; then
            echo "there is no \`$program\` here, and $what needs it: run \`make setup\`, or install Java 17 (a headless JRE does) and Maven" >&2
            exit 1
        fi
    done
    # It tells itself as "17.0.15", and long ago as "1.8.0_402".
    java=$(java -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
    if [ "${java:-0}" -lt 17 ]; then
        echo "$what needs Java 17 or later, and \`java\` is ${java:-of an unknown version}: install openjdk-17-jre-headless" >&2
        exit 1
    fi

    # Two that fetch at once: each into a folder of its own, and the first to be ready wins.
    mkdir -p "$(dirname "$folder")"
    parent=$(cd "$(dirname "$folder")" && pwd)
    work=$(mktemp -d "$parent/$name.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0">'
        echo '<modelVersion>4.0.0</modelVersion>'
        echo "<groupId>linkspan</groupId><artifactId>$name</artifactId><version>1</version><packaging>pom</packaging>"
        echo '<dependencies>'
        for artifact; do
            rest=${artifact#*:}
            echo "<dependency><groupId>${artifact%%:*}</groupId><artifactId>${rest%%:*}</artifactId><version>${rest#*:}</version></dependency>"
        done
        echo '</dependencies>'
        echo '</project>'
    } >"$work/pom.xml"

    echo "fetching $what by Maven into $folder" >&2
    if ! mvn -B -q -Dstyle.color=never -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/libs" -DincludeScope=runtime >"$work/log" 2>&1; then
        echo "Maven could not fetch $what. It said:" >&2
        head -n 12 "$work/log" | cut -c1-1000 >&2
        exit 1
    fi
    for artifact; do
        rest=${artifact#*:}
        jar=${rest%%:*}-${rest#*:}.jar
        if [ ! -s "$work/libs/$jar" ]; then
            echo "Maven said nothing, but $jar is not among what it fetched" >&2
            exit 1
        fi
    done
    rm -f "$work/log"
    : >"$work/.fetched-$mark"
    if [ ! -e "$marker" ]; then
        rm -rf "$folder"
        # A folder that another one made in this moment is as good.
        mv -T "$work" "$folder" 2>/dev/null || [ -e "$marker" ]
    fi
    echo "$folder"
)
