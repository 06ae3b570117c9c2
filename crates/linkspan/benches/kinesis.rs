//! Records a second into the Kinesis face, beside two other servers that speak Kinesis: `cargo bench -p linkspan --bench kinesis`.
//!
//! Every load is `PutRecords` of 500 records of 1 KiB (where not said otherwise) into a stream of four shards, on the same machine, one
//! server after the other: by one boto3 client, and by a Rust client with one or eight calls at once, in JSON and in CBOR. Ours answers
//! when the records are on the disk; the others keep them in memory. Good as ratios on one machine, not as promises. `ONLY` names a part
//! of the loads' names: `ONLY=JSON`.

mod kinesis_peers;
mod programs;
mod table;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use kinesis_peers::{Peer, Python};
use linkspan_testkit::Setup;
use serde_json::{Value, json};
use table::{Table, load_average, median};

const STREAM: &str = "bench";
const SHARDS: u32 = 4;
const RECORDS: usize = 500;
const SIZE: usize = 1024;

/// How long each load lasts, and how often it is put; medians are shown.
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// How long a server may take to answer first.
const START: Duration = Duration::from_secs(60);

/// The form of a body.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Json,
    Cbor,
}

/// A load.
#[derive(Clone, Copy)]
enum Load {
    Boto3,
    /// So many calls at once, of so many records each.
    Rust(Form, usize, usize),
}

/// kinesalite cuts a CBOR answer off at 16 KiB, so that it can be compared with calls of fewer records only.
const FEWER: usize = 100;

const LOADS: [(&str, Load); 6] = [
    ("one boto3 client", Load::Boto3),
    ("one Rust client, JSON", Load::Rust(Form::Json, 1, RECORDS)),
    ("one Rust client, CBOR", Load::Rust(Form::Cbor, 1, RECORDS)),
    (
        "a Rust client, eight calls at once, JSON",
        Load::Rust(Form::Json, 8, RECORDS),
    ),
    (
        "a Rust client, eight calls at once, CBOR",
        Load::Rust(Form::Cbor, 8, RECORDS),
    ),
    (
        "a Rust client, eight calls of 100 records at once, CBOR",
        Load::Rust(Form::Cbor, 8, FEWER),
    ),
];

/// A server, as a client sees it.
struct Server {
    name: String,
    endpoint: String,
    key: (String, String),
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(Box::pin(compare()))
}

async fn compare() -> Result<(), Box<dyn Error>> {
    println!(
        "PutRecords of {RECORDS} records of {SIZE} bytes into {SHARDS} shards; {}",
        load_average()
    );
    let toml = "[streams]\nenabled = true\n";
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), toml);
    let made = setup
        .command(&["keys", "add", "bench", "--sigv4", "--output", "json"])
        .args(["--scope", "invoke", "--scope", "read", "--scope", "admin"])
        .output()?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let member = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let gateway = setup.serve();
    let python = Python::set_up().await?;
    let mut servers = vec![Server {
        name: "linkspan (on the disk)".to_owned(),
        endpoint: gateway.url.clone(),
        key: (member("access_key_id"), member("secret_access_key")),
    }];
    let peers = [Peer::kinesalite().await, Peer::moto(&python).await];
    for peer in &peers {
        match peer {
            Ok(peer) => servers.push(Server {
                name: peer.name.clone(),
                endpoint: peer.endpoint.clone(),
                key: ("akid".to_owned(), "secret".to_owned()),
            }),
            Err(error) => println!("left out: {error}"),
        }
    }
    for server in &servers {
        server.make_stream().await?;
    }
    let mut head = vec!["records/s"];
    head.extend(servers.iter().map(|server| server.name.as_str()));
    head.push("ours to the best of the others");
    let mut table = Table::new(&head);
    let only = std::env::var("ONLY").unwrap_or_default();
    for (name, load) in LOADS.into_iter().filter(|(name, _)| name.contains(&only)) {
        let mut rates = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, rates) in servers.iter().zip(&mut rates) {
                match Box::pin(server.put(load, &python)).await {
                    Ok(rate) => rates.push(rate),
                    Err(error) => {
                        let line = error.lines().next().unwrap_or_default();
                        eprintln!("{}, {name}: {line}", server.name);
                    }
                }
            }
        }
        let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
        let best = medians.iter().skip(1).copied().fold(0.0, f64::max);
        let mut row = vec![name.to_owned()];
        row.extend(medians.iter().map(|rate| {
            if *rate > 0.0 {
                format!("{rate:.0}")
            } else {
                "—".to_owned()
            }
        }));
        row.push(if best > 0.0 {
            format!("{:.1}", medians[0] / best)
        } else {
            "—".to_owned()
        });
        table.row(row);
    }
    table.print();
    gateway.kill();
    Ok(())
}

