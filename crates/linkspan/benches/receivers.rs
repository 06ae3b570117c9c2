//! Whether one slow receiver among fifty delays the others: `cargo bench -p linkspan --bench receivers`.
//!
//! A gateway sends each result to fifty webhooks. In every second run one of them takes eight seconds for each. A line a run: the latencies
//! of the other 49, from the end of the job to the arrival; then the ratio of the runs with the slow one to those without. Good as
//! ratios on one machine, not as promises.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use linkspan_testkit::{Gateway, Setup};
use tokio::net::TcpListener;
use tokio::time::{interval, sleep};

const RECEIVERS: usize = 50;

/// How many jobs a run sends, and how long after each other: together less than what the machine can send.
const JOBS: usize = 150;
const PAUSE: Duration = Duration::from_millis(100);

const RUNS: usize = 3;

/// How long the slow receiver takes for each: it takes four at once, so far less than what comes.
const SLOW: Duration = Duration::from_secs(8);

/// What the receivers share.
#[derive(Default)]
struct Receivers {
    slow: bool,
    latencies: Mutex<Vec<Duration>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!(
        "{:<44} {:>9} {:>8} {:>8} {:>8}",
        "", "webhooks", "p50 ms", "p99 ms", "max ms"
    );
    let mut p99 = [Duration::ZERO; 2];
    for _ in 0..RUNS {
        for slow in [false, true] {
            p99[usize::from(slow)] += runtime.block_on(run(slow))?;
        }
    }
    println!(
        "the others' p99 with a slow receiver, to that without: {:.2}",
        p99[1].as_secs_f64() / p99[0].as_secs_f64()
    );
    Ok(())
}

/// One run; gives the 99th percentile.
async fn run(slow: bool) -> Result<Duration, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let receivers = Arc::new(Receivers {
        slow,
        ..Receivers::default()
    });
    let router = Router::new()
        .route("/{receiver}", axum::routing::post(receive))
        .with_state(receivers.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let deliver: Vec<_> = (0..RECEIVERS)
        .map(|nth| {
            format!("{{ webhook = \"http://{address}/{nth}\", name = \"r{nth}\", secret = \"${{env:SECRET}}\" }}")
        })
        .collect();
    let toml = format!(
        "[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n[service.language]\ntask = \"detect-language\"\n\
         [integration.reviews]\npattern = \"async\"\nsteps = [\"language\"]\ndeliver = [{}]\n",
        deliver.join(", ")
    );
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml).env("SECRET", secret);
    let key = setup.key("estate", &["invoke", "read"]);
    let gateway: Gateway = setup.serve();
    let client = gateway.client(&key);
    let mut turn = interval(PAUSE);
    for number in 0..JOBS {
        turn.tick().await;
        let text = format!("The crossing number {number} was wonderful.");
        let answer = client.text("reviews", &text).await;
        if answer.status != 202 {
            return Err(answer.body.into());
        }
    }
    let expected = JOBS * (RECEIVERS - 1);
    while locked(&receivers).len() < expected {
        sleep(Duration::from_millis(20)).await;
    }
    gateway.kill();
    serving.abort();

    let mut latencies = locked(&receivers).clone();
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    let name = if slow {
        "49 receivers beside a slow one"
    } else {
        "49 receivers beside another"
    };
    println!(
        "{name:<44} {:>9} {:>8.1} {:>8.1} {:>8.1}",
        latencies.len(),
        in_ms(at(50)),
        in_ms(at(99)),
        in_ms(at(100)),
    );
    Ok(at(99))
}

/// Receiver 0 may be slow; the latencies are those of the others.
async fn receive(
    State(receivers): State<Arc<Receivers>>,
    Path(nth): Path<usize>,
    body: Bytes,
) -> StatusCode {
    let now = Timestamp::now();
    if nth == 0 {
        if receivers.slow {
            sleep(SLOW).await;
        }
        return StatusCode::OK;
    }
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let made = event["time"]
        .as_str()
        .and_then(|time| time.parse::<Timestamp>().ok());
    let Some(made) = made else {
        return StatusCode::BAD_REQUEST;
    };
    let latency = Duration::try_from(now.duration_since(made)).unwrap_or_default();
    locked(&receivers).push(latency);
    StatusCode::OK
}

fn locked(receivers: &Receivers) -> std::sync::MutexGuard<'_, Vec<Duration>> {
    receivers
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn in_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
