//! What to do about a problem, for `/problems/{code}` and docs/errors.md.

use linkspan_model::Code;

/// What whoever meets a problem can do. A new code does not compile without its line here.
#[must_use]
pub const fn what_to_do(code: Code) -> &'static str {
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
        Code::Internal => "Retry; if it stays, report it with the log lines of its `request_id`.",
        Code::Overloaded => {
            "Wait for `Retry-After`. If it is often so, raise `concurrency`, `queue` or `backlog`, or use the pattern `async`."
        }
        Code::StoreUnavailable => {
            "Wait for `Retry-After`; `/readyz` says why, and docs/operations.md what whoever runs the gateway does."
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
