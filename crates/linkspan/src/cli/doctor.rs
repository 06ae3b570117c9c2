//! `linkspan doctor`: what is there, what is not, and how to get it.

use linkspan_engines::ocr::tesseract;
use linkspan_engines::sandbox::{self, Level};
use linkspan_engines::{Isolation, registry};
use linkspan_model::Task;
use serde::Serialize;

use super::output::{self, Output, Row};
use super::{DONE, Done, SOME_FAILED};

/// The arguments of `linkspan doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// The OCR data without which the default options do not work: English, and orientation.
const NEEDED: [&str; 2] = ["eng", "osd"];

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// `ok`, `partial` or `missing`.
    state: &'static str,
    detail: String,
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["what", "state", "detail"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.what.clone(),
            self.state.to_owned(),
            self.detail.clone(),
        ]
    }
}

/// Exit code 1 when something that an engine needs is missing; a kernel that lacks a protection is reported and is no failure.
pub(super) fn run(args: &Args) -> Done {
    let mut findings = vec![Finding {
        what: "linkspan".to_owned(),
        state: "ok",
        detail: format!(
            "version {} for {} on {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS
        ),
    }];
    findings.extend(Task::ALL.into_iter().filter_map(engine));
    findings.extend(tesseract_findings());
    let needed_missing = findings.iter().any(|finding| finding.state == "missing");
    findings.extend(
        sandbox::probe()
            .protections
            .into_iter()
            .map(|protection| Finding {
                what: format!("worker protection {}", protection.name),
                state: match protection.level {
                    Level::Full => "ok",
                    Level::Partial => "partial",
                    Level::Missing => "missing",
                },
                detail: protection.detail,
            }),
    );
    output::print(args.output, &findings)?;
    Ok(if needed_missing { SOME_FAILED } else { DONE })
}

fn engine(task: Task) -> Option<Finding> {
    let engine = registry::builtin(task)?;
    let place = match engine.isolation() {
        Isolation::InProcess => "in the gateway's process",
        Isolation::Worker => "in worker processes",
    };
    Some(Finding {
        what: format!("engine {task}"),
        state: "ok",
        detail: format!("{}, {place}", engine.label()),
    })
}

fn tesseract_findings() -> Vec<Finding> {
    let finding = |what: &str, state, detail: String| Finding {
        what: what.to_owned(),
        state,
        detail,
    };
    let status = match tesseract::status() {
        Ok(status) => status,
        Err(error) => return vec![finding("library tesseract", "missing", error.detail)],
    };
    let mut findings = vec![finding(
        "library tesseract",
        "ok",
        format!(
            "version {}, language data in {}",
            status.version, status.data_path
        ),
    )];
    for needed in NEEDED {
        let there = status.languages.iter().any(|language| language == needed);
        findings.push(if there {
            finding(&format!("OCR data {needed}"), "ok", "installed".to_owned())
        } else {
            finding(
                &format!("OCR data {needed}"),
                "missing",
                format!("install the package tesseract-ocr-{needed}"),
            )
        });
    }
    let further: Vec<_> = status
        .languages
        .iter()
        .map(String::as_str)
        .filter(|language| !NEEDED.contains(language))
        .collect();
    let further = if further.is_empty() {
        "none; further languages are packages such as tesseract-ocr-deu".to_owned()
    } else {
        further.join(", ")
    };
    findings.push(finding("OCR data, further", "ok", further));
    findings
}
