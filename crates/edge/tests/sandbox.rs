//! Every act that the sandbox forbids, tried for real: inside it fails, outside it does not.
//!
//! Each act runs in a process of its own (this program again, told by its environment what to do), because a sandbox is
//! entered for good. System calls for which no safe function exists are covered by the tests of the filter itself.

#![expect(clippy::disallowed_methods, reason = "this program is told by its environment which act to try")]

use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edge::sandbox::{self, Policy};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::Pid;

/// What an act finds: made before the sandbox is entered.
struct Scene {
    own: PathBuf,
    other: PathBuf,
    listed: u16,
    unlisted: u16,
    victim: Pid,
}

type Act = fn(&Scene) -> io::Result<()>;

enum Inside {
    Works,
    Fails(Errno),
}
use Inside::{Fails, Works};

struct Row {
    name: &'static str,
    act: Act,
    inside: Inside,
    /// Outside it needs privileges that whoever runs the tests may not have.
    needs_root: bool,
}

const fn row(name: &'static str, inside: Inside, act: Act) -> Row {
    Row {
        name,
        act,
        inside,
        needs_root: false,
    }
}

const fn root(name: &'static str, inside: Inside, act: Act) -> Row {
    Row {
        name,
        act,
        inside,
        needs_root: true,
    }
}

const ROWS: &[Row] = &[
    row("read own file", Works, |s| fs::read(s.own.join("file")).map(drop)),
    row("write, sync and rename in own directories", Works, write_and_rename),
    row("remove own file", Works, |s| fs::remove_file(s.own.join("file"))),
    row("connect to a listed port", Works, |s| {
        TcpStream::connect(("127.0.0.1", s.listed)).map(drop)
    }),
    row("start threads and a socket pair", Works, threads),
    row("serve on a listener that was open before", Works, |_| Ok(())),
    row("read another role's file", Fails(Errno::EACCES), |s| {
        fs::read(s.other.join("file")).map(drop)
    }),
    row("list another role's directory", Fails(Errno::EACCES), |s| {
        fs::read_dir(&s.other).map(drop)
    }),
    row("write into another role's directory", Fails(Errno::EACCES), |s| {
        fs::write(s.other.join("new"), "x")
    }),
    row("remove another role's file", Fails(Errno::EACCES), |s| {
        fs::remove_file(s.other.join("file"))
    }),
    row("truncate another role's file", Fails(Errno::EACCES), |s| {
        nix_result(nix::unistd::truncate(&s.other.join("file"), 0))
    }),
    row("move own file into another role's directory", Fails(Errno::EACCES), |s| {
        fs::rename(s.own.join("file"), s.other.join("moved"))
    }),
    row("leave by a symbolic link", Fails(Errno::EACCES), |s| {
        fs::read(s.own.join("way-out/file")).map(drop)
    }),
    row("make a symbolic link", Fails(Errno::EACCES), |s| {
        std::os::unix::fs::symlink("/", s.own.join("link"))
    }),
    row("read the password file", Fails(Errno::EACCES), |_| {
        fs::read("/etc/passwd").map(drop)
    }),
    row("read another process's memory file", Fails(Errno::EACCES), |s| {
        read_memory(&format!("/proc/{}/mem", s.victim))
    }),
    row("read another process's environment", Fails(Errno::EACCES), |s| {
        fs::read(format!("/proc/{}/environ", s.victim)).map(drop)
    }),
    row("read another process's memory by call", Fails(Errno::EPERM), read_memory_by_call),
    row("trace another process", Fails(Errno::EPERM), |s| {
        nix_result(nix::sys::ptrace::attach(s.victim))
    }),
    row("signal another process", Fails(Errno::EPERM), |s| {
        nix_result(nix::sys::signal::kill(s.victim, nix::sys::signal::Signal::SIGCONT))
    }),
    row("run a program in its own place", Fails(Errno::EPERM), |_| {
        Err(Command::new("/bin/true").exec())
    }),
    row("start another process", Fails(Errno::EPERM), |_| {
        Command::new("/bin/true").status().map(drop)
    }),
    row("let go of a file's lock", Fails(Errno::EPERM), |_| {
        fs::File::open("/dev/null")?.unlock()
    }),
    row("connect to a port that is not listed", Fails(Errno::EACCES), |s| {
        TcpStream::connect(("127.0.0.1", s.unlisted)).map(drop)
    }),
    row("listen on a port", Fails(Errno::EPERM), |_| {
        TcpListener::bind("127.0.0.1:0").map(drop)
    }),
    row("listen without binding", Fails(Errno::EPERM), listen_unbound),
    row("open a UDP socket", Fails(Errno::EPERM), |_| {
        UdpSocket::bind("127.0.0.1:0").map(drop)
    }),
    row("open a local socket", Fails(Errno::EPERM), |_| UnixDatagram::unbound().map(drop)),
    row("open a netlink socket", Fails(Errno::EPERM), |_| {
        open(AddressFamily::Netlink, SockType::Raw, Some(SockProtocol::NetlinkRoute))
    }),
    root("open a raw socket", Fails(Errno::EPERM), |_| {
        open(AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Icmp))
    }),
    root("open a packet socket", Fails(Errno::EPERM), |_| {
        open(AddressFamily::Packet, SockType::Raw, None)
    }),
    root("enter a user namespace", Fails(Errno::EPERM), |_| {
        nix_result(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER))
    }),
    root("enter a network namespace", Fails(Errno::EPERM), |_| {
        nix_result(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET))
    }),
    root("change the root directory", Fails(Errno::EPERM), |s| {
        nix_result(nix::unistd::chroot(&s.own))
    }),
];

