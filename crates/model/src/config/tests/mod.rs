//! Tests of the configuration, as data: a file, and every fault that it has.

mod deliver;
mod faults;
mod pages;
mod streams;

use std::time::Duration;

use proptest::prelude::*;

use super::describe::section;
use super::reader::Reader;
use super::setting::Section;
use super::*;

/// A file with one service and one integration, on which tests build.
const SMALL: &str = "\
[service.mood]
task = \"sentiment\"

[integration.reviews]
pattern = \"sync\"
steps = [\"mood\"]
";

/// An environment with one variable and one file.
fn resolve(reference: Reference<'_>) -> Result<String, String> {
    match reference {
        Reference::Env("LISTEN") => Ok("127.0.0.1:9090".to_owned()),
        Reference::Env("DATABASE_URL") => {
            Ok("postgres://linkspan:open%20sesame@db/linkspan?password=sesame".to_owned())
        }
        Reference::Env("TOKEN") => Ok("open sesame".to_owned()),
        Reference::Env(name) => Err(format!(
            "the environment variable {name} is not set: set it first"
        )),
        Reference::File("token") => Ok("open sesame\r\n".to_owned()),
        Reference::File(path) => Err(format!("the file {path} does not exist")),
    }
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, "linkspan.toml", &resolve)
}

#[test]
fn an_empty_file_is_a_gateway_with_every_default() {
    let config = parse("").unwrap();
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        (server.auth, server.log_format),
        (Auth::Keys, LogFormat::Auto)
    );
    assert_eq!(
        (server.drain_timeout, server.header_timeout),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
    assert_eq!(server.max_body.bytes(), 64 << 20);
    assert!(
        server.tls.is_none()
            && !server.tls_terminated_by_proxy
            && server.cors_origins.is_empty()
            && server.metrics
    );
    assert_eq!(config.store.jobs.to_string(), "sqlite:data/linkspan.db");
    assert_eq!(config.store.blobs.to_string(), "file:data/blobs");
    assert!(config.store.s3.path_style && !config.store.s3.allow_http);
    assert_eq!(config.store.retention, Duration::from_secs(7 * 86_400));
    assert_eq!(config.worker.max_workers, None);
    assert_eq!(config.warnings.len(), 1, "that nothing can be invoked");
}

#[test]
fn an_integration_inherits_what_it_does_not_set() {
    let config = parse(SMALL).unwrap();
    let reviews = &config.integrations["reviews"];
    assert_eq!(
        (reviews.pattern, reviews.overflow, reviews.attempts),
        (Pattern::Sync, Overflow::Error, 5)
    );
    assert_eq!(
        (reviews.backoff.first, reviews.backoff.max),
        (Duration::from_secs(1), Duration::from_secs(300))
    );
    assert_eq!(config.max_body(reviews), config.server.max_body);
    assert_eq!(config.retention(reviews), config.store.retention);
    assert_eq!(config.takes(reviews), Takes::Text);
    let steps: Vec<_> = config
        .steps(reviews)
        .map(|(name, service)| (name.as_str(), service.task))
        .collect();
    assert_eq!(steps, [("mood", Task::Sentiment)]);
    assert_eq!(config.warnings, []);
}

#[test]
fn changing_the_pattern_alone_keeps_a_file_valid_and_silent() {
    let tuned = format!(
        "{SMALL}deadline = \"5s\"\noverflow = \"async\"\nqueue = 3\nattempts = 2\nbackoff.first = \"2s\"\n"
    );
    for pattern in ["sync", "async"] {
        let config = parse(&tuned.replace("\"sync\"", &format!("\"{pattern}\""))).unwrap();
        assert_eq!(config.integrations["reviews"].pattern.name(), pattern);
        assert_eq!(config.warnings, []);
    }
}

