//! Attacks on other processes and on the kernel, as far as a safe function makes the call. (Calls for which there is none are tried on the
//! filter itself, in `edge::sandbox::syscalls`.)

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Local, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use base::Role;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::{Gid, Pid, Uid};

use super::Told;
use crate::breach::{Attempt, Came, Line, Scene};
use crate::failure::{During, Outcome};

fn done<T>(result: nix::Result<T>) -> io::Result<()> {
    result.map(drop).map_err(io::Error::from)
}

/// Other roles' processes, the supervisor's and the first of the machine.
pub(super) fn processes(scene: &Scene, told: &mut Told) -> Outcome {
    const OTHERS: &str = "other processes";
    let named = |role: &Option<Role>| role.map_or("the supervisor".to_owned(), |role| role.to_string());
    let others = scene.processes.iter().filter(|(role, _)| *role != Some(told.role));
    let mut victims: Vec<(String, i32)> = others.map(|(role, pid)| (named(role), *pid)).collect();
    victims.push(("the first process".into(), 1));
    // Anybody of a machine may read these of anybody: only a sandbox keeps them.
    let open_to_all: &[&str] = if scene.users_alone { &[] } else { &["status", "cmdline"] };
    for (name, number) in victims {
        let pid = Pid::from_raw(number);
        for part in ["mem", "maps", "environ", "stack", "auxv", "io", "syscall"]
            .iter()
            .chain(open_to_all)
        {
            use std::io::Read as _;
            let read = File::open(format!("/proc/{number}/{part}")).and_then(|mut file| match file.read(&mut [0]) {
                // Nothing lies at address 0: it was open all the same.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
                read => read,
            });
            told.tried(OTHERS, &format!("read {part}"), &*name, read)?;
        }
        for part in ["fd", "root/", "cwd/", "map_files"] {
            told.tried(
                OTHERS,
                &format!("list {part}"),
                &*name,
                fs::read_dir(format!("/proc/{number}/{part}")),
            )?;
        }
        for part in ["exe", "ns/net", "ns/user"] {
            told.tried(
                OTHERS,
                &format!("open {part}"),
                &*name,
                File::open(format!("/proc/{number}/{part}")),
            )?;
        }
        let write = File::options().write(true).open(format!("/proc/{number}/mem"));
        told.tried(OTHERS, "write mem", &*name, write)?;
        // Attaches without stopping anything; where it works it ends with us.
        let traced = nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty());
        told.tried(OTHERS, "trace", &*name, done(traced))?;
        let mut buffer = [0; 8];
        let remote = [nix::sys::uio::RemoteIoVec { base: 0x1000, len: 8 }];
        let read = match nix::sys::uio::process_vm_readv(pid, &mut [IoSliceMut::new(&mut buffer)], &remote) {
            Err(Errno::EFAULT) => Ok(()),
            other => done(other),
        };
        told.tried(OTHERS, "read memory by call", &*name, read)?;
        told.tried(OTHERS, "signal", &*name, done(kill(pid, None)))?;
        // Between users the kernel lets this one through within a session.
        if !scene.users_alone {
            told.tried(OTHERS, "signal", &*name, done(kill(pid, Signal::SIGCONT)))?;
        }
    }
    Ok(())
}

