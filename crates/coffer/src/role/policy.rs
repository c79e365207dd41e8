//! What each role may still touch once it is in its sandbox: its own directory, its own zones, and the ports of the roles that it calls.
//!
//! A zone in a store is the port of that store, and the files of its access key and its authorities. (Landlock knows ports, not hosts.)

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base::Role;
use edge::sandbox::Policy;
use wire::calls::{CALLS, Callers};
use zones::{Place, ZoneSettings, ZonesSettings};

use crate::handover::Handover;

/// The policy of the role that `handover` starts.
pub(super) fn of(handover: &Handover) -> Policy {
    let zones: ZonesSettings = serde_json::from_value(handover.settings["zones"].clone()).unwrap_or_default();
    let mut write = vec![handover.directory.clone()];
    write.extend(zone_parents(&zones));
    let roles = callees(handover).into_iter().map(|(_, address)| address.port());
    let stores = zones.stores().into_iter().map(|address| address.port());
    Policy {
        read: zones.files(),
        write,
        connect: roles.chain(stores).collect::<BTreeSet<u16>>().into_iter().collect(),
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
fn zone_parents(settings: &ZonesSettings) -> BTreeSet<PathBuf> {
    let parent = |zone: &ZoneSettings| match zone.place() {
        Ok(Place::Directory(path)) => path.parent().map(Path::to_owned),
        _ => None,
    };
    settings.zones.iter().filter_map(parent).collect()
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

    #[test]
    fn a_zone_in_a_store_opens_its_port_and_its_files_and_nothing_else() {
        let of_zones = |zones: serde_json::Value| {
            of(&Handover {
                rebuild: None,
                breach: None,
                prove: None,
                role: Role::Warehouse,
                directory: "/data/roles/warehouse".into(),
                settings: serde_json::json!({"zones": {"zones": zones}}),
                sandbox: crate::cli::SandboxMode::On,
                user: None,
                peers: [
                    (Role::Vault, ([127, 0, 0, 1], 7001).into()),
                    (Role::Gateway, ([127, 0, 0, 1], 7002).into()),
                ]
                .into(),
                enrolment: None,
                public: None,
                hosts: Default::default(),
                listeners: Vec::new(),
                logging: crate::logging::Logging::from_environment("info"),
            })
        };
        let directories = of_zones(serde_json::json!([{"name": "a", "path": "/disk/a"}]));
        assert_eq!(directories.connect, [7001]);
        assert!(directories.read.is_empty());
        assert_eq!(directories.write, [PathBuf::from("/data/roles/warehouse"), "/disk".into()]);

        let stores = of_zones(serde_json::json!([
            {"name": "a", "path": "/disk/a"},
            {"name": "b", "url": "https://b.example/events", "credentials": "/keys/b", "ca": "/keys/ca"},
            {"name": "c", "url": "https://c.example:9000/events", "credentials": "/keys/c", "ca": "/keys/ca"}]));
        assert_eq!(stores.connect, [443, 7001, 9000]);
        assert_eq!(stores.read, ["/keys/b", "/keys/ca", "/keys/c", "/keys/ca"].map(PathBuf::from));
        assert_eq!(stores.write, directories.write);
    }
}