impl Server {
    /// Makes the stream, as soon as the server answers.
    async fn make_stream(&self) -> Result<(), String> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let body = json!({ "StreamName": STREAM, "ShardCount": SHARDS }).to_string();
        let end = Instant::now() + START;
        loop {
            let made = self
                .call(
                    &client,
                    "CreateStream",
                    Form::Json,
                    body.clone().into_bytes(),
                )
                .await;
            match made {
                Ok(_) => break,
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        let body = json!({ "StreamName": STREAM }).to_string();
        while Instant::now() < end {
            let body = body.clone().into_bytes();
            let said = self
                .call(&client, "DescribeStreamSummary", Form::Json, body)
                .await?;
            let said: Value = serde_json::from_slice(&said).unwrap_or_default();
            if said["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("the stream does not become active".to_owned())
    }

    /// Puts a load on it; the acknowledged records a second.
    async fn put(&self, load: Load, python: &Python) -> Result<f64, String> {
        let (form, at_once, count) = match load {
            Load::Boto3 => {
                let key = (self.key.0.as_str(), self.key.1.as_str());
                return python.put(&self.endpoint, STREAM, key, TIME).await;
            }
            Load::Rust(form, at_once, count) => (form, at_once, count),
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let body: Arc<[u8]> = put_records(form, count).into();
        let begin = Instant::now();
        let callers = (0..at_once).map(|_| async {
            let mut acknowledged = 0;
            while begin.elapsed() < TIME {
                let answer = self
                    .call(&client, "PutRecords", form, body.to_vec())
                    .await?;
                acknowledged += count - failed(form, &answer)?;
            }
            Ok::<_, String>(acknowledged)
        });
        let counts = futures_util::future::try_join_all(callers).await?;
        let records: usize = counts.into_iter().sum();
        Ok(records as f64 / begin.elapsed().as_secs_f64())
    }

    /// One signed call.
    async fn call(
        &self,
        client: &reqwest::Client,
        operation: &str,
        form: Form,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let target = format!("Kinesis_20131202.{operation}");
        let content_type = match form {
            Form::Json => "application/x-amz-json-1.1",
            Form::Cbor => "application/x-amz-cbor-1.1",
        };
        let identity = Credentials::new(&self.key.0, &self.key.1, None, None, "bench").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("kinesis")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?;
        let url = format!("{}/", self.endpoint);
        let headers = [
            ("content-type", content_type),
            ("x-amz-target", target.as_str()),
        ];
        let signable = SignableRequest::new(
            "POST",
            &url,
            headers.into_iter(),
            SignableBody::Bytes(&body),
        )
        .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters.into())
            .map_err(|error| error.to_string())?
            .into_parts();
        let mut request = client
            .post(&url)
            .header("content-type", content_type)
            .header("x-amz-target", &target);
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        let response = request
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        let answer = response.bytes().await.map_err(|error| error.to_string())?;
        if status.is_success() {
            Ok(answer.to_vec())
        } else {
            Err(format!("{status}: {}", String::from_utf8_lossy(&answer)))
        }
    }
}

/// The body of one call.
fn put_records(form: Form, count: usize) -> Vec<u8> {
    let data = |number: usize| -> Vec<u8> {
        let byte = |at: usize| (number.wrapping_mul(31) ^ at.wrapping_mul(197)) as u8;
        (0..SIZE).map(byte).collect()
    };
    let key = |number: usize| format!("key-{number}");
    match form {
        Form::Json => {
            let record = |number| json!({ "Data": STANDARD.encode(data(number)), "PartitionKey": key(number) });
            let records: Vec<_> = (0..count).map(record).collect();
            json!({ "StreamName": STREAM, "Records": records })
                .to_string()
                .into_bytes()
        }
        Form::Cbor => {
            let text = |text: &str| Cbor::Text(text.to_owned());
            let record = |number| {
                Cbor::Map(vec![
                    (text("Data"), Cbor::Bytes(data(number))),
                    (text("PartitionKey"), Cbor::Text(key(number))),
                ])
            };
            let records = Cbor::Array((0..count).map(record).collect());
            let body = Cbor::Map(vec![
                (text("StreamName"), text(STREAM)),
                (text("Records"), records),
            ]);
            let mut bytes = Vec::new();
            let _ = ciborium::into_writer(&body, &mut bytes);
            bytes
        }
    }
}

/// How many records were not taken.
fn failed(form: Form, answer: &[u8]) -> Result<usize, String> {
    let answer: Value = match form {
        Form::Json => serde_json::from_slice(answer).map_err(|error| error.to_string())?,
        Form::Cbor => ciborium::from_reader(answer).map_err(|error| error.to_string())?,
    };
    let failed = answer["FailedRecordCount"].as_u64().unwrap_or_default();
    usize::try_from(failed).map_err(|error| error.to_string())
}
