//! The cage around a role: Landlock for files, ports and signals, seccomp for system calls.
//!
//! Promise: after [`enter`] the process opens no file outside its policy, listens nowhere new, reaches no port but those listed,
//! runs no other program and looks into no other process, whatever code runs in it. What this kernel cannot enforce is said, not hidden.
//!
//! Start at [`enter`]; it comes after the listeners and before the async runtime. What is open already stays open.
//! Knows the kernel. Does not know which role it is in.

mod files;
mod syscalls;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use base::ErrorKind;

/// What a process may still do. It may never bind a port; its listeners are bound before.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Files and directories (with all below) that it may read. One that does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Directories that it may read, write, and make and remove files and directories in. Each must exist.
    pub write: Vec<PathBuf>,
    /// TCP ports that it may connect to.
    pub connect: Vec<u16>,
}

/// What is enforced, in plain words.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the process cannot do any more.
    pub enforced: Vec<String>,
    /// What it still could, and why.
    pub not_enforced: Vec<String>,
    // Opened before the sandbox: /proc is closed to us afterwards, as it must be.
    memory: Option<Arc<File>>,
}

impl Report {
    fn open() -> Self {
        let memory = File::open("/proc/self/statm").ok().map(Arc::new);
        Self { memory, ..Self::default() }
    }

    /// How much memory the process has in use; 0 when the kernel does not say.
    pub fn resident_bytes(&self) -> u64 {
        let mut text = [0; 128];
        let Some(length) = self.memory.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()) else {
            return 0;
        };
        let pages = std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|page| u64::try_from(page).ok());
        pages.unwrap_or(0) * page.unwrap_or(4096)
    }
}

/// Why a process is not in its sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Threads that run already would stay outside.
    #[error("{threads} threads run already, and those would stay outside the sandbox")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// A directory of the policy cannot be opened.
    #[error("{} cannot be opened to be let into the sandbox", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: landlock::PathFdError,
    },
    /// The kernel refused Landlock rules that it says it knows.
    #[error("the kernel did not take the Landlock rules")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel refused the filter of system calls.
    #[error("the kernel did not take the filter of system calls")]
    Seccomp(#[from] seccompiler::Error),
    /// The filter does not exist for this processor.
    #[error("there is no filter of system calls for this processor")]
    Backend(#[from] seccompiler::BackendError),
}

impl SandboxError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        }
    }
}

/// Enters the sandbox, for good. Errors leave the process partly restricted: it should end.
///
/// What an older kernel lacks is no error but a line of [`Report::not_enforced`].
pub fn enter(policy: &Policy) -> Result<Report, SandboxError> {
    let mut report = Report::open();
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => {}
        Ok(threads) => return Err(SandboxError::Threads { threads }),
        Err(error) => report.not_enforced.push(format!(
            "threads that ran before may be outside: /proc does not tell of them ({error})"
        )),
    }
    files::restrict(policy, &mut report)?;
    syscalls::restrict(&mut report)?;
    Ok(report)
}

/// The report of a process that was told not to enter one.
pub fn off() -> Report {
    let mut report = Report::open();
    report.not_enforced.push("everything: the sandbox is switched off".to_owned());
    report
}
