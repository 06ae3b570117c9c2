//! Systems without these protections.

use super::{Enforcement, HostGone, Level, Policy};

pub(super) fn enter(_: &Policy) -> Result<Enforcement, HostGone> {
    Ok(probe())
}

pub(super) fn probe() -> Enforcement {
    let mut found = Enforcement::default();
    found.note(
        "sandbox",
        Level::Missing,
        "not supported on this system: workers are only processes of their own",
    );
    found
}

pub(super) fn allow_processor_time(_: u64) {}
