//! A real Apache Kafka of the tests' own: one process in KRaft mode that is broker and controller, on free ports of loopback, in a
//! private folder.
//!
//! It ends with the process that started it, however that ends: a small shell stands between, and stops the broker when its standard
//! input is closed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports;

/// How long the broker may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the broker writes when it takes requests.
const READY: &str = "Kafka Server started";

/// A broker's properties, without its ports and its folder.
const PROPERTIES: &str = include_str!("../../../tools/kafka.properties");

/// Starts the broker, and tells its process number. Stops it when nobody holds this shell's standard input any more: with SIGKILL, for
/// nobody is left to see how it ends; with SIGTERM after the word `stop`. Its folder goes too, unless the last word says otherwise.
const WATCHED: &str = r#"
folder=$1
shift
trap : HUP INT TERM
"$@" </dev/null 3>&- &
broker=$!
echo "$broker" >&3
exec 3>&-
last=gone
while read -r word; do last=$word; done
case $last in
    stop) kill -TERM $broker 2>/dev/null ;;
    *) kill -KILL $broker 2>/dev/null ;;
esac
wait $broker 2>/dev/null
[ "$last" != gone ] || rm -rf "$folder"
"#;

/// A cluster of one broker. Stopped when dropped.
pub struct KafkaCluster {
    folder: TempDir,
    port: u16,
    controller: u16,
    shell: Mutex<Option<Running>>,
}

/// The shell that stands between, and the broker's process.
struct Running {
    shell: Child,
    broker: u32,
}

impl KafkaCluster {
    /// The cluster that the tests of one process share. It is stopped when the process ends. A test uses topics and groups of its own
    /// in it, and never stops it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<KafkaCluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// The [shared](Self::shared) cluster and another one, shared too.
    ///
    /// # Panics
    ///
    /// When they cannot be started.
    #[must_use]
    pub fn shared_pair() -> (&'static Self, &'static Self) {
        static OTHER: OnceLock<KafkaCluster> = OnceLock::new();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| OTHER.get_or_init(|| Self::start(&[])));
            (
                Self::shared(),
                other.join().expect("the second cluster starts"),
            )
        })
    }

    /// A cluster of its own, with properties of the broker such as `transaction.max.timeout.ms=10000`.
    ///
    /// # Panics
    ///
    /// When it cannot be started: there is no Java or no Maven, or Maven cannot fetch Kafka.
    #[must_use]
    pub fn start(properties: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("linkspan-kafka-")
            .tempdir()
            .expect("a temporary folder");
        let [port, controller] = ports::free();
        let cluster = Self {
            folder,
            port,
            controller,
            shell: Mutex::new(None),
        };
        cluster.write_properties(properties);
        let made = java("-Xmx128m")
            .args(["kafka.tools.StorageTool", "format", "--standalone"])
            .args(["--cluster-id", &cluster_id(port)])
            .arg("--config")
            .arg(cluster.properties())
            .output()
            .expect("java runs");
        assert!(
            made.status.success(),
            "the storage was not formatted: {}{}",
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        cluster.run();
        cluster
    }

    /// The broker's address: `127.0.0.1:PORT`.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the broker again, on the same ports and data.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn run(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "the broker runs already");
        let log = self.folder.path().join("log");
        let file = std::fs::File::create(&log).expect("a log file");
        let java = java("-Xmx512m");
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec 3>&1 >&2; eval \"$0\"", WATCHED])
            .arg(self.folder.path())
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.properties())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file);
        let mut shell = command.spawn().expect("the shell runs");
        let mut said = String::new();
        let stdout = shell.stdout.take().expect("a pipe");
        let _ = BufReader::new(stdout).read_line(&mut said);
        let broker = said.trim().parse().expect("the broker's process number");
        *running = Some(Running { shell, broker });
        drop(running);
        let end = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains(READY) {
                break;
            }
            assert!(
                Instant::now() < end && alive(broker),
                "the broker did not start: {text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the broker as its operator would, with SIGTERM.
    ///
    /// # Panics
    ///
    /// When it does not stop.
    pub fn stop(&self) {
        self.end(b"stop\n");
    }

    /// Kills the broker with SIGKILL: nothing of it is written, closed or told any more.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(&self) {
        self.end(b"kill\n");
    }

    /// Kills the broker and removes its folder: the end of a cluster that nobody drops.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn remove(&self) {
        self.end(b"");
    }

    /// The broker's process number, to measure or to pause it.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.running().as_ref().expect("the broker runs").broker
    }

    fn end(&self, word: &[u8]) {
        let Some(mut running) = self.running().take() else {
            return;
        };
        if let Some(mut stdin) = running.shell.stdin.take() {
            let _ = stdin.write_all(word);
        }
        let end = Instant::now() + PATIENCE;
        while running
            .shell
            .try_wait()
            .expect("the shell can be waited for")
            .is_none()
        {
            assert!(Instant::now() < end, "the broker did not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn write_properties(&self, more: &[&str]) {
        let data = self.folder.path().join("data");
        let mut text = PROPERTIES
            .replace("@PORT@", &self.port.to_string())
            .replace("@CONTROLLER@", &self.controller.to_string())
            .replace("@FOLDER@", &data.display().to_string());
        for property in more {
            text.push_str(property);
            text.push('\n');
        }
        std::fs::write(self.properties(), text).expect("the properties are written");
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Java with Kafka's libraries and that much memory (`-Xmx512m`): the class of one of Kafka's programs comes next, such as
/// `org.apache.kafka.connect.mirror.MirrorMaker`.
///
/// # Panics
///
/// When Kafka cannot be fetched.
#[must_use]
pub fn java(memory: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args([memory, "-XX:+UseSerialGC"])
        .args(["-Djava.awt.headless=true", "-Dlog4j2.level=INFO", "-cp"])
        .arg(libraries().join("*"));
    command
}

/// Kafka's own libraries, fetched where they are not there yet.
fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().expect("the project's folder");
        let output = Command::new(root.join("tools/kafka.sh"))
            .output()
            .expect("tools/kafka.sh runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        root.join(folder).join("libs")
    })
}

/// Kafka's ids are sixteen bytes in base64; clusters that live at the same time have different ones.
fn cluster_id(port: u16) -> String {
    format!(
        "linkspan-{:013}",
        u64::from(std::process::id()) * 65_536 + u64::from(port)
    )
}

fn alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}
