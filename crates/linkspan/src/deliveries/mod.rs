//! Results on their way out: which deliveries a result makes ([`outbox`]), when each is tried ([`schedule`]), how much of it at once
//! ([`endpoint`]), and the sender that does it ([`sender`]).
//!
//! A delivery's row is written in the transaction that ends its job; from there on it is the sender's. A delivery arrives at least once,
//! with the same id each time. Deliveries of one endpoint start in the order in which they are due; no order holds among those that are
//! under way, nor across endpoints. A slow or dead receiver takes the places of its own endpoint and no others.

mod clock;
mod endpoint;
mod open;
mod outbox;
mod schedule;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use linkspan_model::config::Jq;
use linkspan_model::config::deliver::Delivery;

pub use clock::{Clock, SystemClock};
pub use endpoint::BreakerState;
pub use sender::{Lifetime, Sender};

use crate::channels::Channel;
use crate::jq::Filter;
use crate::store::Endpoint;
use endpoint::Limits;
use schedule::Schedule;

/// Every channel of a configuration, opened. Endpoints of which the store still has deliveries, but the configuration no longer, are not
/// among them: theirs stay where they are.
#[derive(Debug, Default)]
pub struct Deliveries {
    channels: BTreeMap<Endpoint, Arc<Opened>>,
}

/// One channel of one integration, with what is done before it and how often.
pub struct Opened {
    /// Where it sends.
    pub endpoint: Endpoint,
    /// The kind of channel: `webhook`, `email`, `http`, `file`.
    pub kind: &'static str,
    channel: Arc<dyn Channel>,
    when: Option<Filter>,
    map: Option<Filter>,
    schedule: Schedule,
    timeout: Duration,
    limits: Limits,
}

impl Deliveries {
    /// These channels.
    #[must_use]
    pub fn new(channels: impl IntoIterator<Item = Opened>) -> Self {
        let channels = channels
            .into_iter()
            .map(|opened| (opened.endpoint.clone(), Arc::new(opened)));
        Self {
            channels: channels.collect(),
        }
    }

    /// The channels, by integration and name.
    pub fn channels(&self) -> impl Iterator<Item = &Arc<Opened>> {
        self.channels.values()
    }

    /// An endpoint's channel, where it is configured.
    #[must_use]
    pub fn get(&self, endpoint: &Endpoint) -> Option<&Arc<Opened>> {
        self.channels.get(endpoint)
    }

    /// The channels of an integration, by name.
    fn of<'d>(&'d self, integration: &'d str) -> impl Iterator<Item = &'d Arc<Opened>> {
        self.channels()
            .filter(move |opened| opened.endpoint.integration == integration)
    }
}

impl Opened {
    /// A channel with the settings that every channel has.
    ///
    /// # Errors
    ///
    /// The keys of filters that cannot be used, each with what is wrong.
    pub fn new(
        endpoint: Endpoint,
        kind: &'static str,
        settings: &Delivery,
        channel: Arc<dyn Channel>,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let mut keep = |key, filter: &Option<Jq>, compile: fn(&str) -> Result<Filter, String>| {
            let compiled = compile(filter.as_ref()?.as_str());
            compiled.map_err(|error| faults.push((key, error))).ok()
        };
        let when = keep("when", &settings.when, Filter::compile_condition);
        let map = keep("map", &settings.map, Filter::compile);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            endpoint,
            kind,
            channel,
            when,
            map,
            schedule: Schedule::new(settings.retry.clone()),
            timeout: settings.timeout,
            limits: Limits::new(settings.concurrency, settings.rate_limit),
        })
    }

    /// Where it sends to, without secrets.
    #[must_use]
    pub fn receiver(&self) -> String {
        self.channel.receiver()
    }

    /// Whether its receiver is given a rest.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.limits.breaker()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("endpoint", &self.endpoint)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
