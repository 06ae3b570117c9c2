//! Secrets, and the references by which a file names them instead of holding them.

use std::fmt;

/// A secret. Neither `Debug` nor `Display` prints it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where a value stands that the file only refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `"${env:NAME}"`: an environment variable.
    Env(&'a str),
    /// `"${file:PATH}"`: the content of a file, relative to the configuration's folder. The line ending at its end is not part of
    /// the value.
    File(&'a str),
}

/// Fetches what a reference refers to. Any `Fn(Reference) -> Result<String, String>` does.
pub trait Resolve {
    /// The value.
    ///
    /// # Errors
    ///
    /// Why there is none and what to do, for the fault's text; never the value.
    fn resolve(&self, reference: Reference<'_>) -> Result<String, String>;
}

impl<F: Fn(Reference<'_>) -> Result<String, String>> Resolve for F {
    fn resolve(&self, reference: Reference<'_>) -> Result<String, String> {
        self(reference)
    }
}

impl<'a> Reference<'a> {
    /// Reads a string of the file: a reference is the whole string or none of it.
    pub(super) fn parse(text: &'a str) -> Result<Option<Self>, &'static str> {
        const FORMS: &str = "a reference is \"${env:NAME}\" or \"${file:PATH}\"";
        if let Some(inner) = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
        {
            return match inner.split_once(':') {
                Some(("env", name)) if !name.is_empty() && !name.contains(['$', '}']) => {
                    Ok(Some(Self::Env(name)))
                }
                Some(("file", path)) if !path.is_empty() && !path.contains(['$', '}']) => {
                    Ok(Some(Self::File(path)))
                }
                _ => Err(FORMS),
            };
        }
        if text.contains("${env:") || text.contains("${file:") {
            return Err(
                "a reference must be the whole string: put what stands around it into the value, such as \"Bearer …\" for a header",
            );
        }
        Ok(None)
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("open sesame".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "… Secret(…)");
        assert_eq!(secret.reveal(), "open sesame");
    }
}
