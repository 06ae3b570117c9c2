//! The gateway as its users see it, over real HTTP: one test binary, a file a subject.

mod r#async;
mod same_answer;
mod scripted;
mod sync;
