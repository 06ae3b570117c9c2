//! kinesalite (Node.js) and moto (Python), two servers that speak Kinesis, and boto3, the client: installed beside the build with their
//! pinned versions.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::programs::{self, said};

const NODE: [(&str, &str); 2] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
];
const PYTHON: [(&str, &str); 2] = [
    ("requirements.txt", include_str!("requirements.txt")),
    ("put.py", include_str!("put.py")),
];

/// How long an installation may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server that is measured beside ours. Killed when dropped.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    _process: Child,
}

/// The Python with boto3 and moto.
pub(crate) struct Python(PathBuf);

impl Peer {
    /// kinesalite, its streams in memory.
    pub(crate) async fn kinesalite() -> Result<Self, String> {
        let folder = programs::folder("kinesalite");
        let lock = NODE[1].1;
        programs::write(&folder, &NODE)?;
        if !programs::is_installed(&folder, lock) {
            eprintln!("installing kinesalite by npm");
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
            said(npm.current_dir(&folder), PATIENCE).await?;
            programs::installed(&folder, lock)?;
        }
        let port = free_port()?;
        let mut node = Command::new("node");
        node.arg("node_modules/kinesalite/cli.js")
            .args(["--port", &port.to_string(), "--shardLimit", "100"])
            .args(["--createStreamMs", "0"])
            .current_dir(&folder);
        Self::start("kinesalite 3.3.3 (in memory)", port, node)
    }

    /// moto's server, its streams in memory.
    pub(crate) async fn moto(python: &Python) -> Result<Self, String> {
        let port = free_port()?;
        let mut moto = Command::new(python.0.join("venv/bin/moto_server"));
        moto.args(["-p", &port.to_string()]);
        Self::start("moto 5.2.5 (in memory)", port, moto)
    }

    fn start(name: &str, port: u16, mut command: Command) -> Result<Self, String> {
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            endpoint: format!("http://127.0.0.1:{port}"),
            _process: process,
        })
    }
}

impl Python {
    /// Installs boto3 and moto, where they are not.
    pub(crate) async fn set_up() -> Result<Self, String> {
        let folder = programs::folder("kinesis-python");
        let lock = PYTHON[0].1;
        programs::write(&folder, &PYTHON)?;
        if !programs::is_installed(&folder, lock) {
            eprintln!("installing boto3 and moto by pip");
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv", "venv"]).current_dir(&folder);
            said(&mut venv, PATIENCE).await?;
            let mut pip = Command::new("venv/bin/pip");
            pip.args(["install", "--quiet", "-r", "requirements.txt"])
                .current_dir(&folder);
            said(&mut pip, PATIENCE).await?;
            programs::installed(&folder, lock)?;
        }
        Ok(Self(folder))
    }

    /// One boto3 client that puts for so long; the records a second.
    pub(crate) async fn put(
        &self,
        endpoint: &str,
        stream: &str,
        key: (&str, &str),
        time: Duration,
    ) -> Result<f64, String> {
        let mut python = Command::new(self.0.join("venv/bin/python"));
        python
            .current_dir(&self.0)
            .args(["put.py", endpoint, stream])
            .arg(time.as_secs_f64().to_string())
            .env("AWS_ACCESS_KEY_ID", key.0)
            .env("AWS_SECRET_ACCESS_KEY", key.1);
        let said = said(&mut python, PATIENCE).await?;
        let said: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let number = |key: &str| said[key].as_f64().ok_or(format!("no {key}"));
        Ok(number("records")? / number("seconds")?)
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.port())
}
