//! A real browser for the tests: Debian's `chromium` under its `chromedriver`, headless, on a free port of loopback, with a profile of
//! its own in a temporary folder. It reaches nothing but loopback.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How long the driver may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

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
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .env("TMPDIR", profile.path())
            // The browser joins the driver's group, and ends with it even where a test fails in the middle of a session.
            .process_group(0)
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
            end(&mut child);
            panic!("chromedriver did not say its port");
        };
        Self {
            child,
            profile,
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
        end(&mut self.child);
    }
}

/// Ends the driver, and whatever it started.
fn end(driver: &mut Child) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", driver.id())])
        .stderr(Stdio::null())
        .status();
    let _ = driver.wait();
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_browser_that_was_left_in_a_session_ends_with_its_driver() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let driver = Browser::start();
        let session = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{}/session", driver.url))
            .json(&json!({ "capabilities": { "alwaysMatch": driver.capabilities() } }))
            .send()
            .await
            .unwrap();
        assert_eq!(session.status(), 200);
        // A link to HOST-PID.
        let lock = std::fs::read_link(driver.profile.path().join("SingletonLock")).unwrap();
        let pid = lock.to_str().unwrap().rsplit('-').next().unwrap();
        let process = format!("/proc/{pid}");
        assert!(Path::new(&process).exists());
        drop(driver);
        let end = std::time::Instant::now() + PATIENCE;
        while runs(&process) {
            assert!(std::time::Instant::now() < end, "the browser still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One that has ended may stand there until somebody asks for its end.
    fn runs(process: &str) -> bool {
        std::fs::read_to_string(format!("{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }
}
