//! The console: the web application for people, at `/`, in the gateway's binary.
//!
//! The page talks to `/v1` as every caller does, and to the few routes here. It signs in with a key or through an identity provider
//! ([`signin`], [`oidc`]) and holds a cookie, which [`browser`] reads.

mod assets;
pub(super) mod browser;
mod events;
mod oidc;
mod overview;
mod signin;
mod tries;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::gateway::Gateway;
use oidc::Providers;
use overview::Snapshots;
pub(in crate::http) use signin::no_store;
use tries::Tries;

/// So many tries to sign in may fail from one address in a minute.
const MOST_FAILURES: u32 = 10;

/// What the console keeps in memory.
pub struct Console {
    tries: Tries,
    providers: Providers,
    snapshots: Snapshots,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            tries: Tries::new(MOST_FAILURES),
            providers: Providers::default(),
            snapshots: Snapshots::default(),
        }
    }
}

/// The console's routes.
pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/", get(assets::page))
        .route("/console/assets/{name}", get(assets::asset))
        .route(
            "/console/session",
            get(signin::show)
                .post(signin::sign_in)
                .delete(signin::sign_out),
        )
        .route("/console/oidc/login", get(oidc::login))
        .route("/console/oidc/callback", get(oidc::callback))
        .route("/console/overview", get(overview::show))
        .route("/console/events", get(events::stream))
}
