//! Looks after the source beside the copying: plans anew every while, and tells the ids of topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::ReplicateError;
use super::clients::ANSWER;
use super::describe::{self, Described};
use super::plan::{Plan, Planner};

/// Two threads that wait for the clusters, so that the copying need not. They end when this is dropped.
pub(super) struct Watch {
    hurry: Sender<()>,
    plans: Receiver<Result<Plan, ReplicateError>>,
    questions: Sender<Vec<String>>,
    answers: Receiver<Answer>,
}

/// When it is planned again while something is expected.
const SOON: Duration = Duration::from_secs(1);

type Answer = Result<HashMap<String, Described>, Code>;

impl Watch {
    pub(super) fn start(
        planner: &Arc<Planner>,
        every: Duration,
        mut pending: bool,
    ) -> Result<Self, ReplicateError> {
        let failed = |_| ReplicateError::other("start a thread for the replication: it failed");
        let (hurry, hurried) = channel();
        let (planned, plans) = channel();
        let (questions, asked) = channel::<Vec<String>>();
        let (answered, answers) = channel();
        let of = Arc::clone(planner);
        thread::Builder::new()
            .name("replicate-plan".to_owned())
            .spawn(move || {
                loop {
                    let wait = if pending { every.min(SOON) } else { every };
                    match hurried.recv_timeout(wait) {
                        Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                    let plan = of.plan();
                    pending = plan.as_ref().is_ok_and(|plan| plan.pending);
                    if planned.send(plan).is_err() {
                        return;
                    }
                }
            })
            .map_err(failed)?;
        let of = Arc::clone(planner);
        thread::Builder::new()
            .name("replicate-ids".to_owned())
            .spawn(move || {
                while let Ok(names) = asked.recv() {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let told = describe::topics(of.source.inner(), &names, ANSWER);
                    if answered.send(told).is_err() {
                        return;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self {
            hurry,
            plans,
            questions,
            answers,
        })
    }

    /// The newest plan, when there is a new one.
    pub(super) fn plan(&self) -> Option<Result<Plan, ReplicateError>> {
        self.plans.try_iter().last()
    }

    /// Plans now.
    pub(super) fn hurry(&self) {
        let _ = self.hurry.send(());
    }

    /// Asks for the ids of these topics of the source. [`Self::ids`] has the answer.
    pub(super) fn ask(&self, topics: Vec<String>) {
        let _ = self.questions.send(topics);
    }

    /// Waits for the answer.
    pub(super) fn ids(&self) -> Answer {
        self.answers
            .recv_timeout(ANSWER + Duration::from_secs(2))
            .unwrap_or(Err(Code::OperationTimedOut))
    }
}
