//! What a message tells of a result: a title, a few facts, and where the rest is.

use linkspan_model::{ResultDocument, Status};

use crate::channels::Parcel;
use crate::channels::mapped::{mapped, short};
use crate::channels::printable::printable;
use crate::links::Links;
use crate::summary::Summary;

/// What a message tells. All texts are printable, each on one line, and escaped for nothing.
pub(super) struct Facts {
    /// The integration and how it ended.
    pub(super) title: String,
    /// Whether it succeeded.
    pub(super) succeeded: bool,
    /// Lines of text, where `map` made a text.
    pub(super) lines: Vec<String>,
    /// Names and values.
    pub(super) facts: Vec<(String, String)>,
    /// The job's page.
    pub(super) link: String,
}

impl Facts {
    /// The facts of what `map` made, or else of the result document.
    pub(super) fn of(parcel: &Parcel, links: &Links) -> Self {
        let result: Option<ResultDocument> = serde_json::from_value(parcel.result.clone()).ok();
        let succeeded = parcel.result["status"] == "succeeded";
        let ended = if succeeded { "succeeded" } else { "failed" };
        let (lines, facts) = match result {
            _ if parcel.mapped => mapped(&parcel.content),
            Some(result) => (Vec::new(), told(&result)),
            None => Default::default(),
        };
        Self {
            title: printable(&format!("{}: {ended}", parcel.endpoint.integration), 140),
            succeeded,
            lines,
            facts: short(facts),
            link: links.page(parcel.job),
        }
    }

    /// The message in one line, for notifications.
    pub(super) fn line(&self) -> String {
        let first = match (self.lines.first(), self.facts.first()) {
            (Some(line), _) => line.clone(),
            (None, Some((name, value))) => format!("{name}: {value}"),
            (None, None) => return self.title.clone(),
        };
        format!("{} ({first})", self.title)
    }
}

/// Each answer in few words, or why there is none.
fn told(result: &ResultDocument) -> Vec<(String, String)> {
    let summaries = Summary::of_answers(result).into_iter();
    let mut facts: Vec<_> = summaries
        .map(|(service, summary)| {
            let sure = summary.confidence.map_or_else(String::new, |confidence| {
                format!(" ({:.0} % sure)", confidence * 100.0)
            });
            (service.to_owned(), format!("{}{sure}", summary.words))
        })
        .collect();
    if result.status == Status::Failed {
        facts.push(("error".to_owned(), Summary::of(result).words));
    }
    facts
}
