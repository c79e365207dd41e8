//! seccomp: system calls that no role has a use for, and that whoever takes one over would.
//!
//! A list of what is refused rather than of what is allowed: the libraries below us differ in what they call from machine to
//! machine, and Landlock is the wall; this closes the ways around it.

use std::collections::BTreeMap;

use nix::libc as c;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule,
};

use super::{Report, SandboxError};

type Rules = BTreeMap<i64, Vec<Rule>>;

/// Refused whatever the arguments.
const NEVER: &[(&str, &[i64])] = &[
    ("runs no other program", &[c::SYS_execve, c::SYS_execveat]),
    (
        "looks into no other process",
        &[
            c::SYS_ptrace,
            c::SYS_process_vm_readv,
            c::SYS_process_vm_writev,
            c::SYS_process_madvise,
            c::SYS_process_mrelease,
            c::SYS_pidfd_getfd,
            c::SYS_kcmp,
        ],
    ),
    // The lock of the data directory and those of its zones are open in every role: who lets go of one lets go of it for all.
    ("lets go of no lock that it holds with others", &[c::SYS_flock]),
    ("opens no new listener", &[c::SYS_bind, c::SYS_listen]),
    (
        "uses no io_uring",
        &[c::SYS_io_uring_setup, c::SYS_io_uring_enter, c::SYS_io_uring_register],
    ),
    ("enters no other namespace", &[c::SYS_unshare, c::SYS_setns]),
    (
        "mounts nothing",
        &[
            c::SYS_mount,
            c::SYS_umount2,
            c::SYS_pivot_root,
            c::SYS_chroot,
            c::SYS_open_tree,
            c::SYS_move_mount,
            c::SYS_fsopen,
            c::SYS_fsconfig,
            c::SYS_fsmount,
            c::SYS_fspick,
            c::SYS_mount_setattr,
            c::SYS_swapon,
            c::SYS_swapoff,
            c::SYS_quotactl,
        ],
    ),
    (
        "keeps off the kernel (bpf, perf, keys, modules, kexec, faults, clock)",
        &[
            c::SYS_bpf,
            c::SYS_perf_event_open,
            c::SYS_userfaultfd,
            c::SYS_add_key,
            c::SYS_request_key,
            c::SYS_keyctl,
            c::SYS_init_module,
            c::SYS_finit_module,
            c::SYS_delete_module,
            c::SYS_kexec_load,
            c::SYS_kexec_file_load,
            c::SYS_reboot,
            c::SYS_acct,
            c::SYS_syslog,
            c::SYS_settimeofday,
            c::SYS_clock_settime,
            c::SYS_adjtimex,
            c::SYS_clock_adjtime,
            c::SYS_sethostname,
            c::SYS_setdomainname,
            c::SYS_vhangup,
            c::SYS_personality,
            c::SYS_lookup_dcookie,
            c::SYS_nfsservctl,
        ],
    ),
    (
        "opens no file by handle and watches no file system",
        &[c::SYS_name_to_handle_at, c::SYS_open_by_handle_at, c::SYS_fanotify_init],
    ),
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[i64] = &[
    c::SYS_fork,
    c::SYS_vfork,
    c::SYS_iopl,
    c::SYS_ioperm,
    c::SYS_modify_ldt,
    c::SYS_uselib,
    c::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[i64] = &[];

/// Numbers by which the same calls go in the x32 dialect of a 64-bit kernel, beside those that only have its bit set.
#[cfg(target_arch = "x86_64")]
const X32: &[i64] = &[520, 521, 528, 539, 540, 545];

pub(super) fn restrict(report: &mut Report) -> Result<(), SandboxError> {
    for program in programs()? {
        seccompiler::apply_filter_all_threads(&program)?;
    }
    report.enforced.extend(NEVER.iter().map(|(words, _)| (*words).to_owned()));
    report.enforced.push("starts no other process, only threads".to_owned());
    report
        .enforced
        .push("opens no socket but TCP (no raw, packet, UDP, netlink or local ones)".to_owned());
    report.enforced.push("types nothing into terminals".to_owned());
    Ok(())
}

/// Two, because each has one answer for all that it refuses.
fn programs() -> Result<[BpfProgram; 2], BackendError> {
    let mut refused = Rules::new();
    for call in NEVER.iter().flat_map(|(_, calls)| *calls).chain(NEVER_HERE) {
        refused.insert(*call, Vec::new());
    }
    refused.insert(c::SYS_clone, processes()?);
    refused.insert(c::SYS_socket, sockets()?);
    refused.insert(c::SYS_ioctl, terminals()?);
    // Data in the first packet of a connection would go out past Landlock's check of the port.
    refused.insert(c::SYS_sendto, vec![has(3, c::MSG_FASTOPEN as u64)?]);
    refused.insert(c::SYS_sendmsg, vec![has(2, c::MSG_FASTOPEN as u64)?]);
    refused.insert(c::SYS_sendmmsg, vec![has(3, c::MSG_FASTOPEN as u64)?]);
    #[cfg(target_arch = "x86_64")]
    {
        const X32_BIT: i64 = 0x4000_0000;
        let dialect: Vec<_> = refused.iter().map(|(call, rules)| (call | X32_BIT, rules.clone())).collect();
        refused.extend(dialect);
        refused.extend(X32.iter().map(|call| (call | X32_BIT, Vec::new())));
    }
    // The flags of clone3 lie in memory, where a filter cannot look. Libraries fall back to clone when told that it is not there.
    let absent = Rules::from([(c::SYS_clone3, Vec::new())]);
    Ok([program(refused, c::EPERM)?, program(absent, c::ENOSYS)?])
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), here)?.try_into()
}

