//! A real mail server for the tests: Debian's `python3-aiosmtpd` on a free port of loopback, with STARTTLS or TLS and sign-in where
//! wanted. It needs no root and no system service, and what it takes lies in a folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long it may take to start, and a mail to come.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct SmtpSetup {
    settings: Value,
}

/// A running mail server. Stopped when dropped.
pub struct SmtpServer {
    child: Child,
    /// Open as long as the server is to live.
    _input: ChildStdin,
    folder: TempDir,
    /// The port on 127.0.0.1.
    pub port: u16,
}

/// A mail that it took.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Who had signed in.
    pub user: Option<String>,
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// The message (RFC 5322).
    pub content: String,
}

impl SmtpSetup {
    /// A server without TLS and without sign-in.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            settings: json!({"tls": "none"}),
        }
    }

    /// A server that wants STARTTLS first; certificate chain and key are PEM files.
    #[must_use]
    pub fn starttls(cert: &Path, key: &Path) -> Self {
        Self {
            settings: json!({"tls": "starttls", "cert": cert, "key": key}),
        }
    }

    /// A server with TLS from the first byte.
    #[must_use]
    pub fn implicit(cert: &Path, key: &Path) -> Self {
        Self {
            settings: json!({"tls": "implicit", "cert": cert, "key": key}),
        }
    }

    /// Takes mail only of this user.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.settings["user"] = user.into();
        self.settings["password"] = password.into();
        self
    }

    /// Answers `MAIL`, `RCPT`, one recipient's `RCPT ann@example.com` or `DATA` by this line. `ADDRESS` in it is the recipient's.
    #[must_use]
    pub fn reply(mut self, command: &str, line: &str) -> Self {
        self.settings["replies"][command] = line.into();
        self
    }

    /// Listens on this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.settings["port"] = port.into();
        self
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not start; `python3-aiosmtpd` may be missing (`make setup`).
    #[must_use]
    pub fn start(&self) -> SmtpServer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut settings = self.settings.clone();
        settings["folder"] = folder.path().to_str().expect("a path in UTF-8").into();
        // The system's Python has the package; another one on the path need not.
        let python = ["/usr/bin/python3", "python3"]
            .into_iter()
            .find(|python| *python == "python3" || Path::new(python).exists())
            .unwrap_or("python3");
        let mut child = Command::new(python)
            .args(["-c", include_str!("smtp_server.py"), &settings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("python3 runs");
        let input = child.stdin.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line of the mail server");
        let port = line
            .trim()
            .strip_prefix("listening ")
            .and_then(|port| port.parse().ok());
        let Some(port) = port else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the mail server did not start; is python3-aiosmtpd installed (make setup)?");
        };
        SmtpServer {
            child,
            _input: input,
            folder,
            port,
        }
    }
}

impl SmtpServer {
    /// What it has taken so far, oldest first.
    ///
    /// # Panics
    ///
    /// When its folder cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.folder.path())
            .expect("the folder is read")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Mail::read(path)).collect()
    }

    /// Waits until it has taken so many.
    ///
    /// # Panics
    ///
    /// When they do not come within half a minute.
    #[must_use]
    pub fn wait_for(&self, count: usize) -> Vec<Mail> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mails = self.mails();
            if mails.len() >= count {
                return mails;
            }
            assert!(
                Instant::now() < end,
                "{} of {count} mails came",
                mails.len()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The commands that clients said, before and after TLS, a line each.
    #[must_use]
    pub fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("said.log")).unwrap_or_default();
        let commands = log.lines().filter_map(|line| line.split_once(" >> b'"));
        commands
            .map(|(_, command)| format!("{}\n", command.trim_end_matches('\'')))
            .collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mail {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a mail is read");
        let mail: Value = serde_json::from_str(&text).expect("a mail is JSON");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            from: text(&mail["from"]).unwrap_or_default(),
            to: mail["to"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
            user: text(&mail["user"]),
            encrypted: mail["encrypted"] == true,
            content: text(&mail["content"]).unwrap_or_default(),
        }
    }
}
