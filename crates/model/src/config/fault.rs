//! What is wrong with a file: every fault at once, each with its line, its key and what to do.

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong, or (as a warning) worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as its caller named it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The key's path, `integration.onboarding.steps[0]`; empty where the file is not TOML.
    pub key: String,
    /// What is wrong and what to do. Never holds what a reference resolved to.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a file, by line. Displays one fault a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults as an error, or nothing where there are none.
    ///
    /// # Errors
    ///
    /// When there is at least one fault.
    pub fn check(mut faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            return Ok(());
        }
        sort(&mut faults);
        Err(Self(faults))
    }

    /// At least one fault.
    #[must_use]
    pub fn of_all(mut faults: Vec<Fault>) -> Self {
        sort(&mut faults);
        Self(faults)
    }

    /// A single fault.
    pub(super) fn of(fault: Fault) -> Self {
        Self(vec![fault])
    }

    /// The faults, by line.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.0.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Puts faults in the order of the file, those of one line in the order in which they were found.
pub(super) fn sort(faults: &mut [Fault]) {
    faults.sort_by_key(|fault| fault.line);
}
