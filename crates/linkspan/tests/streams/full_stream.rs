//! `full-stream` on a real cluster: what becomes of records, and that it becomes of each exactly once.

mod kafka;
mod kill;
mod records;
mod refused;
mod sending;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_linkspan");

/// A configuration of an integration `reviews`, with what stands behind `pattern` and `steps`.
fn toml(brokers: &str, more: &str) -> String {
    format!(
        r#"
[kafka.estate]
brokers = "{brokers}"
[service.language]
task = "detect-language"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "full-stream"
steps = ["language", "mood"]
{more}
"#
    )
}
