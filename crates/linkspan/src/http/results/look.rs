//! Looking through results: piece by piece, newest first, up to so many of them.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use linkspan_model::{Code, InvocationId};

use super::{ResultView, ResultsPage};
use crate::http::session::is_stream;
use crate::refusal::Refusal;
use crate::store::{Job, ResultPage, ResultQuery, Sight, Store, StoreError};

/// So many rows of the store are looked at by one call, with a result that fits or without: about.
const MOST_LOOKED_AT: u32 = 10_000;

/// So many results are looked through by one call.
const MOST_RESULTS: usize = 5_000;

/// So many bytes of results are looked through by one call.
const MOST_BYTES: usize = 128 << 20;

/// A page ends with the result that makes it so large.
const PAGE_BYTES: usize = 16 << 20;

/// About so many bytes of results are read at once.
const PIECE_BYTES: usize = 4 << 20;

/// So many results are read at first, before it is known how large they are; and at most.
const PIECE: (usize, usize) = (16, 250);

/// What one call looks for.
pub(super) struct Look {
    /// Where.
    pub(super) store: Arc<dyn Store>,
    /// What the caller sees. Each has an index of its own in the store, so they are asked for one by one.
    pub(super) views: Vec<View>,
    /// Which results; the limit is the page's. Its integration and sight are the views'.
    pub(super) query: ResultQuery,
    /// What their text must contain.
    pub(super) needle: Option<Needle>,
}

/// Results that the caller sees.
pub(super) struct View {
    /// Of this integration; none: of all.
    pub(super) integration: Option<String>,
    /// Whose; none: everybody's.
    pub(super) sight: Option<Sight>,
}

/// A text that is looked for, whatever the case.
#[derive(Clone)]
pub(super) struct Needle {
    plain: String,
    /// As it stands within a string of JSON, where that differs: a quotation mark, a line's end.
    escaped: Option<String>,
}

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        let plain = text.to_lowercase();
        let quoted = serde_json::Value::from(plain.as_str()).to_string();
        let escaped = quoted[1..quoted.len() - 1].to_owned();
        Self {
            escaped: (escaped != plain).then_some(escaped),
            plain,
        }
    }

    fn is_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        text.contains(&self.plain)
            || self
                .escaped
                .as_ref()
                .is_some_and(|escaped| text.contains(escaped))
    }
}

impl Look {
    /// The page.
    pub(super) async fn page(mut self) -> Result<ResultsPage, Refusal> {
        let limit = self.query.limit as usize;
        let mut page = ResultsPage::default();
        let (mut rows, mut looked, mut bytes, mut kept) = (0, 0, 0, 0);
        let mut piece = PIECE.0;
        loop {
            let wanted = match self.needle {
                Some(_) => piece,
                // Nothing is read that would not be given.
                None => piece.min(limit - page.results.len()),
            };
            let found = self
                .piece(wanted, MOST_LOOKED_AT.saturating_sub(rows))
                .await?;
            rows += found.looked;
            let (read, size) = (
                found.results.len(),
                found
                    .results
                    .iter()
                    .map(|(_, text)| text.len())
                    .sum::<usize>(),
            );
            looked += read;
            bytes += size;
            let last = found.results.last().map(|(job, _)| job.id);
            for (job, text) in self.fitting(found.results).await? {
                let id = job.id;
                kept += text.len();
                page.results.push(view(job, &text)?);
                let full = page.results.len() == limit || kept >= PAGE_BYTES;
                if full {
                    // Behind the last one nothing was left out.
                    page.next = if Some(id) == last {
                        found.next
                    } else {
                        Some(id)
                    };
                    return Ok(page);
                }
            }
            page.next = found.next;
            let enough = rows >= MOST_LOOKED_AT || looked >= MOST_RESULTS || bytes >= MOST_BYTES;
            if page.next.is_none() || enough {
                return Ok(page);
            }
            self.query.after = page.next;
            piece = (PIECE_BYTES * read.max(1) / size.max(1)).clamp(1, PIECE.1);
        }
    }

    /// Up to so many of the results that the caller may see, among about so many rows.
    async fn piece(&self, wanted: usize, rows: u32) -> Result<ResultPage, StoreError> {
        let look = rows / u32::try_from(self.views.len()).unwrap_or(u32::MAX);
        let pages = self.views.iter().map(|view| {
            let query = ResultQuery {
                integration: view.integration.clone(),
                sight: view.sight.clone(),
                limit: u32::try_from(wanted).unwrap_or(u32::MAX),
                look: look.max(1),
                ..self.query.clone()
            };
            self.store.list_results(query)
        });
        Ok(joined(try_join_all(pages).await?, wanted))
    }

