//! A network of its own, with nothing in it but the loopback, and an ear on it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

/// A frame of the loopback holds at most 64 KiB, and its headers.
const LARGEST: usize = 128 << 10;

/// Leaves the machine's network for a new one, with this thread and what it starts from now on.
pub(crate) fn enter_a_new_one() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network")?;
    let link = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // RTM_NEWLINK for the first interface of a new network, which is the loopback: up.
    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    sendto(link.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(link.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    ensure!(length >= 20, "no answer to the wish for a network");
    let error = i32::from_ne_bytes(answer[16..20].try_into()?);
    ensure!(error == 0, "the loopback does not come up: {error}");
    Ok(())
}

/// Hears every frame of the network it was started in.
pub(crate) struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let ear = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        setsockopt(&ear, sockopt::RcvBufForce, &(256 << 20))?;
        setsockopt(&ear, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
        let (frames, ended) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let (heard, stop) = (Arc::clone(&frames), Arc::clone(&ended));
        let thread = std::thread::spawn(move || listen(&ear, &heard, &stop));
        Ok(Self {
            frames,
            ended,
            thread: Some(thread),
        })
    }

    /// What was heard since the last time, once nothing more comes.
    pub(crate) async fn take(&self) -> Vec<Vec<u8>> {
        let mut before = usize::MAX;
        loop {
            let now = self.lock().len();
            if now == before {
                return std::mem::take(&mut *self.lock());
            }
            before = now;
            // Longer than the ear waits for a frame: when none came meanwhile, none is left.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn listen(ear: &OwnedFd, heard: &Mutex<Vec<Vec<u8>>>, ended: &AtomicBool) {
    let mut frame = vec![0; LARGEST];
    while !ended.load(Ordering::SeqCst) {
        match recv(ear.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => heard.lock().unwrap_or_else(PoisonError::into_inner).push(frame[..length].to_vec()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Frames that are missing are found out when streams are put together.
            Err(error) => return eprintln!("the capture ended: {error}"),
        }
    }
}