// Threads share the process and its sandbox; anything else that clone makes is refused, namespaces with it.
fn processes() -> Result<Vec<Rule>, BackendError> {
    let thread = c::CLONE_THREAD as u64;
    let mut rules = vec![Rule::new(vec![Condition::new(0, Len::Dword, Op::MaskedEq(thread), 0)?])?];
    for namespace in [
        c::CLONE_NEWUSER,
        c::CLONE_NEWNS,
        c::CLONE_NEWPID,
        c::CLONE_NEWNET,
        c::CLONE_NEWIPC,
        c::CLONE_NEWUTS,
        c::CLONE_NEWCGROUP,
    ] {
        rules.push(has(0, u64::from(namespace as u32))?);
    }
    Ok(rules)
}

// TCP over IPv4 or IPv6 and nothing else. The protocol counts too: MPTCP is a stream that Landlock does not take for TCP.
fn sockets() -> Result<Vec<Rule>, BackendError> {
    const TYPE: u64 = 0xf;
    let not = |argument, value: i32| Condition::new(argument, Len::Dword, Op::Ne, value as u64);
    let mut rules = vec![
        Rule::new(vec![not(0, c::AF_INET)?, not(0, c::AF_INET6)?])?,
        Rule::new(vec![not(2, 0)?, not(2, c::IPPROTO_TCP)?])?,
    ];
    for kind in (0..=TYPE).filter(|kind| *kind != c::SOCK_STREAM as u64) {
        rules.push(Rule::new(vec![Condition::new(1, Len::Dword, Op::MaskedEq(TYPE), kind)?])?);
    }
    Ok(rules)
}

fn terminals() -> Result<Vec<Rule>, BackendError> {
    const TIOCLINUX: u64 = 0x541c;
    let is = |command| Rule::new(vec![Condition::new(1, Len::Dword, Op::Eq, command)?]);
    Ok(vec![is(c::TIOCSTI)?, is(TIOCLINUX)?])
}

fn has(argument: u8, bit: u64) -> Result<Rule, BackendError> {
    Rule::new(vec![Condition::new(argument, Len::Dword, Op::MaskedEq(bit), bit)?])
}

#[cfg(test)]
mod tests;