#[test]
fn options_reach_the_engine_as_json_and_are_not_printed() {
    let config = parse(
        "[service.text]\ntask = \"extract-text\"\n[service.text.options]\nlanguages = [\"eng\", \"deu\"]\ndpi = 200\n\
         deep = { on = true, since = 2024-05-01, share = 0.5, token = \"${env:TOKEN}\" }\n",
    )
    .unwrap();
    let options = &config.services["text"].options;
    let expected = serde_json::json!({
        "languages": ["eng", "deu"], "dpi": 200,
        "deep": { "on": true, "since": "2024-05-01", "share": 0.5, "token": "open sesame" },
    });
    assert_eq!(
        serde_json::Value::Object(options.as_map().clone()),
        expected
    );
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn a_caller_can_add_a_fault_that_knows_its_line() {
    let config = parse("[service.text]\ntask = \"extract-text\"\noptions.dpi = 0\n").unwrap();
    let fault = config.fault("service.text.options.dpi", "must be from 50 to 1200");
    assert_eq!(
        fault.to_string(),
        "linkspan.toml:3: service.text.options.dpi: must be from 50 to 1200"
    );
    let around = config.fault("service.text.options.languages[0]", "is not installed");
    assert_eq!(around.line, 3);
    assert!(Faults::check(vec![fault]).is_err());
}

#[test]
fn a_reference_stands_for_any_string() {
    let config = parse("server.listen = \"${env:LISTEN}\"").unwrap();
    assert_eq!(config.server.listen.port(), 9090);
}

section! {
    /// A section with a secret, as a channel will have one.
    pub(super) struct Channel {
        /// Signs what is sent.
        secret: Secret, like "\"${env:TOKEN}\"";
    }
}

fn read_secret(text: &str) -> Result<String, String> {
    let (root, broken) = tree::parse(text);
    assert_eq!(broken, []);
    let mut reader = Reader::new("channel.toml".into(), &resolve, true);
    let channel = Channel::read_entries(&root, &mut reader);
    match Faults::check(reader.into_faults()) {
        Ok(()) => {
            let channel = channel.unwrap();
            assert!(!format!("{channel:?}").contains("sesame"));
            Ok(channel.secret.reveal().to_owned())
        }
        Err(faults) => Err(faults.to_string()),
    }
}

#[test]
fn a_secret_comes_from_outside_the_file_only() {
    assert_eq!(
        read_secret("secret = \"${env:TOKEN}\""),
        Ok("open sesame".to_owned())
    );
    assert_eq!(
        read_secret("secret = \"${file:token}\""),
        Ok("open sesame".to_owned())
    );
    for (text, fault) in [
        (
            "secret = \"open sesame\"",
            "a secret must not stand in the file: write \"${env:NAME}\" or \"${file:PATH}\"",
        ),
        (
            "secret = \"${env:NONE}\"",
            "${env:NONE}: the environment variable NONE is not set: set it first",
        ),
        (
            "secret = 12",
            "must be a reference such as \"${env:NAME}\" or \"${file:PATH}\", not a number",
        ),
        (
            "",
            "is missing: give a reference such as \"${env:NAME}\" or \"${file:PATH}\"",
        ),
    ] {
        assert_eq!(
            read_secret(text),
            Err(format!("channel.toml:1: secret: {fault}"))
        );
    }
}

/// The example with some of its bytes replaced: most results are nearly valid.
fn damaged_example() -> impl Strategy<Value = String> {
    let example = annotated_example();
    let length = example.len();
    prop::collection::vec((0..length, "[\\PC\n]{0,6}", 0..40usize), 1..5).prop_map(move |edits| {
        let mut bytes = example.clone().into_bytes();
        for (at, text, cut) in edits {
            let at = at.min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, text.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn every_fault_names_a_line_of_the_file(text: &str) -> Result<(), TestCaseError> {
    if let Err(faults) = parse(text) {
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        prop_assert!(lines.is_sorted());
        let last = text.split('\n').count();
        prop_assert!(
            lines.iter().all(|line| (1..=last).contains(line)),
            "{faults}"
        );
        prop_assert_eq!(faults.to_string().lines().count(), lines.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused(text in "[\\PC\n]*") {
        every_fault_names_a_line_of_the_file(&text)?;
    }

    #[test]
    fn any_damage_is_read_or_refused(text in damaged_example()) {
        every_fault_names_a_line_of_the_file(&text)?;
    }
}
