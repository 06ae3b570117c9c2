//! A real PostgreSQL server of the tests' own: a private folder, a free port of loopback, an unprivileged user, `fsync = on`.
//!
//! It ends with the process that started it, however that ends: a small shell stands between, and stops the server when its standard
//! input is closed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the server, and stops it when nobody holds this shell's standard input any more. Its folder goes too, unless a last word
/// says that it is to be kept.
const WATCHED: &str = r#"
folder=$1
shift
"$@" >&2 </dev/null &
server=$!
echo started
while read -r word; do last=$word; done
kill -INT $server 2>/dev/null
wait $server
[ "$last" = keep ] || rm -rf "$folder"
"#;

/// A server. Stopped when dropped.
pub struct PostgresServer {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    shell: Mutex<Option<Child>>,
}

impl PostgresServer {
    /// The server that the tests of one process share. It is stopped when the process ends.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A server of its own, with settings such as `fsync=off`.
    ///
    /// # Panics
    ///
    /// When it cannot be started: PostgreSQL is not installed, say.
    #[must_use]
    pub fn start(settings: &[&str]) -> Self {
        let binaries = binaries();
        let folder = tempfile::Builder::new()
            .prefix("linkspan-postgres-")
            .tempdir()
            .expect("a temporary folder");
        if is_root() {
            let owned = Command::new("chown")
                .arg("nobody")
                .arg(folder.path())
                .status();
            assert!(
                owned.is_ok_and(|status| status.success()),
                "the folder gets its user"
            );
        }
        let [port] = crate::ports::free();
        let server = Self {
            binaries,
            folder,
            port,
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            shell: Mutex::new(None),
        };
        let made = server
            .command("initdb")
            .args([
                "-D",
                &server.data(),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .output()
            .expect("initdb runs");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.run();
        server
    }

    /// The address of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database, and gives its address.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("d{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs statements in a database, and gives what they print: a line a row, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// When one fails.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = self
            .command("psql")
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url(database),
                "-c",
                statements,
            ])
            .output()
            .expect("psql runs");
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Stops the server, as at once as `pg_ctl stop -m fast`.
    ///
    /// # Panics
    ///
    /// When it does not stop.
    pub fn stop(&self) {
        let shell = self
            .shell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut shell) = shell {
            if let Some(mut stdin) = shell.stdin.take() {
                let _ = stdin.write_all(b"keep\n");
            }
            let end = Instant::now() + PATIENCE;
            while shell
                .try_wait()
                .expect("the shell can be waited for")
                .is_none()
            {
                assert!(Instant::now() < end, "the server did not stop");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Starts the server again, on the same port and data.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn run(&self) {
        let mut command = self.command_of(&["sh", "-c", WATCHED, "sh"]);
        command.arg(self.folder.path());
        command.arg(self.binaries.join("postgres"));
        command.args(["-D", &self.data(), "-k", &self.data(), "-h", "127.0.0.1"]);
        command.args(["-p", &self.port.to_string()]);
        for setting in [
            "fsync=on",
            "max_connections=300",
            "shared_buffers=64MB",
            "log_statement=none",
        ] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        let mut shell = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the shell runs");
        let mut said = String::new();
        let stdout = shell.stdout.take().expect("a pipe");
        let _ = BufReader::new(stdout).read_line(&mut said);
        let end = Instant::now() + PATIENCE;
        loop {
            let ready = self
                .command("pg_isready")
                .args(["-q", "-d", &self.url("postgres")])
                .status()
                .expect("pg_isready runs");
            if ready.success() {
                break;
            }
            assert!(
                Instant::now() < end,
                "the server did not start: {}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        *self.shell.lock().unwrap_or_else(PoisonError::into_inner) = Some(shell);
    }

    fn data(&self) -> String {
        self.folder
            .path()
            .join("data")
            .to_string_lossy()
            .into_owned()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        self.command_of(&[&program.to_string_lossy()])
    }

    /// A command as an unprivileged user: the server refuses root.
    fn command_of(&self, words: &[&str]) -> Command {
        let mut words = words.to_vec();
        if is_root() {
            words.splice(
                ..0,
                [
                    "setpriv",
                    "--reuid=nobody",
                    "--regid=nogroup",
                    "--clear-groups",
                ],
            );
        }
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .env_remove("PGOPTIONS");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the server's programs are: Debian keeps them out of the path.
fn binaries() -> PathBuf {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    // The latest version first.
    folders.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name);
        let version = version.and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").is_file())
        .unwrap_or_else(|| {
            panic!("there is no PostgreSQL server on this machine: run `make setup`")
        })
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
