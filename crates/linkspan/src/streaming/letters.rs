//! The ids of a commit's dead letters: a commit can be offered many times, and each of them is one all the while.

use std::collections::HashMap;

use linkspan_model::InvocationId;
use linkspan_streams::flow::{Commit, Failure};
use linkspan_streams::{Lane, Position, Record};

/// The dead letters of the commit that is offered. What is made ready for one offer (a blob, a delivery) is of the same invocation in the
/// next one.
#[derive(Default)]
pub(super) struct Letters(HashMap<(Lane, Position), InvocationId>);

impl Letters {
    /// Gives those of a commit an id that have none from an earlier offer, and tells `made` of them.
    pub(super) fn number<O>(&mut self, commit: &Commit<O>, made: impl Fn(&Record, &Failure)) {
        for output in commit.lanes.iter().flat_map(|part| &part.outputs) {
            let Err(failure) = &output.outcome else {
                continue;
            };
            self.0.entry(place(&output.record)).or_insert_with(|| {
                made(&output.record, failure);
                InvocationId::new()
            });
        }
    }

    /// The id of a record's dead letter; none of a record that is none.
    pub(super) fn id(&self, record: &Record) -> Option<InvocationId> {
        self.0.get(&place(record)).copied()
    }

    /// The commit is durable: what comes is another one.
    pub(super) fn settled(&mut self) {
        self.0.clear();
    }
}

fn place(record: &Record) -> (Lane, Position) {
    (record.lane.clone(), record.position.clone())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use jiff::Timestamp;
    use linkspan_streams::Term;
    use linkspan_streams::flow::{LaneCommit, Output, Progress};

    use super::*;

    #[test]
    fn a_dead_letter_is_the_same_one_at_each_offer_of_its_commit() {
        let failure = Failure {
            code: "engine-failed".to_owned(),
            reason: "it failed".to_owned(),
            retryable: false,
            after: None,
            overloaded: false,
        };
        let lane = Lane::new("shard");
        let output = |ordinal, outcome| Output {
            record: Arc::new(Record {
                lane: lane.clone(),
                ordinal,
                position: Position::number(ordinal),
                key: None,
                value: None,
                headers: Vec::new(),
                timestamp: None,
                defect: None,
            }),
            outcome,
            attempts: 1,
            taken: Timestamp::UNIX_EPOCH,
        };
        let dead = || Err(failure.clone());
        let commit = Commit {
            lanes: vec![LaneCommit {
                lane: lane.clone(),
                term: Term::default(),
                outputs: vec![output(1, Ok(())), output(2, dead()), output(3, dead())],
                progress: Progress::default(),
            }],
        };
        let told = Cell::new(0);
        let mut letters = Letters::default();
        let offer = |letters: &mut Letters| {
            letters.number(&commit, |_, _| told.set(told.get() + 1));
            let outputs = commit.lanes[0].outputs.iter();
            let ids: Vec<_> = outputs.map(|output| letters.id(&output.record)).collect();
            ids
        };
        let first = offer(&mut letters);
        assert!(first[0].is_none() && first[1].is_some() && first[2].is_some());
        assert_ne!(first[1], first[2]);
        assert_eq!(offer(&mut letters), first);
        assert_eq!(told.get(), 2, "it is told once");
        letters.settled();
        assert_ne!(offer(&mut letters)[1], first[1]);
    }
}
