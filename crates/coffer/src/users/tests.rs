//! Who is chosen, and what is given away. What needs root is tested as root only, and says so where it is not.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::*;
use crate::config::Config;

fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: only root can give files away");
    }
    root
}

/// A data directory as it is before the first start.
fn made() -> (tempfile::TempDir, Layout) {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let layout = Layout::at(&place.path().join("data")).unwrap();
    layout.make().unwrap();
    for role in Role::ALL {
        layout.make_role(role, role != Role::Gateway).unwrap();
    }
    (place, layout)
}

fn config(text: &str) -> Config {
    Config::from_parts(Some((Path::new("c"), text)), &[], None).unwrap()
}

fn own(users: &Users) -> (u32, BTreeMap<Role, u32>) {
    match users {
        Users::Own { group, ids } => (*group, ids.clone()),
        Users::One { why } => panic!("one user: {why}"),
    }
}

fn about(path: &Path) -> (u32, u32) {
    let about = fs::symlink_metadata(path).unwrap();
    (about.uid(), about.mode() & 0o777)
}

#[test]
fn what_root_lacks_is_named() {
    assert_eq!(missing_capability("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
    assert_eq!(missing_capability("CapEff:\t00000000a80425fb\n"), None);
    assert_eq!(missing_capability("CapEff:\t00000000a804257b\n"), Some("CAP_SETUID"));
    assert_eq!(missing_capability("CapEff:\tnothing\n"), Some("CAP_CHOWN"));
    assert_eq!(missing_capability(""), Some("CAP_CHOWN"));
}

#[test]
fn ids_of_a_container_are_counted() {
    assert!(is_mapped("         0          0 4294967295\n", 47104, 55295));
    assert!(is_mapped("0 1000 1\n1 100000 65536\n", 47104, 55295));
    assert!(!is_mapped("0 1000 1\n1 100000 50000\n", 47104, 55295));
    assert!(!is_mapped("", 1, 2));
}

#[test]
fn users_of_a_process_are_read() {
    assert!(has_ended("Name:\tx\nState:\tZ (zombie)\n") && !has_ended("State:\tS (sleeping)\n"));
    assert_eq!(users_of("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n"), Some(vec![1, 2, 3, 4]));
    assert_eq!(users_of("Name:\tx\n"), None);
}

#[test]
fn every_role_is_another_user_and_stays_who_it_was() {
    if !is_root() {
        return;
    }
    let (_place, layout) = made();
    let settings = UsersSettings::default();
    let config = config("");
    let first = Users::choose(&settings, &layout).unwrap();
    let (group, ids) = own(&first);
    let distinct: BTreeSet<u32> = ids.values().copied().chain([group]).collect();
    assert_eq!(distinct.len(), Role::ALL.len() + 1);
    assert!(distinct.iter().all(|id| (settings.first_id..=settings.last_id).contains(id)));
    first.settle(&config, &layout, &Role::ALL).unwrap();
    for role in Role::ALL {
        assert_eq!(about(&layout.role(role)), (ids[&role], 0o700), "{role}");
    }
    for name in ["a", "b", "c"] {
        assert_eq!(about(&layout.zones(Role::Identity).join(name)), (ids[&Role::Identity], 0o700));
    }
    assert_eq!(about(layout.root()), (0, 0o710));
    assert_eq!(about(&layout.run()), (0, 0o700));

    let again = Users::choose(&settings, &layout).unwrap();
    assert_eq!(own(&again), (group, ids));
    // Without users of their own nobody passes through any more.
    let one = Users::One { why: "a test".into() };
    one.settle(&config, &layout, &Role::ALL).unwrap();
    assert_eq!(about(layout.root()), (0, 0o700));
}

#[test]
fn ids_of_a_running_process_or_a_known_user_are_not_taken() {
    let free = BTreeSet::new();
    assert!(!is_free(0, &free), "root's");
    let base = 47104;
    assert!(is_free(base, &free));
    assert!(!is_free(base, &BTreeSet::from([base + 7])));
    assert!(is_free(base, &BTreeSet::from([base + 8, base - 1])));
    assert!(users_of_processes().contains(&geteuid().as_raw()));
}

#[test]
fn an_installation_of_one_user_before_is_taken_over_and_nobody_elses_files_are() {
    if !is_root() {
        return;
    }
    let (place, layout) = made();
    let settings = UsersSettings::default();
    let deep = layout.role(Role::Warehouse).join("products/7");
    fs::create_dir_all(&deep).unwrap();
    let file = deep.join("catalog.sqlite");
    fs::write(&file, "rows").unwrap();
    let outside = place.path().join("outside");
    fs::write(&outside, "root's").unwrap();
    symlink(&outside, deep.join("way-out")).unwrap();
    fs::write(layout.ca(), "").unwrap();
    // It was run by a user who is not root.
    for path in [layout.root(), &layout.ca(), &layout.role(Role::Warehouse), &deep, &file] {
        chown(path, Some(12_345), Some(12_345)).unwrap();
    }
    let users = Users::choose(&settings, &layout).unwrap();
    let (_, ids) = own(&users);
    users.settle(&config(""), &layout, &Role::ALL).unwrap();
    assert_eq!(about(&file).0, ids[&Role::Warehouse]);
    assert_eq!((about(&layout.ca()).0, about(layout.root()).0), (0, 0));
    assert_eq!(about(&outside).0, 0, "a link was followed");

    // A second name of a file elsewhere is no file of the role.
    let name = deep.join("second-name");
    fs::hard_link(&outside, &name).unwrap();
    let refused = users.settle(&config(""), &layout, &Role::ALL).unwrap_err().to_string();
    assert!(refused.contains("another name") && refused.contains("second-name"), "{refused}");
    assert_eq!(about(&outside).0, 0);
    fs::remove_file(&name).unwrap();

    // Nor is what belongs to somebody who has nothing to do with it.
    chown(&file, Some(23_456), None).unwrap();
    let refused = users.settle(&config(""), &layout, &Role::ALL).unwrap_err().to_string();
    assert!(refused.contains("23456") && refused.contains("catalog.sqlite"), "{refused}");
}

#[test]
fn of_an_operators_directories_only_zones_are_given_away() {
    if !is_root() {
        return;
    }
    let (place, layout) = made();
    let disk = |name: &str| place.path().join("disk").join(name);
    let directories: Vec<PathBuf> = ["a", "b", "c", "d", "e"].map(disk).into();
    for directory in &directories {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(disk("a").join("zone.json"), "{}").unwrap();
    fs::write(disk("b").join("adopt-as-b"), "").unwrap();
    fs::create_dir(disk("c").join("lost+found")).unwrap();
    fs::write(disk("d").join("letters"), "").unwrap();
    let zones: Vec<String> = directories
        .iter()
        .map(|path| {
            format!(
                "{{ name = '{}', path = '{}' }}",
                path.file_name().unwrap().display(),
                path.display()
            )
        })
        .collect();
    let text = format!("[warehouse.zones]\nzones = [{}]\n", zones.join(", "));
    let users = Users::choose(&UsersSettings::default(), &layout).unwrap();
    let warehouse = own(&users).1[&Role::Warehouse];
    users.settle(&config(&text), &layout, &Role::ALL).unwrap();
    let owners: Vec<u32> = directories.iter().map(|path| about(path).0).collect();
    assert_eq!(owners, [warehouse, warehouse, warehouse, 0, warehouse]);
    assert_eq!(about(&disk("a").join("zone.json")).0, warehouse);
    assert_eq!(about(&disk("d").join("letters")).0, 0);
    assert_eq!(about(&disk("c").join("lost+found")).0, 0);
    assert_eq!(about(&place.path().join("disk")).0, 0, "what holds the zones stays the operator's");
}

#[test]
fn a_place_that_others_cannot_reach_is_said_and_can_be_refused() {
    if !is_root() {
        return;
    }
    let (place, layout) = made();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let settings = UsersSettings::default();
    let users = Users::choose(&settings, &layout).unwrap();
    let why = users.missing().unwrap();
    assert!(why.contains(place.path().to_str().unwrap()), "{why}");
    let required = UsersSettings {
        separate: Separate::Required,
        ..settings
    };
    let refused = Users::choose(&required, &layout).unwrap_err();
    assert_eq!(refused.exit, Exit::NotAllowed);
}

#[test]
fn numbers_that_cannot_be_chosen_from_are_refused() {
    if !is_root() {
        return;
    }
    let (_place, layout) = made();
    for (first_id, last_id) in [(0, 100), (47104, 47110), (9, 8), (1, u32::MAX)] {
        let settings = UsersSettings {
            first_id,
            last_id,
            ..UsersSettings::default()
        };
        assert!(Users::choose(&settings, &layout).is_err(), "{first_id} to {last_id}");
    }
}

#[test]
fn the_unit_for_systemd_leaves_root_what_is_needed_and_nothing_else() {
    let unit = include_str!("../../../../packaging/systemd/coffer.service");
    let value = |name: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.collect::<Vec<_>>().join(" ")
    };
    let granted = value("CapabilityBoundingSet");
    let granted: BTreeSet<&str> = granted.split_whitespace().collect();
    assert_eq!(granted, CAPABILITIES.iter().map(|(_, name)| *name).collect());
    assert_eq!(value("AmbientCapabilities"), "");
    // What the sandbox of each role refuses as well, as far as the supervisor can do without it.
    for (name, expected) in [
        ("NoNewPrivileges", "yes"),
        ("LimitCORE", "0"),
        ("RestrictNamespaces", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallArchitectures", "native"),
        ("ProtectSystem", "strict"),
        ("KillMode", "mixed"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let calls = value("SystemCallFilter");
    for call in [
        "~@keyring",
        "@mount",
        "@debug",
        "@module",
        "@clock",
        "io_uring_setup",
        "landlock_restrict_self",
    ] {
        assert!(calls.contains(call), "{call} in {calls}");
    }
}

#[test]
fn the_users_for_systemd_are_those_that_are_looked_for() {
    let list = include_str!("../../../../packaging/systemd/coffer.sysusers.conf");
    let fields = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    let expected: Vec<Vec<String>> = std::iter::once(vec!["g".into(), GROUP.into()])
        .chain(Role::ALL.map(|role| vec!["u".into(), format!("{PREFIX}{role}")]))
        .collect();
    assert_eq!(fields.collect::<Vec<_>>(), expected);
}

#[test]
fn systemd_takes_the_unit_as_it_is_where_there_is_a_systemd() {
    let unit = include_str!("../../../../packaging/systemd/coffer.service");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("coffer.service");
    // The program need not be installed here.
    fs::write(&path, unit.replace("/usr/bin/coffer ", "/bin/true ")).unwrap();
    let judge = |arguments: &[&str]| std::process::Command::new("systemd-analyze").args(arguments).arg(&path).output();
    let Ok(verified) = judge(&["verify"]) else {
        return eprintln!("NOT TESTED: there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("coffer.service"), "{said}");
    // Of ten, and the less the better; the unit of a service that says nothing of it has 9.6.
    let rated = judge(&["security", "--offline=true", "--threshold=30"]).unwrap();
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}
