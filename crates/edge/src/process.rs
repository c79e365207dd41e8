//! What a process does to itself first of all.

use nix::sys::{prctl, resource};
use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid};

/// Why a process is not the user it was to be. It should end.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The kernel refused.
    #[error("could not become user {user} of group {group}")]
    Refused {
        /// The user.
        user: u32,
        /// The group.
        group: u32,
        /// Why.
        source: nix::Error,
    },
    /// It took the ids, and yet there is a way back.
    #[error("became user {user} of group {group} and could still be another")]
    Reversible {
        /// The user.
        user: u32,
        /// The group.
        group: u32,
    },
}

/// Becomes a user for good: real, effective and saved ids, no further group, and with them goes every capability.
///
/// Before any thread and before [`harden_process`]: the kernel makes a process that changes its user readable again.
pub fn become_user(user: u32, group: u32) -> Result<(), UserError> {
    let refused = |source| UserError::Refused { user, group, source };
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    setgroups(&[]).map_err(refused)?;
    setresgid(gid, gid, gid).map_err(refused)?;
    setresuid(uid, uid, uid).map_err(refused)?;
    // Looked at instead of believed.
    let (users, groups) = (getresuid().map_err(refused)?, getresgid().map_err(refused)?);
    let are = [users.real, users.effective, users.saved] == [uid; 3] && [groups.real, groups.effective, groups.saved] == [gid; 3];
    let root = Uid::from_raw(0);
    if are && !uid.is_root() && setresuid(root, root, root).is_err() {
        Ok(())
    } else {
        Err(UserError::Reversible { user, group })
    }
}

/// Makes aws-lc the process-wide source of ciphers. First thing in `main`: another library may bring a second provider,
/// and TLS cannot choose between two.
pub fn install_crypto() {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Keeps the process's memory to itself: it leaves no core dump and another process of the same user cannot read it. Nor can it gain rights
/// by a program that it runs. And lets it have as many files open as it may.
/// Returns what could not be done.
pub fn harden_process() -> Vec<String> {
    let mut failed = Vec::new();
    if let Err(error) = prctl::set_dumpable(false) {
        failed.push(format!("memory stays readable to processes of the same user: {error}"));
    }
    if let Err(error) = prctl::set_no_new_privs() {
        failed.push(format!("a program with the set-user-id bit would give rights: {error}"));
    }
    if let Err(error) = resource::setrlimit(resource::Resource::RLIMIT_CORE, 0, 0) {
        failed.push(format!("a crash may leave a core dump: {error}"));
    }
    // Each product's databases and each connection take some: what the machine allows, not the few that it begins with.
    let files = resource::Resource::RLIMIT_NOFILE;
    if let Err(error) = resource::getrlimit(files).and_then(|(_, most)| resource::setrlimit(files, most, most)) {
        failed.push(format!("no more files can be open at once than the machine begins with: {error}"));
    }
    failed
}
