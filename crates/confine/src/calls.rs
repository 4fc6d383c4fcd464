//! Calls: what may still be asked of the kernel. Everything that is not listed here is answered
//! with `EPERM`; seccomp does it.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use crate::Missing;

const WHAT: &str = "seccomp";

/// Everybody's: to read and write what is open, to keep memory, to have threads, to end.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fadvise64,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Answered as if the kernel did not have it; see `without_clone3`.
    libc::SYS_clone3,
];

/// Of those who write: to make, fill, name and remove files. Landlock says where.
const WRITING: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_copy_file_range,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fstatfs,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
    // `renameat`, for which there is no constant.
    #[cfg(target_arch = "aarch64")]
    38,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// What a descriptor may be asked: copies of it and locks on it, but no signals from it.
const DESCRIPTOR_COMMANDS: [libc::c_int; 6] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_OFD_SETLK,
    libc::F_OFD_GETLK,
];

/// Shares the blocks of a whole file, or of a range of one: `FICLONE` and `FICLONERANGE`.
const CLONES: [u64; 2] = [0x4004_9409, 0x4020_940D];

/// Of those who are handed open files: to receive a message.
const TAKING: &[libc::c_long] = &[libc::SYS_recvmsg];

/// Of those who fill one of these: to write anywhere in it, to make it shorter or longer, and to ask
/// how much room is left beside it.
const FILLING: &[libc::c_long] = &[libc::SYS_pwrite64, libc::SYS_ftruncate, libc::SYS_fstatfs];

/// What a process does besides reading.
#[derive(Clone, Copy)]
pub(crate) struct Kinds {
    /// It makes files.
    pub(crate) writes: bool,
    /// It is handed files.
    pub(crate) takes_files: bool,
    /// It fills one of them.
    pub(crate) fills_files: bool,
}

/// Allows the calls of those who read, and of those who do what `kinds` says.
pub(crate) fn enter(kinds: Kinds) -> Option<Missing> {
    let applied = filters(kinds).map_err(|error| error.to_string()).and_then(|filters| {
        filters
            .iter()
            .try_for_each(|filter| apply_filter(filter).map_err(|error| error.to_string()))
    });
    applied.err().map(|why| Missing { what: WHAT, why })
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filters(kinds: Kinds) -> Result<[BpfProgram; 2], BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let allowed = SeccompFilter::new(rules(kinds)?, denied, SeccompAction::Allow, architecture)?;
    Ok([without_clone3(architecture)?.try_into()?, allowed.try_into()?])
}

/// A filter cannot look into what `clone3` is given. C libraries take `clone` where it is not
/// there, whose flags say whether a thread is made or a process.
fn without_clone3(architecture: TargetArch) -> Result<SeccompFilter, BackendError> {
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, absent, architecture)
}

fn rules(kinds: Kinds) -> Result<Rules, BackendError> {
    let writing = if kinds.writes { WRITING } else { &[] };
    let taking = if kinds.takes_files { TAKING } else { &[] };
    let filling = if kinds.fills_files { FILLING } else { &[] };
    let calls = ALWAYS.iter().chain(writing).chain(taking).chain(filling);
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
    let no_code = masked(2, libc::PROT_EXEC, 0)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![no_code.clone()])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![no_code])?]);
    let thread = masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    let commands = DESCRIPTOR_COMMANDS.map(|command| equal(1, u64::from(command.unsigned_abs())));
    rules.insert(libc::SYS_fcntl, one_of(commands)?);
    // To end by itself, as abort does, but no other process.
    let itself = equal(0, u64::from(std::process::id()));
    rules.insert(libc::SYS_tgkill, one_of([itself])?);
    let names_thread = equal(0, u64::from(libc::PR_SET_NAME.unsigned_abs()));
    rules.insert(libc::SYS_prctl, one_of([names_thread])?);
    // Limits are looked at, and only its own.
    let looks = SeccompRule::new(vec![equal(0, 0)?, null(2)?])?;
    rules.insert(libc::SYS_prlimit64, vec![looks]);
    if kinds.writes {
        rules.insert(libc::SYS_ioctl, one_of(CLONES.map(|clone| equal(1, clone)))?);
    }
    Ok(rules)
}

/// A rule for each condition: one of them is enough.
fn one_of<const COUNT: usize>(
    conditions: [Result<SeccompCondition, BackendError>; COUNT],
) -> Result<Vec<SeccompRule>, BackendError> {
    conditions.into_iter().map(|condition| SeccompRule::new(vec![condition?])).collect()
}

/// That the 32 bits of the argument `number` are these.
fn equal(number: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// That the argument `number` is no address.
fn null(number: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// That of the argument `number` the bits of `mask` are those of `value`.
fn masked(
    number: u8,
    mask: libc::c_int,
    value: libc::c_int,
) -> Result<SeccompCondition, BackendError> {
    let mask = SeccompCmpOp::MaskedEq(u64::from(mask.unsigned_abs()));
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, mask, u64::from(value.unsigned_abs()))
}
