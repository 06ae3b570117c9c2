//! The HTTP face.

pub mod advice;
pub mod audit;
pub mod catalog;
pub mod console;
pub mod deliveries;
mod docs;
mod document;
pub mod endpoints;
mod events;
mod health;
mod intake;
mod invocations;
pub mod jobs;
pub mod keys;
mod kinesis;
pub mod layers;
mod linger;
mod link;
pub mod openapi;
mod origin;
mod paced;
pub mod prefer;
mod preview;
mod problem;
mod query;
pub mod replications;
pub mod results;
pub mod retries;
mod segment;
pub mod server;
mod session;
mod small;
pub mod streams;
pub mod trace;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, Method};
use linkspan_model::Code;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;

use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// All routes of a gateway.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let mut router = Router::new()
        .route("/v1/integrations", get(catalog::integrations))
        .route(
            "/v1/integrations/{name}/invocations",
            post(invocations::invoke),
        )
        .route("/v1/services", get(catalog::services))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/retry", post(retries::retry_many))
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::delete))
        .route("/v1/jobs/{id}/result", get(jobs::result))
        .route("/v1/jobs/{id}/events", get(events::stream))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/jobs/{id}/preview", get(preview::of_job))
        .route("/console/preview", post(preview::of_body))
        .route("/v1/jobs/{id}/document", get(document::show))
        .route("/v1/results", get(results::list))
        .route("/v1/streams", get(streams::list))
        .route("/v1/streams/{integration}", get(streams::show))
        .route("/v1/streams/{integration}/labels", get(streams::labels))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/replay", post(deliveries::replay_many))
        .route("/v1/deliveries/{id}", get(deliveries::show))
        .route("/v1/deliveries/{id}/content", get(deliveries::content))
        .route("/v1/deliveries/{id}/replay", post(deliveries::replay))
        .route("/v1/deliveries/{id}/give-up", post(deliveries::give_up))
        .route("/v1/keys", get(keys::list).post(keys::add))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/v1/audit", get(audit::list))
        .route("/v1/endpoints", get(endpoints::list))
        .route(
            "/v1/endpoints/{integration}/{channel}/pause",
            post(endpoints::pause),
        )
        .route(
            "/v1/endpoints/{integration}/{channel}/resume",
            post(endpoints::resume),
        )
        .route("/v1/replications", get(replications::list))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .route("/problems/{code}", get(docs::problem))
        .merge(kinesis::routes());
    if gateway.config.server.metrics {
        router = router.route("/metrics", get(health::metrics));
    }
    if gateway.config.console.enabled {
        router = router.merge(console::routes());
    } else {
        router = router.route("/", get(nothing));
    }
    let router = router
        .fallback(nothing)
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                Code::MethodNotAllowed,
                "this path has other methods; GET /docs lists them",
            )
        })
        // Bodies are bounded where they are read, by the integration's own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                Refusal::new(
                    Code::Internal,
                    "the gateway met a fault of its own; it is logged under this request_id",
                )
                .into_response()
            },
        ))
        .layer(middleware::from_fn_with_state(
            gateway.clone(),
            layers::observe,
        ));
    let router = match cors(&gateway) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(gateway)
}

async fn nothing() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "there is nothing at this path; GET /docs lists what there is",
    )
}

/// Cross-origin calls, off unless origins are named.
fn cors(gateway: &Gateway) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = gateway
        .config
        .server
        .cors_origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let allowed = [
        "authorization",
        "content-type",
        "idempotency-key",
        "if-none-match",
        "last-event-id",
        "prefer",
        "traceparent",
        "x-request-id",
    ];
    let exposed = [
        "etag",
        "idempotency-replayed",
        "linkspan-invocation-id",
        "location",
        "preference-applied",
        "retry-after",
        "traceparent",
        "x-request-id",
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(allowed.map(HeaderName::from_static))
            .expose_headers(exposed.map(HeaderName::from_static)),
    )
}
