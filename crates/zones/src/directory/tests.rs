use std::fs;

use super::*;

mod hostile;

/// More than any object here has.
const MOST: u64 = 1000;

fn object(bytes: &'static [u8]) -> (ObjectName, Bytes) {
    (ObjectName::new("raw/7", "x", bytes).unwrap(), Bytes::from_static(bytes))
}

fn detail(error: ZoneError) -> String {
    assert!(matches!(error, ZoneError::Down { .. }), "{error:?}");
    error.detail()
}

#[tokio::test]
async fn a_missing_directory_is_a_zone_that_is_down_and_is_not_made_again() {
    let base = tempfile::tempdir().unwrap();
    let (path, away) = (base.path().join("a"), base.path().join("away"));
    let zone = DirectoryZone::open("a", &path, true);
    let (name, bytes) = object(b"kept");
    zone.put(&name, bytes.clone()).await.unwrap();

    fs::rename(&path, &away).unwrap();
    let (other, more) = object(b"refused");
    assert_eq!(
        detail(zone.put(&other, more.clone()).await.unwrap_err()),
        "the directory is missing"
    );
    assert_eq!(detail(zone.get(&name, MOST).await.unwrap_err()), "the directory is missing");
    assert_eq!(detail(zone.list("").await.unwrap_err()), "the directory is missing");
    assert_eq!(detail(zone.delete(&name).await.unwrap_err()), "the directory is missing");
    assert_eq!(detail(zone.probe().await.unwrap_err()), "the directory is missing");
    assert!(!path.exists());

    fs::rename(&away, &path).unwrap();
    zone.probe().await.unwrap();
    assert_eq!(zone.list("").await.unwrap(), [name]);
    zone.put(&other, more).await.unwrap();
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_a_zone_that_is_down() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("a");
    fs::write(&path, b"not a directory").unwrap();

    let zone = DirectoryZone::open("a", &path, true);

    let (name, bytes) = object(b"x");
    assert_eq!(detail(zone.put(&name, bytes).await.unwrap_err()), "it is not a directory");
    assert_eq!(detail(zone.get(&name, MOST).await.unwrap_err()), "it is not a directory");
    assert_eq!(detail(zone.probe().await.unwrap_err()), "it is not a directory");
    assert_eq!(fs::read(&path).unwrap(), b"not a directory");
}

/// What is said of an empty directory in the place of zone a.
const EMPTY: &str = "the directory is empty: if its disk is not mounted, mount it; if it is to take the place of zone a, \
                     put a file named adopt-as-a into it";

