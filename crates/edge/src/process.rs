//! What a process does to itself first of all.

use nix::sys::{prctl, resource};

/// Makes aws-lc the process-wide source of ciphers. First thing in `main`: another library may bring a second provider,
/// and TLS cannot choose between two.
pub fn install_crypto() {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Keeps the process's memory to itself: it leaves no core dump and another process of the same user cannot read it. And lets it have
/// as many files open as it may.
/// Returns what could not be done.
pub fn harden_process() -> Vec<String> {
    let mut failed = Vec::new();
    if let Err(error) = prctl::set_dumpable(false) {
        failed.push(format!("memory stays readable to processes of the same user: {error}"));
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
