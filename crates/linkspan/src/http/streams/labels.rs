//! `GET /v1/streams/{integration}/labels`: how often which label came out, over time.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use linkspan_model::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::query::{self, Known, Words};
use crate::http::segment::Segment;
use crate::http::session::Session;
use crate::refusal::Refusal;
use crate::store::{Label, LabelQuery};

/// The steps to choose from where none is asked for, in minutes; and how many of them there are at most then.
const STEPS: [i64; 8] = [1, 5, 10, 30, 60, 180, 720, 1440];
const FEW: i64 = 60;

/// So many steps are answered at most.
const MOST_STEPS: i64 = 1500;

/// The longest time that one call looks at.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);

/// So much of it is read from the store at once.
const PIECE: SignedDuration = SignedDuration::from_hours(24);

const MINUTE: i64 = 60;

/// The label mix of a stream over time.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LabelsView {
    /// The integration.
    pub integration: String,
    /// The first step's begin: what was asked for, set back to a whole step.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Up to then.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// A step's length in minutes.
    pub step: i64,
    /// What was counted, by step, service and label; a step without labels has no line.
    pub counts: Vec<LabelTally>,
}

/// How often a label came out within a step.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LabelTally {
    /// The step's begin.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The service that gave the label.
    pub service: String,
    /// The label.
    pub label: String,
    /// How often.
    pub count: u64,
}

/// The query of the label mix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct LabelsQuery {
    from: Option<String>,
    until: Option<String>,
    step: Option<i64>,
}

impl Words for LabelsQuery {
    const WORDS: &'static str = "from, until and step (a number of minutes)";
}

pub(in crate::http) async fn labels(
    session: Session,
    Segment(name): Segment,
    Known(given): Known<LabelsQuery>,
) -> Result<Response, Refusal> {
    let reader = session.stream(&name)?.clone();
    let span = Span::of(
        query::time("from", given.from.as_deref())?,
        query::time("until", given.until.as_deref())?,
        given.step,
        Timestamp::now(),
    )?;
    let mut sums: BTreeMap<(i64, Label), u64> = BTreeMap::new();
    let mut from = span.from;
    while from < span.until {
        let until = from.saturating_add(PIECE).unwrap_or(span.until);
        let until = until.min(span.until);
        let query = LabelQuery {
            integration: reader.integration.name.clone(),
            from,
            until,
        };
        for count in session.gateway.store.label_counts(query).await? {
            *sums
                .entry((span.step_of(count.minute), count.label))
                .or_default() += count.count;
        }
        from = until;
    }
    let counts = sums.into_iter().filter_map(|((second, label), count)| {
        Some(LabelTally {
            at: Timestamp::from_second(second).ok()?,
            service: label.service,
            label: label.label,
            count,
        })
    });
    Ok(axum::Json(LabelsView {
        integration: reader.integration.name.clone(),
        counts: counts.collect(),
        from: span.from,
        until: span.until,
        step: span.step,
    })
    .into_response())
}

/// What is looked at: whole steps, which begin where a multiple of them since the Unix epoch does, so that they stay when time goes on.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    from: Timestamp,
    until: Timestamp,
    /// Minutes.
    step: i64,
}

impl Span {
    fn of(
        from: Option<Timestamp>,
        until: Option<Timestamp>,
        step: Option<i64>,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let refuse = |message: &str| Err(Refusal::new(Code::BadRequest, message));
        let until = until.unwrap_or(now);
        let from = from
            .or_else(|| until.checked_sub(SignedDuration::from_hours(1)).ok())
            .unwrap_or(until);
        let length = until.duration_since(from);
        if length <= SignedDuration::ZERO {
            return refuse("from: not before until");
        }
        if length > LONGEST {
            return refuse("from: more than 31 days before until; ask for them in parts");
        }
        let minutes = length.as_mins() + 1;
        let step = match step {
            Some(step) if step < 1 => return refuse("step: not a number of minutes"),
            Some(step) if minutes / step > MOST_STEPS => {
                return refuse("step: too short for that time; 1500 steps are the most");
            }
            Some(step) => step,
            None => STEPS
                .into_iter()
                .find(|step| minutes / step <= FEW)
                .unwrap_or(STEPS[STEPS.len() - 1]),
        };
        let mut span = Self { from, until, step };
        span.from = Timestamp::from_second(span.step_of(from)).unwrap_or(from);
        Ok(span)
    }

    /// The begin of the step that a time falls into, in seconds since the epoch.
    fn step_of(&self, time: Timestamp) -> i64 {
        let length = self.step.saturating_mul(MINUTE);
        time.as_second().div_euclid(length) * length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_span_has_whole_steps_and_not_too_many() {
        let now = at("2026-11-23T10:00:30Z");
        for (from, until, step, expected) in [
            (None, None, None, Ok(("2026-11-23T09:00:00Z", 5))),
            (
                Some("2026-11-23T09:50:10Z"),
                None,
                None,
                Ok(("2026-11-23T09:50:00Z", 1)),
            ),
            (
                Some("2026-11-22T10:00:00Z"),
                None,
                None,
                Ok(("2026-11-22T10:00:00Z", 30)),
            ),
            (
                Some("2026-11-22T10:00:00Z"),
                None,
                Some(1),
                Ok(("2026-11-22T10:00:00Z", 1)),
            ),
            (
                Some("2026-11-23T09:07:00Z"),
                None,
                Some(15),
                Ok(("2026-11-23T09:00:00Z", 15)),
            ),
            (
                Some("2026-11-21T08:00:00Z"),
                None,
                Some(1),
                Err("step: too short"),
            ),
            (None, None, Some(0), Err("step: not a number")),
            (
                Some("2026-11-23T11:00:00Z"),
                None,
                None,
                Err("from: not before"),
            ),
            (
                Some("2026-09-01T00:00:00Z"),
                None,
                None,
                Err("from: more than 31 days"),
            ),
        ] {
            let until: Option<&str> = until;
            let span = Span::of(from.map(at), until.map(at), step, now);
            match expected {
                Ok((from, step)) => {
                    let span = span.unwrap();
                    assert_eq!((span.from, span.step), (at(from), step), "{span:?}");
                }
                Err(sentence) => {
                    let problem = span.unwrap_err().problem;
                    assert!(problem.detail.starts_with(sentence), "{}", problem.detail);
                }
            }
        }
    }
}
