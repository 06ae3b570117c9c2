//! seccomp: which system calls a worker is refused.
//!
//! The list names what is refused and lets the rest pass. A list of what is allowed would be tighter, and would break: the calls that
//! glibc, Tesseract, OpenMP and the allocators make differ by version, processor and locale, so that the first document that takes an
//! untried path on somebody's machine would kill its worker. What an attacker needs to leave the process (sockets, programs, other
//! processes, mounts, namespaces, kernel interfaces with a history of faults) is known and changes slowly; files are Landlock's. A
//! refused call fails with EPERM, so that a library that only tries (a font cache, a hint to the scheduler) goes on without it.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule,
};

use super::{Enforcement, Level};

/// Which threads the filter is put on.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    /// All threads of the process.
    All,
    /// The calling thread.
    This,
}

pub(super) fn refuse(threads: Threads, found: &mut Enforcement) {
    match filters().and_then(|filters| filters.iter().try_for_each(|filter| apply(threads, filter)))
    {
        Ok(()) => found.note(
            "seccomp",
            Level::Full,
            "network, programs, processes, mounts and kernel interfaces refused",
        ),
        Err(error) => found.note("seccomp", Level::Missing, error.to_string()),
    }
}

fn apply(threads: Threads, filter: &BpfProgram) -> Result<(), seccompiler::Error> {
    match threads {
        Threads::All => seccompiler::apply_filter_all_threads(filter),
        Threads::This => seccompiler::apply_filter(filter),
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filters() -> Result<[BpfProgram; 2], seccompiler::Error> {
    let mut refused: Rules = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    x32(&mut refused);
    refused.extend(refused_by_argument()?);
    // glibc tries clone3, whose flags a filter cannot see, and takes clone where clone3 does not exist.
    let absent: Rules = [(libc::SYS_clone3, Vec::new())].into();
    Ok([
        program(refused, libc::EPERM)?,
        program(absent, libc::ENOSYS)?,
    ])
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        errno,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // the network
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // other programs
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // shared memory and queues that outlive a process
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // names, owners and modes of files, which Landlock does not control
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    // mounts, roots and namespaces
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // the kernel's wider interfaces
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_lookup_dcookie,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    // the machine
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Terminal controls that type characters for the user (`asm-generic/ioctls.h`).
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

fn refused_by_argument() -> Result<Rules, BackendError> {
    let own = u64::from(std::process::id());
    let one = |condition: Result<Condition, BackendError>| SeccompRule::new(vec![condition?]);
    Ok([
        // A new process; threads pass.
        (
            libc::SYS_clone,
            vec![one(Condition::new(
                0,
                Len::Qword,
                Op::MaskedEq(libc::CLONE_THREAD as u64),
                0,
            ))?],
        ),
        // Datagrams to an address; the connected stream passes.
        (
            libc::SYS_sendto,
            vec![one(Condition::new(4, Len::Qword, Op::Ne, 0))?],
        ),
        // Signals to others; `abort` signals itself.
        (
            libc::SYS_kill,
            vec![one(Condition::new(0, Len::Dword, Op::Ne, own))?],
        ),
        (
            libc::SYS_tgkill,
            vec![one(Condition::new(0, Len::Dword, Op::Ne, own))?],
        ),
        // Limits of others.
        (
            libc::SYS_prlimit64,
            vec![SeccompRule::new(vec![
                Condition::new(0, Len::Dword, Op::Ne, 0)?,
                Condition::new(0, Len::Dword, Op::Ne, own)?,
            ])?],
        ),
        // Characters typed into the terminal.
        (
            libc::SYS_ioctl,
            vec![
                one(Condition::new(1, Len::Dword, Op::Eq, TIOCSTI))?,
                one(Condition::new(1, Len::Dword, Op::Eq, TIOCLINUX))?,
            ],
        ),
    ]
    .into())
}

/// The same calls by the numbers of the x32 ABI, which passes as x86-64: the common ones with bit 30 set, and those with numbers of their
/// own (`arch/x86/entry/syscalls/syscall_64.tbl`). Nothing of ours uses x32, so that the ones that are refused by argument are refused
/// altogether.
#[cfg(target_arch = "x86_64")]
fn x32(refused: &mut Rules) {
    const BIT: i64 = 0x4000_0000;
    let by_argument = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_sendto,
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_prlimit64,
    ];
    let common = REFUSED.iter().chain(&by_argument).copied();
    // From ioctl to pwritev2: every call whose arguments x32 passes in another form.
    for call in common.chain(512..=547) {
        refused.insert(BIT | call, Vec::new());
    }
}
