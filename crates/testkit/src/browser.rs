//! A real browser for the tests: Debian's `chromium` under its `chromedriver`, headless, on a free port of loopback, with a profile of
//! its own in a temporary folder. It reaches nothing but loopback.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How long the driver may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running WebDriver server, for one session. Stopped when dropped, and its browser with it.
pub struct Browser {
    child: Child,
    profile: TempDir,
    /// `http://127.0.0.1:PORT`, for a WebDriver client.
    pub url: String,
}

impl Browser {
    /// Starts the driver.
    ///
    /// # Panics
    ///
    /// When chromium or chromedriver is not there, or does not start.
    #[must_use]
    pub fn start() -> Self {
        for (program, package) in [
            ("chromium", "chromium"),
            ("chromedriver", "chromium-driver"),
        ] {
            assert!(
                in_path(program),
                "{program} is not installed, and the console's tests need it: run make setup (Debian's package {package})"
            );
        }
        let mut child = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs");
        let stdout = child.stdout.take().expect("a pipe");
        let (found, port) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // "ChromeDriver was started successfully on port 45689."
                if let Some(port) = line.split("successfully on port ").nth(1) {
                    let _ = found.send(port.trim_end_matches('.').to_owned());
                }
            }
        });
        let Ok(port) = port.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("chromedriver did not say its port");
        };
        Self {
            child,
            profile: tempfile::tempdir().expect("a temporary folder"),
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// What to ask of the driver for a session.
    #[must_use]
    pub fn capabilities(&self) -> Map<String, Value> {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--window-size=1280,900",
            "--lang=en-GB",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", self.profile.path().display()));
        let mut capabilities = Map::new();
        capabilities.insert(
            "goog:chromeOptions".to_owned(),
            json!({ "args": arguments }),
        );
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        // A dialog that nobody asked for is a test's failure, not something to click away.
        capabilities.insert("unhandledPromptBehavior".to_owned(), json!("ignore"));
        capabilities
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser dies with its driver.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
