//! What follows from a receiver's reply, for the channels that speak HTTP.

use std::time::Duration;

use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use linkspan_model::config::HttpUrl;

use super::hidden::Hidden;
use super::{Verdict, VerdictKind};
use crate::outbound::{Answer, CallError, Outbound};

/// What is wrong with an address that an HTTP client does not take.
pub(super) const NOT_CALLABLE: &str =
    "cannot be called: it holds a character that must be percent-encoded";

/// Whether an address may be called, as far as it shows without asking a name server.
///
/// # Errors
///
/// Why not, as [`Outbound::check_host`].
pub(super) fn allowed(address: &HttpUrl, outbound: &Outbound) -> Result<(), String> {
    outbound.check_host(address.reveal().host_str().unwrap_or_default())
}

/// The longest wait that a receiver can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The receiver has it.
pub(super) fn taken(answer: &Answer, now: Timestamp) -> Verdict {
    let receipt = format!("accepted with {} at {:.0}", named(answer.status), now);
    Verdict::delivered(Some(answer.status.as_u16()), receipt)
}

/// The receiver gave a status that is not success.
pub(super) fn refused(
    answer: &Answer,
    address: &HttpUrl,
    hidden: &Hidden,
    now: Timestamp,
) -> Verdict {
    let status = named(answer.status);
    let said = hidden.show(&answer.body);
    let detail = if answer.status.is_redirection() {
        let elsewhere = elsewhere(&answer.headers, address);
        format!("answered {status}; redirects are not followed: set the address to {elsewhere}")
    } else if said.is_empty() {
        format!("answered {status}")
    } else {
        format!("answered {status}: {said}")
    };
    let after = retry_after(&answer.headers, now);
    let kind = match (answer.status, after) {
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(asked)) => {
            VerdictKind::Rest { asked }
        }
        _ => VerdictKind::Retry { after },
    };
    Verdict {
        kind,
        status: Some(answer.status.as_u16()),
        detail,
    }
}

/// There was no answer. What cannot pass by itself is a fault of the configuration: a dead letter, to be replayed when it is mended.
pub(super) fn unanswered(error: &CallError) -> Verdict {
    let detail = error.to_string();
    if error.may_pass() {
        Verdict::retry(None, detail)
    } else {
        Verdict::dead(None, detail)
    }
}

/// A status with its name.
fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Where a redirect points to, by its origin alone: the rest may be a secret.
fn elsewhere(headers: &HeaderMap, address: &HttpUrl) -> String {
    let target = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| address.reveal().join(location).ok());
    match target {
        Some(target) if target.origin() == address.reveal().origin() => {
            format!("where it points to, another path of {}", address.origin())
        }
        Some(target) if target.origin().is_tuple() => {
            format!(
                "where it points to, at {}",
                target.origin().ascii_serialization()
            )
        }
        _ => "where the receiver is now".to_owned(),
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date, a day at most.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more than a day.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date_and_bounded() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let day = 24 * 60 * 60;
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("86401", Some(day)),
            ("99999999999999999999999999", Some(day)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:00:00 GMT", None), // no Sunday
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(day)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let wait = retry_after(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{text:?}");
        }
    }
}
