//! `GET /console/events`: what changes, as server-sent events, for the console's page.
//!
//! - `overview`, at once and whenever it differs: the document of `GET /console/overview`.
//! - `job` and `delivery`: what changed through this gateway and the caller may see. Changes of a fifth of a second come together, each
//!   thing with its latest state.
//! - `missed`: more may have changed than was told; whoever shows a list reads it again. So it is after a burst, and every few seconds
//!   where other gateways share the store: what they change is not told here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::overview::Overview;
use crate::http::events::Counted;
use crate::http::session::Session;
use crate::refusal::Refusal;
use crate::store::Event;

/// How often the overview is looked at.
const OVERVIEW_EVERY: Duration = Duration::from_secs(1);

/// How often it is asked whether the session still holds.
const PROOF_EVERY: Duration = Duration::from_secs(5);

/// How often it is told that others may have changed what is shown, where the store is shared.
const OTHERS_EVERY: Duration = Duration::from_secs(5);

/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(200);

/// How many changes are told at once; what is more is missed.
const MOST: usize = 500;

pub(super) async fn stream(session: Session) -> Result<Response, Refusal> {
    let counted = Counted::new(&session)?;
    let mut tick = tokio::time::interval(OVERVIEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follow = Follow {
        changes: session.gateway.store.watchers().subscribe(),
        session,
        tick,
        shown: None,
        proven: Instant::now(),
        others: Instant::now(),
        gathered: Gathered::default(),
        ready: Vec::new().into_iter(),
        _counted: counted,
    };
    Ok(Sse::new(follow.events())
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}

struct Follow {
    session: Session,
    changes: Receiver<Event>,
    tick: Interval,
    shown: Option<Overview>,
    proven: Instant,
    others: Instant,
    gathered: Gathered,
    ready: std::vec::IntoIter<Sent>,
    _counted: Counted,
}

/// What changed since the last telling.
#[derive(Default)]
struct Gathered {
    since: Option<Instant>,
    latest: HashMap<String, (u64, serde_json::Value, &'static str)>,
    missed: bool,
}

enum Happened {
    Tick,
    Changed(Result<Event, RecvError>),
    Gathered,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Result<Sent, Infallible>> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        })
    }

    /// The next event; none when the session has ended, or the gateway stops.
    async fn next(&mut self) -> Option<Sent> {
        let stop = self.session.gateway.stop.clone();
        loop {
            if let Some(event) = self.ready.next() {
                return Some(event);
            }
            match stop.run_until_cancelled(self.happening()).await? {
                Happened::Tick => {
                    if self.proven.elapsed() >= PROOF_EVERY {
                        if !self.session.still_holds().await {
                            return None;
                        }
                        self.proven = Instant::now();
                    }
                    if self.others.elapsed() >= OTHERS_EVERY
                        && self.session.gateway.store.is_shared()
                    {
                        self.others = Instant::now();
                        self.gathered.miss();
                    }
                    if let Some(event) = self.overview().await {
                        return Some(event);
                    }
                }
                Happened::Changed(Ok(event)) => self.gathered.add(event, &self.session),
                Happened::Changed(Err(RecvError::Lagged(_))) => self.gathered.miss(),
                Happened::Changed(Err(RecvError::Closed)) => return None,
                Happened::Gathered => self.ready = self.gathered.take().into_iter(),
            }
        }
    }

    async fn happening(&mut self) -> Happened {
        let gathered = self.gathered.since.map(|since| since + GATHER);
        tokio::select! {
            biased;
            () = at(gathered) => Happened::Gathered,
            _ = self.tick.tick() => Happened::Tick,
            event = self.changes.recv() => Happened::Changed(event),
        }
    }

    /// The overview, where it differs from the one before. A store that does not answer is asked again.
    async fn overview(&mut self) -> Option<Sent> {
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
        let event = Sent::default().event("overview").json_data(&overview).ok();
        self.shown = Some(overview);
        event
    }
}

impl Gathered {
    /// Takes note of a change that the caller may see.
    fn add(&mut self, event: Event, session: &Session) {
        let (key, version, data, name) = match event {
            Event::Job {
                id,
                integration,
                caller,
                state,
                version,
            } if session.sees(&caller, &integration) => {
                let data = json!({ "id": id, "integration": integration, "state": state, "version": version });
                (id.to_string(), version, data, "job")
            }
            Event::Delivery {
                id,
                job,
                endpoint,
                caller,
                state,
                version,
            } if session.sees(&caller, &endpoint.integration) => {
                let data = json!({ "id": id, "job": job, "endpoint": endpoint, "state": state, "version": version });
                (id.to_string(), version, data, "delivery")
            }
            // Its state is part of the overview.
            Event::Job { .. } | Event::Delivery { .. } | Event::Endpoint(_) => return,
        };
        if self.latest.len() >= MOST && !self.latest.contains_key(&key) {
            self.miss();
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        // Two transactions' changes may be told out of order. A deletion is the last thing that happens.
        let known = self.latest.get(&key).map_or(0, |(version, ..)| *version);
        if version >= known || data["state"].is_null() {
            self.latest.insert(key, (version, data, name));
        }
    }

    /// Takes note that there may be changes that are not told one by one.
    fn miss(&mut self) {
        self.since.get_or_insert_with(Instant::now);
        self.missed = true;
    }

    /// What is to be told.
    fn take(&mut self) -> Vec<Sent> {
        let gathered = std::mem::take(self);
        let mut events: Vec<_> = gathered
            .latest
            .into_values()
            .filter_map(|(_, data, name)| Sent::default().event(name).json_data(data).ok())
            .collect();
        if gathered.missed {
            events.push(Sent::default().event("missed").data("{}"));
        }
        events
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
