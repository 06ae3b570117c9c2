//! linkspan's built-in engines, and the host that runs them in worker processes.
//!
//! An engine is one file (or folder) with an [`engine::Builtin`] in it, its `mod` line here and its line in [`registry`].

pub mod detect_language;
pub mod engine;
pub mod extract_text;
pub mod host;
pub mod ocr;
pub mod page_picture;
pub mod proof_of_identity;
pub mod registry;
pub mod sandbox;
pub mod sentiment;
pub mod worker;

pub use engine::{Builtin, Document, EngineError, Input, Isolation, Work};
