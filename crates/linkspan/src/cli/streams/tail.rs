//! `linkspan streams tail`: results as they come.
//!
//! A record's result may be stored a little later than that of one that came after it. So each look goes back some time behind the
//! newest result that was shown, and leaves out what was shown before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Found;
use crate::cli::output::{self, Output, Row as _};
use crate::cli::remote::{Gateway, Refused};
use crate::cli::{DONE, Done, Failure};
use crate::store::id_made;

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(1);

/// How far each look goes back behind the newest result. A call's id may be a little older than its job: so long at most.
const BACK: SignedDuration = SignedDuration::from_secs(60);

/// So many results are asked for at once, and in one look at most.
const PAGE: usize = 200;
const MOST: usize = 2000;

/// Shows results until Ctrl-C.
pub(super) async fn follow(
    gateway: &Gateway,
    output: Output,
    filters: Vec<(&'static str, Option<String>)>,
    limit: u32,
) -> Done {
    let tail = Tail {
        gateway,
        output,
        filters,
        from: Timestamp::UNIX_EPOCH,
        shown: BTreeMap::new(),
    };
    tokio::select! {
        failed = tail.run(limit) => failed.map(|never| match never {}),
        _ = tokio::signal::ctrl_c() => Ok(DONE),
    }
}

struct Tail<'g> {
    gateway: &'g Gateway,
    output: Output,
    filters: Vec<(&'static str, Option<String>)>,
    /// Only results that were made then or later are looked at.
    from: Timestamp,
    /// What was shown of these, by its id, and when it was made.
    shown: BTreeMap<String, Timestamp>,
}

impl Tail<'_> {
    async fn run(mut self, limit: u32) -> Result<Infallible, Failure> {
        output::head::<Found>(self.output)?;
        self.from = self.newest().await?.unwrap_or(self.from);
        // What is there already counts as shown, however little of it is asked for.
        let (there, _) = self.unseen().await?;
        for result in &there {
            self.note(result);
        }
        let first = self.gateway.pages("results", &self.filters, limit).await?;
        self.show(first)?;
        loop {
            tokio::time::sleep(PAUSE).await;
            let newest = self.newest().await?;
            let (found, more) = self.unseen().await?;
            if more {
                eprintln!(
                    "linkspan: more results came than can be shown; linkspan streams results lists them all"
                );
            }
            self.show(found)?;
            let back = newest.and_then(|newest| newest.checked_sub(BACK).ok());
            self.from = back.map_or(self.from, |back| back.max(self.from));
            let from = self.from;
            self.shown.retain(|_, at| *at >= from);
        }
    }

    /// When the integration's newest result was made, by the gateway's clock.
    async fn newest(&self) -> Result<Option<Timestamp>, Refused> {
        let integration = self.filters.iter().find(|(name, _)| *name == "integration");
        let integration: Vec<_> = integration.cloned().into_iter().collect();
        let newest = self.gateway.pages("results", &integration, 1).await?;
        Ok(newest.first().and_then(|newest| named(newest).1))
    }

    /// Those that were not shown, newest first, and whether there are more.
    async fn unseen(&self) -> Result<(Vec<Value>, bool), Refused> {
        let (mut found, mut looked, mut after) = (Vec::new(), 0, None);
        loop {
            let mut query = self.filters.clone();
            query.extend([
                ("from", Some(self.from.to_string())),
                ("limit", Some(PAGE.to_string())),
                ("after", after),
            ]);
            let mut page: Value = self.gateway.get(&["v1", "results"], &query).await?;
            let Value::Array(results) = page["results"].take() else {
                return Ok((found, false));
            };
            looked += results.len();
            let is_new = |result: &Value| {
                named(result)
                    .0
                    .is_some_and(|id| !self.shown.contains_key(id))
            };
            found.extend(results.into_iter().filter(is_new));
            after = page["next"].as_str().map(str::to_owned);
            if !after.as_ref().is_some_and(|after| self.reaches(after)) {
                return Ok((found, false));
            }
            if looked >= MOST {
                return Ok((found, true));
            }
        }
    }

    /// Whether there may be results of the time that is looked at behind a cursor. The gateway would go on for longer, to be sure.
    fn reaches(&self, cursor: &str) -> bool {
        cursor
            .parse()
            .map_or(true, |id| self.from.duration_since(id_made(id)) <= BACK)
    }

    /// Prints them, oldest first.
    fn show(&mut self, found: Vec<Value>) -> Result<(), Failure> {
        for result in found.into_iter().rev() {
            self.note(&result);
            print(self.output, &Found(result))?;
        }
        Ok(())
    }

    fn note(&mut self, result: &Value) {
        if let (Some(id), Some(at)) = named(result) {
            self.shown.insert(id.to_owned(), at);
        }
    }
}

fn named(result: &Value) -> (Option<&str>, Option<Timestamp>) {
    let at = result["created"].as_str().and_then(|at| at.parse().ok());
    (result["id"].as_str(), at)
}

/// One result as a line. A table would wait for its last row.
fn print(output: Output, found: &Found) -> Result<(), Failure> {
    if output != Output::Table {
        return output::line(output, found);
    }
    let mut cells = found.cells();
    cells.retain(|cell| !cell.is_empty());
    output::write(format!("{}\n", cells.join("  ")).as_bytes())
}
