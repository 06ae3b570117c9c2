//! linkspan's words: ids, tasks, answers, jobs, problems and the configuration.
//!
//! Architecture invariant: nothing in this crate does I/O, starts a thread or reads a clock
//! (`InvocationId::new` and `DeliveryId::new` are the exception: a UUIDv7 holds the time at which it was made).

pub mod answer;
pub mod config;
pub mod delivery;
pub mod id;
pub mod job;
pub mod problem;
pub mod result;
pub mod task;

pub use answer::Answer;
pub use delivery::DeliveryState;
pub use id::{DeliveryId, InvocationId};
pub use job::JobState;
pub use problem::{Code, Problem};
pub use result::{ResultDocument, Status, StepReport};
pub use task::Task;
