//! Landlock: which files a worker can open, and that it reaches nobody.
//!
//! Source: <https://docs.kernel.org/userspace-api/landlock.html>. All rights up to ABI 6 are asked for; an older kernel gives what it has.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::{Enforcement, Level, Policy, READABLE};

pub(super) fn restrict(policy: &Policy, found: &mut Enforcement) {
    match apply(policy) {
        Ok(status) => {
            let (level, detail) = describe(&status);
            found.note("landlock", level, detail);
        }
        Err(error) => found.note("landlock", Level::Missing, error.to_string()),
    }
}

fn apply(policy: &Policy) -> Result<RestrictionStatus, RulesetError> {
    let wanted = ABI::V6;
    // No right to execute: a library is mapped, not executed.
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let readable = READABLE.iter().map(std::path::Path::new);
    let readable = readable.chain(policy.readable.iter().map(std::path::PathBuf::as_path));
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(wanted))?
        .handle_access(AccessNet::from_all(wanted))?
        .scope(Scope::from_all(wanted))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules([&policy.folder], read))?
        .restrict_self()
}

fn describe(status: &RestrictionStatus) -> (Level, String) {
    let abi = match status.landlock {
        LandlockStatus::NotImplemented => {
            return (
                Level::Missing,
                "this kernel is built without it (Linux 5.13 has it)".to_owned(),
            );
        }
        LandlockStatus::NotEnabled => {
            return (
                Level::Missing,
                "switched off at boot: add landlock to the kernel's lsm= list".to_owned(),
            );
        }
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
    };
    let lacking: Vec<&str> = [
        (3, "truncating files"),
        (4, "TCP"),
        (5, "device controls"),
        (6, "signals"),
    ]
    .into_iter()
    .filter(|(since, _)| abi < *since)
    .map(|(_, what)| what)
    .collect();
    match status.ruleset {
        RulesetStatus::NotEnforced => (Level::Missing, format!("ABI {abi}, not enforced")),
        // Without control of truncation a readable file is not safe: as good as nothing for what relies on it.
        _ if abi < 3 => (
            Level::Missing,
            format!("ABI {abi}, in force but for {}", lacking.join(", ")),
        ),
        RulesetStatus::FullyEnforced if lacking.is_empty() => (Level::Full, format!("ABI {abi}")),
        _ => (
            Level::Partial,
            format!("ABI {abi}, does not control {}", lacking.join(", ")),
        ),
    }
}
