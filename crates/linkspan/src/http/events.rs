//! `GET /v1/jobs/{id}/events`: a job's changes as server-sent events, from where it stands to its end.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::HeaderMap;
use linkspan_model::{Code, JobState};

use super::jobs::JobView;
use super::segment::Segment;
use super::session::Session;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::store::{Job, Watch};

/// How many streams are open in this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Counts an open stream.
pub(super) struct Counted(());

impl Counted {
    /// Refuses a stream over `limits.max_watchers`.
    pub(super) fn new(gateway: &Gateway) -> Result<Self, Refusal> {
        let most = gateway.config.limits.max_watchers as usize;
        if OPEN.fetch_add(1, Ordering::AcqRel) < most {
            return Ok(Self(()));
        }
        OPEN.fetch_sub(1, Ordering::AcqRel);
        Err(Refusal::new(
            Code::Overloaded,
            format!("{most} event streams are open; that is limits.max_watchers"),
        ))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Each event is called after the job's state, its id is the job's version and its data the job; `Last-Event-ID` leaves out what
/// the client has seen. The stream ends with the job.
pub(super) async fn stream(
    session: Session,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let counted = Counted::new(&session.gateway)?;
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

    /// The next event; none after the job's end, after its deletion, and when the gateway stops.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        loop {
            // Read after the watch was made, so that no change falls between.
            let job = self.session.job(&self.id).await.ok()?;
            if job.version > self.seen {
                self.seen = job.version;
                self.ended = job.state.is_terminal();
                return event(job);
            }
            if job.state.is_terminal() {
                return None;
            }
            self.session
                .gateway
                .stop
                .run_until_cancelled(self.watch.changed())
                .await?;
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
