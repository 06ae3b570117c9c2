//! What a `detect-language` service can be told (`[service.NAME.options]`).

use linkspan_model::Code;
use serde::Deserialize;
use serde_json::{Map, Value};
use whatlang::Lang;

use super::languages::{self, LANGUAGES};
use crate::engine::EngineError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// The languages that texts may be in, by their BCP 47 codes; all that are known where it is absent.
    languages: Option<Vec<String>>,
}

/// The languages that the service is restricted to, or `None`.
pub(super) fn languages(options: &Map<String, Value>) -> Result<Option<Vec<Lang>>, EngineError> {
    let options = Options::deserialize(options).map_err(|error| {
        EngineError::new(
            Code::InvalidParameter,
            format!("the options of a detect-language service are not valid: {error}"),
        )
    })?;
    let Some(codes) = options.languages else {
        return Ok(None);
    };
    if codes.is_empty() {
        return Err(EngineError::new(
            Code::InvalidParameter,
            "the option `languages` is an empty list: name at least one language, or leave the option out for all",
        ));
    }
    codes
        .iter()
        .map(|code| known(code))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn known(code: &str) -> Result<Lang, EngineError> {
    languages::from_code(code).ok_or_else(|| {
        EngineError::new(
            Code::InvalidParameter,
            format!(
                "the option `languages` names {code:?}, which is not the BCP 47 code of a language that is known; did you mean {}?",
                nearest(code)
            ),
        )
    })
}

/// The code that a wrong one was probably meant to be: it may be an ISO 639-3 code, a name, or a slip.
fn nearest(wrong: &str) -> String {
    let wrong = wrong.to_lowercase();
    let likeness = |lang: Lang, code: &str| {
        [
            code,
            lang.code(),
            &lang.eng_name().to_lowercase(),
            &lang.name().to_lowercase(),
        ]
        .into_iter()
        .map(|name| strsim::jaro_winkler(&wrong, name))
        .fold(0.0, f64::max)
    };
    LANGUAGES
        .iter()
        .max_by(|a, b| likeness(a.0, a.1).total_cmp(&likeness(b.0, b.1)))
        .map_or_else(String::new, |(lang, code)| {
            format!("{code:?} ({})", lang.eng_name())
        })
}
