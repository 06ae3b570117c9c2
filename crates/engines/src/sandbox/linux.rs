//! The layers on Linux, in the order in which they are put on.

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};
use rustix::time::{ClockId, clock_gettime};

use super::{Enforcement, HostGone, Level, Policy, landlock, seccomp};

pub(super) fn enter(policy: &Policy) -> Result<Enforcement, HostGone> {
    let mut found = Enforcement::default();
    die_with_host(policy, &mut found)?;
    limit(policy, &mut found);
    shed_privileges(&mut found);
    landlock::restrict(policy, &mut found);
    seccomp::refuse(seccomp::Threads::All, &mut found);
    Ok(found)
}

pub(super) fn probe() -> Enforcement {
    // These layers are put on one thread, which takes them with it when it ends.
    let try_on = || {
        let mut found = Enforcement::default();
        shed_privileges(&mut found);
        let policy = Policy {
            folder: std::env::temp_dir(),
            readable: Vec::new(),
            memory: 0,
            host: None,
        };
        landlock::restrict(&policy, &mut found);
        seccomp::refuse(seccomp::Threads::This, &mut found);
        found
    };
    let tried = std::thread::Builder::new()
        .name("sandbox-probe".to_owned())
        .spawn(try_on);
    tried
        .ok()
        .and_then(|thread| thread.join().ok())
        .unwrap_or_else(|| {
            let mut found = Enforcement::default();
            found.note(
                "sandbox",
                Level::Missing,
                "no thread could be made to try it on",
            );
            found
        })
}

pub(super) fn allow_processor_time(seconds: u64) {
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let limit = getrlimit(Resource::Cpu);
    let soft = used.saturating_add(seconds).saturating_add(1);
    let soft = limit.maximum.map_or(soft, |hard| soft.min(hard));
    // A failure leaves the wall-clock limit, which the host enforces.
    let _ = setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(soft),
            maximum: limit.maximum,
        },
    );
}

fn die_with_host(policy: &Policy, found: &mut Enforcement) -> Result<(), HostGone> {
    match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => found.note("parent-death", Level::Full, "killed when its host ends"),
        Err(error) => found.note("parent-death", Level::Missing, error.to_string()),
    }
    // The host may have died before the signal was asked for.
    let parent = getppid()
        .map(Pid::as_raw_nonzero)
        .and_then(|parent| u32::try_from(parent.get()).ok());
    if policy.host.is_some() && parent != policy.host {
        Err(HostGone)
    } else {
        Ok(())
    }
}

/// Addresses beyond the memory: what the allocator reserves for its arenas, and never all touches.
const RESERVED: u64 = 512 << 20;

/// The address space that this process has mapped, in bytes: the program and its libraries.
fn mapped() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_ascii_whitespace()
        .next()
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

fn limit(policy: &Policy, found: &mut Enforcement) {
    // What is counted as memory is what can be written to, so that a larger program leaves a document no less of it. Shared mappings
    // are not counted there; the address space bounds them.
    let addresses = mapped()
        .saturating_add(policy.memory)
        .saturating_add(RESERVED);
    let limits = [
        (Resource::Data, policy.memory, "memory"),
        (Resource::As, addresses, "address space"),
        (Resource::Fsize, 0, "written files"),
        (Resource::Nofile, 256, "open files"),
        (Resource::Core, 0, "core files"),
    ];
    let mut failed: Vec<&str> = limits
        .into_iter()
        .filter(|&(resource, most, _)| {
            let hard = getrlimit(resource).maximum;
            let most = Some(hard.map_or(most, |hard| most.min(hard)));
            setrlimit(
                resource,
                Rlimit {
                    current: most,
                    maximum: most,
                },
            )
            .is_err()
        })
        .map(|(_, _, name)| name)
        .collect();
    // A core limit of zero does not stop a collector behind a pipe, and a core holds the document.
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        failed.push("core collectors");
    }
    if failed.is_empty() {
        found.note(
            "limits",
            Level::Full,
            format!(
                "{} MiB of memory, no file written, no core",
                policy.memory >> 20
            ),
        );
    } else {
        found.note(
            "limits",
            Level::Partial,
            format!("not limited: {}", failed.join(", ")),
        );
    }
}

fn shed_privileges(found: &mut Enforcement) {
    match set_no_new_privs(true) {
        Ok(()) => found.note("no-new-privileges", Level::Full, "set"),
        Err(error) => found.note("no-new-privileges", Level::Missing, error.to_string()),
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // Kernels before 4.3 have no ambient set: nothing to clear.
    let _ = clear_ambient_capability_set();
    match set_capabilities(None, none) {
        Ok(()) => found.note("capabilities", Level::Full, "none left"),
        Err(error) => found.note("capabilities", Level::Missing, error.to_string()),
    }
}