#[tokio::test]
async fn an_empty_directory_is_no_zone_until_the_operator_says_so() {
    let base = tempfile::tempdir().unwrap();
    let (path, lost) = (base.path().join("a"), base.path().join("lost"));
    let zone = DirectoryZone::open("a", &path, true);
    let (name, bytes) = object(b"kept");
    zone.put(&name, bytes.clone()).await.unwrap();
    assert!(zone.is_complete());

    // Its disk is not mounted: while it runs, and at a start.
    fs::rename(&path, &lost).unwrap();
    fs::create_dir(&path).unwrap();
    for zone in [&zone, &DirectoryZone::open("a", &path, false)] {
        assert_eq!(detail(zone.probe().await.unwrap_err()), EMPTY);
        assert!(zone.put(&name, bytes.clone()).await.is_err());
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::write(path.join("adopt-as-b"), b"").unwrap();
    assert_eq!(
        detail(zone.probe().await.unwrap_err()),
        "the directory is not empty and has no zone.json"
    );
    fs::remove_file(path.join("adopt-as-b")).unwrap();

    fs::write(path.join("adopt-as-a"), b"").unwrap();
    zone.probe().await.unwrap();

    assert!(!path.join("adopt-as-a").exists());
    assert_eq!(zone.list("").await.unwrap(), []);
    let again = DirectoryZone::open("a", &path, false);
    assert!(!zone.is_complete() && !again.is_complete(), "it has yet to be filled");
    again.set_complete().await.unwrap();
    zone.probe().await.unwrap();
    assert!(zone.is_complete() && again.is_complete() && DirectoryZone::open("a", &path, false).is_complete());
}

#[tokio::test]
async fn an_empty_directory_is_adopted_at_the_first_start_and_anybody_elses_is_not() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full").join("file"), b"").unwrap();

    let owner = |installation: &str| Owner {
        installation: installation.to_owned(),
        role: String::new(),
    };
    for empty in [Empty::New, Empty::Unknown, Empty::New] {
        DirectoryZone::open_for(owner("here"), "a", at("empty"), empty)
            .probe()
            .await
            .unwrap();
    }

    let refused = |zone: DirectoryZone| async move { detail(zone.probe().await.unwrap_err()) };
    assert_eq!(
        refused(DirectoryZone::open_for(owner("here"), "b", at("empty"), Empty::Unknown)).await,
        "the directory belongs to zone a"
    );
    let elsewhere = DirectoryZone::open_for(owner("there"), "a", at("empty"), Empty::Unknown);
    assert_eq!(refused(elsewhere).await, "the directory belongs to another installation");
    let full = DirectoryZone::open("a", at("full"), true);
    assert_eq!(refused(full).await, "the directory is not empty and has no zone.json");
    assert_eq!(
        refused(DirectoryZone::open("a", at("none"), false)).await,
        "the directory is missing"
    );
}

#[tokio::test]
async fn a_directory_is_one_roles_and_the_first_to_find_one_that_names_none_takes_it() {
    let base = tempfile::tempdir().unwrap();
    let zone = |role: &str| {
        let owner = Owner {
            installation: "here".to_owned(),
            role: role.to_owned(),
        };
        DirectoryZone::open_for(owner, "a", base.path(), Empty::Joins)
    };
    // As versions before this left it.
    fs::write(
        base.path().join("zone.json"),
        br#"{"format":1,"zone":"a","installation":"here","complete":false}"#,
    )
    .unwrap();

    let first = zone("warehouse");
    first.probe().await.unwrap();
    assert!(!first.is_complete(), "whether it is complete stays as it was");
    let said = detail(zone("identity").probe().await.unwrap_err());
    assert_eq!(
        said,
        "the directory belongs to the role warehouse: give each role a directory or a prefix of its own"
    );
    // A version before this does not look at it.
    zone("").probe().await.unwrap();
    zone("warehouse").probe().await.unwrap();
    first.set_complete().await.unwrap();
    assert!(zone("warehouse").is_complete());
    zone("identity").probe().await.unwrap_err();
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_cleared_at_the_next_start() {
    let base = tempfile::tempdir().unwrap();
    let zone = DirectoryZone::open("a", base.path(), true);
    let (name, bytes) = object(b"whole");
    zone.put(&name, bytes).await.unwrap();
    let half = base.path().join(TEMPORARY).join("99");
    fs::write(&half, b"hal").unwrap();

    let zone = DirectoryZone::open("a", base.path(), false);

    assert!(!half.exists());
    assert_eq!(zone.list("").await.unwrap(), [name]);
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_keeps_no_remains_of_it() {
    let zone = crate::ForgetfulZone::new("a", &crate::Power::on());
    let (kept, bytes) = object(b"kept");
    zone.put(&kept, bytes).await.unwrap();
    zone.set_full(true);

    let (name, bytes) = object(b"too much");
    assert_eq!(detail(zone.put(&name, bytes.clone()).await.unwrap_err()), "no space is left");
    assert_eq!(detail(zone.probe().await.unwrap_err()), "no space is left");
    assert!(zone.get(&kept, MOST).await.is_ok());

    zone.set_full(false);
    assert_eq!(zone.list("").await.unwrap(), [kept]);
    zone.put(&name, bytes).await.unwrap();
}
