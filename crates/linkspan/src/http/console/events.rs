//! `GET /console/events`: what changes, as server-sent events, for the console's page.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::overview::Overview;
use crate::http::events::Counted;
use crate::http::session::Session;
use crate::refusal::Refusal;

/// How often the overview is looked at.
const OVERVIEW_EVERY: Duration = Duration::from_secs(1);

/// How often it is asked whether the session still holds.
const PROOF_EVERY: Duration = Duration::from_secs(5);

/// `overview` at once, and then whenever it differs.
pub(super) async fn stream(session: Session) -> Result<Response, Refusal> {
    let counted = Counted::new(&session.gateway)?;
    let mut tick = tokio::time::interval(OVERVIEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follow = Follow {
        session,
        tick,
        shown: None,
        proven: Instant::now(),
        _counted: counted,
    };
    Ok(Sse::new(follow.events())
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}

struct Follow {
    session: Session,
    tick: Interval,
    shown: Option<Overview>,
    proven: Instant,
    _counted: Counted,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    /// The next event; none when the session has ended, or the gateway stops.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.session.gateway.stop.clone();
        loop {
            stop.run_until_cancelled(self.tick.tick()).await?;
            if self.proven.elapsed() >= PROOF_EVERY {
                if !self.session.still_holds().await {
                    return None;
                }
                self.proven = Instant::now();
            }
            if let Some(event) = self.overview().await {
                return Some(event);
            }
        }
    }

    /// The overview, where it differs from the one before. A store that does not answer is asked again.
    async fn overview(&mut self) -> Option<Event> {
        let overview = Overview::of(&self.session.gateway, &self.session.caller)
            .await
            .ok()?;
        if self
            .shown
            .as_ref()
            .is_some_and(|shown| !overview.differs(shown))
        {
            return None;
        }
        let event = Event::default().event("overview").json_data(&overview).ok();
        self.shown = Some(overview);
        event
    }
}
