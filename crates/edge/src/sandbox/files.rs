//! Landlock: files, TCP ports, signals and abstract sockets.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, make_bitflags,
};

use super::{Policy, Report, SandboxError};

/// The newest rules that these lists were written and tested for.
const KNOWN: ABI = ABI::V7;
/// Small files of the system that libraries read while they run: chance for SQLite, and a place for nothing.
const ALWAYS: [&str; 2] = ["/dev/urandom", "/dev/null"];

pub(super) fn restrict(policy: &Policy, report: &mut Report) -> Result<(), SandboxError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;

    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // No devices, sockets, pipes or links, and nothing there can be run.
    let write = read | make_bitflags!(AccessFs::{WriteFile | Truncate | Refer | RemoveFile | RemoveDir | MakeReg | MakeDir});
    for path in ALWAYS.iter().map(Path::new).chain(policy.read.iter().map(AsRef::as_ref)) {
        if path.exists() {
            rules = rules.add_rule(beneath(path, read)?)?;
        }
    }
    for path in &policy.write {
        rules = rules.add_rule(beneath(path, write)?)?;
    }
    for port in &policy.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = rules.restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    describe(abi, policy, report);
    Ok(())
}

fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, SandboxError> {
    let source = |source| SandboxError::Path {
        path: path.to_owned(),
        source,
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(KNOWN)
    };
    Ok(PathBeneath::new(PathFd::new(path).map_err(source)?, access))
}

fn describe(abi: ABI, policy: &Policy, report: &mut Report) {
    let ports: Vec<_> = policy.connect.iter().map(u16::to_string).collect();
    let ports = if ports.is_empty() {
        "connects to no TCP port".to_owned()
    } else {
        format!("connects to no TCP port but {}", ports.join(", "))
    };
    let items = [
        (ABI::V1, "reads and writes no file outside its own directories".to_owned()),
        (ABI::V3, "cannot shorten a file outside its own directories".to_owned()),
        (ABI::V4, ports),
        (ABI::V5, "sends no control commands to devices".to_owned()),
        (ABI::V6, "signals no other process and reaches no abstract socket".to_owned()),
    ];
    for (needs, item) in items {
        if abi >= needs {
            report.enforced.push(item);
        } else {
            report
                .not_enforced
                .push(format!("{item}: needs Landlock {needs}, this kernel has {abi}"));
        }
    }
}
