//! What the gateway does when it is killed, when its disk fails, and when its workers and receivers do: one test binary, a file a subject.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod bucket;
mod deliveries;
mod disk;
mod gateways;
mod kill;
mod receiver;
mod workers;

use std::time::{Duration, Instant};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_linkspan");

/// Asks again and again until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "waited for three minutes: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
