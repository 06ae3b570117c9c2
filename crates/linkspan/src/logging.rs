//! Structured logs on standard error: for people on a terminal, JSON otherwise.
//!
//! Architecture invariant: no event holds a document, a text, an answer, a parameter or a secret.

use std::io::IsTerminal as _;
use std::time::Duration;

use linkspan_model::config::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Starts logging. `LINKSPAN_LOG` sets the level (`debug`, or `linkspan=debug,hyper=info`).
pub fn start(format: LogFormat, default_level: &str) {
    let filter =
        EnvFilter::try_from_env("LINKSPAN_LOG").unwrap_or_else(|_| EnvFilter::new(default_level));
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let layer = if json {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed()
    } else {
        layer.with_ansi(terminal).compact().boxed()
    };
    // A second start (tests, the demo) leaves the first in place.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
}

/// A time that something took, as it is told: in milliseconds, to a tenth.
#[must_use]
pub fn in_ms(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

/// An error with everything behind it, for the log: `Display` never prints its source.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