/// Becoming somebody else, and undoing what the process did to itself.
pub(super) fn users(scene: &Scene, told: &mut Told) -> Outcome {
    const USERS: &str = "other users";
    let own = scene.users.get(&told.role).copied();
    let (root, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
    told.tried(USERS, "be root", "root", done(nix::unistd::setresuid(root, root, root)))?;
    told.tried(USERS, "be root", "root", done(nix::unistd::seteuid(root)))?;
    told.tried(
        USERS,
        "be of root's group",
        "root",
        done(nix::unistd::setresgid(root_group, root_group, root_group)),
    )?;
    told.tried(USERS, "have further groups", "root", done(nix::unistd::setgroups(&[root_group])))?;
    for (role, user) in scene.users.iter().filter(|(_, user)| Some(**user) != own) {
        let uid = Uid::from_raw(*user);
        told.tried(USERS, "be another role", role.as_str(), done(nix::unistd::setresuid(uid, uid, uid)))?;
    }
    const CORES: &str = "core dumps";
    let raised = match getrlimit(Resource::RLIMIT_CORE) {
        Ok((0, 0)) => done(setrlimit(Resource::RLIMIT_CORE, 1, 1)),
        other => done(other),
    };
    told.tried(CORES, "leave one", "itself", raised)
}

/// Sockets that are not TCP, listeners, and connections to whom it is not for.
pub(super) fn sockets(scene: &Scene, peers: &BTreeMap<Role, SocketAddr>, told: &mut Told) -> Outcome {
    const SOCKETS: &str = "sockets that are not TCP";
    use AddressFamily as Family;
    let open = |family, kind, protocol: Option<SockProtocol>| done(socket(family, kind, SockFlag::empty(), protocol));
    for (name, opened) in [
        ("UDP", open(Family::Inet, SockType::Datagram, None)),
        ("UDP over IPv6", open(Family::Inet6, SockType::Datagram, None)),
        ("raw ICMP", open(Family::Inet, SockType::Raw, Some(SockProtocol::Icmp))),
        ("raw ICMP over IPv6", open(Family::Inet6, SockType::Raw, Some(SockProtocol::IcmpV6))),
        ("raw TCP", open(Family::Inet, SockType::Raw, Some(SockProtocol::Tcp))),
        ("ping", open(Family::Inet, SockType::Datagram, Some(SockProtocol::Icmp))),
        ("packet", open(Family::Packet, SockType::Raw, None)),
        ("packet datagram", open(Family::Packet, SockType::Datagram, None)),
        (
            "route netlink",
            open(Family::Netlink, SockType::Raw, Some(SockProtocol::NetlinkRoute)),
        ),
        (
            "audit netlink",
            open(Family::Netlink, SockType::Raw, Some(SockProtocol::NetlinkAudit)),
        ),
        ("local stream", open(Family::Unix, SockType::Stream, None)),
        ("local datagram", open(Family::Unix, SockType::Datagram, None)),
        ("local packets", open(Family::Unix, SockType::SeqPacket, None)),
        ("virtual machine", open(Family::Vsock, SockType::Stream, None)),
        ("kernel ciphers", open(Family::Alg, SockType::SeqPacket, None)),
    ] {
        told.tried(SOCKETS, name, name, opened)?;
    }
    let name = format!("coffer-breach-{}", std::process::id());
    let abstracted = Local::from_abstract_name(&name).and_then(|address| UnixListener::bind_addr(&address));
    told.tried(SOCKETS, "abstract listener", &*name, abstracted)?;
    let abstracted = Local::from_abstract_name("/tmp/.X11-unix/X0").and_then(|address| UnixStream::connect_addr(&address));
    told.tried(SOCKETS, "abstract connection", "X0", abstracted)?;
    told.tried(SOCKETS, "local datagram", "unbound", UnixDatagram::unbound())?;

    const LISTENERS: &str = "new listeners";
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "127.0.0.1:80"] {
        told.tried(LISTENERS, "listen", address, TcpListener::bind(address))?;
        told.tried(LISTENERS, "listen", format!("UDP {address}"), UdpSocket::bind(address))?;
    }
    for (role, address) in peers {
        told.tried(LISTENERS, "listen", role.as_str(), TcpListener::bind(address))?;
    }
    let unbound = socket(Family::Inet, SockType::Stream, SockFlag::empty(), None).map_err(io::Error::from);
    let listening = unbound.and_then(|fd| done(nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(1)?)));
    told.tried(LISTENERS, "listen", "a port that the kernel chooses", listening)?;

    const CONNECTIONS: &str = "connections";
    let patience = Duration::from_millis(500);
    for (role, address) in peers {
        told.tried(
            CONNECTIONS,
            role.as_str(),
            address.to_string(),
            TcpStream::connect_timeout(address, patience),
        )?;
    }
    for address in &scene.public {
        told.tried(
            CONNECTIONS,
            "the public port",
            address.to_string(),
            TcpStream::connect_timeout(address, patience),
        )?;
    }
    // Addresses that are kept free for documentation, and services that a machine may have.
    for address in [
        "192.0.2.1:443",
        "198.51.100.7:25",
        "203.0.113.5:53",
        "[2001:db8::1]:443",
        "169.254.169.254:80",
        "127.0.0.1:22",
        "127.0.0.1:5432",
        "[::1]:22",
    ] {
        let Ok(parsed) = address.parse() else { continue };
        told.tried(CONNECTIONS, "anywhere else", address, TcpStream::connect_timeout(&parsed, patience))?;
    }
    Ok(())
}

