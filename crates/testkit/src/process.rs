//! A gateway as its users run it: the program, a configuration file and a folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;

/// How long a gateway may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(180);

/// A folder with a configuration, and the program.
pub struct Setup {
    program: PathBuf,
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// A running gateway. Killed when dropped.
pub struct Gateway {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Setup {
    /// A folder with `linkspan.toml`; `program` is the binary under test. The gateway listens on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When the folder cannot be made.
    #[must_use]
    pub fn new(program: &str, toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let setup = Self {
            program: program.into(),
            folder,
            env: Vec::new(),
        };
        setup.configure(toml);
        setup
    }

    /// Writes the configuration anew; for the next start.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn configure(&self, toml: &str) {
        std::fs::write(self.folder.path().join("linkspan.toml"), toml)
            .expect("the configuration is written");
    }

    /// Sets a variable for the programs started from here.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the program in this folder.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("LINKSPAN_LOG")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Makes a key on the command line.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn key(&self, name: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["keys", "add", name];
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        let output = self.command(&arguments).output().expect("the program runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts the gateway and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it ends or says nothing for some minutes; its log is shown.
    #[must_use]
    pub fn serve(&self) -> Gateway {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let stderr = child.stderr.take().expect("a pipe");
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = line.split("listening on ").nth(1) {
                    let end = address.find(['"', ' ']).unwrap_or(address.len());
                    let _ = found.send(address[..end].to_owned());
                }
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(url) => Gateway { child, url, log },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "the gateway did not start:\n{}",
                    log.lock().unwrap_or_else(PoisonError::into_inner)
                );
            }
        }
    }
}

impl Gateway {
    /// A client with a key.
    #[must_use]
    pub fn client(&self, key: &str) -> Client {
        Client::new(&self.url, key)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is drained, nothing is flushed.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal: `TERM`, `INT`, `STOP`, …
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// SIGTERM, and waits for the end; gives the exit code.
    ///
    /// # Panics
    ///
    /// When it does not end within some minutes.
    pub fn stop(self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end; gives the exit code.
    ///
    /// # Panics
    ///
    /// When it does not end within some minutes.
    pub fn wait(mut self) -> Option<i32> {
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the gateway did not stop:\n{}", self.log());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