const ACT: &str = "COFFER_TEST_ACT";
const SANDBOX: &str = "COFFER_TEST_SANDBOX";
const DIRECTORY: &str = "COFFER_TEST_DIRECTORY";

/// The one test, as test runners see it.
const TEST: &str = "each_act_the_sandbox_forbids_fails_inside_and_works_outside";

fn main() {
    // Test runners ask for the list of tests first, and once more for those that are ignored: there are none.
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("--list") {
        if !asked("--ignored") {
            say(&format!("{TEST}: test"));
        }
        return;
    }
    match std::env::var(ACT) {
        Ok(act) if act == "wait" => {
            // The victim: lives until its parent lets go of its standard input.
            let _ = io::stdin().read(&mut [0]);
        }
        Ok(act) => inside(&act),
        Err(_) => judge(),
    }
}

fn judge() {
    let mut wrong = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    for row in ROWS {
        let (on, off) = (run(row.name, true), run(row.name, false));
        let right = match row.inside {
            Works => on == "done",
            Fails(errno) => on == errno_text(errno) && off != on,
        };
        // The control: the act is possible at all, so that the failure inside says something.
        let control = off == "done" || (row.needs_root && !is_root);
        say(&format!(
            "{} {:<48} inside: {on:<24} outside: {off}",
            if right && control { "ok   " } else { "WRONG" },
            row.name
        ));
        if !right || !control {
            wrong.push(row.name);
        }
    }
    assert!(wrong.is_empty(), "not as they should be: {wrong:?}");
}

fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("standard output is open");
}

fn run(act: &str, sandboxed: bool) -> String {
    let program = std::env::current_exe().expect("a program knows its own path");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let output = Command::new(program)
        .env(DIRECTORY, directory.path())
        .env(ACT, act)
        .env(SANDBOX, if sandboxed { "on" } else { "off" })
        .stderr(Stdio::inherit())
        .output()
        .expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // An act that replaced the program leaves no word and a clean end.
    if text.is_empty() && output.status.success() {
        "done".to_owned()
    } else {
        text
    }
}

fn inside(act: &str) {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("the judge made a directory"));
    let (own, other) = (directory.join("own"), directory.join("other"));
    for path in [&own, &own.join("below"), &other] {
        fs::create_dir(path).expect("a directory can be made");
    }
    for path in [&own, &other] {
        fs::write(path.join("file"), "content").expect("a file can be written");
    }
    std::os::unix::fs::symlink(&other, own.join("way-out")).expect("a link can be made");
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let [listed, unlisted] = [0, 1].map(|i: usize| listeners[i].local_addr().expect("it is bound").port());
    let mut victim = Command::new(std::env::current_exe().expect("a program knows its own path"))
        .env(ACT, "wait")
        .stdin(Stdio::piped())
        .spawn()
        .expect("this program starts again");
    let scene = Scene {
        own,
        other,
        listed,
        unlisted,
        victim: Pid::from_raw(victim.id() as i32),
    };

    if std::env::var(SANDBOX).as_deref() == Ok("on") {
        let policy = Policy {
            read: Vec::new(),
            write: vec![scene.own.clone()],
            connect: vec![listed],
        };
        let report = sandbox::enter(&policy).expect("this kernel has the sandbox");
        assert!(report.not_enforced.is_empty(), "{report:?}");
        assert!(report.resident_bytes() > 0, "memory is still counted");
    }
    let row = ROWS.iter().find(|row| row.name == act).expect("an act of the table");
    let result = if act.starts_with("serve") {
        serve(&listeners[0], listed)
    } else {
        (row.act)(&scene)
    };
    let words = match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |code| errno_text(Errno::from_raw(code))),
    };
    say(&words);
    // Outside, the victim may be stopped by now; inside it cannot be signalled, and ends by itself.
    let _ = victim.kill();
    drop(victim.stdin.take());
    let _ = victim.wait();
}

fn errno_text(errno: Errno) -> String {
    format!("{errno:?}")
}

fn nix_result<T>(result: nix::Result<T>) -> io::Result<()> {
    result.map(drop).map_err(io::Error::from)
}

fn open(family: AddressFamily, kind: SockType, protocol: Option<SockProtocol>) -> io::Result<()> {
    nix_result(socket(family, kind, SockFlag::empty(), protocol))
}

fn write_and_rename(scene: &Scene) -> io::Result<()> {
    let (new, kept) = (scene.own.join("new"), scene.own.join("below/kept"));
    let mut file = File::create(&new)?;
    file.write_all(b"x")?;
    file.sync_all()?;
    fs::rename(&new, &kept)?;
    File::open(scene.own.join("below"))?.sync_all()?;
    fs::create_dir(scene.own.join("below/deeper"))?;
    File::options().write(true).open(Path::new(&kept))?.set_len(0)
}

fn threads(_: &Scene) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(drop) })?;
    UnixStream::pair()?;
    std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("a thread panicked"))
}

fn serve(listener: &TcpListener, port: u16) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (accepted, connected) = tokio::join!(listener.accept(), tokio::net::TcpStream::connect(("127.0.0.1", port)));
        accepted.and(connected).map(drop)
    })
}

fn read_memory(path: &str) -> io::Result<()> {
    File::open(path).map(drop)
}

fn read_memory_by_call(scene: &Scene) -> io::Result<()> {
    let mut buffer = [0; 8];
    let maps = [nix::sys::uio::RemoteIoVec { base: 0x1000, len: 8 }];
    match nix::sys::uio::process_vm_readv(scene.victim, &mut [IoSliceMut::new(&mut buffer)], &maps) {
        // Nothing lies at that address: the call itself was allowed.
        Err(Errno::EFAULT) => Ok(()),
        other => nix_result(other),
    }
}

fn listen_unbound(_: &Scene) -> io::Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    nix_result(nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(1)?))
}
