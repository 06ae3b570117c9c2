//! Pictures of documents' pages for the console, made in worker processes like all that parses documents.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use linkspan_engines::host::event::{DocumentRef, Event};
use linkspan_engines::host::{Invocation, Limits, Source, WorkerPool, WorkerSpec};
use linkspan_engines::page_picture::{PAGE_PICTURE, PagePicture, PageRequest};
use linkspan_model::config::Config;
use linkspan_model::{Code, Problem, Task};
use serde_json::Value;

/// Makes pictures of pages. Its workers start with the first one.
pub struct Previews {
    limits: Limits,
    workers: OnceLock<WorkerPool>,
}

/// A page as a picture.
pub struct Preview {
    /// How many pages the document has.
    pub pages: usize,
    /// The page's width and height before it is turned: points of a PDF, pixels of a picture.
    pub size: [f64; 2],
    /// The picture, PNG.
    pub png: Vec<u8>,
}

/// The most workers: people look at one page at a time, and the engines need the machine.
const WORKERS: usize = 2;

impl Previews {
    /// Previews within the configuration's limits of workers.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let limits = crate::engines::worker_limits(config);
        Self {
            limits: Limits {
                max_workers: limits.max_workers.min(WORKERS),
                ..limits
            },
            workers: OnceLock::new(),
        }
    }

    /// The picture of a page.
    ///
    /// # Errors
    ///
    /// As [`page_picture`](linkspan_engines::page_picture::page_picture), and what a worker may meet.
    pub async fn page(&self, document: Source, request: &PageRequest) -> Result<Preview, Problem> {
        let internal = |detail: &str| Problem::new(Code::Internal, detail);
        let Ok(Value::Object(params)) = serde_json::to_value(request) else {
            return Err(internal("the request for a page cannot be written"));
        };
        let event = Event {
            task: Task::ExtractText,
            text: None,
            document: Some(DocumentRef::default()),
            options: serde_json::Map::new(),
            params,
            claim: None,
        };
        let invocation = Invocation {
            document: Some(document),
            ..Invocation::default()
        };
        let performed = self
            .pool()?
            .perform(&event, &invocation)
            .await
            .map_err(|error| Problem::new(error.code, error.detail))?;
        let page: PagePicture = serde_json::from_value(performed.answer)
            .map_err(|_| internal("the worker gave no picture"))?;
        let png = BASE64_STANDARD
            .decode(page.png)
            .map_err(|_| internal("the worker gave a damaged picture"))?;
        Ok(Preview {
            pages: page.pages,
            size: page.size,
            png,
        })
    }

    /// Ends the workers.
    pub async fn shutdown(&self) {
        if let Some(workers) = self.workers.get() {
            workers.shutdown().await;
        }
    }

    fn pool(&self) -> Result<&WorkerPool, Problem> {
        if let Some(workers) = self.workers.get() {
            return Ok(workers);
        }
        let made = std::env::current_exe().and_then(|program| {
            let spec = WorkerSpec::own(PAGE_PICTURE, program, ["worker", PAGE_PICTURE]);
            WorkerPool::new(spec, self.limits.clone())
        });
        let workers = made.map_err(|error| {
            tracing::warn!(%error, "no workers for page pictures");
            Problem::new(
                Code::Internal,
                "page pictures cannot be made on this machine",
            )
        })?;
        // Another request may have been first; its workers are as good.
        Ok(self.workers.get_or_init(|| workers))
    }
}
