//! What the sections must be to each other: chains, exposure, retention.

mod streams;

use std::collections::BTreeSet;

use super::deliver::{Channel, Deliver, channel_names};
use super::fault::Fault;
use super::lines::Lines;
use super::outside::Grants;
use super::reader::{nearest, step_down};
use super::sections::{Oidc, Sections, Server, Store};
use super::store::{BlobStore, JobStore};
use super::units::format_duration;
use super::words::{Auth, Overflow, Pattern, Shape};
use super::{Integration, IntegrationName, ServiceName};
use crate::Task;
use crate::task::Takes;

/// Everything that is wrong between the sections. `told` are the faults that are known already.
pub(super) fn check(sections: &Sections, lines: &Lines, told: &[Fault]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !told.iter().any(|fault| fault.key.starts_with("server")) {
        faults.extend(exposure(&sections.server, lines));
    }
    faults.extend(retention(sections, lines));
    if let Some(oidc) = &sections.console.oidc {
        faults.extend(sign_in(oidc, sections, lines));
    }
    faults.extend(bucket(&sections.store, lines));
    for (name, integration) in &sections.integration {
        faults.extend(steps(name, integration, sections, lines));
        faults.extend(bounds(name, integration, sections, lines));
        faults.extend(channels(name, integration, sections, lines));
        faults.extend(streams::integration(name, integration, sections, lines));
    }
    for (name, replication) in &sections.replicate {
        faults.extend(streams::replication(name, replication, sections, lines));
    }
    // What is told of a key is not told twice: a stand-in may have taken its place.
    let tells = |told: &Fault, key: &str| {
        let rest = key.strip_prefix(told.key.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    faults.retain(|fault| !told.iter().any(|told| tells(told, &fault.key)));
    faults
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(sections: &Sections, lines: &Lines) -> Vec<Fault> {
    let used: BTreeSet<_> = sections
        .integration
        .values()
        .flat_map(|integration| &integration.steps)
        .collect();
    let unused = sections.service.keys().filter(|name| !used.contains(name));
    let mut warnings: Vec<_> = unused
        .map(|name| {
            lines.fault(
                &format!("service.{name}"),
                "no integration uses this service",
            )
        })
        .collect();
    let delivering = sections.integration.iter().filter(|(_, integration)| {
        integration.pattern == Pattern::Sync
            && integration.overflow == Overflow::Error
            && !integration.deliver.is_empty()
    });
    warnings.extend(delivering.map(|(name, _)| {
        let message = "only jobs are delivered, and this integration answers in the response: with overflow = \"async\" its overdue \
                       calls become jobs, and callers may ask for one by Prefer: respond-async or wait=N";
        lines.fault(&format!("integration.{name}.deliver"), message)
    }));
    warnings.extend(links(sections, lines));
    warnings.extend(streams::warnings(sections, lines));
    if let (JobStore::Postgres(_), BlobStore::File(_)) =
        (&sections.store.jobs, &sections.store.blobs)
    {
        let message = "a folder is one gateway's: other gateways on the same database find no document in it; use \"s3://BUCKET/PREFIX\" \
                       for more than one";
        warnings.push(lines.fault("store.blobs", message));
    }
    if let JobStore::Postgres(_) = &sections.store.jobs {
        for (name, integration) in &sections.integration {
            let files = integration.deliver.iter().enumerate();
            let files = files.filter(|(_, item)| matches!(item.channel, Channel::File(_)));
            warnings.extend(files.map(|(nth, _)| {
                let message = "a file is one gateway's: of several gateways on the same database each writes what it sends into its own; \
                               use a webhook or an API for more than one";
                lines.fault(&format!("integration.{name}.deliver[{nth}].file"), message)
            }));
        }
    }
    if sections.integration.is_empty() {
        let message = "there is none, so nothing can be invoked: add [integration.NAME] with pattern and steps";
        warnings.push(lines.fault("integration", message));
    }
    warnings
}

/// Links that lead nowhere: to an address of this machine, or to a result that is erased by then.
fn links(sections: &Sections, lines: &Lines) -> Vec<Fault> {
    let mut warnings = Vec::new();
    let mut linking = Vec::new();
    for (name, integration) in &sections.integration {
        let kept = integration.retention.unwrap_or(sections.store.retention);
        for (nth, deliver) in integration.deliver.iter().enumerate() {
            let at = format!("integration.{name}.deliver[{nth}]");
            let ttl = match &deliver.channel {
                Channel::Webhook(webhook) => Some(webhook.link_ttl),
                Channel::Email(email) => Some(email.link_ttl),
                Channel::Http(http) if http.shape == Shape::Json => continue,
                Channel::Http(_) => None,
                Channel::File(_) | Channel::Kafka(_) | Channel::Kinesis(_) => continue,
            };
            if let Some(ttl) = ttl.filter(|ttl| *ttl > kept) {
                let (ttl, kept) = (format_duration(ttl), format_duration(kept));
                let message = format!(
                    "results are kept for {kept}, so links end then and not after {ttl}: raise retention, or lower this"
                );
                warnings.push(lines.fault(&format!("{at}.link_ttl"), message));
            }
            linking.push(at);
        }
    }
    let server = &sections.server;
    if let (None, Some(first)) = (&server.public_url, linking.first()) {
        let scheme = if server.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let more = match linking.len() {
            1 => String::new(),
            count => format!(" (and of {} more)", count - 1),
        };
        let message = format!(
            "is not set, so the links of {first}{more} lead to {scheme}://{}: set it to the address at which others reach the gateway",
            server.listen
        );
        warnings.push(lines.fault("server.public_url", message));
    }
    warnings
}

/// What a request to a chain of tasks must bring, or the first step that would lack its input, and why.
pub(super) fn request_of(tasks: &[Task]) -> Result<Takes, (usize, String)> {
    // A step that takes no text always takes the request's own content, so all of these must take the same.
    let first = tasks.iter().position(|task| task.takes() != Takes::Text);
    let Some(first) = first else {
        return Ok(Takes::Text);
    };
    let request = tasks[first].takes();
    let mut text = false;
    for (nth, task) in tasks.iter().enumerate() {
        let takes = task.takes();
        if takes == Takes::Text && !text {
            let why = format!(
                "{task} takes a text, but the request brings {} (for {}) and no step before this one gives a text: put a \
                 service of the task {} before it, or give it an integration of its own",
                in_words(request),
                tasks[first],
                if request == Takes::Audio {
                    Task::Transcribe
                } else {
                    Task::ExtractText
                },
            );
            return Err((nth, why));
        }
        if takes != Takes::Text && takes != request {
            let why = format!(
                "{task} takes {}, but the request brings {} (for {}): give it an integration of its own",
                in_words(takes),
                in_words(request),
                tasks[first],
            );
            return Err((nth, why));
        }
        text |= task.gives_text();
    }
    Ok(request)
}

fn in_words(takes: Takes) -> &'static str {
    match takes {
        Takes::Document => "a document",
        Takes::Audio => "a recording",
        Takes::Text => "a text",
        Takes::Series => "series of numbers",
    }
}

fn steps(
    name: &IntegrationName,
    integration: &Integration,
    sections: &Sections,
    lines: &Lines,
) -> Vec<Fault> {
    let at = |nth: usize| format!("integration.{name}.steps[{nth}]");
    let mut faults = Vec::new();
    if integration.steps.is_empty() {
        let message = "must name at least one service";
        faults.push(lines.fault(&format!("integration.{name}.steps"), message));
    }
    for (nth, step) in integration.steps.iter().enumerate() {
        if integration.steps[..nth].contains(step) {
            let message =
                format!("\"{step}\" is named twice: the result holds one answer a service");
            faults.push(lines.fault(&at(nth), message));
        }
        if !lines.has(&format!("service.{step}")) {
            faults.push(lines.fault(&at(nth), no_such_service(step, lines)));
        }
    }
    let tasks: Option<Vec<_>> = integration
        .steps
        .iter()
        .map(|step| sections.service.get(step).map(|service| service.task))
        .collect();
    if let Some(Err((nth, why))) = tasks.as_deref().map(request_of) {
        faults.push(lines.fault(
            &at(nth),
            format!("\"{}\" does not fit here: {why}", integration.steps[nth]),
        ));
    }
    faults
}

fn no_such_service(step: &ServiceName, lines: &Lines) -> String {
    match nearest(step.as_str(), lines.names("service")) {
        Some(near) => format!("there is no service \"{step}\"; did you mean \"{near}\"?"),
        None => format!("there is no service \"{step}\": declare [service.{step}] with its task"),
    }
}

fn bounds(
    name: &IntegrationName,
    integration: &Integration,
    sections: &Sections,
    lines: &Lines,
) -> Vec<Fault> {
    let at = |key: &str| format!("integration.{name}.{key}");
    let mut faults = Vec::new();
    let most = sections.server.max_body;
    if let Some(own) = integration.max_body.filter(|own| *own > most) {
        faults.push(lines.fault(
            &at("max_body"),
            format!("{own} is more than server.max_body ({most}): raise that first"),
        ));
    }
    let row = sections.store.row_retention;
    if let Some(own) = integration.retention.filter(|own| *own > row) {
        let (own, row) = (format_duration(own), format_duration(row));
        let message = format!("{own} is longer than store.row_retention ({row}): raise that first");
        faults.push(lines.fault(&at("retention"), message));
    }
    let backoff = &integration.backoff;
    if backoff.first > backoff.max {
        let (first, max) = (format_duration(backoff.first), format_duration(backoff.max));
        let message = format!(
            "the first wait ({first}) is longer than the longest ({max}): lower first or raise max"
        );
        faults.push(lines.fault(&at("backoff"), message));
    }
    faults
}

fn channels(
    name: &IntegrationName,
    integration: &Integration,
    sections: &Sections,
    lines: &Lines,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let names = channel_names(&integration.deliver);
    for (nth, (deliver, channel)) in integration.deliver.iter().zip(&names).enumerate() {
        let at = format!("integration.{name}.deliver[{nth}]");
        if matches!(deliver.channel, Channel::Email(_)) && sections.email.is_none() {
            let message = "needs a mail server: add the section [email]";
            faults.push(lines.fault(&format!("{at}.email"), message));
        }
        let alike = |other: &Deliver| other.channel.kind() == deliver.channel.kind();
        if deliver.common.name.is_none()
            && integration.deliver.iter().filter(|it| alike(it)).count() > 1
        {
            let kind = deliver.channel.kind();
            let message = format!(
                "this integration has several channels of the kind {kind}: give each a name, by which its deliveries are known when the others change"
            );
            faults.push(lines.fault(&at, message));
        } else if names[..nth].contains(channel) {
            let message = format!(
                "another channel of this integration has the name \"{channel}\": give this one a name of its own"
            );
            let key = match deliver.common.name {
                Some(_) => format!("{at}.name"),
                None => at,
            };
            faults.push(lines.fault(&key, message));
        }
    }
    faults
}

fn retention(sections: &Sections, lines: &Lines) -> Vec<Fault> {
    let store = &sections.store;
    let longer = [
        ("retention", store.retention),
        ("idempotency_ttl", store.idempotency_ttl),
    ]
    .into_iter()
    .filter(|(_, own)| *own > store.row_retention);
    longer
        .map(|(key, own)| {
            let (own, row) = (format_duration(own), format_duration(store.row_retention));
            let message =
                format!("{row} is shorter than store.{key} ({own}): raise this or lower that");
            lines.fault("store.row_retention", message)
        })
        .collect()
}

/// Who may sign in through the identity provider, and where they come back to.
fn sign_in(oidc: &Oidc, sections: &Sections, lines: &Lines) -> Vec<Fault> {
    const AT: &str = "console.oidc";
    let mut faults = Vec::new();
    let mut tell = |key: &str, message: &str| faults.push(lines.fault(key, message));
    match (&oidc.scope_claim, &oidc.scopes) {
        (None, None) if oidc.admin.is_empty() => tell(
            AT,
            "nobody could sign in: name people in admin, or give scopes to the values of a claim by scope_claim and scopes",
        ),
        (None, Some(_)) => tell(
            &format!("{AT}.scopes"),
            "needs scope_claim, which says whose values these are",
        ),
        // Where they are there and faulty, that is told.
        (Some(_), None) if !lines.has(&format!("{AT}.scopes")) => tell(
            &format!("{AT}.scope_claim"),
            "needs scopes, which says what its values allow",
        ),
        _ => {}
    }
    if sections.server.auth == Auth::None {
        let message =
            "with server.auth = \"none\" nobody signs in: use auth = \"keys\", or remove this";
        tell(AT, message);
    }
    let reachable = sections.server.listen.ip().to_canonical().is_loopback();
    if sections.server.public_url.is_none() && !reachable {
        let message = "people come back from the provider to server.public_url: set it to the address at which they reach the gateway";
        tell(AT, message);
    }
    if let Some(entry) = oidc
        .successors
        .iter()
        .find(|entry| !entry.starts_with("sub:"))
    {
        let message = format!("{entry:?} is no person: write sub: and the provider's sub");
        tell(&format!("{AT}.successors"), &message);
    }
    for (value, scopes) in oidc.scopes.iter().flat_map(Grants::iter) {
        for scope in scopes {
            let (action, integration) = match scope.split_once(':') {
                Some((action, integration)) => (action, Some(integration)),
                None => (scope.as_str(), None),
            };
            let mut at = format!("{AT}.scopes");
            step_down(&mut at, value);
            if !["invoke", "read", "admin"].contains(&action) {
                let message = format!(
                    "{scope:?} is no scope; the scopes are invoke, read and admin, each alone or with :INTEGRATION"
                );
                tell(&at, &message);
            } else if let Some(integration) = integration
                && !lines.has(&format!("integration.{integration}"))
            {
                tell(
                    &at,
                    &format!("{scope:?}: there is no integration {integration:?}"),
                );
            }
        }
    }
    faults
}

/// How the bucket is reached.
fn bucket(store: &Store, lines: &Lines) -> Vec<Fault> {
    let s3 = &store.s3;
    let mut faults = Vec::new();
    if let Some(endpoint) = &s3.endpoint
        && endpoint.reveal().scheme() == "http"
        && !s3.allow_http
    {
        let message = "documents would go there unencrypted: use https, or set allow_http = true where the network between is trusted";
        faults.push(lines.fault("store.s3.endpoint", message));
    }
    if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
        let message = "access_key_id and secret_access_key belong together: give both, or neither to take them from the environment";
        faults.push(lines.fault("store.s3", message));
    }
    faults
}

/// Anyone may reach an address that is not a loopback one: it needs authentication and TLS.
pub(super) fn exposure(server: &Server, lines: &Lines) -> Vec<Fault> {
    let listen = server.listen;
    if listen.ip().to_canonical().is_loopback() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    if server.auth == Auth::None {
        let message = format!(
            "with \"none\" everyone who reaches {listen} could do everything: use auth = \"keys\" (linkspan keys add makes a key), \
             or listen on 127.0.0.1"
        );
        faults.push(lines.fault("server.auth", message));
    }
    if server.tls.is_none() && !server.tls_terminated_by_proxy {
        let message = format!(
            "keys and documents would go to {listen} unencrypted: set tls = {{ cert = \"…\", key = \"…\" }}, or \
             tls_terminated_by_proxy = true where a proxy before the gateway does TLS, or listen on 127.0.0.1"
        );
        faults.push(lines.fault("server.listen", message));
    }
    faults
}
