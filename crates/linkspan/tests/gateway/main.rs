//! The gateway as its users see it, over real HTTP: one test binary, a file a subject.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod r#async;
mod browser;
mod chromium;
mod cli;
mod console;
mod deliveries;
mod email;
mod intake;
mod manage;
mod move_store;
mod observability;
mod oidc;
mod preview;
mod same_answer;
mod scripted;
mod security;
#[path = "../streams/seed.rs"]
mod seed;
mod sync;
mod tls;