    /// Those whose text contains what is looked for.
    async fn fitting(&self, results: Vec<(Job, String)>) -> Result<Vec<(Job, String)>, Refusal> {
        let Some(needle) = self.needle.clone() else {
            return Ok(results);
        };
        let fit = move || {
            let results = results.into_iter();
            results.filter(|(_, text)| needle.is_in(text)).collect()
        };
        // Megabytes of text are no work for a thread that others wait for.
        tokio::task::spawn_blocking(fit)
            .await
            .map_err(|_| Refusal::new(Code::Internal, "the results could not be looked through"))
    }
}

/// Pages as one: the newest of all, up to where all of them were read.
fn joined(pages: Vec<ResultPage>, wanted: usize) -> ResultPage {
    let looked = pages.iter().map(|page| page.looked).sum();
    // Beyond here one of them may have more that lies between.
    let known = pages.iter().filter_map(|page| page.next).max();
    let mut results: Vec<_> = pages.into_iter().flat_map(|page| page.results).collect();
    results.sort_by_key(|(job, _)| std::cmp::Reverse(job.id));
    let mut seen: HashSet<InvocationId> = HashSet::with_capacity(results.len());
    results.retain(|(job, _)| known.is_none_or(|known| job.id >= known) && seen.insert(job.id));
    let cut = results.len() > wanted;
    results.truncate(wanted);
    let last = results.last().map(|(job, _)| job.id);
    ResultPage {
        next: if cut { last } else { known },
        results,
        looked,
    }
}

fn view(job: Job, text: &str) -> Result<ResultView, Refusal> {
    let result = serde_json::from_str(text).map_err(|_| {
        tracing::error!(id = %job.id, "a stored result is not JSON");
        Refusal::new(Code::Internal, "a stored result cannot be read")
    })?;
    Ok(ResultView {
        id: job.id,
        integration: job.integration,
        status: job.state,
        created: job.created,
        finished: job.finished,
        record: is_stream(&job.caller).then_some(job.request_id),
        result,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use linkspan_model::JobState;

    use super::*;

    #[test]
    fn a_text_is_found_whatever_its_case_and_as_json_writes_it() {
        let text =
            r#"{"answers":{"mood":{"label":"NEGATIVE"}},"text":"Er sagte \"GRÜSSE\"\nund ging"}"#;
        for (looked_for, found) in [
            ("negative", true),
            ("\"label\":\"negative\"", true),
            ("\"grüsse\"", true),
            ("GRÜSSE\"\nUND", true),
            ("grüsse und", false),
            ("positive", false),
        ] {
            assert_eq!(Needle::new(looked_for).is_in(text), found, "{looked_for:?}");
        }
    }

    #[test]
    fn pages_are_joined_only_as_far_as_all_were_read() {
        let ids: Vec<_> = (0..8)
            .map(|number| InvocationId::from_bytes([number; 16]))
            .collect();
        let page = |numbers: &[usize], more: bool| ResultPage {
            results: numbers
                .iter()
                .map(|&at| (job(ids[at]), String::new()))
                .collect(),
            next: numbers.last().map(|&at| ids[at]).filter(|_| more),
            looked: 0,
        };
        for (one, other, wanted, found, next) in [
            (
                page(&[7, 5], true),
                page(&[6, 4], true),
                2,
                &[7, 6][..],
                Some(6),
            ),
            (
                page(&[7, 5], true),
                page(&[2, 1], true),
                5,
                &[7, 5],
                Some(5),
            ),
            (page(&[7, 6], true), page(&[], false), 2, &[7, 6], Some(6)),
            (page(&[], false), page(&[3], false), 2, &[3], None),
            (
                page(&[7, 6], false),
                page(&[6, 5], false),
                5,
                &[7, 6, 5],
                None,
            ),
            (page(&[7, 6], false), page(&[5], false), 2, &[7, 6], Some(6)),
            (page(&[], false), page(&[], false), 2, &[], None),
        ] {
            let joined = joined(vec![one, other], wanted);
            let got: Vec<_> = joined.results.iter().map(|(job, _)| job.id).collect();
            let expected: Vec<_> = found.iter().map(|&at| ids[at]).collect();
            assert_eq!(
                (got, joined.next),
                (expected, next.map(|at: usize| ids[at]))
            );
        }
    }

    fn job(id: InvocationId) -> Job {
        let now = Timestamp::UNIX_EPOCH;
        Job {
            id,
            integration: String::new(),
            caller: String::new(),
            state: JobState::Succeeded,
            version: 1,
            attempts: 1,
            max_attempts: 1,
            created: now,
            updated: now,
            due: now,
            started: None,
            finished: None,
            expires: None,
            problem: None,
            request_id: String::new(),
            traceparent: None,
            held: false,
            history: Vec::new(),
        }
    }
}
