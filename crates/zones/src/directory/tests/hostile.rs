//! What the owner of one zone's directory can do to whoever uses it: links out of it, and files that are none or have no end.

use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// A terabyte, on a disk that has none.
const SPARSE: u64 = 1 << 40;

/// What a directory holds, and what is in it.
fn snapshot(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn no_link_in_a_zone_leads_out_of_it() {
    let (name, bytes) = object(b"kept");
    let first_ones = (0..8).map(|number| (format!(".temporary/{number}"), "root.key"));
    let links = [
        (".probe".to_owned(), "root.key"),
        (".zone.json.new".to_owned(), "root.key"),
        (".temporary".to_owned(), ""),
        ("raw".to_owned(), ""),
        ("raw/7".to_owned(), ""),
        (name.as_str().to_owned(), "root.key"),
    ];
    for (link, target) in links.into_iter().chain(first_ones) {
        for marked in [true, false] {
            let base = tempfile::tempdir().unwrap();
            let (neighbour, path) = (base.path().join("vault"), base.path().join("a"));
            fs::create_dir(&neighbour).unwrap();
            fs::write(neighbour.join("root.key"), b"secret").unwrap();
            fs::write(neighbour.join(name.as_str().rsplit('/').next().unwrap()), b"theirs").unwrap();
            let before = snapshot(&neighbour);
            if marked {
                drop(DirectoryZone::open("a", &path, true));
                let _ = fs::remove_dir_all(path.join(TEMPORARY));
            }
            fs::create_dir_all(path.join(&link).parent().unwrap()).unwrap();
            symlink(neighbour.join(target), path.join(&link)).unwrap();

            let zone = DirectoryZone::open("a", &path, true);
            let _ = zone.probe().await;
            let put = zone.put(&name, bytes.clone()).await;
            let got = zone.get(&name, MOST).await;
            let listed = zone.list("").await;
            let _ = zone.delete(&name).await;

            let case = format!("{link}, marked: {marked}");
            assert_eq!(snapshot(&neighbour), before, "{case}: {put:?}");
            assert!(put.is_ok() == got.is_ok_and(|got| got == bytes), "{case}: {put:?}");
            assert!(
                listed.is_err() || put.is_ok() == (listed == Ok(vec![name.clone()])),
                "{case}: {put:?}"
            );
        }
    }
}

/// Fails instead of waiting for ever for a file that nobody writes to.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(5)).expect("it is done within five seconds")
}

/// The most memory that this process has had, in bytes.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

fn sparse(path: &Path) {
    fs::File::create(path).unwrap().set_len(SPARSE).unwrap();
}

#[tokio::test]
async fn a_marker_that_is_no_short_file_is_a_zone_that_is_down() {
    for make in [fifo, sparse, |path: &Path| fs::create_dir(path).unwrap()] {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().to_owned();
        drop(DirectoryZone::open("a", &path, true));
        fs::remove_file(path.join("zone.json")).unwrap();
        make(&path.join("zone.json"));

        let zone = in_time(move || DirectoryZone::open("a", path, false));

        let (name, bytes) = object(b"x");
        assert_eq!(detail(zone.put(&name, bytes).await.unwrap_err()), "zone.json cannot be read");
        assert_eq!(detail(zone.probe().await.unwrap_err()), "zone.json cannot be read");
    }
    assert!(most_memory() < 200 << 20, "{} bytes", most_memory());
}

#[tokio::test]
async fn what_is_no_file_of_possible_length_is_a_wrong_copy_in_a_zone_that_works() {
    for make in [fifo, sparse, |path: &Path| symlink("/dev/zero", path).unwrap()] {
        let base = tempfile::tempdir().unwrap();
        let zone = DirectoryZone::open("a", base.path(), true);
        let (name, bytes) = object(b"kept");
        zone.put(&name, bytes.clone()).await.unwrap();
        let file = base.path().join(name.as_str());
        fs::remove_file(&file).unwrap();
        make(&file);

        let answer = in_time({
            let (zone, name) = (zone.clone(), name.clone());
            move || zone.0.get(&name, MOST)
        });

        assert!(
            matches!(answer, Err(ZoneError::Wrong { .. } | ZoneError::Long { length: SPARSE, .. })),
            "{answer:?}"
        );
        zone.probe().await.unwrap();
        zone.put(&name, bytes.clone()).await.unwrap();
        assert_eq!(zone.get(&name, MOST).await, Ok(bytes));
    }
    assert!(most_memory() < 200 << 20, "{} bytes", most_memory());
}
