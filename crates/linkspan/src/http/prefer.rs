//! The `Prefer` request header (RFC 7240): `respond-async` and `wait=N`.

use std::time::Duration;

use http::HeaderMap;

/// What the client would rather have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// Answer 202 at once.
    pub respond_async: bool,
    /// Hold the answer for up to this long.
    pub wait: Option<Duration>,
}

impl Prefer {
    /// Reads the preferences of a request; a wait longer than `longest` is cut to it. What is not understood is passed over, as
    /// RFC 7240 section 2 asks; of a preference that comes twice the first counts.
    #[must_use]
    pub fn of(headers: &HeaderMap, longest: Duration) -> Self {
        let mut prefer = Self::default();
        let preferences = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        for preference in preferences {
            let token = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("respond-async") {
                prefer.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait")
                && prefer.wait.is_none()
                && let Ok(seconds) = value.parse::<u64>()
            {
                prefer.wait = Some(Duration::from_secs(seconds).min(longest));
            }
        }
        prefer
    }

    /// The value of `Preference-Applied` for what was honoured, if anything was.
    #[must_use]
    pub fn applied(respond_async: bool, wait: Option<Duration>) -> Option<String> {
        let parts: Vec<String> = [
            respond_async.then(|| "respond-async".to_owned()),
            wait.map(|wait| format!("wait={}", wait.as_secs())),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn of(values: &[&str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", value.parse().unwrap());
        }
        Prefer::of(&headers, LONGEST)
    }

    #[test]
    fn preferences_are_read_from_one_header_or_several() {
        let both = Prefer {
            respond_async: true,
            wait: Some(Duration::from_secs(10)),
        };
        assert_eq!(of(&["respond-async, wait=10"]), both);
        assert_eq!(of(&["Respond-Async; foo=\"bar\"", "wait=\"10\""]), both);
        assert_eq!(of(&["wait=10", "wait=99, respond-async"]), both);
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        assert_eq!(of(&["wait=soon, handling=lenient", ""]), Prefer::default());
        assert_eq!(of(&[]), Prefer::default());
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(of(&["wait=99999999"]).wait, Some(LONGEST));
    }
}
