//! What a client remembers of its requests, so that it can tell a lost or a doubled answer.
//!
//! The ledger holds each request from before it is sent, by its idempotency key, and every answer that came. It knows what is an
//! answer (200 and the result document, 202 and a job) and what is not (503, 409 while the first request runs, no response at all):
//! those are sent again with the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::RequestBuilder;

use crate::client::{Answer, Client};

/// A request, as it is sent again and again until it is answered.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The idempotency key.
    pub key: String,
    /// The integration.
    pub integration: String,
    /// The body's media type.
    pub media_type: &'static str,
    /// The body.
    pub body: String,
}

/// What is known of a request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The request.
    pub sent: Sent,
    /// The ids of the jobs with which it was accepted.
    pub jobs: BTreeSet<String>,
    /// The result documents with which it was answered, byte for byte.
    pub results: BTreeSet<String>,
    /// How often it was sent.
    pub times: u32,
}

/// All requests of a test.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<String, Entry>>,
    strange: Mutex<Vec<String>>,
}

impl Sent {
    /// The request for a client.
    pub fn to(&self, client: &Client) -> RequestBuilder {
        client
            .invocation(&self.integration)
            .header("idempotency-key", &self.key)
            .header("content-type", self.media_type)
            .body(self.body.clone())
    }
}

impl Entry {
    /// Whether there is a result or an acceptance.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !self.jobs.is_empty() || !self.results.is_empty()
    }
}

impl Ledger {
    /// Writes a request down: before it is sent.
    pub fn open(&self, sent: &Sent) {
        let mut entries = locked(&self.entries);
        let entry = entries.entry(sent.key.clone()).or_insert_with(|| Entry {
            sent: sent.clone(),
            jobs: BTreeSet::new(),
            results: BTreeSet::new(),
            times: 0,
        });
        entry.times += 1;
    }

    /// Writes down what a request got.
    pub fn note(&self, key: &str, answer: &Answer) {
        match answer.status {
            200 => self.result(key, &answer.body),
            202 => {
                let job = answer.job();
                self.change(key, |entry| entry.jobs.insert(job));
            }
            503 => {}
            409 if answer.code() == "in-progress" => {}
            status => locked(&self.strange).push(format!("{key}: {status} {}", answer.body)),
        }
    }

    /// Writes down a result document that a request, or its job, was answered with.
    pub fn result(&self, key: &str, body: &str) {
        self.change(key, |entry| entry.results.insert(body.to_owned()));
    }

    /// The requests that have no answer, the oldest key first.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Sent> {
        let entries = locked(&self.entries);
        let open = entries.values().filter(|entry| !entry.is_answered());
        open.map(|entry| entry.sent.clone()).collect()
    }

    /// All that is known.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        locked(&self.entries).values().cloned().collect()
    }

    /// What must never be: two answers or two jobs for one key, or an answer that no request should get.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = locked(&self.strange).clone();
        for (key, entry) in locked(&self.entries).iter() {
            for (what, count) in [("jobs", entry.jobs.len()), ("results", entry.results.len())] {
                if count > 1 {
                    faults.push(format!("{key} has {count} {what}: {entry:?}"));
                }
            }
        }
        faults
    }

    fn change<T>(&self, key: &str, change: impl FnOnce(&mut Entry) -> T) {
        let mut entries = locked(&self.entries);
        change(entries.get_mut(key).expect("the request was written down"));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
