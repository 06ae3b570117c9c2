//! For tests: channels opened from a configuration's text, and parcels to send.

use std::path::Path;
use std::sync::Arc;

use linkspan_model::config::{Config, Reference};
use linkspan_model::{DeliveryId, InvocationId};
use serde_json::{Value, json};

use super::{Channel, Context, Parcel, Verdict, open};
use crate::keys::HashKey;
use crate::links::Links;
use crate::outbound::testing::to_loopback;
use crate::store::Endpoint;
use crate::streaming::Clusters;

/// A context whose way out may call this machine.
pub(super) fn context() -> Context {
    let links = Links::new(
        "https://linkspan.example.com",
        &HashKey::throwaway().unwrap(),
    );
    Context {
        outbound: to_loopback(),
        public_url: links.base().to_owned(),
        links,
        folder: Path::new(".").to_owned(),
        smtp: None,
        kafka: Clusters::default(),
        own_streams: None,
    }
}

/// Opens the channel that an item of `deliver` describes; `${env:X}` is X.
pub(super) fn opened(item: &str, context: &Context) -> Result<Arc<dyn Channel>, Vec<String>> {
    let toml = format!(
        "[service.mood]\ntask = \"sentiment\"\n[integration.calls]\npattern = \"async\"\nsteps = [\"mood\"]\ndeliver = [{item}]\n"
    );
    let itself = |reference: Reference<'_>| match reference {
        Reference::Env(name) => Ok(name.to_owned()),
        Reference::File(_) => Err("no files here".to_owned()),
    };
    let config = Config::parse(&toml, "linkspan.toml", &itself).unwrap();
    let integration = &config.integrations.values().next().unwrap();
    open(&integration.deliver[0], "calls", context)
}

/// A succeeded result.
pub(super) fn result() -> Value {
    json!({
        "id": InvocationId::new(),
        "integration": "calls",
        "status": "succeeded",
        "answers": { "mood": {
            "label": "negative", "score": -0.7,
            "scores": { "positive": 0.0, "neutral": 0.4, "negative": 0.6 },
        } },
        "steps": [{ "service": "mood", "task": "sentiment", "engine": "builtin/vader", "took_ms": 1.5 }],
    })
}

/// A parcel with this result and no `map`.
pub(super) fn parcel(result: Value) -> Parcel {
    Parcel {
        id: DeliveryId::new(),
        job: result["id"].as_str().unwrap().parse().unwrap(),
        endpoint: Endpoint::new("calls", "crm"),
        attempt: 1,
        created: "2026-11-23T08:00:00Z".parse().unwrap(),
        content: result.clone(),
        mapped: false,
        kept_until: None,
        result,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    }
}

/// Sends one parcel.
pub(super) async fn send(channel: &Arc<dyn Channel>, parcel: Parcel) -> Verdict {
    let mut verdicts = channel.send(&[parcel]).await;
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0)
}
