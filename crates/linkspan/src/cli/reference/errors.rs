//! docs/errors.md: every problem code, with what to do.

use std::fmt::Write as _;

use linkspan_model::Code;

use crate::http::advice::what_to_do;

const HEAD: &str = "# Errors

<!-- Written by linkspan from its own list of problem codes; a test compares the two. Do not edit. -->

Every error is a problem document (RFC 9457, `application/problem+json`). Match on `code`, which never changes its meaning; `detail`
is a sentence for people, and its words may change. `type` is the path of a page on the gateway with what this page says of the code.
`request_id` is also in the gateway's log and, for refusals, in its audit log.

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
