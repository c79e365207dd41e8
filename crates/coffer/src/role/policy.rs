//! What each role may still touch once it is in its sandbox: its own directory, its own zones, and the ports of the roles that it calls.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::Role;
use edge::sandbox::Policy;
use wire::calls::{CALLS, Callers};

use crate::handover::Handover;

/// The policy of the role that `handover` starts.
pub(super) fn of(handover: &Handover) -> Policy {
    let mut write = vec![handover.directory.clone()];
    write.extend(zone_parents(&handover.settings));
    Policy {
        read: Vec::new(),
        write,
        connect: callees(handover).into_iter().map(|(_, address)| address.port()).collect(),
    }
}

/// The roles that this one calls, with their addresses.
pub(super) fn callees(handover: &Handover) -> Vec<(Role, SocketAddr)> {
    let called = called_by(handover.role);
    handover
        .peers
        .iter()
        .filter(|(role, _)| called.contains(role))
        .map(|(role, address)| (*role, *address))
        .collect()
}

/// Read off the table of calls, so that there is one truth about who speaks to whom.
pub(crate) fn called_by(caller: Role) -> BTreeSet<Role> {
    let calls = CALLS.iter().filter(|(_, callers)| match callers {
        Callers::Roles(roles) => roles.contains(&caller),
        Callers::Anyone | Callers::Operator => false,
    });
    calls.flat_map(|(path, _)| servers(path)).filter(|role| *role != caller).collect()
}

fn servers(path: &str) -> Vec<Role> {
    let service = path.trim_start_matches("/coffer.v1.").split('/').next().unwrap_or_default();
    match service {
        "Heads" | "Revocations" => vec![Role::Vault, Role::Accounts],
        name => Role::ALL
            .into_iter()
            .filter(|role| role.as_str() == name.to_ascii_lowercase())
            .collect(),
    }
}

/// What holds the zones. Landlock's rules are about the directories that exist now: a zone that is taken away and put back is another
/// directory, and can only be reached through its parent. (That no other role's zones lie there is checked with the configuration.)
fn zone_parents(settings: &serde_json::Value) -> BTreeSet<PathBuf> {
    let zones = settings["zones"]["zones"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parent = |zone: &serde_json::Value| Some(PathBuf::from(zone["path"].as_str()?).parent()?.to_owned());
    zones.iter().filter_map(parent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_reaches_only_whom_it_calls() {
        use Role::{Accounts, Gateway, Identity, Vault, Warehouse};
        let check = |caller, expected: &[Role]| assert_eq!(called_by(caller).into_iter().collect::<Vec<_>>(), expected, "{caller}");
        check(Vault, &[Accounts]);
        check(Accounts, &[Vault]);
        check(Identity, &[Vault, Accounts]);
        check(Warehouse, &[Vault, Accounts]);
        check(Gateway, &[Vault, Accounts, Identity, Warehouse]);
    }
}
