//! docs/errors.md: every problem code, with what to do.

use std::fmt::Write as _;

use linkspan_model::Code;

const HEAD: &str = "# Errors

<!-- Written by linkspan from its own list of problem codes; a test compares the two. Do not edit. -->

Every error is a problem document (RFC 9457, `application/problem+json`). Match on `code`, which never changes its meaning; `detail`
is a sentence for people, and its words may change. `request_id` is also in the gateway's log and, for refusals, in its audit log.

```json
{ \"type\": \"/problems/not-ready\", \"title\": \"The result is not ready\", \"status\": 409,
  \"detail\": \"the job is running; ask again, or send Prefer: wait=30\",
  \"code\": \"not-ready\", \"retryable\": true, \"request_id\": \"0198…\" }
```

**Retryable** means that the same request can succeed later without a change. Send it again with the same `Idempotency-Key` and it is
never worked on twice at once. A 429 and a 503 carry `Retry-After`; wait at least that long. Inside a job the gateway does this by itself:
a step's retryable problem is tried again with growing waits, up to the integration's `attempts`; any other problem ends the job at once.
A failed job's `GET /v1/jobs/{id}/result` answers with the job's own problem and its status.
";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "\n| code | status | retryable | what it says | what to do |\n| --- | --- | --- | --- | --- |\n",
    );
    for &code in Code::ALL {
        let _ = writeln!(
            page,
            "| `{code}` | {} | {} | {} | {} |",
            code.status(),
            if code.retryable() { "yes" } else { "no" },
            code.title(),
            what_to_do(code)
        );
    }
    page
}

/// What whoever meets a problem can do. A new code does not compile without its line here.
const fn what_to_do(code: Code) -> &'static str {
    match code {
        Code::BadRequest => {
            "Put right what `detail` names: the body's form, a header or the query."
        }
        Code::Unauthenticated => {
            "Send `Authorization: Bearer lsk_…` with a key that has not expired or been revoked (`linkspan keys list`)."
        }
        Code::Forbidden => {
            "Use a key with the scope that `detail` names, or make one with `linkspan keys add`."
        }
        Code::NotFound => {
            "Check the path and the name. Other callers' jobs, and jobs past `store.row_retention`, are not found either."
        }
        Code::MethodNotAllowed => "Use one of the methods that `/docs` lists for the path.",
        Code::RequestTimeout => {
            "Send the body without a pause longer than `server.body_idle_timeout`."
        }
        Code::NotReady => {
            "Ask again, hold the request open with `Prefer: wait=30`, or follow `/v1/jobs/{id}/events`."
        }
        Code::InProgress => {
            "Send the same request with the same key in a moment: it brings the first one's result."
        }
        Code::WrongState => "Look at the job: `detail` says which states allow the command.",
        Code::Expired => {
            "Send the document anew; raise `retention` if results are fetched this late."
        }
        Code::BodyTooLarge => {
            "Send less, or raise `max_body` (for `claim` and `params`: `limits.max_claim`)."
        }
        Code::UnsupportedMediaType => {
            "Send one of the formats that `detail` lists; a text-taking step wants text, or an `extract-text` step before it."
        }
        Code::KeyReused => "Use a new key for a new request.",
        Code::UnreadableDocument => {
            "Open the file where it came from and save or scan it again. A damaged file stays damaged: do not retry."
        }
        Code::PasswordRequired => {
            "Send the document's password as the parameter `password` (multipart part `params`)."
        }
        Code::DocumentTooComplex => {
            "Split the document, or raise the limit that `detail` names in the service's `options`."
        }
        Code::UnsupportedLanguage => {
            "Send text in a language that the engine knows, or say with the parameter `language` that it is in one."
        }
        Code::InvalidParameter => "Put right the parameter that `detail` names.",
        Code::EngineCrashed => {
            "The engine cannot take this document; others are not affected. If you may share the file, report it."
        }
        Code::MemoryLimit => "Send a smaller document, or raise `worker.memory_limit`.",
        Code::RateLimited => {
            "Wait for `Retry-After`. The limit is the key's own (`keys add --rate`) or `server.rate_limit`."
        }
        Code::Cancelled => "Nothing: whoever asked has gone away.",
        Code::Internal => "Retry; if it stays, report it with the log lines of its `request_id`.",
        Code::Overloaded => {
            "Wait for `Retry-After`. If it is often so, raise `concurrency`, `queue` or `backlog`, or use the pattern `async`."
        }
        Code::StoreUnavailable => {
            "Wait for `Retry-After`; whoever runs the gateway looks at `/readyz` and [operations.md](operations.md#when-the-store-refuses)."
        }
        Code::EngineUnavailable => {
            "Whoever runs the gateway runs `linkspan doctor`, which names the missing package."
        }
        Code::ShuttingDown => "Wait for `Retry-After` and send it again.",
        Code::DeadlineExceeded => {
            "Send `Prefer: respond-async`, or set the integration's `overflow = \"async\"` or a longer `deadline`."
        }
        Code::EngineTimeout => {
            "Split the document, or raise `worker.time_limit` (for a job also `attempt_time_limit`)."
        }
    }
}
