//! `GET /v1/jobs/{id}/events`: a job's changes as server-sent events, from where it stands to its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::HeaderMap;
use linkspan_model::{Code, JobState};
use tokio::time::Instant;

use super::jobs::JobView;
use super::segment::Segment;
use super::session::{Proof, Session};
use crate::refusal::Refusal;
use crate::store::{Job, Watch};

/// The streams that are open in this process.
static OPEN: Mutex<Open> = Mutex::new(Open {
    all: 0,
    by: BTreeMap::new(),
});

struct Open {
    all: usize,
    by: BTreeMap<String, usize>,
}

/// Counts an open stream.
pub(super) struct Counted {
    caller: String,
}

impl Counted {
    /// Refuses a stream over `limits.max_watchers`, and one over a caller's part of them: nobody can keep all others out. Where
    /// nobody proves who they are, all are one caller.
    pub(super) fn new(session: &Session) -> Result<Self, Refusal> {
        let caller = &session.caller.name;
        let most = session.gateway.config.limits.max_watchers as usize;
        let part = match session.proof {
            Proof::Off => most,
            Proof::Key(_) | Proof::Cookie { .. } => part_of(most),
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.by.get(caller).copied().unwrap_or_default();
        if own >= part {
            return Err(Refusal::new(
                Code::RateLimited,
                format!(
                    "{caller} has {own} event streams open, which is one caller's part of limits.max_watchers; close some of them"
                ),
            ));
        }
        if open.all >= most {
            return Err(Refusal::new(
                Code::Overloaded,
                format!("{most} event streams are open; that is limits.max_watchers"),
            ));
        }
        open.all += 1;
        open.by.insert(caller.clone(), own + 1);
        Ok(Self {
            caller: caller.clone(),
        })
    }
}

/// How many of the streams one caller may have: a tenth, at least 4.
fn part_of(most: usize) -> usize {
    (most / 10).max(4)
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        match open.by.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.by.remove(&self.caller)),
        }
    }
}

/// Each event is called after the job's state, its id is the job's version and its data the job; `Last-Event-ID` leaves out what
/// the client has seen. The stream ends with the job.
pub(super) async fn stream(
    session: Session,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let counted = Counted::new(&session)?;
    let job = session.job(&id).await?;
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let watch = session.gateway.store.watchers().watch(job.id);
    let follow = Follow {
        session,
        id,
        watch,
        seen,
        ended: false,
        _counted: counted,
    };
    Ok(Sse::new(follow.events())
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}

struct Follow {
    session: Session,
    id: String,
    watch: Watch,
    seen: u64,
    ended: bool,
    _counted: Counted,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    /// The next event; none after the job's end, after its deletion, when the caller's key or session has ended, and when the gateway
    /// stops.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        loop {
            // Read after the watch was made, so that no change falls between.
            let job = self.session.job(&self.id).await.ok()?;
            if job.version > self.seen {
                if !self.session.still_holds().await {
                    return None;
                }
                self.seen = job.version;
                self.ended = job.state.is_terminal();
                return event(job);
            }
            if job.state.is_terminal() {
                return None;
            }
            // No change comes in vain, and what is not there after a day is looked for again.
            let end = Instant::now() + Duration::from_secs(86_400);
            self.session.waited(end, self.watch.changed()).await.ok()?;
            if self.session.gateway.stop.is_cancelled() {
                return None;
            }
        }
    }
}

fn event(job: Job) -> Option<Event> {
    let (name, version): (JobState, u64) = (job.state, job.version);
    Event::default()
        .event(name.name())
        .id(version.to_string())
        .json_data(JobView::from(job))
        .ok()
}
