//! What templates see of results.

use linkspan_model::{Code, Problem, ResultDocument, Status};
use serde::Serialize;
use serde_json::Value;

use super::digest::Window;
use super::neutral::one_line;
use crate::channels::Parcel;
use crate::channels::mapped::{mapped, short};
use crate::summary::Summary;

/// The most characters of a result in a digest's table.
const LONGEST: usize = 120;

/// Everything that a template sees.
#[derive(Serialize)]
pub(super) struct View<'a> {
    /// The integration.
    pub(super) integration: &'a str,
    /// How many results there are.
    pub(super) count: usize,
    /// How many of them failed.
    pub(super) failed: usize,
    /// The first result document: the only one but in a digest.
    pub(super) result: &'a Value,
    /// What `map` made of it.
    pub(super) content: &'a Value,
    /// Its delivery.
    pub(super) delivery: Delivery,
    /// The time that a digest covers.
    pub(super) window: Option<Span>,
    /// Until when all links hold: `2026-03-01 10:00 UTC`.
    pub(super) links_until: Option<String>,
    /// All results.
    pub(super) results: Vec<Item<'a>>,
}

/// One result.
#[derive(Serialize)]
pub(super) struct Item<'a> {
    pub(super) result: &'a Value,
    pub(super) content: &'a Value,
    pub(super) delivery: Delivery,
    pub(super) id: String,
    /// `succeeded` or `failed`.
    pub(super) status: &'static str,
    pub(super) succeeded: bool,
    /// In few words.
    pub(super) summary: String,
    /// Whether `map` made the content: then it is shown, in `lines` or `facts`, and neither answers nor the error.
    pub(super) mapped: bool,
    pub(super) lines: Vec<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) answers: Vec<Answered>,
    pub(super) error: Option<Failed>,
    pub(super) took_ms: f64,
    /// Where the result document is: a link until a time, or an attachment.
    #[serde(flatten)]
    pub(super) place: Place,
}

/// One value of what `map` made.
#[derive(Serialize)]
pub(super) struct Fact {
    name: String,
    value: String,
}

/// One answer.
#[derive(Serialize)]
pub(super) struct Answered {
    service: String,
    words: String,
    /// In percent.
    confidence: Option<u8>,
    engine: String,
    took_ms: f64,
}

/// Why an invocation failed.
#[derive(Serialize)]
pub(super) struct Failed {
    code: Code,
    title: String,
    detail: String,
}

/// Where the result document is.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Place {
    pub(super) link: Option<String>,
    /// Until when the link holds: `2026-03-01 10:00 UTC`.
    pub(super) link_expires: Option<String>,
    /// The attachment's name.
    pub(super) attachment: Option<String>,
}

/// One delivery.
#[derive(Serialize)]
pub(super) struct Delivery {
    id: String,
    created: String,
}

/// A stretch of time.
#[derive(Serialize)]
pub(super) struct Span {
    from: String,
    until: String,
}

impl<'a> View<'a> {
    /// The view of one message's parcels; none where there are none.
    pub(super) fn of(
        parcels: &'a [Parcel],
        places: &[Place],
        window: Option<Window>,
    ) -> Option<Self> {
        let first = parcels.first()?;
        let items = parcels
            .iter()
            .zip(places)
            .map(|(parcel, place)| Item::of(parcel, place.clone()));
        let results: Vec<Item<'a>> = items.collect();
        Some(Self {
            integration: &first.endpoint.integration,
            count: results.len(),
            failed: results.iter().filter(|item| !item.succeeded).count(),
            result: &first.result,
            content: &first.content,
            delivery: Delivery::of(first),
            window: window.map(|window| Span {
                from: minute(window.from),
                until: minute(window.until),
            }),
            links_until: results
                .iter()
                .filter_map(|item| item.place.link_expires.clone())
                .min(),
            results,
        })
    }
}

impl<'a> Item<'a> {
    fn of(parcel: &'a Parcel, place: Place) -> Self {
        let document: Option<ResultDocument> = serde_json::from_value(parcel.result.clone()).ok();
        let document = document.as_ref();
        let succeeded = document.is_some_and(|it| it.status == Status::Succeeded);
        // What is shown: with `map`, only what it made.
        let shown = document.filter(|_| !parcel.mapped);
        let (lines, facts) = if parcel.mapped {
            mapped(&parcel.content)
        } else {
            Default::default()
        };
        let facts = short(facts);
        let in_words = match (shown, lines.first()) {
            (Some(document), _) => Summary::of(document).words,
            (None, Some(line)) => line.clone(),
            (None, None) => facts
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        Self {
            result: &parcel.result,
            content: &parcel.content,
            delivery: Delivery::of(parcel),
            id: parcel.job.to_string(),
            status: if succeeded { "succeeded" } else { "failed" },
            succeeded,
            summary: one_line(&in_words, LONGEST),
            mapped: parcel.mapped,
            lines,
            facts: facts
                .into_iter()
                .map(|(name, value)| Fact { name, value })
                .collect(),
            answers: shown.map(answers).unwrap_or_default(),
            error: shown.and_then(|it| it.error.as_ref()).map(Failed::of),
            took_ms: document.map(took_ms).unwrap_or_default(),
            place,
        }
    }
}

impl Failed {
    fn of(problem: &Problem) -> Self {
        Self {
            code: problem.code,
            title: problem.title.clone(),
            detail: problem.detail.clone(),
        }
    }
}

impl Delivery {
    fn of(parcel: &Parcel) -> Self {
        Self {
            id: parcel.id.to_string(),
            created: parcel.created.to_string(),
        }
    }
}

/// All steps, in milliseconds to a tenth.
fn took_ms(document: &ResultDocument) -> f64 {
    let sum: f64 = document.steps.iter().map(|step| step.took_ms).sum();
    (sum * 10.0).round() / 10.0
}

fn answers(document: &ResultDocument) -> Vec<Answered> {
    let summaries = Summary::of_answers(document).into_iter();
    summaries
        .map(|(service, summary)| {
            let step = document.steps.iter().find(|step| step.service == service);
            Answered {
                service: service.to_owned(),
                words: one_line(&summary.words, 400),
                confidence: summary
                    .confidence
                    .map(|confidence| (confidence.clamp(0.0, 1.0) * 100.0).round() as u8),
                engine: step.map(|step| step.engine.clone()).unwrap_or_default(),
                took_ms: step.map(|step| step.took_ms).unwrap_or_default(),
            }
        })
        .collect()
}

/// A time for people: `2026-03-01 10:00 UTC`.
pub(super) fn minute(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
