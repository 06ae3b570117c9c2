//! Results of a stream in a store, as its reader would have committed them.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use linkspan::store::{
    Content, DocumentRef, Hold, Label, LaneProgress, RecordOutcome, Store, StreamCommit,
    StreamCommitted, TakeLanes, Takeable,
};
use linkspan_model::{Code, InvocationId, Problem};
use serde_json::json;

/// The name of the reading of `source = { kinesis = "reviews" }` by the integration `reviews`.
pub(crate) const REVIEWS: &str = "reviews/kinesis:own:reviews";

/// What came of a record.
#[derive(Clone)]
pub(crate) struct Seed {
    pub(crate) integration: String,
    pub(crate) record: String,
    /// The label of the service `mood`, where it succeeded.
    pub(crate) label: String,
    /// The record's bytes and why nothing could be done with them.
    pub(crate) dead: Option<(Vec<u8>, String)>,
    pub(crate) at: Timestamp,
}

impl Seed {
    /// A record of `reviews` that got a label.
    pub(crate) fn labelled(record: &str, label: &str) -> Self {
        Self {
            integration: "reviews".to_owned(),
            record: record.to_owned(),
            label: label.to_owned(),
            dead: None,
            at: Timestamp::now(),
        }
    }

    /// A record of `reviews` that could not be worked on.
    pub(crate) fn dead(record: &str, bytes: &[u8], why: &str) -> Self {
        Self {
            dead: Some((bytes.to_owned(), why.to_owned())),
            ..Self::labelled(record, "")
        }
    }

    /// The same, taken at another time.
    pub(crate) fn at(self, at: Timestamp) -> Self {
        Self { at, ..self }
    }

    fn outcome(&self) -> RecordOutcome {
        let id = id_at(self.at);
        let problem = self
            .dead
            .as_ref()
            .map(|(_, why)| Problem::new(Code::UnreadableDocument, why.clone()));
        let mut result = json!({ "id": id, "integration": self.integration, "status": "succeeded", "steps": [] });
        match &problem {
            Some(problem) => {
                result["status"] = json!("failed");
                result["error"] = json!(problem);
            }
            None => result["answers"] = json!({ "mood": { "label": self.label, "score": 0.5 } }),
        }
        let label = Label {
            service: "mood".to_owned(),
            label: self.label.clone(),
        };
        RecordOutcome {
            id,
            integration: self.integration.clone(),
            labels: problem.is_none().then_some(label).into_iter().collect(),
            document: self.dead.as_ref().map(|(bytes, _)| DocumentRef {
                content: Content::Inline(Bytes::from(bytes.clone())),
                media_type: Some("text/plain; charset=utf-8".to_owned()),
                file_name: None,
            }),
            request: problem.is_some().then(|| "{}".to_owned()),
            problem,
            result: result.to_string(),
            record: self.record.clone(),
            traceparent: None,
            attempts: 1,
            max_attempts: 1,
            started: self.at,
            keep: SignedDuration::from_hours(24),
            deliveries: Vec::new(),
        }
    }
}

/// Commits them at a time, as records of the lane `seeded`, as the reader of a stream of that name does. Gives their ids.
pub(crate) async fn commit_at(
    store: &dyn Store,
    stream: &str,
    seeds: &[Seed],
    now: Timestamp,
) -> Vec<InvocationId> {
    let take = TakeLanes {
        stream: stream.to_owned(),
        lanes: vec!["seeded".to_owned()],
        owner: "another".to_owned(),
        which: Takeable::Any,
        lease: SignedDuration::from_mins(5),
        now,
    };
    let hold: Hold = store.take_lanes(take).await.unwrap().remove(0).hold;
    let outcomes: Vec<_> = seeds.iter().map(Seed::outcome).collect();
    let ids = outcomes.iter().map(|outcome| outcome.id).collect();
    let done = store
        .commit_stream(StreamCommit {
            stream: stream.to_owned(),
            lanes: vec![LaneProgress {
                hold,
                progress: Some(format!(r#"{{"last":[0,"{}"]}}"#, seeds.len())),
                ended: false,
            }],
            outcomes,
            now,
        })
        .await
        .unwrap();
    assert_eq!(done, StreamCommitted::Done);
    ids
}

/// A new id of that time (UUIDv7, RFC 9562).
fn id_at(at: Timestamp) -> InvocationId {
    let mut bytes = *InvocationId::new().as_bytes();
    let milliseconds = u64::try_from(at.as_millisecond()).unwrap().to_be_bytes();
    bytes[..6].copy_from_slice(&milliseconds[2..]);
    InvocationId::from_bytes(bytes)
}
