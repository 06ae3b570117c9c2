//! The operations, each with what it takes and gives.

/// One operation: method, path, summary, what it takes and gives.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [(&'static str, &'static str, &'static str)],
    pub(super) answers: &'static [(&'static str, &'static str, Option<&'static str>)],
}

const JOB: (&str, &str, &str) = ("path", "id", "The invocation's id.");
const WAIT: (&str, &str, &str) = (
    "header",
    "Prefer",
    "`wait=N`: hold the answer for up to N seconds (RFC 7240).",
);

const DELIVERY: (&str, &str, &str) = ("path", "id", "The delivery's id.");
const AFTER: (&str, &str, &str) = ("query", "after", "The `next` of the page before.");
const FROM: (&str, &str, &str) = ("query", "from", "Only those made then or later (RFC 3339).");
const UNTIL: (&str, &str, &str) = ("query", "until", "Only those made before then (RFC 3339).");
const ENDPOINT: &[(&str, &str, &str)] = &[
    ("path", "integration", "The integration."),
    ("path", "channel", "The channel's name within it."),
];

/// Every operation of the HTTP face that others than the console's page use.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "post",
        path: "/v1/integrations/{name}/invocations",
        id: "invoke",
        summary: "Invoke an integration: the body is the document itself, JSON with a text, or a multipart form.",
        parameters: &[
            ("path", "name", "The integration."),
            (
                "header",
                "Prefer",
                "`respond-async`: 202 at once; `wait=N`: hold up to N seconds, then 202 (RFC 7240).",
            ),
            (
                "header",
                "Idempotency-Key",
                "The same key with the same request brings the first result again.",
            ),
        ],
        answers: &[
            ("200", "The result document.", Some("ResultDocument")),
            (
                "202",
                "Accepted as a job, durably; Location names it.",
                Some("Job"),
            ),
        ],
    },
    Operation {
        method: "get",
        path: "/v1/jobs",
        id: "listJobs",
        summary: "Jobs, newest first.",
        parameters: &[
            ("query", "integration", "Only this integration's."),
            ("query", "state", "Only in this state."),
            (
                "query",
                "caller",
                "Only this caller's; of others for administrators, within what they administer.",
            ),
            (
                "query",
                "q",
                "A job's id, or the id of the request that made it.",
            ),
            FROM,
            UNTIL,
            AFTER,
            ("query", "limit", "Jobs a page."),
        ],
        answers: &[("200", "A page.", Some("JobsPage"))],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}",
        id: "getJob",
        summary: "A job's state, attempts and timings; with If-None-Match and Prefer: wait=N it waits for the next change.",
        parameters: &[
            JOB,
            WAIT,
            ("header", "If-None-Match", "The ETag that the caller knows."),
        ],
        answers: &[
            ("200", "The job.", Some("Job")),
            ("304", "It has not changed.", None),
        ],
    },
    Operation {
        method: "delete",
        path: "/v1/jobs/{id}",
        id: "deleteJob",
        summary: "Erase a job with its document and result; an audit line stays.",
        parameters: &[JOB],
        answers: &[("204", "Erased.", None)],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/result",
        id: "getResult",
        summary: "A job's result: the result document, or the problem with which it failed; 409 not ready, 410 expired.",
        parameters: &[
            JOB,
            WAIT,
            (
                "query",
                "expires",
                "Of a signed link, which needs no key: when it ends.",
            ),
            ("query", "signature", "Of a signed link."),
        ],
        answers: &[("200", "The result document.", Some("ResultDocument"))],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/events",
        id: "jobEvents",
        summary: "A job's changes as server-sent events, to its end.",
        parameters: &[
            JOB,
            (
                "header",
                "Last-Event-ID",
                "The last event that the caller saw.",
            ),
        ],
        answers: &[(
            "200",
            "A stream of events; the data of each is the job.",
            None,
        )],
    },
    Operation {
        method: "post",
        path: "/v1/jobs/{id}/cancel",
        id: "cancelJob",
        summary: "Stop a queued, running or waiting job.",
        parameters: &[JOB],
        answers: &[("200", "The job.", Some("Job"))],
    },
    Operation {
        method: "post",
        path: "/v1/jobs/{id}/retry",
        id: "retryJob",
        summary: "Run a failed or cancelled job again.",
        parameters: &[JOB],
        answers: &[("200", "The job.", Some("Job"))],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/document",
        id: "getDocument",
        summary: "The document that came with a job, as an attachment.",
        parameters: &[JOB],
        answers: &[("200", "The document.", None)],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/preview",
        id: "getPreview",
        summary: "A picture (PNG) of a page of a job's document.",
        parameters: &[
            JOB,
            ("query", "page", "The page, from 1."),
            (
                "query",
                "turn",
                "How far it is turned, clockwise: 0, 90, 180 or 270.",
            ),
        ],
        answers: &[("200", "The picture.", None)],
    },
    Operation {
        method: "get",
        path: "/v1/deliveries",
        id: "listDeliveries",
        summary: "Deliveries, newest first.",
        parameters: &[
            ("query", "id", "Only this one."),
            ("query", "job", "Only this job's."),
            ("query", "integration", "Only this integration's."),
            ("query", "channel", "Only this channel's."),
            ("query", "state", "Only in this state."),
            FROM,
            UNTIL,
            AFTER,
            ("query", "limit", "Deliveries a page."),
        ],
        answers: &[("200", "A page.", Some("DeliveriesPage"))],
    },
    Operation {
        method: "get",
        path: "/v1/deliveries/{id}",
        id: "getDelivery",
        summary: "A delivery with its attempts.",
        parameters: &[DELIVERY],
        answers: &[("200", "The delivery.", Some("Delivery"))],
    },
    Operation {
        method: "get",
        path: "/v1/deliveries/{id}/content",
        id: "getDeliveryContent",
        summary: "What a delivery carries: the result document, or what the channel's map makes of it.",
        parameters: &[DELIVERY],
        answers: &[("200", "The content, JSON.", None)],
    },
    Operation {
        method: "post",
        path: "/v1/deliveries/{id}/replay",
        id: "replayDelivery",
        summary: "Send a delivered or dead one again, with the same id, or try a pending one now.",
        parameters: &[DELIVERY],
        answers: &[("200", "The delivery.", Some("Delivery"))],
    },
    Operation {
        method: "post",
        path: "/v1/deliveries/{id}/give-up",
        id: "giveUpDelivery",
        summary: "Give up one that has not arrived: it is a dead letter.",
        parameters: &[DELIVERY],
        answers: &[("200", "The delivery.", Some("Delivery"))],
    },
    Operation {
        method: "post",
        path: "/v1/deliveries/replay",
        id: "replayDeliveries",
        summary: "Send many again, or now, by integration or time of making, for administrators.",
        parameters: &[],
        answers: &[("200", "How many.", Some("Replayed"))],
    },
    Operation {
        method: "get",
        path: "/v1/endpoints",
        id: "listEndpoints",
        summary: "Where deliveries go, and how that goes.",
        parameters: &[],
        answers: &[("200", "The endpoints.", Some("EndpointsPage"))],
    },
    Operation {
        method: "post",
        path: "/v1/endpoints/{integration}/{channel}/pause",
        id: "pauseEndpoint",
        summary: "Hold back an endpoint's deliveries, for its administrators.",
        parameters: ENDPOINT,
        answers: &[("200", "The endpoint.", Some("Endpoint"))],
    },
    Operation {
        method: "post",
        path: "/v1/endpoints/{integration}/{channel}/resume",
        id: "resumeEndpoint",
        summary: "Let an endpoint's deliveries go on, for its administrators.",
        parameters: ENDPOINT,
        answers: &[("200", "The endpoint.", Some("Endpoint"))],
    },
    Operation {
        method: "get",
        path: "/v1/replications",
        id: "listReplications",
        summary: "How the copying of topics between Kafka clusters goes.",
        parameters: &[],
        answers: &[("200", "The replications.", Some("ReplicationsPage"))],
    },
    Operation {
        method: "get",
        path: "/v1/keys",
        id: "listKeys",
        summary: "The API keys without their secrets, for administrators.",
        parameters: &[],
        answers: &[("200", "The keys.", Some("KeysPage"))],
    },
    Operation {
        method: "post",
        path: "/v1/keys",
        id: "addKey",
        summary: "Make an API key, for administrators. It is shown this once.",
        parameters: &[],
        answers: &[("201", "The key.", Some("NewKey"))],
    },
    Operation {
        method: "post",
        path: "/v1/keys/{id}/revoke",
        id: "revokeKey",
        summary: "End an API key at once, and the console sessions that came from it; for administrators.",
        parameters: &[("path", "id", "The key's public part.")],
        answers: &[("200", "The key.", Some("Key"))],
    },
    Operation {
        method: "get",
        path: "/v1/audit",
        id: "listAudit",
        summary: "The audit log, newest first, for administrators.",
        parameters: &[
            ("query", "actor", "Only what this caller did."),
            (
                "query",
                "action",
                "Only this: `key.add`, `request.refused` …",
            ),
            (
                "query",
                "from",
                "Only what was done then or later (RFC 3339).",
            ),
            (
                "query",
                "until",
                "Only what was done before then (RFC 3339).",
            ),
            AFTER,
            ("query", "limit", "Lines a page."),
        ],
        answers: &[("200", "A page.", Some("AuditLines"))],
    },
    Operation {
        method: "get",
        path: "/v1/integrations",
        id: "listIntegrations",
        summary: "The integrations that the caller may invoke.",
        parameters: &[],
        answers: &[("200", "The integrations.", Some("Integrations"))],
    },
    Operation {
        method: "get",
        path: "/v1/services",
        id: "listServices",
        summary: "The services, with the schemas of their answers.",
        parameters: &[],
        answers: &[("200", "The services.", Some("Services"))],
    },
    Operation {
        method: "get",
        path: "/healthz",
        id: "alive",
        summary: "200 while the process answers.",
        parameters: &[],
        answers: &[("200", "Alive.", None)],
    },
    Operation {
        method: "get",
        path: "/readyz",
        id: "ready",
        summary: "200 while new work is accepted; 503 says why not.",
        parameters: &[],
        answers: &[("200", "Ready.", None)],
    },
    Operation {
        method: "get",
        path: "/metrics",
        id: "metrics",
        summary: "Prometheus metrics (OpenMetrics text), for keys with the scope read for all integrations.",
        parameters: &[],
        answers: &[("200", "The metrics.", None)],
    },
    Operation {
        method: "get",
        path: "/openapi.json",
        id: "openapi",
        summary: "This description (OpenAPI 3.1).",
        parameters: &[],
        answers: &[("200", "The description.", None)],
    },
    Operation {
        method: "get",
        path: "/docs",
        id: "docs",
        summary: "This description as a page for people.",
        parameters: &[],
        answers: &[("200", "The page.", None)],
    },
    Operation {
        method: "get",
        path: "/problems/{code}",
        id: "problem",
        summary: "What a problem document's `type` points to: what its code means.",
        parameters: &[("path", "code", "The problem's code.")],
        answers: &[("200", "The page.", None)],
    },
];

/// The schema of an operation's JSON body, by name, and whether a body must come.
pub(super) fn body(id: &str) -> Option<(&'static str, bool)> {
    Some(match id {
        "replayDeliveries" => ("Replay", true),
        "pauseEndpoint" => ("Pausing", false),
        "addKey" => ("KeyRequest", true),
        _ => return None,
    })
}
