//! The words that the host and a worker exchange: the AWS Lambda Runtime API (2018-06-01) and linkspan's event.
//!
//! Both sides use this one file. An outside program sees the same JSON: its handler gets an [`Event`] and answers a [`Performed`].
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use linkspan_model::{Code, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{Document, EngineError};

/// Where a worker asks for its next invocation.
pub const NEXT: &str = "/2018-06-01/runtime/invocation/next";
/// What an invocation's own paths begin with: `{INVOCATION}{id}/response` and `{INVOCATION}{id}/error`.
pub const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
/// Where a worker says that it cannot start.
pub const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// The invocation's id.
pub const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
/// When the invocation must be done, in milliseconds of the Unix epoch.
pub const DEADLINE_MS: &str = "lambda-runtime-deadline-ms";
/// The X-Ray trace header of the invocation.
pub const TRACE_ID: &str = "lambda-runtime-trace-id";
/// The function's name as an ARN.
pub const FUNCTION_ARN: &str = "lambda-runtime-invoked-function-arn";
/// What kind of error a body or trailer tells of.
pub const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// The variable that holds `host:port` of the Runtime API.
pub const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// The variable that holds the memory that the worker may use, in MiB.
pub const MEMORY_SIZE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// The variable that holds the worker's secret, and (in lower case, with dashes) the header that proves it.
pub const TOKEN: &str = "LINKSPAN_WORKER_TOKEN";
/// The header that carries the secret on the worker's first request.
pub const TOKEN_HEADER: &str = "linkspan-worker-token";
/// The header in which a worker says on its first request how well it is shut in: a [`crate::sandbox::Enforcement`] as JSON.
pub const SANDBOX_HEADER: &str = "linkspan-worker-sandbox";
/// The variable that holds the host's process id, by which a worker knows that its parent is still there.
pub const HOST_PID: &str = "LINKSPAN_HOST_PID";

/// What our own worker's lines on standard error begin with. Only such lines are ever logged: a library's output may hold content.
pub const LOG_PREFIX: &str = "linkspan-worker: ";

/// One piece of work as a worker receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What to do.
    pub task: Task,
    /// The text to work on, for tasks that take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The file to work on, for tasks that take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentRef>,
    /// The service's options.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// The caller's parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// What the caller says of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Value>,
}

impl Event {
    /// The document, where there is one, with its content.
    pub(crate) fn document<'a>(&'a self, bytes: &'a [u8]) -> Option<Document<'a>> {
        self.document.as_ref().map(|document| Document {
            bytes,
            media_type: document.media_type.as_deref(),
            file_name: document.file_name.as_deref(),
        })
    }
}

/// Where a worker finds the document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentRef {
    /// The file: relative to the worker's working folder, absolute where the program has a folder of its own. The host fills it in.
    #[serde(default)]
    pub path: String,
    /// The media type that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The file name that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

/// What a built-in engine's worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Performed {
    /// The engine and its version, for the result document.
    pub engine: String,
    /// The task's answer.
    pub answer: Value,
}

/// An error as the Runtime API carries it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What is wrong, in a sentence for the caller.
    #[serde(rename = "errorMessage", default)]
    pub message: String,
    /// What kind it is: from our own workers a [`Code`]'s name.
    #[serde(rename = "errorType", default)]
    pub kind: String,
}

impl Fault {
    /// The code that the fault names, if it is one of ours.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.name() == self.kind)
    }
}

impl From<&EngineError> for Fault {
    fn from(error: &EngineError) -> Self {
        // The source stays behind: a library's own words may quote the document.
        Self {
            message: error.detail.clone(),
            kind: error.code.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_through_the_runtime_api() {
        for &code in Code::ALL {
            let sent =
                serde_json::to_string(&Fault::from(&EngineError::new(code, "what to do"))).unwrap();
            let received: Fault = serde_json::from_str(&sent).unwrap();
            assert_eq!(
                (received.code(), received.message.as_str()),
                (Some(code), "what to do")
            );
        }
        assert_eq!(
            Fault {
                kind: "ValueError".to_owned(),
                ..Fault::default()
            }
            .code(),
            None
        );
    }

    #[test]
    fn an_event_without_optional_parts_reads_and_writes_as_itself() {
        let json = r#"{"task":"extract-text","document":{"path":"document"}}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
    }
}