/// Running programs beside itself.
pub(super) fn programs(told: &mut Told) -> Outcome {
    const PROGRAMS: &str = "programs";
    for path in ["/bin/sh", "/bin/true", "/usr/bin/env", "/usr/bin/python3", "/proc/self/exe"] {
        let run = Command::new(path)
            .args(if path == "/bin/sh" {
                ["-c", "exit 0"]
            } else {
                ["--version", "--version"]
            })
            .stdin(Stdio::inherit())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        told.tried(PROGRAMS, "start", path, run)?;
    }
    // A program that is only in memory.
    let memory = nix::sys::memfd::memfd_create(c"breach", nix::sys::memfd::MFdFlags::empty()).map_err(io::Error::from);
    let run = memory.and_then(|file| {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let mut file = File::from(file);
        file.write_all(b"#!/bin/sh\nexit 0\n")?;
        Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .stdout(Stdio::null())
            .status()
    });
    told.tried(PROGRAMS, "start", "from memory", run)
}

/// Namespaces and other roots. Last but for one, because where it works the process is elsewhere.
pub(super) fn namespaces(told: &mut Told) -> Outcome {
    const NAMESPACES: &str = "namespaces and roots";
    for (name, flag) in [
        ("mounts", CloneFlags::CLONE_NEWNS),
        ("processes", CloneFlags::CLONE_NEWPID),
        ("network", CloneFlags::CLONE_NEWNET),
        ("messages", CloneFlags::CLONE_NEWIPC),
        ("host name", CloneFlags::CLONE_NEWUTS),
        ("control groups", CloneFlags::CLONE_NEWCGROUP),
        ("users", CloneFlags::CLONE_NEWUSER),
        ("users and network", CloneFlags::CLONE_NEWUSER.union(CloneFlags::CLONE_NEWNET)),
    ] {
        told.tried(NAMESPACES, "make", name, done(nix::sched::unshare(flag)))?;
    }
    let file = File::open("/dev/null").during("could not open /dev/null")?;
    // With a descriptor that is no namespace: past the walls the kernel says that it is none.
    told.tried(
        NAMESPACES,
        "enter",
        "network",
        done(nix::sched::setns(&file, CloneFlags::CLONE_NEWNET)),
    )?;
    told.tried(NAMESPACES, "change the root", "/", done(nix::unistd::chroot("/")))
}

/// Another program in its own place. If that works, it says so itself.
pub(super) fn in_place(told: &mut Told) -> Outcome {
    let mut attempt = Attempt {
        asset: "programs".into(),
        act: "start".into(),
        target: "in its own place".into(),
        came: Came::Got,
        says: "done".into(),
    };
    let words = serde_json::to_string(&Line::Attempt(attempt.clone())).during("could not tell the drill what came of it")?;
    let error = Command::new("/bin/echo").arg(words).exec();
    let (came, says) = super::judged::<()>(Err(error));
    (attempt.came, attempt.says) = (came, says);
    told.line(&Line::Attempt(attempt))
}
