//! The compiled filters, run as the kernel would run them: also for calls that no safe function makes.

use super::*;

const ALLOWED: u32 = 0x7fff_0000;
const KILLED: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0000 | c::EPERM as u32;
const ENOSYS: u32 = 0x0005_0000 | c::ENOSYS as u32;
#[cfg(target_arch = "x86_64")]
const HERE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const HERE: u32 = 0xc000_00b7;

/// What both filters together say: the stricter answer counts.
fn says(arch: u32, call: i64, arguments: [u64; 6]) -> u32 {
    let mut data = vec![0; 64];
    data[..4].copy_from_slice(&(call as u32).to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    for (i, argument) in arguments.iter().enumerate() {
        data[16 + 8 * i..24 + 8 * i].copy_from_slice(&argument.to_le_bytes());
    }
    programs()
        .unwrap()
        .iter()
        .map(|program| run(program, &data))
        .min_by_key(|answer| (*answer as i32) & !0xffff)
        .unwrap()
}

fn run(program: &[seccompiler::sock_filter], data: &[u8]) -> u32 {
    let (mut accumulator, mut at) = (0_u32, 0);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            0x20 => accumulator = u32::from_le_bytes(data[step.k as usize..][..4].try_into().unwrap()),
            0x54 => accumulator &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(accumulator == step.k),
            0x25 => at += jump(accumulator > step.k),
            0x35 => at += jump(accumulator >= step.k),
            0x06 => return step.k,
            other => panic!("an instruction that the filters should not have: {other:#x}"),
        }
    }
}

fn here(call: i64, arguments: [u64; 6]) -> u32 {
    says(HERE, call, arguments)
}

#[test]
fn what_is_never_needed_is_refused_whatever_the_arguments() {
    for call in NEVER.iter().flat_map(|(_, calls)| *calls).chain(NEVER_HERE) {
        assert_eq!(here(*call, [0; 6]), EPERM, "{call}");
        assert_eq!(here(*call, [u64::MAX; 6]), EPERM, "{call}");
    }
}

#[test]
fn what_a_role_does_all_day_is_allowed() {
    for call in [
        c::SYS_read,
        c::SYS_write,
        c::SYS_openat,
        c::SYS_fsync,
        c::SYS_renameat2,
        c::SYS_mmap,
        c::SYS_futex,
        c::SYS_accept4,
        c::SYS_connect,
        c::SYS_epoll_ctl,
        c::SYS_getrandom,
        c::SYS_socketpair,
        c::SYS_madvise,
        c::SYS_exit_group,
        c::SYS_mprotect,
        c::SYS_prctl,
    ] {
        assert_eq!(here(call, [0; 6]), ALLOWED, "{call}");
    }
}

#[test]
fn threads_are_made_and_processes_and_namespaces_are_not() {
    let thread = (c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SIGHAND | c::CLONE_THREAD | c::CLONE_SYSVSEM) as u64;
    assert_eq!(here(c::SYS_clone, [thread, 0, 0, 0, 0, 0]), ALLOWED);
    assert_eq!(here(c::SYS_clone, [c::SIGCHLD as u64, 0, 0, 0, 0, 0]), EPERM, "fork");
    assert_eq!(
        here(c::SYS_clone, [(c::CLONE_VM | c::CLONE_VFORK) as u64, 0, 0, 0, 0, 0]),
        EPERM,
        "posix_spawn"
    );
    for namespace in [
        c::CLONE_NEWUSER,
        c::CLONE_NEWNS,
        c::CLONE_NEWPID,
        c::CLONE_NEWNET,
        c::CLONE_NEWIPC,
        c::CLONE_NEWUTS,
        c::CLONE_NEWCGROUP,
    ] {
        assert_eq!(
            here(c::SYS_clone, [thread | u64::from(namespace as u32), 0, 0, 0, 0, 0]),
            EPERM,
            "{namespace:#x}"
        );
    }
    assert_eq!(here(c::SYS_clone3, [0; 6]), ENOSYS, "so that libraries fall back to clone");
}

#[test]
fn sockets_are_tcp_and_nothing_else() {
    let socket = |family: i32, kind: i32, protocol: i32| here(c::SYS_socket, [family as u64, kind as u64, protocol as u64, 0, 0, 0]);
    let flags = c::SOCK_CLOEXEC | c::SOCK_NONBLOCK;
    for family in [c::AF_INET, c::AF_INET6] {
        assert_eq!(socket(family, c::SOCK_STREAM | flags, 0), ALLOWED);
        assert_eq!(socket(family, c::SOCK_STREAM, c::IPPROTO_TCP), ALLOWED);
        assert_eq!(socket(family, c::SOCK_STREAM, c::IPPROTO_SCTP), EPERM);
        assert_eq!(socket(family, c::SOCK_STREAM, c::IPPROTO_MPTCP), EPERM);
        for kind in [c::SOCK_DGRAM, c::SOCK_RAW, c::SOCK_RDM, c::SOCK_SEQPACKET] {
            assert_eq!(socket(family, kind | flags, 0), EPERM, "{kind}");
        }
    }
    for family in [c::AF_UNIX, c::AF_NETLINK, c::AF_PACKET, c::AF_ALG, c::AF_VSOCK, c::AF_BLUETOOTH, 43] {
        assert_eq!(socket(family, c::SOCK_STREAM, 0), EPERM, "{family}");
    }
}

#[test]
fn a_connection_does_not_begin_with_data() {
    let open = c::MSG_FASTOPEN as u64;
    assert_eq!(here(c::SYS_sendto, [0, 0, 0, c::MSG_NOSIGNAL as u64, 0, 0]), ALLOWED);
    assert_eq!(here(c::SYS_sendto, [0, 0, 0, open | c::MSG_NOSIGNAL as u64, 0, 0]), EPERM);
    assert_eq!(here(c::SYS_sendmsg, [0, 0, open, 0, 0, 0]), EPERM);
    assert_eq!(here(c::SYS_sendmmsg, [0, 0, 0, open, 0, 0]), EPERM);
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    assert_eq!(here(c::SYS_ioctl, [0, c::TIOCSTI, 0, 0, 0, 0]), EPERM);
    assert_eq!(here(c::SYS_ioctl, [0, c::FIONBIO, 0, 0, 0, 0]), ALLOWED);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn no_other_dialect_of_system_calls_is_a_way_around() {
    const I386: u32 = 0x4000_0003;
    assert_eq!(says(I386, 11, [0; 6]), KILLED, "the 32-bit dialect ends the process");
    let x32 = |call: i64| here(call | 0x4000_0000, [0; 6]);
    assert_eq!(x32(c::SYS_io_uring_setup), EPERM);
    assert_eq!(x32(c::SYS_clone), EPERM);
    assert_eq!(x32(520), EPERM, "execve");
}
